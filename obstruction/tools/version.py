"""The version of this package, which files of results record."""

from typing import Final

__version__: Final = "0.1.0"
