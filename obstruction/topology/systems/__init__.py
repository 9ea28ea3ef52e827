"""Frozen."""

from obstruction.topology.systems.frozen import FrozenScalar, FrozenScalars, frozen_scalars
from obstruction.topology.systems.magnitudes import Scaled
from obstruction.topology.systems.system import System
from obstruction.topology.systems.tensors import Membership, Tensor

__all__ = [
    "FrozenScalar",
    "FrozenScalars",
    "Membership",
    "Scaled",
    "System",
    "Tensor",
    "frozen_scalars",
]
