"""Forms of layers that exporters to ONNX write; runs of the file are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework
from keras_onnx_files import arrays

from obstruction import models
from obstruction.models.contents import Activation, Barrier, Dense
from obstruction.models.operations.chains import steps_of
from obstruction.models.options import NO_OPTIONS

onnx = framework("onnx")
make = onnx.helper.make_node

W1, B1, W2, B2 = arrays(4, 4, 4)  # (inputs, outputs), and square, so that shapes tell nothing
T1, T2 = np.ascontiguousarray(W1.T), np.ascontiguousarray(W2.T)
STORED = {"w1": W1, "b1": B1, "w2": W2, "b2": B2}
TURNED = {"w1": T1, "b1": B1, "w2": T2, "b2": B2}
LAST = [make("MatMul", ["a", "w2"], ["m"]), make("Add", ["m", "b2"], ["y"])]
X = np.random.default_rng(5).normal(size=(4, 4)).astype(np.float32)


def graph(nodes, weights, opset=17):
    """A model of ``y`` from ``x``, both with four numbers per row."""
    info, tensor = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    held = [tensor(np.asarray(value), name) for name, value in weights.items()]
    ends = [info("x", 1, [4, 4])], [info("y", 1, None)]
    opsets = [onnx.helper.make_opsetid("", opset)]
    made = onnx.helper.make_graph(nodes, "g", *ends, held)
    return onnx.helper.make_model(made, opset_imports=opsets)


def ints(*values):
    return np.array(values, np.int64)


def microsoft(kind, inputs, outputs, **options):
    return make(kind, inputs, outputs, domain="com.microsoft", **options)


def put(tmp_path, model):
    path = tmp_path / "a.onnx"
    if not any(one.domain == "com.microsoft" for one in model.opset_import):
        model.opset_import.add(domain="com.microsoft", version=1)
    model.ir_version = min(model.ir_version, 10)
    path.write_bytes(model.SerializeToString())
    return path


def made(path):
    """What the layers that were read make of the inputs."""
    contents, x = models.read_contents(path), X.astype(float)
    for step in steps_of(contents.graph):
        assert not isinstance(step, Barrier), step
        if isinstance(step, Activation):
            x = np.where(x > 0, x, step.slope * x)
            continue
        weight = contents.tensors[step.weight].array.astype(float)
        x = x @ (weight.T if step.layout == "out_in" else weight) * step.factor
        if step.bias is not None:
            x = x + contents.tensors[step.bias].array.astype(float).ravel() * step.bias_factor
    return x


def ran(path):
    """What the runtime makes of them."""
    runtime = framework("onnxruntime")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def reasons(path):
    return [step.reason for step in steps_of(models.read_contents(path).graph)
            if isinstance(step, Barrier)]  # fmt: skip


def first(*nodes):
    """Nodes that make ``h`` of ``x``, then ReLU and a second layer."""
    return [*nodes, make("Relu", ["h"], ["a"]), *LAST]


def turned_values(*nodes, second):
    """Nodes between exchanged axes: neurons are rows."""
    return [
        make("Transpose", ["x"], ["xt"], perm=[1, 0]),
        *nodes,
        make("Relu", ["h"], ["a"]),
        *second,
    ]


COLUMNS = {**TURNED, "b1": B1[:, None], "b2": B2[:, None]}
BACK = make("Transpose", ["yt"], ["y"], perm=[1, 0])

FORMS = {
    "subtracted": (
        first(make("MatMul", ["x", "w1"], ["m1"]), make("Sub", ["m1", "b1"], ["h"])),
        STORED,
    ),
    "subtracted from": (
        first(make("MatMul", ["x", "w1"], ["m1"]), make("Sub", ["b1", "m1"], ["h"])),
        STORED,
    ),
    "constant first": (
        first(make("MatMul", ["x", "w1"], ["m1"]), make("Add", ["b1", "m1"], ["h"])),
        STORED,
    ),
    "sum": (first(make("MatMul", ["x", "w1"], ["m1"]), make("Sum", ["m1", "b1"], ["h"])), STORED),
    "factors": (first(make("Gemm", ["x", "w1", "b1"], ["h"], alpha=0.5, beta=-2.0)), STORED),
    "no biases by beta": (first(make("Gemm", ["x", "w1", "b1"], ["h"], beta=0.0)), STORED),
    "einsum": (
        first(
            make("Einsum", ["x", "w1"], ["m1"], equation="bi,oi->bo"),
            make("Add", ["m1", "b1"], ["h"]),
        ),
        {**STORED, "w1": T1},
    ),
    "einsum, weights first": (
        first(make("Einsum", ["w1", "x"], ["h"], equation="io,...i->...o")),
        STORED,
    ),
    "einsum without a result": (
        first(make("Einsum", ["x", "w1"], ["h"], equation="ab,bc")),
        STORED,
    ),
    "fused": (
        [microsoft("FusedGemm", ["x", "w1", "b1"], ["a"], transB=1, activation="Relu"), *LAST],
        {**STORED, "w1": T1},
    ),
    "fused with a slope": (
        [
            microsoft(
                "FusedGemm",
                ["x", "w1", "b1"],
                ["a"],
                activation="LeakyRelu",
                activation_alpha=0.2,
                alpha=0.5,
            ),
            *LAST,
        ],
        STORED,
    ),
    "fused product": (
        first(
            microsoft("FusedMatMul", ["x", "w1"], ["m1"], transB=1, alpha=2.0),
            make("Add", ["m1", "b1"], ["h"]),
        ),
        {**STORED, "w1": T1},
    ),
    "values turned": (
        [
            make("Transpose", ["x"], ["xt"], perm=[1, 0]),
            make("Gemm", ["xt", "w1", "b1"], ["h"], transA=1),
            make("Relu", ["h"], ["a"]),
            *LAST,
        ],
        STORED,
    ),
    "rows": (
        turned_values(
            make("Gemm", ["w1", "xt", "b1"], ["h"]),
            second=[make("Gemm", ["w2", "a", "b2"], ["yt"]), BACK],
        ),
        COLUMNS,
    ),
    "rows of turned weights": (
        turned_values(
            make("Gemm", ["w1", "xt", "b1"], ["h"], transA=1),
            second=[make("Gemm", ["w2", "a", "b2"], ["yt"], transA=1), BACK],
        ),
        {**COLUMNS, "w1": W1, "w2": W2},
    ),
    "columns and rows": (
        [
            make("Gemm", ["w1", "x", "b1"], ["h"], transB=1),
            make("Relu", ["h"], ["a"]),
            make("Gemm", ["a", "w2", "b2"], ["y"], transA=1),
        ],
        {**COLUMNS, "w2": W2, "b2": B2},
    ),
    "all that passes": (
        first(
            make("Identity", ["w1"], ["i1"]),
            make("Transpose", ["i1"], ["t1"]),
            make("Cast", ["t1"], ["c1"], to=1),
            make("MatMul", ["x", "c1"], ["m1"]),
            make("Identity", ["m1"], ["n1"]),
            make("Cast", ["n1"], ["o1"], to=1),
            make("Dropout", ["o1"], ["d1"]),
            make("Add", ["d1", "b1"], ["h"]),
        ),
        {**STORED, "w1": T1},
    ),
    "reshaped before biases": (
        first(
            make("MatMul", ["x", "w1"], ["m1"]),
            make("Reshape", ["m1", "shape"], ["r1"]),
            make("Add", ["r1", "b1"], ["h"]),
        ),
        {**STORED, "shape": ints(-1, 4)},
    ),
    "sizes of values": (
        first(
            make("MatMul", ["x", "w1"], ["m1"]),
            make("Shape", ["m1"], ["s"]),
            make("Gather", ["s", "zero"], ["n"]),
            make("Concat", ["n", "four"], ["shape"], axis=0),
            make("Add", ["m1", "b1"], ["g"]),
            make("Reshape", ["g", "shape"], ["h"]),
        ),
        {**STORED, "zero": ints(0), "four": ints(4)},
    ),
    "plain constants": (
        first(
            make("Constant", [], ["b1"], value_floats=[0.5, 1.0, -2.0, 3.0]),
            make("Constant", [], ["shape"], value_ints=[-1, 4]),
            make("MatMul", ["x", "w1"], ["m1"]),
            make("Add", ["m1", "b1"], ["g"]),
            make("Reshape", ["g", "shape"], ["h"]),
        ),
        {"w1": W1, "w2": W2, "b2": B2},
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_layers_are_those_that_run(name, tmp_path):
    nodes, weights = FORMS[name]
    path = put(tmp_path, graph(nodes, weights))
    contents = models.read_contents(path)
    assert sum(isinstance(step, Dense) for step in steps_of(contents.graph)) == 2
    np.testing.assert_allclose(made(path), ran(path), rtol=1e-4, atol=1e-5)
    assert [link.reason for link in models.read(path, NO_OPTIONS).links] == [None]


BARRIERS = {
    "transposed values": first(
        make("Gemm", ["x", "w1", "b1"], ["g"]), make("Gemm", ["g", "w1", "b1"], ["h"], transA=1)
    ),
    "einsum that turns": first(
        make("Gemm", ["x", "w1", "b1"], ["g"]),
        make("Einsum", ["g", "w1"], ["h"], equation="bi,io->ob"),
    ),
    "no factor": first(make("Gemm", ["x", "w1", "b1"], ["h"], alpha=0.0)),
    "biases of another shape": first(
        make("MatMul", ["x", "w1"], ["m1"]), make("Add", ["m1", "column"], ["h"])
    ),
    "unsqueezed before biases": [
        make("MatMul", ["x", "w1"], ["m1"]),
        make("Unsqueeze", ["m1", "two"], ["u"]),
        make("Add", ["u", "b1"], ["h"]),
        make("Relu", ["h"], ["a"]),
        make("MatMul", ["a", "w2"], ["y"]),
    ],
}


@pytest.mark.parametrize("name", BARRIERS)
def test_what_is_no_layer(name, tmp_path):
    weights = {**STORED, "column": B1[:, None], "two": ints(2)}
    path = put(tmp_path, graph(BARRIERS[name], weights))
    assert reasons(path)
    assert ran(path).size


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_opsets(opset, tmp_path):
    nodes = first(
        make("Gemm", ["x", "w1", "b1"], ["g"]), make("Flatten", ["g"], ["f"]),
        make("Dropout", ["f"], ["h"]),
    )  # fmt: skip
    path = put(tmp_path, graph(nodes, STORED, opset=opset))
    np.testing.assert_allclose(made(path), ran(path), rtol=1e-4, atol=1e-5)


def test_versions_before_seven(tmp_path):
    """With an axis along which biases are added, and shapes as attributes."""

    def model(axis):
        nodes = [
            make("MatMul", ["x", "w1"], ["m1"]),
            make("Add", ["m1", "b1"], ["g"], broadcast=1, axis=axis),
            make("Reshape", ["g"], ["h"], shape=[-1, 4]),
            make("Relu", ["h"], ["a"]),
            make("Gemm", ["a", "w2", "b2"], ["y"], broadcast=1),
        ]
        return graph(nodes, STORED, opset=6)

    assert reasons(put(tmp_path, model(1))) == []
    assert reasons(put(tmp_path, model(0)))


# --- rounded values and weights -----------------------------------------------------------------


def rounded(of, to, zero="zero"):
    return [
        make("QuantizeLinear", [of, "scale", zero], [f"{of}_q"]),
        make("DequantizeLinear", [f"{of}_q", "scale", zero], [to]),
    ]


SCALES = {"scale": np.float32(1e-2), "zero": np.uint8(128), "least": np.uint8(0)}


def test_rounded_values_are_passed_over_with_a_note(tmp_path):
    nodes = [
        *rounded("x", "x1"),
        make("MatMul", ["x1", "w1"], ["m1"]),
        make("Add", ["m1", "b1"], ["h"]),
        make("Relu", ["h"], ["r"]),
        *rounded("r", "a"),
        *LAST,
    ]
    path = put(tmp_path, graph(nodes, {**STORED, **SCALES}))
    model = models.read(path)
    assert [(link.activation, link.reason) for link in model.links] == [("relu", None)]
    assert "rounds weights or values" in model.notes[0]


def test_weights_of_floats_that_are_rounded_are_read(tmp_path):
    nodes = [*rounded("w1", "v1"), *rounded("w2", "v2"), make("MatMul", ["x", "v1"], ["h"]),
             make("Relu", ["h"], ["a"]), make("MatMul", ["a", "v2"], ["y"])]  # fmt: skip
    path = put(tmp_path, graph(nodes, {**STORED, **SCALES}))
    model = models.read(path)
    assert [layer.weight_tensor.name for layer in model.layers] == ["w1", "w2"]
    assert model.links[0].reason is None
    assert "rounds weights or values" in model.notes[0]


def test_integers_that_begin_with_zero_cut_off_what_is_negative(tmp_path):
    """Quantisers drop a ReLU before such a rounding."""
    nodes = [make("MatMul", ["x", "w1"], ["h"]), *rounded("h", "a", "least"), *LAST]
    path = put(tmp_path, graph(nodes, {**STORED, **SCALES}))
    assert models.read(path).links[0].activation == "relu"
    nodes = [make("MatMul", ["x", "w1"], ["h"]), *rounded("h", "a"), *LAST]
    path = put(tmp_path, graph(nodes, {**STORED, **SCALES}))
    assert models.read(path).links[0].activation == "linear"
    nodes[1] = make("QuantizeLinear", ["h", "scale"], ["h_q"])
    nodes[2] = make("DequantizeLinear", ["h_q", "scale"], ["a"])
    path = put(tmp_path, graph(nodes, {**STORED, **SCALES}))
    assert models.read(path).links[0].activation == "relu"


def test_integers_are_no_weights(tmp_path):
    whole = {**STORED, **SCALES, "w1": np.arange(16, dtype=np.uint8).reshape(4, 4)}
    nodes = first(
        make("DequantizeLinear", ["w1", "scale", "zero"], ["v1"]),
        make("MatMul", ["x", "v1"], ["h"]),
    )
    path = put(tmp_path, graph(nodes, whole))
    assert reasons(path) == ["the weights are quantised"]
    nodes = [make("QuantizeLinear", ["x", "scale", "zero"], ["x_q"]),
             make("MatMulInteger", ["x_q", "w1"], ["i"]), make("Cast", ["i"], ["h"], to=1),
             make("Relu", ["h"], ["a"]), *LAST]  # fmt: skip
    path = put(tmp_path, graph(nodes, whole))
    assert "the weights are quantised" in reasons(path)


# --- functions of a model -----------------------------------------------------------------------


def with_function(nodes, functions, weights=STORED):
    model = graph(nodes, weights)
    model.opset_import.add(domain="mine", version=1)
    model.functions.extend(functions)
    return model


def function(name, nodes, inputs, outputs, **options):
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("mine", 1)]
    return onnx.helper.make_function("mine", name, inputs, outputs, nodes, opsets, **options)


def dense():
    nodes = [
        make("Transpose", ["w"], ["t"], perm=[1, 0]),
        make("MatMul", ["v", "t"], ["p"]),
        make("Add", ["p", "b"], ["u"]),
    ]
    return function("dense", nodes, ["v", "w", "b"], ["u"])


def test_bodies_of_functions_are_read(tmp_path):
    block = function(
        "block",
        [make("dense", ["v", "w", "b"], ["g"], domain="mine"), make("Relu", ["g"], ["u"])],
        ["v", "w", "b"],
        ["u"],
    )
    nodes = [
        make("block", ["x", "w1", "b1"], ["a"], domain="mine"),
        make("dense", ["a", "w2", "b2"], ["y"], domain="mine"),
    ]
    path = put(tmp_path, with_function(nodes, [dense(), block], TURNED))
    np.testing.assert_allclose(made(path), ran(path), rtol=1e-4, atol=1e-5)
    before = onnx.load(path)
    models.write(path, {"b1": np.zeros(4, np.float32)}, out=path)
    after = onnx.load(path)
    assert after.functions == before.functions
    assert after.graph.node == before.graph.node
    np.testing.assert_allclose(made(path), ran(path), rtol=1e-4, atol=1e-5)


def test_weights_in_the_body_of_a_function_are_no_layer(tmp_path):
    held = onnx.numpy_helper.from_array(W1, "w")
    own = function(
        "own", [make("Constant", [], ["w"], value=held), make("MatMul", ["v", "w"], ["u"])],
        ["v"], ["u"],
    )  # fmt: skip
    nodes = [make("own", ["x"], ["h"], domain="mine"), make("Relu", ["h"], ["a"]), *LAST]
    path = put(tmp_path, with_function(nodes, [own]))
    assert reasons(path) == ["the weights are in the body of a function of the model"]


def test_functions_without_end_are_not_opened(tmp_path):
    """Each calls the one before twice; or a function calls itself."""
    many = [function("f0", [make("Relu", ["v"], ["u"])], ["v"], ["u"])]
    for i in range(1, 40):
        calls = [
            make(f"f{i - 1}", ["v"], ["w"], domain="mine"),
            make(f"f{i - 1}", ["w"], ["u"], domain="mine"),
        ]
        many.append(function(f"f{i}", calls, ["v"], ["u"]))
    own = function("f39", [make("f39", ["v"], ["u"], domain="mine")], ["v"], ["u"])
    for functions in (many, [own]):
        nodes = [
            make("MatMul", ["x", "w1"], ["h"]), make("f39", ["h"], ["a"], domain="mine"), *LAST
        ]  # fmt: skip
        path = put(tmp_path, with_function(nodes, functions))
        assert reasons(path) == ["f39 is a function of the model, which is not opened"]


TWO = [
    make("MatMul", ["x", "w1"], ["h"]),
    make("Add", ["h", "b1"], ["z"]),
    make("Relu", ["z"], ["a"]),
    make("MatMul", ["a", "w2"], ["m"]),
    make("Add", ["m", "b2"], ["o"]),
]


@pytest.mark.parametrize(
    ("node", "opset"),
    [
        (make("Slice", ["o", "zero", "one", "one"], ["y"]), 17),
        (make("Slice", ["o"], ["y"], starts=[0], ends=[1], axes=[1]), 9),
        (make("Slice", ["o"], ["y"], starts=[0, 0], ends=[4, 1]), 9),
        (make("Gather", ["o", "one"], ["y"], axis=1), 17),
        (make("Gather", ["o", "one"], ["y"], axis=-1), 17),
        (make("GatherElements", ["o", "square"], ["y"], axis=1), 17),
        (make("Split", ["o"], ["y", "rest"], axis=1), 11),
        (make("ReduceSum", ["o", "one"], ["y"]), 17),
        (make("ReduceMean", ["o"], ["y"], axes=[-1]), 17),
        (make("ReduceMax", ["o"], ["y"]), 17),
        (make("TopK", ["o", "one"], ["y", "at"]), 17),
    ],
)
@pytest.mark.parametrize("between", [[], ["Relu"], ["Sigmoid", "Identity"]])
def test_layers_of_whose_outputs_a_part_is_seen_keep_no_balance(tmp_path, node, opset, between):
    """The weights of the others do not train, so one outgoing weight may be all that does."""
    node, value = onnx.NodeProto.FromString(node.SerializeToString()), "o"
    applied = []
    for i, kind in enumerate(between):
        applied.append(make(kind, [value], [f"t{i}"]))
        value = f"t{i}"
    node.input[0] = value
    constants = {"zero": ints(0), "one": ints(1), "square": np.zeros((4, 1), np.int64)}
    path = put(tmp_path, graph([*TWO, *applied, node], {**STORED, **constants}, opset))
    model = models.read(path)
    assert not model.segments()
    reasons = " ".join(str(link.reason) for link in model.links)
    assert "only a part or a combination of its outputs is used" in reasons


@pytest.mark.parametrize(
    "node",
    [
        make("Slice", ["o", "zero", "one", "zero"], ["y"]),
        make("Gather", ["o", "zero"], ["y"]),
        make("ReduceMean", ["o"], ["y"], axes=[0]),
        make("ArgMax", ["o"], ["y"], axis=1),
    ],
)
def test_samples_may_be_chosen_and_labels_made(tmp_path, node):
    constants = {"zero": ints(0), "one": ints(1)}
    path = put(tmp_path, graph([*TWO, node], {**STORED, **constants}))
    assert models.read(path).segments() == [range(2)]
