"""Pictures of networks: what is drawn is read from the artists."""

import itertools

import numpy as np
import pytest
from dag_networks import KINDS, random_network
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from obstruction.dag import Network, drawing
from obstruction.reporting import heatmaps


def artist(ax, gid):
    found = [a for a in ax.collections if a.get_gid() == gid]
    assert len(found) <= 1
    return found[0] if found else None


def drawn_edges(ax, gid, at):
    """Return the ends of the lines of a collection as places of nodes."""
    lines = artist(ax, gid)
    if lines is None:
        return set()
    place = {tuple(xy): v for v, xy in enumerate(at.tolist())}
    return {(place[tuple(s[0])], place[tuple(s[-1])]) for s in lines.get_segments()}


def names_of(net):
    return (*net.inputs, "bias", *net.hidden, *net.outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_every_edge_is_drawn_once_as_what_it_is(kind):
    rng = np.random.default_rng(1)
    net = random_network(rng, 7, kind)
    weights = rng.integers(-3, 4, net.size)
    ax = net.plot(weights)
    found, at = net.frozen_edges(weights), drawing.positions(net)
    names = names_of(net)
    seen = {
        gid: {(names[a], names[b]) for a, b in drawn_edges(ax, gid, at)}
        for gid in ("free", "boundary", "frozen, positive", "frozen, negative")
    }
    assert sum(map(len, seen.values())) == net.size
    assert seen["boundary"] == {one.edge for one in found.boundary}
    assert seen["frozen, positive"] == {one.edge for one in found if one.sign > 0}
    assert seen["frozen, negative"] == {one.edge for one in found if one.sign < 0}
    inside = {v for one in found for v in one.bottleneck}
    halo = artist(ax, "bottlenecks")
    place = {tuple(xy): names[v] for v, xy in enumerate(at.tolist())}
    marked = set() if halo is None else {place[tuple(xy)] for xy in halo.get_offsets().tolist()}
    assert marked == inside
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    expected = [f"{gid} ({len(edges)})" for gid, edges in seen.items() if edges]
    assert words == expected + ["in a bottleneck"] * bool(inside)
    assert ax.get_title().startswith(f"{len(found)} of {net.size} weights frozen: ")


def test_frozen_weights_stand_out_by_colour_and_by_line():
    net = Network.mlp([2, 4, 1])
    ax = net.plot(net.from_layers([np.eye(4, 2), [[2, -2, 0, 3]]]))
    positive, negative, free = (
        artist(ax, gid) for gid in ("frozen, positive", "frozen, negative", "free")
    )
    assert len(positive.get_segments()) == 2
    assert positive.get_linewidth()[0] > 2 * free.get_linewidth()[0]
    assert positive.get_color()[0].tolist() != negative.get_color()[0].tolist()
    assert positive.get_linestyle() != negative.get_linestyle()
    assert artist(ax, "boundary").get_linestyle() != free.get_linestyle()
    assert ax.get_title() == "3 of 12 weights frozen: 8 components"
    assert Network.mlp([2, 1, 2]).plot([1] * 4).get_title() == "0 of 4 weights frozen: 1 component"


def test_bottlenecks_of_several_nodes_are_linked():
    net = Network.mlp([2, 3, 1, 1])
    weights = net.from_layers([np.ones((3, 2)) / 9, [[1, 1, 1]], [[1]]])
    (one,) = [f for f in net.frozen_edges(weights) if len(f.bottleneck) > 1]
    assert one.bottleneck == ("h1.0", "h1.1", "h1.2", "h2.0")
    ax = net.plot(weights)
    wide = [a for a in ax.collections if a.get_gid() is None]
    assert [len(a.get_segments()) for a in wide] == [3]
    assert wide[0].get_zorder() < artist(ax, "free").get_zorder()


@pytest.mark.parametrize("kind", KINDS)
def test_positions(kind):
    rng = np.random.default_rng(2)
    for hidden in (1, 5, 12):
        net = random_network(rng, hidden, kind)
        at = drawing.positions(net)
        assert (at[net.tails, 0] < at[net.heads, 0]).all()  # left to right
        assert set(at[: net.first, 0]) == {0.0}
        assert set(at[net.last :, 0]) == {at[:, 0].max()}
        shown = [v for v in range(net.nodes) if v != net.first - 1 or (net.tails == v).any()]
        assert len({tuple(xy) for xy in at[shown].tolist()}) == len(shown)


def test_few_crossings():
    """Parallel ways given in a muddle come out untangled."""
    rng = np.random.default_rng(3)
    chains = [(f"x{i}", *(f"h{i}.{k}" for k in range(4)), f"y{i}") for i in range(6)]
    edges = [edge for chain in chains for edge in itertools.pairwise(chain)]
    rng.shuffle(edges)
    net = Network.from_edges(
        [tuple(map(str, e)) for e in edges],
        inputs=[c[0] for c in chains],
        outputs=[f"y{i}" for i in rng.permutation(6)],
    )
    at = drawing.positions(net)
    assert drawing._crossings(net, at[:, 0].astype(int), at[:, 1]) == 0


def test_skip_connections_pass_nodes_by():
    net = Network.from_edges(
        [("x", "g"), ("g", "h"), ("h", "y"), ("x", "y")], inputs=["x"], outputs=["y"]
    )
    ax = net.plot([1, 1, 1, 1])
    lines = {len(np.unique(s[:, 1])) > 1 for s in artist(ax, "free").get_segments()}
    assert lines == {True}
    (arch,) = [s for s in artist(ax, "free").get_segments() if np.ptp(s[:, 0]) == 3]
    assert arch[:, 1].max() > 1.0


def test_names_up_to_60_nodes():
    small, large = Network.mlp([10, 20, 20, 10]), Network.mlp([10, 20, 21, 10])
    rng = np.random.default_rng(4)
    ax = small.plot(rng.standard_normal(small.size))
    assert sorted(t.get_text() for t in ax.texts) == sorted({*names_of(small)} - {"bias"})
    assert not large.plot(rng.standard_normal(large.size)).texts
    biased = Network.mlp([2, 2, 1], hidden_bias=True)
    assert "bias" in {t.get_text() for t in biased.plot([1] * biased.size).texts}


def test_names_do_not_overlap():
    """In a figure of its own a network of 60 nodes is legible."""
    net = Network.mlp([10, 20, 20, 10])
    ax = net.plot(np.random.default_rng(5).standard_normal(net.size))
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    overlaps = [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]
    assert not overlaps
    legend = ax.get_legend().get_window_extent()
    assert not any(legend.overlaps(box) for box in boxes)


def test_draws_where_it_is_told_and_is_the_same_each_time(tmp_path):
    net = Network.mlp([3, 4, 2, 1], hidden_bias=True)
    weights = np.random.default_rng(6).standard_normal(net.size)
    files = []
    for i in range(2):
        figure = Figure(figsize=(4, 3), layout="constrained")
        ax = figure.subplots()
        assert net.plot(weights, ax) is ax
        files.append([p.read_bytes() for p in heatmaps.save(figure, tmp_path / f"{i}")])
    assert files[0] == files[1]
    assert isinstance(net.plot(weights), Axes)


def test_no_hidden_nodes():
    ax = Network.mlp([2, 2]).plot([1, 2, 3, 4])
    assert len(artist(ax, "free").get_segments()) == 4


def test_refusals():
    net = Network.mlp([1, 399, 1])
    with pytest.raises(
        ValueError, match=r"^graph: must have at most 400 nodes to be drawn, not 401$"
    ):
        net.plot(np.ones(net.size))
    with pytest.raises(ValueError, match=r"^weights: must be one number for each of 2 edges"):
        Network.mlp([1, 1, 1]).plot([1.0])
