"""All small models with hand-derived conservation laws."""

from __future__ import annotations

from kinds_attention import ATTENTION
from kinds_convolution import CONVOLUTION
from kinds_dense import DENSE
from kinds_gates import GATES
from kinds_interfaces import INTERFACES
from kinds_norms import NORMS
from kinds_outputs import OUTPUTS

KINDS = [*DENSE, *OUTPUTS, *CONVOLUTION, *NORMS, *GATES, *ATTENTION, *INTERFACES]
