"""Random streams: from a seed to one independent key per block of networks.

Networks are numbered 0, 1, 2, ... and cut into blocks of `BLOCK`. Every block has its own
Threefry key, spawned from the seed with `numpy.random.SeedSequence`, and inside a block the
network, neuron and weight are the generator's counter. So the i-th network of a cell is the same
whatever the grid around it, the number of threads, the order of the work and the number of
networks asked for.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from obstruction.schemes import InitScheme
from obstruction.schemes.laws import Law

BLOCK: Final = 1024
"""Networks that share a key. Part of the definition of every seeded result; never changes."""

_NESTED: Final = 0
_INDEPENDENT: Final = 1
_TILTED: Final = 2
_GRAPH: Final = 3


def nested_path(scheme: InitScheme) -> tuple[int, ...]:
    """Return the branch of the seed's tree from which nested networks of a scheme are drawn.

    It depends on the laws alone: schemes of the same laws share their networks.
    """
    path = (_NESTED, *(law.code for law in scheme.laws))
    return path if scheme.bias_law is None else (*path, scheme.bias_law.code)


def independent_path(scheme: InitScheme, d: int, l: int) -> tuple[int, ...]:
    """Return the branch of the seed's tree that belongs to one cell alone."""
    return (_INDEPENDENT, zlib.crc32(scheme.label.encode()), d, l)


def tilted_path(hidden: Law, number: int) -> tuple[int, ...]:
    """Return the branch of the seed's tree from which the samples under a tilt are drawn."""
    return (_TILTED, hidden.code, number)


def graph_path() -> tuple[int, ...]:
    """Return the branch of the seed's tree from which networks on graphs are drawn.

    It is the same for all: a weight is named by its edge's place and its law.
    """
    return (_GRAPH,)


def block_key(seed: int, path: tuple[int, ...], block: int) -> NDArray[np.uint32]:
    """Return the key of a block: the state of ``SeedSequence(seed)``'s descendant at its path.

    Parameters
    ----------
    seed : int
        The seed of the study, >= 0.
    path : tuple of int
        `nested_path`, `independent_path`, `tilted_path` or `graph_path`.
    block : int
        The number of the block, >= 0.

    Returns
    -------
    ndarray of uint32, shape (4,)

    Examples
    --------
    >>> child = np.random.SeedSequence(0).spawn(1)[0].spawn(1)[0].spawn(1)[0].spawn(3)[2]
    >>> bool((block_key(0, (0, 0, 0), 2) == child.generate_state(4)).all())
    True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(*path, block))
    return sequence.generate_state(4, np.uint32).astype(np.uint32, copy=False)


def pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Cut the networks ``start ... stop - 1`` at the block boundaries.

    Yields
    ------
    (block, first, count) : tuple of int
        ``count`` networks from the ``first`` of the block on.

    Examples
    --------
    >>> list(pieces(1000, 2100))
    [(0, 1000, 24), (1, 0, 1024), (2, 0, 52)]
    """
    while start < stop:
        block, first = divmod(start, BLOCK)
        count = min(BLOCK - first, stop - start)
        yield block, first, count
        start += count
