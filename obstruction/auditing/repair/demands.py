"""The demands that neurons make on the factors of their neighbours, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from obstruction.models.model import Model
from obstruction.models.norms import NeuronNorms, sums_of_squares
from obstruction.models.updating import epsilon, stored_types

FloatArray: TypeAlias = NDArray[np.float64]
Norms: TypeAlias = Sequence[NeuronNorms | None]
Masks: TypeAlias = list[NDArray[np.bool_]]

LARGEST_SCALE: Final = 1e100

_FLOOR: Final = 2.0**-43  # a bound on the relative error of sums of squares
_MOST_OPERATIONS: Final = 1e11  # for which matrices as large as layers are factorised


class Demands:
    """The map ``max(0, F)``, which reads only the matrices beside layers that have moved.

    Sums of squares are kept as logarithms, so that no factor is too large on the way to those that
    are sought.
    """

    def __init__(
        self,
        model: Model,
        norms: Norms,
        inside: list[bool],
        margin: float,
        active: Masks,
        extra: float,
    ) -> None:
        self.model, self.inside = model, inside
        with np.errstate(divide="ignore"):
            self.incoming = [np.ones(0) if n is None else 2.0 * np.log(n.incoming) for n in norms]
            self.outgoing = [np.ones(0) if n is None else 2.0 * np.log(n.outgoing) for n in norms]
        self.at = [np.zeros(layer.outputs) for layer in model.layers[:-1]]
        self.active = [np.zeros(len(x), dtype=bool) for x in self.at]
        for mask, known in zip(self.active, active, strict=True):
            mask[: len(known)] = known  # links that are not looked after have empty masks
        self.plain = 2.0 * math.log1p(margin)
        self.halves: list[bool] = []
        self.slack: list[float] = []
        self.limits: list[float] = []
        for h in range(len(inside)):
            touched = stored_types(model.layers[h : h + 2])
            half = bool(touched & {"float16", "bfloat16"})
            # Rounding changes a norm by at most half an epsilon; powers of two cause no rounding.
            ulps = 0.0 if half else 4.0 * max(map(epsilon, touched))
            self.halves.append(half)
            self.slack.append(extra * (ulps + _FLOOR))
            self.limits.append(2.0**15 if "float16" in touched else LARGEST_SCALE)

    def __call__(self, x: list[FloatArray]) -> list[FloatArray]:
        """Return the image of ``x``, which is 0 for neurons that have always had the margin."""
        self._move(x)
        found = []
        for h, wanted in enumerate(self.inside):
            if not wanted:
                found.append(np.zeros_like(x[h]))
                continue
            with np.errstate(invalid="ignore"):
                least = self.plain + self.outgoing[h] - self.incoming[h]
            self.active[h] |= least > 4.0 * x[h]
            needed = np.maximum(0.0, (least + 2.0 * self.slack[h]) / 4.0)
            found.append(np.where(self.active[h], needed, 0.0))
        return found

    def _move(self, x: list[FloatArray]) -> None:
        """Update the sums of squares."""
        moved = [bool(np.any(new != old)) for new, old in zip(x, self.at, strict=True)]
        last = len(self.model.layers) - 1
        for i, layer in enumerate(self.model.layers):
            below = 0 < i < last and moved[i - 1] and self.inside[i]
            above = 0 < i < last and moved[i] and self.inside[i - 1]
            if below or above:  # both sums cost no more than one: reading weights takes the time
                least, most = x[i - 1].min(), x[i].max()
                factors = np.exp(-2.0 * (x[i - 1] - least)), np.exp(2.0 * (x[i] - most))
                with np.errstate(divide="ignore"):
                    across, down = map(np.log, sums_of_squares(layer.weight, *factors))
            if below:
                self.incoming[i] = across - 2.0 * least
                if layer.bias is not None:
                    with np.errstate(divide="ignore"):
                        bias = 2.0 * np.log(np.abs(layer.bias.astype(np.float64)))
                    self.incoming[i] = np.logaddexp(self.incoming[i], bias)
            if above:
                self.outgoing[i - 1] = down + 2.0 * most
        self.at = x

    def newton(self, image: list[FloatArray], residual: list[FloatArray]) -> list[FloatArray]:
        """Return Newton's step.

        The derivative of the demand of a neuron by the logarithm of a neighbour's factor is half
        the share of their weight in the neuron's sum of squares. So the matrix of the linear system
        has blocks on three diagonals, and is eliminated block by block.

        Parameters
        ----------
        image : list of ndarray
            What the map made of the point at which it was last evaluated.
        residual : list of ndarray
            The image less that point.
        """
        chosen = [np.flatnonzero(mask) for mask in self.active]
        ahead: list[FloatArray] = []  # by how much the layer above moves this one
        steps: list[FloatArray] = []
        for h, rows in enumerate(chosen):
            step: FloatArray = residual[h][rows]
            above: FloatArray = np.zeros(
                (len(rows), len(chosen[h + 1]) if h + 1 < len(chosen) else 0)
            )
            if above.size:
                above = self._shares(h + 1, chosen[h], chosen[h + 1], of_inputs=True)
                above[image[h][rows] == 0.0] = 0.0
            if h and len(rows) and len(chosen[h - 1]):
                below = self._shares(h, chosen[h - 1], rows, of_inputs=False)
                below[image[h][rows] == 0.0] = 0.0
                matrix = np.eye(len(rows)) - below @ ahead[-1]
                right = np.column_stack([above, step + below @ steps[-1]])
                solved: FloatArray = np.asarray(np.linalg.solve(matrix, right))
                above, step = solved[:, :-1], solved[:, -1]
            ahead.append(above)
            steps.append(step)
        for h in reversed(range(len(steps) - 1)):
            steps[h] = steps[h] + ahead[h] @ steps[h + 1]
        found = [np.zeros_like(r) for r in residual]
        for whole, rows, step in zip(found, chosen, steps, strict=True):
            whole[rows] = step
        return found

    @property
    def newton_is_cheap(self) -> bool:
        """Whether a step of Newton's takes no longer than a second or so."""
        return sum(float(len(x)) ** 3 for x in self.at) < _MOST_OPERATIONS

    def _shares(
        self, i: int, inputs: NDArray[np.intp], outputs: NDArray[np.intp], *, of_inputs: bool
    ) -> FloatArray:
        """Return half the shares of weights in sums of squares between two hidden layers.

        They are those of the inputs of layer ``i``, one row each, or those of its outputs.
        """
        with np.errstate(divide="ignore"):
            weight = self.model.layers[i].weight[np.ix_(outputs, inputs)].astype(np.float64)
            found = np.log(np.abs(weight))
        if of_inputs:
            whole = self.outgoing[i - 1][inputs]
            return 0.5 * np.exp(2.0 * (found + self.at[i][outputs, None]) - whole).T
        whole = self.incoming[i][outputs]
        return 0.5 * np.exp(2.0 * (found - self.at[i - 1][inputs]) - whole[:, None])

    def shift(self, residual: list[FloatArray]) -> list[FloatArray]:
        """Return Newton's step for a simpler map, in which neurons depend on means of layers.

        In wide layers this is nearly so. The step then gains several digits, and a plain step one
        bit. It costs far less than Newton's own.
        """
        share = np.array([mask.mean() if mask.size else 0.0 for mask in self.active])
        mean = np.array(
            [
                r[mask].mean() if mask.any() else 0.0
                for r, mask in zip(residual, self.active, strict=True)
            ]
        )
        bands = np.ones((3, len(share)))
        bands[0, 1:], bands[2, :-1] = -0.5 * share[1:], -0.5 * share[:-1]
        further = solve_banded((1, 1), bands, mean) - mean
        return [
            np.where(mask, r + move, 0.0)
            for r, mask, move in zip(residual, self.active, further, strict=True)
        ]
