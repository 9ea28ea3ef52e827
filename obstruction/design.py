"""The door to `obstruction.exact.design`, so that ``import obstruction.design`` works."""

from obstruction.exact.design import *  # noqa: F403
from obstruction.exact.design import __all__ as __all__
