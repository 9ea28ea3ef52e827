"""All small models with hand-derived conservation laws."""

from __future__ import annotations

from kinds_dense import DENSE
from kinds_outputs import OUTPUTS

KINDS = [*DENSE, *OUTPUTS]
