"""The repair of a live model: its channels are scaled until no balance freezes a weight.

The channels are those of the balances that `obstruction.conservation_laws` has found and verified.
A channel is scaled where it is written and scaled back where it is read, so that the model computes
the same function. That is checked on example inputs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from obstruction.auditing.repair.factors import check
from obstruction.auditing.repair.law_factors import Weight, find_factors, scaled
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.conservation.live.base import LiveModel, Values
from obstruction.conservation.live.onnx_files import is_onnx
from obstruction.conservation.live.opening import open_model
from obstruction.conservation.reading import parameters_of
from obstruction.conservation.writing import precisions, rewritten, rounded
from obstruction.tools.words import counted

_ROUNDING: Final = 32.0
"""The outputs may change by so many times as much as under random errors in the last places."""

_NAMED: Final = 3


@dataclass(frozen=True, eq=False)
class LawRepair:
    """The changes that a repair of a live model makes, and how accurately it keeps the function.

    Attributes
    ----------
    margin : float
        Where a weight was frozen, the weights on the other side of its balance have afterwards at
        least ``1 + margin`` times its size.
    factors : dict of int to ndarray
        For the number of each balance law the factors of its channels. They multiply what writes a
        channel and divide what reads it.
    changes : dict of str to ndarray
        The new values of the parameters that change, rounded to their own types.
    repaired : int
        The number of weights that were frozen or at the boundary and are free afterwards.
    left : dict from (str, tuple of int) to str
        The weights that stay frozen or at the boundary, each with the reason.
    difference : float
        The largest difference of an output on the inputs, relative to the largest output. It is
        computed in float64 from the stored parameters.
    evaluation : float
        The same in evaluation mode. It is no mere rounding where normalisations use running
        statistics, which belong to the weights before the repair.
    """

    margin: float
    factors: dict[int, FloatArray]
    changes: dict[str, FloatArray]
    repaired: int
    left: dict[Weight, str]
    difference: float
    evaluation: float

    @property
    def changed(self) -> int:
        """The number of channels whose factor is not 1."""
        return sum(int(np.count_nonzero(one != 1.0)) for one in self.factors.values())

    @property
    def largest_factor(self) -> float:
        """The largest factor by which a channel is multiplied or divided."""
        return max(
            (float(np.exp(np.abs(np.log(one)).max(initial=0.0))) for one in self.factors.values()),
            default=1.0,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What the repair does not achieve, a sentence each."""
        found = []
        for reason, count in Counter(self.left.values()).items():
            names = [f"{name}{list(at)}" for (name, at), why in self.left.items() if why == reason]
            shown = ", ".join(names[:_NAMED]) + ", ..." * (count > _NAMED)
            stays = "stays" if count == 1 else "stay"
            found.append(f"{counted(count, 'weight')} {stays} frozen ({shown}): {reason}")
        if self.evaluation > max(1e-3, 10.0 * self.difference):
            found.append(
                f"in evaluation mode the outputs change by {self.evaluation:.2g} of the largest, "
                "because running statistics belong to the old weights; some batches in training "
                "mode renew them"
            )
        return tuple(found)

    def __str__(self) -> str:
        if not self.changed:
            lines = ["Nothing was rescaled."]
        else:
            lines = [
                f"Rescaled {counted(self.changed, 'channel')}, which frees "
                f"{counted(self.repaired, 'weight')}. The largest factor is "
                f"{self.largest_factor:.4g}.",
                "The model computes the same function: on the inputs its outputs differ by at most "
                f"{self.difference:.2g} of the largest.",
            ]
        return "\n".join(lines + [f"Note: {note}." for note in self.notes])


def repair_laws(
    model: Any, laws: Laws, *, inputs: Any, margin: float = 0.1, training: bool = True
) -> Any:
    """Return a model that computes the same function and in which no balance freezes a weight.

    Parameters
    ----------
    model : model
        A PyTorch module, a Keras model, or a pair ``(apply, params)`` of JAX. It is not changed.
    laws : Laws
        The laws of this model as it is now.
    inputs : array, tuple or dict
        Example inputs, on which the outputs are compared.
    margin : float, > 0
        Where a weight was frozen, the weights on the other side of its balance have afterwards at
        least ``1 + margin`` times its size.
    training : bool
        Whether the outputs are compared in training mode, in which the laws were found.

    Returns
    -------
    model or pytree
        A copy with other parameters; for JAX the new parameters.

    Raises
    ------
    ValueError
        If the laws are not those of this model as it is now, if the outputs would change by more
        than rounding, or if the parameters cannot hold the factors.

    Warns
    -----
    UserWarning
        If weights stay frozen, for instance those of dead channels, which cannot be repaired.
    """
    changes = repaired_laws(model, laws, inputs=inputs, margin=margin, training=training)
    return rewritten(model, changes)


def repaired_laws(
    model: Any, laws: Laws, *, inputs: Any, margin: float = 0.1, training: bool = True
) -> dict[str, FloatArray]:
    """Return the new values of the parameters that `repair_laws` changes, and warn as it does."""
    found = find_law_repair(model, laws, inputs=inputs, margin=margin, training=training)
    for note in found.notes:
        warnings.warn(note, stacklevel=3)
    return found.changes


def find_law_repair(
    model: Any, laws: Laws, *, inputs: Any, margin: float = 0.1, training: bool = True
) -> LawRepair:
    """Find the repair of a live model, and check that it keeps the function.

    The arguments and errors are those of `repair_laws`, which carries it out.
    """
    check(margin, "all")
    _check_laws(model, laws)
    places = precisions(model, laws.shapes)
    coarse = {name: digits < 24 for name, digits in places.items()}
    found = find_factors(laws, margin, coarse)
    changes = scaled(laws, found.exponents)
    after = laws.parameters | rounded(changes, places)
    for name in changes:
        if not np.isfinite(after[name]).all():
            raise ValueError(f"{name}: its type cannot hold the rescaled weights")
    before = _decided(laws)
    still = _decided(replace(laws, parameters=after))
    left = {weight: reason for weight, reason in found.left.items() if weight in still}
    if still - set(left):
        name, at = min(still - set(left))
        raise ValueError(
            f"margin = {margin!r}: cannot be held in the type of the parameters; "
            f"{name}{list(at)} would stay frozen"
        )
    difference = evaluation = 0.0
    if changes:
        live = open_model(model, inputs, training=training, loss=laws.loss)
        difference = _difference(live, laws.parameters, after, places)
        evaluation = difference
        if training and not isinstance(model, tuple) and not is_onnx(model):
            other = open_model(model, inputs, training=False, loss=laws.loss)
            evaluation = _change(other, laws.parameters, after)
    return LawRepair(
        margin=float(margin),
        factors={number: np.exp(logs) for number, logs in found.exponents.items()},
        changes={name: after[name] for name in changes},
        repaired=len(before - still),
        left=left,
        difference=difference,
        evaluation=evaluation,
    )


def _decided(laws: Laws) -> set[Weight]:
    """Return the weights that are frozen or at the boundary."""
    found = laws.frozen_scalars
    return {(one.tensor, one.position) for one in (*found.frozen, *found.boundary)}


def _check_laws(model: Any, laws: Laws) -> None:
    """Raise a ValueError if laws do not belong to a model as it is now."""
    try:
        now = parameters_of(model, laws.shapes)
    except ValueError as error:
        raise ValueError(f"laws: must be those of this model, but {error}") from None
    for name, value in now.items():
        if not np.array_equal(value, laws.parameters[name]):
            raise ValueError(
                f"laws: must be those of this model as it is now, but {name} has changed since"
            )


def _difference(live: LiveModel, before: Values, after: Values, places: Mapping[str, int]) -> float:
    """Return the relative change of outputs; raise a ValueError if it is more than rounding."""
    rng = np.random.default_rng(0)
    moved = {
        name: value * (1.0 + max(2.0 ** -places[name], 2.0**-50) * rng.standard_normal(value.shape))
        for name, value in before.items()
    }
    change, limit = _change(live, before, after), _ROUNDING * _change(live, before, moved)
    if not change <= limit:
        raise ValueError(
            f"the outputs would change by {change:.3g} of the largest, more than the "
            f"{limit:.3g} that rounding explains; nothing is repaired"
        )
    return change


def _change(live: LiveModel, before: Values, after: Values) -> float:
    """Return the largest change of an output, relative to the largest of the same array."""
    outputs: Sequence[list[FloatArray]] = [
        live.outputs(values, live.inputs, seed=0) for values in (before, after)
    ]
    largest = 0.0
    for old, new in zip(*outputs, strict=True):
        if old.size:
            moved = float(np.abs(new - old).max())
            largest = max(largest, moved / (float(np.abs(old).max()) or 1.0) if moved else 0.0)
            if np.isnan(moved):
                raise ValueError("model: its outputs are not finite, so no repair can be checked")
    return largest
