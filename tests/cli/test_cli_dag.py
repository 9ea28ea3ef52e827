"""The command dag: models, lists of edges, fresh networks; exit codes and JSON."""

import json

import numpy as np
import pytest

import obstruction as ob
from obstruction import dag


@pytest.fixture
def model(tmp_path):
    """Write a chain with two frozen weights before a layer of width 1, and one after."""
    arrays = {
        "0.weight": np.array([[1.0, 0.0], [0.5, 0.5], [2.0, 2.0]]),
        "0.bias": np.zeros(3),
        "2.weight": np.array([[2.0, -3.0, 0.1]]),
        "2.bias": np.array([1.0]),
        "4.weight": np.array([[-5.0]]),
    }
    np.savez(tmp_path / "model.npz", **arrays)
    return tmp_path / "model.npz"


@pytest.fixture
def edges(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("x,h,1\nz,h,1/2\nh,y,2\nx,y,7\n")
    return path


WITH = ("--activation", "relu")


def test_a_model(command, model):
    outcome = command("dag", model, *WITH)
    assert (outcome.code, outcome.err) == (1, "")
    lines = outcome.out.splitlines()
    assert lines[0] == f"{model} (npz)"
    assert lines[1] == "  nodes and the layers that make them: h1: 0, h2: 2, y: 4"
    assert "3 weights can never change their sign" in outcome.out
    assert "has 2^3 = 8 components" in outcome.out
    table = [line.split() for line in lines[lines.index("") + 3 :]]
    assert table[1][:6] == ["h2.0", "->", "y0", "frozen", "-", "4.74236"]
    assert "out of {h1.0, h1.1, h2.0}" in outcome.out
    assert "-22.49" in outcome.out  # 1 + 0.5 in, 0.01 from h1.2, 1 of the bias, 25 out
    assert "h1.1 -> h2.0" in outcome.out


def test_json_of_a_model(command, model):
    outcome = command("dag", model, *WITH, "--json")
    assert outcome.code == 1
    content = json.loads(outcome.out)
    net, weights = dag.from_model(model, "relu")
    found = net.frozen_edges(weights, rtol=1e-6)
    assert content["frozen"] == content["log2_components"] == len(found) == 3
    assert content["boundary"] == 0
    assert content["rtol"] == 1e-6
    assert content["layers"] == ["0", "2", "4"]
    assert content["network"] == {"inputs": 2, "hidden": 4, "outputs": 1, "edges": 14, "depth": 3}
    least = [one["least"] for one in content["weights"]]
    assert least == sorted(least, reverse=True)
    for one in content["weights"]:  # by hand: all that crosses the border of the set
        inside = set(one["bottleneck"])
        crossing = [e for e, (a, b) in enumerate(net.edges) if a in inside and b not in inside]
        into = [e for e, (a, b) in enumerate(net.edges) if a not in inside and b in inside]
        assert [net.edges[e] for e in crossing] == [(one["tail"], one["head"])]
        balance = (weights[into] ** 2).sum() - (weights[crossing] ** 2).sum()
        assert one["balance"] == pytest.approx(balance)
        assert one["least"] == pytest.approx((-balance) ** 0.5)
        assert one["sign"] == np.sign(weights[crossing[0]])
        assert (one["status"], one["side"]) == ("frozen", "out")
    short = json.loads(command("dag", model, *WITH, "--json", "--max", "1").out)
    assert short["weights"] == content["weights"][:1]
    assert short["frozen"] == 3


def test_the_audit_says_the_same(command, model):
    summary = json.loads(command("audit", model, *WITH, "--format", "json").out)["summary"]
    content = json.loads(command("dag", model, *WITH, "--json").out)
    assert summary["log2_components"] == content["log2_components"]


def test_what_makes_it_fail(command, model, edges):
    assert command("dag", model, *WITH, "--fail-on", "never").code == 0
    assert command("dag", "--edges", edges).code == 1
    edges.write_text("x,h,2\nh,y,2\nz,h,1\n")
    outcome = command("dag", "--edges", edges)
    assert outcome.code == 0
    assert "connected" in outcome.out
    edges.write_text("x,h,2\nh,y,2\nz,h,0\n")
    outcome = command("dag", "--edges", edges, "--fail-on", "boundary")
    assert outcome.code == 1
    assert "1 weight at the boundary, undecided" in outcome.out
    assert command("dag", "--edges", edges).code == 0


def test_nothing_auditable(command, model):
    outcome = command("dag", model, "--activation", "tanh")
    assert (outcome.code, outcome.out) == (3, "")
    assert "neurons of 0" in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_a_list_of_edges_is_decided_exactly(command, edges):
    content = json.loads(command("dag", "--edges", edges, "--json").out)
    assert content["rtol"] == 0.0
    assert content["edges"] == str(edges)
    (one,) = content["weights"]
    assert (one["tail"], one["head"], one["bottleneck"]) == ("h", "y", ["h"])
    assert one["balance"] == 1.25 - 4
    assert "h -> y" in command("dag", "--edges", edges).out
    assert "->" not in command("dag", "--edges", edges, "--max", "0").out


# --- fresh networks ------------------------------------------------------------------------------

CHAIN = ("dag", "--mlp", "8,16,4,1", "--scheme", "kaiming_normal", "--networks", "2e4")


def test_sampling(command):
    outcome = command(*CHAIN, "--seed", "3")
    assert (outcome.code, outcome.err) == (0, "")
    study = ob.sample_dag(dag.Network.mlp([8, 16, 4, 1]), "kaiming_normal", networks=20_000, seed=3)
    assert outcome.out == f"{study.summary(10)}\n\n{study.agreement()}\n"


def test_json_of_sampling(command):
    outcome = command(*CHAIN, "--json")
    content = json.loads(outcome.out)
    assert content == json.loads(command(*CHAIN, "--json", "--threads", "1").out)
    assert content["networks"] == 20_000
    assert content["disconnected"]["exact"] == pytest.approx(0.228419777864)
    assert content["disconnected"]["networks"] == round(content["disconnected"]["rate"] * 20_000)
    assert [one["frozen"] for one in content["numbers"]] == [0, 1, 2, 3, 4]
    assert sum(one["networks"] for one in content["numbers"]) == 20_000
    assert sum(one["expected"] for one in content["numbers"]) == pytest.approx(20_000)
    assert [one["head"] for one in content["weights"]] == ["y0"] * 4
    assert type(content["weights"][0]["frozen"]) is int
    assert content["agreement"]["verdict"] == "agrees"
    assert content["agreement"]["tests"] == 4 + 1 + 3
    assert content != json.loads(command(*CHAIN, "--json", "--seed", "1").out)


def test_json_without_exact_values(command):
    words = ("dag", "--mlp", "3,4,1,2,2", "--scheme", "torch_linear", "--networks", "500", "--json")
    content = json.loads(command(*words, "--max", "1").out)
    assert content["network"]["edges"] == 12 + 4 + 2 + 4 + 7  # biases, as the scheme has them
    assert len(content["weights"]) == 1
    assert content["frozen"]["exact"] is not None
    narrow = ("dag", "--mlp", "3,2,1,1", "--scheme", "torch_linear", "--networks", "1", "--json")
    content = json.loads(command(*narrow).out)
    assert content["disconnected"]["exact"] is None
    assert content["frozen"]["standard_error"] is None
    assert {one["expected"] for one in content["numbers"]} == {None}


def test_sampling_the_shape_of_a_model_or_a_list(command, model, edges):
    outcome = command("dag", model, *WITH, "--scheme", "torch_linear", "--networks", "100")
    assert outcome.out.startswith("Network: 2 inputs, 4 hidden nodes, 1 output, 14 edges")
    outcome = command("dag", "--edges", edges, "--scheme", "torch_linear:bias=none")
    assert "100,000 networks" in outcome.out
    edges.write_text("x,h\nz,h\nh,y\n")
    outcome = command("dag", "--edges", edges, "--scheme", "torch_linear", "--networks", "10")
    assert "4 edges" in outcome.out


def test_disagreement_exits_with_one(command, monkeypatch):
    from obstruction.dag.probability import exact as probabilities

    right = probabilities.edge_laws

    def wrong(graph, scheme):
        laws = right(graph, scheme)
        return laws._replace(stds=np.where(graph.heads >= graph.last, 1.1, 1.0) * laws.stds)

    monkeypatch.setattr(probabilities, "edge_laws", wrong)
    outcome = command(*CHAIN)
    assert outcome.code == 1
    assert "DISAGREES" in outcome.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give one of FILE, --mlp and --edges"),
        ("FILE --mlp 3,1", "give one of FILE, --mlp and --edges"),
        ("--mlp 3,4,1", "--mlp has no weights: give --scheme"),
        ("--mlp 3,x,1 --scheme kaiming_normal", "mlp[1] = 'x': must be a whole number"),
        (
            "--mlp 3 --scheme kaiming_normal",
            "widths = [3]: must hold at least the inputs and the outputs",
        ),
        ("--mlp 3,4,1 --scheme kaimin_normal", "did you mean 'kaiming_normal'?"),
        (
            "--mlp 3,4,1 --scheme orthogonal",
            "scheme = 'orthogonal': its weights must be independent",
        ),
        ("--mlp 3,4,1 --scheme torch_linear --no-bias", "has hidden biases, but no hidden node"),
        ("--mlp 3,4,1 --scheme kaiming_normal --networks 0", "networks = 0"),
        ("--mlp 3,4,1 --scheme kaiming_normal --seed x", "seed = 'x'"),
        ("--mlp 3,4,1 --scheme kaiming_normal --threads 0", "threads = 0"),
        ("--mlp 3,4,1 --scheme kaiming_normal --level 2", "level = 2"),
        ("--mlp 3,4,1 --scheme kaiming_normal --rtol 0.1", "--rtol has no meaning with --scheme"),
        ("--mlp 3,4,1 --scheme kaiming_normal --inputs x", "--inputs has no meaning with --mlp"),
        ("FILE", "--activation relu"),
        ("FILE --activation relu --networks 5", "--networks has no meaning without --scheme"),
        ("FILE --activation relu --bias", "--bias has no meaning with FILE"),
        ("FILE --activation relu --rtol 2", "rtol = 2.0: must be a number from 0 to below 1"),
        ("FILE --activation relu --fail-on all", "fail-on = 'all': must be one of frozen"),
        ("FILE --activation relu --max x", "max = 'x'"),
        ("missing.onnx", "there is no such file"),
        ("--edges missing.csv", "No such file"),
        ("--edges LIST --outputs q", "hidden nodes that lead to no output: h, y"),
        ("--edges BARE", "these edges have no weights"),
        ("--edges LIST --bias", "biases must be among them"),
        ("--edges LIST --activation relu", "--activation has no meaning with --edges"),
    ],
)
def test_bad_use_is_one_line(words, message, refused, model, edges, tmp_path):
    bare = tmp_path / "bare.csv"
    bare.write_text("x,h\nh,y\n")
    places = {"FILE": model, "LIST": edges, "BARE": bare}
    assert message in refused("dag", *(places.get(word, word) for word in words.split()))
