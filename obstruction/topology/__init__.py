"""The topology of what gradient flow can reach: pure functions of weights, with exact integers.

A network ``f(x) = W2 act(W1 x + b1)`` has ``d`` inputs, ``l`` hidden neurons and ``e`` outputs:
``W1`` is ``(l, d)``, ``W2`` is ``(e, l)``, ``b1`` ``(l,)`` or absent; output biases do not count.
The activation is ReLU, Leaky ReLU or any other with ``act(a z) = a act(z)`` for ``a > 0``. Gradient
flow keeps the *balance* of every neuron, ``c_k = |W1[k]|^2 + b1[k]^2 - |W2[:, k]|^2``, for any loss
and data, and so stays on the *invariant set* ``H(c)`` of all parameters with these balances. The
functions here say what that set looks like, into how many pieces it falls, and in which of them
parameters lie. They know nothing of activations, of data or of files. docs/topology.md has the
statements and proofs.

The statements are those of Nurisso, Leroy, Vaccarino: Topological obstruction to the training of
shallow ReLU neural networks, NeurIPS 2024; what goes beyond them says so.

Its modules may import tools only. They must never know of probabilities, of data or of files.

Examples
--------
>>> import numpy as np
>>> from obstruction import topology
>>> W1, W2 = np.array([[1.0, 0.0], [0.5, 0.5], [0.1, 0.2]]), np.array([[0.5, -2.0, 1.0]])
>>> c = topology.balances(W1, W2)
>>> c.round(2).tolist()
[0.75, -3.5, -0.95]
>>> counts = topology.sign_counts(c)
>>> topology.components(2, *counts[:2]), topology.effective_components(2, *counts[:2])
(4, 3)
>>> topology.component_label(W1, W2)
ComponentLabel(output_neurons=(1, 2), output_signs=(-1, 1), input_neurons=(), input_signs=())
"""

from obstruction.topology.balances import SignCounts, balances, in_invariant_set, sign_counts
from obstruction.topology.betti import (
    Hyperquadric,
    betti,
    components,
    effective_components,
    hyperquadric,
    poincare_polynomial,
)
from obstruction.topology.equivalence import observationally_equivalent
from obstruction.topology.labels import (
    ComponentLabel,
    EffectiveLabel,
    component_label,
    same_component,
    same_effective_component,
    same_invariant_set,
)
from obstruction.topology.parameters import Parameters, from_neurons, neurons
from obstruction.topology.paths import path
from obstruction.topology.polynomial import PoincarePolynomial
from obstruction.topology.symmetries import permute, rescale, rescale_to_balance, rescaling_factors

__all__ = [
    "ComponentLabel",
    "EffectiveLabel",
    "Hyperquadric",
    "Parameters",
    "PoincarePolynomial",
    "SignCounts",
    "balances",
    "betti",
    "component_label",
    "components",
    "effective_components",
    "from_neurons",
    "hyperquadric",
    "in_invariant_set",
    "neurons",
    "observationally_equivalent",
    "path",
    "permute",
    "poincare_polynomial",
    "rescale",
    "rescale_to_balance",
    "rescaling_factors",
    "same_component",
    "same_effective_component",
    "same_invariant_set",
    "sign_counts",
]
