"""The public names of `obstruction.reporting.tables`, importable as ``obstruction.tables``."""

from obstruction.reporting.tables import *  # noqa: F403
from obstruction.reporting.tables import __all__ as __all__
