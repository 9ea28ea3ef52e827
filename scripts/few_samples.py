"""Draw how few training samples obstruct a wide network, on images of handwritten digits.

    python scripts/few_samples.py [--quick] [--out figures]

Writes ``few_samples.csv``, ``.md``, ``.png`` and ``.pdf``. The data are the first images of
scikit-learn's digits, 64 pixels each, as they are (not centred). A dense first layer moves in their
span only, so a network on data of rank r starts as one with r inputs. Networks with one hidden
layer are drawn by PyTorch: with normal weights (Kaiming, no biases), for which counts are held
against exact values, and by the default of ``nn.Linear``, for which there is none. ``--quick``
draws fewer networks of fewer widths. The script exits with 1 if counts and exact values disagree.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn

import obstruction as ob
from obstruction.reporting import heatmaps
from obstruction.sampling.inference.verdict import Verdict
from obstruction.tools.files import whole_file

NAME = "few_samples"
FILES = tuple(f"{NAME}.{ending}" for ending in ("csv", "md", "pdf", "png"))
SEED = 0
INPUTS = 64
WIDTHS, QUICK_WIDTHS = (16, 64, 256, 1024), (16, 64)
IMAGES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 28, 40, 1797)
QUICK_IMAGES = (1, 4, 10, 25)
NETWORKS, QUICK_NETWORKS = 800, 200
LARGER = ((784, 128), (784, 512), (784, 2048), (3072, 128), (3072, 512), (3072, 2048))
"""Inputs and hidden neurons of networks that are not drawn, on images of common sizes."""


@cache
def digits() -> Any:
    """Return the images, a row each."""
    return load_digits().data


def images(width: int, images: int) -> Any:
    """Return the first images."""
    return digits()[:images]


def kaiming(width: int, images: int) -> Any:
    """Return a network with normal weights of variances 2 / 64 and 2 / width, without biases."""
    model = nn.Sequential(
        nn.Linear(INPUTS, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)
    )
    for layer in (model[0], model[2]):
        nn.init.kaiming_normal_(layer.weight)
    return model


def usual(width: int, images: int) -> Any:
    """Return a network with the default weights and biases of ``nn.Linear``."""
    return nn.Sequential(nn.Linear(INPUTS, width), nn.ReLU(), nn.Linear(width, 1))


def normal_probability(rank: Any, inputs: int, width: int) -> Any:
    """Return P(some sign frozen) for normal weights of fan-in variances on data of some rank.

    On data of rank one a single combination of a neuron's weights moves, and its sign is frozen if
    that of the output weight is not.
    """
    p = ob.exact.pathological_probability_from_ratio(rank, inputs / width)
    return np.where(np.asarray(rank) == 1, 1.0, -np.expm1(width * np.log1p(-np.asarray(p))))


def exact(width: int, images: int) -> float:
    """Return the exact probability for normal weights."""
    rank = int(np.linalg.matrix_rank(digits()[:images]))
    return float(normal_probability(rank, INPUTS, width))


INITIALISATIONS = {
    "Kaiming normal": (kaiming, exact),
    "PyTorch default": (usual, None),
}


def sampled(name: str, widths: Sequence[int], counts: Sequence[int], networks: int) -> Any:
    """Return the study of an initialisation."""
    factory, known = INITIALISATIONS[name]
    return ob.sample_model(
        factory,
        inputs=digits()[:16],
        data=images,
        networks=networks,
        seed=SEED,
        grid={"width": widths, "images": counts},
        exact=known,
    )


def tabled(studies: dict[str, Any]) -> pd.DataFrame:
    """Return one table of all studies, with the values for normal weights to compare with."""
    parts = []
    for name, study in studies.items():
        table = study.table().drop(columns=["model", "same_start", "beyond"])
        table.insert(0, "initialisation", name)
        parts.append(table)
    table = pd.concat(parts, ignore_index=True)
    pairs = zip(table["data_rank"], table["width"], strict=True)
    table["normal"] = [float(normal_probability(int(r), INPUTS, width)) for r, width in pairs]
    return table


# --- the picture ---------------------------------------------------------------------------------


def draw(table: pd.DataFrame) -> Figure:
    """Return a figure with a panel for each initialisation and a curve for each width."""
    figure = Figure(figsize=(7.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    widths = sorted(table["width"].unique())
    colours = sns.color_palette("colorblind", len(widths))
    ranks = np.arange(1, 62)
    for ax, (name, part) in zip(axes, table.groupby("initialisation", sort=False), strict=True):
        has_exact = part["exact"].notna().all()
        for width, colour, marker in zip(widths, colours, "osD^", strict=False):
            one = part[part["width"] == width]
            style = {"linestyle": "-" if has_exact else ":", "linewidth": 1.2}
            ax.plot(ranks, normal_probability(ranks, INPUTS, width), color=colour, **style)
            middle = one["empirical"]
            ax.errorbar(
                one["data_rank"].to_numpy(np.int64),
                middle,
                (middle - one["ci_low"], one["ci_high"] - middle),
                color=colour,
                marker=marker,
                markersize=3.5,
                linestyle="none",
                linewidth=1.0,
                label=f"{width:,}",
            )
        line = "lines: exact" if has_exact else "dotted: normal weights, to compare"
        ax.set_title(f"{name}\n", fontsize=10, fontweight="bold", loc="left")
        ax.text(0.0, 1.03, line, transform=ax.transAxes, fontsize=8.5)
        ax.set(xscale="log", xlabel="rank of the training data")
        ax.set_xticks([1, 2, 4, 8, 16, 32, 61], labels=["1", "2", "4", "8", "16", "32", "61"])
        ax.minorticks_off()
        ax.grid(color="0.9", linewidth=0.6)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    axes[0].set_ylabel("P(some sign frozen)")
    axes[1].legend(title="hidden neurons", frameon=False, fontsize=8.5, title_fontsize=8.5)
    return figure


# --- the page ------------------------------------------------------------------------------------


def most(inputs: int, width: int, level: float) -> int:
    """Return the largest rank at which the exact probability is at least a level."""
    ranks = np.arange(1, inputs + 1)
    return int(ranks[normal_probability(ranks, inputs, width) >= level].max())


def on_all(inputs: int, width: int) -> str:
    """Return the exact probability on data that span all inputs, which may be below all floats."""
    log = float(ob.exact.log_pathological_probability_from_ratio(inputs, inputs / width))
    if log > -30.0:
        return f"{float(normal_probability(inputs, inputs, width)):.1e}"
    exponent = (log + math.log(width)) / math.log(10.0)  # the first term of the series
    return f"{10.0 ** (exponent % 1.0):.1f}e{math.floor(exponent)}"


def text(table: pd.DataFrame, verdict: Verdict) -> str:
    """Return the page about the studies."""
    whole = int(np.linalg.matrix_rank(digits()))
    usual = table[table["initialisation"] == "PyTorch default"]
    between = usual[usual["normal"].between(0.01, 0.9)]
    below = int((between["ci_high"] < between["normal"]).sum())
    networks, version = int(table["networks"].iloc[0]), torch.__version__.partition("+")[0]
    lines = [
        "# How few samples obstruct a wide network",
        "",
        f"From `python scripts/few_samples.py`: {networks:,} draws of each network with {INPUTS} "
        f"inputs, one hidden layer of ReLU and one output by PyTorch {version}, seed "
        f"{SEED}. The training data are the first images of scikit-learn's digits, {INPUTS} pixels "
        "each, not centred. Gradients of the first layer lie in the span of the data, so that the "
        "squares of a neuron's incoming weights count only as far as they lie in it "
        "(`ob.sample_model(..., data=X)`).",
        "",
        f"The verdict is **{verdict.verdict}**: {verdict.tests} tests of Kaiming's normal weights "
        f"against the exact value, which is that of as many inputs as the data have dimensions, "
        f"smallest adjusted p-value {verdict.smallest:.2g}, false alarms at most "
        f"{verdict.level:g}. The weights of `nn.Linear` are uniform and depend on the directions "
        "of the data, so there is no exact value; that of normal weights with the same variances "
        "is shown to compare with, and no test rests on it. Where that value is from 1 % to 90 %, "
        f"the interval of the default lies below it in {below} of {len(between)} cases: uniform "
        "output weights are bounded, while a few of many normal ones are large.",
        "",
        f"All {len(digits()):,} images span {whole} of the {INPUTS} dimensions, because some "
        "pixels at the edge are always empty.",
        "",
        "![P(some sign frozen) and the rank of the data](few_samples.png)",
        "",
        "On a single sample, one combination of a neuron's incoming weights moves. Its sign is "
        "frozen if that of the output weight is not, and P is 1.",
        "",
        "## Larger images",
        "",
        "By the formula for normal weights (Kaiming, no biases, nothing drawn): the largest rank, "
        "and so number of samples, at which P is at least 50 % and 1 %, and P on data that span "
        "all inputs.",
        "",
        "| inputs | hidden neurons | P ≥ 50 % up to | P ≥ 1 % up to | P on all inputs |",
        "|--:|--:|--:|--:|--:|",
    ]
    for inputs, width in (*((INPUTS, width) for width in WIDTHS), *LARGER):
        half, cent = (most(inputs, width, level) for level in (0.5, 0.01))
        lines.append(f"| {inputs:,} | {width:,} | {half} | {cent} | {on_all(inputs, width)} |")
    lines += [
        "",
        "## All counts",
        "",
        "| initialisation | hidden neurons | images | rank | P | 95 % | exact | normal weights | "
        "frozen share |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        known = "" if math.isnan(row["exact"]) else f"{row['exact']:.3g}"
        lines.append(
            f"| {row['initialisation']} | {row['width']:,} | {row['images']:,} | "
            f"{row['data_rank']} | {row['empirical']:.3g} | {row['ci_low']:.3g} to "
            f"{row['ci_high']:.3g} | {known} | {row['normal']:.3g} | {100 * row['share']:.2g} % |"
        )
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the studies, write the files, and return 1 if counts and exact values disagree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer networks, fewer widths")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    quick, out = (given := parser.parse_args(argv)).quick, given.out
    torch.set_num_threads(1)
    sizes = (QUICK_WIDTHS, QUICK_IMAGES, QUICK_NETWORKS) if quick else (WIDTHS, IMAGES, NETWORKS)
    studies = {name: sampled(name, *sizes) for name in INITIALISATIONS}
    verdict = studies["Kaiming normal"].agreement()
    table = tabled(studies)
    out.mkdir(parents=True, exist_ok=True)
    for ending, content in (("csv", table.to_csv(index=False)), ("md", text(table, verdict))):
        with whole_file(out / f"{NAME}.{ending}") as stream:
            stream.write(content.encode())
    heatmaps.save(draw(table), out / NAME)
    print(verdict)
    return 0 if verdict.agrees else 1


if __name__ == "__main__":
    sys.exit(main())
