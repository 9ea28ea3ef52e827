"""Networks from text files with one edge per line, as ``tail,head`` or ``tail,head,weight``."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from obstruction.dag.graph.names import BIAS
from obstruction.dag.network import Network


def read_edges(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[str] | None = None,
    outputs: Iterable[str] | None = None,
    hidden_bias: bool = False,
) -> tuple[Network, NDArray[Any] | None]:
    """Return the network that a list of edges describes, and its weights if the file has them.

    Parameters
    ----------
    path : path
        A text file in UTF-8 with one edge per line, ``tail,head`` or ``tail,head,weight``. Empty
        lines and lines that begin with ``#`` are passed over. Weights are integers, fractions such
        as ``1/3``, or decimal numbers. Integers and fractions are kept exactly. An edge from
        ``bias`` is a bias.
    inputs, outputs : iterable of str, optional
        The inputs, by default all nodes but ``bias`` that no edge leads to, and the outputs, by
        default all nodes that no edge leaves. Both are in the order of the file.
    hidden_bias : bool
        Whether to add a bias to each hidden node. This is possible only without weights.

    Returns
    -------
    network : Network
    weights : ndarray or None

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If a line is no edge, if only some edges have weights, or if the edges form no network.
    """
    rows = list(_rows(Path(path)))
    edges = [(tail, head) for tail, head, _ in rows]
    given = [weight for _, _, weight in rows if weight is not None]
    if not edges:
        raise ValueError(f"{path}: holds no edge")
    if given and len(given) < len(edges):
        raise ValueError(f"{path}: {len(given):,} of {len(edges):,} edges have a weight")
    if given and hidden_bias:
        raise ValueError(f"{path}: the edges have weights, so biases must be among them")
    nodes = dict.fromkeys(node for edge in edges for node in edge)
    if inputs is None:
        heads = {head for _, head in edges}
        inputs = [node for node in nodes if node not in heads and node != BIAS]
    if outputs is None:
        tails = {tail for tail, _ in edges}
        outputs = [node for node in nodes if node not in tails]
    net = Network.from_edges(edges, inputs=inputs, outputs=outputs, hidden_bias=hidden_bias)
    return net, net.vector(given) if given else None


def _rows(path: Path) -> Iterable[tuple[str, str, Any]]:
    """Yield tail, head and weight of each edge of a file, None for a weight that is not given."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is no text in UTF-8") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if len(cells) not in (2, 3) or not all(cells):
            raise ValueError(f"{path}, line {number}: must read tail,head or tail,head,weight")
        yield cells[0], cells[1], _weight(path, number, cells[2]) if len(cells) == 3 else None


def _weight(path: Path, number: int, text: str) -> int | Fraction | float:
    for read in (int, Fraction if "/" in text else float):
        try:
            return read(text)
        except (ValueError, ZeroDivisionError):
            continue
    raise ValueError(f"{path}, line {number}: {text!r} is no weight")
