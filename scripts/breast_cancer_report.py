"""The report of figure 4: numbers that judge the paper's two claims."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import trends
from breast_cancer import SIGNS, Settings, Width

LEVEL = 1e-3
"""The probability of any false alarm among the tests of one loss at all widths."""

RESAMPLES = 1000
"""The number of resamplings of the initial functions from which every interval is computed."""

TITLES = {"drawn": "signs as drawn", "one sign": "one sign at the start"}
LOSSES = {"test_loss": "test loss", "train_loss": "training loss"}


def report(results: Mapping[int, Width], settings: Settings, quick: bool) -> str:
    """Return the results of the experiment as Markdown."""
    widths = f"l = {min(results)} to {max(results)}"
    networks = sum(width.drift.size for width in results.values())
    drift = np.concatenate([width.drift.ravel() for width in results.values()])
    lines = [
        "# Figure 4: the tests" + " (quick version)" * quick,
        "",
        f"Written by `python scripts/figure4.py{' --quick' * quick}`; docs/breast_cancer.md "
        "explains. "
        f"{widths}, {settings.initialisations} initial functions for each l and kind of signs, "
        f"{networks:,} networks; gradient descent, learning rate {settings.learning_rate:g}, "
        f"{settings.steps:,} steps; balances ±{settings.balance:g}; seed {settings.seed}.",
        "",
        f"Drift of a balance, largest among a network's neurons, in units of its start: median "
        f"{np.median(drift):.1%}, 99th percentile {np.percentile(drift, 99):.1%}, largest "
        f"{drift.max():.1%}. Frozen output weights that changed sign: "
        f"{sum(int(w.flips.sum()) for w in results.values())}. Networks that diverged: "
        f"{sum(int(w.diverged.sum()) for w in results.values())}.",
        "",
    ]
    for s, sign in enumerate(SIGNS):
        lines += [f"## {TITLES[sign].capitalize()}", "", *_luck(results, s)]
        lines += _tests(results, s, settings.seed)
        lines += _trend_table(results, s, settings.seed)
    return "\n".join(lines)


def _luck(results: Mapping[int, Width], s: int) -> list[str]:
    """Compare networks without free neurons: those with mixed signs and those with one sign."""
    mixed = np.concatenate([width.two_signs[s, :, 0] for width in results.values()])
    loss = np.concatenate([width.train_loss[s, :, 0] for width in results.values()])
    parts = []
    for which, words in ((mixed, "with frozen weights of both signs"), (~mixed, "of one sign")):
        if which.any():
            spread = np.percentile(loss[which], [0, 50, 100])
            parts.append(
                f"{which.sum()} {words}: training loss {spread[1]:.3f} in the median, "
                f"from {spread[0]:.3f} to {spread[2]:.3f}"
            )
    return ["Networks without free neurons (l+ = 0): " + "; ".join(parts) + ".", ""]


def _tests(results: Mapping[int, Width], s: int, seed: int) -> list[str]:
    """Say at which widths the losses fall or rise with l+, by means and by ranks."""
    columns: dict[str, dict[int, trends.TrendTest]] = {}
    lines = ["Falling or rising with l+ at fixed l, paired over initial functions:", ""]
    for name, words in LOSSES.items():
        losses = {l: getattr(width, name)[s] for l, width in results.items()}
        columns[f"{words}, mean"] = trends.mean_tests(losses, seed=seed)
        columns[f"{words}, ranks"] = trends.page_tests(losses)
    for words, tests in columns.items():
        falls = [l for l, test in tests.items() if test.falls <= LEVEL]
        rises = [l for l, test in tests.items() if test.rises <= LEVEL]
        lines.append(
            f"- {words}: falls at {len(falls)} of {len(tests)} widths ({_listed(falls)}), "
            f"rises at {len(rises)} ({_listed(rises)})"
        )
    lines += [
        "",
        "Mean: change of the mean loss from no free neuron to all, by the least-squares line; "
        "p-value from flipping signs. Ranks: mean rank correlation of loss and l+; Page's test. "
        f"Chance of any false alarm in a column: {LEVEL:g}. In bold: significant.",
        "",
        "| l | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for l in results:
        tests = [column.get(l) for column in columns.values()]
        lines.append(f"| {l} | " + " | ".join(map(_entry, tests)) + " |")
    return [*lines, ""]


def _entry(test: trends.TrendTest | None) -> str:
    if test is None:
        return "–"
    text = f"{test.size:+.3f}"
    return f"**{text}**" if min(test.falls, test.rises) <= LEVEL else text


def _listed(widths: Sequence[int]) -> str:
    """Return widths in words, with ranges for successive widths."""
    runs: list[list[int]] = []
    for l in widths:
        if runs and l == runs[-1][-1] + 1:
            runs[-1].append(l)
        else:
            runs.append([l])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    return "l = " + ", ".join(parts) if parts else "none"


def _trend_table(results: Mapping[int, Width], s: int, seed: int) -> list[str]:
    """Return a table of the trends of the cells' means."""
    columns = {}
    for name, words in LOSSES.items():
        losses = {l: getattr(width, name)[s] for l, width in results.items()}
        columns[words] = trends.trends(losses, resamples=RESAMPLES, seed=seed)
    rows = {
        "number_at_width": "rank correlation with l+ at fixed l",
        "width_at_number": "rank correlation with l at fixed l+",
        "width_at_share": "rank correlation with l at fixed l+/l",
        "explained_by_number": "variance explained by l+ alone",
        "explained_by_share": "variance explained by l+/l alone",
        "difference": "difference of these two",
    }
    lines = [
        f"Mean of each cell (l, l+); 95 % intervals from the standard error among {RESAMPLES} "
        "resamplings of the initial functions.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for name, words in rows.items():
        values = (getattr(found, name) for found in columns.values())
        entries = ["–" if math.isnan(v.value) else str(v) for v in values]
        lines.append(f"| {words} | " + " | ".join(entries) + " |")
    return [*lines, ""]
