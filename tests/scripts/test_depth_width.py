"""The script about depth, width and skips: its networks, its table, its page's numbers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from obstruction import exact

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "scripts" / "depth_width.py").exists(), reason="installed away from its scripts"
)


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import depth_width

        yield depth_width


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(ROOT / "figures" / "depth_width.csv", keep_default_na=False, na_values=[""])


def test_who_feeds_whom(script):
    widths = [2, 3, 1, 2, 1]
    assert script.network(widths, "none", False).size == 6 + 3 + 2 + 2
    skips = script.network(widths, "one", False)
    assert skips.size == 13 + 2 * 1 + 3 * 2 + 1 * 1
    assert ("1.0", "3.0") in skips.edges
    assert ("2.0", "4.0") in skips.edges
    assert ("0.0", "3.0") not in skips.edges
    inputs = script.network(widths, "inputs", True)
    assert inputs.size == 13 + 2 * (1 + 2 + 1) + 6
    assert ("0.1", "4.0") in inputs.edges
    assert (
        script.network([2, 3, 1], "one", False).edges
        == script.network([2, 3, 1], "inputs", False).edges
    )
    shape = {"width": 8, "depth": 3, "ones": "1 3"}
    assert script.widths_of(shape) == [8, 1, 8, 1, 1]


def test_the_committed_table(table):
    assert len(table) == 648
    chains = table[(table.part == "grid") & (table.skip == "none") & (table.width > 1)]
    for row in chains.itertuples():
        d = 8 if row.depth == 1 else row.width
        expected = exact.obstruction_probability(row.scheme, d, row.width)
        assert row.P_exact == pytest.approx(expected, rel=1e-8)
    known = table[table.P_exact.notna()]
    assert len(known) == 610
    error = np.sqrt(known.P_exact * (1 - known.P_exact) / known.networks)
    assert (np.abs(known.P - known.P_exact) <= 5 * error + 1e-12).all()
    mean = table[table.mean_exact.notna()]
    error = np.maximum(mean.mean_error, np.sqrt(mean.mean_exact / mean.networks))  # rare ones, too
    assert (np.abs(mean["mean"] - mean.mean_exact) <= 5 * error + 1e-12).all()


def test_the_page_quotes_the_table(table):
    """Every probability with four digits on the page is one of the table's."""
    text = (ROOT / "docs" / "depth_width.md").read_text(encoding="utf-8")
    quoted = re.findall(r"(?<![\d.])0\.\d{4}(?!\d)", text)
    known = {f"{value:.4f}" for value in table.P_exact.dropna()}
    assert len(quoted) > 12
    assert set(quoted) <= known
    one = table[(table.part == "one") & (table.scheme == "kaiming_normal") & (table.skip == "none")]
    means = one.mean_exact.fillna(one["mean"]).set_axis(one.ones).round(2)
    assert [means[str(k)] for k in (1, 2, 3, 4, 5, 6)] == [2.95, 3.13, 3.13, 3.13, 8.18, 0.53]


@pytest.mark.slow
def test_a_quick_run(script, tmp_path):
    assert script.main(["--quick", "--networks", "2000", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(script.FILES)
    text = (tmp_path / "depth_width.md").read_text(encoding="utf-8")
    assert "Quick version: 2,000 networks" in text
