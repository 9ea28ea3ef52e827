"""The topology of the set of parameters that gradient flow can reach.

A network ``f(x) = W2 act(W1 x + b1)`` has ``d`` inputs, ``l`` hidden neurons and ``e`` outputs.
``W1`` has shape ``(l, d)``, ``W2`` shape ``(e, l)``, and ``b1``, if there is one, shape ``(l,)``.
Output biases have no influence. The activation is ReLU, Leaky ReLU or any other with
``act(a z) = a act(z)`` for ``a > 0``. For any loss and data, gradient flow conserves the *balance*
of every neuron, ``c_k = |W1[k]|^2 + b1[k]^2 - |W2[:, k]|^2``. So it stays on the *invariant set*
``H(c)`` of all parameters with these balances. The functions describe the shape of this set, count
its connected components with exact integers, and tell in which component parameters lie.

The statements are those of Nurisso, Leroy, Vaccarino: Topological obstruction to the training of
shallow ReLU neural networks, NeurIPS 2024, unless a docstring calls them an extension.
docs/topology.md has the statements and proofs.

These modules may import tools only. They must never use probabilities, data or files.

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
