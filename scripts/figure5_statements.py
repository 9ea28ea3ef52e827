"""Judge the paper's sentences about figure 5, each of which is read as claims about cases.

Called by ``scripts/figure5.py``. A claim is *true* if it holds in all cases, *loose* if it holds
in more than half of them, and *false* otherwise. A sentence is *true* if all its claims are true,
*false* if all are false, and *loose* otherwise. Exact values decide; the study that confirms them
adds what was sampled in the deciding cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from limits import limit_of_many_inputs, limit_of_wide
from numpy.typing import NDArray

import obstruction as ob
from obstruction.studies.verdict import Agreement
from obstruction.tools.words import counted

SCHEMES = {"xavier_normal": "Xavier", "kaiming_normal": "Kaiming"}
SIZES = np.arange(1, 101)
D, L = SIZES[:, None], SIZES[None, :]
FAR = np.unique(np.geomspace(100, 10**6, 41).round().astype(int))
THRESHOLDS = (0.9, 0.5, 0.1, 0.05, 0.01)
SMALL, NEGLIGIBLE = 0.01, 1e-3
LARGER = 2.0
"""The factor that counts as "much larger"."""
RAPID = 10.0
"""The factor, from one neuron to a hundred, that counts as "decreases rapidly"."""
WIDE = 20
"""Hidden neurons of a network that is much wider than a target with two neurons."""

RULE = """\
A claim is **true** if it holds in all cases, **loose** if it holds in more than half of them, and
**false** otherwise. A sentence is **true** if all its claims are, **false** if all are false, and
**loose** otherwise. The thresholds are ours; where words can be read in several ways there are
several claims, and what is marked *further* is not the paper's claim but tells how far it carries.
Exact values decide: P is the probability that a network is obstructed, p that a neuron is
pathological.
"""


@dataclass(frozen=True)
class Claim:
    """A claim of a sentence, the cases in which it holds, and a number that decides.

    Attributes
    ----------
    says : str
        The claim on a single case.
    about : str
        The scheme, or "both".
    cases : str
        A description of the cases.
    holds : ndarray of bool
        Whether the claim holds, one entry for each case.
    number : str
        The number that decides, or how far off the claim is where it fails.
    said : bool
        True if the sentence makes this claim, False if we add it to show the sentence's range.
    """

    says: str
    about: str
    cases: str
    holds: NDArray[np.bool_]
    number: str
    said: bool = True

    @property
    def verdict(self) -> str:
        """The verdict: "true", "loose" or "false"."""
        held, of = int(self.holds.sum()), self.holds.size
        return "true" if held == of else "loose" if 2 * held > of else "false"

    @property
    def row(self) -> str:
        """The claim as a row of a Markdown table."""
        held = f"{self.holds.sum():,} of {self.holds.size:,} {self.cases}"
        says = self.says if self.said else f"*further:* {self.says}"
        cells = (says, self.about, held, f"**{self.verdict}**", self.number)
        return f"| {' | '.join(cells)} |"


@dataclass(frozen=True)
class Statement:
    """A sentence of the paper, its place, the claims that it makes, and our remark."""

    words: str
    where: str
    claims: tuple[Claim, ...]
    remark: str

    @property
    def verdict(self) -> str:
        """The verdict on the sentence, from the claims that it makes."""
        found = {claim.verdict for claim in self.claims if claim.said}
        return found.pop() if len(found) == 1 else "loose"

    @property
    def decisive(self) -> Claim:
        """The first claim that does not hold everywhere or, if all do, the first."""
        said = [claim for claim in self.claims if claim.said]
        return next((claim for claim in said if claim.verdict != "true"), said[0])


def chance(scheme: str, d: Any, l: Any) -> Any:
    """Return the exact probability that a network is obstructed."""
    return ob.exact.obstruction_probability(scheme, d, l)


def neuron(scheme: str, d: Any, l: Any) -> Any:
    """Return the exact probability that a neuron is pathological."""
    return ob.exact.pathological_probability(scheme, d, l)


def grows(scheme: str, d: Any, l: Any) -> NDArray[np.bool_]:
    """Return for each d whether P grows at every step of l, by log(1 - P) to be exact near 1."""
    free = l * np.log1p(-neuron(scheme, d, l))
    return np.all(np.diff(free, axis=1) < 0.0, axis=1)


def listed(numbers: NDArray[Any]) -> str:
    """Return ascending integers as text: one, two, or the first and the last of a range."""
    if numbers.size == 0:
        return "none"
    if numbers.size > 2 and np.all(np.diff(numbers) == 1):
        return f"{numbers[0]} to {numbers[-1]}"
    return ", ".join(map(str, numbers))


# --- the statements --------------------------------------------------------------------------


def many_inputs() -> Statement:
    claims = []
    for scheme, name in SCHEMES.items():
        limits = np.array([limit_of_many_inputs(scheme, l) for l in SIZES])
        worst = int(limits.argmax())
        claims.append(
            Claim(
                *("P → 0 for d → ∞", name, "widths l = 1 … 100", limits == 0.0),
                f"the limit is {limits[0]:.4f} for l = 1, {limits[9]:.4f} for l = 10; largest "
                f"{limits[worst]:.4f} at l = {SIZES[worst]}; for l = 100 {limits[99]:.1g}, not 0",
            )
        )
    for scheme, name in SCHEMES.items():
        edge = chance(scheme, D, L)[-1]  # P falls with d, so this bounds all further inputs
        small = edge < SMALL
        claims.append(
            Claim(
                *(f"P < {SMALL:.0%} for all d ≥ 100", name, "widths l = 1 … 100", small),
                f"holds from l = {SIZES[small][0]} on; P = {edge[0]:.4f} at d = 100, l = 1",
            )
        )
    remark = (
        "For many inputs the norm of the input weights settles at its mean, and a neuron is "
        "pathological if its output weight is an outlier: P(χ²₁ > l) for Kaiming, P(χ²₁ > l + 1) "
        "for Xavier. That is small only if l is not."
    )
    words = "for large values of d, the probability of obstruction “quickly falls to 0 for any "
    return Statement(words + "number of hidden neurons”", "appendix F", tuple(claims), remark)


def few_inputs() -> Statement:
    claims = []
    for scheme, name in SCHEMES.items():
        high = SIZES[(chance(scheme, D, L) > 0.5).any(axis=1)]
        far = np.array([limit_of_wide(scheme, int(d)) for d in high])
        ends = ", ".join(f"{value:.3f}" for value in far[:2])
        claims.append(
            Claim(
                "where P exceeds ½ for some l, it grows with l",
                *(name, f"columns d = {listed(high)}", grows(scheme, high[:, None], L)),
                f"limits for l → ∞ at d = 1, 2: {ends}",
            )
        )
    five = SIZES[:5]
    for scheme, name in SCHEMES.items():
        growing = grows(scheme, five[:, None], L)
        peaks = SIZES[chance(scheme, five[:, None], L).argmax(axis=1)]
        turned = ", ".join(
            f"d = {d} at l = {l}"
            for d, l, up in zip(five, peaks, growing, strict=True)
            if not up and d > 1
        )
        claims.append(
            Claim(
                *("P grows with l = 1 … 100", name, "columns d = 1 … 5", growing),
                f"P turns and falls: {turned}" if turned else "",
            )
        )
    for scheme, name in SCHEMES.items():
        split = ob.exact.disconnection_probability(scheme, 1, SIZES)
        claims.append(
            Claim(
                "one input: the probability of being *disconnected* grows with l",
                *(name, "steps of l", np.diff(split) > 0.0),
                f"it is {split.min():g} for every l: neurons with c > 0 disconnect too",
                said=False,
            )
        )
    remark = (
        "The trend is there. For Xavier it holds at every d if l is large enough (P → 1). For "
        "Kaiming it holds for d ≤ 2 only, and at d = 2 it ends at 1 − 1/e; from d = 3 on P has a "
        "largest value and then vanishes."
    )
    words = "for small values of d, “the probability of disconnectedness grows with” l"
    return Statement(words, "appendix F", tuple(claims), remark)


def areas(table: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the number of cells in which P exceeds a threshold, exact or from a table."""
    found = {}
    for scheme, name in SCHEMES.items():
        values = chance(scheme, D, L)
        if table is not None:
            values = table.loc[table.scheme == scheme, "empirical"].to_numpy()
        # P is exactly 1/2 at d = l = 1, and rounding must not count this as above 1/2
        found[name] = [int(np.sum(values > threshold + 1e-12)) for threshold in THRESHOLDS]
    return pd.DataFrame(found, index=list(THRESHOLDS))


def two_schemes() -> Statement:
    sizes = areas()
    ratios = (sizes["Xavier"] / sizes["Kaiming"]).to_numpy()
    xavier, kaiming = (chance(scheme, D, L) for scheme in SCHEMES)
    larger = xavier > kaiming
    claims = (
        Claim(
            f"the region P > t is at least {LARGER:g} times as large for Xavier",
            *("both", "thresholds t", ratios >= LARGER),
            ", ".join(
                f"{ratio:.2f} times at t = {t:g}"
                for t, ratio in zip(THRESHOLDS, ratios, strict=True)
            ),
        ),
        Claim(
            *("P is larger for Xavier", "both", "cells", larger),
            f"larger for Kaiming in {counted(int((xavier < kaiming).sum()), 'cell')}: at d = 100, "
            f"l = 1 it is {kaiming[-1, 0]:.4f}, for Xavier {xavier[-1, 0]:.4f}",
            said=False,
        ),
    )
    remark = (
        "The ratio of variances is (d + l)/(l + 1) for Xavier and d/l for Kaiming, so Xavier is "
        "the worse of the two exactly where l² > d, which is most of the figure. Whether this is "
        "why Kaiming is preferred is not for a probability to say."
    )
    words = "“the region of high obstruction probability is much larger for Xavier initialization "
    return Statement(words + "than for Kaiming”", "appendix F", claims, remark)


def both_large() -> Statement:
    claims = []
    d, l = FAR[:, None], FAR[None, :]
    for scheme, name in SCHEMES.items():
        values = np.asarray(ob.exact.log_obstruction_probability(scheme, d, l)) / np.log(10.0)
        i, j = np.unravel_index(values.argmax(), values.shape)
        claims.append(
            Claim(
                *(
                    f"P < {NEGLIGIBLE:g}",
                    name,
                    "cells of a grid with d, l = 100 … 10⁶",
                    values < -3.0,
                ),
                f"the largest P is 10^{values[i, j]:.1f}, at d = {FAR[i]:,}, l = {FAR[j]:,}",
            )
        )
    fixed = np.array([10, 20, 50, 100, 1000])
    for scheme, name in SCHEMES.items():
        ends = np.array([limit_of_wide(scheme, int(d)) for d in fixed])
        claims.append(
            Claim(
                *("P → 0 for l → ∞ at fixed d", name, "d = 10, 20, 50, 100, 1000", ends == 0.0),
                f"at d = 20, P exceeds ½ from l = {half_width(scheme, 20):,} on"
                if ends[1] == 1.0
                else "",
                said=False,
            )
        )
    remark = (
        "Negligible, as long as l is not exponentially larger than d: for Xavier a neuron stays "
        "pathological with a probability of about 2^(−d/2) however wide the layer is."
    )
    words = "the probability of having pathological neurons “is negligible when the input dimension"
    return Statement(words + " and number of hidden neurons is high”", "section 4", claims, remark)


def half_width(scheme: str, d: int) -> int:
    """Return the smallest width from which on P is 1/2 or more, by bisection; P must tend to 1."""
    low, high = d, 2**52  # for l below d, P may be large because there are few neurons
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(scheme, d, middle) >= 0.5 else (middle, high)
    return high


def wider_layers() -> Statement:
    claims = []
    for scheme, name in SCHEMES.items():
        p = neuron(scheme, D, L)
        claims.append(
            Claim(
                "*a neuron's* p falls at every step of l",
                *(name, "columns d = 1 … 100", np.all(np.diff(p, axis=1) < 0.0, axis=1)),
                f"from l = 1 to 100: d = 1 {p[0, 0]:.3f} to {p[0, -1]:.3f}, d = 10 "
                f"{p[9, 0]:.3f} to {p[9, -1]:.2g}",
            )
        )
    for scheme, name in SCHEMES.items():
        p = neuron(scheme, D, L)
        fast = p[:, 0] > RAPID * p[:, -1]
        far = neuron(scheme, 10, 10**12)
        claims.append(
            Claim(
                f"*a neuron's* p falls more than {RAPID:g} times from l = 1 to 100",
                *(name, "columns d = 1 … 100", fast),
                f"not at d = {listed(SIZES[~fast])}; at d = 10 and l = 10¹² it is {far:.2g}",
            )
        )
    for scheme, name in SCHEMES.items():
        P = chance(scheme, D, L)
        falls = P[:, -1] < P[:, 0]
        claims.append(
            Claim(
                "*a network's* P is smaller at l = 100 than at l = 1",
                *(name, "columns d = 1 … 100", falls),
                f"not at d = {listed(SIZES[~falls])}; at d = 10 it goes from {P[9, 0]:.3f} to "
                f"{P[9, -1]:.2g}",
                said=False,
            )
        )
    for scheme, name in SCHEMES.items():
        ends = np.array([limit_of_wide(scheme, int(d)) for d in SIZES])
        claims.append(
            Claim(
                "*a network's* P → 0 for l → ∞",
                *(name, "columns d = 1 … 100", ends == 0.0),
                f"the limit is 1 in {counted(int((ends == 1.0).sum()), 'column')}",
                said=False,
            )
        )
    remark = (
        "The words speak of a neuron, and for a neuron they nearly hold: p falls by a power of l "
        "for Kaiming, for Xavier down to a positive limit, and not at all with one input. A "
        "network has l chances, so the same need not hold for it, and for Xavier it fails in the "
        "end at every d."
    )
    words = "“the probability of creating a pathological neuron decreases rapidly with increased "
    return Statement(words + "inner layer width”", "section 7", tuple(claims), remark)


def in_practice() -> Statement:
    claims = []
    for scheme, name in SCHEMES.items():
        l = np.array([2, WIDE])
        lost = ob.exact.unreachable_probability(scheme, D, l[None, :], positive=1, negative=1)
        hit = chance(scheme, D, l[None, :])
        claims.append(
            Claim(
                f"a target that needs one positive and one negative output weight is out of reach "
                f"of {WIDE} neurons with probability < {NEGLIGIBLE:g}",
                *(name, "columns d = 1 … 100", lost[:, 1] < NEGLIGIBLE),
                f"at most {lost[:, 1].max():.2g}, though P(obstruction) is up to "
                f"{hit[:, 1].max():.6f}; with two neurons at most {lost[:, 0].max():.3f}",
            )
        )
    half = WIDE // 2
    tight = {
        name: ob.exact.unreachable_probability(scheme, D[:, 0], WIDE, positive=half, negative=half)
        for scheme, name in SCHEMES.items()
    }
    remark = (
        "This is the paper's strongest case. More neurons than needed make it unlikely that too "
        "many signs are frozen the wrong way, even where some neuron is almost surely frozen. "
        f"“Beyond the minimum” matters: a target that needs {half} of each sign, all {WIDE} "
        "neurons, is out of reach with probability up to "
        + ", ".join(f"{values.max():.2g} ({name})" for name, values in tight.items())
        + ". Only signs are counted here: local minima stay what they are."
    )
    words = "“the combination of specific initialization schemes and a large number of hidden "
    words += "neurons (beyond the minimum required to solve a task) appears to make this "
    words += "obstruction unlikely in practice”"
    return Statement(words, "section 7", tuple(claims), remark)


def statements() -> tuple[Statement, ...]:
    """Return all statements with their verdicts."""
    return (
        *(many_inputs(), few_inputs(), two_schemes()),
        *(both_large(), wider_layers(), in_practice()),
    )


# --- the report ------------------------------------------------------------------------------


def report(study: ob.Study, agreement: Agreement, note: str = "") -> str:
    """Return the statements, and the study's estimates in the deciding cells, as Markdown."""
    return "\n".join(_lines(study, agreement, note)) + "\n"


def _lines(study: ob.Study, agreement: Agreement, note: str) -> Iterator[str]:
    yield "# What the paper says about figure 5, judged\n"
    yield f"Written by `python scripts/figure5.py` (obstruction {ob.__version__}) with figure 5.\n"
    if note:
        yield f"**{note[0].upper()}{note[1:]}.**\n"
    yield RULE
    judged = statements()
    yield "| | the paper's words | verdict | decided by |\n| --- | --- | --- | --- |"
    for number, one in enumerate(judged, start=1):
        by = f"{one.decisive.says} ({one.decisive.about}): {one.decisive.number}"
        yield f"| {number} | {one.words} | **{one.verdict}** | {by} |"
    yield "\nThe exact values were held against a study in every cell of the figure:\n"
    yield f"```text\n{study.describe()}\n{agreement}\n```\n"
    for number, one in enumerate(judged, start=1):
        yield f"## {number}. {one.verdict.capitalize()}: {one.words} ({one.where})\n"
        yield "| read as | scheme | holds in | verdict | number |\n| --- | --- | --- | --- | --- |"
        yield from (claim.row for claim in one.claims)
        yield f"\n{one.remark}\n"
    yield "## Areas\n\nCells of 10,000 in which P exceeds a threshold, exact and as estimated:\n"
    yield "| P > | Xavier exact | estimated | Kaiming exact | estimated | ratio (exact) |"
    yield "| --- | --- | --- | --- | --- | --- |"
    exact, estimated = areas(), areas(study.table())
    for threshold, row in exact.iterrows():
        seen = estimated.loc[threshold]
        yield (
            f"| {threshold:g} | {row.Xavier:,} | {seen.Xavier:,} | {row.Kaiming:,} | "
            f"{seen.Kaiming:,} | {row.Xavier / row.Kaiming:.2f} |"
        )
    yield "\n## Some of the cells that decide\n\nExact values beside the study's estimates:\n"
    sizes = [1, 2, 3, 10, 100]
    shown = ob.tables.probability_table(
        study, rows={"scheme": list(SCHEMES), "d": sizes}, columns={"l": [1, 10, 100]}
    )
    yield shown.to_markdown().rstrip()
