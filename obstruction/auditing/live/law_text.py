"""The report of an audit by conservation laws as text for a terminal and as HTML."""

from __future__ import annotations

import html
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from obstruction.auditing.live.bounds import Bound
from obstruction.conservation.law import Law
from obstruction.conservation.rows import channels
from obstruction.tools.words import columns, counted, listed, plural, power_of_two

if TYPE_CHECKING:
    from obstruction.auditing.live.law_findings import LawFindings

WIDTH: Final = 100
"""Characters in a line."""

LINES: Final = 15
"""The number of lines that a report has at most."""

_TENSORS: Final = 3
"""The number of parameters whose frozen weights are counted in the short text."""

_HEADS: Final = {"boundary": "UNDECIDED"}

_OTHERS: Final = {
    "matrix": "{} of matrices of channels that mix",
    "scale": "{} of weights before a normalisation",
    "constant": "{} that the outputs do not depend on",
    "shift": "{} of weights of which a mean is subtracted",
}

_NUMBERS: Final = {"matrix": "entry", "scale": "norm", "constant": "weight", "shift": "sum"}


def report_text(report: LawFindings, *, verbose: bool = False) -> str:
    """Return the report as text of at most `LINES` lines, or with everything in it."""
    lines = [title(report)]
    for sentence in sentences(report):
        lines += _wrapped(sentence)
    if not verbose:
        if len(lines) > LINES:
            lines = [*lines[: LINES - 1], "... (report.text(verbose=True), --verbose: everything)"]
        return "\n".join(lines)
    lines += ["", str(report.laws), *_bound_lines(report.bounds)]
    for one in report.degenerate:
        name = _law_name(report.laws[one.law])
        if one.dead:
            lines += _wrapped(f"Dead channels of {name}: {', '.join(map(str, one.dead))}.")
        for group in one.equal:
            lines += _wrapped(f"Equal neurons of {name}: {', '.join(map(str, group))}.")
    for name, count in report.undecided.items():
        lines.append(f"Undecided: {counted(count, 'weight')} of {name}.")
    lines += [f"No gradient reached: {name}." for name in report.unreached]
    lines += [f"In no law: {name}{_type(report, name)}." for name in _outside(report)]
    return "\n".join(lines)


def report_html(report: LawFindings) -> str:
    """Return the report as a fragment of HTML."""
    parts = [f"<p><strong>{html.escape(title(report))}</strong></p>"]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in sentences(report)]
    table = report.frozen.head(10)
    if len(table):
        shown = table[["what", "value", "least", "cause"]]
        parts.append(shown.to_html(index=False, float_format="{:.4g}".format))
    return "<div>" + "\n".join(parts) + "</div>"


def title(report: LawFindings) -> str:
    """Return the first line of a report."""
    scalars = sum(value.size for value in report.laws.parameters.values())
    under = f", loss {report.laws.loss}" if report.laws.loss else ""
    return (
        f"{report.source} ({report.laws.framework}): {counted(scalars, 'trained weight')} in "
        f"{counted(len(report.laws.parameters), 'parameter')}{under}"
    )


def sentences(report: LawFindings) -> Iterator[str]:
    """Yield the findings, each a few sentences."""
    head = _HEADS.get(report.verdict, report.verdict.upper())
    yield f"{head}: {' '.join(_verdict(report))}"
    yield from _frozen_by_tensor(report)
    yield from _degenerate(report)
    yield from _partial(report)
    yield _channels(report)
    yield from _other_laws(report)
    yield from _uncovered(report)
    yield from _margins(report)
    if report.two_logits:
        yield (
            "With two logits v1 and v2, a loss of cross-entropy would tie them together and could "
            'freeze the sign of v1 - v2: loss="cross_entropy" judges it.'
        )
    yield _data(report)


def _verdict(report: LawFindings) -> Iterator[str]:
    weights, combinations = report.frozen_weights, report.frozen_combinations
    condition = "whatever the loss and the data"
    if report.laws.loss:
        condition = f"under {report.laws.loss}, whatever the data"
    if report.spans:
        condition = condition.replace("whatever the data", "on these data").replace(
            "whatever the loss and the data", "on these data, whatever the loss"
        )
    if not report.learns:
        yield "nothing can be learned: gradients never make the outputs depend on the inputs."
    if weights:
        yield f"{counted(weights, 'weight')} can never change {_its(weights)} sign, {condition}."
    if combinations:
        condition = "" if weights else f", {condition}"
        yield f"{counted(combinations, 'combination')} of weights can never vanish{condition}."
    if weights or combinations:
        exponent = weights + combinations
        pieces = power_of_two(exponent, below=40) if exponent > 1 else "2"
        yield f"What training can reach is one of at least {pieces} components."
    if report.verdict == "degenerate" and report.learns:
        yield "the start has a symmetry that gradient flow never leaves."
    edge = sum(one.status == "boundary" for one in report.bounds)
    if edge:
        yield (
            f"{counted(edge, 'weight')} {'has' if edge == 1 else 'have'} a balance of zero (within "
            f"{report.rtol:g}): gradient flow does not cross it in finite time, rounding may."
        )
    if report.verdict == "partial":
        yield "no balance that was found freezes a weight, but a part could not be judged."
    if report.verdict == "clear":
        yield "no balance freezes a weight."


def _frozen_by_tensor(report: LawFindings) -> Iterator[str]:
    groups: dict[tuple[str, str, bool], list[Bound]] = {}
    for one in report.bounds:
        if one.status == "frozen":
            groups.setdefault((one.tensor, one.cause, one.combination), []).append(one)
    reasons = {
        "outputs": " as the outputs see them",
        "data": " on the span of the data",
        "linear": " of linear neurons",
        "balances": "",
    }
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    for (tensor, cause, combination), ones in ordered[:_TENSORS]:
        least = min(ones, key=lambda one: one.least)
        size = report.laws.parameters[tensor].size
        what = (
            counted(len(ones), "combination")
            if combination
            else f"{len(ones):,} of {counted(size, 'weight')}"
        )
        shown = "" if combination and len(least.what) > 60 else f", such as {least.what}"
        yield (
            f"  {tensor}: {what}{reasons[cause]}{shown} = {least.value:.4g}, "
            f"which stays at least {least.least:.4g} in size"
        )
    if len(ordered) > _TENSORS:
        more = sum(len(ones) for _, ones in ordered[_TENSORS:])
        yield f"  and {more:,} in {counted(len(ordered) - _TENSORS, 'other group')}"


def _degenerate(report: LawFindings) -> Iterator[str]:
    whole = [one for one in report.degenerate if one.whole]
    some = [one for one in report.degenerate if one.dead and not one.whole]
    equal = [one for one in report.degenerate if one.equal]
    if whole:
        yield (
            f"Dead: {listed(_law_name(report.laws[one.law]) for one in whole[:2])}"
            f"{_more(len(whole) - 2)}: nothing is written to any of "
            f"{counted(sum(len(one.dead) for one in whole), 'channel')}, and no gradient changes "
            "that."
        )
    if some:
        count = sum(len(one.dead) for one in some)
        yield (
            f"{counted(count, 'channel')} {'is' if count == 1 else 'are'} dead and "
            f"{'stays' if count == 1 else 'stay'} so: {_law_name(report.laws[some[0].law])}"
            f"{_more(len(some) - 1)}."
        )
    if equal:
        count = sum(len(group) for one in equal for group in one.equal)
        distinct = sum(len(one.equal) for one in equal)
        yield (
            f"{counted(count, 'neuron')} in {counted(distinct, 'group')} are exactly equal and "
            f"stay so, as if each group were one neuron: {_law_name(report.laws[equal[0].law])}"
            f"{_more(len(equal) - 1)}."
        )


def _partial(report: LawFindings) -> Iterator[str]:
    if report.unreached:
        count = len(report.unreached)
        yield (
            f"Not judged: {counted(count, 'parameter')} that no gradient reached in any run, such "
            f"as {report.unreached[0]}; give inputs that use {'it' if count == 1 else 'them'}."
        )
    if report.undecided:
        names = list(report.undecided)
        yield (
            f"Not decided: {counted(sum(report.undecided.values()), 'weight')} of "
            f"{listed(names[:2])}{_more(len(names) - 2)}, whose systems are too large."
        )


def _channels(report: LawFindings) -> str:
    balances = [law for _, law in channels(report.laws) if law.kind == "balance"]
    if not balances:
        word = "balance of single channels" if report.laws.counts.get("matrix") else "balance"
        return f"No {word} was found."
    total = sum(law.labels for law in balances)
    names = dict.fromkeys(term.tensor for law in balances for term in law.terms)
    single = sum(len(one.places) for one in report.margins)
    start = f"{_types(report.modules, names)}: {counted(total, 'channel')} " + (
        "keeps a balance" if total == 1 else "keep a balance"
    )
    if single:
        some = ("all of them" if total > 1 else "it") if single >= total else f"{single:,} of them"
        have = "has" if single == 1 or total == 1 else "have"
        return f"{start}; {some} {have} a side with one weight."
    if report.frozen_weights:
        return f"{start}."
    each = "it has" if total == 1 else "every one has"
    return f"{start}; {each} several weights on both sides, nothing freezes."


def _other_laws(report: LawFindings) -> Iterator[str]:
    found = []
    for kind, words in _OTHERS.items():
        count = report.laws.counts.get(kind, 0)
        if count:
            noun = _NUMBERS[kind]
            number = (
                f"{count:,} entries" if noun == "entry" and count != 1 else counted(count, noun)
            )
            found.append(words.format(number))
    if found:
        yield f"Conserved, too: {listed(found)}."


def _uncovered(report: LawFindings) -> Iterator[str]:
    outside = [name for name in _outside(report) if name not in report.unreached]
    outside = [name for name in outside if report.laws.parameters[name].ndim > 1]
    if outside:
        those = "it belongs" if len(outside) == 1 else "they belong"
        yield (
            f"In no law: {counted(len(outside), 'parameter')} ({_types(report.modules, outside)}). "
            f"Gradients refute every law that was tried: {those} to channels that cannot be "
            "rescaled."
        )


def _margins(report: LawFindings) -> Iterator[str]:
    least: list[tuple[float, str]] = []
    for one in report.margins:
        order = np.argsort(np.where(np.isnan(one.margin), np.inf, one.margin))[:3]
        for place in order:
            channel = f"channel {one.places[place]} of {one.tensor}"
            least.append((float(one.margin[place]), channel))
    shown = [f"{margin:.3g} ({name})" for margin, name in sorted(least)[:3] if margin < np.inf]
    if shown:
        yield f"Least margins of single weights (frozen below 0): {', '.join(shown)}."


def _data(report: LawFindings) -> str:
    if not report.spans:
        return (
            "Inputs that never vary, or fewer samples than inputs, can freeze more: data=X "
            "(the training inputs) tells."
        )
    one = report.spans[0]
    besides = sum(b.status == "frozen" and b.cause == "data" for b in report.bounds)
    more = counted(besides, "further weight") if besides else "no further weight"
    return f"{one}, which freezes {more}."


def _bound_lines(bounds: Iterable[Bound]) -> Iterator[str]:
    rows = [("weight or combination", "status", "value", "least", "cause")]
    rows += [
        (one.what, one.status, f"{one.value:.4g}", f"{one.least:.4g}", one.cause) for one in bounds
    ]
    if len(rows) > 1:
        yield ""
        yield from columns(rows, indent=2)
        yield ""


def _outside(report: LawFindings) -> list[str]:
    inside = {term.tensor for law in report.laws for term in law.terms}
    return [name for name in report.laws.parameters if name not in inside]


def _types(modules: Mapping[str, str], names: Iterable[str]) -> str:
    """Return the modules that parameters belong to, counted by type."""
    known: dict[str, str] = {}
    unknown = 0
    for name in names:
        place, _, kind = modules.get(name, "").rpartition("|")
        if kind:
            known[place] = kind
        else:
            unknown += 1
    counts = Counter(known.values()).most_common()
    words = [f"{count:,} {kind}" for kind, count in counts[:3]]
    if len(counts) > 3:
        more = sum(count for _, count in counts[3:])
        words.append(f"{more:,} other {plural(more, 'module')}")
    if unknown:
        words.append(counted(unknown, "parameter"))
    return listed(words)


def _type(report: LawFindings, name: str) -> str:
    kind = report.modules.get(name, "").rpartition("|")[2]
    return f" ({kind})" if kind else ""


def _law_name(law: Law) -> str:
    names = list(dict.fromkeys(t.tensor for t in law.terms if t.coefficient > 0))
    return f"{names[0]} and {len(names) - 1:,} more" if len(names) > 2 else listed(names)


def _more(count: int) -> str:
    return f" and {counted(count, 'other law')}" if count > 0 else ""


def _its(count: int) -> str:
    return "its" if count == 1 else "their"


def _wrapped(text: str) -> list[str]:
    indent = "    " if text.startswith("  ") else ""
    return textwrap.wrap(
        text, WIDTH, break_on_hyphens=False, break_long_words=False, subsequent_indent=indent
    )
