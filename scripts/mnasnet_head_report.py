"""The report of the trainings of MNASNet: table, page and picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import wilcoxon

from obstruction.sampling.inference.binomial import holm

LEVEL = 0.05
"""The probability that any difference is called one, at most, if there are none."""

SHOWN = (0, 1, 2, 5, 10, 20, 30, 40)
"""The steps after which the table has losses."""

FLOOR = 1e-6
"""Losses are drawn from here on."""


@dataclass(frozen=True)
class Record:
    """One training.

    Attributes
    ----------
    optimiser, start : str
    rate : float
    seed : int
    losses : list of float
        The training loss before each step and after the last.
    train_accuracy, test_loss, test_accuracy : float
        After the last step.
    frozen, free : int
        How many weights of the head were frozen at the start, and how many were not.
    frozen_crossed, free_crossed : int
        How many of them changed their sign at some step.
    moved : float
        The largest change of a weight of the head from the start to the end.
    drift : float
        The largest drift of a balance of the head at any step, relative to its terms at the start.
    """

    optimiser: str
    start: str
    rate: float
    seed: int
    losses: list[float]
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    frozen: int
    free: int
    frozen_crossed: int
    free_crossed: int
    moved: float
    drift: float

    @property
    def mean_loss(self) -> float:
        """The training loss, averaged over all steps."""
        return float(np.mean(self.losses))

    @property
    def train_loss(self) -> float:
        """The training loss after the last step."""
        return self.losses[-1]

    @property
    def crossed(self) -> int:
        """How many weights of the head changed their sign."""
        return self.frozen_crossed + self.free_crossed


MEASURES: dict[str, str] = {
    "mean_loss": "training loss, mean of all steps",
    "train_loss": "training loss at the end",
    "test_loss": "test loss at the end",
    "test_accuracy": "test accuracy",
    "crossed": "signs crossed",
}
"""What the starts are compared by."""


def table(records: Sequence[Record]) -> pd.DataFrame:
    """Return a row for each training that is compared."""
    rows = []
    for record in records:
        row = asdict(record)
        losses = row.pop("losses")
        row |= {"mean_loss": record.mean_loss, "train_loss": record.train_loss}
        row |= {f"loss_{step}": losses[step] for step in SHOWN if step < len(losses)}
        rows.append(row)
    return pd.DataFrame(rows)


def tests(records: Sequence[Record]) -> pd.DataFrame:
    """Compare the other starts with the shipped one, seed by seed.

    Returns
    -------
    DataFrame
        A row for each optimiser, start and measure, with the median difference to the shipped
        start, the numbers of seeds in which the measure is lower and higher, the p-value of
        Wilcoxon's signed-rank test, and Holm's adjusted p-value among all rows.
    """
    by_key = {(r.optimiser, r.start, r.seed): r for r in records}
    seeds = list(dict.fromkeys(r.seed for r in records))
    rows = []
    for optimiser in dict.fromkeys(r.optimiser for r in records):
        for start in list(dict.fromkeys(r.start for r in records))[1:]:
            for measure in MEASURES:
                pairs = [
                    (by_key[optimiser, start, seed], by_key[optimiser, "shipped", seed])
                    for seed in seeds
                ]
                values = np.array([[getattr(r, measure) for r in pair] for pair in pairs], float)
                difference = values[:, 0] - values[:, 1]
                rows.append(
                    {
                        "optimiser": optimiser,
                        "start": start,
                        "measure": measure,
                        "median": float(np.median(difference)),
                        "lower": int((difference < 0.0).sum()),
                        "higher": int((difference > 0.0).sum()),
                        "p": float(wilcoxon(difference).pvalue) if difference.any() else 1.0,
                    }
                )
    found = pd.DataFrame(rows)
    found["adjusted"] = holm(found["p"])
    return found


def page(
    records: Sequence[Record],
    rates: Mapping[str, float],
    tried: Mapping[tuple[str, float], float],
    told: Mapping[str, Any],
    *,
    quick: bool,
) -> str:
    """Return the page about the trainings, as Markdown."""
    compared = tests(records)
    lines = [
        "# Training from a frozen head" + " (quick version)" * quick,
        "",
        *_done(told, quick),
        "",
        *_rates(rates, tried, told),
        "",
        "![Training losses over the steps, and how many signs crossed](mnasnet_head.png)",
        "",
        "*Lines are medians over the seeds, bands reach from quartile to quartile, each mark below "
        "is one training.*",
        "",
        "## Medians and quartiles",
        "",
        *_quartiles(records),
        "",
        "## Paired comparisons",
        "",
        f"Each start against the shipped one of the same seed, {told['seeds']} pairs: the median "
        "of the differences, in how many pairs the measure is lower and higher, and the p-value "
        f"of Wilcoxon's signed-rank test, as it is and by Holm's method among all {len(compared)} "
        "tests.",
        "",
        "| optimiser | start | measure | difference | lower | higher | p | adjusted |",
        "|---|---|---|--:|--:|--:|--:|--:|",
        *(
            f"| {row['optimiser']} | {row['start']} | {MEASURES[row['measure']]} | "
            f"{row['median']:+.2g} | {row['lower']} | {row['higher']} | {row['p']:.2g} | "
            f"{row['adjusted']:.2g} |"
            for row in compared.to_dict("records")
        ),
        "",
        "## What follows",
        "",
        *_follows(records, compared, told),
    ]
    return "\n".join(lines) + "\n"


def _done(told: Mapping[str, Any], quick: bool) -> list[str]:
    return [
        f"Written by `python scripts/mnasnet_head.py{' --quick' * quick}` with torchvision "
        f"{told['torchvision']}, torch {told['torch']} and scikit-learn {told['scikit-learn']}. "
        f"The network is torchvision's `MNASNet({told['alpha']:g}, num_classes=1, dropout=0.0)` "
        f"with {told['scalars']:,} weights; `mnasnet0_5` has 0.5, and all widths have the same "
        f"head. Its {told['weights']:,} weights are drawn from U(−√3, √3) behind a BatchNorm of "
        "gain 1 and offset 0, and gradient flow keeps γ² + β² − v² of each channel. The sign of a "
        f"weight is frozen if |v| > 1, which has probability 1 − 1/√3 = {told['share']:.1%}.",
        "",
        "It learns to tell threes from eights among scikit-learn's digits, enlarged to 32 × 32 "
        f"pixels, with the logistic loss. A seed draws the network and chooses {told['images']} of "
        f"the images for training; the other {told['others']} are the test images. Every step uses "
        f"all {told['images']} images, and there are {told['steps']} steps. The balances hold with "
        "dropout, too. It is switched off so that gradient descent has no noise. Training losses "
        "are those of training mode. For the test images the normalisations use the statistics of "
        "the images for training, because the running averages of MNASNet, with a momentum of "
        "3e-4, hardly move in so few steps.",
        "",
        "There are three starts from each seed:",
        "",
        "- **shipped**: as torchvision draws it.",
        "- **repaired**: the same draw with the head multiplied by 1/√3 = "
        f"{told['factor']:.8f}, so that all |v| < 1 and no sign is frozen. This is the smallest "
        "change with that result. A probability of 10⁻³ that any sign is frozen would allow "
        f"{told['allowed']:.8f}, which is the same for any purpose. The outputs, too, are "
        "multiplied by 1/√3.",
        "- **rebalanced**: the same draw repaired by the balances of the head, as `ob.repair` does "
        "it. In each frozen channel gain and offset are multiplied, and the weight divided, by "
        "up to √(1.1 · √3) = 1.38. The outputs are those of the shipped start up to rounding, "
        "and no sign of the head is frozen.",
    ]


def _rates(
    rates: Mapping[str, float], tried: Mapping[tuple[str, float], float], told: Mapping[str, Any]
) -> list[str]:
    seeds = "seed" if told["rate_seeds"] == 1 else "seeds"
    lines = [
        "The learning rate of an optimiser is the one of three with the least training loss, "
        "averaged over all steps, over the shipped and the repaired start, and over "
        f"{told['rate_seeds']} {seeds} that are not used later. It is the same for all starts:",
        "",
        "| optimiser | rate | mean loss | |",
        "|---|--:|--:|---|",
    ]
    for (optimiser, rate), loss in tried.items():
        mark = "chosen" if rates[optimiser] == rate else ""
        lines.append(f"| {optimiser} | {rate:g} | {loss:.3g} | {mark} |")
    for optimiser, chosen in rates.items():
        of_optimiser = [rate for name, rate in tried if name == optimiser]
        if chosen in (min(of_optimiser), max(of_optimiser)):
            side = "largest" if chosen == max(of_optimiser) else "smallest"
            lines += ["", f"For {optimiser} it is the {side} that was tried."]
    return lines


def _quartiles(records: Sequence[Record]) -> list[str]:
    """Return a table with medians and quartiles, a column for each optimiser and start."""
    groups = _groups(records)
    last = len(records[0].losses) - 1
    rows: list[tuple[str, Callable[[Record], float]]] = [
        (f"training loss, after step {step}", lambda r, step=step: r.losses[step])  # type: ignore[misc]
        for step in SHOWN
        if step < last
    ]
    rows += [
        (f"training loss, after step {last}", lambda r: r.train_loss),
        ("training loss, mean of all steps", lambda r: r.mean_loss),
        ("training accuracy", lambda r: r.train_accuracy),
        ("test loss", lambda r: r.test_loss),
        ("test accuracy", lambda r: r.test_accuracy),
        ("frozen weights of the head", lambda r: r.frozen),
        ("of these crossed", lambda r: r.frozen_crossed),
        ("other weights that crossed", lambda r: r.free_crossed),
        ("largest change of a weight of the head", lambda r: r.moved),
        ("largest relative drift of a balance", lambda r: r.drift),
    ]
    lines = [
        "The median, with the quartiles in brackets.",
        "",
        "| | " + " | ".join(f"{optimiser}, {start}" for optimiser, start in groups) + " |",
        "|---|" + "--:|" * len(groups),
    ]
    for name, value in rows:
        cells = []
        for of_group in groups.values():
            low, middle, high = np.percentile([value(r) for r in of_group], [25, 50, 75])
            cells.append(f"{middle:.3g} ({low:.3g}–{high:.3g})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _groups(records: Sequence[Record]) -> dict[tuple[str, str], list[Record]]:
    groups: dict[tuple[str, str], list[Record]] = {}
    for optimiser in dict.fromkeys(r.optimiser for r in records):
        for start in dict.fromkeys(r.start for r in records):
            groups[optimiser, start] = [
                r for r in records if (r.optimiser, r.start) == (optimiser, start)
            ]
    return groups


def _follows(
    records: Sequence[Record], compared: pd.DataFrame, told: Mapping[str, Any]
) -> list[str]:
    """Return what the numbers say, an item each."""
    lines = []
    for optimiser in dict.fromkeys(r.optimiser for r in records):
        mine = [r for r in records if r.optimiser == optimiser]
        old = [r for r in mine if r.start == "shipped"]
        frozen = sum(r.frozen_crossed for r in old), sum(r.frozen for r in old)
        free = sum(r.free_crossed for r in old), sum(r.free for r in old)
        moved = max(r.moved for r in mine)
        text = (
            f"- **{optimiser}**: of {frozen[1]:,} frozen weights of the shipped starts "
            f"{frozen[0]:,} crossed zero, of {free[1]:,} others {free[0]:,}. The largest drift of "
            f"a balance of the head in any training is {max(r.drift for r in mine):.2g} of its "
            f"terms. No weight of the head moved by more than {moved:.2g}"
        )
        if moved < 1.0 and not frozen[0]:
            text += (
                ", and a frozen weight starts more than 1 away from zero: in so few steps it would "
                "not have arrived there without a balance either."
            )
        text += "." * (not text.endswith("."))
        accuracy = np.median([r.test_accuracy for r in mine])
        lines.append(f"{text} The median test accuracy of all its trainings is {accuracy:.0%}.")
        for start in dict.fromkeys(r.start for r in mine if r.start != "shipped"):
            rows = compared[(compared["optimiser"] == optimiser) & (compared["start"] == start)]
            lines.append(f"  - {start}: {_verdict(rows, told['seeds'])}.")
    lines += [
        "",
        "The repaired start differs from the shipped one in three ways: no sign is frozen; the "
        "outputs are smaller; and √3 times as many weights lie within any small distance of zero. "
        "The rebalanced start has no frozen sign either, but the outputs of the shipped one. What "
        "only the repaired start shows is therefore no effect of the frozen signs alone. These are "
        "a few steps on a few images of an easy task. They say nothing about long training, or "
        "about tasks in which the sign of a single weight decides.",
    ]
    return lines


def _verdict(rows: pd.DataFrame, seeds: int) -> str:
    different = [
        f"{MEASURES[row['measure']]} {_direction(row)} in {max(row['lower'], row['higher'])} of "
        f"{seeds} pairs (adjusted p = {row['adjusted']:.2g})"
        for row in rows.to_dict("records")
        if row["adjusted"] <= LEVEL
    ]
    others = [MEASURES[r["measure"]] for r in rows.to_dict("records") if r["adjusted"] > LEVEL]
    parts = different + ([f"no difference seen in {', '.join(others)}"] if others else [])
    return "; ".join(parts)


def _direction(row: Mapping[str, Any]) -> str:
    return "lower" if row["lower"] > row["higher"] else "higher"


def picture(records: Sequence[Record]) -> Figure:
    """Draw the losses over the steps and the crossed signs, a column for each optimiser."""
    groups = _groups(records)
    optimisers = list(dict.fromkeys(optimiser for optimiser, _ in groups))
    starts = list(dict.fromkeys(start for _, start in groups))
    palette = sns.color_palette("colorblind")
    colours = dict(zip(starts, (palette[3], palette[0], palette[2]), strict=False))
    figure = Figure(figsize=(3.5, 3.9), layout="constrained")
    panels = figure.subplots(2, len(optimisers), sharey="row", squeeze=False)
    for column, optimiser in enumerate(optimisers):
        above, below = panels[:, column]
        for place, start in enumerate(starts):
            of_group, colour = groups[optimiser, start], colours[start]
            losses = np.maximum([r.losses for r in of_group], FLOOR)
            low, middle, high = np.percentile(losses, [25, 50, 75], axis=0)
            steps = np.arange(losses.shape[1])
            above.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
            above.plot(steps, middle, color=colour, lw=1.2, label=start)
            spread = np.linspace(-0.28, 0.28, len(of_group)) + place
            for name, marker, filled in (("free", "o", False), ("frozen", "x", True)):
                crossed = [getattr(r, f"{name}_crossed") for r in of_group]
                if name == "free" or any(r.frozen for r in of_group):
                    below.scatter(
                        spread,
                        crossed,
                        s=9,
                        marker=marker,
                        lw=0.8,
                        clip_on=False,
                        zorder=3,
                        **({"color": "0.3"} if filled else {"fc": "none", "ec": colour}),
                    )
        above.set(yscale="log", title=optimiser, xlabel="step", xlim=(0, None))
        below.set_xticks(range(len(starts)), starts, rotation=25)
        below.set(xlim=(-0.5, len(starts) - 0.5))
        for ax in (above, below):
            ax.grid(axis="y", color="0.9", lw=0.6)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
            ax.tick_params(labelsize=7)
            ax.xaxis.label.set_size(8)
            ax.title.set_size(8)
    panels[0][0].set_ylabel("training loss", fontsize=8)
    panels[1][0].set_ylabel("signs crossed", fontsize=8)
    lines, names = panels[0][0].get_legend_handles_labels()
    figure.legend(lines, names, frameon=False, fontsize=7, ncols=3, loc="outside upper center")
    grey = {"ls": "", "color": "0.3", "ms": 3.2, "mew": 0.8}
    marks = [
        Line2D([], [], marker="o", mfc="none", label="of free weights", **grey),
        Line2D([], [], marker="x", label="of frozen weights", **grey),
    ]
    most = max(max(r.free_crossed, r.frozen_crossed) for r in records)
    panels[1][0].set_ylim(0, 1.35 * most + 1)
    panels[1][0].legend(
        handles=marks,
        frameon=False,
        fontsize=7,
        loc="upper left",
        handletextpad=0.2,
        borderpad=0.0,
    )
    return figure
