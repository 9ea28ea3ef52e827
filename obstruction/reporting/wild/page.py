"""The page about the zoo in Markdown: what was drawn, the verdict, and a table to cite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from obstruction.studies.wild.remedies import RISK
from obstruction.studies.wild.study import OFTEN, WildStudy
from obstruction.tools.words import counted, listed


def page(study: WildStudy, picture: str) -> str:
    """Return the page.

    Parameters
    ----------
    study : WildStudy
    picture : str
        The name of the figure's file, as the page links to it.
    """
    table, verdict = study.table(), study.agreement()
    some = int((table["obstructed"] > 0).sum())
    known = int(table["exact"].notna().sum())
    packages = table["package"].nunique()
    fixed = ", ".join(f"`{name}`" for name in table["architecture"][table["same_start"]])
    lines = [
        "# Obstruction in the wild",
        "",
        f"From `{_command(study)}`. {counted(len(table), 'architecture')} of "
        f"{counted(packages, 'package')}, each built and initialised by the code of its package: "
        f"{study.networks:,} draws of each{_fewer(study)}, seed "
        f"{study.seed}. In {some} of them some draw has a weight whose sign gradient flow can "
        "never change.",
        "",
        "`P` is the share of draws with such a weight, with its 95 % Clopper-Pearson interval. "
        "*exact* is the probability that follows from the laws by which the package draws its "
        "weights, where there is one. *share* is the mean share of frozen weights among those "
        "that are alone on a side of a balance. *ratio* is the largest ratio of such a weight's "
        "square to the other side in any draw; above 1 the weight is frozen, so a ratio far below "
        "1 says more than that none was seen. *what* names the weights that are frozen most often "
        "or come closest.",
        "",
        f"The verdict on the {known} architectures with an exact value is **{verdict.verdict}**: "
        f"{verdict.tests} tests, smallest adjusted p-value {verdict.smallest:.2g}, false alarms at "
        f"most {verdict.level:g}.{_by_hand(study)}",
        "",
    ]
    if fixed:
        lines += [
            "Whatever the seed, all draws of these have the same weights in their balances: "
            f"{fixed}.",
            "",
        ]
    lines += [
        f"![Probability and frozen share of each architecture]({picture})",
        "",
        "| architecture | version | P | 95 % | exact | share | exact | ratio | what | note |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|:--|:--|",
    ]
    lines += map(_row, table.to_dict("records"))
    lines += _what_to_do(study)
    return "\n".join(lines) + "\n"


def _what_to_do(study: WildStudy) -> Iterator[str]:
    """Yield the section on changes of the initialisation."""
    if not study.remedies:
        return
    helped = {name: one for name, one in study.remedies.items() if not math.isnan(one.factor)}
    rest = [f"`{name}`" for name in study.remedies if name not in helped]
    yield from (
        "",
        "## What to do about it",
        "",
        f"For architectures with a frozen sign in more than {100 * OFTEN:g} % of the draws: the "
        f"largest factor by which the weights that freeze can be multiplied so that P is at most "
        f"{RISK:g}. Where there is an exact value, the factor solves for it; elsewhere it comes "
        "from the ratios in draws. Fresh draws verify it.",
        "",
    )
    if rest:
        yield from (
            "No common factor of the weights that freeze helps, as where both sides of a balance "
            f"are single weights, of which one is frozen in any case: {', '.join(rest)}.",
            "",
        )
    yield "| architecture | weights | factor | exact P | frozen in fresh draws | P below (95 %) |"
    yield "|:--|:--|--:|--:|--:|--:|"
    for name, one in helped.items():
        first = one.tensors[0] + (f" and {len(one.tensors) - 1} more" if one.tensors[1:] else "")
        yield (
            f"| {name} | {first} | {one.factor:.3g} | {_number(one.exact)} | "
            f"{one.obstructed:,} of {one.networks:,} | {one.bound:.2g} |"
        )


def _fewer(study: WildStudy) -> str:
    fewer = {
        name: one.networks for name, one in study.studies.items() if one.networks < study.networks
    }
    if not fewer:
        return ""
    most = max(fewer.values())
    return f" ({most:,} of the large {listed([f'`{name}`' for name in fewer])})"


def _command(study: WildStudy) -> str:
    return f"obstruction wild --networks {study.networks} --seed {study.seed}"


def _by_hand(study: WildStudy) -> str:
    pairs = study.by_hand().values()
    if not pairs:
        return ""
    worst = max(abs(found - hand) / hand if hand else found for found, hand in pairs)
    return (
        f" For {len(pairs)} of them the value was also derived from the sizes of the layers; the "
        f"largest relative difference is {worst:.1g}."
    )


def _row(row: dict[str, Any]) -> str:
    cells = [
        row["architecture"],
        row["version"],
        _number(row["empirical"]),
        f"{row['ci_low']:.2g} to {row['ci_high']:.2g}",
        _number(row["exact"]),
        _percent(row["share"]),
        _percent(row["exact_share"]),
        f"{row['largest']:.2g}" if row["weights"] else "",
        row["freezes"],
        row["note"],
    ]
    if not row["weights"]:
        cells[2:7] = ["0", "", "", "", ""]
    return "| " + " | ".join(str(one).replace("|", r"\|") for one in cells) + " |"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3g}"


def _percent(value: float) -> str:
    return "" if math.isnan(value) else f"{100.0 * value:.3g} %"
