"""Repair: every neuron gets its margin, the function stays, what cannot be done is refused."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import obstruction as ob
from obstruction import models
from obstruction.auditing.repair.repair import find_repair, repair, write_repair
from obstruction.models.contents import NothingAuditable, round_bfloat16
from obstruction.models.model import Layer, Link, Model, Tensor
from obstruction.models.norms import hidden_norms
from obstruction.models.options import ReadOptions

TYPES = ("float16", "bfloat16", "float32", "float64")
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


def tensor(name, values, dtype):
    values = np.asarray(values, dtype=np.float64)
    stored = round_bfloat16(values) if dtype == "bfloat16" else values.astype(dtype)
    return Tensor(name, stored, dtype)


def network(*weights, biases=None, dtype="float64", reasons=None, activation="relu", slope=0.0):
    """Return a Model of weights ``(outputs, inputs)``; every other layer is stored the other way.

    What is stored the other way has Fortran order, so both ways of summing are tested.
    """
    layers = []
    for i, weight in enumerate(weights):
        weight = np.asarray(weight, dtype=np.float64)
        layout = "out_in" if i % 2 == 0 else "in_out"
        held = tensor(f"{i}.weight", weight if layout == "out_in" else weight.T.copy(), dtype)
        bias = None if biases is None or biases[i] is None else biases[i]
        bias = None if bias is None else tensor(f"{i}.bias", bias, dtype)
        layers.append(Layer(f"fc{i + 1}", held, bias, layout))
    reasons = reasons or [None] * (len(weights) - 1)
    links = tuple(Link(activation, slope, reason) for reason in reasons)
    return Model(tuple(layers), links, (), "test")


def he(*widths, seed=0, dtype="float64", bias=0.0, gain=1.0, **options):
    """Return a network of He-normal weights, the last ones times a gain."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(widths))
    weights = [rng.standard_normal((o, i)) * math.sqrt(2.0 / i) for i, o in pairs]
    weights[-1] *= gain
    biases = [bias * rng.standard_normal(o) for _, o in pairs] if bias else None
    return network(*weights, biases=biases, dtype=dtype, **options)


def with_changes(model, changes):
    """Return the model that a reader would make of the changed tensors: written out by hand."""
    layers = []
    for layer in model.layers:
        new = {}
        name = layer.weight_tensor.name
        if name in changes:
            array = changes[name]
            assert array.dtype == layer.weight_tensor.array.dtype
            assert array.shape == layer.weight_tensor.shape
            new["weight_tensor"] = dataclasses.replace(layer.weight_tensor, array=array)
        if layer.bias_tensor is not None and layer.bias_tensor.name in changes:
            array = changes[layer.bias_tensor.name]
            new["bias_tensor"] = dataclasses.replace(layer.bias_tensor, array=array)
        layers.append(dataclasses.replace(layer, **new))
    return dataclasses.replace(model, layers=tuple(layers))


def outputs(model, x):
    """Evaluate a network of ReLUs in float64."""
    for i, layer in enumerate(model.layers):
        x = x @ layer.weight.astype(np.float64).T
        x = x if layer.bias is None else x + layer.bias.astype(np.float64)
        if i < len(model.links):
            x = np.where(x > 0, x, model.links[i].slope * x)
    return x


def ratios(model):
    """Return in-norm over out-norm of every hidden neuron, computed plainly."""
    found = []
    for before, after in itertools.pairwise(model.layers):
        into = (before.weight.astype(np.float64) ** 2).sum(axis=1)
        into += 0.0 if before.bias is None else before.bias.astype(np.float64) ** 2
        out = (after.weight.astype(np.float64) ** 2).sum(axis=0)
        found.append(np.sqrt(into / out))
    return found


# --- what it promises -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bias", [0.0, 0.3])
@pytest.mark.parametrize("widths", [(2, 60, 1), (2, 9, 8, 7, 2), (4, 6, 1, 5, 1, 1), (8,) * 7])
def test_every_neuron_has_its_margin_and_a_second_repair_changes_nothing(dtype, bias, widths):
    model = he(*widths, dtype=dtype, bias=bias, seed=sum(widths), gain=3.0)
    for margin in (0.01, 0.1, 2.0) if dtype != "float16" else (0.1,):
        assert min(r.min() for r in ratios(model)) < 1.0 + margin
        found = find_repair(model, margin=margin)
        fixed = with_changes(model, found.changes)
        after = min(r.min() for r in ratios(fixed))
        assert after >= 1.0 + margin
        again = find_repair(fixed, margin=margin)
        assert again.changed == 0
        assert not again.changes
        assert found.changed == sum(np.count_nonzero(s != 1.0) for s in found.scales) > 0
        assert found.largest_scale == max(s.max() for s in found.scales)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_function_stays(dtype, slope):
    model = he(5, 30, 20, 2, dtype=dtype, bias=0.5, seed=1, slope=slope)
    found = find_repair(model)
    x = np.random.default_rng(2).standard_normal((1000, 5))
    was, now = outputs(model, x), outputs(with_changes(model, found.changes), x)
    size = np.abs(was).max()
    allowed = 0.0 if dtype == "bfloat16" else 4.0 * EPSILON[dtype]
    allowed = 1e-5 if dtype == "float16" else allowed  # a few weights become subnormal
    assert np.abs(now - was).max() <= (allowed + 1e-14) * size
    assert found.relative_difference <= (allowed + 1e-14)
    assert found.inputs == 256


def test_the_reported_difference_is_that_of_the_stored_weights():
    model = he(5, 30, 20, 2, dtype="float32", seed=1)
    found = find_repair(model)
    x = np.random.default_rng(0).standard_normal((256, 5))
    was, now = outputs(model, x), outputs(with_changes(model, found.changes), x)
    assert found.difference == pytest.approx(np.abs(now - was).max(), rel=1e-6)
    share = found.difference / np.abs(was).max()
    assert found.relative_difference == pytest.approx(share, rel=1e-6)
    assert 1e-9 < found.relative_difference < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_factors_of_16_bit_networks_are_powers_of_two(dtype):
    found = find_repair(he(5, 30, 20, 2, dtype=dtype, seed=1))
    factors = np.concatenate(found.scales)
    assert set(np.unique(np.log2(factors))) >= {0.0, 1.0}
    assert np.all(np.log2(factors) % 1.0 == 0.0)


def test_a_shallow_repair_is_the_closed_form():
    model = he(2, 200, 1, seed=4, gain=5.0)
    into = np.linalg.norm(model.layers[0].weight, axis=1)
    out = np.linalg.norm(model.layers[1].weight, axis=0)
    plan = find_repair(model, margin=0.25)
    wanted = np.maximum(1.0, np.sqrt(1.25 * out / into))
    assert np.count_nonzero(wanted > 1.0) > 3
    np.testing.assert_allclose(plan.scales[0], wanted, rtol=1e-12)
    assert plan.iterations == 1


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=9),
    bias=st.sampled_from([0.0, 1.0]),
    margin=st.sampled_from([0.01, 0.5]),
)
def test_the_factors_are_the_least_fixed_point(seed, widths, bias, margin):
    """Against plain iteration upwards from 1, which can only find the least."""
    model = he(*widths, seed=seed, bias=bias)
    factors = find_repair(model, margin=margin).scales
    squares = [layer.weight**2 for layer in model.layers]
    biases = [0.0 if layer.bias is None else layer.bias**2 for layer in model.layers]
    a = [np.ones(1)] + [np.ones(w) for w in widths[1:-1]] + [np.ones(1)]
    a[0], a[-1] = np.ones(widths[0]), np.ones(widths[-1])
    for _ in range(4000):
        old = [x.copy() for x in a]
        for h in range(1, len(a) - 1):
            into = squares[h - 1] @ (1.0 / a[h - 1]) + biases[h - 1]
            out = a[h + 1] @ squares[h]
            a[h] = np.maximum(a[h], (1.0 + margin) * np.sqrt(out / into))
        if all(np.allclose(x, y, rtol=1e-15, atol=0.0) for x, y in zip(a, old, strict=True)):
            break
    for found, wanted in zip(factors, a[1:-1], strict=True):
        np.testing.assert_allclose(found, np.sqrt(wanted), rtol=1e-9)


def test_scales_change_nothing_that_has_its_margin():
    model = network([[3.0, 4.0], [0.3, 0.4]], [[1.0, 1.0]])
    assert find_repair(model).scales[0].tolist() == [1.0, pytest.approx(math.sqrt(2.2), rel=1e-12)]
    plan = find_repair(network([[3.0, 4.0]], [[1.0]]))
    assert plan.scales[0].tolist() == [1.0]
    assert plan.iterations == 0


def test_deep_he_networks_converge_quickly_with_moderate_factors():
    found = find_repair(he(*[128] * 10, 1, dtype="float32"))
    assert found.iterations < 40
    assert 2.0 < found.largest_scale < 5.0
    long = find_repair(he(*[16] * 60, 1))
    assert long.iterations < 200
    assert long.largest_scale > 1e10  # grows like (1 + margin) ** (depth ** 2 / 16)


@pytest.mark.parametrize(
    ("width", "dtype", "bias", "margin"),
    [
        (4, "float64", 0.0, 1e-4),
        pytest.param(16, "float32", 0.1, 0.1, marks=pytest.mark.slow),
        pytest.param(1, "float64", 0.1, 0.01, marks=pytest.mark.slow),
        pytest.param(16, "float16", 0.1, 0.1, marks=pytest.mark.slow),
        pytest.param(16, "float64", 0.0, 1e-3, marks=pytest.mark.slow),
        pytest.param(64, "float32", 0.1, 0.1, marks=pytest.mark.slow),
    ],
)
def test_a_thousand_layers_take_a_few_steps(width, dtype, bias, margin):
    """The iteration alone takes 9,000 steps for 150 layers, and more than 100,000 for these."""
    seen = []
    model = he(*[width] * 1000, 1, dtype=dtype, bias=bias)
    found = find_repair(model, margin=margin, told=seen.append)
    assert found.iterations <= 100
    assert seen[-1] <= found.iterations  # of the last pass, the earlier ones leave nothing
    assert found.changed > 500 * width
    again = find_repair(with_changes(model, found.changes), margin=margin)
    assert again.changed == 0


@pytest.mark.parametrize("margin", [0.1, pytest.param(10.0, marks=pytest.mark.slow)])
def test_a_thousand_layers_without_biases_have_no_factors_that_numbers_can_hold(margin):
    seen = []
    with pytest.raises(ValueError, match=r": would need a factor larger than 1e\+100"):
        find_repair(he(*[16] * 1000, 1, dtype="float32"), margin=margin, told=seen.append)
    assert len(seen) < 100


def test_the_frozen_scope_leaves_other_layers_alone():
    model = he(3, 12, 12, 1, seed=3, gain=5.0)
    found = find_repair(model, scope="frozen")
    assert set(found.changes) == {"1.weight", "2.weight"}
    assert np.all(found.scales[0] == 1.0)
    assert dict(found.untouched) == {
        "fc1": "its neurons have several outgoing weights, none is frozen"
    }
    after = ratios(with_changes(model, found.changes))
    assert after[1].min() >= 1.1
    assert after[0].min() < 1.0
    assert found.changed < find_repair(model).changed


def test_the_frozen_scope_sees_what_is_behind_a_single_neuron():
    """Balances of all that lies behind a single neuron with one weight decide together."""
    wide, narrow = np.full((2, 2), 0.01), np.array([[2.0, 2.0]])
    model = network(wide, [[4.0, 4.0], [4.0, -4.0]], narrow, [[1.0]])
    assert [list(r < 1.0) for r in ratios(model)] == [[True] * 2, [False] * 2, [False]]
    assert components(model) > 1
    found = find_repair(model, scope="frozen")
    assert np.all(found.scales[0] > 1.0)
    assert components(with_changes(model, found.changes)) == 1


def components(model):
    held = [part for layer in model.layers for part in (np.array(layer.weight), layer.bias)]
    return ob.audit(held, "relu", "out_in", scheme=None).components


# --- what it refuses ------------------------------------------------------------------------


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf, "0.1", True, None])
def test_margins_that_are_none(margin):
    with pytest.raises(ValueError, match=r"margin = .* must be a finite number greater than 0"):
        find_repair(he(2, 3, 1), margin=margin)


def test_unknown_scope():
    with pytest.raises(ValueError, match="scope = 'some': must be one of all, frozen"):
        find_repair(he(2, 3, 1), scope="some")


def test_dead_neurons_are_named_if_they_would_need_it():
    with pytest.raises(ValueError, match=r"fc1: dead neurons cannot be repaired.*index 1, 2"):
        find_repair(network([[1.0], [0.0], [0.0]], [[1.0, 2.0, 3.0]]))
    harmless = network([[2.0], [0.0]], [[1.0, 0.0]])
    assert find_repair(harmless).changed == 0
    alive = network([[1.0], [0.0]], [[1.0, 2.0]], biases=[np.array([0.0, 1e-3]), None])
    assert find_repair(alive).changed == 2


def test_skipped_links_are_not_touched_and_reported():
    reasons = [None, "tanh is not positively homogeneous", None]
    model = he(3, 9, 9, 9, 1, seed=2, reasons=reasons)
    model = dataclasses.replace(
        model, links=(model.links[0], Link("tanh", reason=reasons[1]), model.links[2])
    )
    found = find_repair(model)
    assert found.untouched == (("fc2", reasons[1]),)
    after = ratios(with_changes(model, found.changes))
    assert min(after[0].min(), after[2].min()) >= 1.1
    assert "Not touched: fc2: tanh is not positively homogeneous." in str(found)


def test_shared_weights_are_refused_by_name_if_they_are_the_problem():
    weights = [np.eye(3) * 9.0, np.eye(3) * 8.0, np.eye(3) * 0.1, np.ones((1, 3))]
    shared = "weights are shared: fc is used 2 times"
    for first in (9.0, 1.0):  # whether or not other neurons lack the margin
        weights[0] = np.eye(3) * first
        model = network(*weights, reasons=[None, None, shared])
        refusal = r"fc3: has 3 neurons .* weights are shared: fc is used 2"
        with pytest.raises(ValueError, match=refusal):
            find_repair(model)
    weights[0], weights[2] = np.eye(3) * 9.0, np.eye(3) * 7.0
    assert find_repair(network(*weights, reasons=[None, None, shared])).changed == 0


def test_shared_weights_that_freeze_nothing_are_left_alone():
    weights = [np.eye(3), np.eye(3) * 0.1, np.eye(3) * 5.0, np.full((1, 3), 9.0)]
    shared = "weights are shared: fc is used 2 times"
    found = find_repair(network(*weights, reasons=[None, shared, None]))
    assert found.changed == 3
    assert found.untouched == (("fc2", shared),)


def test_a_tensor_that_two_layers_share_is_never_changed():
    model = he(3, 3, 3, 1)
    same = dataclasses.replace(model.layers[1], weight_tensor=model.layers[0].weight_tensor)
    model = dataclasses.replace(model, layers=(model.layers[0], same, model.layers[2]))
    with pytest.raises(ValueError, match=r"other layers share 0.weight"):
        find_repair(model)


def test_nothing_auditable():
    with pytest.raises(NothingAuditable, match="no hidden layer can be repaired: tanh"):
        find_repair(he(2, 3, 1, reasons=["tanh"]))


def test_what_the_stored_type_cannot_hold():
    big = network([[3e4, 3e4]], [[6e4]], dtype="float16")
    with pytest.raises(ValueError, match=r"fc1: the rescaled 0.weight overflows"):
        find_repair(big, margin=8.0)
    small = network([[2.0**-23]], [[2.0**-22]], dtype="float16")
    with pytest.raises(ValueError, match=r"fc2: the rescaled 1.weight underflows float16"):
        find_repair(small, margin=20.0)
    loud = network([[2e4]], [[4.8e4]], dtype="float16")
    with pytest.raises(ValueError, match="fc1: the outputs of its neurons would overflow float16"):
        find_repair(loud)
    with pytest.raises(ValueError, match="fc1: has neurons with norms outside"):
        find_repair(network([[1e-150]], [[1.0]]))
    with pytest.raises(ValueError, match=r"would need a factor larger than 3.28e"):
        find_repair(network([[1e-6]], [[6e4]], dtype="float16"), margin=0.1)
    with pytest.raises(ValueError, match="fc1: has weights that are not finite"):
        find_repair(network([[np.nan]], [[1.0]]))


def test_subnormal_weights_that_do_not_matter_are_no_underflow():
    weight = np.full((1, 64), 0.25)
    weight[0, 0] = 2.0**-24  # the smallest number of float16
    model = network(np.full((64, 2), 0.01), weight.T @ weight * 0 + weight, dtype="float16")
    first = find_repair(model)
    assert first.changed >= 63
    assert first.relative_difference < 1e-3


def test_a_change_of_the_function_is_refused(monkeypatch):
    model = he(2, 60, 1)
    real = find_repair.__globals__["rescaled_tensors"]

    def wrong(model, factors):
        changes = real(model, factors)
        changes["0.weight"] = changes["0.weight"] * (1.0 + 1e-12)
        return changes

    assert find_repair(model).relative_difference < 1e-14
    monkeypatch.setitem(find_repair.__globals__, "rescaled_tensors", wrong)
    with pytest.raises(ValueError, match=r"fc2: its outputs would differ by .* than rounding"):
        find_repair(model)


def test_weight_normalisation_scales_rows_by_the_magnitudes():
    rng = np.random.default_rng(0)
    v, g = rng.standard_normal((6, 2)), np.full((6, 1), 0.2)
    directions, lengths = Tensor("v", v, "float64"), Tensor("g", g, "float64")
    first = Layer("fc1", directions, None, "out_in", magnitude=lengths)
    np.testing.assert_allclose(first.weight, g * v / np.linalg.norm(v, axis=1, keepdims=True))
    out = Tensor("w", np.ones((1, 6)), "float64")
    model = Model((first, Layer("fc2", out, None, "out_in")), (Link("relu"),), (), "")
    plan = find_repair(model)
    assert set(plan.changes) == {"g", "w"}
    np.testing.assert_allclose(plan.changes["g"] / plan.changes["w"].T, 1.1, rtol=1e-9)
    before = Tensor("u", np.full((2, 3), 0.01), "float64")
    ahead = Layer("fc0", before, None, "out_in")
    model = Model((ahead, first), (Link("relu"),), (), "")
    with pytest.raises(ValueError, match="fc1: weight normalisation cannot take a factor per col"):
        find_repair(model)


# --- text -----------------------------------------------------------------------------------


def test_the_text_tells_a_stranger():
    text = str(find_repair(he(3, 12, 8, 1, seed=3, dtype="float32")))
    assert "hidden neurons, after which every neuron has in_norm >= 1.1 * out_norm." in text
    assert "The network computes the same function: on 256 random inputs" in text
    rows = [line.split() for line in text.splitlines() if line.startswith("fc")]
    assert [row[:2] for row in rows] == [["fc1", "12"], ["fc2", "8"]]
    nothing = str(find_repair(network([[3.0, 4.0]], [[1.0]])))
    assert nothing == "Nothing to repair: every neuron looked at has in_norm >= 1.1 * out_norm."


def test_one_input_without_biases_stays_disconnected_and_the_text_says_so():
    one = network([[1.0], [2.0]], [[3.0, 1.0]])
    found = find_repair(one)
    assert min(r.min() for r in ratios(with_changes(one, found.changes))) >= 1.1
    assert "no rescaling connects such a network" in str(found)
    biased = network([[1.0], [2.0]], [[3.0, 1.0]], biases=[np.ones(2), None])
    assert not find_repair(biased).notes


# --- real models ----------------------------------------------------------------------------


def arrays(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in [(6, 3), (6,), (1, 6), (1,)]]


def test_a_copy_by_default_and_in_place_on_request():
    model = arrays()
    kept = [a.copy() for a in model]
    report = ob.audit(model, "relu", "out_in", scheme=None)
    fixed = repair(model, report, margin=0.1)
    assert type(fixed) is list
    assert all(np.array_equal(a, b) for a, b in zip(model, kept, strict=True))
    assert repair(model, report, inplace=True) is model
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(model, fixed, strict=True)
    )
    assert not np.array_equal(model[0], kept[0])
    assert ob.audit(fixed, "relu", "out_in", scheme=None).summary()["pathological"] == 0
    assert np.array_equal(model[3], kept[3])  # the last bias is no neuron's


def test_without_a_report_the_options_are_needed():
    with pytest.raises(ValueError, match="activation"):
        repair(arrays(), layout="out_in")
    fixed = repair(arrays(), activation="relu", layout="out_in")
    same = repair(arrays(), ob.audit(arrays(), "relu", "out_in", scheme=None))
    assert all(np.array_equal(a, b) for a, b in zip(fixed, same, strict=True))
    report = ob.audit(arrays(), "relu", "out_in", scheme=None)
    with pytest.raises(ValueError, match="activation = 'relu': must be None with a report"):
        repair(arrays(), report, activation="relu")


def test_the_report_of_another_model_is_refused():
    model = arrays()
    report = ob.audit(model, "relu", "out_in", scheme=None)
    with pytest.raises(ValueError, match="report: must be an audit of this model as it is now"):
        repair(arrays(seed=1), report)
    wide = [np.ones((7, 3), np.float32), np.ones(7, np.float32), np.ones((1, 7), np.float32), None]
    with pytest.raises(ValueError, match="report: must be an audit of this model, but the tensor"):
        repair(wide, report)
    with pytest.raises(ValueError, match=r"report: must .* but there is no tensor 'b1'"):
        repair([model[0], None, model[2], None], report)
    model[0] *= np.float32(1.01)  # trained on since
    with pytest.raises(ValueError, match="as it is now"):
        repair(model, report)


def test_files_are_written_to_out(tmp_path):
    held = dict(zip(["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"], arrays(), strict=True))
    path, out = tmp_path / "model.npz", tmp_path / "fixed.npz"
    np.savez(path, **held)
    before = path.read_bytes()
    report = ob.audit(path, "relu", "out_in", scheme=None)
    with pytest.raises(ValueError, match="out = None: must be the path to write to"):
        repair(path, report)
    with pytest.raises(ValueError, match="inplace = True: must be False for a file"):
        repair(path, report, out=out, inplace=True)
    with pytest.raises(ValueError, match="out = 'x': must be None unless the model is a file"):
        repair(arrays(), activation="relu", layout="out_in", out="x")
    assert not out.exists()
    assert repair(path, report, out=out) == out
    assert path.read_bytes() == before
    fixed = np.load(out)
    assert {k: (v.dtype, v.shape) for k, v in fixed.items()} == {
        k: (v.dtype, v.shape) for k, v in held.items()
    }
    options = {"activation": "relu", "layout": "out_in"}
    norms = hidden_norms(models.read(out, ReadOptions(**options)))[0]
    assert np.all(norms.incoming >= 1.1 * norms.outgoing)
    again = find_repair(out, options=ReadOptions(**options))
    assert (again.changed, again.changes) == (0, {})
    assert write_repair(again, out, out=path) == path  # a copy, unchanged
    assert {k: v.tobytes() for k, v in np.load(path).items()} == {
        k: v.tobytes() for k, v in fixed.items()
    }


def test_a_refused_repair_writes_nothing(tmp_path):
    path, out = tmp_path / "model.npz", tmp_path / "fixed.npz"
    np.savez(path, **{"1.weight": np.zeros((2, 3)), "2.weight": np.ones((1, 2))})
    with pytest.raises(ValueError, match="dead neurons"):
        repair(path, activation="relu", layout="out_in", out=out)
    assert not out.exists()


@pytest.mark.slow
def test_ten_layers_of_4096_take_seconds():
    import time

    rng = np.random.default_rng(0)
    layers = []
    for i in range(10):
        weight = rng.standard_normal((4096, 4096), dtype=np.float32) * np.float32(2.0**-5.5)
        held = Tensor(f"{i}.weight", weight, "float32")
        layers.append(Layer(f"fc{i}", held, None, "out_in"))
    model = Model(tuple(layers), (Link("relu"),) * 9, (), "test")
    start = time.perf_counter()
    found = find_repair(model)
    assert time.perf_counter() - start < 60.0
    assert found.changed == 9 * 4096
    assert found.iterations < 20
    assert found.largest_scale < 4.0
