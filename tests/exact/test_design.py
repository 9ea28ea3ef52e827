"""Gains, widths and inputs that keep the risk small: right to the digit, one step is too far."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import obstruction as ob
from obstruction.exact import design, log_obstruction_probability, obstruction_probability
from obstruction.schemes import scheme_names, scheme_options

NORMAL = [
    "kaiming_normal",
    "xavier_normal",
    "lecun_normal:hidden_gain=3",
    "kaiming_normal:mode=fan_out,output_gain=0.1",
    "normal_002",
    "ntk",
    "mean_field:parametrization=effective",
    "custom:hidden_std=1e-20,output_std=1e20",
]
OTHER = [
    "kaiming_uniform",
    "keras_dense",
    "haiku_linear",
    "torch_linear",
    "torch_kaiming_normal",
    "sklearn_mlp",
    "keras_he_normal:truncation=uncorrected",
    "mup",
    "ntk:bias_std=1",
    "custom:law=uniform,hidden_law=normal",
    "custom:law=uniform,bias_law=constant",
    "custom:hidden_law=truncated_normal,output_law=constant",
]
RISKS = [1e-100, 1e-12, 1e-6, 0.01, 0.5, 0.999]


def probability_at(label, gain, d, l):
    return obstruction_probability(design.with_output_gain(label, gain), d, l)


# --- the largest gain ---------------------------------------------------------------------------


@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("label", NORMAL)
def test_the_largest_gain_takes_the_whole_risk_and_no_more(label, risk):
    d = np.array([1, 2, 3, 30, 1000, 10**6])[:, None]
    l = np.array([1, 2, 64, 10**6])
    gains = design.max_output_gain(label, d, l, risk)
    assert gains.shape == (6, 4)
    assert np.all((gains > 0) & (gains < np.inf))
    for (i, j), gain in np.ndenumerate(gains):
        size = int(d[i, 0]), int(l[j])
        assert probability_at(label, gain, *size) == pytest.approx(risk, rel=1e-9, abs=0)
        assert probability_at(label, gain, *size) <= risk * (1 + 1e-10)
        beyond = probability_at(label, gain * (1 + 1e-6), *size)
        assert beyond > risk
        assert gains[i, j] == design.max_output_gain(label, *size, risk)


@pytest.mark.parametrize(("d", "l"), [(1, 1), (2, 7), (24, 64)])
@pytest.mark.parametrize("risk", [1e-6, 0.3])
@pytest.mark.parametrize("label", OTHER)
def test_the_largest_gain_of_other_laws(label, risk, d, l):
    gain = design.max_output_gain(label, d, l, risk)
    assert probability_at(label, gain, d, l) == pytest.approx(risk, rel=1e-9, abs=0)
    assert probability_at(label, gain * (1 + 1e-6), d, l) > risk


@pytest.mark.parametrize(("d", "l"), [(1, 1), (3, 10), (10**5, 300)])
def test_the_largest_gain_next_to_where_the_risk_ends(d, l):
    """Bounded output weights over constant hidden ones: P is 0 up to some gain."""
    label = "custom:hidden_law=constant,output_law=uniform"
    gain = design.max_output_gain(label, d, l)  # p = 1 - sqrt(d / (3 gain^2))
    p = -math.expm1(math.log1p(-1e-6) / l)
    assert gain == pytest.approx(math.sqrt(d / 3) / (1 - p), rel=1e-14)
    assert probability_at(label, gain, d, l) <= 1e-6 * (1 + 1e-10)
    assert probability_at(label, gain * (1 + 1e-6), d, l) > 1e-6
    steps = design.max_output_gain("custom:law=constant", d, l)
    assert steps == pytest.approx(math.sqrt(d), rel=1e-14)
    assert probability_at("custom:law=constant", steps * (1 + 1e-12), d, l) == 1
    assert probability_at("custom:law=constant", steps * (1 - 1e-12), d, l) == 0


def test_known_by_hand():
    # d = 1: p = 2/pi atan(sqrt(a)), a = gain^2 / l for Kaiming
    assert design.max_output_gain("kaiming_normal", 1, 1, 0.5) == pytest.approx(1.0, rel=1e-14)
    # d = 2: p = 1 - (1 + a)^(-1/2), a = 2 gain^2 for Kaiming with l = 1
    assert design.max_output_gain("kaiming_normal", 2, 1, 0.5) == pytest.approx(1.5**0.5, rel=1e-14)
    assert design.max_output_gain("ntk", 2, 1, 0.5) == pytest.approx(3**0.5, rel=1e-14)
    # two neurons: 1 - (1 - p)^2 = 3/4 is p = 1/2
    assert design.max_output_gain("ntk", 2, 2, 0.75) == pytest.approx(3**0.5, rel=1e-14)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.floats(1e-50, 0.999999))
def test_the_closed_form_and_the_search_agree(d, l, risk):
    closed = design.max_output_gain("ntk", d, l, risk)
    rule = ob.scheme("ntk")
    sought = design._largest_gain(rule, d, l, math.log(risk), 0.0)
    digits = max(1e-10, 1e-15 / (1.0 - risk))  # log(risk) keeps few digits of 1 - risk near 1
    assert closed == pytest.approx(sought, rel=digits)


def test_the_schemes_own_gain_does_not_matter():
    plain = design.max_output_gain("kaiming_normal", 10, 64)
    for gain in ("0", "1e-20", "0.3", "7", "1e20"):
        assert design.max_output_gain(f"kaiming_normal:output_gain={gain}", 10, 64) == plain
    doubled = design.max_output_gain("kaiming_normal:hidden_gain=2", 10, 64)
    assert doubled == pytest.approx(2 * plain, rel=1e-13)


def test_the_gain_is_an_option():
    gain = design.max_output_gain("kaiming_normal", 30, 64, 1e-9)
    label = f"kaiming_normal:output_gain={gain!r}"
    assert design.with_output_gain("kaiming_normal:output_gain=9", gain) == ob.scheme(label)
    assert design.with_output_gain(label, 1.0) == ob.scheme("kaiming_normal")
    assert obstruction_probability(label, 30, 64) == pytest.approx(1e-9, rel=1e-9)


def test_gains_broadcast():
    assert isinstance(design.max_output_gain("kaiming_normal", 3, 5), float)
    assert design.max_output_gain("kaiming_normal", [3, 4], 5).shape == (2,)
    assert design.max_output_gain("kaiming_normal", [[3], [4]], [5, 6, 7]).shape == (2, 3)
    assert design.max_output_gain("kaiming_normal", [], 5).shape == (0,)


def test_zero_layers():
    assert design.max_output_gain("custom:output_std=0", [1, 9], 5).tolist() == [math.inf] * 2
    assert design.max_output_gain("custom:hidden_std=0", [1, 9], 5).tolist() == [0.0] * 2


def test_absurd_risks_are_named():
    with pytest.raises(ValueError, match=r"d = 1 and l = 1: no output gain above .* to 1e-300"):
        design.max_output_gain("kaiming_normal", 1, 1, 1e-300)


@pytest.mark.parametrize("below", [-50.0, -math.inf])
def test_a_jump_of_the_probability(below, monkeypatch):
    """Where P jumps over the risk the gain just below the jump is the answer."""
    jump = math.sqrt(7.3)

    def log_probability(scheme, d, l):
        return below if math.sqrt(scheme.output.scale) <= jump else -0.1

    monkeypatch.setattr(design.exact, "log_obstruction_probability", log_probability)
    found = design._largest_gain(ob.scheme("ntk"), 3, 5, math.log(1e-6), 0.0)
    assert found <= jump
    assert found == pytest.approx(jump, rel=1e-13)


# --- the smallest sizes -------------------------------------------------------------------------


@pytest.mark.parametrize("risk", [1e-12, 1e-6, 1e-3, 0.1, 0.4])
@pytest.mark.parametrize(
    "label",
    [
        "kaiming_normal",
        pytest.param("xavier_normal", marks=pytest.mark.slow),
        pytest.param("kaiming_normal:output_gain=3", marks=pytest.mark.slow),
        "xavier_normal:output_gain=0.2",
    ],
)
def test_smallest_sizes_by_looking_at_all(label, risk):
    sizes = np.arange(1, 4001)
    for fixed in (1, 2, 3, 4, 7, 10, 30, 64, 100, 1000):
        wide = np.flatnonzero(obstruction_probability(label, fixed, sizes) <= risk)
        deep = np.flatnonzero(obstruction_probability(label, sizes, fixed) <= risk)
        for function, hits in ((design.min_width, wide), (design.min_inputs, deep)):
            if hits.size:
                assert function(label, fixed, risk) == sizes[hits[0]]
            else:
                try:
                    assert function(label, fixed, risk) > sizes[-1]
                except ValueError as error:
                    assert "up to 10,000,000" in str(error)  # noqa: PT017
        if wide.size:
            first, last = design.width_range(label, fixed, risk)
            assert first == sizes[wide[0]]
            breaks = np.flatnonzero(np.diff(wide) > 1)
            end = wide[breaks[0]] if breaks.size else wide[-1]
            assert last == sizes[end] or end == sizes.size - 1 <= last
        if deep.size:
            assert design.inputs_range(label, fixed, risk) == (sizes[deep[0]], design.LIMIT)


@pytest.mark.parametrize(
    ("label", "d", "risk"),
    [
        ("kaiming_normal", 4, 1e-5),
        ("kaiming_normal", 3, 0.001),
        ("xavier_normal:output_gain=0.01", 3, 1e-3),
        ("kaiming_normal", 10**6, 1e-30),
    ],
)
def test_one_step_before_is_too_much(label, d, risk):
    first, last = design.width_range(label, d, risk)
    assert first == design.min_width(label, d, risk)
    assert obstruction_probability(label, d, first) <= risk
    if first > 1:
        assert obstruction_probability(label, d, first - 1) > risk
    assert obstruction_probability(label, d, last) <= risk
    if last < design.LIMIT:
        assert obstruction_probability(label, d, last + 1) > risk


def test_huge_sizes():
    width = design.min_width("kaiming_normal", 3, 0.001)
    assert 10**5 < width < 10**7
    assert design.min_inputs("normal_002", 10**7, 1e-300) > 1000
    gain = design.max_output_gain("kaiming_normal", 10**6, 64, 1e-6)
    assert probability_at("kaiming_normal", gain, 10**6, 64) == pytest.approx(1e-6, rel=1e-9)


@pytest.mark.parametrize("label", ["torch_linear", "keras_dense", "haiku_linear", "sklearn_mlp"])
def test_smallest_sizes_of_other_laws(label):
    d, l, risk = 20, 10, 1e-4
    for function, at in (
        (design.min_width, lambda n: obstruction_probability(label, d, n)),
        (design.min_inputs, lambda n: obstruction_probability(label, n, l)),
    ):
        size = function(label, d if function is design.min_width else l, risk)
        assert size > 1
        assert at(size) <= risk < at(size - 1)


def turns(values):
    """The directions of a sequence: "+-" if it rises and then falls."""
    signs = np.sign(np.diff(values))
    signs = signs[signs != 0]
    return "".join("+" if s > 0 else "-" for s in [signs[0], *signs[1:][np.diff(signs) != 0]])


def test_the_probability_is_not_monotone_in_the_width():
    """What the module says of Kaiming and Xavier."""
    l = np.unique(np.geomspace(1, 10**7, 2000).round().astype(int))
    for label, d, shape in (
        ("kaiming_normal", 1, "+"),
        ("kaiming_normal", 2, "+"),
        ("kaiming_normal", 3, "+-"),
        ("kaiming_normal", 8, "+-"),
        ("kaiming_normal", 10, "-"),
        ("kaiming_normal", 1000, "-"),
        ("xavier_normal", 10, "+"),
        ("xavier_normal", 30, "+-+"),
        ("xavier_normal", 1000, "+-+"),
    ):
        logs = log_obstruction_probability(label, d, l)
        assert turns(logs[np.abs(logs) > 1e-12]) == shape, (label, d)
    limit = obstruction_probability("kaiming_normal", 2, 10**7)
    assert limit == pytest.approx(1 - math.exp(-1), rel=1e-6)
    assert obstruction_probability("kaiming_normal", 1, 10**7) == pytest.approx(1.0)


@pytest.mark.parametrize("label", [*NORMAL, "kaiming_normal:output_gain=10"])
def test_the_probability_falls_with_the_inputs(label):
    d = np.unique(np.geomspace(1, 10**7, 1000).round().astype(int))
    for l in (1, 3, 64, 10**4):
        logs = log_obstruction_probability(label, d, l)
        assert np.all(np.diff(logs) <= 1e-12 * np.abs(logs[1:]) + 1e-15)


def test_random_biases_let_the_probability_rise_with_the_inputs():
    values = obstruction_probability("torch_linear", [1, 2, 5, 100], 1)
    assert turns(values) == "+"
    first, last = design.inputs_range("torch_linear", 1, 0.3)
    assert first == 1
    assert obstruction_probability("torch_linear", last, 1) <= 0.3
    assert obstruction_probability("torch_linear", last + 1, 1) > 0.3
    with pytest.raises(ValueError, match=r"no d up to 100,000 .* 0.262 at d = 1$"):
        design.min_inputs("torch_linear", 1)
    assert design.inputs_range("kaiming_uniform", 64) == (11, 10**5)  # as far as integrals go


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("risk", [0, 1, -1e-6, 2, math.nan, math.inf, "x", None])
def test_bad_risks(risk):
    for question in (
        lambda: design.max_output_gain("kaiming_normal", 3, 5, risk),
        lambda: design.min_width("kaiming_normal", 3, risk),
        lambda: design.width_range("kaiming_normal", 3, risk),
        lambda: design.min_inputs("kaiming_normal", 3, risk),
        lambda: design.inputs_range("kaiming_normal", 3, risk),
    ):
        with pytest.raises(ValueError, match=r"^risk = .*must be a number between 0 and 1"):
            question()


@pytest.mark.parametrize("size", [0, -1, 1.5, math.nan, "3", None, True, 10**30])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match=r"^d = .*must be a whole number"):
        design.max_output_gain("kaiming_normal", size, 3)
    with pytest.raises(ValueError, match=r"^l = .*must be a whole number"):
        design.max_output_gain("kaiming_normal", 3, size)
    with pytest.raises(ValueError, match=r"^d = .*must be a whole number"):
        design.min_width("kaiming_normal", size)
    with pytest.raises(ValueError, match=r"^l = .*must be a whole number"):
        design.min_inputs("kaiming_normal", size)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="broadcast"):
        design.max_output_gain("kaiming_normal", [1, 2], [1, 2, 3])


def test_schemes_without_an_answer():
    with pytest.raises(ValueError, match="'zero_output' has no option 'output_gain'"):
        design.max_output_gain("zero_output", 3, 5)
    assert [n for n in scheme_names() if "output_gain" not in scheme_options(n)] == ["zero_output"]
    for question in (
        lambda: design.max_output_gain("orthogonal", 3, 5),
        lambda: design.min_width("orthogonal", 3),
        lambda: design.min_inputs("orthogonal", 3),
    ):
        with pytest.raises(ValueError, match="scheme 'orthogonal'"):
            question()
    with pytest.raises(ValueError, match="unknown scheme"):
        design.min_width("kaiming", 3)
    message = r"'kaiming_normal' with d = 2: no l up to 10,000,000 .* to 1e-06; .* 0.423 at l = 1$"
    with pytest.raises(ValueError, match=message):
        design.min_width("kaiming_normal", 2)
    with pytest.raises(ValueError, match=r"with l = 10: no d up to .* 0.0155 at d = 10,000,000$"):
        design.min_inputs("kaiming_normal", 10)


def test_it_is_public():
    """As `obstruction.design`, a door to the module that holds the functions."""
    assert ob.design.__all__ == design.__all__
    assert len(design.__all__) >= 6
    for name in design.__all__:
        assert getattr(ob.design, name) is getattr(design, name)
