"""Which scalars can never change their sign, given any set of balances.

*System.* Every node ``v`` has a balance ``c_v``, the sum of ``a * w²`` over the scalars ``w`` that
enter it with integer coefficients ``a``. Let ``a_e`` be the column of coefficients of the scalar
``e``, and ``x_e`` its square. All scalars with the same balances are described by the polyhedron
``P = {x >= 0 : sum of x_e a_e = c}``, of which there is one copy for every choice of signs; copies
that differ in the sign of ``e`` meet where ``x_e = 0``. ``P`` is convex. So the sign of ``e`` is
*frozen* if and only if the minimum of ``x_e`` over ``P`` is positive, and each frozen scalar
doubles the number of connected components.

*Certificates.* By duality, the minimum is the largest ``y c`` over all numbers ``y_v`` of the nodes
with ``y a_e <= 1`` and ``y a_f <= 0`` for every other scalar ``f``. Any such ``y`` proves that
``x_e >= y c``, since ``y c`` is the sum of all ``(y a_f) x_f``.

*Networks.* Suppose that every column has at most one entry 1 and at most one entry -1. Then a
scalar leads from the node where it has -1 to the node where it has 1, and from or to the outside
where it lacks one. Let ``c(S)`` be the sum of the balances of a set ``S`` of nodes. The minimum of
``x_e`` is the largest of 0, all ``-c(S)`` for which ``e`` is the only scalar out of ``S``, and all
``c(S)`` for which ``e`` is the only scalar into ``S``. For networks without cycles this is the
criterion of `obstruction.dag`, but cycles do no harm.

*Proof.* Such sets give certificates: ``y`` is -1, or 1, in ``S`` and 0 elsewhere. Conversely, let
``y`` be any certificate, with ``y = 0`` outside. Every scalar but ``e`` leads from ``u`` to ``v``
with ``y_v <= y_u``. For ``t > 0`` let ``S_t`` be the nodes with ``y_v >= t``; no scalar but ``e``
leads into it. For ``t < 0`` let ``S_t`` be the nodes with ``y_v <= t``; no scalar but ``e`` leads
out of it. Then ``y c`` is the integral of ``c(S_t)`` over ``t > 0`` less that over ``t < 0``. If
``e`` does not lead into ``S_t``, or out of it, no scalar does, so ``c(S_t) <= 0``, or
``c(S_t) >= 0``, and the integrand is not positive. What remains are numbers ``t`` from ``y_u`` to
``y_v``, where ``e`` leads from ``u`` to ``v``. They make up a length of at most 1, so ``y c`` is
at most the largest of the integrands there. ∎

*Other systems.* Multiplying balances by -1 may turn a system into a network. A scalar may also
enter two nodes with the same sign in a way that cannot be removed, such as the output weights of
products. There a linear program finds ``y``. Its solution is rounded to fractions and verified
exactly. What is too large for a linear program is reported as undecided.

*Scale.* Tensors are never expanded into lists of scalars, see `obstruction.topology.systems.rows`.
Most nodes are seen to be 0 in every certificate, see `obstruction.topology.systems.signs`; the
small parts that remain are decided exactly.

Examples
--------
Two hidden neurons, each with two input weights and an output weight. The first has the balance
``1 + 1 - 9``, so its output weight can never be smaller than the square root of 7.

>>> import numpy as np
>>> from obstruction.topology.systems import Membership, System, Tensor, frozen_scalars
>>> rows, columns = np.array([[0], [1]]), np.array([[0, 1]])
>>> hidden = Tensor("hidden", (2, 2), [Membership(0, rows, 1)])
>>> output = Tensor("output", (1, 2), [Membership(0, columns, -1)])
>>> weights = {"hidden": np.ones((2, 2)), "output": np.array([[3.0, 1.0]])}
>>> found = frozen_scalars(System.from_weights(2, [hidden, output], weights))
>>> [(one.tensor, one.position, round(one.least, 3), one.nodes) for one in found]
[('output', (0, 0), 2.646, (0,))]
>>> found.components
2
"""

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
