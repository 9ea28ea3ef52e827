"""The version of this package, which is recorded in files of results."""

from typing import Final

__version__: Final = "0.1.0"
