"""Networks on graphs: their order, what they compute, and what they refuse."""

import itertools
from fractions import Fraction

import networkx
import numpy as np
import pytest
from conftest import framework
from dag_networks import KINDS, random_network

from obstruction.dag import BIAS, Graph, Network

DIAMOND = [("x", "g"), ("g", "h"), ("g", "k"), ("h", "y"), ("k", "y"), ("x", "y"), (BIAS, "k")]


def forward(net, weights, x):
    """Compute a network node by node, as one would on paper."""
    w = dict(zip(net.edges, weights, strict=True))

    def value(node):
        if node in net.inputs:
            return x[net.inputs.index(node)]
        if node == BIAS:
            return 1.0
        total = sum(w[a, b] * value(a) for a, b in net.edges if b == node)
        return total if node in net.outputs else max(total, 0.0)

    return [value(node) for node in net.outputs]


# --- order ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_nodes_are_in_topological_order(kind):
    rng = np.random.default_rng(1)
    for _ in range(20):
        net = random_network(rng, int(rng.integers(1, 15)), kind)
        place = {node: i for i, node in enumerate([*net.inputs, BIAS, *net.hidden, *net.outputs])}
        assert len(place) == net.nodes
        assert all(place[a] < place[b] for a, b in net.edges)
        graph = networkx.DiGraph(net.edges)
        assert net.depth == networkx.dag_longest_path_length(graph)
        assert set(net.hidden) == set(graph) - {*net.inputs, *net.outputs, BIAS}
        np.testing.assert_array_equal(net.tails, [place[a] for a, _ in net.edges])
        np.testing.assert_array_equal(net.heads, [place[b] for _, b in net.edges])


def test_edges_stay_in_the_order_given():
    rng = np.random.default_rng(2)
    for _ in range(5):
        order = [DIAMOND[i] for i in rng.permutation(len(DIAMOND))]
        net = Network.from_edges(iter(order), inputs=["x"], outputs=["y"])
        assert net.edges == tuple(order)
        assert net.hidden[0] == "g"
        assert (net.size, net.nodes, net.depth) == (7, 6, 3)
    assert repr(net) == "Network: 1 input, 3 hidden nodes, 1 output, 7 edges"


def test_nodes_may_be_anything_hashable():
    net = Network.from_edges([(1, (0, 0)), ((0, 0), None)], inputs=[1], outputs=[None])
    assert net.hidden == ((0, 0),)
    assert net.evaluate({(1, (0, 0)): 2.0, ((0, 0), None): 3.0}, [[1.0]]).tolist() == [[6.0]]


def test_isolated_inputs_and_outputs_are_allowed():
    net = Network.from_edges([("x", "h"), ("h", "y")], inputs=["x", "z"], outputs=["u", "y"])
    assert net.evaluate([2.0, 3.0], [[1.0, 5.0]]).tolist() == [[0.0, 6.0]]
    empty = Network.from_edges([], inputs=["x"], outputs=["y"])
    assert (empty.size, empty.hidden, empty.depth) == (0, (), 0)
    assert empty.evaluate([], [[1.0]]).tolist() == [[0.0]]
    assert empty.components([]) == 1
    assert not empty.is_singular([])
    assert empty.prune([]).network.size == 0


def test_from_networkx():
    graph = networkx.DiGraph(DIAMOND)
    net = Network.from_networkx(graph)
    assert (net.inputs, net.outputs) == (("x",), ("y",))
    assert net.edges == tuple(graph.edges)
    assert set(net.edges) == set(DIAMOND)
    graph.remove_edge(BIAS, "k")
    net = Network.from_networkx(graph, inputs=["x"], outputs=["y"], hidden_bias=True)
    assert set(net.edges) - set(graph.edges) == {(BIAS, "g"), (BIAS, "h"), (BIAS, "k")}
    for bad in (networkx.Graph(DIAMOND), networkx.MultiDiGraph(DIAMOND), DIAMOND, None):
        with pytest.raises(ValueError, match=r"^graph = .*: must be a networkx.DiGraph$"):
            Network.from_networkx(bad)


# --- what they compute ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_is_the_network(kind):
    rng = np.random.default_rng(3)
    for _ in range(10):
        net = random_network(rng, int(rng.integers(1, 9)), kind)
        weights, x = rng.standard_normal(net.size), rng.standard_normal((4, len(net.inputs)))
        np.testing.assert_allclose(
            net.evaluate(weights, x), [forward(net, weights, row) for row in x], atol=1e-12
        )


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_against_differences(kind):
    rng = np.random.default_rng(4)
    for _ in range(5):
        net = random_network(rng, int(rng.integers(1, 9)), kind)
        weights, x = rng.standard_normal(net.size), rng.standard_normal((5, len(net.inputs)))
        up, h = rng.standard_normal((5, len(net.outputs))), 1e-6
        slopes = [
            ((net.evaluate(weights + h * e, x) - net.evaluate(weights - h * e, x)) * up).sum()
            / (2 * h)
            for e in np.eye(net.size)
        ]
        np.testing.assert_allclose(net.gradient(weights, x, up), slopes, rtol=1e-5, atol=1e-7)


def test_layers_are_matrices():
    rng = np.random.default_rng(5)
    sizes = [3, 5, 4, 2]
    matrices = [rng.standard_normal((n, m)) for m, n in itertools.pairwise(sizes)]
    biases = [rng.standard_normal(n) for n in sizes[1:]]
    x = rng.standard_normal((7, 3))
    for last in (True, False):
        net = Network.mlp(sizes, hidden_bias=True, output_bias=last)
        given = biases if last else [*biases[:-1], None]
        values = x
        for i, (matrix, bias) in enumerate(zip(matrices, given, strict=True)):
            values = values @ matrix.T + (0.0 if bias is None else bias)
            values = values if i == 2 else np.maximum(values, 0.0)
        np.testing.assert_allclose(net.evaluate(net.from_layers(matrices, given), x), values)
    assert Network.mlp([2, 1]).edges == (("x0", "y0"), ("x1", "y0"))
    with pytest.raises(ValueError, match=r"^biases: must be at most 1 arrays, not 3$"):
        net.from_layers(matrices[:1], biases)
    with pytest.raises(ValueError, match=r"^matrices: must be 3 arrays, not 2$"):
        net.from_layers(matrices[:2], biases[:2])
    turned = [matrices[0].T, *matrices[1:]]
    with pytest.raises(ValueError, match=r"^matrices\[0\]: must have the shape "):
        net.from_layers(turned, biases)


@pytest.mark.parametrize("bias", [True, False])
def test_torch_has_the_same_order_outputs_and_gradients(bias):
    torch = framework("torch")
    torch.manual_seed(0)
    sizes = [3, 4, 2, 5, 2]
    layers = []
    for m, n in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(m, n, bias=bias, dtype=torch.float64), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    weights = torch.nn.utils.parameters_to_vector(model.parameters())
    net = Network.mlp(sizes, hidden_bias=bias, output_bias=bias)
    x, up = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
    out = model(x)
    (out * up).sum().backward()
    flat = weights.detach().numpy()
    np.testing.assert_allclose(net.evaluate(flat, x.numpy()), out.detach().numpy(), atol=1e-12)
    slopes = torch.nn.utils.parameters_to_vector([p.grad for p in model.parameters()]).numpy()
    np.testing.assert_allclose(net.gradient(flat, x.numpy(), up.numpy()), slopes, atol=1e-12)


def test_torch_agrees_on_a_graph_with_skips():
    torch = framework("torch")
    net = Network.from_edges(DIAMOND, inputs=["x"], outputs=["y"])
    rng = np.random.default_rng(6)
    weights, x = rng.standard_normal(7), rng.standard_normal((9, 1))
    w = torch.tensor(weights, requires_grad=True)
    t = torch.tensor(x[:, 0])
    g = torch.relu(w[0] * t)
    h, k = torch.relu(w[1] * g), torch.relu(w[2] * g + w[6])
    y = w[3] * h + w[4] * k + w[5] * t
    y.sum().backward()
    np.testing.assert_allclose(net.evaluate(weights, x)[:, 0], y.detach().numpy())
    np.testing.assert_allclose(net.gradient(weights, x, np.ones((9, 1))), w.grad.numpy())


# --- balances and weights ------------------------------------------------------------------------


def test_balances_are_in_less_out():
    rng = np.random.default_rng(7)
    for kind in KINDS:
        net = random_network(rng, 6, kind)
        whole = rng.integers(-4, 5, net.size)
        expected = [
            sum(
                int(w) ** 2 * ((b == v) - (a == v))
                for w, (a, b) in zip(whole, net.edges, strict=True)
            )
            for v in net.hidden
        ]
        for weights in (
            whole,
            whole.tolist(),
            dict(zip(net.edges, whole.tolist(), strict=True)),
            dict(reversed(list(zip(net.edges, whole.tolist(), strict=True)))),
            [Fraction(int(w)) for w in whole],
        ):
            found = net.balances(weights)
            assert found.tolist() == expected
            assert found.dtype == object
        assert net.balances(whole.astype(float)).dtype == np.float64
        np.testing.assert_allclose(net.balances(whole.astype(np.float32)), expected)
        np.testing.assert_array_equal(net.incidence() @ (whole * whole), expected)


def test_whole_numbers_do_not_overflow():
    net = Network.mlp([1, 1, 1])
    assert net.balances(np.array([2**40, 1])).tolist() == [2**80 - 1]
    assert net.balances(np.array([255, 1], dtype=np.uint8)).tolist() == [255**2 - 1]


def test_wide_networks():
    net = Network.mlp([1, 100_000, 1])
    assert net.size == 200_000
    assert (net.hidden[0], net.hidden[-1]) == ("h1.0", "h1.99999")
    weights = np.ones(net.size)
    assert net.evaluate(weights, [[1.0]]).tolist() == [[100_000.0]]
    weights[0] = 2.0
    assert [one.edge for one in net.frozen_edges(weights)] == [("x0", "h1.0")]


def test_long_networks_are_no_deep_recursion():
    net = Network.mlp([1] * 2000)
    assert net.depth == 1999
    assert net.evaluate(np.ones(1999), [[3.0]]).tolist() == [[3.0]]
    net = Network.mlp([1] * 200)
    assert net.components(np.arange(1.0, 200.0)) == 2**198


# --- refusals ------------------------------------------------------------------------------------


def build(edges, inputs=("x",), outputs=("y",)):
    return Network.from_edges(edges, inputs=inputs, outputs=outputs)


GOOD = [("x", "h"), ("h", "y")]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (
            [*GOOD, ("h", "k"), ("k", "h")],
            r"^edges: must have no cycle: (h -> k -> h|k -> h -> k)$",
        ),
        ([*GOOD, ("h", "h")], "^edges: must have no cycle: h -> h$"),
        ([*GOOD, ("h", "x")], "^edges: no edge may lead into the inputs or the bias: x$"),
        ([*GOOD, ("h", BIAS)], "^edges: no edge may lead into the inputs or the bias: bias$"),
        ([*GOOD, ("y", "h")], "^edges: no edge may lead out of the outputs: y$"),
        ([*GOOD, ("x", "h")], "^edges: given twice: x -> h$"),
        ([*GOOD, ("x", "k")], "^edges: hidden nodes that lead to no output: k$"),
        (
            [*GOOD, ("k", "y"), ("l", "k")],
            "^edges: hidden nodes that neither an input nor a bias reaches: [kl], [kl]$",
        ),
        ([*GOOD, "ab"], r"^edges\[2\] = 'ab': must be a pair \(tail, head\) of nodes$"),
        ([*GOOD, 3], r"^edges\[2\] = 3: must be a pair"),
        ([*GOOD, (1, 2, 3)], r"^edges\[2\] = \(1, 2, 3\): must be a pair"),
        ([*GOOD, ([], "y")], r"^edges\[2\] = \(\[\], 'y'\): must be a pair"),
        ("xh", "^edges = 'xh': must be a sequence$"),
        (None, "^edges = None: must be a sequence$"),
    ],
)
def test_bad_edges(edges, message):
    with pytest.raises(ValueError, match=message):
        build(edges)


def test_long_cycles_are_named_in_short():
    ring = [(f"k{i}", f"k{(i + 1) % 300}") for i in range(300)]
    with pytest.raises(ValueError, match=r"^edges: must have no cycle: k\d+ -> .* \.\.\. -> ") as e:
        build([*GOOD, *ring, ("x", "k0")])
    assert len(str(e.value)) < 200
    # a way out of the cycle and a way into it are not part of it
    with pytest.raises(ValueError, match=r"cycle: (k|l|m)( -> (k|l|m)){3}$"):
        build([*GOOD, ("x", "k"), ("k", "l"), ("l", "m"), ("m", "k"), ("m", "n"), ("n", "y")])


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([], ["y"], r"^inputs = \[\]: must hold at least one node$"),
        (["x"], [], r"^outputs = \[\]: must hold at least one node$"),
        ("x", ["y"], "^inputs = 'x': must be a sequence$"),
        (["x"], "y", "^outputs = 'y': must be a sequence$"),
        (1, ["y"], "^inputs = 1: must be a sequence$"),
        (["x", "x"], ["y"], "^inputs: must not name a node twice$"),
        (["x"], ["y", "y"], "^outputs: must not name a node twice$"),
        (["x", BIAS], ["y"], "^inputs: must not hold the node 'bias', which is the constant 1$"),
        (["x"], ["y", BIAS], "^outputs: must not hold the node 'bias', which is the constant 1$"),
        (["x", []], ["y"], "^inputs: nodes must be hashable$"),
        (["x"], ["y", {}], "^outputs: nodes must be hashable$"),
        (["x", "y"], ["y"], "^outputs: y must not be inputs or the bias as well$"),
    ],
)
def test_bad_ends(inputs, outputs, message):
    with pytest.raises(ValueError, match=message):
        build(GOOD, inputs, outputs)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ([], r"^widths = \[\]: must hold at least the inputs and the outputs$"),
        ([3], r"^widths = \[3\]: must hold at least the inputs"),
        ([3, 0, 1], r"^widths\[1\] = 0: must be a whole number of at least 1$"),
        ([3, 1.5, 1], r"^widths\[1\] = 1.5: must be a whole number"),
        ([3, "a", 1], r"^widths\[1\] = 'a': must be a whole number"),
        (3, "^widths = 3: must be a sequence$"),
        ("3,1", "^widths = '3,1': must be a sequence$"),
    ],
)
def test_bad_widths(widths, message):
    with pytest.raises(ValueError, match=message):
        Network.mlp(widths)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"^weights: must be one number for each of 2 edges, not of shape \(1,\)$"),
        ([1, 2, 3], r"^weights: must be one number for each of 2 edges, not of shape \(3,\)$"),
        (np.ones((2, 1)), r"not of shape \(2, 1\)$"),
        ([1.0, np.nan], "^weights: the value for h -> y must be finite, not nan$"),
        ([np.inf, 1.0], "^weights: the value for x -> h must be finite, not inf$"),
        ([1.0, "a"], "^weights: the value for h -> y must be a number, not 'a'$"),
        ([1.0, None], "^weights: the value for h -> y must be a number, not None$"),
        ([1.0, 1j], "^weights: the value for h -> y must be a number, not 1j$"),
        ("ab", "^weights = 'ab': must be a sequence$"),
        (1.0, "^weights = 1.0: must be a sequence$"),
        (np.float64(1.0), "^weights = .*1.0.*: must be a sequence$"),
        (None, "^weights = None: must be a sequence$"),
        ({("x", "h"): 1}, "^weights: must have a weight for h -> y$"),
        (
            {("x", "h"): 1, ("h", "y"): 1, ("x", "y"): 1},
            "^weights: must have keys that are edges of this network, not x -> y$",
        ),
        (
            {("x", "h"): 1, ("h", "y"): np.nan},
            "^weights: the value for h -> y must be finite, not nan$",
        ),
    ],
)
def test_bad_weights(weights, message):
    net = build(GOOD)
    for call in (net.vector, net.balances, net.frozen_edges, net.is_singular, net.prune):
        with pytest.raises(ValueError, match=message):
            call(weights)


@pytest.mark.parametrize("x", [[1.0], 1.0, [[1.0, 2.0]], np.ones((1, 1, 1))])
def test_bad_points(x):
    net = build(GOOD)
    with pytest.raises(ValueError, match=r"^X: must have the shape \(points, 1\), with one column"):
        net.evaluate([1, 1], x)


def test_upstream_must_fit():
    net = build(GOOD)
    for upstream in (np.ones((3, 1)), np.ones(2), np.ones((2, 2))):
        with pytest.raises(ValueError, match=r"^upstream: must have the shape \(2, 1\), not "):
            net.gradient([1, 1], [[1.0], [2.0]], upstream)


def test_a_graph_is_enough():
    graph = Graph(GOOD, inputs=["x"], outputs=["y"])
    assert repr(graph) == "Graph: 1 input, 1 hidden node, 1 output, 2 edges"
    assert graph.on_paths(np.array([True, False])).tolist() == [False, False]
