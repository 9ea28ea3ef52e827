"""Networks on directed acyclic graphs: what gradient flow can reach, and where it is singular.

Nurisso, Leroy, Petri, Vaccarino: Topology and geometry of the learning space of ReLU networks,
arXiv:2602.00693, extend the analysis of two layers to feed-forward networks on any graph; the
statements and their proofs are in docs/dag.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from obstruction.dag.arguments import BIAS
from obstruction.dag.betti import PoincarePolynomial, poincare_polynomial
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

if TYPE_CHECKING:
    from obstruction.dag.fans import EdgeLaws as EdgeLaws
    from obstruction.dag.fans import edge_laws as edge_laws
    from obstruction.dag.probabilities import FrozenProbabilities as FrozenProbabilities
    from obstruction.dag.probabilities import disconnection_probability as disconnection_probability
    from obstruction.dag.probabilities import frozen_probabilities as frozen_probabilities
    from obstruction.dag.reading import from_model as from_model
    from obstruction.dag.sampling import FrozenCounts as FrozenCounts
    from obstruction.dag.sampling import freezable_edges as freezable_edges
    from obstruction.dag.sampling import replay_dag as replay_dag
    from obstruction.dag.studies import DagAgreement as DagAgreement
    from obstruction.dag.studies import DagStudy as DagStudy
    from obstruction.dag.studies import sample_dag as sample_dag

_HOMES = {
    "DagAgreement": "studies",
    "DagStudy": "studies",
    "EdgeLaws": "fans",
    "FrozenCounts": "sampling",
    "FrozenProbabilities": "probabilities",
    "disconnection_probability": "probabilities",
    "edge_laws": "fans",
    "freezable_edges": "sampling",
    "from_model": "reading",
    "frozen_probabilities": "probabilities",
    "replay_dag": "sampling",
    "sample_dag": "studies",
}

__all__ = [
    "BIAS",
    "DagAgreement",
    "DagStudy",
    "EdgeLaws",
    "FrozenCounts",
    "FrozenEdge",
    "FrozenEdges",
    "FrozenProbabilities",
    "Graph",
    "Network",
    "PoincarePolynomial",
    "Pruned",
    "Singularity",
    "cut_off",
    "disconnection_probability",
    "distance_to_singularity",
    "edge_laws",
    "freezable_edges",
    "from_model",
    "frozen_edges",
    "frozen_probabilities",
    "is_singular",
    "path",
    "poincare_polynomial",
    "replay_dag",
    "same_component",
    "sample_dag",
    "singular_subnetworks",
    "smallest_squares",
]


def __getattr__(name: str) -> Any:
    """Import what samples, computes or reads when it is first used; the rest needs none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'obstruction.dag' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"obstruction.dag.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
