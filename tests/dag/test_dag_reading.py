"""Real models as networks on graphs: balances and frozen weights are those of the audit."""

import numpy as np
import pytest
from conftest import framework
from model_files import network, npz, safetensors, state_dict, storages, torch_zip

import obstruction as ob
from obstruction import dag
from obstruction.dag.from_models.edge_lists import read_edges
from obstruction.models import NoChain, NothingAuditable

RTOL = 1e-6


def assert_like_the_audit(source, *, activation="relu", **options):
    """Hold network and weights against the audit of the same source."""
    report = ob.audit(source, activation, scheme=None, rtol=RTOL, **options)
    net, weights = dag.from_model(source, activation, **options)
    balances = np.concatenate([layer.balance for layer in report.hidden if layer.audited])
    unit = np.concatenate([layer.in_norm**2 + layer.out_norm**2 for layer in report.hidden])
    assert (np.abs(net.balances(weights) - balances) <= 1e-12 * unit).all()
    found = net.frozen_edges(weights, rtol=RTOL)
    assert found.components == report.components
    return net, weights, found


def write(path, arrays):
    if path.suffix == ".npz":
        path.write_bytes(npz(arrays))
    elif path.suffix == ".safetensors":
        path.write_bytes(safetensors(arrays))
    else:
        path.write_bytes(torch_zip(state_dict(arrays), storages(arrays)))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_files_of_random_chains(suffix, tmp_path):
    rng = np.random.default_rng(0)
    frozen = 0
    for seed in range(25):
        sizes = rng.choice([1, 1, 2, 3, 5], size=rng.integers(3, 7)).tolist()
        arrays = network(*sizes, seed=seed, dtype="float32")
        if seed % 3 == 0:
            arrays = {name: a for name, a in arrays.items() if "bias" not in name}
        arrays = {name: (rng.uniform(0.3, 2) * a).astype(a.dtype) for name, a in arrays.items()}
        path = write(tmp_path / f"{seed}{suffix}", arrays)
        net, weights, found = assert_like_the_audit(path, layout="out_in")
        frozen += len(found)
        assert [len(net.inputs), len(net.outputs)] == [sizes[0], sizes[-1]]
        if "0.bias" in arrays:  # the order of parameters
            flat = np.concatenate([a.ravel() for a in arrays.values()])
            np.testing.assert_array_equal(weights, flat)
    assert frozen > 20


def test_biases_of_some_layers():
    rng = np.random.default_rng(1)
    source = {
        "a.weight": rng.standard_normal((3, 2)),
        "b.weight": rng.standard_normal((4, 3)),
        "b.bias": rng.standard_normal(4),
        "c.weight": rng.standard_normal((1, 4)),
    }
    net, weights, _ = assert_like_the_audit(source)
    biased = [head for tail, head in net.edges if tail == "bias"]
    assert biased == [f"h2.{i}" for i in range(4)]
    X = rng.standard_normal((5, 2))
    hidden = np.maximum(X @ source["a.weight"].T, 0)
    hidden = np.maximum(hidden @ source["b.weight"].T + source["b.bias"], 0)
    np.testing.assert_allclose(net.evaluate(weights, X), hidden @ source["c.weight"].T)


@pytest.mark.filterwarnings("ignore")
def test_modules_of_pytorch(tmp_path):
    torch = framework("torch")
    nn = torch.nn
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1), nn.ReLU(), nn.Linear(1, 1))
    net, weights, _ = assert_like_the_audit(model, activation=None)
    X = torch.randn(7, 3)
    with torch.no_grad():
        expected = model(X).numpy()
    np.testing.assert_allclose(net.evaluate(weights, X.numpy()), expected, rtol=1e-4, atol=1e-6)
    head = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 4), nn.ReLU())
    head.append(nn.Linear(4, 1))
    with pytest.raises(NoChain, match=r"0 is of the class Conv2d; .* torch\.onnx\.export"):
        dag.from_model(head)
    framework("onnx")
    torch.onnx.export(head, (torch.randn(2, 1, 4, 4),), str(tmp_path / "m.onnx"), dynamo=False)
    assert_like_the_audit(tmp_path / "m.onnx")  # told the activation, files are read and not run


def test_what_replay_returns():
    weights = ob.replay(0, network=3, d=4, l=9, scheme="torch_linear")
    _, _, found = assert_like_the_audit(weights)
    assert len(found) == ob.audit(weights, "relu", scheme=None).hidden[0].count("pathological")


def test_nothing_to_read():
    with pytest.raises(NothingAuditable, match=r"neurons of 0: .*tanh"):
        dag.from_model(network(2, 3, 1), activation="tanh")


def test_several_runs():
    torch = framework("torch")
    nn = torch.nn
    model = nn.Sequential(
        *(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.Tanh()),
        *(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)),
    )
    net, weights = dag.from_model(model)
    assert (len(net.hidden), net.size) == (8, 16 + 20 + 20 + 5)
    found = len(net.frozen_edges(weights, rtol=RTOL))
    assert found == ob.audit(model, scheme=None, rtol=RTOL).frozen_weights
    with pytest.raises(ValueError, match=r"^layout = 'in_out': PyTorch module stores 0 out_in"):
        dag.from_model(model, layout="in_out")
    with pytest.raises(ValueError, match=r"^layout = 'sideways': must be one of"):
        dag.from_model(model, layout="sideways")
    assert dag.from_model(model, layout="out_in")[0].size == net.size
    net, _, _ = assert_like_the_audit(model, activation=None, layers=["4", "6"])
    assert net.size == 25


# --- lists of edges ------------------------------------------------------------------------------


def test_a_list_of_edges(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text("# a comment\nx, h, 1/2\n\nz,h,3\nh,y,-4\nbias,h,0.5\n")
    net, weights = read_edges(path)
    assert (net.inputs, net.hidden, net.outputs) == (("x", "z"), ("h",), ("y",))
    assert net.edges == (("x", "h"), ("z", "h"), ("h", "y"), ("bias", "h"))
    assert weights.tolist() == [0.5, 3.0, -4.0, 0.5]
    path.write_text("x,h,1/2\nz,h,3\nh,y,-4\n")
    _, weights = read_edges(path)
    assert weights.dtype == object
    assert net.balances([*weights, 0]).tolist() == [9.25 - 16]
    path.write_text("x,h\nh,y\nz,y\n")
    net, weights = read_edges(path, inputs=["z", "x"], outputs=["y"], hidden_bias=True)
    assert net.inputs == ("z", "x")
    assert net.size == 4
    assert weights is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no edge"),
        ("a", r"line 1: must read tail,head or tail,head,weight"),
        ("a,b\nb,,3", r"line 2: must read"),
        ("a,b,c", r"line 1: 'c' is no weight"),
        ("a,b,1/0", r"line 1: '1/0' is no weight"),
        ("a,b,1\nb,c", "1 of 2 edges have a weight"),
        ("x,a\na,b\nb,a\nb,y", "must have no cycle"),
        ("a,b,nan\nb,c,1", "must be finite"),
    ],
)
def test_bad_lists(text, message, tmp_path):
    path = tmp_path / "edges.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_edges(path)


def test_no_text_and_no_biases(tmp_path):
    path = tmp_path / "edges.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        read_edges(path)
    path.write_text("x,h,1\nh,y,2\n")
    with pytest.raises(ValueError, match="biases must be among them"):
        read_edges(path, hidden_bias=True)
