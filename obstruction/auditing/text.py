"""The report of an audit as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from obstruction.auditing.hidden_layers import STATUSES
from obstruction.tools.words import columns, counted, listed, power_of_two

if TYPE_CHECKING:
    from obstruction.auditing.findings import Findings

WIDTH: Final = 100
"""Characters in a line."""

LISTED: Final = 10
"""The number of neurons in a report if no number is given."""

NEAREST: Final = 3
"""The number of free neurons after all others, those nearest to the frontier."""

_HEADS: Final = {
    "clear": "CLEAR",
    "obstructed": "OBSTRUCTED",
    "boundary": "UNDECIDED",
    "degenerate": "DEGENERATE",
}


def report_text(report: Findings, *, most: int | None = None) -> str:
    """Return the report as text that lists at most ``most`` neurons, worst first."""
    lines = [_title(report), "", *_layer_lines(report), ""]
    lines += _wrapped(f"{_HEADS[report.verdict]}: {finding(report)}")
    if report.luck is not None and report.learns:
        lines += ["", *_wrapped(report.luck.verdict)]
    lines += _neuron_lines(report, LISTED if most is None else most)
    for name, reason in report.model.skipped:
        lines += _wrapped(f"Not audited: {name} ({reason}).")
    for note in report.model.notes:
        lines += _wrapped(f"Note: {note}.")
    return "\n".join(lines)


def finding(report: Findings) -> str:
    """Return the findings in a few sentences."""
    return " ".join(_sentences(report))


def _sentences(report: Findings) -> Iterator[str]:
    facts = report.summary()
    frozen, boundary = facts["frozen_weights"], facts["boundary"]
    last = report.output_neurons
    inside = facts["frozen_inputs"]
    outgoing = sum(int(layer.out_frozen.sum()) for layer in report.audited)
    for segment in report.stuck:
        yield _stuck(report, segment)
    if frozen == 0 and boundary == 0 and report.learns:
        if any(layer.outputs == 1 for layer in report.audited):
            yield "no output weight is frozen, what training can reach is in one piece."
        else:
            yield (
                "no weight can be frozen, as every neuron has several outgoing weights; "
                "what training can reach is in one piece."
            )
    if outgoing:
        behind = sum(layer.neurons for layer in report.audited if layer.out_frozen.any())
        yield (
            f"{outgoing:,} of {counted(behind, 'neuron')} {'has' if outgoing == 1 else 'have'} an "
            "output weight that can never change its sign under gradient flow."
        )
    if inside:
        yield (
            f"The sign of {inside:,} input {'weight is' if inside == 1 else 'weights are'} frozen: "
            "with a single input and no bias a neuron cannot turn round."
        )
    if frozen:
        pieces = power_of_two(frozen, below=40) if frozen > 1 else "2"
        yield (
            f"{'That cuts' if frozen == 1 else 'They cut'} what training can reach into "
            f"{pieces} components, "
            f"{report.effective_components:,} up to rescaling and permutation of neurons."
        )
    if last is not None and outgoing and report.reachable_signs is not None:
        most = report.reachable_signs
        if min(most) == 0:
            sign = "positive" if most[1] == 0 else "negative"
            yield f"All output weights stay {sign}: a target that needs another is out of reach."
        else:
            yield (
                f"Both signs remain: at most {most[0]:,} positive or {most[1]:,} negative output "
                f"weights out of {last.neurons:,}."
            )
    if boundary:
        yield (
            f"{counted(boundary, 'neuron')} {'is' if boundary == 1 else 'are'} so near to "
            f"balance zero (within {report.rtol:g}) that rounding decides."
        )
    if facts["dead"]:
        yield (
            f"{counted(facts['dead'], 'neuron')} {'is' if facts['dead'] == 1 else 'are'} dead: "
            "all incoming weights are zero, and no rescaling helps."
        )
    if facts["pathological"] or boundary:
        yield (
            "ob.repair (obstruction repair) rescales such neurons without changing what the "
            "network computes."
        )


def _stuck(report: Findings, segment: range) -> str:
    """Return why nothing can learn in a run of audited layers."""
    layers = report.model.layers
    whole = len(segment) == len(layers)
    where = "it" if whole else f"{layers[segment[0]].name} to {layers[segment[-1]].name}"
    inside = [report.hidden[i] for i in list(segment)[:-1]]
    zero = [layer.name for layer in inside if not layer.in_norm.any()]
    cause = "too many weights are zero"
    if zero:
        more = f" and {len(zero) - 2:,} more" if len(zero) > 2 else ""
        cause = f"all weights and biases into the neurons of {listed(zero[:2])}{more} are zero"
    return (
        f"nothing in {where} can learn: {cause}, and no gradient ever makes the outputs "
        "depend on the inputs, whatever the loss and the data."
    )


def _title(report: Findings) -> str:
    layers = report.model.layers
    sizes = [f"{layers[0].inputs:,}"]
    for layer, link in zip(layers, (None, *report.model.links), strict=True):
        broken = link is not None and link.reason is not None and layer.inputs != 0
        sizes.append(("~> " if broken else "-> ") + f"{layer.outputs:,}")
    kinds = dict.fromkeys(layer.activation for layer in report.audited)
    return f"{report.source} ({report.model.format}): {' '.join(sizes)}, {', '.join(kinds)}"


def _layer_lines(report: Findings) -> Iterator[str]:
    heads = ("hidden layer", "neurons", "fan-in", "fan-out", *STATUSES[1:], "least margin")
    rows: list[Sequence[str]] = [heads]
    reasons: list[str] = []
    for layer in report.hidden:
        sizes = (layer.name, f"{layer.neurons:,}", f"{layer.inputs:,}", f"{layer.outputs:,}")
        if layer.reason is not None:
            rows.append((*sizes, *("-",) * 4))
            reasons.append(f"Not audited: the neurons of {layer.name} ({layer.reason}).")
            continue
        counts = [f"{layer.count(status):,}" for status in STATUSES[1:]]
        smallest = np.fmin.reduce(layer.margin, initial=math.nan)  # nan if all are nan
        rows.append((*sizes, *counts, _measure(smallest)))
    yield from columns(rows, left=1, indent=2)
    for reason in reasons:
        yield from _wrapped(reason)


def _neuron_lines(report: Findings, most: int) -> Iterator[str]:
    flagged = sum(report.summary()[status] for status in STATUSES[1:])
    table = report.worst(min(most, flagged + NEAREST))
    if not len(table):
        return
    yield ""
    if not flagged:
        yield "Nearest to the frontier:"
    heads = ("neuron", "status", "in norm", "out norm", "margin", "sign", "repair: times")
    rows: list[Sequence[str]] = [heads]
    for row in table.itertuples():
        rows.append(
            (
                f"{row.layer}[{row.index}]",
                str(row.status),
                _measure(row.in_norm),
                _measure(row.out_norm),
                _measure(row.margin),
                {1: "+", -1: "-"}.get(int(row.sign), ""),
                "" if row.scale == 1.0 else _measure(row.scale),
            )
        )
    yield from columns(rows, left=1, indent=2)
    if flagged > len(table):
        yield f"and {flagged - len(table):,} more (--max, report.neurons)"


def _measure(value: float) -> str:
    """Return a norm, a margin or a factor as text, and a dash if it is nan."""
    return "-" if math.isnan(value) else f"{value:.4g}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def report_html(report: Findings, *, most: int = LISTED) -> str:
    """Return the report as a fragment of HTML."""
    parts = [f"<p><strong>{html.escape(_title(report))}</strong></p>"]
    parts.append(report.layers.to_html(index=False, na_rep="", float_format="{:.4g}".format))
    found = html.escape(finding(report))
    parts.append(f"<p><strong>{_HEADS[report.verdict]}</strong>: {found}</p>")
    if report.luck is not None and report.learns:
        parts.append(f"<p>{html.escape(report.luck.verdict)}</p>")
    table = report.worst(most)
    if len(table):
        parts.append(table.to_html(index=False, na_rep="", float_format="{:.4g}".format))
    for name, reason in report.model.skipped:
        parts.append(f"<p>Not audited: {html.escape(name)} ({html.escape(reason)}).</p>")
    parts += [f"<p>Note: {html.escape(note)}.</p>" for note in report.model.notes]
    return "<div>" + "\n".join(parts) + "</div>"
