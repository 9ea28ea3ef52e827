"""Draw the models of a factory, and count the signs that their initialisation freezes."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Final

import numpy as np

from obstruction.conservation.live.inputs import short
from obstruction.conservation.live.losses import check_loss
from obstruction.studies.factories.architecture import SAVE_SECONDS, Architecture, label_of
from obstruction.studies.factories.data_sides import check_same_data
from obstruction.studies.factories.keeping import ModelKeeper, Tell, WrittenElsewhere
from obstruction.studies.factories.model_cell import ModelCell
from obstruction.studies.factories.model_folder import check_axes, holds_study, load_models
from obstruction.studies.factories.model_study import ModelStudy
from obstruction.studies.folder import prepare
from obstruction.tools.checks import check_count, check_seed
from obstruction.tools.folder_lock import only_writer

MOST_CELLS: Final = 10_000
"""The largest number of architectures in a grid."""


def sample_model(
    factory: Callable[..., Any],
    *,
    inputs: Any = None,
    networks: Any = 1000,
    seed: Any = 0,
    grid: Mapping[str, Iterable[Any]] | None = None,
    loss: str | None = None,
    data: Any = None,
    exact: float | Callable[..., float] | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> ModelStudy:
    """Draw a model many times by the code of its library, and count frozen signs.

    The laws of the model are found once (`conservation_laws`). Each draw calls the factory afresh,
    and the balances with a single weight on a side tell which of these weights are frozen.

    Parameters
    ----------
    factory : callable
        A function that returns a new model, of the kinds that `conservation_laws` takes. Its random
        numbers must come from the global generators of Python, NumPy or PyTorch, which are seeded
        for each draw, or from a parameter ``seed``, which is then given a whole number below 2^32.
        With a grid it is called with one keyword for each axis.
    inputs : array, tuple, dict or callable
        Example inputs of the model, as in `conservation_laws`, or a function that returns them.
        With a grid, a function is called with the same keywords as the factory.
    networks : int
        The number of draws of each architecture, >= 1.
    seed : int
        The seed, >= 0. A draw depends only on it, on the values of the axes and on its number.
    grid : dict of str to list, optional
        Axes with their values, for instance ``{"width": [8, 16], "depth": [1, 2, 4]}``. There is an
        architecture for each combination of values.
    loss : {"cross_entropy"}, optional
        The loss for which laws are sought, by default any loss. Two logits under cross-entropy have
        frozen signs of their difference.
    data : array or callable, optional
        The training inputs, samples along the first axis, as in `audit`. Weights of a dense layer
        that reads the inputs move in the span of the data only, and balances are those on this
        span. The result says so if the model begins with no such layer, and the data change
        nothing. With a grid, a function is called with the same keywords as the factory.
    exact : float or callable, optional
        The probability, from 0 to 1, that a draw has a frozen sign, if it is known. The verdict
        holds the counts against it. With a grid, a function is called with the same keywords as the
        factory; NaN says that there is none. By default it is computed where the laws of the
        weights are known and have an exact value, see the notes.
    out : path-like, optional
        A folder in which the study is kept during the run and afterwards, and from which
        `load_models` reads it. Besides, it has the tables ``cells.csv`` and ``laws.csv``. If it
        holds the same study, only draws that are missing are made, and architectures that have all
        of theirs are not looked at again. `networks` may be larger, and axes may have more values.
    progress : bool
        Whether to show a bar on the terminal.

    Returns
    -------
    ModelStudy
        Printing it shows the result.

    Raises
    ------
    ValueError
        If an argument is out of its range, if the model cannot be run with the inputs, if draws
        differ in more than the values of their parameters, or if `out` holds another study.
    TypeError
        If the factory returns something that is no model.

    Notes
    -----
    The counts are exact for what one balance alone decides (Nurisso et al. 2024, Prop. 3). Sets of
    several channels can freeze more weights. The first draw is also judged by all balances
    together, and the result says how many further weights are frozen in it. Combinations of linear
    neurons are not looked at.

    Three calls of a factory of PyTorch are recorded: every operation that fills a parameter. If the
    entries of all parameters in these balances were filled independently, by the same operations
    each time, then only these parameters are drawn, by the same operations. Besides, their laws are
    known, and exact probabilities follow for normal, uniform, truncated normal and constant entries
    (`obstruction.exact`). Otherwise each draw calls the factory, the result says why, and the time
    is that of the calls, which run one after another.
    A model is drawn only once if no weight is alone on a side of a balance, since no single balance
    can freeze a sign in any draw.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> from torch import nn  # doctest: +SKIP
    >>> import obstruction as ob  # doctest: +SKIP
    >>> study = ob.sample_model(  # doctest: +SKIP
    ...     lambda width: nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1)),
    ...     inputs=torch.randn(16, 2),
    ...     grid={"width": [8, 32]},
    ...     exact=lambda width: ob.exact.obstruction_probability("torch_linear", 2, width),
    ... )
    >>> study.agreement().verdict  # doctest: +SKIP
    'agrees'
    """
    try:
        return sampled(
            factory,
            inputs=inputs,
            networks=networks,
            seed=seed,
            grid=grid,
            loss=loss,
            data=data,
            exact=exact,
            out=out,
            progress=progress,
        )
    except WrittenElsewhere as error:
        warnings.warn(str(error), RuntimeWarning, stacklevel=2)
        return error.study


def _warn(line: str) -> None:
    warnings.warn(line, RuntimeWarning, stacklevel=2)


def sampled(
    factory: Callable[..., Any],
    *,
    inputs: Any,
    networks: Any,
    seed: Any,
    grid: Mapping[str, Iterable[Any]] | None,
    loss: str | None,
    out: str | os.PathLike[str] | None,
    progress: bool,
    data: Any = None,
    exact: float | Callable[..., float] | None = None,
    origin: Mapping[str, Any] | None = None,
    tell: Tell = _warn,
    keep_seconds: float = SAVE_SECONDS,
) -> ModelStudy:
    """Do what `sample_model` does, and keep the ``origin`` of the factory in the study.

    Unfinished studies are written every ``keep_seconds``. What cannot be written is told.

    Raises
    ------
    WrittenElsewhere
        If the study is complete and cannot be written to its folder.
    """
    if not callable(factory) or (_is_model(factory) and not isinstance(factory, type)):
        raise ValueError(
            f"factory = {short(factory)}: must be a function that returns a new model each time, "
            "for instance lambda: Model()"
        )
    number, chosen = check_count("networks", networks), check_seed(seed)
    check_loss(loss)
    axes = _axes(grid)
    cells = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    _check_call("factory", factory, axes)
    functions: dict[str, Any] = {"inputs": inputs, "data": data, "exact": exact}
    for name, function in functions.items():
        if _is_function(function):
            _check_call(name, function, axes)
    known = [_probability(exact, cell) for cell in cells]
    wanted = ModelStudy((), axes, number, chosen, loss, origin)
    with nullcontext() if out is None else only_writer(out) as lock:
        held = None if out is None else _held(out, wanted)
        if out is not None:
            prepare(out)
        before = {} if held is None else {label_of(cell.arguments): cell for cell in held.cells}
        if held is not None and origin is None:
            wanted = replace(wanted, origin=held.origin)
        keeper = ModelKeeper(out, lock, tell)

        def keep(cell: ModelCell) -> None:
            before[label_of(cell.arguments)] = cell
            keeper.keep(replace(wanted, cells=tuple(before.values())))

        def drawn(cell: dict[str, Any], k: int, watch: Callable[[int], None]) -> ModelCell:
            prior, samples = before.get(label_of(cell)), _given(data, cell)
            if prior is not None:
                check_same_data(prior.data, samples, out=out, at=label_of(cell))
            if prior is not None and prior.counts.networks >= number:
                return prior if exact is None else replace(prior, exact=known[k])
            example = _given(inputs, cell)
            model = Architecture(
                factory, cell, example, chosen, loss, samples, known[k], exact is not None
            )
            return model.drawn(number, prior, watch, keep, keep_seconds)

        try:
            with _bar(progress, number * len(cells)) as move:
                found = [drawn(cell, k, _after(move, k * number)) for k, cell in enumerate(cells)]
            study = replace(wanted, cells=tuple(found))
            keeper.finish(study)
        except BaseException:
            keeper.rescue()
            raise
    return study


def _held(out: str | os.PathLike[str], wanted: ModelStudy) -> ModelStudy | None:
    """Return the study in a folder, which must be the same one, or None if there is none."""
    check_axes(wanted.axes)
    if not holds_study(out):
        return None
    held = load_models(out)
    for name in ("seed", "loss"):
        mine, theirs = getattr(wanted, name), getattr(held, name)
        if mine != theirs:
            raise ValueError(f"out = {out}: holds another study: {name} is {theirs!r} there")
    for name, values in held.axes.items():
        if list(held.axes) != list(wanted.axes) or not set(values) <= set(wanted.axes[name]):
            grid = short(dict(held.axes), most=200)
            raise ValueError(
                f"out = {out}: holds another study: its grid is {grid}, and the grid may only have "
                "more values"
            )
    if bool(held.axes) != bool(wanted.axes):
        raise ValueError(f"out = {out}: holds another study: it has no grid")
    most = max((cell.counts.networks for cell in held.cells), default=0)
    if wanted.networks < most:
        raise ValueError(
            f"networks = {wanted.networks}: {out} holds {most:,} networks already; ask for as many "
            "or more"
        )
    return held


def _axes(grid: Any) -> dict[str, tuple[Any, ...]]:
    """Return the axes of a grid with their values, which must differ."""
    if grid is None:
        return {}
    if not isinstance(grid, Mapping) or not grid:
        raise ValueError(
            f"grid = {short(grid)}: must be a dictionary of axes and their values, for instance "
            "{'width': [8, 16], 'depth': [1, 2]}"
        )
    axes: dict[str, tuple[Any, ...]] = {}
    for name, values in grid.items():
        if not isinstance(name, str) or not name.isidentifier() or name == "seed":
            raise ValueError(f"grid: the axis {name!r} must be a keyword of the factory, not seed")
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise ValueError(f"grid: {name} = {short(values)}: must be a list of values")
        one = tuple(value.item() if isinstance(value, np.generic) else value for value in values)
        if not one or len({repr(value) for value in one}) < len(one):
            raise ValueError(f"grid: {name} = {short(list(one))}: must hold values that differ")
        axes[name] = one
    total = math.prod(map(len, axes.values()))
    if total > MOST_CELLS:
        raise ValueError(f"grid: has {total:,} architectures; at most {MOST_CELLS:,} are allowed")
    return axes


def _check_call(name: str, function: Callable[..., Any], axes: Iterable[str]) -> None:
    """Raise a ValueError if a function cannot be called with a keyword for each axis."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in
        return
    keywords = dict.fromkeys(axes)
    if name == "factory" and "seed" in signature.parameters:
        keywords["seed"] = None
    try:
        signature.bind(**keywords)
    except TypeError as error:
        given = f"with the keywords {', '.join(axes)}" if axes else "without arguments"
        raise ValueError(f"{name}: cannot be called {given} ({error})") from None


def _probability(exact: Any, arguments: Mapping[str, Any]) -> float:
    """Return the exact probability of a cell, NaN if there is none."""
    if exact is None:
        return math.nan
    value = exact(**arguments) if callable(exact) else exact
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not (math.isnan(number) or 0.0 <= number <= 1.0):
        where = "".join(f" at {name} = {value!r}" for name, value in arguments.items())
        raise ValueError(f"exact = {short(value)}{where}: must be a number from 0 to 1, or NaN")
    return number


def _is_model(one: Any) -> bool:
    """Return whether an object is a model already, which is callable as a factory is."""
    return any(hasattr(one, name) for name in ("named_parameters", "trainable_variables"))


def _given(inputs: Any, arguments: Mapping[str, Any]) -> Any:
    """Return inputs or data, which may be given as a function of the values of the axes."""
    return inputs(**arguments) if _is_function(inputs) else inputs


def _is_function(inputs: Any) -> bool:
    return callable(inputs) and not hasattr(inputs, "shape")


def _bar(shown: bool, total: int) -> Any:
    if not shown:
        return nullcontext(lambda number: None)
    from obstruction.tools.progress import Bar

    return Bar(total, 0, " draws")


def _after(move: Callable[[int], None], before: int) -> Callable[[int], None]:
    return lambda number: move(before + number)
