"""Networks on directed acyclic graphs: what gradient flow can reach, and where it is singular.

Nurisso, Leroy, Petri, Vaccarino: Topology and geometry of the learning space of ReLU networks,
arXiv:2602.00693, extend the analysis of two layers to feed-forward networks on any graph; the
statements and their proofs are in docs/dag.md.
"""

from obstruction.dag.arguments import BIAS
from obstruction.dag.frozen import FrozenEdge, FrozenEdges, frozen_edges, smallest_squares
from obstruction.dag.graph import Graph
from obstruction.dag.network import Network, Pruned
from obstruction.dag.paths import path, same_component
from obstruction.dag.singular import (
    Singularity,
    cut_off,
    distance_to_singularity,
    is_singular,
    singular_subnetworks,
)

__all__ = [
    "BIAS",
    "FrozenEdge",
    "FrozenEdges",
    "Graph",
    "Network",
    "Pruned",
    "Singularity",
    "cut_off",
    "distance_to_singularity",
    "frozen_edges",
    "is_singular",
    "path",
    "same_component",
    "singular_subnetworks",
    "smallest_squares",
]
