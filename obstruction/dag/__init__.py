"""Networks on directed acyclic graphs: their frozen weights, components and singular points.

Nurisso, Leroy, Petri, Vaccarino: Topology and geometry of the learning space of ReLU networks,
arXiv:2602.00693, extend the analysis of two layers to feed-forward networks on any graph; the
statements and their proofs are in docs/dag.md.

Its modules may import models, sampling, exact values, topology, schemes and tools. They must never
know of grids of two-layer networks, of audits, or of the command line.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
