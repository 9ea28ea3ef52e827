"""ONNX files: the graph decides what a layer is; what is refused; what is written back."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from conftest import framework
from keras_onnx_files import arrays, damaged, onnx_graph, onnx_mlp, read_blocked, save_beside

from obstruction.models.contents import (
    Activation,
    Barrier,
    Contents,
    Dense,
    UnreadableModel,
    round_bfloat16,
)
from obstruction.models.operations.chains import BRANCHES, steps_of
from obstruction.models.readers.onnx import graph as reader

onnx = framework("onnx")
make = onnx.helper.make_node

W1, B1, W2, B2 = arrays(4, 4, 4)  # (inputs, outputs)


def put(tmp_path, model, name: str = "model.onnx"):
    path = tmp_path / name
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


def read(tmp_path, model) -> Contents:
    return reader.read(put(tmp_path, model))


def brief(contents: Contents) -> list[str]:
    """Return steps as words: weights with layout, activations and barriers by kind."""
    return [
        f"{step.weight} {step.layout}"
        if isinstance(step, Dense)
        else step.reason
        if isinstance(step, Barrier)
        else f"({step.name} {step.slope:g})"
        for step in steps_of(contents.graph)
    ]


def evaluated(contents: Contents, x: np.ndarray) -> np.ndarray:
    """Return what the steps compute, which has to be what the whole graph does."""
    for step in steps_of(contents.graph):
        if isinstance(step, Activation):
            x = np.where(x > 0, x, step.slope * x)
            continue
        weight = contents.tensors[step.weight].array.astype(float)
        weight = weight.T if step.layout == "in_out" else weight
        x = x @ weight.T * step.factor
        if step.bias is not None:
            x = x + contents.tensors[step.bias].array.astype(float).ravel() * step.bias_factor
    return x


def run(model, x: np.ndarray) -> np.ndarray:
    """Return what the graph computes, by the interpreter in the package onnx."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x.astype(np.float32)})[0]


# --- what is found --------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize(("kind", "layout"), [("gemm", "out_in"), ("matmul", "in_out")])
def test_multilayer_perceptron(tmp_path, kind, layout, dtype, raw):
    model = onnx_mlp(5, 4, 3, 1, kind=kind, dtype=dtype, raw=raw)
    contents = read(tmp_path, model)
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert list(contents.tensors) == list(expected)
    for name, values in expected.items():
        assert contents.tensors[name].dtype == dtype
        assert contents.tensors[name].array.dtype == values.dtype
        assert (contents.tensors[name].array == values).all()
    steps = steps_of(contents.graph)
    assert contents.layout is None
    assert [type(step) for step in steps] == [Dense, Activation, Dense, Activation, Dense]
    assert {step.layout for step in steps if isinstance(step, Dense)} == {layout}
    assert [step.bias for step in steps[::2]] == ["0.bias", "2.bias", "4.bias"]


@pytest.mark.parametrize("raw", [True, False])
def test_bfloat16(tmp_path, raw):
    values = round_bfloat16(np.array([[1.0, -2.5], [0.1, 1e30]]))
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    tensor = onnx.TensorProto(name="w", data_type=onnx.TensorProto.BFLOAT16, dims=[2, 2])
    if raw:
        tensor.raw_data = bits.tobytes()
    else:
        tensor.int32_data.extend(bits.ravel().tolist())
    path = put(tmp_path, onnx_graph([make("MatMul", ["x", "w"], ["y"])], {"w": tensor}))
    found = reader.read(path).tensors["w"]
    assert found.dtype == "bfloat16"
    assert found.array.tobytes() == values.tobytes()
    reader.write(path, {"w": found.stored(np.array([[2.0, 0.3], [-7.0, 0.0]]))}, path)
    again = reader.read(path).tensors["w"]
    assert (again.array == round_bfloat16(np.array([[2.0, 0.3], [-7.0, 0.0]]))).all()
    kept = onnx.load(path).graph.initializer[0]
    assert kept.data_type == onnx.TensorProto.BFLOAT16
    assert kept.HasField("raw_data") == raw


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


W1T, W2T = np.ascontiguousarray(W1.T), np.ascontiguousarray(W2.T)
SECOND = [make("Relu", ["h"], ["r"]), make("MatMul", ["r", "w2"], ["y"])]
ONE = np.float32(1.0)

# nodes that make h of x with the tensor w1 in them, and the layout in which w1 then is
FIRST = {
    "in_out": [
        ([make("MatMul", ["x", "w1"], ["h"])], {"w1": W1}),
        ([make("Gemm", ["x", "w1"], ["h"])], {"w1": W1}),
        ([make("Gemm", ["x", "w1", "b1"], ["h"], alpha=0.5, beta=2.0)], {"w1": W1, "b1": B1}),
        ([make("Identity", ["w1"], ["v"]), make("MatMul", ["x", "v"], ["h"])], {"w1": W1}),
        ([make("Cast", ["w1"], ["v"], to=1), make("MatMul", ["x", "v"], ["h"])], {"w1": W1}),
        (
            [make("Transpose", ["w1"], ["t"]), make("Gemm", ["x", "t"], ["h"], transB=1)],
            {"w1": W1},
        ),
        ([make("MatMul", ["x", "w1"], ["p"]), make("Add", ["p", "b1"], ["h"])], {"b1": B1}),
        ([make("MatMul", ["x", "w1"], ["p"]), make("Add", ["b1", "p"], ["h"])], {"b1": B1[None]}),
        (
            [
                make("Reshape", ["b1", "s"], ["b"]),
                make("MatMul", ["x", "w1"], ["p"]),
                make("Add", ["p", "b"], ["h"]),
            ],
            {"b1": B1, "s": ints(1, -1)},
        ),
        (
            [
                make("Unsqueeze", ["b1", "s"], ["u"]),
                make("Squeeze", ["u", "s"], ["b"]),
                make("Gemm", ["x", "w1", "b"], ["h"]),
            ],
            {"b1": B1, "s": ints(0)},
        ),
        (
            [
                make("Flatten", ["x"], ["f"]),
                make("Dropout", ["f"], ["d"]),
                make("Reshape", ["d", "s"], ["e"]),
                make("MatMul", ["e", "w1"], ["h"]),
            ],
            {"s": ints(-1, 4)},
        ),
    ],
    "out_in": [
        ([make("Gemm", ["x", "w1", "b1"], ["h"], transB=1)], {"w1": W1T, "b1": B1}),
        (
            [make("Transpose", ["w1"], ["t"], perm=[1, 0]), make("MatMul", ["x", "t"], ["h"])],
            {"w1": W1T},
        ),
        (
            [
                make("Transpose", ["x"], ["xt"], perm=[1, 0]),
                make("MatMul", ["w1", "xt"], ["p"]),
                make("Add", ["p", "b1"], ["q"]),
                make("Transpose", ["q"], ["h"], perm=[1, 0]),
            ],
            {"w1": W1T, "b1": B1[:, None]},
        ),
    ],
}


@pytest.mark.parametrize(
    ("layout", "nodes", "tensors"),
    [(layout, *case) for layout, cases in FIRST.items() for case in cases],
)
def test_ways_to_write_a_layer(tmp_path, layout, nodes, tensors):
    """The steps compute what the graph does, with weights by their stored names."""
    model = onnx_graph([*nodes, *SECOND], {"w1": W1, **tensors, "w2": W2})
    contents = read(tmp_path, model)
    assert brief(contents) == [f"w1 {layout}", "(Relu 0)", "w2 in_out"]
    assert steps_of(contents.graph)[0].bias == ("b1" if "b1" in tensors else None)
    x = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_allclose(evaluated(contents, x), run(model, x), rtol=1e-5, atol=1e-6)


def test_constant_nodes_hold_weights(tmp_path):
    value = onnx.numpy_helper.from_array(W1, "ignored")
    nodes = [make("Constant", [], ["w1"], value=value), make("MatMul", ["x", "w1"], ["h"])]
    path = put(tmp_path, onnx_graph([*nodes, *SECOND], {"w2": W2}))
    contents = reader.read(path)
    assert brief(contents) == ["w1 in_out", "(Relu 0)", "w2 in_out"]
    reader.write(path, {"w1": W1 * 2}, path)
    assert (reader.read(path).tensors["w1"].array == W1 * 2).all()
    assert onnx.load(path).graph.node[0].attribute[0].t.name == "ignored"


LAYER1, LAYER2 = make("MatMul", ["x", "w1"], ["a"]), make("MatMul", ["r", "w2"], ["y"])
SLOPES = np.full((1, 4), 0.25, np.float32)


@pytest.mark.parametrize(
    ("nodes", "tensors", "expected"),
    [
        ([make("LeakyRelu", ["a"], ["r"], alpha=0.5)], {}, ["(LeakyRelu 0.5)"]),
        ([make("LeakyRelu", ["a"], ["r"])], {}, ["(LeakyRelu 0.01)"]),
        ([make("PRelu", ["a", "s"], ["r"])], {"s": SLOPES}, ["(PRelu 0.25)"]),
        ([make("PRelu", ["a", "s"], ["r"])], {"s": B1}, ["(PRelu 0)"]),
        ([make("Tanh", ["a"], ["r"])], {}, ["(Tanh 0)"]),
        ([make("HardSwish", ["a"], ["r"])], {}, ["(HardSwish 0)"]),
        ([make("Max", ["z", "a"], ["r"])], {"z": np.float32(0)}, ["(relu 0)"]),
        ([make("Max", ["a", "z"], ["r"])], {"z": ONE}, ["a constant is added, multiplied or"]),
        ([make("Clip", ["a", "z"], ["r"])], {"z": np.float32(0)}, ["(relu 0)"]),
        ([make("Clip", ["a", "z", "s"], ["r"])], {"z": 0 * ONE, "s": 6 * ONE}, ["(relu6 0)"]),
        ([make("Add", ["a", "b1"], ["r"])], {"b1": B1[:1]}, ["a constant is added"]),
        ([make("Transpose", ["a"], ["r"], perm=[1, 0])], {}, ["the product is not one"]),
        ([make("Transpose", ["a"], ["r"], perm=[0, 2, 1, 3])], {}, []),
        (
            [make("BatchNormalization", ["a", *"bcde"], ["r"])],
            dict.fromkeys("bcde", B1),
            ["batch normalisation makes the outputs independent"],
        ),
        ([make("Conv", ["a", "k"], ["r"])], {"k": W1}, ["convolutions are not audited"]),
        ([make("Add", ["a", "a"], ["r"])], {}, [BRANCHES, "a skip connection adds"]),
        (
            [make("Sigmoid", ["a"], ["s"]), make("Mul", ["a", "s"], ["r"])],
            {},
            [BRANCHES, "(Sigmoid 0)", "the outputs of different layers are multiplied"],
        ),
        ([make("Gelu", ["a"], ["r"], domain="com.microsoft")], {}, ["com.microsoft.Gelu nodes"]),
        ([make("NewThing", ["a"], ["r"])], {}, ["NewThing nodes are not audited"]),
    ],
)
def test_what_lies_between(tmp_path, nodes, tensors, expected):
    contents = read(tmp_path, onnx_graph([LAYER1, *nodes, LAYER2], {"w1": W1, **tensors, "w2": W2}))
    found = brief(contents)
    assert found[0] == "w1 in_out"
    if "product" in str(expected):  # the second layer's product is over another axis
        assert len(found) == 2
        assert found[1].startswith(expected[0])
        return
    assert found[-1] == "w2 in_out"
    assert len(found) == 2 + len(expected)
    for one, start in zip(found[1:-1], expected, strict=True):
        assert one.startswith(start)


@pytest.mark.parametrize(
    ("nodes", "tensors", "expected"),
    [
        (
            [make("DequantizeLinear", ["q", "s"], ["w"]), make("MatMul", ["r", "w"], ["y"])],
            {"q": np.ones((4, 4), np.int8), "s": ONE},
            "the weights are quantised",
        ),
        (
            [make("MatMulInteger", ["r", "q"], ["y"])],
            {"q": np.ones((4, 4), np.int8)},
            "the weights are quantised",
        ),
        ([make("MatMul", ["r", "q"], ["y"])], {"q": np.ones((4, 4), np.int32)}, "of type int32"),
        ([make("MatMul", ["r", "q"], ["y"])], {"q": np.ones((2, 4, 4), "f4")}, "have the shape"),
        (
            [make("Mul", ["q", "q"], ["w"]), make("MatMul", ["r", "w"], ["y"])],
            {"q": W2},
            "the weights are computed in the graph",
        ),
        (
            [make("Reshape", ["q", "s"], ["w"]), make("MatMul", ["r", "w"], ["y"])],
            {"q": np.ones((2, 8), "f4"), "s": ints(4, 4)},
            "the weights change their shape in the graph",
        ),
        ([make("MatMul", ["r", "r"], ["y"])], {}, "the product is not one of outputs with fixed"),
        ([make("Gemm", ["r", "w2"], ["y"], transA=1)], {"w2": W2}, "the product is not one"),
        ([make("Gemm", ["r", "w2", "b"], ["y"])], {"w2": W2, "b": ONE}, "the biases are not one"),
        ([make("If", ["r"], ["y"])], {}, "If nodes are not audited"),
    ],
)
def test_what_is_no_layer(tmp_path, nodes, tensors, expected):
    first = [LAYER1, make("Relu", ["a"], ["r"])]
    contents = read(
        tmp_path,
        onnx_graph(
            [*first, *nodes, make("MatMul", ["y", "w3"], ["z"])],
            {"w1": W1, **tensors, "w3": W1},
            outputs=["z"],
        ),
    )
    found = brief(contents)
    assert found[0] == "w1 in_out"
    assert found[-1] == "w3 in_out"
    assert expected in " ".join(found[1:-1])


def test_a_matrix_of_one_column_that_is_reshaped_is_turned(tmp_path):
    nodes = [make("Reshape", ["w", "s"], ["v"]), make("Gemm", ["x", "v"], ["y"], transB=1)]
    model = onnx_graph(nodes, {"w": W1[:, :1], "s": ints(1, 4)})
    assert brief(read(tmp_path, model)) == ["w in_out"]


def test_shared_weights_two_heads_and_what_is_not_used(tmp_path):
    nodes = [
        make("MatMul", ["x", "w1"], ["a"]),
        make("Relu", ["a"], ["r"]),
        make("MatMul", ["r", "w1"], ["b"]),
        make("MatMul", ["b", "w2"], ["y"]),
        make("MatMul", ["b", "w3"], ["z"]),
        make("MatMul", ["r", "w4"], ["unused"]),
    ]
    tensors = {"w1": W1, "w2": W2, "w3": W2, "w4": W2}
    contents = read(tmp_path, onnx_graph(nodes, tensors, outputs=["y", "z"]))
    found = brief(contents)
    assert found[:5] == ["w1 in_out", "(Relu 0)", "w1 in_out", BRANCHES, "w2 in_out"]
    assert found[-1] == "w3 in_out"
    assert "w4 in_out" not in found
    hidden = read(tmp_path, onnx_graph(nodes[:4], tensors, outputs=["y", "r"]))
    assert brief(hidden) == ["w1 in_out", "(Relu 0)", BRANCHES, "w1 in_out", "w2 in_out"]


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([make("ReduceSum", ["w1"], ["s"]), make("Add", ["p", "s"], ["y"])], ["y"]),
        ([make("Identity", ["p"], ["y"]), make("Abs", ["w1"], ["s"])], ["y", "s"]),
        ([make("Transpose", ["w1"], ["t"]), make("Mul", ["p", "t"], ["y"])], ["y"]),
        ([make("Identity", ["p"], ["y"])], ["y", "w1"]),
        ([make("Identity", ["p"], ["y"])], ["y"]),
        ([make("Identity", ["p"], ["y"]), make("Shape", ["w1"], ["s"])], ["y", "s"]),
    ],
)
def test_weights_that_are_read_by_themselves(tmp_path, nodes, outputs):
    """Nothing is said of neurons whose weights do something else besides."""
    chain = [
        make("MatMul", ["x", "w1"], ["h"]),
        make("Relu", ["h"], ["r"]),
        make("MatMul", ["r", "w2"], ["p"]),
    ]
    contents = read(tmp_path, onnx_graph([*chain, *nodes], {"w1": W1, "w2": W2}, outputs=outputs))
    expected = ["w1 in_out", "(Relu 0)", "w2 in_out"]
    elsewhere = "its weights are also used elsewhere in forward"
    alone = "w1" not in outputs and not any(
        "w1" in node.input and node.op_type != "Shape" for node in nodes
    )
    assert brief(contents)[: 3 if alone else 5] == (
        expected if alone else [elsewhere, "w1 in_out", elsewhere, *expected[1:]]
    )


@pytest.mark.parametrize("inner", [False, True])
def test_biases_are_added_to_values_that_nothing_else_uses(tmp_path, inner):
    graph = onnx.helper.make_graph([make("Identity", ["p"], ["i"])], "i", [], [])
    other = [make("If", ["flag"], ["z"], then_branch=graph, else_branch=graph)] if inner else []
    nodes = [make("MatMul", ["x", "w1"], ["p"]), make("Add", ["p", "b1"], ["h"]), *SECOND, *other]
    tensors = {"w1": W1, "b1": B1, "w2": W2, "flag": np.array(True)}
    model = onnx_graph(nodes, tensors, outputs=["y", "z" if inner else "p"])
    found = brief(read(tmp_path, model))
    constant = "a constant is added, multiplied or compared with"
    assert found[:5] == ["w1 in_out", BRANCHES, constant, "(Relu 0)", "w2 in_out"]


def test_inner_graphs_use_values_too(tmp_path):
    inner = onnx.helper.make_graph([make("Identity", ["r"], ["i"])], "i", [], [])
    nodes = [
        LAYER1,
        make("Relu", ["a"], ["r"]),
        LAYER2,
        make("If", ["flag"], ["z"], then_branch=inner, else_branch=inner),
    ]
    tensors = {"w1": W1, "w2": W2, "flag": np.array(True)}
    contents = read(tmp_path, onnx_graph(nodes, tensors, outputs=["y", "z"]))
    assert brief(contents)[:4] == ["w1 in_out", "(Relu 0)", BRANCHES, "w2 in_out"]


def test_functions_are_not_opened(tmp_path):
    model = onnx_graph([LAYER1, make("Relu", ["a"], ["r"]), LAYER2], {"w1": W1, "w2": W2})
    model.functions.append(
        onnx.helper.make_function("", "Relu", ["i"], ["o"], [make("Relu", ["i"], ["o"])], [])
    )
    assert brief(read(tmp_path, model))[1] == "Relu is a function of the model, which is not opened"


def test_what_follows_the_last_layer_is_left_out(tmp_path):
    tail = [make("Softmax", ["y"], ["s"]), make("ArgMax", ["s"], ["label"])]
    model = onnx_graph(
        [*FIRST["in_out"][0][0], *SECOND, *tail], {"w1": W1, "w2": W2}, outputs=["label", "s"]
    )
    assert brief(read(tmp_path, model))[-2:] == ["w2 in_out", "(Softmax 0)"]


# --- numbers beside the model -------------------------------------------------------------------


def test_numbers_beside_the_model(tmp_path):
    path, model = tmp_path / "model.onnx", onnx_mlp(64, 64, 64)
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    save_beside(model, path)  # which takes the numbers out of the model
    contents = reader.read(path)
    assert (contents.tensors["0.weight"].array == weight).all()

    before, numbers = path.read_bytes(), (tmp_path / "numbers.data").read_bytes()
    out = tmp_path / "copy.onnx"
    reader.write(path, {"0.weight": weight * 2}, out)
    assert path.read_bytes() == before
    assert (tmp_path / "numbers.data").read_bytes() == numbers
    assert sorted(os.listdir(tmp_path)) == [
        "copy.onnx",
        "copy.onnx.data",
        "model.onnx",
        "numbers.data",
    ]
    onnx.checker.check_model(out)
    loaded = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    assert (loaded["0.weight"] == weight * 2).all()
    assert (loaded["2.weight"] == contents.tensors["2.weight"].array).all()

    reader.write(path, {"0.weight": weight * 3}, path)
    assert path.read_bytes() == before  # only the numbers have changed
    changed = (tmp_path / "numbers.data").read_bytes()
    assert len(changed) == len(numbers)
    assert (reader.read(path).tensors["0.weight"].array == weight * 3).all()
    assert (contents.tensors["0.weight"].array == weight).all()  # what was read stays


@pytest.mark.parametrize(
    ("location", "offset", "length", "told"),
    [
        ("../secret", 0, 64, "outside its folder"),
        ("inner/../../secret", 0, 64, "outside its folder"),
        ("/etc/passwd", 0, 64, "outside its folder"),
        ("C:\\secret", 0, 64, "outside its folder"),
        ("\\\\server\\secret", 0, 64, "outside its folder"),
        ("link", 0, 64, "outside its folder"),
        ("missing", 0, 64, "cannot be read"),
        (".", 0, 64, "cannot be read"),
        ("", 0, 64, "has no name"),
        ("short", 0, 64, "is not whole"),
        ("enough", 1, 64, "is not whole"),
        ("enough", -4, 64, "the place of"),
        ("enough", 0, 32, "is not whole"),
        ("enough", 10**30, 64, "the place of"),
        ("enough", "1e3", 64, "the place of"),
        ("enough", "²", 64, "the place of"),
    ],
)
def test_places_outside_are_never_read(tmp_path, location, offset, length, told):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "short").write_bytes(bytes(63))
    (folder / "enough").write_bytes(bytes(64))
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4, 4], data_location=1)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    path = put(folder, onnx_graph([make("MatMul", ["x", "w"], ["y"])], {"w": tensor}))
    with pytest.raises(UnreadableModel, match=told):
        reader.read(path)


# --- what is refused ------------------------------------------------------------------------


def refused(tmp_path, model) -> str:
    path = put(tmp_path, model)
    with pytest.raises(UnreadableModel) as error:
        reader.read(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_damaged_and_foreign_files(tmp_path):
    whole = onnx_mlp(5, 4, 1).SerializeToString()
    assert "damaged, or no ONNX model" in refused(tmp_path, whole[:-9])
    assert "damaged, or no ONNX model" in refused(tmp_path, b"no model at all")
    assert "is empty" in refused(tmp_path, b"")
    assert "it has no graph" in refused(tmp_path, b"\x08\x08")
    short = onnx_mlp(5, 4, 1)
    short.graph.initializer[0].raw_data = bytes(3)
    assert "'0.weight' has 3 bytes for shape (4, 5)" in refused(tmp_path, short)
    short.graph.initializer[0].ClearField("raw_data")
    assert "'0.weight' has 0 numbers for shape (4, 5)" in refused(tmp_path, short)
    short.graph.initializer[0].dims[:] = [-4, -5]
    assert "the shape of '0.weight' is (-4, -5)" in refused(tmp_path, short)
    short.graph.initializer[0].dims[:] = [2**62, 2**62]
    assert "numbers for shape" in refused(tmp_path, short)
    twice = onnx_mlp(5, 4, 1)
    twice.graph.initializer.append(twice.graph.initializer[0])
    assert "two tensors are called '0.weight'" in refused(tmp_path, twice)
    loop = [make("MatMul", ["b", "w1"], ["a"]), make("Relu", ["a"], ["b"])]
    assert "depends on itself" in refused(tmp_path, onnx_graph(loop, {"w1": W1}, outputs=["a"]))
    with pytest.raises(UnreadableModel, match="cannot be read"):
        reader.read(tmp_path / "missing.onnx")


def test_many_parts_in_few_bytes_are_not_parsed(tmp_path):
    """A node without anything takes two bytes in the file and a hundred in memory."""
    graph = b"\x0a\x00" * 2_000_000
    length, size = len(graph), b""
    while length:
        size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
        length >>= 7
    assert "more parts than a model of its size" in refused(
        tmp_path, b"\x08\x08\x3a" + size + graph
    )


def test_without_onnx(tmp_path, monkeypatch):
    model = onnx_mlp(3, 2)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert refused(tmp_path, model).endswith(
        "reading ONNX files needs onnx: pip install 'obstruction[onnx]'"
    )


def test_content_decides_what_a_file_is(tmp_path):
    head = onnx_mlp(5, 4, 1).SerializeToString()[:4096]
    assert reader.matches(head, tmp_path / "a.bin")
    assert reader.matches(b"anything", tmp_path / "a.ONNX")
    for other in (b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\x80\x02}", b"\x08\x12\0\0\0\0\0\0{"):
        assert not reader.matches(other + bytes(64), tmp_path / "a.bin")


@pytest.mark.parametrize("kind", ["gemm", "matmul", "beside"])
def test_damaged_copies_are_read_or_refused(tmp_path, kind):
    path = tmp_path / "model.onnx"
    if kind == "beside":
        save_beside(onnx_mlp(5, 4, 3, 1), path)
    else:
        path = put(tmp_path, onnx_mlp(5, 4, 3, 1, kind=kind, raw=False))
    kinds = set()
    for data in damaged(path.read_bytes(), 300, seed=5):
        path.write_bytes(data)
        try:
            kinds.add(type(reader.read(path)))
        except UnreadableModel as error:
            kinds.add(type(error))
    assert kinds == {Contents, UnreadableModel}


# --- writing back -----------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_other_numbers(tmp_path, dtype, raw):
    model = onnx_mlp(5, 4, 1, dtype=dtype, raw=raw)
    model.metadata_props.add(key="author", value="somebody")
    path, out = put(tmp_path, model), tmp_path / "out.onnx"
    tensors = reader.read(path).tensors
    changes = {name: tensor.stored(tensor.array * 3.0) for name, tensor in tensors.items()}
    del changes["0.bias"]
    reader.write(path, changes, out)
    written = onnx.load(out)
    onnx.checker.check_model(written)
    for proto in written.graph.initializer:
        values = onnx.numpy_helper.to_array(proto)
        expected = changes.get(proto.name, tensors[proto.name].array)
        assert values.dtype == expected.dtype
        assert (values == expected).all()
        assert proto.HasField("raw_data") == raw
    for old, new in zip(model.graph.initializer, written.graph.initializer, strict=True):
        if old.name in changes:
            new.CopyFrom(old)
    assert written == model
    reader.write(path, {}, out)
    assert out.read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="there is no tensor 'other'"):
        reader.write(path, {"other": W1}, out)


# --- the frameworks themselves ----------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Networks exported by PyTorch, by both exporters, with inputs of two and of three axes."""
    torch = framework("torch")
    import warnings

    folder = tmp_path_factory.mktemp("torch")
    nn = torch.nn
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 6), nn.LeakyReLU(0.1)),
        nn.Linear(6, 1),
    ).eval()
    paths = {}
    for dynamo in (False, True):
        for axes in (2, 3):
            if dynamo:
                framework("onnxscript")
            path = folder / f"{'dynamo' if dynamo else 'legacy'}{axes}.onnx"
            x = torch.zeros((3, 2, 5)[-axes:] if axes == 3 else (3, 5))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(net, (x,), path, dynamo=dynamo, verbose=False)
            paths[path.stem] = path
    return net, paths


@pytest.mark.slow
def test_pytorch_exports(exported, tmp_path):
    net, paths = exported
    ort = framework("onnxruntime")
    weights = [layer.weight.detach().numpy() for layer in net if hasattr(layer, "weight")]
    biases = [layer.bias.detach().numpy() for layer in net if hasattr(layer, "weight")]
    found = read_blocked(tmp_path / "found", *paths.values())
    for (name, path), (tensors, steps, _, _) in zip(paths.items(), found, strict=True):
        layers = [step for step in steps if isinstance(step, Dense)]
        assert [type(step) for step in steps] == [Dense, Activation, Dense, Activation, Dense]
        assert steps[3].slope == pytest.approx(0.1)
        for layer, weight, bias in zip(layers, weights, biases, strict=True):
            assert layer.layout == ("out_in" if name.endswith("2") else "in_out")
            stored = tensors[layer.weight][0]
            assert np.array_equal(stored if layer.layout == "out_in" else stored.T, weight)
            assert np.array_equal(tensors[layer.bias][0], bias)
        out = tmp_path / f"{name}.onnx"
        changes = {n: tensors[n][0] * 2 for n in (layers[0].weight, layers[0].bias)}
        changes[layers[1].weight] = tensors[layers[1].weight][0] / 2
        reader.write(path, changes, out)
        onnx.checker.check_model(out)
        x = np.random.default_rng(1).standard_normal((3, 5) if name[-1] == "2" else (3, 2, 5))
        x = x.astype("f4")
        values = []
        for file in (path, out):
            session = ort.InferenceSession(file)
            values.append(session.run(None, {session.get_inputs()[0].name: x})[0])
        np.testing.assert_array_equal(*values)


@pytest.mark.slow
def test_scikit_learn_exports(tmp_path):
    skl2onnx, sklearn = framework("skl2onnx"), framework("sklearn.neural_network")
    import warnings

    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 5)).astype("f4")
    for kind, y in (("MLPRegressor", x[:, 0]), ("MLPClassifier", x[:, 0] > 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = getattr(sklearn, kind)(hidden_layer_sizes=(7, 4), max_iter=2).fit(x, y)
            path = put(tmp_path, skl2onnx.to_onnx(fitted, x[:1]), f"{kind}.onnx")
        ((tensors, steps, _, _),) = read_blocked(tmp_path / "found", path)
        layers = [step for step in steps if isinstance(step, Dense)]
        assert not [step for step in steps[:5] if isinstance(step, Barrier)]
        assert not isinstance(steps[-1], Barrier)
        assert len(layers) == 3
        for layer, weight, bias in zip(layers, fitted.coefs_, fitted.intercepts_, strict=True):
            assert layer.layout == "in_out"
            assert np.array_equal(tensors[layer.weight][0], weight.astype("f4"))
            assert np.array_equal(tensors[layer.bias][0].ravel(), bias.astype("f4"))
