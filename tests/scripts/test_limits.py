"""The limits of docs/limits.md, number by number, and the figure's script."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from obstruction import exact

DOCS = Path(__file__).parents[2] / "docs" / "limits.md"
FAR = 10**12


def test_wide_kaiming_networks():
    p = exact.obstruction_probability
    assert p("kaiming_normal", 1, FAR) > 1.0 - 1e-12
    assert p("kaiming_normal", 2, FAR) == pytest.approx(1.0 - np.exp(-1.0), abs=1e-11)
    assert (p("kaiming_normal", [3, 4, 9], FAR) < [1e-5, 1e-11, 1e-30]).all()


@pytest.mark.parametrize("d", [1, 2, 3, 4, 10])
def test_the_expected_number_of_pathological_neurons_of_wide_kaiming_networks(d):
    constant = 2.0 / (d * special.beta(d / 2, 0.5)) * d ** (d / 2)
    for l in (10**8, 10**10):
        count = l * exact.pathological_probability("kaiming_normal", d, l)
        assert count == pytest.approx(constant * l ** (1 - d / 2), rel=1e-5)


@pytest.mark.parametrize("d", [3, 4, 10])
def test_there_is_a_worst_width_for_three_inputs_or_more(d):
    probability = exact.obstruction_probability("kaiming_normal", d, np.arange(1, 2000))
    worst = int(probability.argmax())
    steps = np.diff(probability)
    assert (steps[worst:] < 0).all()
    assert (steps[:worst] > 0).all()


@pytest.mark.parametrize("d", [1, 2, 10, 30])
def test_wide_xavier_networks(d):
    p = exact.pathological_probability("xavier_normal", d, FAR)
    assert p == pytest.approx(special.betainc(d / 2, 0.5, 0.5), rel=1e-9)
    enough = int(40 / p)
    assert exact.obstruction_probability("xavier_normal", d, enough) > 1.0 - 1e-12


@pytest.mark.parametrize("l", [1, 2, 5, 10])
@pytest.mark.parametrize(("scheme", "more"), [("kaiming_normal", 0), ("xavier_normal", 1)])
def test_many_inputs(scheme, more, l):
    limit = stats.chi2.sf(l + more, 1)
    found = exact.pathological_probability(scheme, FAR, l)
    assert found == pytest.approx(limit, rel=1e-9)
    # what the comparison would notice: one neuron more or less
    assert found != pytest.approx(stats.chi2.sf(l + more + 1, 1), rel=1e-2)


@pytest.mark.parametrize(("scheme", "base"), [("kaiming_normal", 0.5), ("xavier_normal", 2 / 3)])
def test_the_diagonal_falls_exponentially(scheme, base):
    d = np.array([10**4, 2 * 10**4])
    logs = exact.log_obstruction_probability(scheme, d, d)
    rate = (logs[1] - logs[0]) / (d[1] - d[0])
    assert rate == pytest.approx(np.log(base) / 2, rel=2e-3)


def cells(heading):
    """The numbers of the table under a heading, row by row."""
    text = DOCS.read_text(encoding="utf-8").split(heading, 1)[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [re.findall(r"\d+\.?\d*(?:e[-+]\d+)?", row) for row in rows[2:]]


def test_the_table_of_many_inputs_is_right_to_the_last_digit():
    rows = [row for row in cells("## Many inputs") if len(row) == 3]
    assert len(rows) == 4
    for l, kaiming, xavier in rows:
        for scheme, shown in (("kaiming_normal", kaiming), ("xavier_normal", xavier)):
            found = exact.obstruction_probability(scheme, FAR, int(l))
            assert f"{found:.4f}" == shown


def test_the_table_of_the_diagonal_is_right_to_the_last_digit():
    rows = cells("## The diagonal")
    assert len(rows) == 3
    for d, kaiming, xavier in rows:
        for scheme, shown in (("kaiming_normal", kaiming), ("xavier_normal", xavier)):
            log10 = exact.log_obstruction_probability(scheme, int(d), int(d)) / np.log(10)
            mantissa = 10 ** (log10 - np.floor(log10))
            assert f"{mantissa:.1f}e{int(np.floor(log10)):03d}" == shown
