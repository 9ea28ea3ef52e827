"""Draw the paper's figure 4: breast-cancer data, and how many neurons are free.

    python scripts/figure4.py [--quick] [--cache results/figure4] [--out figures]

Writes ``figure4.png``, ``figure4.pdf``, ``figure4.csv`` (one row for every kind of signs, l and l+)
and ``figure4.md`` (the tests). They show the loss of networks with l = 1 ... 25 neurons of which
l+ = 0 ... l are not pathological, trained from 100 initial functions each, with seed 0. Every
finished width is kept in the cache folder, and a further call continues from there. ``--quick``
trains l = 1 ... 6 with 10 initial functions. docs/breast_cancer.md describes the experiment.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import breast_cancer
import matplotlib as mpl
import numpy as np
import pandas as pd
from breast_cancer import SIGNS, Settings, Width
from breast_cancer_report import LOSSES, TITLES, report
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from obstruction.reporting import heatmaps

SEED = 0
FULL = Settings(seed=SEED)
QUICK = Settings(widths=tuple(range(1, 7)), initialisations=10, seed=SEED)
FILES = ("figure4.png", "figure4.pdf", "figure4.csv", "figure4.md")
WIDTHS = ListedColormap(mpl.colormaps["plasma"](np.linspace(0.0, 0.88, 256)))
"""Colours of the curves, without the yellow that cannot be seen on white."""
TICKS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)


def table(results: Mapping[int, Width]) -> pd.DataFrame:
    """Return a row for every kind of signs, width and number of free neurons."""
    rows = []
    for l, width in results.items():
        for s, sign in enumerate(SIGNS):
            for plus in range(l + 1):
                cell = {name: part[s, :, plus] for name, part in width._asdict().items()}
                row = {"signs": sign, "l": l, "l_plus": plus, "n": len(cell["drift"])}
                for name in LOSSES:
                    row[f"{name}_mean"] = cell[name].mean()
                    row[f"{name}_sd"] = cell[name].std(ddof=1)
                    row[f"{name}_median"] = np.median(cell[name])
                row["early_train_loss_mean"] = cell["early_train_loss"].mean()
                row["test_accuracy_mean"] = cell["accuracy"].mean()
                row["drift_median"] = np.median(cell["drift"])
                row["drift_max"] = cell["drift"].max()
                row["frozen_sign_changes"] = cell["flips"].sum()
                row["free_sign_changes"] = cell["freed"].sum()
                row["frozen_two_signs"] = cell["two_signs"].sum()
                row["diverged"] = cell["diverged"].sum()
                rows.append(row)
    return pd.DataFrame(rows)


def draw(cells: pd.DataFrame, about: str) -> Figure:
    """Draw one row for each kind of signs: over (l, l+), against l+, and against l+/l."""
    widths = Normalize(cells.l.min(), cells.l.max())
    loss = cells.test_loss_mean
    colours = LogNorm(loss.min(), loss.max())
    with mpl.rc_context({"font.size": 8, "axes.titlesize": 8, "axes.linewidth": 0.6}):
        figure = Figure(figsize=(7.0, 5.6), layout="constrained")
        panels = figure.subplots(2, 3)
        for row, sign in zip(panels, SIGNS, strict=True):
            part = cells[cells.signs == sign]
            _draw_map(row[0], part, colours)
            _draw_lines(row[1], part, part.l_plus, widths, colours)
            _draw_lines(row[2], part, part.l_plus / part.l, widths, colours)
            row[1].set_title(f"{TITLES[sign]}, by number")
            row[2].set_title(f"{TITLES[sign]}, by share")
            row[0].set_title(TITLES[sign])
            row[1].xaxis.set_major_locator(MaxNLocator(6, integer=True))
        for ax, label in zip(panels[1], ("hidden neurons $l$", "", ""), strict=True):
            ax.set_xlabel(label or "free neurons $l_+$")
        panels[1, 2].set_xlabel("share of free neurons $l_+/l$")
        bar = figure.colorbar(
            ScalarMappable(colours, "viridis"), ax=panels[:, 0], location="bottom", aspect=25
        )
        ticks = [tick for tick in TICKS if colours.vmin <= tick <= colours.vmax]
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.minorticks_off()
        bar.set_label("mean test loss")
        other = figure.colorbar(
            ScalarMappable(widths, WIDTHS), ax=panels[:, 1:], location="bottom", aspect=50
        )
        other.set_label("hidden neurons $l$ of a curve")
        other.ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        figure.suptitle(f"Breast-cancer data: mean test loss (nats), {about}", fontsize=9)
    return figure


def _draw_map(ax: Axes, part: pd.DataFrame, colours: LogNorm) -> None:
    wide = part.pivot(index="l_plus", columns="l", values="test_loss_mean")
    x, y = wide.columns.to_numpy(), wide.index.to_numpy()
    edges = [np.append(values - 0.5, values[-1] + 0.5) for values in (x, y)]
    ax.pcolormesh(*edges, np.ma.masked_invalid(wide.to_numpy()), cmap="viridis", norm=colours)
    ax.set_ylabel("free neurons $l_+$")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))


def _draw_lines(
    ax: Axes, part: pd.DataFrame, x: pd.Series, widths: Normalize, losses: LogNorm
) -> None:
    for l, rows in part.groupby("l"):
        look = {"color": WIDTHS(widths(l)), "linewidth": 0.8, "marker": "o", "markersize": 1.8}
        ax.plot(x[rows.index], rows.test_loss_mean, **look)
    ax.set(yscale="log", ylim=(0.93 * losses.vmin, 1.07 * losses.vmax), ylabel="mean test loss")
    ticks = [tick for tick in TICKS if ax.get_ylim()[0] <= tick <= ax.get_ylim()[1]]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.grid(linewidth=0.3, alpha=0.5)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--quick", action="store_true", help="l up to 6, 10 initial functions")
    parser.add_argument("--cache", type=Path, help="folder for the widths that are done")
    parser.add_argument("--threads", type=int, help="by default one a core")
    options = parser.parse_args(argv)
    settings = QUICK if options.quick else FULL
    results = {}
    try:
        for l, width in breast_cancer.run_experiment(
            settings, cache=options.cache, threads=options.threads
        ):
            results[l] = width
            print(f"l = {l}: done", flush=True)
    except ValueError as error:
        print(f"figure4: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("figure4: interrupted", file=sys.stderr)
        return 130
    cells = table(results)
    about = f"{settings.initialisations} initial functions" + ", quick version" * options.quick
    heatmaps.save(draw(cells, about), options.out / "figure4")
    cells.to_csv(options.out / "figure4.csv", index=False, float_format="%.6g", lineterminator="\n")
    text = report(results, settings, options.quick)
    (options.out / "figure4.md").write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
