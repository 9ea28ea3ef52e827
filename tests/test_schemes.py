"""Schemes against PyTorch's documented formulas, and the text form of their options."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import obstruction as ob
from obstruction.laws import LAWS, NORMAL, UNIFORM
from obstruction.schemes import (
    as_schemes,
    option_about,
    scheme_about,
    scheme_names,
    scheme_options,
)

SIZES = [(1, 1), (1, 7), (3, 5), (10, 64), (784, 100), (10**7, 10**7)]


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
        *((name, {}) for name in scheme_names() if name != "custom"),
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


@pytest.mark.parametrize("name", scheme_names())
def test_gains_multiply_standard_deviations(name):
    plain, gained = ob.scheme(name), ob.scheme(name, hidden_gain=3, output_gain=0.5)
    assert gained.hidden_variance(6, 4) == pytest.approx(9 * plain.hidden_variance(6, 4))
    assert gained.output_variance(6, 4) == pytest.approx(plain.output_variance(6, 4) / 4)
    assert gained.ratio(6, 4) == pytest.approx(plain.ratio(6, 4) / 36)


def test_known_by_hand():
    assert ob.scheme("kaiming_normal").ratio(10, 64) == 10 / 64
    assert ob.scheme("kaiming_normal", mode="fan_out").ratio(10, 64) == 64
    assert ob.scheme("kaiming_normal", mode="fan_out").ratio(10, 64, 8) == 8
    assert ob.scheme("xavier_normal").ratio(10, 64) == 74 / 65
    assert ob.scheme("xavier_normal").ratio(10, 64, 8) == 74 / 72
    assert ob.scheme("lecun_uniform").ratio(10, 64, 8) == 10 / 64
    linear = ob.scheme("kaiming_uniform", negative_slope=math.sqrt(5))  # nn.Linear's default
    assert linear.hidden_variance(12, 5) == pytest.approx(1 / (3 * 12))
    assert linear.output_variance(12, 5) == pytest.approx(1 / (3 * 5))


def test_custom_scheme():
    own = ob.scheme("custom", hidden_law="uniform", hidden_std=2, output_std=0.5, output_gain=3)
    assert own.laws == (UNIFORM, NORMAL)
    assert own.hidden_variance([1, 9], 5).tolist() == [4.0, 4.0]
    assert own.output_variance(1, [5, 6], 2).tolist() == [2.25, 2.25]
    assert own.ratio(3, 5) == 2.25 / 4
    assert ob.scheme("custom", law="uniform").laws == (UNIFORM, UNIFORM)
    assert ob.scheme("custom", law=UNIFORM) == ob.scheme("custom", law="uniform")
    both = ob.scheme("custom", law="uniform", output_law="normal")
    assert both.laws == (UNIFORM, NORMAL)


def test_ratio_broadcasts():
    d, l = np.arange(1, 5)[:, None], np.arange(1, 4)
    for name in scheme_names():
        made = ob.scheme(name)
        ratio = made.ratio(d, l)
        assert ratio.shape == (4, 3)
        assert ratio[2, 1] == made.ratio(3, 2)


def test_zero_scales_are_legal_one_at_a_time():
    assert ob.scheme("custom", output_std=0).ratio([1, 5], 3).tolist() == [0.0, 0.0]
    assert ob.scheme("custom", hidden_std=0).ratio([1, 5], 3).tolist() == [math.inf, math.inf]
    assert ob.scheme("xavier_normal", hidden_gain=0).ratio(2, 3) == math.inf
    for options in ({"hidden_std": 0, "output_std": 0}, {"hidden_gain": 0, "output_gain": 0}):
        with pytest.raises(ValueError, match="all zeros"):
            ob.scheme("custom", **options)


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
        **dict.fromkeys(("law", "hidden_law", "output_law"), st.sampled_from(sorted(LAWS))),
        **dict.fromkeys(("hidden_std", "output_std", "hidden_gain", "output_gain"), scales),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(scheme_options(name)))))
    return name, {option: draw(values[option]) for option in chosen}


@given(labelled())
@example(("kaiming_uniform", {"negative_slope": math.sqrt(5)}))
@example(("custom", {"hidden_std": 1e16, "output_std": 0.1 + 0.2}))
def test_label_reads_back(case):
    name, options = case
    hidden = options.get("hidden_std", 1) * options.get("hidden_gain", 1)
    output = options.get("output_std", 1) * options.get("output_gain", 1)
    assume(hidden > 0 or output > 0)
    made = ob.scheme(name, **options)
    assert ob.scheme(made.label) == made
    assert str(made) == made.label
    ratio = made.ratio(3, 5)
    assert ratio >= 0
    assert (ratio == 0) == (output == 0)
    assert (ratio == math.inf) == (hidden == 0)


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
    ],
)
def test_formulas_say_what_the_numbers_are(label):
    made = ob.scheme(label)
    numbers = {"d": 6.0, "l": 10.0, "inf": math.inf}
    values = (made.hidden_variance(6, 10), made.output_variance(6, 10), made.ratio(6, 10))
    for formula, value in zip(made.formulas(), values, strict=True):
        assert eval(formula.replace("·", "*"), {}, numbers) == pytest.approx(float(value), rel=1e-5)


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
        ("custom", {"hidden_std": 1e-31}, "hidden_std = 1e-31: must be 0 or between"),
        ("custom", {"hidden_std": 1e31}, "hidden_std"),
        ("kaiming_normal:mode", {}, "options read name=value, not 'mode'"),
        ("kaiming_normal:mode=", {}, "options read name=value"),
        ("kaiming_normal:=fan_in", {}, "options read name=value"),
        ("kaiming_normal:mode=fan_in,", {}, "options read name=value, not ''"),
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
@pytest.mark.parametrize("method", ["ratio", "hidden_variance", "output_variance"])
def test_variances_refuse_what_is_no_size(method, size):
    made = ob.scheme("kaiming_normal")
    for name in "dl":
        sizes = {"d": 2, "l": 3, name: size}
        with pytest.raises(ValueError, match=rf"{name} = .*: must be a whole number of at least 1"):
            getattr(made, method)(**sizes)
