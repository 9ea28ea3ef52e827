"""Exact probabilities of obstruction at initialisation, for independent weights of any law.

Let the network have ``d`` inputs, ``l`` hidden neurons and ``e`` outputs, and independent weights.
With one output, a neuron is *pathological* (its balance ``|in|^2 - |out|^2`` is negative) iff

    a V^2 > W_1^2 + ... + W_d^2 + beta B^2,   a = Var W2 / Var W1,   beta = Var b1 / Var W1,

for standardised output weights V, hidden weights W and biases B, if there are any. Let ``p`` be the
probability of that; the network is *obstructed* (some neuron is pathological) with probability
``1 - (1 - p)^l`` (Nurisso et al. 2024, App. F). Every function here rests on this ``p``.

Normal weights have a closed form, the F distribution; other laws and biases are integrated.
`method` says which way a scheme goes, `obstruction.exact.inversion` how. For normal weights the
relative error of ``p`` and ``P`` is at most 1e-12 for ``1 <= d, l <= 1e7`` and
``1e-12 <= a <= 1e12``, that of a logarithm 1e-14 times its size or 1. For other laws and
``d`` up to 1e5 it is at most 1e-10, mostly 1e-13; that of a logarithm 1e-10, or 1e-13 times its
size.

The functions take numbers or arrays, which broadcast; numbers give a ``float``, arrays a float64
array of the broadcast shape. Bad arguments raise ``ValueError``: sizes must be whole numbers from 1
to 2**53, shapes must broadcast, and the scheme must be known. A scheme whose weights depend on each
other raises `NoExactValue`. Logarithms are natural.

Its modules may import schemes and tools. They must never import a sampler, so that the formulas can
be checked by counts.
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
