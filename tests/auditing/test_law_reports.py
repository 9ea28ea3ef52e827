"""Audits of live models by their conservation laws: verdicts, bounds, data, text, JSON, errors."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import obstruction as ob
from obstruction.auditing.live.law_report import SCHEMA_VERSION
from obstruction.models import NoChain, NothingAuditable

torch = pytest.importorskip("torch")
nn = torch.nn


def relu_net(inputs=3, hidden=6, outputs=1, *tail, bias=True, activation=nn.ReLU, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=bias), activation(), nn.Linear(hidden, outputs), *tail
    ).double()


class Readout(nn.Module):
    """A hidden layer of ReLU and a layer of outputs, of which the model returns a function."""

    def __init__(self, function, outputs=2, hidden=6, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(3, hidden), nn.Linear(hidden, outputs, bias=False)
        self.double()
        with torch.no_grad():
            self.b.weight.mul_(3.0)
        self.function = function

    def forward(self, x):
        return self.function(self.b(torch.relu(self.a(x))))


def inputs(width=3, samples=8):
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(5)).double()


def squares_in(net, first=0):
    """Return the squared norm of the weights into each neuron, bias included."""
    layer = net[first] if isinstance(net, nn.Sequential) else net.a
    total = layer.weight.detach().square().sum(1)
    return (total if layer.bias is None else total + layer.bias.detach().square()).numpy()


# --- frozen weights ---------------------------------------------------------------------------


def test_output_weights_are_frozen_where_the_balance_is_negative():
    net = relu_net(hidden=40)
    with torch.no_grad():
        net[2].weight.mul_(6.0)
    report = ob.audit(net, inputs=inputs())
    v = net[2].weight.detach().numpy()[0]
    expected = np.flatnonzero(squares_in(net) < v**2)
    assert 0 < len(expected) < 40
    assert report.verdict == "obstructed"
    assert report.components == 2 ** len(expected) == ob.audit(net).components
    table = report.frozen.sort_values("position")
    assert table["position"].tolist() == [(0, int(k)) for k in expected]
    assert not table["combination"].any()
    np.testing.assert_allclose(table["value"], v[expected], rtol=1e-12)
    bounds = np.sqrt((v**2 - squares_in(net))[expected])
    np.testing.assert_allclose(table["least"], bounds, rtol=1e-9)


@pytest.mark.parametrize(
    ("function", "direction"),
    [
        (lambda y: y[:, :1], (1.0, 0.0)),
        (lambda y: y[:, 0] - y[:, 1], (1.0, -1.0)),
        (lambda y: y.sum(-1), (1.0, 1.0)),
        (lambda y: torch.log_softmax(y, -1), (1.0, -1.0)),
        (lambda y: 2.0 * y[:, 0] + y[:, 1], (2.0, 1.0)),
    ],
    ids=["first", "difference", "sum", "two logits", "weighted"],
)
def test_combined_outputs_are_judged_by_what_gradients_see(function, direction):
    net = Readout(function)
    report = ob.audit(net, inputs=inputs())
    unit = np.array(direction) / np.linalg.norm(direction)
    seen = net.b.weight.detach().numpy().T @ unit
    frozen = np.flatnonzero(squares_in(net) < seen**2)
    assert 0 < len(frozen) < 6
    assert report.components == 2 ** len(frozen)
    assert (report.verdict, set(report.frozen["cause"])) == ("obstructed", {"outputs"})
    exact = np.sqrt((seen**2 - squares_in(net))[frozen])
    table = report.frozen
    shares = np.sort(table["least"] / table["value"].abs())
    np.testing.assert_allclose(shares, np.sort(exact / np.abs(seen[frozen])), rtol=1e-9)
    assert table["combination"].all() == (direction != (1.0, 0.0))


def test_a_difference_is_named_and_measured_as_it_is_written():
    net = Readout(lambda y: y[:, 0] - y[:, 1])
    row = ob.audit(net, inputs=inputs()).frozen.iloc[0]
    (k,) = row["position"]
    v = net.b.weight.detach().numpy()[:, k]
    assert row["what"] == f"b.weight[0, {k}] - b.weight[1, {k}]"
    assert row["value"] == pytest.approx(v[0] - v[1], rel=1e-12)
    bound = math.sqrt((v[0] - v[1]) ** 2 - 2.0 * squares_in(net)[k])
    assert row["least"] == pytest.approx(bound, rel=1e-9)


def test_a_gradient_flow_respects_the_bound_of_two_logits():
    """Many small steps against a loss that pushes the difference of the weights to zero."""
    net = Readout(lambda y: torch.log_softmax(y, -1))
    row = ob.audit(net, inputs=inputs()).frozen.iloc[0]
    (k,) = row["position"]
    x, start = inputs(samples=16), np.sign(row["value"])
    labels = torch.full((16,), 0 if start < 0 else 1)
    optimiser = torch.optim.SGD(net.parameters(), lr=2e-3)
    least = math.inf
    for _ in range(1500):
        optimiser.zero_grad()
        nn.functional.nll_loss(net(x), labels).backward()
        optimiser.step()
        v = net.b.weight.detach()[:, k]
        least = min(least, float(start * (v[0] - v[1])))
    assert row["least"] * (1.0 - 1e-2) <= least < abs(row["value"])


def test_an_unused_output_may_be_chosen_by_an_input_of_another_kind():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2, bias=False)
            self.double()

        def forward(self, x, task):
            y = self.b(torch.relu(self.a(x)))
            return y.gather(1, task[:, None])

    task = torch.zeros(8, dtype=torch.int64)
    report = ob.audit(Chosen(), inputs=(inputs(), task))
    assert "outputs" not in set(report.frozen["cause"])


def test_two_logits_under_cross_entropy():
    net = Readout(lambda y: y)
    report = ob.audit(net, inputs=inputs(), loss="cross_entropy")
    softmax = ob.audit(Readout(lambda y: torch.log_softmax(y, -1)), inputs=inputs())
    assert report.components == softmax.components > 1
    assert report.frozen["what"].tolist() == softmax.frozen["what"].tolist()
    np.testing.assert_allclose(report.frozen["least"], softmax.frozen["least"], rtol=1e-9)
    assert "under cross_entropy" in str(report)
    assert ob.audit(net, inputs=inputs()).components == 1


def test_two_logits_without_a_loss_are_told_that_one_would_bind():
    report = ob.audit(relu_net(outputs=2), inputs=inputs())
    assert (report.verdict, report.two_logits) == ("clear", True)
    assert 'loss="cross_entropy"' in str(report)
    three = ob.audit(relu_net(outputs=3), inputs=inputs())
    assert not three.two_logits
    assert "cross" not in str(three)


def test_linear_neurons_are_judged_by_their_matrix():
    net = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 1, bias=False)).double()
    torch.manual_seed(1)
    for layer in net:
        nn.init.kaiming_normal_(layer.weight)
    report = ob.audit(net, inputs=inputs(10))
    w, v = (layer.weight.detach().numpy() for layer in net)
    values, vectors = np.linalg.eigh(w @ w.T - v.T @ v)
    assert values[0] < 0
    assert report.frozen_weights == 0
    assert (report.verdict, report.components) == ("obstructed", 2)
    (row,) = report.frozen.itertuples()
    assert row.least == pytest.approx(math.sqrt(-values[0]), rel=1e-9)
    assert abs(row.value) == pytest.approx(abs(float(v[0] @ vectors[:, 0])), rel=1e-9)
    with torch.no_grad():
        net[1].weight.mul_(1e-3)
    assert ob.audit(net, inputs=inputs(10)).verdict == "clear"


def test_norms_that_differ_by_163_decades_are_told_apart():
    net = relu_net(hidden=2, bias=False)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1e-163, 0, 0], [1.0, 0, 0]], dtype=torch.float64))
        net[2].weight.copy_(torch.tensor([[2e-163, 0.5]], dtype=torch.float64))
    report = ob.audit(net, inputs=inputs())
    assert report.frozen["position"].tolist() == [(0, 0)]
    assert report.frozen["least"][0] == pytest.approx(math.sqrt(3.0) * 1e-163, rel=1e-9)
    assert len(report.boundary) == 0
    assert report.smallest_margin == pytest.approx(-0.5)


def test_a_balance_of_zero_is_the_boundary():
    net = relu_net(hidden=2, bias=False)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.6, 0.8, 0], [1, 1, 1]], dtype=torch.float64))
        net[2].weight.copy_(torch.tensor([[-1.0, 0.5]]))
    report = ob.audit(net, inputs=inputs())
    assert (report.verdict, report.components) == ("boundary", 1)
    assert report.boundary["position"].tolist() == [(0, 0)]
    assert "UNDECIDED" in str(report)


# --- degenerate starts ------------------------------------------------------------------------


def zeroed(net, *numbers):
    with torch.no_grad():
        for number in numbers:
            for parameter in net[number].parameters():
                parameter.zero_()
    return net


def test_a_network_of_zeros_learns_nothing_but_its_mean():
    report = ob.audit(zeroed(relu_net(), 0, 2), inputs=inputs())
    assert (report.verdict, report.learns, report.dead) == ("degenerate", False, 6)
    assert "nothing can be learned" in str(report)


def test_a_dead_layer_of_relu_stays_dead_and_one_of_leaky_relu_does_not():
    dead = ob.audit(zeroed(relu_net(), 0), inputs=inputs())
    assert (dead.verdict, dead.learns, dead.dead) == ("degenerate", False, 6)
    leaky = ob.audit(zeroed(relu_net(activation=nn.LeakyReLU), 0), inputs=inputs())
    assert (leaky.verdict, leaky.learns, leaky.dead) == ("obstructed", True, 0)


def test_a_dead_layer_beside_a_path_that_learns():
    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(3, 2)
            self.double()
            nn.init.zeros_(self.a.weight)
            nn.init.zeros_(self.a.bias)

        def forward(self, x):
            return self.b(torch.relu(self.a(x))) + self.c(x)

    report = ob.audit(Skip(), inputs=inputs())
    assert (report.verdict, report.learns) == ("degenerate", True)
    assert report.degenerate[0].whole


def test_layers_that_start_at_zero_and_learn_are_not_degenerate():
    head = relu_net()
    with torch.no_grad():
        head[2].weight.zero_()
    report = ob.audit(head, inputs=inputs())
    assert (report.verdict, report.learns, report.degenerate) == ("clear", True, ())


def test_equal_neurons_are_degenerate_and_equal_gains_are_not():
    net = relu_net()
    with torch.no_grad():
        net[0].weight[3], net[0].bias[3] = net[0].weight[1], net[0].bias[1]
        net[2].weight[0, 3] = net[2].weight[0, 1]
    report = ob.audit(net, inputs=inputs())
    assert report.verdict == "degenerate"
    assert report.degenerate[0].equal == ((1, 3),)
    torch.manual_seed(0)
    norm = nn.Sequential(
        nn.Linear(3, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)
    ).double()
    with torch.no_grad():
        norm[3].weight.zero_()  # gains and readers are all equal, the neurons are not
    report = ob.audit(norm, inputs=inputs())
    assert (report.verdict, report.degenerate) == ("clear", ())


def test_what_no_gradient_reaches_is_not_called_clear():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 1)
            self.c = nn.Parameter(torch.ones(4, 3))
            self.double()

        def forward(self, x):
            hidden = torch.relu(self.a(x))
            far = (x @ self.c.T).sum(1, keepdim=True)
            return self.b(hidden) + torch.where(x[:, :1] > 1e9, far, 0.0)

    report = ob.audit(Unused(), inputs=inputs())
    assert (report.verdict, report.unreached) == ("partial", ("c",))
    assert "no gradient reached" in str(report)
    tanh = ob.audit(relu_net(activation=nn.Tanh), inputs=inputs())
    assert (tanh.verdict, tanh.partial) == ("clear", False)  # gradients refute every law


# --- data -------------------------------------------------------------------------------------


def test_inputs_that_never_vary_freeze_more():
    """The example of a third input that is always zero: v stays at least 0.98995."""
    net = relu_net(hidden=1, bias=False)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.1, 0.1, 2.0]]))
        net[2].weight.copy_(torch.tensor([[1.0]]))
    data = inputs(samples=20).clone()
    data[:, 2] = 0.0
    free = ob.audit(net, inputs=inputs())
    assert (free.verdict, free.components) == ("clear", 1)
    assert "data=X" in str(free)
    report = ob.audit(net, inputs=inputs(), data=data)
    assert (report.verdict, report.components) == ("obstructed", 2)
    (row,) = report.frozen.itertuples()
    assert (row.what, row.cause) == ("2.weight[0, 0]", "data")
    assert row.least == pytest.approx(math.sqrt(0.98), rel=1e-9)
    (span,) = report.spans
    assert (span.samples, span.width, span.rank) == (20, 3, 2)


def test_fewer_samples_than_inputs_with_a_bias():
    net = relu_net(inputs=20, hidden=12)
    with torch.no_grad():
        net[2].weight.mul_(2.0)
    data = inputs(20, samples=4)
    report = ob.audit(net, inputs=inputs(20), data=data.numpy())
    rows = np.c_[data.numpy(), np.ones(4)]
    wide = np.c_[net[0].weight.detach().numpy(), net[0].bias.detach().numpy()]
    inside = np.square(wide @ np.linalg.pinv(rows) @ rows).sum(1)
    v = net[2].weight.detach().numpy()[0]
    expected = np.flatnonzero(inside < v**2)
    assert len(expected) > (squares_in(net) < v**2).sum()
    assert sorted(p for _, p in report.frozen["position"]) == expected.tolist()
    assert (report.spans[0].width, report.spans[0].rank) == (21, 4)


def test_data_of_full_rank_change_nothing():
    net = relu_net(hidden=40)
    with torch.no_grad():
        net[2].weight.mul_(6.0)
    without = ob.audit(net, inputs=inputs())
    report = ob.audit(net, inputs=inputs(), data=inputs(samples=30))
    assert report.frozen["position"].tolist() == without.frozen["position"].tolist()
    assert set(report.frozen["cause"]) == {"balances"}


@pytest.mark.parametrize("bias", [True, False])
def test_layers_of_one_input_that_do_not_read_the_data_are_not_on_their_span(bias):
    """The second layer has as many inputs as the model, but reads a hidden neuron."""
    net = nn.Sequential(
        nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 5, bias=bias), nn.ReLU(), nn.Linear(5, 1)
    ).double()
    report = ob.audit(net, inputs=inputs(1), data=torch.full((4, 1), 0.5, dtype=torch.float64))
    (span,) = report.spans
    assert (span.layers, span.width, span.rank) == (("0",), 2, 1)


@pytest.mark.parametrize("first", [nn.BatchNorm1d(3), nn.LayerNorm(3)])
def test_data_need_a_dense_layer_that_reads_the_inputs(first):
    net = nn.Sequential(first, *relu_net()).double()
    with pytest.raises(ValueError, match="data: is judged for models whose first parameters"):
        ob.audit(net, inputs=inputs(), data=inputs())


@pytest.mark.parametrize("data", [inputs(2), inputs().numpy()[:, :, None], [["a", "b", "c"]]])
def test_data_of_another_shape_are_refused(data):
    with pytest.raises(ValueError, match="data has shape"):
        ob.audit(relu_net(), inputs=inputs(), data=data)


# --- output -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report():
    torch.manual_seed(0)
    return ob.audit(Readout(lambda y: y[:, :1], hidden=30), inputs=inputs())


def test_text_is_short_unless_all_is_asked_for(report):
    text = str(report)
    assert repr(report) == text
    assert len(text.splitlines()) <= 15
    assert max(map(len, text.splitlines())) <= 100
    assert f"OBSTRUCTED: {report.frozen_weights} weights" in text
    whole = report.text(verbose=True)
    assert all(what in whole for what in report.frozen["what"])
    assert str(report.laws) in whole
    assert "OBSTRUCTED" in report._repr_html_()


def test_text_counts_modules_and_says_why_nothing_freezes():
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1)),
    )
    text = " ".join(str(ob.audit(net, inputs=torch.randn(4, 2, 8, 8))).split())
    assert "2 BatchNorm2d, 1 Conv2d and 1 Linear: 10 channels keep a balance" in text
    assert "6 of them have a side with one weight" in text
    assert "10 weights that the outputs do not depend on" in text  # the biases before the norms


def test_json_holds_what_the_report_says(report):
    content = json.loads(report.to_json())
    assert (content["schema"], content["schema_version"]) == ("laws", SCHEMA_VERSION)
    assert content["summary"] == report.summary()
    assert [law["size"] for law in content["laws"]] == [law.size for law in report.laws]
    assert len(content["bounds"]) == report.frozen_weights
    assert content["bounds"][0]["what"] == report.bounds[0].what


# --- arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"layers": ["0", "2"]}, "layers = .*gradients of the model decide"),
        ({"activation": "relu"}, "activation = 'relu': .*gradients of the model decide"),
        ({"layout": "out_in"}, "layout = 'out_in': .*gradients"),
        ({"scheme": "kaiming_normal"}, "scheme = 'kaiming_normal': "),
        ({"loss": "mse"}, "loss = 'mse': must be one of cross_entropy"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_what_does_not_go_with_inputs_is_refused(told, match):
    with pytest.raises(ValueError, match=match):
        ob.audit(relu_net(), inputs=inputs(), **told)


@pytest.mark.parametrize("name", ["loss", "data", "seed"])
def test_what_needs_inputs_is_refused_without(name):
    value = {"loss": "cross_entropy", "data": inputs(), "seed": 1}[name]
    with pytest.raises(ValueError, match=rf"^{name}: .*needs inputs="):
        ob.audit(relu_net(), **{name: value})


def test_inputs_go_with_models_that_can_be_run():
    with pytest.raises(ValueError, match=r"of files, only \.onnx is run"):
        ob.audit("net.npz", inputs=inputs())
    arrays = (np.ones((2, 3)), np.ones((1, 2)))
    with pytest.raises(ValueError, match="tuple is none"):
        ob.audit(arrays, inputs=inputs())


class Skip(nn.Module):
    """Two inputs, of which the first layer does not tell both."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x, y):
        return self.b(torch.relu(self.a(x))) + y


@pytest.mark.parametrize(
    ("net", "balances"),
    [
        (nn.Sequential(nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 1)), 0),
        (nn.Sequential(nn.Linear(7, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1)), 6),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 1)), 5),
        (nn.Linear(3, 2), 0),
    ],
    ids=["tanh", "layer norm", "embedding", "one layer"],
)
def test_inputs_that_follow_from_the_first_layer_are_not_asked_for(net, balances):
    report = ob.audit(net)
    assert isinstance(report, ob.LawReport)
    assert report.laws.counts.get("balance", 0) == balances
    with pytest.raises(ValueError, match="scheme = 'kaiming_normal': "):
        ob.audit(net, scheme="kaiming_normal")


def test_linear_neurons_are_not_counted_one_by_one():
    """W₁W₁ᵀ + b₁b₁ᵀ - W₂ᵀW₂ has 5 · 6 / 2 entries."""
    report = ob.audit(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1)))
    assert report.laws.counts == {"matrix": 15}


def test_two_logits_behind_a_softmax_are_judged_together():
    report = ob.audit(relu_net(3, 6, 2, nn.LogSoftmax(-1)))
    assert isinstance(report, ob.LawReport)
    assert report.laws.counts["balance"] == 6
    assert isinstance(ob.audit(relu_net(3, 6, 1, nn.Sigmoid())), ob.Report)


@pytest.mark.parametrize(
    ("net", "example"),
    [
        (nn.Sequential(nn.Conv2d(5, 4, 3), nn.GELU(), nn.Conv2d(4, 1, 3)), "randn(4, 5, 64, 64)"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 26 * 26, 1)),
            "torch.randn(4, 1, 28, 28)",
        ),
        (nn.LSTM(3, 4), "torch.randn(16, 4, 3)"),
        (Skip(), "(x, y)"),
    ],
    ids=["convolution", "small images", "lstm", "two inputs"],
)
def test_a_module_whose_inputs_do_not_follow_is_asked_for_them(net, example):
    with pytest.raises(ValueError, match="inputs=") as refused:
        ob.audit(net)
    assert isinstance(refused.value, (NothingAuditable, ob.audit.__globals__["UnreadableModel"]))
    assert example in str(refused.value)
    assert len(str(refused.value)) < 500
    assert len(str(refused.value).splitlines()) <= 3


class Cast(nn.Module):
    """A module whose first parameter is no layer, and which asks for float32."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.log_std = nn.Parameter(torch.zeros(2))
        self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.b(torch.relu(self.a(x.float()))), self.log_std.exp()


def test_modules_that_ask_for_float32_run_with_inputs_of_their_own():
    assert ob.audit(Cast()).laws.counts["balance"] == 6


def test_a_module_that_is_no_chain_is_repaired_by_its_report():
    net = Readout(lambda y: y**3, outputs=1)
    with torch.no_grad():
        net.b.weight *= 20.0
    with pytest.raises(NoChain, match=r"Its laws can repair it: ob\.repair\(model, ob\.audit"):
        ob.repair(net)
    report = ob.audit(net)
    assert report.verdict == "obstructed"
    assert ob.audit(ob.repair(net, report)).verdict == "clear"


def test_a_state_dict_says_that_nothing_is_verified():
    net = relu_net()
    report = ob.audit(net.state_dict(), "relu")
    assert "not verified; a module is run" in " ".join(str(report).split())
    assert "not verified" not in str(ob.audit(net))
    assert report.neurons["balance"].tolist() == ob.audit(net).neurons["balance"].tolist()


# --- signs ------------------------------------------------------------------------------------


def with_rows(rows, output, activation=nn.ReLU):
    net = relu_net(2, len(rows), 1, activation=activation)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor(rows))
        net[0].bias.zero_()
        net[2].weight.copy_(torch.tensor([output]))
    return net


ROWS = [[1e-3, 0.0], [10.0, 0.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.0]]
"""With `OUTPUT`: frozen and positive, free, at the boundary, dead, dead and without an output."""

OUTPUT = [1.0, 2.0, -0.5, -1.0, 0.0]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU])
def test_signs_count_only_what_can_move(activation):
    net = with_rows(ROWS, OUTPUT, activation)
    report, chain = ob.audit(net, inputs=inputs(2)), ob.audit(net)
    (signs,) = (one for one in report.signs if one.side == "read")
    assert (signs.tensor, signs.weights, signs.free) == ("2.weight", 5, 1)
    assert (signs.positive, signs.negative) == (1, 2)  # a frozen weight; the boundary and one dead
    summary = report.summary()
    assert (summary["max_positive"], summary["max_negative"]) == (2, 3) == chain.reachable_signs
    for positive in range(6):
        for negative in range(6 - positive):
            wanted = {"positive": positive, "negative": negative}
            assert report.reaches(**wanted) == chain.reaches(**wanted)
    assert report.reaches(positive=2, negative=2)
    assert not report.reaches(positive=2, negative=3)


def test_signs_need_weights_that_are_alone():
    report = ob.audit(relu_net(outputs=3), inputs=inputs())
    assert report.signs == ()
    assert report.summary()["max_positive"] is None
    with pytest.raises(ValueError, match=r"tensor = None: .*there is no such parameter"):
        report.reaches(positive=1)
    report = ob.audit(with_rows(ROWS, OUTPUT), inputs=inputs(2))
    with pytest.raises(ValueError, match=r"tensor = '0.bias': .*must be one of 2\.weight"):
        report.reaches(tensor="0.bias")
    with pytest.raises(ValueError, match=r"positive \+ negative = 6: must be at most 5"):
        report.reaches(positive=6)
