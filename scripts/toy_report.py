"""Write the numbers of the toy experiment, for ``scripts/figure3.py``."""

from __future__ import annotations

import pandas as pd
import toy

import obstruction as ob
from obstruction.sampling.inference import binomial

QUICK = "**A quick version: fewer points, networks, steps and learning rates.**\n"


def markdown(table: pd.DataFrame) -> str:
    """Return a table of strings and integers as Markdown, with its index first."""
    names = [str(name) for name in (table.index.name or "", *table.columns)]
    rows = [names, ["---"] + ["---:"] * len(table.columns)]
    rows += [[str(row.Index), *map(str, row[1:])] for row in table.itertuples(name="Row")]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def settings(bounds: dict[int, toy.Bound], plan: toy.Plan, points: int) -> str:
    gap = max(one.high - one.low for one in bounds.values())
    return (
        f"Target `relu(x1) - relu(x2)`, {points:,} points from a standard normal law (seed "
        f"{toy.SEED}), mean squared error. Weights from `{toy.SCHEME}`, one network a seed from 0. "
        f"Gradient descent with step size {plan.rate:g}, {plan.steps:,} steps.\n\n"
        f"Least loss of networks without a negative output weight: **{bounds[1].high:.6f}**; "
        f"without a positive one: **{bounds[-1].high:.6f}**; any width, certified to {gap:.0e}. "
        "The bound is the smaller of the two. A network has *learned* if its loss is below "
        f"{toy.LEARNED:.0%} of the bound.\n"
    )


def predictions(table: pd.DataFrame) -> str:
    """Return tables of predictions and outcomes, for all networks and for each condition."""
    parts = ["## Prediction and outcome\n", markdown(toy.confusion(table))]
    rows = {}
    for condition in toy.CONDITIONS:
        counts = toy.confusion(table[table["condition"] == condition])
        for verdict in counts.index[counts.sum(axis=1) > 0]:
            rows[f"{condition}: predicted {verdict}"] = counts.loc[verdict]
    parts.append(markdown(pd.DataFrame(rows).T.rename_axis("condition")))
    drawn = table[table["condition"] == "all as drawn"]
    stuck, n = int((drawn["predicted"] == "stuck").sum()), len(drawn)
    exact = float(
        ob.exact.unreachable_probability(
            toy.SCHEME, 2, 2, positive=toy.POSITIVE, negative=toy.NEGATIVE
        )
    )
    parts.append(
        f"As drawn, {stuck} of {n} networks were predicted to be stuck; the exact probability is "
        f"{exact:.4f}, which makes {exact * n:.1f} (p-value "
        f"{binomial.p_value(stuck, n, exact):.2f}).\n"
    )
    return "\n".join(parts)


def failures(table: pd.DataFrame, plan: toy.Plan) -> str:
    """Return the reasons why networks that could have learned did not."""
    rows = table[(table["predicted"] == "not stuck") & (table["outcome"] != "learned")]
    counts = pd.crosstab(rows["cause"], rows["condition"]).reindex(
        index=list(toy.CAUSES), columns=list(toy.CONDITIONS), fill_value=0
    )
    counts["all"] = counts.sum(axis=1)
    rest = rows[rows["cause"].str.startswith("local minimum")]
    levels = rest["later_loss"].round(4).value_counts().sort_index()
    shown = ", ".join(f"{level:.4f} ({count})" for level, count in levels.items())
    vanished = int((table["cause"] == "vanished neuron").sum())
    return (
        "## Not stuck, and not learned\n\n"
        f"{len(rows)} networks; each was trained on for {plan.late_steps:,} steps of "
        f"{plan.late_rate:g}. *Slow*: learned by then. *Still moving*: not learned, gradient above "
        f"{toy.STILL:g}. *Vanished neuron*: its input weights have shrunk below {toy.VANISHED:g}. "
        "The others are at rest; told apart by the signs of their output weights.\n\n"
        f"{markdown(counts)}\nLosses of those at rest (how many): {shown or 'none'}. Of all "
        f"networks, also those predicted to be stuck, {vanished} ended with a vanished neuron.\n"
    )


def drifts(table: pd.DataFrame) -> str:
    """Return how far balances have drifted, and whether any has changed sign."""
    groups = table.groupby("condition", sort=False)["drift"]
    shown = pd.DataFrame({"median": groups.median(), "largest": groups.max()}).map("{:.4f}".format)
    flips = sum(int((table[f"c{k}"] * table[f"final_c{k}"] < 0.0).sum()) for k in (1, 2))
    frozen = table[[f"c{k}" for k in (1, 2)]].to_numpy() < 0.0
    before, after = (table[[f"{name}{k}" for k in (1, 2)]].to_numpy() for name in ("v", "final_v"))
    crossed = int((frozen & (before * after < 0.0)).sum())
    return (
        "## Drift\n\nLargest change of a balance in a network during training; the balances are "
        f"±{toy.BALANCE:g}, except where all is as drawn.\n\n{markdown(shown)}\n"
        f"Balances that changed sign: {flips} of {2 * len(table)}. Frozen output weights that "
        f"changed sign: {crossed} of {int(frozen.sum())}.\n"
    )


def finite_steps(found: pd.DataFrame) -> str:
    """Return how many networks crossed zero, for each optimizer and learning rate."""
    rows = found.copy()
    low, high = binomial.interval(rows["crossed"], rows["networks"])
    rows["crossed"] = [
        f"{k} [{a:.1%}, {b:.1%}]" for k, a, b in zip(rows["crossed"], low, high, strict=True)
    ]
    rows["drift in parts of c"] = [
        f"{drift:.2g}" if drift == drift else "–" for drift in rows["drift_50"]
    ]
    kept = ["c", "learning_rate", "steps", "diverged", "crossed", "below", "learned"]
    kept.append("drift in parts of c")
    return (
        f"## Finite steps\n\n{found['networks'].iloc[0]} networks a row, both output weights "
        "frozen positive. *Crossed*: an output weight is negative in the end, with the 95 % "
        "interval of the rate; *below*: the loss is below the bound; drift: median of those that "
        f"did not diverge.\n\n{markdown(rows.set_index('optimizer')[kept])}"
    )


def report(
    table: pd.DataFrame,
    found: pd.DataFrame,
    bounds: dict[int, toy.Bound],
    plan: toy.Plan,
    points: int,
    note: str,
) -> str:
    """Return all numbers as Markdown."""
    title = "# Figure 3: the toy experiment in numbers\n"
    about = "Written by `python scripts/figure3.py`; docs/toy.md explains it.\n"
    parts = [title, about, *([QUICK] if note else [])]
    parts += [settings(bounds, plan, points), predictions(table), failures(table, plan)]
    parts += [drifts(table), finite_steps(found)]
    return "\n".join(parts)
