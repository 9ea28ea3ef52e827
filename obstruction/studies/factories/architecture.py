"""The draws of one architecture: its laws, how its parameters are drawn, and the counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np

from obstruction.conservation.finding import laws_of, prober_of
from obstruction.conservation.law import FloatArray
from obstruction.conservation.laws import Laws
from obstruction.sampling.runner import Runner
from obstruction.studies.factories.counting import (
    ModelCounts,
    ModelSampler,
    checksum,
    distinct_weights,
    needed_for,
)
from obstruction.studies.factories.data_sides import Judged, judged
from obstruction.studies.factories.draws import Draws
from obstruction.studies.factories.exact_sides import ExactSides, exact_sides
from obstruction.studies.factories.model_cell import ModelCell, SideRow
from obstruction.studies.factories.recipes import Drawn
from obstruction.studies.factories.single_sides import SingleSide, single_sides

SAVE_SECONDS: Final = 30.0
"""The time after which the counts of an unfinished architecture are kept."""


@dataclass(frozen=True)
class Architecture:
    """One cell of a grid.

    Attributes
    ----------
    factory : callable
    arguments : dict
        The values of the axes, with which the factory is called.
    inputs : object
        Example inputs.
    seed : int
    loss : str or None
    data : object
        The training data, or None.
    exact : float
        The probability that was given for this cell, NaN if there is none.
    known : bool
        Whether probabilities were given at all. Otherwise they are computed.
    """

    factory: Callable[..., Any]
    arguments: Mapping[str, Any]
    inputs: Any
    seed: int
    loss: str | None
    data: Any
    exact: float
    known: bool

    def drawn(
        self,
        networks: int,
        prior: ModelCell | None,
        watch: Callable[[int], None],
        keep: Callable[[ModelCell], None],
        keep_seconds: float = SAVE_SECONDS,
    ) -> ModelCell:
        """Return the cell with so many draws, and keep what is counted from time to time."""
        begun, label = time.perf_counter(), label_of(self.arguments)
        at = f" at {label}" if label else ""
        opened = OpenedModel.of(
            self.factory, self.arguments, self.inputs, self.seed, label, self.loss, self.data
        )
        draws, laws, on_data, sides = opened.draws, opened.laws, opened.on_data, opened.sides
        rows = tuple(
            SideRow(one.number, one.side, one.tensor, one.channels.size, one.others)
            for one in sides
        )
        if prior is not None and prior.sides != rows:
            raise ValueError(
                f"factory: its model{at} has other balances than the one in the folder out"
            )
        beyond, undecided = _beyond(on_data.laws, single_sides(on_data.laws))
        needed = needed_for(sides)
        start = checksum(laws.parameters, needed)
        again = checksum(draws.parameters(0, laws.shapes, needed), needed)
        way = Way.of(opened)
        if prior is not None and prior.called != way.called:
            raise ValueError(
                f"factory: its draws{at} cannot be made as those in the folder out, which was "
                "written by other versions of the libraries"
            )
        sampler = ModelSampler(way.parameters, sides, laws.shapes, way.differ)
        if prior is not None and prior.repeatable and prior.start != again:
            raise ValueError(
                f"factory: draw 0{at} has other weights than the one in the folder out"
            )
        runner = Runner(sampler) if prior is None else Runner(sampler, prior.done, prior.counts)
        earlier, saved = 0.0 if prior is None else prior.seconds, begun

        def cell() -> ModelCell:
            done, counts = runner.snapshot()
            if not sides:  # no single balance can freeze a sign in any draw, so none is made
                counts = replace(ModelCounts.zero(0), networks=networks)
            return ModelCell(
                self.arguments,
                laws.source,
                laws.framework,
                rows,
                distinct_weights(sides),
                counts,
                done,
                self.exact if self.known else way.exact.probability,
                way.exact.shares,
                way.exact.independent,
                way.called,
                beyond,
                undecided,
                again,
                start == again,
                earlier + time.perf_counter() - begun,
                on_data.data,
            )

        def look(number: int) -> None:
            nonlocal saved
            watch(number)
            if time.perf_counter() - saved > keep_seconds:
                keep(cell())
                saved = time.perf_counter()

        try:
            if sides:
                runner.run(networks, threads=1, watch=look)
        finally:
            if runner.counted:
                keep(cell())
        return cell()


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """The first model of a factory with its laws.

    Attributes
    ----------
    draws : Draws
    laws : Laws
    on_data : Judged
        The laws as they are judged, on the span of the training data if there are any.
    sides : tuple of SingleSide
        The sides of balances on which single weights are alone.
    """

    draws: Draws
    laws: Laws
    on_data: Judged
    sides: tuple[SingleSide, ...]

    @classmethod
    def of(
        cls,
        factory: Callable[..., Any],
        arguments: Mapping[str, Any],
        inputs: Any,
        seed: int,
        label: str,
        loss: str | None,
        data: Any = None,
    ) -> OpenedModel:
        """Make the first draw of a factory, and find its laws."""
        draws = Draws(factory, arguments, inputs, seed, label)
        first = draws.model(0)
        draws = draws.like(first)
        prober = prober_of(first, inputs, loss=loss, training=True, seed=0)
        laws = laws_of(prober, first, loss=loss)
        on_data = judged(laws, prober, data)
        return cls(draws, laws, on_data, on_data.sides())


@dataclass(frozen=True, eq=False)
class Way:
    """How the parameters of a draw are made.

    Attributes
    ----------
    parameters : callable
        Returns the parameters in the balances, in the draw of a number.
    exact : ExactSides
        What follows from the laws of these parameters.
    called : str
        Why each draw calls the whole factory; empty if only these parameters are drawn.
    laws : dict of str to Drawn or None
        The laws of the tensors in the balances, empty if they are not known.
    differ : bool
        Whether all draws are known to differ.
    """

    parameters: Callable[[int], Mapping[str, FloatArray]]
    exact: ExactSides
    called: str
    laws: Mapping[str, Drawn | None]
    differ: bool

    @classmethod
    def of(cls, opened: OpenedModel) -> Way:
        """Return the way for a model."""
        draws, sides, shapes = opened.draws, opened.sides, opened.laws.shapes
        needed = needed_for(sides)
        recipes = draws.recipes(shapes, needed)
        if isinstance(recipes, str):
            unknown = ExactSides(math.nan, (math.nan,) * len(sides), (False,) * len(sides))
            whole = partial(draws.parameters, shapes=shapes, needed=needed)
            return cls(whole, unknown, recipes, {}, False)
        laws = opened.on_data.drawn({name: recipe.drawn() for name, recipe in recipes.items()})
        exact = exact_sides(sides, laws, opened.on_data.laws.shapes)
        differ = any(recipe.random for recipe in recipes.values())
        return cls(draws.redraws(recipes), exact, "", laws, differ)


def label_of(arguments: Mapping[str, Any]) -> str:
    """Return the values of the axes as text, on which the seeds of draws depend."""
    return ",".join(f"{name}={value!r}" for name, value in arguments.items())


def _beyond(laws: Laws, sides: Sequence[SingleSide]) -> tuple[int, int]:
    """Return how many weights all balances freeze in the first draw but no single one does."""
    single = set()
    for side in sides:
        frozen = side.ratios(laws.parameters).frozen
        for place in side.places[frozen].reshape(-1).tolist():
            single.add((side.tensor, place))
    found = laws.frozen_scalars
    places = {
        (one.tensor, int(np.ravel_multi_index(one.position, laws.shapes[one.tensor])))
        for one in found.frozen
    }
    return len(places - single), sum(found.undecided.values())
