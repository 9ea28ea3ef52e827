"""The probability that a ReLU network's initialisation already obstructs its training.

A hidden neuron of a two-layer ReLU network with one output is *pathological* if its output weight
is larger than its input weights together, ``‖in‖² < ‖out‖²``: under gradient flow that weight can
never change sign (Nurisso, Leroy, Vaccarino: Topological obstruction to the training of shallow
ReLU neural networks, NeurIPS 2024). A network with such a neuron is *obstructed*: the parameters
it can reach fall into pieces.

>>> import obstruction as ob
>>> round(ob.exact.obstruction_probability("kaiming_normal", d=10, l=10), 6)
0.09671
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstruction import dag as dag
    from obstruction import design as design
    from obstruction import exact as exact
    from obstruction import tables as tables
    from obstruction import topology as topology
    from obstruction import training as training
    from obstruction.auditing import audit as audit
    from obstruction.dag.studies import sample_dag as sample_dag
    from obstruction.folder import load as load
    from obstruction.heatmaps import heatmap as heatmap
    from obstruction.monitor import Monitor as Monitor
    from obstruction.reaching import sample_unreachable as sample_unreachable
    from obstruction.repairing import repair as repair
    from obstruction.replaying import replay as replay
    from obstruction.report import Report as Report
    from obstruction.schemes import InitScheme as InitScheme
    from obstruction.schemes import scheme as scheme
    from obstruction.schemes import scheme_names as scheme_names
    from obstruction.study import Study as Study
    from obstruction.study import sample as sample
    from obstruction.study_report import write_report as write_report

__version__ = "0.1.0"

_HOMES = {
    "InitScheme": "schemes",
    "Monitor": "monitor",
    "Report": "report",
    "Study": "study",
    "audit": "auditing",
    "heatmap": "heatmaps",
    "load": "folder",
    "repair": "repairing",
    "replay": "replaying",
    "sample": "study",
    "sample_dag": "dag.studies",
    "sample_unreachable": "reaching",
    "scheme": "schemes",
    "scheme_names": "schemes",
    "write_report": "study_report",
}

_MODULES = ("dag", "design", "exact", "tables", "topology", "training")

__all__ = [
    "InitScheme",
    "Monitor",
    "Report",
    "Study",
    "audit",
    "dag",
    "design",
    "exact",
    "heatmap",
    "load",
    "repair",
    "replay",
    "sample",
    "sample_dag",
    "sample_unreachable",
    "scheme",
    "scheme_names",
    "tables",
    "topology",
    "training",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import obstruction`` is quick."""
    if name in _MODULES:
        return importlib.import_module(f"obstruction.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'obstruction' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"obstruction.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
