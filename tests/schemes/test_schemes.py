"""Schemes against the frameworks' documented formulas, and the text form of their options."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, example, given
from hypothesis import strategies as st

import obstruction as ob
from obstruction.schemes import (
    as_schemes,
    option_about,
    scheme_about,
    scheme_names,
    scheme_options,
    scheme_origin,
)
from obstruction.schemes.laws import (
    CONSTANT,
    CUT,
    CUT_STD,
    LAWS,
    NORMAL,
    ORTHOGONAL,
    TRUNCATED,
    UNIFORM,
)

SIZES = [(1, 1), (1, 7), (9, 1), (3, 5), (10, 64), (784, 100), (10**7, 10**7), (1, 10**9)]
TEXTBOOK = [f"{family}_{law}" for family in ("xavier", "kaiming", "lecun") for law in LAWS]
TEXTBOOK = [name for name in TEXTBOOK if name in scheme_names()]


def torch_variance(name: str, fan_in: int, fan_out: int, *, mode: str, slope: float) -> float:
    """The variance of a weight from the documentation of torch.nn.init, gain left at its default.

    xavier_normal_: std = gain * sqrt(2 / (fan_in + fan_out));
    xavier_uniform_: bound = gain * sqrt(6 / (fan_in + fan_out));
    kaiming_normal_: std = gain / sqrt(fan_mode), gain = sqrt(2 / (1 + slope ** 2));
    kaiming_uniform_: bound = gain * sqrt(3 / fan_mode). LeCun's variance is 1 / fan_in.
    A uniform law on [-bound, bound] has variance bound ** 2 / 3.
    """
    family, law = name.split("_")
    fan = fan_in if mode == "fan_in" else fan_out
    if family == "xavier":
        bound, std = math.sqrt(6 / (fan_in + fan_out)), math.sqrt(2 / (fan_in + fan_out))
    elif family == "kaiming":
        gain = math.sqrt(2 / (1 + slope**2))
        bound, std = gain * math.sqrt(3 / fan), gain / math.sqrt(fan)
    else:
        bound, std = math.sqrt(3 / fan_in), math.sqrt(1 / fan_in)
    return bound**2 / 3 if law == "uniform" else std**2


@pytest.mark.parametrize(("d", "l"), SIZES)
@pytest.mark.parametrize("e", [1, 10])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in TEXTBOOK),
        ("kaiming_normal", {"mode": "fan_out"}),
        ("kaiming_uniform", {"mode": "fan_out", "negative_slope": 0.01}),
        ("kaiming_normal", {"negative_slope": -3.0}),
        ("kaiming_uniform", {"negative_slope": math.sqrt(5)}),
    ],
)
def test_variances_are_those_of_pytorch(name, options, d, l, e):
    made = ob.scheme(name, **options)
    details = {"mode": options.get("mode", "fan_in"), "slope": options.get("negative_slope", 0.0)}
    hidden = torch_variance(name, d, l, **details)
    output = torch_variance(name, l, e, **details)
    assert made.hidden_variance(d, l) == pytest.approx(hidden, rel=1e-14)
    assert made.output_variance(d, l, e) == pytest.approx(output, rel=1e-14)
    assert made.ratio(d, l, e) == pytest.approx(output / hidden, rel=1e-14)
    law = UNIFORM if name.endswith("uniform") else NORMAL
    assert made.laws == (law, law)
    assert made.bias is None


# --- the frameworks' schemes, from their own documentation and code ---------------------------

CUT_VARIANCE = scipy.stats.truncnorm(-2, 2).var()


def u(bound: float) -> float:
    """The variance of the uniform law on [-bound, bound]."""
    return bound**2 / 3


def glorot(fan_in: int, fan_out: int) -> float:
    return 2 / (fan_in + fan_out)


def linear(fan_in: int, fan_out: int) -> float:
    """nn.Linear: ``kaiming_uniform_(a=sqrt(5))``, so ``gain * sqrt(3 / fan_in)`` bounds it."""
    gain = math.sqrt(2 / (1 + math.sqrt(5) ** 2))
    return u(gain * math.sqrt(3 / fan_in))


def he(fan_in: int, fan_out: int) -> float:
    return 2 / fan_in


def torch_bias(d: int, l: int) -> float:
    return u(1 / math.sqrt(d))


def zero_bias(d: int, l: int) -> float:
    return 0.0


NO_BIAS = None


def both(variance):
    """Both layers by one rule of the fans, with one output."""
    return lambda d, l: variance(d, l), lambda d, l: variance(l, 1)


# label: the laws, then Var W1, Var W2 and Var b1 as functions of d and l
FRAMEWORKS = {
    "torch_linear": (UNIFORM, *both(linear), torch_bias),
    "torch_linear:bias=zero": (UNIFORM, *both(linear), zero_bias),
    "torch_linear:bias=none": (UNIFORM, *both(linear), NO_BIAS),
    "torch_xavier_normal": (NORMAL, *both(glorot), torch_bias),
    "torch_xavier_uniform": (UNIFORM, *both(glorot), torch_bias),
    "torch_kaiming_normal": (NORMAL, *both(he), torch_bias),
    "torch_kaiming_uniform": (UNIFORM, *both(he), torch_bias),
    "torch_kaiming_normal:mode=fan_out": (
        NORMAL,
        *both(lambda fan_in, fan_out: 2 / fan_out),
        torch_bias,
    ),
    "torch_kaiming_uniform:negative_slope=0.5": (
        UNIFORM,
        *both(lambda fan_in, fan_out: 2 / ((1 + 0.5**2) * fan_in)),
        torch_bias,
    ),
    "keras_dense": (UNIFORM, *both(lambda i, o: u(math.sqrt(6 / (i + o)))), zero_bias),
    "keras_he_normal": (TRUNCATED, *both(he), zero_bias),
    "keras_he_normal:truncation=uncorrected": (
        TRUNCATED,
        *both(lambda i, o: CUT_VARIANCE * he(i, o)),
        zero_bias,
    ),
    "keras_glorot_normal": (TRUNCATED, *both(glorot), zero_bias),
    "keras_glorot_normal:truncation=uncorrected,bias=none": (
        TRUNCATED,
        *both(lambda i, o: CUT_VARIANCE * glorot(i, o)),
        NO_BIAS,
    ),
    "flax_dense": (TRUNCATED, *both(lambda i, o: 1 / i), zero_bias),
    "haiku_linear": (TRUNCATED, *both(lambda i, o: CUT_VARIANCE / i), zero_bias),
    "sklearn_mlp": (
        UNIFORM,
        *both(lambda i, o: u(math.sqrt(6 / (i + o)))),
        lambda d, l: u(math.sqrt(6 / (d + l))),
    ),
    "sklearn_mlp:activation=logistic": (
        UNIFORM,
        *both(lambda i, o: u(math.sqrt(2 / (i + o)))),
        lambda d, l: u(math.sqrt(2 / (d + l))),
    ),
    "normal_002": (NORMAL, *both(lambda i, o: 0.0004), zero_bias),
    # mup: W2 is drawn as nn.Linear's, times sqrt(l / base); forward it is times output_mult base/l
    "mup": (UNIFORM, linear, lambda d, l: linear(l, 1) * l / 64, torch_bias),
    "mup:base_width=100": (UNIFORM, linear, lambda d, l: linear(l, 1) * l / 100, torch_bias),
    "mup:output_mult=3": (UNIFORM, linear, lambda d, l: linear(l, 1) * l / 64, torch_bias),
    "mup:base_width=16,output_mult=3,parametrization=effective": (
        UNIFORM,
        linear,
        lambda d, l: linear(l, 1) * (l / 16) * (3 / (l / 16)) ** 2,
        torch_bias,
    ),
    # neural_tangents stax.Dense: N(0, 1) stored, forward W_std / sqrt(fan_in) and b_std
    "ntk": (NORMAL, *both(lambda i, o: 1.0), NO_BIAS),
    "ntk:parametrization=effective": (NORMAL, *both(lambda i, o: 1 / i), NO_BIAS),
    "ntk:bias_std=0.05": (NORMAL, *both(lambda i, o: 1.0), lambda d, l: 1.0),
    "ntk:bias_std=0.05,parametrization=effective": (
        NORMAL,
        *both(lambda i, o: 1 / i),
        lambda d, l: 0.05**2,
    ),
    # mean field: f = (1/l) sum c phi(w x), c ~ N(0, 1), w ~ N(0, 1/d)
    "mean_field": (NORMAL, lambda d, l: 1 / d, lambda d, l: 1.0, NO_BIAS),
    "mean_field:parametrization=effective": (
        NORMAL,
        lambda d, l: 1 / d,
        lambda d, l: 1 / l**2,
        NO_BIAS,
    ),
    # Q of (l, d) has min(d, l) orthonormal rows or columns: its squares sum to that
    "orthogonal": (
        ORTHOGONAL,
        lambda d, l: min(d, l) / (d * l),
        lambda d, l: 1 / l,
        NO_BIAS,
    ),
    "zero_output": ((UNIFORM, CONSTANT), linear, lambda d, l: 0.0, torch_bias),
    "zero_output:bias=zero": ((UNIFORM, CONSTANT), linear, lambda d, l: 0.0, zero_bias),
    "custom": (NORMAL, *both(lambda i, o: 1.0), NO_BIAS),
    "custom:law=truncated_normal,hidden_std=2,bias_law=constant,bias_std=0.1": (
        TRUNCATED,
        lambda d, l: 4.0,
        lambda d, l: 1.0,
        lambda d, l: 0.01,
    ),
    "custom:hidden_law=truncated_normal,bias_law=truncated_normal,truncation=uncorrected": (
        (TRUNCATED, NORMAL),
        lambda d, l: CUT_VARIANCE,
        lambda d, l: 1.0,
        lambda d, l: CUT_VARIANCE,
    ),
}


def test_every_scheme_has_an_expectation():
    assert {label.partition(":")[0] for label in FRAMEWORKS} | set(TEXTBOOK) == set(scheme_names())


@pytest.mark.parametrize(("d", "l"), SIZES)
@pytest.mark.parametrize("label", FRAMEWORKS)
def test_variances_are_those_of_the_frameworks(label, d, l):
    laws, hidden, output, bias = FRAMEWORKS[label]
    made = ob.scheme(label)
    assert made.laws == (laws if isinstance(laws, tuple) else (laws, laws))
    w1, w2 = hidden(d, l), output(d, l)
    close = {"rel": 1e-12, "abs": 0}
    assert made.hidden_variance(d, l) == pytest.approx(w1, **close)
    assert made.output_variance(d, l) == pytest.approx(w2, **close)
    assert made.ratio(d, l) == pytest.approx(w2 / w1, **close)
    assert made.has_bias == (bias is not None)
    b1 = bias(d, l) if bias is not None else 0.0
    assert made.bias_variance(d, l) == pytest.approx(b1, **close)
    assert made.bias_ratio(d, l) == pytest.approx(b1 / w1, **close)
    assert (made.bias_law is None) == (b1 == 0.0)


def test_bias_laws():
    for name in scheme_names():
        law = ob.scheme(name).bias_law
        uniform = name.startswith("torch_") or name in ("sklearn_mlp", "mup", "zero_output")
        assert law == (UNIFORM if uniform else None)
    assert ob.scheme("ntk:bias_std=2").bias_law == NORMAL
    own = ob.scheme("custom", bias_law="constant", bias_std=3)
    assert own.bias_law == CONSTANT
    assert own.bias_variance([1, 2], 3).tolist() == [9.0, 9.0]
    asleep = ob.scheme("custom", bias_law="uniform", bias_std=0)
    assert (asleep.bias_law, asleep.has_bias) == (None, True)


def test_only_orthogonal_weights_depend_on_each_other():
    assert [n for n in scheme_names() if not ob.scheme(n).independent] == ["orthogonal"]


@pytest.mark.parametrize("name", scheme_names())
def test_gains_multiply_standard_deviations_of_weights_alone(name):
    gains = {"hidden_gain": 3, "output_gain": 0.5}
    gains = {option: gain for option, gain in gains.items() if option in scheme_options(name)}
    output = gains.get("output_gain", 1.0)
    assert ("output_gain" in gains) == (name != "zero_output")
    plain, gained = ob.scheme(name), ob.scheme(name, **gains)
    assert gained.hidden_variance(6, 4) == pytest.approx(9 * plain.hidden_variance(6, 4))
    assert gained.output_variance(6, 4) == pytest.approx(output**2 * plain.output_variance(6, 4))
    assert gained.ratio(6, 4) == pytest.approx(output**2 * plain.ratio(6, 4) / 9)
    assert gained.bias == plain.bias
    assert gained.bias_variance(6, 4) == plain.bias_variance(6, 4)
    assert gained.bias_ratio(6, 4) == pytest.approx(plain.bias_ratio(6, 4) / 9)


# --- laws ---------------------------------------------------------------------------------------


def test_laws_are_standardised():
    cut = scipy.stats.truncnorm(-CUT, CUT)
    assert cut.std() == pytest.approx(CUT_STD, rel=1e-14)
    standard = {
        "normal": scipy.stats.norm(),
        "uniform": scipy.stats.uniform(-math.sqrt(3), 2 * math.sqrt(3)),
        "truncated_normal": scipy.stats.truncnorm(-CUT, CUT, scale=1 / CUT_STD),
    }
    assert set(LAWS) == {*standard, "constant"}
    for name, law in standard.items():
        assert law.moment(2) == pytest.approx(1.0, rel=1e-12)
        assert law.moment(4) == pytest.approx(LAWS[name].fourth_moment, rel=1e-7)
        assert law.support()[1] == pytest.approx(LAWS[name].bound, rel=1e-14)
        assert law.support()[0] == -law.support()[1]
    assert (CONSTANT.bound, CONSTANT.fourth_moment) == (1.0, 1.0)
    assert math.isnan(ORTHOGONAL.fourth_moment)


def test_codes_never_change():
    laws = (NORMAL, UNIFORM, TRUNCATED, CONSTANT, ORTHOGONAL)
    assert [law.code for law in laws] == [0, 1, 2, 3, 4]
    assert ORTHOGONAL.name not in LAWS
    assert [law for law in laws if not law.independent] == [ORTHOGONAL]


def test_known_by_hand():
    assert ob.scheme("kaiming_normal").ratio(10, 64) == 10 / 64
    assert ob.scheme("kaiming_normal", mode="fan_out").ratio(10, 64) == 64
    assert ob.scheme("kaiming_normal", mode="fan_out").ratio(10, 64, 8) == 8
    assert ob.scheme("xavier_normal").ratio(10, 64) == 74 / 65
    assert ob.scheme("xavier_normal").ratio(10, 64, 8) == 74 / 72
    assert ob.scheme("lecun_uniform").ratio(10, 64, 8) == 10 / 64
    default = ob.scheme("kaiming_uniform", negative_slope=math.sqrt(5))  # nn.Linear's default
    assert default.hidden_variance(12, 5) == pytest.approx(1 / (3 * 12))
    assert default.output_variance(12, 5) == pytest.approx(1 / (3 * 5))
    assert ob.scheme("orthogonal").ratio([10, 64], [64, 10]).tolist() == [1.0, 6.4]
    assert ob.scheme("orthogonal").output_variance(10, 4, 8) == 1 / 8
    assert ob.scheme("sklearn_mlp").output_variance(10, 64, 3) == 2 / 67
    assert ob.scheme("mup").ratio(32, [64, 1024]).tolist() == [0.5, 0.5]
    assert ob.scheme("mup:parametrization=effective").ratio(32, 1024) == 32 * 64 / 1024**2


def test_custom_scheme():
    own = ob.scheme("custom", hidden_law="uniform", hidden_std=2, output_std=0.5, output_gain=3)
    assert own.laws == (UNIFORM, NORMAL)
    assert own.hidden_variance([1, 9], 5).tolist() == [4.0, 4.0]
    assert own.output_variance(1, [5, 6], 2).tolist() == [2.25, 2.25]
    assert own.ratio(3, 5) == 2.25 / 4
    assert ob.scheme("custom", law="uniform").laws == (UNIFORM, UNIFORM)
    assert ob.scheme("custom", law=UNIFORM) == ob.scheme("custom", law="uniform")
    mixed = ob.scheme("custom", law="uniform", output_law="normal")
    assert mixed.laws == (UNIFORM, NORMAL)
    cut = ob.scheme("custom", law="truncated_normal", output_law="constant", hidden_std=2)
    assert cut.laws == (TRUNCATED, CONSTANT)
    assert cut.hidden_variance(1, 1) == 4.0
    cut = ob.scheme(cut.label + ",truncation=uncorrected")
    assert cut.hidden_variance(1, 1) == pytest.approx(4 * CUT_VARIANCE)
    assert cut.output_variance(1, 1) == 1.0
    assert not own.has_bias


def test_ratio_broadcasts():
    d, l = np.arange(1, 5)[:, None], np.arange(1, 4)
    for name in scheme_names():
        made = ob.scheme(name)
        for method in (made.ratio, made.bias_ratio, made.bias_variance, made.hidden_variance):
            array = method(d, l)
            assert array.shape == (4, 3)
            assert array[2, 1] == method(3, 2)


def test_zero_scales_are_legal_one_at_a_time():
    assert ob.scheme("custom", output_std=0).ratio([1, 5], 3).tolist() == [0.0, 0.0]
    assert ob.scheme("custom", hidden_std=0).ratio([1, 5], 3).tolist() == [math.inf, math.inf]
    assert ob.scheme("xavier_normal", hidden_gain=0).ratio(2, 3) == math.inf
    for options in ({"hidden_std": 0, "output_std": 0}, {"hidden_gain": 0, "output_gain": 0}):
        with pytest.raises(ValueError, match="both be all zeros"):
            ob.scheme("custom", **options)
    with pytest.raises(ValueError, match="both be all zeros"):
        ob.scheme("zero_output:hidden_gain=0,bias=none")
    for label in (
        "torch_linear:hidden_gain=0",
        "sklearn_mlp:hidden_gain=0",
        "custom:hidden_std=0,bias_law=normal",
    ):
        with pytest.raises(ValueError, match="hidden biases would not"):
            ob.scheme(label)
    for label in (
        "torch_linear:hidden_gain=0,bias=zero",
        "keras_dense:hidden_gain=0",
        "custom:hidden_std=0,bias_law=normal,bias_std=0",
    ):
        made = ob.scheme(label)
        assert made.has_bias
        assert made.ratio(2, 3) == math.inf
        assert made.bias_ratio(2, 3) == 0.0


def test_exact_probability_of_zero_scales():
    never, always = ob.scheme("custom", output_std=0), ob.scheme("custom", hidden_std=0)
    assert ob.exact.obstruction_probability(never, 3, [1, 50]).tolist() == [0.0, 0.0]
    assert ob.exact.obstruction_probability(always, 3, [1, 50]).tolist() == [1.0, 1.0]


def test_schemes_are_values():
    made = ob.scheme("kaiming_normal", mode="fan_out")
    assert {made: 1}[ob.scheme("kaiming_normal:mode=fan_out")] == 1
    assert made != ob.scheme("kaiming_normal")
    assert ob.scheme("kaiming_normal", mode="fan_in") == ob.scheme("kaiming_normal")
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.hidden.scale = 1.0


@st.composite
def labelled(draw):
    """A scheme and the options that made it."""
    name = draw(st.sampled_from(scheme_names()))
    scales = st.just(0.0) | st.floats(1e-30, 1e30)
    values = {
        "mode": st.sampled_from(["fan_in", "fan_out"]),
        "negative_slope": st.floats(-1e30, 1e30),
        "bias": st.sampled_from(["default", "zero", "none"]),
        "truncation": st.sampled_from(["corrected", "uncorrected"]),
        "parametrization": st.sampled_from(["stored", "effective"]),
        "activation": st.sampled_from(["relu", "logistic"]),
        "base_width": st.integers(1, 10**9),
        **dict.fromkeys(
            ("law", "hidden_law", "output_law", "bias_law"), st.sampled_from(sorted(LAWS))
        ),
        **dict.fromkeys(
            ("hidden_std", "output_std", "bias_std", "hidden_gain", "output_gain", "output_mult"),
            scales,
        ),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(scheme_options(name)))))
    return name, {option: draw(values[option]) for option in chosen}


@given(labelled())
@example(("kaiming_uniform", {"negative_slope": math.sqrt(5)}))
@example(("custom", {"hidden_std": 1e16, "output_std": 0.1 + 0.2}))
@example(("mup", {"base_width": 10**9, "output_mult": 0.1, "parametrization": "effective"}))
def test_label_reads_back(case):
    name, options = case
    hidden = options.get("hidden_std", 1) * options.get("hidden_gain", 1)
    output = options.get("output_std", 1) * options.get("output_gain", 1)
    if name == "mup" and options.get("parametrization") == "effective":
        output *= options.get("output_mult", 1)
    if name == "zero_output":
        output = 0
    assume(hidden > 0 or output > 0)
    assume(name != "custom" or "bias_law" in options or "bias_std" not in options)
    rest = {k: v for k, v in options.items() if k not in ("hidden_std", "hidden_gain")}
    if hidden == 0 and ob.scheme(name, **rest).bias_law is not None:
        with pytest.raises(ValueError, match="hidden biases would not"):
            ob.scheme(name, **options)
        return
    made = ob.scheme(name, **options)
    assert ob.scheme(made.label) == made
    assert ob.scheme(name, **dict(made.options)) == made
    assert str(made) == made.label
    ratio = made.ratio(3, 5)
    assert ratio >= 0
    assert (ratio == 0) == (output == 0)
    assert (ratio == math.inf) == (hidden == 0)
    assert made.bias_variance(3, 5) >= 0
    if hidden:
        assert math.isfinite(made.bias_ratio(3, 5))


def value_of(formula: str, d: int, l: int) -> float:
    """The number that a formula as it is printed stands for."""
    code = re.sub(r"(?<=[0-9])(?=[dl(m])", "*", formula).replace("·", "*").replace("²", "**2")
    return float(eval(code, {"__builtins__": {}}, {"d": d, "l": l, "inf": math.inf, "max": max}))


def test_the_reader_of_formulas():
    assert value_of("2/(3(d+l))", 6, 10) == 2 / 48
    assert value_of("64·d/l²", 6, 10) == 3.84
    assert value_of("1/(4max(d,l))", 6, 10) == 1 / 40
    assert value_of("0.773741/d", 2, 1) == 0.773741 / 2
    assert value_of("inf", 2, 1) == math.inf


@pytest.mark.parametrize(
    "label",
    [
        *scheme_names(),
        "kaiming_normal:mode=fan_out",
        "kaiming_uniform:mode=fan_out,negative_slope=2,output_gain=0.25",
        "xavier_normal:hidden_gain=2,output_gain=3",
        "custom:hidden_std=2,output_std=3",
        "lecun_normal:output_gain=0",
        "lecun_normal:hidden_gain=0",
        *FRAMEWORKS,
        "orthogonal:hidden_gain=2,output_gain=0.5",
        "keras_glorot_normal:truncation=uncorrected,output_gain=7",
        "sklearn_mlp:activation=logistic,hidden_gain=0.1",
        "mup:parametrization=effective,base_width=7,output_mult=0.3",
        "mup:base_width=1000",
        "torch_linear:output_gain=1e-9",
        "custom:hidden_std=1e30,output_std=1e-30",
    ],
)
def test_formulas_say_what_the_numbers_are(label):
    made = ob.scheme(label)
    for d, l in ((6, 10), (1, 1), (1, 13), (13, 1), (500, 30)):
        values = (made.hidden_variance(d, l), made.output_variance(d, l), made.ratio(d, l))
        for formula, value in zip(made.formulas(), values, strict=True):
            assert value_of(formula, d, l) == pytest.approx(float(value), rel=1e-5, abs=0)
        if made.bias is None:
            assert made.bias_formula() == "none"
        else:
            value = float(made.bias_variance(d, l))
            assert value_of(made.bias_formula(), d, l) == pytest.approx(value, rel=1e-5, abs=0)


def test_formulas_read_well():
    shown = {
        label: (*ob.scheme(label).formulas(), ob.scheme(label).bias_formula())
        for label in FRAMEWORKS
    }
    assert shown["sklearn_mlp:activation=logistic"] == (
        "2/(3(d+l))",
        "2/(3(l+1))",
        "(d+l)/(l+1)",
        "2/(3(d+l))",
    )
    assert shown["orthogonal"] == ("1/max(d,l)", "1/l", "max(d,l)/l", "none")
    assert shown["mean_field:parametrization=effective"] == ("1/d", "1/l²", "d/l²", "none")
    assert shown["zero_output:bias=zero"] == ("1/(3d)", "0", "0", "0")
    assert shown["mup"] == ("1/(3d)", "1/192", "d/64", "1/(3d)")
    effective = ob.scheme("mup:parametrization=effective").formulas()
    assert effective == ("1/(3d)", "64/(3l²)", "64·d/l²")


def test_registry():
    assert set(scheme_names()) >= {
        "xavier_normal",
        "xavier_uniform",
        "kaiming_normal",
        "kaiming_uniform",
        "lecun_normal",
        "lecun_uniform",
        "custom",
    }
    for name in scheme_names():
        assert ob.scheme(name) == ob.scheme(
            name, **{k: v for k, v in scheme_options(name).items() if v != ""}
        )
        assert ob.scheme(name).label == name
        assert scheme_about(name)
        framework, api = scheme_origin(name)
        assert framework
        assert bool(api) == (framework != "textbook")
        assert all(option_about(name, option) for option in scheme_options(name))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "kaimin_normal",
            {},
            r"unknown scheme 'kaimin_normal' \(did you mean 'kaiming_normal'\?\)",
        ),
        ("xaver_uniform", {}, "did you mean 'xavier_uniform'"),
        ("Kaiming_Normal", {}, "did you mean 'kaiming_normal'"),
        ("zzz", {}, "^unknown scheme 'zzz'; available: xavier_normal, "),
        ("", {}, "unknown scheme ''"),
        (None, {}, "scheme = None"),
        (7, {}, "scheme = 7"),
        ("kaiming_normal", {"mod": 1}, r"no option 'mod' \(did you mean 'mode'\?\)"),
        ("xavier_normal", {"mode": "fan_in"}, "no option 'mode'; it takes hidden_gain"),
        ("kaiming_normal", {"mode": "fan_avg"}, "mode = 'fan_avg': must be one of fan_in, fan_out"),
        ("kaiming_normal", {"mode": None}, "mode = None"),
        ("kaiming_normal", {"negative_slope": math.nan}, "negative_slope = nan: must be a finite"),
        ("kaiming_normal", {"negative_slope": 1e31}, "negative_slope"),
        ("custom", {"law": "cauchy"}, "law = 'cauchy': must be one of normal, uniform"),
        *(
            (name, {option: value}, f"^{option} = {re.escape(repr(value))}: must be a")
            for name, option in [
                ("xavier_normal", "hidden_gain"),
                ("kaiming_uniform", "output_gain"),
                ("custom", "hidden_std"),
                ("custom", "output_std"),
            ]
            for value in (
                -1.0,
                -1e-9,
                math.nan,
                math.inf,
                -math.inf,
                "x",
                "",
                None,
                True,
                [],
                10**400,
            )
        ),
        *(
            (name, {"bias": value}, f"bias = {value!r}: must be one of default, zero, none")
            for name in ("torch_linear", "keras_dense", "mup")
            for value in ("zeros", "", None, 0)
        ),
        *(
            ("mup", {"base_width": value}, "base_width = .*: must be a whole number from 1 to 1e9")
            for value in (0, 1.5, -64, "2.5", 2e9)
        ),
        ("mup", {"base_width": "wide"}, "base_width = 'wide': must be a finite number"),
        ("mup", {"output_mult": -1}, "output_mult = -1: must be a number >= 0"),
        (
            "mup",
            {"parametrization": "both"},
            "parametrization = 'both': must be one of stored, effective",
        ),
        ("keras_he_normal", {"truncation": True}, "truncation = True: must be one of corrected"),
        ("custom", {"truncation": "2"}, "truncation = '2': must be one of corrected, uncorrected"),
        ("flax_dense", {"truncation": "corrected"}, "no option 'truncation'"),
        ("sklearn_mlp", {"activation": "tanh"}, "activation = 'tanh': must be one of relu"),
        ("sklearn_mlp", {"bias": "none"}, "no option 'bias'"),
        ("zero_output", {"output_gain": 1}, "no option 'output_gain'"),
        ("xavier_normal", {"bias": "zero"}, "no option 'bias'"),
        ("ntk", {"bias_std": -1}, "bias_std = -1: must be a number >= 0"),
        ("custom", {"bias_std": 2}, "bias_std = 2: must not be given without bias_law"),
        ("custom", {"bias_law": "orthogonal"}, "bias_law = 'orthogonal': must be one of normal"),
        ("custom", {"law": ORTHOGONAL}, "must be one of normal"),
        ("torch_linera", {}, "did you mean 'torch_linear'"),
        ("custom", {"hidden_std": 1e-31}, "hidden_std = 1e-31: must be 0 or between"),
        ("custom", {"hidden_std": 1e31}, "hidden_std"),
        ("kaiming_normal:mode", {}, "options must be name=value, not 'mode'"),
        ("kaiming_normal:mode=", {}, "options must be name=value"),
        ("kaiming_normal:=fan_in", {}, "options must be name=value"),
        ("kaiming_normal:mode=fan_in,", {}, "options must be name=value, not ''"),
        ("kaiming_normal:mode=fan_in,mode=fan_out", {}, "option 'mode' is given twice"),
        ("kaiming_normal:hidden_gain=two", {}, "hidden_gain = 'two': must be a finite number"),
    ],
)
def test_bad_schemes(name, options, message):
    with pytest.raises(ValueError, match=message):
        ob.scheme(name, **options)


def test_several_schemes():
    one = ob.scheme("xavier_normal")
    assert as_schemes("xavier_normal") == as_schemes(one) == as_schemes([one]) == (one,)
    assert as_schemes(iter(["custom", one])) == (ob.scheme("custom"), one)
    with pytest.raises(ValueError, match="at least one"):
        as_schemes([])
    with pytest.raises(ValueError, match="kaiming_normal given more than once"):
        as_schemes(["kaiming_normal", ob.scheme("kaiming_normal:mode=fan_in")])


@pytest.mark.parametrize("size", [0, -3, 1.5, float("nan"), float("inf"), "9", True, None])
@pytest.mark.parametrize(
    "method", ["ratio", "hidden_variance", "output_variance", "bias_variance", "bias_ratio"]
)
def test_variances_refuse_what_is_no_size(method, size):
    made = ob.scheme("kaiming_normal")
    for name in "dl":
        sizes = {"d": 2, "l": 3, name: size}
        with pytest.raises(ValueError, match=rf"{name} = .*: must be a whole number of at least 1"):
            getattr(made, method)(**sizes)
