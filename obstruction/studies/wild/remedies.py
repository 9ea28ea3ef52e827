"""The smallest change of an initialisation after which few draws have a frozen sign.

The weights that are frozen are multiplied by a factor, as close to 1 as possible. Where the laws of
all weights in their balances are known, the factor solves for the exact probability. Elsewhere it
comes from the largest ratios of both sides in draws, which are proportional to its square. Either
way, fresh draws with the changed weights verify it.

If both sides of a balance are single weights, one of the two is frozen in any case, and no factor
helps.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from obstruction.sampling import streams
from obstruction.sampling.inference import binomial
from obstruction.studies.factories.architecture import OpenedModel, Way
from obstruction.studies.factories.draws import takes_seed
from obstruction.studies.factories.exact_sides import exact_sides
from obstruction.studies.factories.recipes import Drawn
from obstruction.studies.factories.sampling_models import sample_model
from obstruction.studies.factories.single_sides import SingleSide
from obstruction.studies.wild.architecture import Architecture
from obstruction.tools.files import whole_file, writing_to

RISK: Final = 1e-3
"""The probability of a draw with a frozen sign after the change."""

FILE: Final = "remedies.json"
"""The file in which changes are kept."""

_LEAST: Final = 1e-8
"""The smallest factor that is tried."""
_TRIED: Final = 2000
"""The number of draws whose ratios give a factor where there is no exact value."""
_CALLED: Final = 1000
"""The most fresh draws of a factory that has to be called for each, and of large models."""
_LARGE: Final = 10**6
"""The number of parameters above which a model is large."""


@dataclass(frozen=True)
class Remedy:
    """A change of the initialisation of an architecture.

    Attributes
    ----------
    networks_asked, seed : int
        What `remedy` was asked for.
    tensors : tuple of str
        The parameters that are multiplied.
    factor : float
        The factor; NaN if none helps.
    exact : float
        The exact probability of a frozen sign after the change; NaN if it is not known.
    networks, obstructed : int
        Fresh draws after the change, and those of them with a frozen sign.
    """

    networks_asked: int
    seed: int
    tensors: tuple[str, ...]
    factor: float
    exact: float
    networks: int
    obstructed: int

    @property
    def bound(self) -> float:
        """The upper end of the 95 % interval of the probability, from the fresh draws."""
        return float(binomial.interval(self.obstructed, self.networks)[1])


def remedy(
    one: Architecture,
    *,
    networks: int,
    seed: int = 0,
    risk: float = RISK,
) -> Remedy:
    """Return the smallest change of an architecture's initialisation, verified by draws.

    Parameters
    ----------
    one : Architecture
    networks : int
        The number of fresh draws.
    seed : int
    risk : float
        The probability of a draw with a frozen sign to allow, between 0 and 1.
    """
    asked, inputs, first = networks, one.inputs(), streams.model_seed(seed, one.name, 0)
    opened = OpenedModel.of(one.factory, {}, inputs, first, "", one.loss)
    way = Way.of(opened)
    if way.called or sum(map(math.prod, opened.laws.shapes.values())) > _LARGE:
        networks = min(networks, _CALLED)
    if way.called or math.isnan(_probability(opened, way.laws, (), 1.0)):
        tensors, factor = _from_draws(opened, way, risk)
    else:
        tensors, factor = _from_laws(opened, way, risk)
    if math.isnan(factor):
        return Remedy(asked, seed, tensors, math.nan, math.nan, 0, 0)
    places = {name: list(opened.laws.shapes).index(name) for name in tensors}
    study = sample_model(
        scaled(one.factory, places, factor),
        inputs=inputs,
        networks=networks,
        seed=streams.model_seed(seed, one.name, 1),
        loss=one.loss,
    )
    (cell,) = study.cells
    counts = cell.counts
    return Remedy(asked, seed, tensors, factor, cell.exact, counts.networks, counts.obstructed)


def keep(remedies: Mapping[str, Remedy], path: str | os.PathLike[str]) -> None:
    """Write changes of architectures to a folder, from which `kept` reads them."""
    entries = {name: asdict(one) for name, one in remedies.items()}
    text = json.dumps(entries, indent=1, ensure_ascii=False) + "\n"
    with writing_to(path):
        Path(path).mkdir(parents=True, exist_ok=True)
        with whole_file(Path(path) / FILE) as stream:
            stream.write(text.encode())


def kept(path: str | os.PathLike[str]) -> dict[str, Remedy]:
    """Read changes of architectures from a folder; there are none without the file.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    file = Path(path) / FILE
    if not file.exists():
        return {}
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {name: _remedy(**one) for name, one in entries.items()}
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{file}: damaged ({error})") from None


def _remedy(
    networks_asked: int,
    seed: int,
    tensors: Sequence[str],
    factor: float,
    exact: float,
    networks: int,
    obstructed: int,
) -> Remedy:
    """Return a change with values of the right types, as the file may have others."""
    if not all(isinstance(name, str) for name in tensors):
        raise TypeError(f"tensors = {tensors!r:.80}")
    asked, drawn = (int(networks_asked), int(seed)), (int(networks), int(obstructed))
    return Remedy(*asked, tuple(tensors), float(factor), float(exact), *drawn)


def _from_laws(opened: OpenedModel, way: Way, risk: float) -> tuple[tuple[str, ...], float]:
    """Return the parameters and the factor for which the exact probability is the risk."""
    sizes = np.array([side.channels.size for side in opened.sides])
    certain = -np.expm1(sizes * np.log1p(-np.minimum(way.exact.shares, 1.0 - 1e-16)))
    own = _owners(opened.sides, certain > risk / (2.0 * len(sizes)))

    def fits(factor: float) -> bool:
        return _probability(opened, way.laws, own, factor) <= risk

    return own, _largest(fits, 1e-8)


def _probability(
    opened: OpenedModel, laws: Mapping[str, Drawn | None], own: Sequence[str], factor: float
) -> float:
    """Return the probability with some parameters multiplied, or a bound on it."""
    changed = dict(laws)
    for name in own:
        drawn = laws[name]
        changed[name] = None if drawn is None else Drawn(drawn.law, factor * drawn.scale)
    found = exact_sides(opened.sides, changed, opened.on_data.laws.shapes)
    if not math.isnan(found.probability):
        return found.probability
    numbers = [side.channels.size for side in opened.sides]
    bound = math.fsum(map(math.prod, zip(numbers, found.shares, strict=True)))
    return bound if math.isnan(bound) else min(1.0, bound)


def _from_draws(opened: OpenedModel, way: Way, risk: float) -> tuple[tuple[str, ...], float]:
    """Return the parameters and the factor for which few of the ratios in draws exceed 1."""
    draws = [dict(way.parameters(number)) for number in (0, 1)]
    if all(np.array_equal(draws[0][name], draws[1][name]) for name in draws[0]):
        draws = draws[:1]  # all start with the same weights
    else:
        draws += [dict(way.parameters(number)) for number in range(2, _TRIED)]
    certain = np.array(
        [np.mean([side.ratios(draw).frozen.any() for draw in draws]) for side in opened.sides]
    )
    own = _owners(opened.sides, certain > 0.0)

    def fits(factor: float) -> bool:
        obstructed = 0
        for draw in draws:
            changed = {**draw, **{name: factor * draw[name] for name in own}}
            obstructed += any(side.ratios(changed).frozen.any() for side in opened.sides)
        return obstructed <= risk / 2.0 * len(draws)

    return own, _largest(fits, 1e-3)


def _owners(sides: Sequence[SingleSide], chosen: Any) -> tuple[str, ...]:
    names = (side.tensor for side, one in zip(sides, chosen, strict=True) if one)
    return tuple(dict.fromkeys(names))


def _largest(fits: Callable[[float], bool], error: float) -> float:
    """Return the largest factor below 1 that fits, NaN if even a tiny one does not."""
    low, high = math.log(_LEAST), 0.0
    if not fits(_LEAST):
        return math.nan
    while high - low > error:
        middle = (low + high) / 2.0
        low, high = (middle, high) if fits(math.exp(middle)) else (low, middle)
    return math.exp(low)


def scaled(
    factory: Callable[..., Any], places: Mapping[str, int], factor: float
) -> Callable[..., Any]:
    """Return a factory whose models have some parameters multiplied.

    Parameters
    ----------
    factory : callable
        Returns a module of PyTorch, a model of Keras, or a pair of JAX.
    places : dict of str to int
        The names of the parameters and their places among all trained ones, by which models of
        Keras are read, as these have other names each time.
    factor : float
    """

    def changed(**arguments: Any) -> Any:
        model = factory(**arguments)
        if hasattr(model, "trainable_weights"):
            for place in places.values():
                weight = model.trainable_weights[place]
                weight.assign(weight * factor)
            return model
        if hasattr(model, "named_parameters"):
            parameters = dict(model.named_parameters())
            for name in places:
                parameters[name].data.mul_(factor)
            return model
        return _scaled_pair(model, set(places), factor)

    if takes_seed(factory):
        return lambda seed: changed(seed=seed)
    return lambda: changed()


def _scaled_pair(model: Any, names: set[str], factor: float) -> Any:
    import jax

    from obstruction.conservation.live.jax_parameters import ParameterTree

    apply, params = model
    leaves, structure = jax.tree_util.tree_flatten(params)
    known = ParameterTree(params).names
    if len(known) != len(leaves):
        raise ValueError(f"the parameters have {len(leaves)} leaves and {len(known)} names")
    changed = [
        leaf * factor if name in names else leaf for name, leaf in zip(known, leaves, strict=True)
    ]
    return apply, jax.tree_util.tree_unflatten(structure, changed)
