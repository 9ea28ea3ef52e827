"""The commands ``exact``, ``design`` and ``schemes``, about schemes and their exact values."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from obstruction.cli.base import cli, echo_table, scheme_option
from obstruction.tools.words import aligned

# --- exact ---------------------------------------------------------------------------------


@cli.command()
@scheme_option(None)
@click.option("--d", "d", required=True, metavar="AXIS", help="Numbers of inputs.")
@click.option("--l", "l", required=True, metavar="AXIS", help="Numbers of hidden neurons.")
@click.option(
    "--logits",
    metavar="N",
    help="Numbers of logits that softmax with cross-entropy sees, >= 2. With 2, the signs of the "
    "differences of output weights can be frozen; with more, nothing is. [default: one output]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def exact(schemes: tuple[str, ...], d: str, l: str, logits: str | None, as_json: bool) -> int:
    """Compute exact probabilities, without sampling.

    p: a given hidden neuron is pathological, its output weight outweighs its input weights.
    P: a network is obstructed, it has at least one such neuron. a: Var(output weight) / Var(hidden
    weight). Where p and P underflow to 0, their logarithms still hold; --json prints all digits.
    Neurons with orthogonal weights depend on each other, so P has no exact value: "none", or null.
    """
    from obstruction import exact as formulas
    from obstruction.schemes import as_schemes
    from obstruction.tools.checks import check_axis
    from obstruction.tools.parsing import parse_axis, parse_count

    chosen = as_schemes(schemes)
    outputs: dict[str, Any] = {}
    if logits is not None:
        number = parse_count("logits", logits, least=2)
        outputs = {"e": number, "loss": "cross_entropy"}
    d_axis, l_axis = check_axis("d", parse_axis("d", d)), check_axis("l", parse_axis("l", l))
    for scheme in chosen:  # these raise if there is no value
        formulas.pathological_probability(scheme, d_axis[-1], 1, **outputs)
        if not formulas.has_exact(scheme):
            formulas.pathological_probability(scheme, d_axis[0], l_axis[-1], **outputs)
    rows = _exact_rows(chosen, d_axis, l_axis, outputs)
    if as_json:
        before = "["
        for row in rows:
            click.echo(before + json.dumps(row, allow_nan=False), nl=False)
            before = ",\n "
        click.echo("]")
        return 0
    widths = [
        max(len("scheme"), *(len(scheme.label) for scheme in chosen)),
        len(str(d_axis[-1])),
        len(str(l_axis[-1])),
        *(11, 16, 16, 13, 13),
    ]
    heads = ("scheme", "d", "l", "a", "p", "P", "log10 p", "log10 P")
    click.echo(aligned(heads, widths, left=1, gap=1))
    for row in rows:
        logs = ["-inf" if row[name] is None else f"{row[name]:.9g}" for name in _LOGS]
        cells = [
            row["scheme"],
            str(row["d"]),
            str(row["l"]),
            "inf" if row["a"] is None else f"{row['a']:.6g}",
            f"{row['p']:.10g}",
            "none" if row["P"] is None else f"{row['P']:.10g}",
            logs[0],
            "none" if row["P"] is None else logs[1],
        ]
        click.echo(aligned(cells, widths, left=1, gap=1))
    return 0


_LOGS = ("log10_p", "log10_P")


def _exact_rows(
    schemes: Sequence[Any], d: Sequence[int], l: Sequence[int], outputs: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each cell, computed together for each scheme and number of inputs."""
    import numpy as np

    from obstruction import exact as formulas
    from obstruction.tools.json_values import json_object

    for scheme in schemes:
        for inputs in d:
            widths = np.array(l)
            some = log_some = np.full(widths.shape, np.nan)
            if formulas.has_exact(scheme):
                some = np.asarray(
                    formulas.obstruction_probability(scheme, inputs, widths, **outputs)
                )
                log_some = np.asarray(
                    formulas.log_obstruction_probability(scheme, inputs, widths, **outputs)
                )
            columns = {
                "a": scheme.ratio(inputs, widths, outputs.get("e", 1)),
                "p": formulas.pathological_probability(scheme, inputs, widths, **outputs),
                "P": some,
                "log10_p": formulas.log_pathological_probability(scheme, inputs, widths, **outputs),
                "log10_P": log_some,
            }
            for name in _LOGS:
                columns[name] = np.asarray(columns[name]) / np.log(10.0)
            for i, width in enumerate(l):
                yield {
                    "scheme": scheme.label,
                    "d": inputs,
                    "l": width,
                    **json_object({name: column[i] for name, column in columns.items()}),
                }


# --- design --------------------------------------------------------------------------------


@cli.command()
@scheme_option(None)
@click.option("--d", "d", required=True, metavar="N", help="Number of inputs.")
@click.option("--l", "l", required=True, metavar="N", help="Number of hidden neurons.")
@click.option(
    "--risk",
    default="1e-6",
    metavar="PROBABILITY",
    help="The probability of obstruction to allow. [default: 1e-6]",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def design(schemes: tuple[str, ...], d: str, l: str, risk: str, as_json: bool) -> int:
    """Say what keeps the risk of obstruction small.

    For a network with d inputs and l hidden neurons: the probability P that it is obstructed at the
    start, the largest output gain with P at most the risk, and the smallest l at that d, or d at
    that l, that suffices as the scheme is. P need not stay small at all larger sizes: each range
    says up to where it does, as far as was searched.
    """
    from obstruction.exact import design as designing
    from obstruction.schemes import as_schemes
    from obstruction.tools.checks import check_probability
    from obstruction.tools.parsing import parse_count

    chosen = as_schemes(schemes)
    sizes = (
        parse_count("d", d, most=designing.LIMIT),
        parse_count("l", l, most=designing.LIMIT),
    )
    allowed = check_probability("risk", risk)
    rows = [_design_row(scheme, *sizes, allowed) for scheme in chosen]
    if as_json:
        click.echo(json.dumps(rows, indent=2, allow_nan=False))
        return 0
    for i, row in enumerate(rows):
        if i:
            click.echo()
        _echo_design(row)
    return 0


def _design_row(scheme: Any, d: int, l: int, risk: float) -> dict[str, Any]:
    """Return the answers for one scheme; where there is none, it is None and a reason is given."""
    import math

    from obstruction import exact as formulas
    from obstruction.exact import design as designing

    row: dict[str, Any] = {"scheme": scheme.label, "d": d, "l": l, "risk": risk}
    row["P"] = float(formulas.obstruction_probability(scheme, d, l))
    reasons: dict[str, str] = {}
    questions: dict[str, Callable[[], Any]] = {
        "max_output_gain": lambda: float(designing.max_output_gain(scheme, d, l, risk)),
        "width_range": lambda: list(designing.width_range(scheme, d, risk)),
        "inputs_range": lambda: list(designing.inputs_range(scheme, l, risk)),
    }
    for name, question in questions.items():
        try:
            row[name] = question()
        except ValueError as error:
            row[name], reasons[name] = None, str(error)
    gain = row["max_output_gain"]
    width = row["width_range"] and row["width_range"][0]
    inputs = row["inputs_range"] and row["inputs_range"][0]
    if gain == math.inf:
        row["max_output_gain"], gain = None, None
        reasons["max_output_gain"] = "no output gain obstructs: the output weights are zero"
    for name, size, changed in (
        ("P_at_max_output_gain", gain, lambda: (designing.with_output_gain(scheme, gain), d, l)),
        ("P_at_min_width", width, lambda: (scheme, d, width)),
        ("P_at_min_inputs", inputs, lambda: (scheme, inputs, l)),
    ):
        # A gain of 0 obstructs nothing, and with hidden weights of zero it makes no valid scheme.
        value = 0.0 if size == 0 else size and float(formulas.obstruction_probability(*changed()))
        row[name] = value
    row["reasons"] = reasons
    return row


def _echo_design(row: dict[str, Any]) -> None:
    d, l = row["d"], row["l"]
    click.echo(f"{row['scheme']}, d = {d:,}, l = {l:,}, risk {row['risk']:g}")

    def line(words: str, answer: str) -> None:
        click.echo(f"  {words:<38}{answer}")

    def answer(name: str, at: str, text: str) -> str:
        if row[name] is None:
            reason = str(row["reasons"][name])
            return "none: " + (reason.partition(": ")[2] or reason)
        return f"{text}  (P = {row[at]:.6g})"

    above = "above" if row["P"] > row["risk"] else "not above"
    line("probability P of obstruction now", f"{row['P']:.6g}, {above} the risk")
    gain = "" if row["max_output_gain"] is None else f"{row['max_output_gain']:.10g}"
    line("largest output gain", answer("max_output_gain", "P_at_max_output_gain", gain))
    for name, at, words in (
        ("width_range", "P_at_min_width", f"smallest width l at d = {d:,}"),
        ("inputs_range", "P_at_min_inputs", f"smallest inputs d at l = {l:,}"),
    ):
        found = row[name]
        text = "" if found is None else f"{found[0]:,}, and all up to {found[1]:,}"
        line(words, answer(name, at, text))


# --- schemes -------------------------------------------------------------------------------------


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@click.option("--markdown", is_flag=True, help="Print the table in Markdown.")
def schemes(as_json: bool, markdown: bool) -> int:
    """List the initialisation schemes and their options."""
    from obstruction.schemes import (
        scheme,
        scheme_about,
        scheme_names,
        scheme_options,
        scheme_origin,
    )

    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    rows = []
    for name in scheme_names():
        made, (framework, api) = scheme(name), scheme_origin(name)
        var_w1, var_w2, ratio = made.formulas()
        rows.append(
            {
                "scheme": name,
                "about": scheme_about(name),
                "law": made.hidden.law.name,
                "var_w1": var_w1,
                "var_w2": var_w2,
                "a": ratio,
                "var_b1": made.bias_formula(),
                "framework": framework,
                "api": api,
                "options": scheme_options(name),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif markdown:
        _echo_markdown(rows)
    else:
        _echo_schemes(rows)
    return 0


_SCHEME_COLUMNS = ("scheme", "law", "var_w1", "var_w2", "a", "var_b1", "framework", "api")
_SCHEME_HEADS = ("scheme", "law", "Var W1", "Var W2", "a", "Var b1", "from", "name there")


def _echo_markdown(rows: Sequence[dict[str, Any]]) -> None:
    click.echo("| " + " | ".join(_SCHEME_HEADS) + " |")
    click.echo("|" + " --- |" * len(_SCHEME_HEADS))
    for row in rows:
        cells = [str(row[name]) for name in _SCHEME_COLUMNS]
        cells[0], cells[-1] = (f"`{cell}`" if cell else "" for cell in (cells[0], cells[-1]))
        cells[1] = cells[1].replace("_", " ")
        click.echo("|" + "".join(f" {cell} |" if cell else " |" for cell in cells))


def _echo_schemes(rows: Sequence[dict[str, Any]]) -> None:
    from obstruction.schemes import option_about

    table = []
    for row in rows:
        cells = [str(row[name]) for name in _SCHEME_COLUMNS[:-2]]
        cells[1] = cells[1].removesuffix("_normal")
        table.append((*cells, f"{row['framework']} {row['api']}".strip()))
    echo_table(_SCHEME_HEADS[:-1], *table)
    click.echo()
    for text in (
        "d inputs, l hidden neurons, one output; W1 hidden weights, b1 hidden biases, W2 output",
        "weights; Var is the mean square, a = Var W2 / Var W1; truncated: normal, cut at two",
        "standard deviations.",
        "Options attach to the name: kaiming_normal:mode=fan_out,output_gain=0.5",
    ):
        click.echo(text)
    click.echo()
    takers: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        for option, default in row["options"].items():
            unset = "none" if option == "bias_law" else "as law"
            line = option, _option(default) or unset, option_about(row["scheme"], option)
            takers.setdefault(line, []).append(row)
    lines: list[Sequence[str]] = [("option", "default", "meaning and schemes")]
    for line, by in takers.items():
        parts = textwrap.wrap(_takers(by, rows), 82, break_on_hyphens=False)
        lines += [line, *(("", "", f"  {part}") for part in parts)]
    echo_table(*lines)


def _takers(by: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> str:
    """Return in words which schemes take an option, or which do not if these are at most two."""
    others = [row["scheme"] for row in rows if row not in by]
    if not others:
        return "all"
    if len(others) <= 2:
        return "all but " + ", ".join(others)
    return ", ".join(row["scheme"] for row in by)


def _option(value: str | float) -> str:
    return f"{value:g}" if isinstance(value, float) else value
