"""In which component of the invariant set parameters lie: the signs that can never change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from obstruction.tools.checks import check_rtol
from obstruction.topology.balances import balances_and_sizes
from obstruction.topology.parameters import (
    FloatArray,
    Parameters,
    ThetaLike,
    check_pair,
    check_parameters,
    check_per_neuron,
)
from obstruction.topology.regions import Mask


class EffectiveLabel(NamedTuple):
    """The name of an effective component, for given numbers of frozen signs.

    Attributes
    ----------
    output_frozen, input_frozen : int
        How many output and input weights are frozen.
    output_sum, input_sum : int
        The sums of their signs.
    """

    output_frozen: int
    output_sum: int
    input_frozen: int
    input_sum: int


@dataclass(frozen=True)
class ComponentLabel:
    """The name of a component of the invariant set: which signs are frozen, and as what.

    Attributes
    ----------
    output_neurons : tuple of int
        With one output, the neurons with negative balance, ascending; else empty.
    output_signs : tuple of int
        The signs of their output weights, 1 or -1.
    input_neurons : tuple of int
        With one input and no biases, the neurons with positive balance, ascending; else empty.
    input_signs : tuple of int
        The signs of their input weights, 1 or -1.
    """

    output_neurons: tuple[int, ...]
    output_signs: tuple[int, ...]
    input_neurons: tuple[int, ...]
    input_signs: tuple[int, ...]

    @property
    def effective(self) -> EffectiveLabel:
        """The name of the effective component: the sums of the signs (Thm. 2)."""
        return EffectiveLabel(
            len(self.output_signs),
            sum(self.output_signs),
            len(self.input_signs),
            sum(self.input_signs),
        )


def component_label(
    W1: ArrayLike, W2: ArrayLike, b1: ArrayLike | None = None, tolerance: ArrayLike = 0.0
) -> ComponentLabel:
    """Return the name of the component of the invariant set in which parameters lie.

    Two parameters with the same balances lie in the same component iff their labels are equal. No
    continuous path on the invariant set, and so no gradient flow, changes the label.

    Parameters
    ----------
    W1 : array_like, shape (l, d)
        Hidden weights.
    W2 : array_like, shape (e, l)
        Output weights.
    b1 : array_like, shape (l,), optional
        Hidden biases.
    tolerance : float or array_like, shape (l,)
        Balances at most this far from zero count as zero: nothing is frozen there.

    Raises
    ------
    ValueError
        If an array is not of finite numbers, or shapes do not fit, or a tolerance is negative.

    Notes
    -----
    Nurisso et al. 2024, Prop. 3, for one output; the input signs, for one input without biases,
    follow in the same way with the layers in each other's place.

    Examples
    --------
    >>> label = component_label([[0.1, 0.2], [3.0, 0.0], [0.3, 0.0]], [[-1.0, 1.0, 2.0]])
    >>> label.output_neurons, label.output_signs, label.effective.output_sum
    ((0, 2), (-1, 1), 0)
    """
    theta = check_parameters(W1, W2, b1)
    found, sizes = balances_and_sizes(theta)
    limit = check_per_neuron("tolerance", tolerance, sizes.size, least=0.0)
    return _label(theta, found < -limit, found > limit)


def _label(theta: Parameters, negative: Mask, positive: Mask) -> ComponentLabel:
    incoming, outgoing = theta.incoming, theta.outgoing
    return ComponentLabel(
        *_signs(outgoing, negative & (outgoing.shape[1] == 1)),
        *_signs(incoming, positive & (incoming.shape[1] == 1)),
    )


def _signs(weights: FloatArray, frozen: Mask) -> tuple[tuple[int, ...], tuple[int, ...]]:
    where = np.flatnonzero(frozen)
    signs = np.where(weights[where, 0] > 0.0, 1, -1)
    return tuple(where.tolist()), tuple(signs.tolist())


def same_invariant_set(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether two parameters have the same balances.

    Parameters
    ----------
    theta, theta2 : (W1, W2) or (W1, W2, b1)
        The parameters, of the same shapes.
    rtol : float
        How far balances may differ, in parts of the sum of all squared weights of the neuron, the
        larger of both sums.

    Raises
    ------
    ValueError
        If shapes differ, or parameters or tolerance are not what they must be.

    Notes
    -----
    Nurisso et al. 2024, Def. 1.
    """
    return compare(*check_pair(theta, theta2), check_rtol(rtol)) is not None


def same_component(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether a path that keeps all balances leads from one to the other.

    Parameters
    ----------
    theta, theta2, rtol
        As in `same_invariant_set`. Balances at most `rtol` from zero, in the same parts, count as
        zero.

    Returns
    -------
    bool
        False also for parameters with different balances, which `same_invariant_set` tells apart:
        a component is a part of one invariant set.

    Raises
    ------
    ValueError
        If shapes differ, or parameters or tolerance are not what they must be.

    Notes
    -----
    Nurisso et al. 2024, Prop. 3 and Lemma 2; `obstruction.topology.path` builds the path.

    Examples
    --------
    >>> theta = [[1.0, 0.0]], [[2.0]]
    >>> same_component(theta, ([[0.0, 1.0]], [[2.0]]))
    True
    >>> same_component(theta, ([[1.0, 0.0]], [[-2.0]]))
    False
    """
    labels = _labels(theta, theta2, rtol)
    return labels is not None and labels[0] == labels[1]


def same_effective_component(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether two parameters lie in one component up to rescaling and permutation.

    True means: whatever one component holds, the other holds an equivalent of, equal up to
    rescaling and permutation of neurons.

    Parameters
    ----------
    theta, theta2, rtol
        As in `same_component`.

    Returns
    -------
    bool
        False also for parameters with different balances; bring them to the same ones with
        `obstruction.topology.rescale_to_balance`.

    Raises
    ------
    ValueError
        If shapes differ, or parameters or tolerance are not what they must be.

    Notes
    -----
    Nurisso et al. 2024, Thm. 2, for one output; with one input our extension.

    Examples
    --------
    >>> W1 = [[0.1, 0.2], [0.2, 0.1]]
    >>> same_effective_component((W1, [[1.0, -1.0]]), (W1, [[-1.0, 1.0]]))
    True
    """
    labels = _labels(theta, theta2, rtol)
    return labels is not None and labels[0].effective == labels[1].effective


def _labels(
    theta: ThetaLike, theta2: ThetaLike, rtol: float
) -> tuple[ComponentLabel, ComponentLabel] | None:
    """Return both labels, None if balances differ."""
    one, two = check_pair(theta, theta2)
    masks = compare(one, two, check_rtol(rtol))
    return None if masks is None else (_label(one, *masks), _label(two, *masks))


def compare(one: Parameters, two: Parameters, rtol: float) -> tuple[Mask, Mask] | None:
    """Return which neurons have negative and positive balance in both, None if balances differ."""
    (c, sizes), (c2, sizes2) = balances_and_sizes(one), balances_and_sizes(two)
    limit = rtol * np.maximum(sizes, sizes2)
    if np.any(np.abs(c - c2) > limit):
        return None
    middle = 0.5 * c + 0.5 * c2
    return middle < -limit, middle > limit
