"""Random streams: one independent key for each block of networks, made from a seed.

Networks are numbered 0, 1, 2, ... and divided into blocks of `BLOCK`. Every block has its own
Threefry key, spawned from the seed with `numpy.random.SeedSequence`. Within a block the numbers of
the network, the neuron and the weight are the counter of the generator. The i-th network of a cell
therefore depends neither on the rest of the grid, nor on the threads, the order of the work or the
number of networks.
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
"""Networks that share a key. Every seeded result depends on it, so it must never change."""

_NESTED: Final = 0
_INDEPENDENT: Final = 1
_TILTED: Final = 2
_GRAPH: Final = 3
_MODEL: Final = 4


def nested_path(scheme: InitScheme) -> tuple[int, ...]:
    """Return the branch of the seed's tree from which nested networks of a scheme are drawn.

    It depends only on the laws, so schemes of the same laws share their networks.
    """
    path = (_NESTED, *(law.code for law in scheme.laws))
    return path if scheme.bias_law is None else (*path, scheme.bias_law.code)


def independent_path(scheme: InitScheme, d: int, l: int) -> tuple[int, ...]:
    """Return the branch of the seed's tree from which the networks of a single cell are drawn."""
    return (_INDEPENDENT, zlib.crc32(scheme.label.encode()), d, l)


def tilted_path(hidden: Law, number: int) -> tuple[int, ...]:
    """Return the branch of the seed's tree from which the samples under a tilt are drawn."""
    return (_TILTED, hidden.code, number)


def graph_path() -> tuple[int, ...]:
    """Return the branch of the seed's tree from which the networks of all graphs are drawn.

    The counter names a weight by the place of its edge and by its law.
    """
    return (_GRAPH,)


def model_seed(seed: int, label: str, number: int) -> int:
    """Return the seed below 2^32 of a draw of a model by the code of its library.

    It depends on the seed of a study, on the cell of its grid in words and on the number of the
    draw.
    """
    path = (_MODEL, zlib.crc32(label.encode()), number)
    return int(np.random.SeedSequence(seed, spawn_key=path).generate_state(1, np.uint32)[0])


def block_key(seed: int, path: tuple[int, ...], block: int) -> NDArray[np.uint32]:
    """Return the key of a block, an array of shape (4,).

    The key is the state of the descendant of ``SeedSequence(seed)`` at ``path``, which is a
    `nested_path`, `independent_path`, `tilted_path` or `graph_path`, and ``block``.

    Examples
    --------
    >>> child = np.random.SeedSequence(0).spawn(1)[0].spawn(1)[0].spawn(1)[0].spawn(3)[2]
    >>> bool((block_key(0, (0, 0, 0), 2) == child.generate_state(4)).all())
    True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(*path, block))
    return sequence.generate_state(4, np.uint32).astype(np.uint32, copy=False)


def pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Divide the networks ``start ... stop - 1`` into pieces that lie in one block each.

    A piece ``(block, first, count)`` holds the networks ``first ... first + count - 1`` of a block.

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
