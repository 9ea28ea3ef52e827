"""Programs of torch.export in memory and in files, and distributed checkpoints."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from conftest import framework
from model_files import aten, exported, network, program, zipped

import obstruction as ob
from obstruction import models
from obstruction.models.contents import UnreadableModel
from obstruction.models.operations.einsum import matrix_layout
from obstruction.models.options import ReadOptions

ARRAYS = network(3, 5, 4, 2)


def saved(tmp_path, data, name="a.pt2"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def described(source, **options):
    """The layers with their orientation, and of each link its activation or reason."""
    model = models.read(source, ReadOptions(**options))
    layers = [(layer.name, layer.layout, layer.weight.tolist()) for layer in model.layers]
    return layers, [link.reason or (link.activation, link.slope) for link in model.links]


# --- files, without PyTorch --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.pt2", "a.pt", "a"])
def test_a_file_is_read_by_its_content(name, tmp_path):
    contents = models.read_contents(saved(tmp_path, exported(ARRAYS), name))
    assert contents.format == "program of torch.export"
    assert list(contents.tensors) == list(ARRAYS)
    for key, array in ARRAYS.items():
        assert np.array_equal(contents.tensors[key].array, array)
    layers, links = described(tmp_path / name)
    assert [layer[:2] for layer in layers] == [("0", "out_in"), ("2", "out_in"), ("4", "out_in")]
    assert links == [("relu", 0.0)] * 2


def test_a_copy_differs_in_the_changed_numbers_alone(tmp_path):
    path = saved(tmp_path, exported(ARRAYS))
    repaired = ob.repair(path, out=tmp_path / "b.pt2")
    before, after = models.read_contents(path).tensors, models.read_contents(repaired).tensors
    assert before.keys() == after.keys()
    models.write(path, {"0.bias": -ARRAYS["0.bias"]}, out=path)
    after = models.read_contents(path).tensors
    for key, array in ARRAYS.items():
        assert np.array_equal(after[key].array, -array if key == "0.bias" else array)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (zipped({"n/data/aotinductor/model/a.so": b"x"}), "a compiled model: give the program"),
        (zipped({"version": b"7.0"}), "no program of torch.export of PyTorch 2.9: give torch.exp"),
        (zipped({"n/models/a.json": b"{}", "n/models/b.json": b"{}"}), "holds 2 programs"),
        (zipped({"n/models/a.json": b"{}", "n/byteorder": b"big"}), "another order of bytes"),
        (exported(ARRAYS, b"{}"), "is not one that PyTorch writes"),
        (exported(ARRAYS, b"{"), "is no JSON text"),
        (exported(ARRAYS, config=b'{"config": []}'), "is not one that PyTorch writes"),
        (exported(ARRAYS, b"[" * 10**5), "nested too deeply|no JSON text"),
        (exported(ARRAYS, b" " * (5 * 2**20)), "has more than 4,194,304 bytes"),
    ],
)
def test_other_files_are_named(data, why, tmp_path):
    with pytest.raises(UnreadableModel, match=why):
        models.read(saved(tmp_path, data))


def test_other_schemas_and_tensors_are_named(tmp_path):
    told = program(ARRAYS)
    told["schema_version"]["major"] = 9
    with pytest.raises(UnreadableModel, match=r"version 9 .* give torch\.export\.load\(path\)"):
        models.read(saved(tmp_path, exported(ARRAYS, json.dumps(told).encode())))
    good = exported(ARRAYS).decode("latin-1")
    for old, new in (('"use_pickle": false', '"use_pickle":  true'), ('"dtype": 7', '"dtype": 9')):
        text = (good[good.index('{"config": {"0.') :].partition("PK")[0]).replace(old, new, 1)
        path = saved(tmp_path, exported(ARRAYS, config=text.encode()))
        contents = models.read_contents(path)
        assert "0.weight" not in contents.tensors
        assert any(note.startswith("'0.weight' ") for note in contents.notes)
        assert [layer.name for layer in models.read(path).layers] == ["2", "4"]
    text = text.replace('"as_int": 5', '"as_int": 50')
    with pytest.raises(UnreadableModel, match="reaches beyond its numbers"):
        models.read(saved(tmp_path, exported(ARRAYS, config=text.encode())))


def _inserted(before, *nodes, last=None):
    """A file in which nodes are put before one, which then reads the result of the last one."""
    told = program(ARRAYS)
    graph = told["graph_module"]["graph"]
    at = next(
        i for i, n in enumerate(graph["nodes"]) if n["outputs"][0]["as_tensor"]["name"] == before
    )
    graph["nodes"][at:at] = nodes
    if last is not None:
        graph["nodes"][at + len(nodes)]["inputs"][0]["arg"] = {"as_tensor": {"name": last}}
    return exported(ARRAYS, json.dumps(told).encode())


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (aten("detach.default", "d", self="relu_0"), "gradients do not pass"),
        (aten("mul.Tensor", "d", self="relu_0", other=2.0), "a constant is added or multiplied"),
        (aten("add.Tensor", "d", self="relu_0", other="x"), "a skip connection"),
        (aten("layer_norm.default", "d", input="relu_0"), "normalisation makes"),
        (aten("t.default", "d", self="relu_0"), "t is not audited"),
        (aten("gelu.default", "d", self="relu_0"), "gelu is not positively homogeneous"),
        ({**aten("a", "d", x="relu_0"), "target": "mine.op.default"}, "op is not audited"),
        (aten("dropout.default", "d", input="relu_0", p=0.5), None),
        (aten("view.default", "d", self="relu_0", size=[-1, 5]), None),
        (aten("relu_.default", "d", self="relu_0"), None),
    ],
)
def test_what_lies_between_layers(node, reason, tmp_path):
    path = saved(tmp_path, _inserted("linear_2", node, last="d"))
    _, links = described(path)
    if reason is None:
        assert links == [("relu", 0.0)] * 2
    else:
        assert reason in links[0]
        assert links[1] == ("relu", 0.0)


@pytest.mark.parametrize("target", ["relu_.default", "copy_.default"])
def test_a_value_that_is_changed_and_used_elsewhere(target, tmp_path):
    """The next layer reads the value that was changed by its old name."""
    path = saved(tmp_path, _inserted("linear_2", aten(target, "d", self="relu_0")))
    with pytest.raises(UnreadableModel, match=f"aten.{target} may change a value"):
        models.read(path)
    viewed = aten("view.default", "v", self="relu_0", size=[-1, 5]), aten(target, "d", self="v")
    with pytest.raises(UnreadableModel, match=f"aten.{target} may change a value"):
        models.read(saved(tmp_path, _inserted("linear_2", *viewed)))


def test_arguments_without_names_count_as_inputs(tmp_path):
    """Operations of a higher order, such as a part without gradients, have such arguments."""
    node = aten("a", "d", x="relu_0", y=0)
    node["target"] = "torch.ops.higher_order.wrap_with_set_grad_enabled"
    for one in node["inputs"]:
        one["name"] = ""
    _, links = described(saved(tmp_path, _inserted("linear_2", node, last="d")))
    assert "gradients may be switched off" in links[0]


@pytest.mark.parametrize(
    ("equation", "place", "layout"),
    [
        ("bi,oi->bo", 1, "out_in"),
        ("bi,io->bo", 1, "in_out"),
        ("oi,bi->bo", 0, "out_in"),
        ("...i,oi->...o", 1, "out_in"),
        ("bti,io->bto", 1, "in_out"),
        ("bi, io", 1, "in_out"),
        ("bi,oi->ob", 1, None),
        ("ib,oi->ob", 1, None),
        ("bi,oi->bi", 1, None),
        ("bi,bi->b", 1, None),
        ("ii,oi->io", 1, None),
        ("bi,oij->bo", 1, None),
        ("bi,oi,o->bo", 1, None),
        ("bi,ob->io", 1, None),
        ("", 0, None),
        ("->", 0, None),
        (",", 0, None),
        ("b.i,oi->b.o", 1, None),
    ],
)
def test_sums_of_products(equation, place, layout):
    assert matrix_layout(equation, place) == layout


# --- programs in memory --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return framework("torch")


def custom(torch, forward, **parts):
    made = type("Custom", (torch.nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def layers(torch):
    nn = torch.nn
    return {"fc1": nn.Linear(3, 6), "fc2": nn.Linear(6, 6), "fc3": nn.Linear(6, 1)}


def _blocked(self, x):
    import torch

    with torch.no_grad():
        h = self.fc1(x).relu()
    return self.fc3(self.fc2(h).relu())


FORWARD = {
    "plain": (lambda self, x: self.fc3(self.fc2(self.fc1(x).relu()).relu_()), [None, None]),
    "leaky": (
        lambda self, x: self.fc3(self.fc2(self.fc1(x).clamp(min=0)).relu()).softmax(-1),
        [None, None],
    ),
    "skip": (
        lambda self, x: self.fc3(self.fc1(x) + self.fc2(self.fc1(x).relu())),
        ["no chain", "shared", "skip connection"],
    ),
    "tied": (
        lambda self, x: self.fc3(self.fc2(self.fc2(self.fc1(x).relu()).relu())),
        ["shared"] * 3,
    ),
    "detached": (
        lambda self, x: self.fc3(self.fc2(self.fc1(x).relu().detach()).relu()),
        ["gradients do not pass", None],
    ),
    "blocked": (_blocked, [None]),
    "part of the outputs": (
        lambda self, x: self.fc2(self.fc1(x).relu())[:, :1],
        ["only a part or a combination of its outputs is used"],
    ),
    "sum of the outputs": (
        lambda self, x: self.fc2(self.fc1(x).relu()).tanh().sum(-1),
        ["only a part or a combination of its outputs is used"],
    ),
    "penalty": (
        lambda self, x: (self.fc3(self.fc2(self.fc1(x).relu()).relu()), self.fc2.weight * 2),
        ["used elsewhere"] * 2,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORWARD)
def test_programs_in_memory_and_in_files_are_read_alike(name, torch, tmp_path):
    forward, expected = FORWARD[name]
    made = torch.export.export(custom(torch, forward, **layers(torch)), (torch.randn(4, 3),))
    torch.export.save(made, tmp_path / "a.pt2")
    found, links = described(made)
    assert (found, links) == described(tmp_path / "a.pt2")
    assert len(links) == len(expected)
    for link, reason in zip(links, expected, strict=True):
        assert link == ("relu", 0.0) if reason is None else reason in link


def test_matrices_of_ones_own_are_layers(torch, tmp_path):
    def forward(self, x):
        h = torch.relu(x @ self.a + self.b)
        return torch.einsum("bi,oi->bo", h, self.c) - self.d

    shapes = {"a": (3, 6), "b": (6,), "c": (2, 6), "d": (2,)}
    drawn = {name: torch.nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    net = custom(torch, forward, **drawn)
    made = torch.export.export(net, (torch.randn(4, 3),))
    torch.export.save(made, tmp_path / "a.pt2")
    for source in (made, tmp_path / "a.pt2"):
        model = models.read(source)
        assert [(one.name, one.layout) for one in model.layers] == [
            ("a", "in_out"),
            ("c", "out_in"),
        ]
        assert [one.bias_factor for one in model.layers] == [1.0, -1.0]
    repaired = ob.repair(made)
    x = torch.randn(4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PyTorch about its own trees
        assert torch.allclose(repaired.module()(x), net(x), atol=1e-5)
    assert ob.repair(made, inplace=True) is made


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_types_of_numbers(kind, torch, tmp_path):
    nn = torch.nn
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1)).to(getattr(torch, kind))
    net[2].weight.requires_grad_(False)
    x = torch.randn(4, 3, dtype=getattr(torch, kind))
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "a.pt2")
    model = models.read(tmp_path / "a.pt2")
    assert model.layers[0].weight_tensor.dtype == kind
    assert np.array_equal(model.layers[0].weight, net[0].weight.detach().double().numpy())
    assert model.links[0].reason == "2 is not trained"


def test_shared_numbers_are_told(torch, tmp_path):
    nn = torch.nn
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 1))
    net[2].weight = nn.Parameter(net[0].weight.detach())
    made = torch.export.export(net, (torch.randn(4, 6),))
    torch.export.save(made, tmp_path / "a.pt2")
    for source in (made, tmp_path / "a.pt2"):
        assert models.read_contents(source).shared == (frozenset({"0.weight", "2.weight"}),)


def test_a_module_of_a_program_is_run(torch):
    nn = torch.nn
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    sizes = ({0: torch.export.Dim.DYNAMIC},)
    made = torch.export.export(net, (torch.randn(4, 3),), dynamic_shapes=sizes)
    assert described(made.module())[1] == [("relu", 0.0)]
    with pytest.raises(ValueError, match=r"give program\.module\(\) to run"):
        ob.audit(made, inputs=torch.randn(4, 3))


# --- distributed checkpoints ---------------------------------------------------------------------


@pytest.mark.parametrize("names", [[".metadata", "__0_0.distcp"], ["__0_0.distcp"], [".metadata"]])
def test_distributed_checkpoints_are_named_with_the_call_that_converts_them(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(exported(ARRAYS))
    for path in (tmp_path, *(tmp_path / name for name in names)):
        with pytest.raises(UnreadableModel, match=r"dcp_to_torch_save\('.*', 'model\.pt'\)$"):
            models.read(path)


def test_what_is_advised_for_distributed_checkpoints_works(torch, tmp_path):
    checkpoint = framework("torch.distributed.checkpoint")
    utilities = framework("torch.distributed.checkpoint.format_utils")
    nn = torch.nn
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    with pytest.warns(UserWarning, match="in a single process"):
        checkpoint.save({"model": net.state_dict()}, checkpoint_id=tmp_path / "dcp")
    with pytest.raises(UnreadableModel, match="distributed checkpoint"):
        ob.audit(tmp_path / "dcp", "relu")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        utilities.dcp_to_torch_save(str(tmp_path / "dcp"), str(tmp_path / "model.pt"))
    assert described(tmp_path / "model.pt", activation="relu")[1] == [("relu", 0.0)]
