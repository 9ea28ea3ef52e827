"""Models that are no chains, read as networks of nodes: the same function, the right ends."""

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import framework
from scipy.optimize import linprog

from obstruction import audit, models
from obstruction.cli import cli
from obstruction.dag import from_model, sample_dag
from obstruction.dag.from_models.from_operations import from_operations, has_branches
from obstruction.models import ReadOptions
from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    Join,
    NoChain,
    NothingAuditable,
    Operation,
    Tensor,
    UnreadableModel,
)
from obstruction.models.operations.graphs import operation_graph


def contents(nodes, results, **shapes):
    """Return contents with random weights, named by layer: ``a=(outputs, inputs)``."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        tensors[name] = Tensor(name, rng.standard_normal(shape), "float64")
        tensors[f"{name}.b"] = Tensor(f"{name}.b", rng.standard_normal(shape[:1]), "float64")
    return Contents("test", tensors, graph=operation_graph(nodes, list(results)))


def dense(name, *, bias=True, **options):
    return Dense(name, name, f"{name}.b" if bias else None, layout="out_in", **options)


RELU = Activation("relu")


def op(inputs, output, *steps):
    return Operation(tuple(inputs.split()), (output,), steps)


SKIP = (
    op("x", "h", dense("a"), RELU),
    op("h", "z", dense("b")),
    op("x", "s", dense("s")),
    op("z s", "t", Join("add", "meets", "sum")),
    op("t", "g", RELU),
    op("g", "y", dense("o")),
)
SIZES = {
    "a": (5, 4),
    "b": (3, 5),
    "s": (3, 4),
    "o": (1, 3),
    "o2": (3, 4),
    "r": (3, 3),
    "b2": (2, 3),
}


def test_layers_that_are_added_up():
    told = contents(SKIP, ["y"], **SIZES)
    assert has_branches(told)
    net, weights, _, _, notes = from_operations(told)
    assert (len(net.inputs), len(net.hidden), net.outputs, notes) == (4, 8, ("o.0",), ())
    assert net.hidden == ("a.0", "a.1", "a.2", "a.3", "a.4", "b+s.0", "b+s.1", "b+s.2")
    w = {name: tensor.array for name, tensor in told.tensors.items()}
    x = np.random.default_rng(1).standard_normal((9, 4))
    h = np.maximum(x @ w["a"].T + w["a.b"], 0)
    g = np.maximum(h @ w["b"].T + w["b.b"] + x @ w["s"].T + w["s.b"], 0)
    np.testing.assert_allclose(net.evaluate(weights, x), g @ w["o"].T + w["o.b"], rtol=1e-12)
    # both biases are ways into the node
    c = (w["b"] ** 2).sum(1) + w["b.b"] ** 2 + (w["s"] ** 2).sum(1) + w["s.b"] ** 2 - w["o"][0] ** 2
    np.testing.assert_allclose(net.balances(weights)[5:], c, rtol=1e-12)


def test_outputs_side_by_side():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("x h", "j", Join("cat", "meets", "concat")),
        op("j", "y", dense("o", bias=False)),
    )
    told = contents(nodes, ["y"], a=(5, 4), o=(2, 9))
    net, weights, *_ = from_operations(told)
    assert (len(net.inputs), len(net.hidden), net.size) == (4, 5, 5 * 4 + 5 + 2 * 9)
    w = {name: tensor.array for name, tensor in told.tensors.items()}
    x = np.random.default_rng(1).standard_normal((9, 4))
    h = np.maximum(x @ w["a"].T + w["a.b"], 0)
    np.testing.assert_allclose(net.evaluate(weights, x), np.hstack([x, h]) @ w["o"].T, rtol=1e-12)


def test_what_keeps_no_balance_ends_the_network_there():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "p", dense("b"), Activation("sigmoid")),
        op("p", "q", dense("o"), RELU),
        op("q", "n", Barrier("norm", "normalises")),
        op("n", "y", dense("r")),
        op("h", "k", dense("s")),
    )
    told = contents(nodes, ["y", "k"], a=(5, 4), b=(3, 5), o=(2, 3), r=(1, 2), s=(3, 5))
    assert has_branches(told)
    net, weights, _, _, notes = from_operations(told)
    # behind the sigmoid and the norm inputs come in; what enters the norm is used as it is
    assert net.hidden == ("a.0", "a.1", "a.2", "a.3", "a.4")
    assert (len(net.inputs), len(net.outputs)) == (4 + 3 + 2, 3 + 2 + 1 + 3)
    assert notes == (
        "sigmoid is not positively homogeneous: a neuron cannot be rescaled and keeps no balance",
        "norm: normalises",
    )
    w = {name: tensor.array for name, tensor in told.tensors.items()}
    c = (w["a"] ** 2).sum(1) + w["a.b"] ** 2 - (w["b"] ** 2).sum(0) - (w["s"] ** 2).sum(0)
    np.testing.assert_allclose(net.balances(weights), c, rtol=1e-12)


def test_a_hidden_layer_that_is_returned_keeps_no_balance():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "g", dense("b"), RELU),
        op("g", "y", dense("o")),
    )
    told = contents(nodes, ["y", "g"], a=(5, 4), b=(3, 5), o=(1, 3))
    net, *_ = from_operations(told)
    assert net.hidden == ("a.0", "a.1", "a.2", "a.3", "a.4")
    assert set(net.outputs) == {"b.0", "b.1", "b.2", "o.0"}
    assert net.inputs[-3:] == ("b.0'", "b.1'", "b.2'")


def test_layers_that_are_not_trained_are_given():
    nodes = (
        op("x", "h", dense("a", trained=False), RELU),
        op("h", "g", dense("b"), RELU),
        op("g", "y", dense("o")),
    )
    net, _, _, _, notes = from_operations(contents(nodes, ["y"], a=(5, 4), b=(3, 5), o=(1, 3)))
    assert notes == ("a: it is not trained",)
    assert net.inputs == ("a.0", "a.1", "a.2", "a.3", "a.4")
    assert net.hidden == ("b.0", "b.1", "b.2")


def test_one_value_before_and_behind_the_activation_is_one_node():
    nodes = (
        op("x", "z", dense("a")),
        op("z", "h", RELU),
        op("h", "p", dense("b")),
        op("z", "q", dense("s")),
        op("p q", "y", Join("add", "meets", "sum")),
    )
    told = contents(nodes, ["y"], a=(5, 4), b=(1, 5), s=(1, 5))
    net, weights, *_ = from_operations(told)
    assert len(net.hidden) == 5
    w = {name: tensor.array for name, tensor in told.tensors.items()}
    c = (w["a"] ** 2).sum(1) + w["a.b"] ** 2 - w["b"][0] ** 2 - w["s"][0] ** 2
    np.testing.assert_allclose(net.balances(weights), c, rtol=1e-12)
    assert len(net.frozen_edges(weights)) == 0  # two ways out each


def parallel():
    """Two layers with the same input and output, one neuron each: two edges between two nodes."""
    nodes = (
        op("x", "h", dense("l", bias=False), RELU),
        op("h", "p", dense("a", bias=False)),
        op("h", "q", dense("b", bias=False)),
        op("p q", "s", Join("add", "meets", "sum")),
        op("s", "g", RELU),
        op("g", "y", dense("o", bias=False)),
    )
    told = contents(nodes, ["y"], l=(1, 2), a=(1, 1), b=(1, 1), o=(1, 1))
    return from_operations(told).network


def test_parallel_edges():
    """S = {l, a+b} has one edge out: min x = -(0.01 + 0.01 - 4 - 4 + 8 - 1) = 0.98."""
    net = parallel()
    weights = np.array([0.1, 0.1, 2.0, 2.0, 1.0])
    assert net.edges[2] == net.edges[3] == ("l.0", "a+b.0")
    (one,) = net.frozen_edges(weights)
    assert (one.edge, one.bottleneck) == (("a+b.0", "o.0"), ("l.0", "a+b.0"))
    assert one.least == pytest.approx(np.sqrt(0.98))
    lp = linprog([0, 0, 0, 0, 1], A_eq=net.incidence(), b_eq=net.balances(weights), method="highs")
    assert lp.fun == pytest.approx(0.98)
    with pytest.raises(ValueError, match=r"^weights: must be an array, because some edges are"):
        net.vector(dict(zip(net.edges, weights, strict=True)))


def test_parallel_edges_sampled():
    """P(o is frozen) with variances 1 / fan-in, by plain sampling."""
    net = parallel()
    study = sample_dag(net, "lecun_normal", networks=20_000, seed=0)
    rng = np.random.default_rng(0)
    l = rng.standard_normal((200_000, 2)) / np.sqrt(2)
    a, b = rng.standard_normal((2, 200_000)) / np.sqrt(2)  # two ways in
    o = rng.standard_normal(200_000)
    last = a**2 + b**2 - o**2
    first = (l**2).sum(axis=1) - a**2 - b**2
    expected = (last + np.minimum(first, 0.0) < 0.0).mean()
    # false alarms: 4.5 standard errors of both, 7e-6
    assert abs(study.disconnected - expected) < 4.5 * np.sqrt(0.25 / 20_000 + 0.25 / 200_000)


FIXED = "values are added without weights of their own (a skip connection with the fixed weight 1)"


@pytest.mark.parametrize(
    ("nodes", "hidden", "outputs", "note"),
    [
        (  # a sum and nodes: both leave the network, what they make is nothing to it
            (
                *SKIP[:2],
                op("x", "p", dense("s"), RELU),
                op("z p", "y", Join("add", "meets", "sum")),
            ),
            "a",
            "bs",
            f"add: {FIXED}",
        ),
        (  # a sum that is also used before it is added
            (*SKIP, op("z", "w", RELU)),
            "a",
            "bos",
            f"add: {FIXED}",
        ),
        (  # one sum in two joins
            (
                *SKIP[:4],
                op("x", "r", dense("o2")),
                op("z r", "u", Join("add2", "meets", "sum")),
                op("t u", "y", Join("cat", "meets", "concat")),
            ),
            "a",
            ["b", "o2", "s"],
            f"add2: {FIXED}",
        ),
        (  # a sum with itself
            (*SKIP[:2], op("z z", "y", Join("add", "meets", "sum"))),
            "a",
            "b",
            f"add: {FIXED}",
        ),
        (  # weights used twice keep no balance, others do
            (
                op("x", "h", dense("a"), RELU),
                op("h", "z", dense("b"), RELU),
                op("z", "s", dense("r"), RELU),
                op("s", "y", dense("b2")),
                op("s", "w", dense("b2")),
            ),
            "ab",
            "r",
            "b2: its b2 is used elsewhere as well",
        ),
        (
            (
                op("x", "h", dense("a"), RELU),
                op("h", "z", dense("b", bias=False, magnitude="b.b"), RELU),
                op("z", "s", dense("r"), RELU),
                op("s", "y", dense("b2")),
            ),
            "br",
            ["a", "b2"],
            "b: its weights are normalised, which hides their scale",
        ),
    ],
)
def test_ties_end_the_network_there(nodes, hidden, outputs, note):
    results = ["y", "w"] if any("w" in node.outputs for node in nodes) else ["y"]
    net, weights, _, _, notes = from_operations(contents(nodes, results, **SIZES))
    assert {node.split(".")[0] for node in net.hidden} == set(hidden)
    assert {node.split(".")[0] for node in net.outputs} == set(outputs)
    assert [told for told in notes if told.startswith(note)]
    net.frozen_edges(weights)


def test_fixed_factors_do_not_matter_to_balances():
    """But a bias that is multiplied by zero is no way into a node, and weights are no layer."""
    for factor, bias_factor, size in ((0.5, 2.0, 31), (1.0, 0.0, 28)):
        nodes = (
            op("x", "h", dense("a"), RELU),
            op("x h", "j", Join("cat", "meets", "concat")),
            op("j", "y", dense("c", factor=factor, bias_factor=bias_factor)),
        )
        net, *_, notes = from_operations(contents(nodes, ["y"], a=(2, 4), c=(3, 6)))
        assert (net.size, notes) == (size, ())
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "g", dense("b"), RELU),
        op("g", "y", dense("o", factor=0.0)),
    )
    net, *_, notes = from_operations(contents(nodes, ["y"], **SIZES | {"o": (1, 3)}))
    assert notes == ("o: its weights are multiplied by 0",)
    assert {node.split(".")[0] for node in net.hidden} == {"a"}


@pytest.mark.parametrize(
    ("nodes", "error", "words"),
    [
        (
            (
                op("x", "h", dense("a"), RELU),
                op("h", "y", dense("b", bias=False, magnitude="b.b")),
            ),
            NothingAuditable,
            r"^this model \(test\) has no hidden neurons .* balance: b: its weights are normalised",
        ),
        (
            (op("x", "y", dense("a")),),
            NothingAuditable,
            r"^this model \(test\) has no hidden neurons .* balance: no layer follows",
        ),
        (
            (op("x", "h", dense("a"), RELU), op("h", "y", dense("o")), op("h", "w", dense("r"))),
            NothingAuditable,
            "balance: o: has 3 inputs and is given 5: something changes them; r: has 3 inputs",
        ),
        (
            (op("x", "h", dense("a"), RELU), op("h", "y", dense("b")), op("h", "w", RELU)),
            NothingAuditable,
            "balance: a: the model returns its values as they are",
        ),
        ((op("x", "y", dense("cube")),), UnreadableModel, r"^cube: the weights have the shape"),
        ((op("x", "y", dense("nan")),), UnreadableModel, "^nan holds numbers that are infinite or"),
    ],
)
def test_what_cannot_be_read_is_refused(nodes, error, words):
    results = ["y", "w"] if any("w" in node.outputs for node in nodes) else ["y"]
    told = contents(nodes, results, cube=(2, 4, 4), nan=(2, 4), **SIZES)
    told.tensors["nan"].array[0, 0] = np.nan
    with pytest.raises(error, match=words):
        from_operations(told)


def test_what_is_reshaped_is_another_value():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "g", dense("b"), RELU),
        op("g", "i", dense("e"), RELU),  # takes 6 and is given 3
        op("i", "y", dense("f")),
        op("h", "z", dense("r2")),
    )
    shapes = SIZES | {"e": (4, 6), "f": (1, 4), "r2": (1, 5)}
    net, _, _, _, notes = from_operations(contents(nodes, ["y", "z"], **shapes))
    assert notes == ("e: has 6 inputs and is given 3: something changes them",)
    assert {node.split(".")[0] for node in net.hidden} == {"a", "e"}
    assert {node.split(".")[0] for node in net.outputs} == {"b", "f", "r2"}
    assert len(net.inputs) == 4 + 6


@pytest.mark.parametrize("inputs", ["p q", "q p"])
def test_sums_that_repeat_one_neuron_end_the_network(inputs):
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "p", dense("b")),
        op("x", "q", dense("one")),
        op(inputs, "s", Join("add", "meets", "sum")),
        op("s", "t", RELU),
        op("t", "y", dense("o")),
    )
    net, _, _, _, notes = from_operations(contents(nodes, ["y"], one=(1, 4), **SIZES))
    assert len(notes) == 1
    assert notes[0].startswith(f"add: {FIXED}")
    assert {node.split(".")[0] for node in net.hidden} == {"a"}
    assert len(net.inputs) == 4 + 3


def test_neurons_side_by_side_of_which_some_are_unknown():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("x", "n", Barrier("norm", "normalises")),
        op("x", "m", Barrier("other", "does more")),
        op("n h m", "j", Join("cat", "meets", "concat")),
        op("j", "i", dense("c"), RELU),
        op("i", "y", dense("f")),
    )
    net, *_, notes = from_operations(contents(nodes, ["y"], f=(1, 2), c=(2, 9), **SIZES))
    assert "cat: has 9 neurons, and only of 5 it is known whose" in notes
    assert {node.split(".")[0] for node in net.hidden} == {"c"}
    assert len(net.inputs) == 4 + 9


def test_sizes_are_found_where_they_can_be():
    nodes = (
        op("x", "n", Barrier("norm", "normalises")),
        op("n n", "j", Join("cat", "meets", "concat")),
        op("x", "m", Barrier("other", "does more")),
        op("x", "l", Barrier("third", "does more")),
        op("m l", "k", Join("cat2", "meets", "concat")),
        op("j", "h", dense("c"), RELU),
        op("k", "g", dense("e"), RELU),
        op("h g", "i", Join("cat3", "meets", "concat")),
        op("i", "y", dense("f")),
    )
    net, *_ = from_operations(contents(nodes, ["y"], c=(2, 8), e=(3, 7), f=(1, 5)))
    assert len(net.inputs) == 4 + 7
    assert {node.split(".")[0] for node in net.inputs} == {"norm", "cat2"}


def test_what_a_model_makes_of_its_last_outputs_is_no_branch():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "y", dense("o")),
        op("y", "p", Activation("softmax")),
        op("y", "label", Barrier("argmax", "takes the largest")),
    )
    assert not has_branches(contents(nodes, ["p", "label"], a=(5, 4), o=(2, 5)))
    assert has_branches(contents(nodes, ["p", "h"], a=(5, 4), o=(2, 5)))  # a layer in between is
    assert not has_branches(Contents("test", {}))


def test_an_activation_that_is_not_told_is_asked_for():
    nodes = (op("x", "h", dense("a"), Activation("")), op("h", "y", dense("o", bias=False)))
    told = contents(nodes, ["y"], a=(3, 4), o=(1, 3))
    with pytest.raises(ValueError, match=r"^activation = None: must be given"):
        from_operations(told)
    assert len(from_operations(told, ReadOptions("relu")).network.hidden) == 3


def test_an_activation_that_the_model_does_not_have_is_refused():
    told = contents(SKIP, ["y"], **SIZES)
    assert len(from_operations(told, ReadOptions("ReLU")).network.hidden) == 8
    with pytest.raises(ValueError, match=r"^activation = 'tanh': the test has relu$"):
        from_operations(told, ReadOptions("tanh"))
    with pytest.raises(ValueError, match=r"^activation = 'nothing': must be one of"):
        from_operations(told, ReadOptions("nothing"))


def test_a_returned_hidden_layer_is_told():
    nodes = (
        op("x", "h", dense("a"), RELU),
        op("h", "g", dense("b"), RELU),
        op("g", "y", dense("o")),
    )
    told = contents(nodes, ["y", "h"], a=(5, 4), b=(3, 5), o=(1, 3))
    net, *_, notes = from_operations(told)
    assert notes == ("a: the model returns its values as they are",)
    assert len(net.inputs) == 4 + 5


# --- real models --------------------------------------------------------------------------------


def torch_models(torch):
    """Return modules that are no chains, by name."""
    nn = torch.nn

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.s = nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(4, 6)
            self.o, self.t = nn.Linear(6, 1), nn.Linear(5, 1, bias=False)

        def forward(self, x):
            h = torch.relu(self.a(x))
            g = torch.relu(self.b(h) + self.s(x))
            return self.o(g) + self.t(h)

    class Cat(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.o = nn.Linear(4, 5), nn.Linear(9, 6), nn.Linear(15, 1)

        def forward(self, x):
            h = torch.cat([x, torch.relu(self.a(x))], -1)
            return self.o(torch.cat([h, torch.relu(self.b(h))], dim=1))

    return {"skip": Skip(), "cat": Cat()}


@pytest.mark.parametrize("name", ["skip", "cat"])
@pytest.mark.filterwarnings("ignore")
def test_real_models_compute_the_same(name, tmp_path):
    torch = framework("torch")
    framework("onnx")
    torch.manual_seed(0)
    model = torch_models(torch)[name]
    x = torch.randn(9, 4)
    source = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), str(source), dynamo=False, input_names=["x"])
    told = models.read_contents(source)
    assert has_branches(told)
    net, weights, _, _, notes = from_operations(told)
    assert notes == ()
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(net.evaluate(weights, x.numpy()), expected, rtol=0, atol=1e-5)
    again, same = from_model(source)
    assert again.edges == net.edges
    np.testing.assert_array_equal(same, weights)
    done = CliRunner().invoke(cli, ["dag", str(source)])
    assert done.exit_code == 0, done.output
    assert "4 inputs, 11 hidden nodes, 1 output" in done.output


def test_modules_that_branch_are_read_by_running_them():
    torch = framework("torch")
    torch.manual_seed(0)
    model = torch_models(torch)["skip"]
    x = torch.randn(9, 4)
    net, weights = from_model(model)
    assert net.hidden == (*(f"a.{i}" for i in range(5)), *(f"b+s.{i}" for i in range(6)))
    assert net.size == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(net.evaluate(weights, x.numpy()), expected, rtol=0, atol=1e-5)
    a, b, s, t, o = (getattr(model, name).weight.detach().numpy() for name in "absto")
    into = (b**2).sum(1) + (s**2).sum(1)
    into += sum(getattr(model, name).bias.detach().numpy() ** 2 for name in "bs")
    np.testing.assert_allclose(net.balances(weights)[5:], into - o[0] ** 2, rtol=1e-5, atol=1e-6)
    into = (a**2).sum(1) + model.a.bias.detach().numpy() ** 2
    out = (b**2).sum(0) + t[0] ** 2
    np.testing.assert_allclose(net.balances(weights)[:5], into - out, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"^layers = \['a', 'b'\]: Skip is no chain"):
        from_model(model, layers=["a", "b"])
    with pytest.raises(ValueError, match=r"^layout = 'out_in': Skip is no chain .* leave it out"):
        from_model(model, layout="out_in")


@pytest.mark.filterwarnings("ignore")
def test_the_sum_of_a_list_begins_with_nothing():
    torch = framework("torch")

    class Branches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.ways = torch.nn.ModuleList(torch.nn.Linear(4, 5) for _ in range(3))
            self.o = torch.nn.Linear(5, 1)

        def forward(self, x):
            return self.o(torch.relu(sum(way(x) for way in self.ways)))

    model, x = Branches(), torch.randn(9, 4)
    net, weights = from_model(model)
    assert (len(net.hidden), net.size) == (5, 3 * 25 + 6)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(net.evaluate(weights, x.numpy()), expected, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_no_balance_is_left_of_some_residual_networks(tmp_path):
    torch = framework("torch")
    framework("onnx")

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.o = (torch.nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            h = torch.relu(self.a(x))
            return self.o(torch.relu(self.b(h)) + h)

    with pytest.raises(NoChain, match=r"Save it with torch\.onnx\.export"):
        from_model(Residual())
    torch.onnx.export(Residual(), (torch.randn(5, 4),), str(tmp_path / "m.onnx"), dynamo=False)
    with pytest.raises(NothingAuditable, match=r"balance: .*Add: values are added without weights"):
        from_model(tmp_path / "m.onnx")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("width", [1, 3])
def test_inside_residual_blocks_the_audit_finds_the_same(width, tmp_path):
    torch = framework("torch")
    framework("onnx")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(width, 6), nn.Linear(6, width)

        def forward(self, x):
            return x + self.b(torch.relu(self.a(x)))

    frozen = 0
    for seed in range(4):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(2, width), Block(), Block(), nn.Linear(width, 1))
        torch.onnx.export(model, (torch.randn(5, 2),), str(tmp_path / "m.onnx"), dynamo=False)
        net, weights = from_model(tmp_path / "m.onnx")
        assert len(net.hidden) == 12
        found = net.frozen_edges(weights, rtol=1e-6)
        assert len(found) == audit(tmp_path / "m.onnx", scheme=None).frozen_weights
        done = CliRunner().invoke(cli, ["dag", str(tmp_path / "m.onnx")])
        assert done.output.count("added without weights of their own") == 2
        assert ("can reach has at least 2^" in done.output) == bool(len(found))
        frozen += len(found)
    assert bool(frozen) == (width == 1)


def test_a_chain_is_told_as_the_audit_tells_it():
    torch = framework("torch")
    nn = torch.nn
    for seed in range(5):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1, bias=False), nn.ReLU(), nn.Linear(1, 4),
            nn.ReLU(), nn.Linear(4, 1),
        )  # fmt: skip
        told = models.read_contents(model).with_graph(None, None)
        assert not has_branches(told)
        net, weights, *_ = from_operations(told)
        assert len(net.frozen_edges(weights, rtol=1e-6)) == audit(model, scheme=None).frozen_weights
