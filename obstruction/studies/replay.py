"""Draw the weights of a network that was counted in a study again."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling import orthogonal, streams
from obstruction.sampling.config import StudyConfig
from obstruction.sampling.kernels import networks as kernels
from obstruction.sampling.thresholds import law_codes
from obstruction.schemes import InitScheme, as_scheme
from obstruction.studies.study import Study
from obstruction.tools.checks import LARGEST_SIZE, check_choice, check_count, check_seed
from obstruction.tools.workers import check_room


class Weights(NamedTuple):
    """The weights of a network.

    Attributes
    ----------
    W1 : ndarray of float64, shape (l, d)
        The hidden weights.
    W2 : ndarray of float64, shape (1, l)
        The output weights.
    b1 : ndarray of float64, shape (l,), or None
        The hidden biases, or None if the scheme has none.
    """

    W1: NDArray[np.float64]
    W2: NDArray[np.float64]
    b1: NDArray[np.float64] | None


def replay(
    source: Study | StudyConfig | str | os.PathLike[str] | int,
    *,
    network: Any,
    d: Any,
    l: Any,
    scheme: str | InitScheme | None = None,
    plan: str = "nested",
) -> Weights:
    """Return the weights of one network of a cell, exactly as it was counted.

    Parameters
    ----------
    source : Study, StudyConfig, path or int
        The study, its configuration, the folder it was written to, or only its seed.
    network : int
        The index of the network in its cell, >= 0. It may be beyond those that were counted.
    d, l : int
        The cell. If the source is a study, the cell must be on its grid.
    scheme : str or InitScheme, optional
        The scheme of the cell. It is required if the source is a seed or has several schemes.
    plan : {"nested", "independent"}
        The sampling plan if the source is a seed. A study has its own.

    Returns
    -------
    Weights
        ``(W1, W2, b1)`` of shapes ``(l, d)``, ``(1, l)`` and ``(l,)``.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the study has no such cell.

    Notes
    -----
    The sampler does not draw signs, and stops to draw the weights of a neuron as soon as the neuron
    cannot be pathological in any cell. What it leaves out comes from the same random streams, so
    that it is reproducible too.

    Examples
    --------
    >>> import numpy as np
    >>> W1, W2, _ = replay(0, network=7, d=3, l=5, scheme="kaiming_normal")
    >>> int(((W1**2).sum(axis=1) < W2[0] ** 2).sum())
    1
    """
    if isinstance(source, (str, os.PathLike)):
        from obstruction.studies.folder import load

        source = load(source)
    if isinstance(source, Study):
        source = source.config
    d = check_count("d", d, most=LARGEST_SIZE)
    l = check_count("l", l, most=LARGEST_SIZE)
    network = check_count("network", network, least=0)
    if isinstance(source, StudyConfig):
        chosen, plan, seed = _scheme_of(source, scheme), source.plan, source.seed
        for name, size, axis in (("d", d, source.d), ("l", l, source.l)):
            if size not in axis:
                raise ValueError(f"{name} = {size}: not on the grid of this study")
    else:
        seed = check_seed(source)
        if scheme is None:
            raise ValueError("scheme = None: must be given if the source is a seed")
        chosen = as_scheme(scheme)
        check_choice("plan", plan, ("nested", "independent"))
    if plan == "nested":
        path = streams.nested_path(chosen)
    else:
        path = streams.independent_path(chosen, d, l)
    check_room(f"d, l: a network of {l:,} neurons with {d:,} inputs each", 40 * l * (d + 4))
    block, index = divmod(network, streams.BLOCK)
    key = streams.block_key(seed, path, block)
    hidden, output, bias = _unscaled(key, index, d, l, chosen)
    if chosen.has_bias:
        bias = np.sqrt(chosen.bias_variance(d, l)) * bias
    return Weights(
        np.sqrt(chosen.hidden_variance(d, l)) * hidden,
        np.sqrt(chosen.output_variance(d, l)) * output[None, :],
        bias if chosen.has_bias else None,
    )


def _unscaled(
    key: NDArray[np.uint32], network: int, d: int, l: int, scheme: InitScheme
) -> tuple[NDArray[np.float64], ...]:
    """Return weights and biases of mean square 1, of shapes ``(l, d)``, ``(l,)`` and ``(l,)``."""
    bias = np.zeros(l)
    if not scheme.independent:
        return *orthogonal.draw(key, network, d, l), bias
    square = np.empty((l, 4 * (d // 4 + 1)))
    sign = np.empty_like(square)
    kernels.draw_network(key, law_codes(scheme), network, square, sign, bias)
    weights = sign * np.sqrt(square)
    return weights[:, 1 : d + 1], weights[:, 0], bias


def _scheme_of(config: StudyConfig, scheme: str | InitScheme | None) -> InitScheme:
    labels = ", ".join(one.label for one in config.schemes)
    if scheme is None:
        if len(config.schemes) == 1:
            return config.schemes[0]
        raise ValueError(f"scheme = None: must name one of the study's schemes: {labels}")
    chosen = as_scheme(scheme)
    if chosen not in config.schemes:
        raise ValueError(f"scheme = {chosen.label!r}: this study has {labels}")
    return chosen
