"""A Griffe extension: the public names that the package makes known only when it runs.

Griffe, which reads the code for the reference, does not run it. It therefore sees neither the names
that `lazy_loader` attaches to ``obstruction.dag`` nor the ``__all__`` that a door such as
``obstruction.design`` takes over from the module behind it.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe

import obstruction


class PublicNames(griffe.Extension):
    """Give every public module its ``__all__``, and every door the docstring of its module."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Complete the public modules of ``obstruction``."""
        for name in obstruction.__all__ if pkg.path == "obstruction" else ():
            if inspect.ismodule(public := getattr(obstruction, name)):
                module = pkg[name]
                module.exports = list(public.__all__)
                exports = module.members.get("__all__")
                if exports is not None and exports.is_alias:
                    module.docstring = exports.target.parent.docstring
