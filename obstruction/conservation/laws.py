"""The conservation laws of a model: what they are, what they freeze, and how well they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from obstruction.conservation.law import KINDS, FloatArray, Law
from obstruction.conservation.reading import parameters_of
from obstruction.topology.systems import (
    FrozenScalar,
    FrozenScalars,
    Membership,
    System,
    Tensor,
    frozen_scalars,
)

if TYPE_CHECKING:
    import pandas as pd

RTOL = 1e-9
"""The relative tolerance within which a balance counts as zero."""


@dataclass(frozen=True, eq=False, repr=False)
class Laws(Sequence[Law]):
    """The conservation laws of a model. Printing them shows a law a line.

    Attributes
    ----------
    laws : tuple of Law
        The laws, which are also the elements of this sequence.
    source : str
        The type of the model.
    framework : str
        ``"PyTorch"``, ``"JAX"`` or ``"Keras"``.
    parameters : dict of str to ndarray of float64
        The values of the trained parameters when the laws were found.
    fixed : tuple of str
        The names of parameters that are not trained.
    loss : str or None
        The loss for which the laws hold; None if they hold for every loss.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from torch import nn  # doctest: +SKIP
    >>> import obstruction as ob  # doctest: +SKIP
    >>> _ = torch.manual_seed(0)  # doctest: +SKIP
    >>> net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))  # doctest: +SKIP
    >>> laws = ob.conservation_laws(net, inputs=torch.randn(8, 3))  # doctest: +SKIP
    >>> print(laws)  # doctest: +SKIP
    Sequential (PyTorch): 4 conserved numbers in 1 law
      balance  4  writes 0.weight, 0.bias  reads 2.weight  violation 1e-15
    """

    laws: tuple[Law, ...]
    source: str
    framework: str
    parameters: dict[str, FloatArray]
    fixed: tuple[str, ...] = ()
    loss: str | None = None

    def __len__(self) -> int:
        return len(self.laws)

    @overload
    def __getitem__(self, index: int) -> Law: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Law]: ...

    def __getitem__(self, index: int | slice) -> Law | Sequence[Law]:
        return self.laws[index]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the trained parameters."""
        return {name: value.shape for name, value in self.parameters.items()}

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of conserved numbers of each kind, for the kinds that occur."""
        totals = {kind: sum(law.size for law in self if law.kind == kind) for kind in KINDS}
        return {kind: total for kind, total in totals.items() if total}

    @cached_property
    def frozen_scalars(self) -> FrozenScalars:
        """The weights that no training can carry through zero, with their certificates.

        Only balances freeze weights here: they hold exactly, for every loss and all data. The
        nodes of a certificate are numbered through all balances, law after law.
        """
        return frozen_scalars(self._system) if self._balances else FrozenScalars((), (), {})

    @property
    def components(self) -> int:
        """The number of connected components of the set of parameters with the same balances.

        It is a lower bound if the signs of some weights are undecided, and because matrix laws,
        whose components are not counted, can cut the set further.
        """
        return self.frozen_scalars.components

    def frozen(self) -> pd.DataFrame:
        """Return a table with a row for each weight that is frozen or at the boundary.

        The columns are ``tensor``, ``position``, ``status`` ("frozen" or "boundary"), ``value``,
        ``least`` (the smallest absolute value that gradient flow can reach) and ``laws``, the pairs
        (law, index) of the balances that prove it.
        """
        import pandas as pd

        rows = [self._row(one) for one in self._decided]
        columns = ["tensor", "position", "status", "value", "least", "laws"]
        return pd.DataFrame(rows, columns=columns)

    def table(self) -> pd.DataFrame:
        """Return a table with a row for each conserved number.

        The columns are ``law``, ``kind``, ``index``, ``value``, ``writers`` and ``readers``
        (numbers of scalars), ``frozen`` (how many of these are frozen) and ``violation``. The
        numbers of a matrix law are the entries of its blocks on and above the diagonal.
        """
        import pandas as pd

        frozen = self._frozen_counts()
        parts = []
        for number, law in enumerate(self):
            place = law.places
            parts.append(
                pd.DataFrame(
                    {
                        "law": number,
                        "kind": law.kind,
                        "index": np.arange(law.size),
                        "value": law.values(self.parameters),
                        "writers": law.counts(self.shapes, 1)[place],
                        "readers": law.counts(self.shapes, -1)[place],
                        "frozen": frozen.get(number, np.zeros(law.labels, np.int64))[place],
                        "violation": law.violation[place],
                    }
                )
            )
        names = ["law", "kind", "index", "value", "writers", "readers", "frozen", "violation"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)

    def drift(self, other_parameters: Any) -> pd.DataFrame:
        """Return by how much the conserved numbers differ at other parameters.

        Parameters
        ----------
        other_parameters : model or mapping
            The model after training, or its parameters by name.

        Returns
        -------
        DataFrame
            One row a law, with columns ``law``, ``kind``, ``size``, ``largest`` and ``mean``. The
            last two are taken over the numbers of the law; a drift is relative to the sum of the
            absolute values of all terms at the first parameters.

        Raises
        ------
        ValueError
            If a parameter is missing or has another shape.
        """
        import pandas as pd

        now = parameters_of(other_parameters, self.shapes)
        rows = []
        for number, law in enumerate(self):
            place = law.places
            unit = law.scale(self.parameters)[place]
            moved = np.abs(law.values(now) - law.values(self.parameters))
            share = np.where(moved == 0.0, 0.0, moved / np.where(unit > 0.0, unit, 1.0))
            rows.append((number, law.kind, law.size, float(share.max()), float(share.mean())))
        return pd.DataFrame(rows, columns=["law", "kind", "size", "largest", "mean"])

    def __str__(self) -> str:
        from obstruction.conservation.text import laws_text

        return laws_text(f"{self.source} ({self.framework})", self.laws, loss=self.loss)

    __repr__ = __str__

    @property
    def _balances(self) -> list[tuple[int, Law, int]]:
        """The balances: the number of the law, the law, and its first node."""
        found, first = [], 0
        for number, law in enumerate(self):
            if law.kind == "balance":
                found.append((number, law, first))
                first += law.labels
        return found

    @property
    def _system(self) -> System:
        members: dict[str, list[Membership]] = {name: [] for name in self.parameters}
        nodes = 0
        for _, law, first in self._balances:
            for term in law.terms:
                members[term.tensor].append(Membership(first, term.labels, term.coefficient))
            nodes = first + law.labels
        tensors = [
            Tensor(name, self.shapes[name], tuple(entries))
            for name, entries in members.items()
            if entries
        ]
        return System.from_weights(nodes, tensors, self.parameters, rtol=RTOL)

    @property
    def _decided(self) -> tuple[FrozenScalar, ...]:
        return self.frozen_scalars.frozen + self.frozen_scalars.boundary

    def _row(self, one: FrozenScalar) -> tuple[Any, ...]:
        value = float(self.parameters[one.tensor][one.position])
        return one.tensor, one.position, one.status, value, one.least, self._named(one.nodes)

    def _named(self, nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the law and index of each node."""
        balances = self._balances
        firsts = np.array([first for _, _, first in balances])
        places = np.searchsorted(firsts, nodes, side="right") - 1
        return tuple(
            (balances[place][0], int(node - firsts[place]))
            for place, node in zip(places, nodes, strict=True)
        )

    def _frozen_counts(self) -> dict[int, Any]:
        """Return, for each law with frozen scalars, how many of them enter each of its numbers."""
        found: dict[int, Any] = {}
        by_tensor: dict[str, list[tuple[int, ...]]] = {}
        for one in self.frozen_scalars.frozen:
            by_tensor.setdefault(one.tensor, []).append(one.position)
        for number, law, _ in self._balances:
            for term in law.terms:
                labels = np.broadcast_to(term.labels, self.shapes[term.tensor])
                for position in by_tensor.get(term.tensor, ()):
                    if (label := labels[position]) >= 0:
                        found.setdefault(number, np.zeros(law.labels, np.int64))[label] += 1
        return found
