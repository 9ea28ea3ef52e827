"""The door to `obstruction.reporting.tables`, so that ``import obstruction.tables`` works."""

from obstruction.reporting.tables import *  # noqa: F403
from obstruction.reporting.tables import __all__ as __all__
