"""Name the component of the invariant set in which parameters lie, by its frozen signs."""

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
    """The name of an effective component.

    Attributes
    ----------
    output_frozen, input_frozen : int
        The numbers of frozen output and input weights.
    output_sum, input_sum : int
        The sums of the signs of these weights.
    """

    output_frozen: int
    output_sum: int
    input_frozen: int
    input_sum: int


@dataclass(frozen=True)
class ComponentLabel:
    """The name of a component of the invariant set: the frozen weights and their signs.

    Attributes
    ----------
    output_neurons : tuple of int
        The neurons with a frozen output weight, ascending. These are the neurons with negative
        balance if there is one output, and none otherwise.
    output_signs : tuple of int
        The signs of these output weights, 1 or -1.
    input_neurons : tuple of int
        The neurons with a frozen input weight, ascending. These are the neurons with positive
        balance if there is one input and no bias, and none otherwise.
    input_signs : tuple of int
        The signs of these input weights, 1 or -1.
    """

    output_neurons: tuple[int, ...]
    output_signs: tuple[int, ...]
    input_neurons: tuple[int, ...]
    input_signs: tuple[int, ...]

    @property
    def effective(self) -> EffectiveLabel:
        """The name of the effective component: the sums of the signs (Thm. 2)."""
        one, two = self.output_signs, self.input_signs
        return EffectiveLabel(len(one), sum(one), len(two), sum(two))


def component_label(
    W1: ArrayLike, W2: ArrayLike, b1: ArrayLike | None = None, tolerance: ArrayLike = 0.0
) -> ComponentLabel:
    """Return the name of the component of the invariant set in which parameters lie.

    Two parameters with the same balances lie in the same component if and only if their labels are
    equal. No continuous path on the invariant set changes the label, and so no gradient flow does.

    Parameters
    ----------
    W1, W2, b1 : array_like, shapes (l, d), (e, l) and (l,)
        Hidden weights, output weights and, if there are any, hidden biases.
    tolerance : float or array_like, shape (l,)
        Balances with at most this absolute value count as zero: no weight is frozen there.

    Raises
    ------
    ValueError
        If an array is not of finite numbers, or shapes do not fit, or a tolerance is negative.

    Notes
    -----
    Nurisso et al. 2024, Prop. 3, for one output. For one input without biases, the same proof with
    the layers exchanged gives the input signs.

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
        The allowed difference of two balances, relative to the sum of all squared weights of the
        neuron (the larger sum of the two networks); in [0, 1).

    Raises
    ------
    ValueError
        If shapes differ, or an argument is invalid.

    Notes
    -----
    Nurisso et al. 2024, Def. 1.
    """
    return compare(*check_pair(theta, theta2), check_rtol(rtol)) is not None


def same_component(theta: ThetaLike, theta2: ThetaLike, rtol: float = 1e-9) -> bool:
    """Return whether a path that conserves all balances connects two parameters.

    Parameters
    ----------
    theta, theta2, rtol
        As in `same_invariant_set`. Balances with at most the relative size `rtol` count as zero.

    Returns
    -------
    bool
        False also if the balances differ (see `same_invariant_set`), since a component is a part
        of one invariant set.

    Raises
    ------
    ValueError
        If shapes differ, or an argument is invalid.

    Notes
    -----
    Nurisso et al. 2024, Prop. 3 and Lemma 2. `obstruction.topology.path` builds the path.

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

    If so, each point of one component is equal to a point of the other up to rescaling and
    permutation of neurons.

    Parameters
    ----------
    theta, theta2, rtol
        As in `same_component`.

    Returns
    -------
    bool
        False also if the balances differ; `obstruction.topology.rescale_to_balance` can make them
        equal.

    Raises
    ------
    ValueError
        If shapes differ, or an argument is invalid.

    Notes
    -----
    Nurisso et al. 2024, Thm. 2, for one output. The case of one input is an extension.

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
    """Return both labels, or None if the balances differ."""
    one, two = check_pair(theta, theta2)
    masks = compare(one, two, check_rtol(rtol))
    return None if masks is None else (_label(one, *masks), _label(two, *masks))


def compare(one: Parameters, two: Parameters, rtol: float) -> tuple[Mask, Mask] | None:
    """Return masks of the neurons with negative and positive balances, None if balances differ."""
    (c, sizes), (c2, sizes2) = balances_and_sizes(one), balances_and_sizes(two)
    limit = rtol * np.maximum(sizes, sizes2)
    if np.any(np.abs(c - c2) > limit):
        return None
    middle = 0.5 * c + 0.5 * c2
    return middle < -limit, middle > limit
