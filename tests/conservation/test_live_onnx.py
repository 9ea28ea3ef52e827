"""ONNX files that are run: their laws, by the names of the file, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.auditing.live.law_report import LawReport
from obstruction.auditing.report import Report

onnx = framework("onnx")
framework("torch")
onnx2fx = framework("onnx2fx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

IN = np.array([[0.3, 0.4], [3.0, 4.0], [0.0, 0.5]], np.float32)
"""Norms of the neurons: 0.5, 5 and 0.5."""

OUT = np.array([[2.0, 1.0, -0.25]], np.float32)
"""Only the first is larger, so that weight is frozen, and stays at least sqrt(4 - 0.25)."""


def write(path, nodes, tensors, *, shape=(4, 2), opset=17):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def dense(path, **options):
    nodes = [
        helper.make_node("Gemm", ["x", "first/W:0", "first/b:0"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "last.W"], ["y"], transB=1),
    ]
    tensors = {"first/W:0": IN, "first/b:0": np.zeros(3, np.float32), "last.W": OUT}
    return write(path, nodes, tensors, **options)


def convolution(path, *, mean=0.5, **options):
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype("f"),
        "gain": np.ones(4, "f"),
        "offset": np.zeros(4, "f"),
        "mean": np.full(4, mean, "f"),
        "var": np.full(4, 2.0, "f"),
        "head": rng.normal(size=(4, 1)).astype("f"),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "gain", "offset", "mean", "var"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["y"]),
    ]
    return write(path, nodes, tensors, shape=(2, 3, 5, 5), **options)


def names(law):
    return [term.tensor for term in law.terms]


def test_laws_have_the_names_of_the_initializers(tmp_path):
    laws = ob.conservation_laws(dense(tmp_path / "net.onnx"))
    assert laws.counts == {"balance": 3}
    assert names(laws[0]) == ["first/W:0", "first/b:0", "last.W"]
    assert laws.source == "net.onnx"
    assert laws.framework == "ONNX"
    assert laws.table()["value"].tolist() == pytest.approx([0.25 - 4.0, 25.0 - 1.0, 0.25 - 0.0625])
    (row,) = laws.frozen().itertuples()
    assert (row.tensor, row.position) == ("last.W", (0, 0))
    assert row.least == pytest.approx(np.sqrt(4.0 - 0.25))


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize(("mean", "balances"), [(0.5, 4), (0.0, 8)])
def test_normalisations_of_a_file_have_constant_statistics(tmp_path, mean, balances, opset):
    # (c - mean) gain + offset: filters and gains can be scaled against each other if mean is 0
    laws = ob.conservation_laws(convolution(tmp_path / "net.onnx", mean=mean, opset=opset))
    assert laws.counts == {"balance": balances}
    assert laws.fixed == ("mean", "var")
    assert list(laws.parameters) == ["w", "gain", "offset", "head"]


def test_statistics_that_share_a_tensor_with_gains_are_constant(tmp_path):
    path = convolution(tmp_path / "net.onnx")
    model = onnx.load(path)
    node = model.graph.node[1]
    node.input[3], node.input[4] = "same", "gain"
    model.graph.node.insert(0, helper.make_node("Identity", ["offset"], ["same"]))
    onnx.save(model, path)
    laws = ob.conservation_laws(path)
    assert set(laws.fixed) == {"same of statistics", "gain of statistics", "mean", "var"}
    assert set(laws.parameters) == {"w", "gain", "offset", "head"}


def test_names_that_differ_in_punctuation_are_not_confused(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "a.b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "a_b"], ["y"], transB=1),
    ]
    laws = ob.conservation_laws(write(tmp_path / "net.onnx", nodes, {"a.b": IN, "a_b": OUT}))
    assert names(laws[0]) == ["a.b", "a_b"]


def test_negative_indices_are_gathered(tmp_path):
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["g"], axis=1),
        helper.make_node("Gemm", ["g", "in"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "out"], ["y"], transB=1),
    ]
    tensors = {"last": np.array(-1), "in": IN, "out": OUT}
    laws = ob.conservation_laws(write(tmp_path / "net.onnx", nodes, tensors, shape=(4, 5, 2)))
    assert laws.counts == {"balance": 3}


def test_factors_of_formulas_and_settings_are_not_trained(tmp_path):
    nodes = [
        helper.make_node("Mul", ["x", "half"], ["s"]),
        helper.make_node("Clip", ["s", "low"], ["k"]),
        helper.make_node("Gemm", ["k", "in"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "out"], ["y"], transB=1),
    ]
    tensors = {"half": np.float32([0.5]), "low": np.float32(-2.0), "in": IN, "out": OUT}
    laws = ob.conservation_laws(write(tmp_path / "net.onnx", nodes, tensors))
    assert list(laws.parameters) == ["in", "out"]


def test_a_wrong_conversion_gives_no_verdict(tmp_path, monkeypatch):
    path = dense(tmp_path / "net.onnx")
    right = onnx2fx.convert

    def wrong(model):
        for node in model.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Elu"
        return right(model)

    monkeypatch.setattr(onnx2fx, "convert", wrong)
    with pytest.raises(ValueError, match="gives other outputs than ONNX defines"):
        ob.conservation_laws(path)
    with pytest.raises(ValueError, match="no laws are claimed"):
        ob.audit(path, inputs=np.ones((4, 2)))


def test_an_operation_that_cannot_be_converted_is_named(tmp_path):
    nodes = [helper.make_node("Strange", ["x", "in"], ["y"], domain="of.mine")]
    path = write(tmp_path / "net.onnx", nodes, {"in": IN})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("of.mine", 1))
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"net\.onnx: cannot be run, onnx2fx fails.*Strange"):
        ob.conservation_laws(path)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.ones((4, 3)), r"inputs: x has shape \(4, 3\), and .*net.onnx asks for \(4, 2\)"),
        (np.ones((4, 2), int), "inputs: x has numbers of type int64, and .* asks for float32"),
        ((np.ones((4, 2)),) * 2, r"inputs: 2 given, and .* asks for 1: \['x'\]"),
        ({"z": np.ones((4, 2))}, r"inputs: have the names \['z'\], and .* asks for \['x'\]"),
        (np.full((4, 2), np.nan), r"inputs\[0\]\[0, 0\] = nan: inputs must be finite"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(tmp_path, inputs, said):
    with pytest.raises(ValueError, match=said):
        ob.conservation_laws(dense(tmp_path / "net.onnx"), inputs=inputs)


def test_only_the_number_of_samples_may_be_open(tmp_path):
    path = dense(tmp_path / "net.onnx", shape=("batch", 2))
    assert ob.conservation_laws(path).counts == {"balance": 3}
    assert ob.conservation_laws(path, inputs={"x": np.ones((7, 2))}).counts == {"balance": 3}
    path = dense(tmp_path / "open.onnx", shape=("batch", "width"))
    with pytest.raises(ValueError, match=r"x of shape \(batch, width\) and leaves its shape open"):
        ob.conservation_laws(path)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.onnx: there is no such file"):
        ob.conservation_laws(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no graph at all")
    with pytest.raises(ValueError, match=r"text\.onnx: is no ONNX file that can be read"):
        ob.conservation_laws(tmp_path / "text.onnx")


def test_a_chain_is_read_as_before_and_run_with_inputs(tmp_path):
    path = dense(tmp_path / "net.onnx")
    assert isinstance(ob.audit(path), Report)
    report = ob.audit(path, inputs=np.ones((4, 2)))
    assert isinstance(report, LawReport)
    assert report.verdict == "obstructed"
    assert report.frozen["what"].tolist() == ["last.W[0, 0]"]


def test_what_is_no_chain_is_run(tmp_path):
    report = ob.audit(convolution(tmp_path / "net.onnx"))
    assert isinstance(report, LawReport)
    assert "4 channels keep a balance; all of them have a side with one weight" in str(report)


def test_without_the_extra_files_are_read_and_the_error_names_it(tmp_path, monkeypatch):
    for module in ("conservation.live.opening", "auditing.live.arguments"):
        monkeypatch.setattr(f"obstruction.{module}.can_run", lambda: False)
    path = dense(tmp_path / "net.onnx")
    assert isinstance(ob.audit(path), Report)
    with pytest.raises(ValueError, match=r"pip install 'obstruction\[onnx-run\]'"):
        ob.audit(path, inputs=np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"pip install 'obstruction\[onnx-run\]'"):
        ob.conservation_laws(path)
    with pytest.raises(ValueError, match="nothing in this model"):
        ob.audit(convolution(tmp_path / "cnn.onnx"))


def test_a_file_is_repaired_into_another(tmp_path):
    path, out = dense(tmp_path / "net.onnx"), tmp_path / "fixed.onnx"
    report = ob.audit(path, inputs=np.ones((4, 2)))
    assert ob.repair(path, report, out=out) == out
    assert ob.audit(out, inputs=np.ones((4, 2))).verdict == "clear"
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("f")
    before, after = (ReferenceEvaluator(str(one)).run(None, {"x": x})[0] for one in (path, out))
    assert after == pytest.approx(before, rel=1e-5)
    drift = report.laws.drift(out)
    assert drift["largest"].item() > 0.5  # the balance of the first neuron was -3.75


def test_the_command_runs_files(tmp_path, command):
    path = dense(tmp_path / "net.onnx")
    done = command("laws", path)
    assert (done.code, done.err) == (0, "")
    assert "reads last.W" in done.out
    done = command("audit", path, "--inputs", "2")
    assert done.code == 1
    assert done.out.startswith("net.onnx (ONNX): 12 trained weights in 3 parameters")
    done = command("audit", path, "--inputs", "3")
    assert done.code == 2
    assert "asks for (4, 2)" in done.err
    done = command("laws", path, "--call", "a=1")
    assert done.code == 2
    assert "is for a factory" in done.err
