"""Networks on directed acyclic graphs: what gradient flow can reach, and where it is singular.

Nurisso, Leroy, Petri, Vaccarino: Topology and geometry of the learning space of ReLU networks,
arXiv:2602.00693, extend the analysis of two layers to feed-forward networks on any graph; the
statements and their proofs are in docs/dag.md.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstruction.dag.arguments import BIAS as BIAS
    from obstruction.dag.betti import PoincarePolynomial as PoincarePolynomial
    from obstruction.dag.betti import poincare_polynomial as poincare_polynomial
    from obstruction.dag.fans import EdgeLaws as EdgeLaws
    from obstruction.dag.fans import edge_laws as edge_laws
    from obstruction.dag.frozen import FrozenEdge as FrozenEdge
    from obstruction.dag.frozen import FrozenEdges as FrozenEdges
    from obstruction.dag.frozen import frozen_edges as frozen_edges
    from obstruction.dag.frozen import smallest_squares as smallest_squares
    from obstruction.dag.graph import Graph as Graph
    from obstruction.dag.network import Network as Network
    from obstruction.dag.network import Pruned as Pruned
    from obstruction.dag.paths import path as path
    from obstruction.dag.paths import same_component as same_component
    from obstruction.dag.probabilities import FrozenProbabilities as FrozenProbabilities
    from obstruction.dag.probabilities import disconnection_probability as disconnection_probability
    from obstruction.dag.probabilities import frozen_probabilities as frozen_probabilities
    from obstruction.dag.reading import from_model as from_model
    from obstruction.dag.sampling import FrozenCounts as FrozenCounts
    from obstruction.dag.sampling import freezable_edges as freezable_edges
    from obstruction.dag.sampling import replay_dag as replay_dag
    from obstruction.dag.singular import Singularity as Singularity
    from obstruction.dag.singular import cut_off as cut_off
    from obstruction.dag.singular import distance_to_singularity as distance_to_singularity
    from obstruction.dag.singular import is_singular as is_singular
    from obstruction.dag.singular import singular_subnetworks as singular_subnetworks
    from obstruction.dag.studies import DagAgreement as DagAgreement
    from obstruction.dag.studies import DagStudy as DagStudy
    from obstruction.dag.studies import sample_dag as sample_dag

_HOMES = {
    "BIAS": "arguments",
    "DagAgreement": "studies",
    "DagStudy": "studies",
    "EdgeLaws": "fans",
    "FrozenCounts": "sampling",
    "FrozenEdge": "frozen",
    "FrozenEdges": "frozen",
    "FrozenProbabilities": "probabilities",
    "Graph": "graph",
    "Network": "network",
    "PoincarePolynomial": "betti",
    "Pruned": "network",
    "Singularity": "singular",
    "cut_off": "singular",
    "disconnection_probability": "probabilities",
    "distance_to_singularity": "singular",
    "edge_laws": "fans",
    "freezable_edges": "sampling",
    "from_model": "reading",
    "frozen_edges": "frozen",
    "frozen_probabilities": "probabilities",
    "is_singular": "singular",
    "path": "paths",
    "poincare_polynomial": "betti",
    "replay_dag": "sampling",
    "same_component": "paths",
    "sample_dag": "studies",
    "singular_subnetworks": "singular",
    "smallest_squares": "frozen",
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
    """Import a name when it is first used: the audit of chains needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'obstruction.dag' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"obstruction.dag.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
