"""Exact probabilities of obstruction at initialisation, for independent weights of any law.

A network has ``d`` inputs, ``l`` hidden neurons, ``e`` outputs and independent weights. A neuron is
*pathological* if its balance ``|in|^2 - |out|^2`` is negative. With one output this holds iff

    a V^2 > W_1^2 + ... + W_d^2 + beta B^2,   a = Var W2 / Var W1,   beta = Var b1 / Var W1,

for standardised output weights V, hidden weights W and biases B, if there are any. Let ``p`` be the
probability of this event. The network is *obstructed* if some neuron is pathological, which has
probability ``P = 1 - (1 - p)^l`` (Nurisso et al. 2024, App. F). All functions here use ``p``.

Two logits under cross-entropy (``e=2, loss="cross_entropy"``) are one output with the weight
``(V_1 - V_2) / sqrt(2)``, see `obstruction.exact.logits`.

For normal weights ``p`` has a closed form, the F distribution. For other laws and biases it is an
integral. `method` names the method for a scheme, and `obstruction.exact.inversion` describes it.
For normal weights, ``1 <= d, l <= 1e7`` and ``1e-12 <= a <= 1e12``, the relative error of ``p`` and
``P`` is at most 1e-12 and the error of a logarithm ``x`` at most ``1e-14 max(1, |x|)``. For other
laws and ``d <= 1e5`` these errors are at most 1e-10, mostly 1e-13, and ``max(1e-10, 1e-13 |x|)``.

The functions take numbers or arrays, which broadcast. Numbers give a ``float``, and arrays give a
float64 array of the broadcast shape. Invalid arguments raise ``ValueError``: sizes must be whole
numbers from 1 to 2**53, shapes must broadcast, and the scheme must be known. A scheme whose weights
depend on each other raises `NoExactValue`. Logarithms are natural.

These modules may import schemes and tools. They must never import a sampler, so that sampled counts
are an independent check of the formulas.
"""

from obstruction.exact.components import (
    disconnection_probability,
    expected_components,
    log_disconnection_probability,
    log_expected_components,
)
from obstruction.exact.methods import NoExactValue, has_exact, method
from obstruction.exact.neurons import (
    log_obstruction_probability,
    log_pathological_probability,
    log_pathological_probability_from_ratio,
    obstruction_probability,
    pathological_count,
    pathological_probability,
    pathological_probability_from_ratio,
)
from obstruction.exact.unreachable import log_unreachable_probability, unreachable_probability

__all__ = [
    "NoExactValue",
    "disconnection_probability",
    "expected_components",
    "has_exact",
    "log_disconnection_probability",
    "log_expected_components",
    "log_obstruction_probability",
    "log_pathological_probability",
    "log_pathological_probability_from_ratio",
    "log_unreachable_probability",
    "method",
    "obstruction_probability",
    "pathological_count",
    "pathological_probability",
    "pathological_probability_from_ratio",
    "unreachable_probability",
]
