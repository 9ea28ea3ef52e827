"""The statements of docs/training.md about the drift of laws, against the committed table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
OPTIMISERS = ("SGD", "momentum", "Adam", "weight decay")


@pytest.fixture(scope="module")
def drift() -> pd.DataFrame:
    return pd.read_csv(ROOT / "figures" / "drift_of_laws.csv")


def test_the_table_of_the_page_is_that_of_the_run(drift):
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").splitlines()
    together = drift.pivot(index=["network", "kind"], columns="optimiser", values="largest")
    for (network, kind), row in together.iterrows():
        cells = [f"{row[optimiser]:.2g}" for optimiser in OPTIMISERS]
        assert f"| {network} | {kind} | {' | '.join(cells)} |" in page


def test_what_the_page_says_about_optimisers(drift):
    balances = drift[drift["kind"] == "balance"]
    largest = balances.pivot(index="network", columns="optimiser", values="largest")
    assert (largest["SGD"] < 1e-3).all()
    assert (largest["momentum"] / largest["SGD"]).between(38, 55).all()
    assert largest.max().max() == pytest.approx(0.27, abs=0.005)
    constants = drift[drift["kind"] == "constant"].set_index("optimiser")["largest"]
    assert constants["SGD"] == constants["momentum"] == 0.0
    # decay of a constant: (1 - rate · decay / (1 - momentum)) for each of 300 steps
    assert constants["weight decay"] == pytest.approx(1 - (1 - 0.01 * 5e-3 / 0.1) ** 300, rel=0.05)
