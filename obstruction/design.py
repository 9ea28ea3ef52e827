"""The public names of `obstruction.exact.design`, importable as ``obstruction.design``."""

from obstruction.exact.design import *  # noqa: F403
from obstruction.exact.design import __all__ as __all__
