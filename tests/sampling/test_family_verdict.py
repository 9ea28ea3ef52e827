"""The verdict of a family of tests, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from obstruction.sampling.inference.verdict import Verdict

NAN = math.nan


def test_a_family_with_one_test_a_subject():
    """Holm multiplies the smallest of three p-values by 3, the next by 2, the last by 1."""
    found = Verdict(0.05, np.array([0.04, NAN, 0.01, 0.02]))
    np.testing.assert_allclose(found.p_adjusted, [0.04, NAN, 0.03, 0.04])
    assert (found.tests, found.rejected, found.smallest) == (3, 3, pytest.approx(0.03))
    assert (found.verdict, found.agrees) == ("disagrees", False)


def test_all_kinds_of_tests_form_one_family_and_a_subject_is_rejected_once():
    p_values = np.array([[0.001, 0.5, NAN, NAN], [0.002, NAN, 0.3, NAN]])
    found = Verdict(0.01, p_values)
    np.testing.assert_allclose(found.p_adjusted, [[0.004, 0.6, NAN, NAN], [0.006, NAN, 0.6, NAN]])
    np.testing.assert_allclose(found.smallest_of_each, [0.004, 0.6, 0.6, NAN])
    assert (found.tests, found.rejected, found.verdict) == (4, 1, "disagrees")
    assert found.smallest == pytest.approx(0.004)


@pytest.mark.parametrize(("level", "verdict"), [(0.02, "disagrees"), (0.0199, "agrees")])
def test_a_p_value_at_the_level_is_rejected(level, verdict):
    found = Verdict(level, np.array([0.01, 1.0]))
    assert (found.verdict, found.agrees) == (verdict, verdict == "agrees")


@pytest.mark.parametrize("p_values", [np.zeros(0), np.full(3, NAN), np.full((2, 3), NAN)])
def test_without_a_test_there_is_no_verdict(p_values):
    found = Verdict(0.01, p_values)
    assert (found.tests, found.rejected) == (0, 0)
    assert math.isnan(found.smallest)
    assert (found.verdict, found.agrees) == ("untested", False)


def test_it_says_what_it_found():
    found = Verdict(0.01, np.array([0.25, 0.5]))
    assert repr(found) == "Verdict(level=0.01, tests=2, rejected=0, smallest=0.5)"


def test_false_alarms_are_as_rare_as_stated_however_the_tests_depend_on_each_other():
    """At level 0.1 and with four tests; each bound is exceeded for one choice of seed in 10⁴.

    Four independent tests reject with probability ``1 - (1 - 0.1/4)**4 = 0.0963``, and four times
    the same test with probability ``0.1/4``.
    """
    rng = np.random.default_rng(5)
    apart = sum(Verdict(0.1, p).rejected > 0 for p in rng.random((20_000, 4)))
    same = sum(Verdict(0.1, np.full(4, p)).rejected > 0 for p in rng.random(20_000))
    assert stats.binom.ppf(1e-4, 20_000, 0.0963) <= apart <= stats.binom.isf(1e-4, 20_000, 0.1)
    assert same <= stats.binom.isf(1e-4, 20_000, 0.025)


@pytest.mark.parametrize(
    ("p_values", "verdict"), [([0.5], "agrees"), ([1e-9], "disagrees"), ([np.nan], "untested")]
)
def test_only_agreement_is_true(p_values, verdict):
    found = Verdict(1e-3, np.array(p_values))
    assert found.verdict == verdict
    assert bool(found) == (verdict == "agrees")
