"""The plan: what a study is, and the tables that the kernel gets for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from obstruction import schemes
from obstruction.sampling import streams
from obstruction.sampling.config import PLANS, StudyConfig
from obstruction.sampling.grid_parts import GridPart, grid_parts
from obstruction.sampling.thresholds import ANY, FALLING, FALLING_WITH_BIAS, RISING, law_codes

LABELS = (
    "xavier_normal",
    "kaiming_normal",
    "kaiming_normal:mode=fan_out",
    "lecun_uniform",
    "custom:output_std=0.7",
    "custom:hidden_law=uniform,output_std=2",
)


def config(plan="nested", *, labels=LABELS, d=(1, 2, 5, 6, 9), l=(1, 3, 4, 10)):
    return StudyConfig.of(labels, d=d, l=l, seed=4, plan=plan)


# --- the configuration ---------------------------------------------------------------------


def test_a_configuration_is_tidied_up():
    found = StudyConfig.of("kaiming_normal", d=[5, 2, 2.0, np.int16(9)], l=7, seed=np.uint8(3))
    assert found == StudyConfig((schemes.scheme("kaiming_normal"),), (2, 5, 9), (7,), 3, "nested")
    assert [type(size) for size in (*found.d, *found.l, found.seed)] == [int] * 5
    assert StudyConfig.of(["kaiming_normal"], d=range(2, 10, 3), l=iter([7])).d == (2, 5, 8)
    assert config().shape == (6, 5, 4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.seed = 1


def test_ratios_are_those_of_the_schemes():
    whole = config().ratio()
    assert whole.shape == (6, 5, 4)
    for k, label in enumerate(LABELS):
        for i, d in enumerate(config().d):
            for j, l in enumerate(config().l):
                assert whole[k, i, j] == schemes.scheme(label).ratio(d, l)
    assert whole[0, 4, 3] == (9 + 10) / (10 + 1)
    assert whole[1, 4, 3] == 9 / 10
    assert whole[2, 4, 3] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plan": "nest"}, "plan = 'nest': must be one of nested, independent"),
        ({"seed": -1}, "seed = -1: must be a whole number of at least 0"),
        ({"seed": 0.5}, "seed = 0.5: must be"),
        ({"seed": 2**128}, "seed = .*: must be .* at most"),
        ({"d": []}, r"d = \[\]: must hold at least one size"),
        ({"d": [3, 0]}, "d = 0: must be a whole number of at least 1"),
        ({"l": -2}, "l = -2: must be a whole number of at least 1"),
        ({"l": 2.5}, "l = 2.5: must be a whole number"),
        ({"l": "1:9"}, "l = '1:9': must be a size or a sequence of sizes"),
        ({"d": [10**9 + 1]}, "d = 1000000001: must be .* at most 1,000,000,000"),
        ({"schemes": []}, r"schemes = \[\]: must name at least one"),
        ({"schemes": ["custom", "custom:law=normal"]}, "custom given more than once"),
        ({"schemes": "kaimin_normal"}, "unknown scheme .*did you mean 'kaiming_normal'"),
    ],
)
def test_bad_configurations_are_refused(arguments, message):
    good = {"schemes": "xavier_normal", "d": 2, "l": 3}
    with pytest.raises(ValueError, match=message):
        StudyConfig.of(**{**good, **arguments})


def test_differences_are_named_one_by_one():
    one = config()
    assert one.difference(one) == ""
    assert one.difference(dataclasses.replace(one, seed=5)) == "seed is 4 here and 5 there"
    other = StudyConfig.of(LABELS[:2], d=range(1, 100), l=one.l, seed=4, plan="independent")
    found = one.difference(other)
    assert "schemes is xavier_normal kaiming_normal kaiming_normal:mode=fan_out" in found
    assert "d is 1 2 5 6 9 here and 1 2 3 ... 98 99 (99 values) there" in found
    assert "plan is nested here and independent there" in found
    assert "seed" not in found
    assert "l is" not in found


# --- the parts of a grid -------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS)
def test_every_cell_lies_in_exactly_one_part(plan):
    study = config(plan)
    seen = np.zeros(study.shape, int)
    ratio = np.full(study.shape, np.nan)
    for part in grid_parts(study):
        seen[part.where] += 1
        ratio[part.where] = part.grid.thresholds[..., :-1]
    assert (seen == 1).all()
    np.testing.assert_array_equal(ratio, study.ratio())


def test_nested_parts_are_one_per_pair_of_laws():
    found = grid_parts(config())
    assert len(found) == 3
    assert len({part.path for part in found}) == 3
    for part in found:
        chosen = np.array(LABELS)[part.where[0]]
        assert {law_codes(schemes.scheme(label)) for label in chosen} == {part.codes}
        assert {streams.nested_path(schemes.scheme(label)) for label in chosen} == {part.path}
        assert part.grid.columns.tolist() == [1, 2, 5, 6, 9]
    sizes = sorted(part.grid.thresholds.shape[0] for part in found)
    assert sizes == [1, 1, 4]


def test_independent_parts_are_one_per_cell_each_with_its_own_stream():
    study = config("independent")
    found = grid_parts(study)
    assert len(found) == np.prod(study.shape)
    assert len({part.path for part in found}) == len(found)
    for part in found:
        k, i, j = (axis.start for axis in part.where)
        scheme, d, l = study.schemes[k], study.d[i], study.l[j]
        assert part.path == streams.independent_path(scheme, d, l)
        assert part.grid.columns.tolist() == [d]
        assert part.grid.row_cell.tolist() == [0] * l


@pytest.mark.parametrize(
    ("labels", "rising"),
    [
        (["xavier_normal", "kaiming_normal"], [False, False]),
        (["kaiming_normal:mode=fan_out", "xavier_normal:output_gain=2"], [True, False]),
        (["custom", "lecun_normal", "kaiming_normal:mode=fan_out"], [False, False, True]),
    ],
)
def test_tables_of_a_part_are_what_the_kernel_expects(labels, rising):
    study = config(labels=labels)
    (part,) = grid_parts(study)
    ratio = study.ratio()
    assert (part.grid.thresholds[..., -1] == -1.0).all()
    assert (part.grid.trend == RISING).tolist() == rising
    # Row k, counted from 0, belongs to networks with more than k neurons.
    first = [min(l for l in study.l if l > k) for k in range(10)]
    assert [study.l[j] for j in part.grid.row_cell] == first
    for i, d in enumerate(study.d):
        group = [n for n, other in enumerate(study.d) if other >= d and other // 4 == d // 4]
        for j in range(len(study.l)):
            assert part.grid.peak[i, j] == ratio[:, group, j:].max()
    for j in range(len(study.l)):
        assert part.grid.bound[j] == ratio[:, :, j:].max()


@pytest.mark.parametrize(
    ("label", "rising"),
    [
        ("kaiming_normal", False),
        ("xavier_uniform", False),
        ("lecun_normal:output_gain=0.1", False),
        ("custom", False),
        ("kaiming_uniform:mode=fan_out", True),
        ("custom:hidden_std=0", False),
    ],
)
def test_the_direction_of_the_ratio_is_recognised(label, rising):
    (part,) = grid_parts(config(labels=label))
    assert (part.grid.trend == RISING).tolist() == [rising]


@pytest.mark.parametrize(
    ("label", "trend"),
    [
        ("torch_linear", FALLING),
        ("sklearn_mlp", FALLING),
        ("torch_kaiming_normal", FALLING),
        ("torch_xavier_normal", FALLING_WITH_BIAS),
        ("torch_kaiming_normal:mode=fan_out", ANY),
        ("custom:bias_law=normal", FALLING),
        ("keras_dense", FALLING),
    ],
)
def test_what_biases_do_along_l_is_recognised(label, trend):
    study = config(labels=label)
    (part,) = grid_parts(study)
    assert part.grid.trend.tolist() == [trend]
    (scheme,) = study.schemes
    if scheme.bias_law is None:
        assert part.grid.shift.size == 0
        return
    for i, d in enumerate(study.d):
        for j, l in enumerate(study.l):
            expected = scheme.bias_variance(d, l) / scheme.hidden_variance(d, l)
            assert part.grid.shift[0, i, j] == pytest.approx(expected, rel=1e-14)
    assert (part.grid.shift[..., -1] == 0.0).all()


def test_a_ratio_that_turns_is_refused():
    class Turning(schemes.InitScheme):
        def ratio(self, d, l, e=1):
            return (np.asarray(l) - 3.0) ** 2 + 0.0 * np.asarray(d)

    custom = schemes.scheme("custom")
    turning = Turning(custom.name, custom.options, custom.hidden, custom.output)
    with pytest.raises(ValueError, match=r"ratio a\(d, l\) of a scheme must be monotone in l"):
        grid_parts(StudyConfig((turning,), (2,), (1, 3, 5), 0))


def test_an_infinite_ratio_stays_within_floating_point():
    (part,) = grid_parts(config(labels="custom:hidden_std=0"))
    assert np.isfinite(part.grid.thresholds).all()
    # Times the smallest square that is drawn it exceeds any sum, times the largest it is finite.
    assert part.grid.thresholds[..., :-1].min() * 1e-30 > 1e200
    assert np.isfinite(part.grid.thresholds.max() * 50.0)


@pytest.mark.parametrize("label", ["kaiming_normal", "xavier_normal", "lecun_normal:output_gain=3"])
@pytest.mark.parametrize("l", [range(1, 101), range(10, 500, 7), [1, 2], [5]])
def test_the_curve_finds_the_index_of_a_ratio_on_a_regular_axis(label, l):
    """Only the speed depends on it: a poor guess would be looked up by bisection."""
    (part,) = grid_parts(config(labels=label, d=[1, 2, 10, 100], l=l))
    indices = np.arange(len(l))
    for i in range(4):
        if len(l) < 3 or (label == "xavier_normal" and i == 0):  # nothing to guess: a(1, l) = 1
            assert np.isfinite(part.grid.curve[0, i]).all()
            continue
        p, q, s, t = part.grid.curve[0, i]
        r = part.grid.thresholds[0, i, :-1]
        np.testing.assert_allclose((p + q * r) / (s + t * r), indices, atol=1e-6 * len(l))


@pytest.mark.parametrize(
    ("l", "fits"),
    [
        (range(1, 101), True),
        (range(10, 5000, 7), True),
        ([5], True),
        ([1, 2], False),  # no curve through two
        ([1, 2, 4, 8, 16], False),
        ([*range(1, 50), 60], False),
    ],
)
def test_a_curve_fits_regular_axes_and_no_others(l, fits):
    (part,) = grid_parts(config(labels=["kaiming_normal", "xavier_normal"], d=[1, 2, 100], l=l))
    assert (part.grid.fits[0] == fits).all()
    assert part.grid.fits[1, 0]  # a(1, l) = 1: nothing to tell
    assert (part.grid.fits[1, 1:] == fits).all()


def test_a_curve_does_not_fit_where_rounding_hides_the_steps():
    """With d = 2 the Xavier ratio falls by 1/l² from one l to the next."""
    for l, fits in ((range(1, 9001, 2), True), (range(1, 40_001, 2), False)):
        (part,) = grid_parts(config(labels="xavier_normal", d=[2], l=l))
        assert part.grid.fits[0, 0] == fits


def test_consecutive_schemes_are_a_view_and_others_a_list():
    labels = ["kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform"]
    normal, uniform = grid_parts(config(labels=labels))
    assert (normal.where[0], uniform.where[0]) == ([0, 2], [1, 3])
    normal, uniform = grid_parts(
        config(labels=sorted(labels, key=lambda label: "uniform" in label))
    )
    assert (normal.where[0], uniform.where[0]) == (slice(0, 2), slice(2, 4))
    assert isinstance(normal, GridPart)
