"""The command ``dag``, which analyses networks on graphs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from obstruction.cli.base import (
    EXIT_FINDINGS,
    EXIT_NOTHING,
    cli,
    complain,
    echo_table,
    exit_code,
    read_options,
)
from obstruction.tools.words import counted, power_of_two

DEFAULT_MAX = 10
DEFAULT_NETWORKS = "1e5"

_ANALYSIS = ("rtol", "fail_on")
_SAMPLING = ("networks", "seed", "threads", "level")
_FILE = ("activation", "layout", "layers")
_EDGES = ("inputs", "outputs")


@cli.command()
@click.argument("file", required=False)
@click.option(
    "--mlp",
    metavar="WIDTHS",
    help="A chain of fully connected layers instead of a file: inputs, hidden layers, outputs, say "
    "8,16,4,1.",
)
@click.option(
    "--edges",
    metavar="FILE",
    help="A text file instead, with one edge a line: tail,head or tail,head,weight.",
)
@click.option("--inputs", metavar="NODE,...", help="The inputs of --edges. [default: no edge in]")
@click.option("--outputs", metavar="NODE,...", help="Its outputs. [default: no edge out]")
@click.option(
    "--bias/--no-bias",
    "bias",
    default=None,
    help="Whether the hidden nodes of --mlp or --edges have biases. [default: if the scheme has]",
)
@read_options
@click.option(
    "--scheme",
    metavar="NAME[:OPTION=VALUE,...]",
    help="Sample fresh networks of this shape from this initialisation.",
)
@click.option(
    "--networks", metavar="COUNT", help=f"How many to sample. [default: {DEFAULT_NETWORKS}]"
)
@click.option("--seed", metavar="N", help="Seed of the random numbers. [default: 0]")
@click.option(
    "--threads", metavar="N", help="Cores to use; the counts never depend on it. [default: all]"
)
@click.option(
    "--level",
    type=float,
    metavar="RATE",
    help="How often the verdict may be a false alarm. [default: 0.001]",
)
@click.option(
    "--rtol",
    type=float,
    metavar="TOLERANCE",
    help="Balances within this share of the weights count as zero. [default: 1e-6 for a model, "
    "1e-9 for --edges, 0 for fractions]",
)
@click.option(
    "--fail-on",
    metavar="frozen|boundary|never",
    help="What makes the exit code 1: frozen weights; these or undecided ones; nothing. "
    "[default: frozen]",
)
@click.option(
    "--max",
    "most",
    metavar="N",
    help=f"List at most N weights, worst first. [default: {DEFAULT_MAX}; with --json all]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, see docs/depth_width.md.")
def dag(file: str | None, most: str | None, as_json: bool, **options: Any) -> int:
    """Tell which weights of a deep network are frozen, or how probably.

    Give a model, as for audit, a chain by --mlp, or any directed acyclic graph by --edges. With
    weights: says which can never change their sign under gradient flow, what freezes them, and into
    how many components that cuts what training can reach. With --scheme: samples fresh networks and
    holds the counts against the exact values, where there are any. Exits with 1 if weights are
    frozen or counts disagree, otherwise as audit.
    """
    from obstruction.models import NothingAuditable
    from obstruction.tools.parsing import parse_count

    listed = None if most is None else parse_count("max", most, least=0)
    _check_use(file, options)
    try:
        net, weights, about = _network(file, options)
    except NothingAuditable as error:
        complain(str(error))
        return EXIT_NOTHING
    if options["scheme"] is not None:
        return _sample(net, options, listed, as_json)
    if weights is None:
        raise click.UsageError("these edges have no weights: give --scheme to sample some")
    return _analyse(net, weights, about, options, listed, as_json)


def _check_use(file: str | None, options: dict[str, Any]) -> None:
    """Raise UsageError for options that would have no effect, and for missing ones."""
    sources = {"FILE": file, "--mlp": options["mlp"], "--edges": options["edges"]}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError("give one of FILE, --mlp and --edges")
    sampling = options["scheme"] is not None
    if options["mlp"] is not None and not sampling:
        raise click.UsageError("--mlp has no weights: give --scheme to sample some")
    unused = [
        *(() if file is not None else _FILE),
        *(() if options["edges"] is not None else _EDGES),
        *(("bias",) if file is not None else ()),
        *(_ANALYSIS if sampling else _SAMPLING),
    ]
    for name in unused:
        if options[name] is not None:
            word = "--" + name.replace("_", "-")
            reason = "with --scheme" if name in _ANALYSIS else f"with {given[0]}"
            reason = "without --scheme" if name in _SAMPLING else reason
            raise click.UsageError(f"{word} has no meaning {reason}")


def _network(file: str | None, options: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Return the network, its weights or None, and facts about the file for the output."""
    from obstruction.dag import Network
    from obstruction.dag.from_models.edge_lists import read_edges
    from obstruction.dag.from_models.from_model import read_model
    from obstruction.models import ReadOptions
    from obstruction.schemes import as_scheme
    from obstruction.tools.parsing import parse_count

    if file is not None:
        found = read_model(file, ReadOptions(**{name: options[name] for name in _FILE}))
        about = {"model": file, "format": found.format, "layers": list(found.chain)}
        return found.network, found.weights, {**about, "notes": list(found.notes)}
    bias = options["bias"]
    if bias is None:
        bias = options["scheme"] is not None and as_scheme(options["scheme"]).has_bias
    if options["mlp"] is not None:
        widths = [
            parse_count(f"mlp[{i}]", word) for i, word in enumerate(options["mlp"].split(","))
        ]
        return Network.mlp(widths, hidden_bias=bias), None, {}
    ends = {
        name: [node.strip() for node in options[name].split(",")]
        for name in _EDGES
        if options[name] is not None
    }
    return *read_edges(options["edges"], hidden_bias=bias, **ends), {"edges": options["edges"]}


# --- given weights -------------------------------------------------------------------------------


def _analyse(
    net: Any,
    weights: Any,
    about: dict[str, Any],
    options: dict[str, Any],
    listed: int | None,
    as_json: bool,
) -> int:
    from obstruction.dag.reachable.frozen import used_rtol
    from obstruction.tools.checks import check_choice

    fail_on = check_choice(
        "fail-on", options["fail_on"] or "frozen", ("frozen", "boundary", "never")
    )
    rtol = options["rtol"]
    if rtol is None and "model" in about:
        rtol = 1e-6
    rtol = used_rtol(rtol, weights)
    found = net.frozen_edges(weights, rtol)
    worst = sorted([*found.frozen, *found.boundary], key=lambda one: (one.status, one.least))[::-1]
    if as_json:
        content = {
            **about,
            "network": _shape(net),
            "rtol": rtol,
            "frozen": len(found.frozen),
            "boundary": len(found.boundary),
            "log2_components": found.log2_components,
            "weights": [_frozen(one) for one in worst[:listed]],
        }
        click.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _echo_analysis(net, about, found, worst, DEFAULT_MAX if listed is None else listed)
    bad = {"frozen": (found.frozen,), "boundary": (found.frozen, found.boundary), "never": ()}
    return EXIT_FINDINGS if any(bad[fail_on]) else 0


def _shape(net: Any) -> dict[str, int]:
    """Return the sizes of a network for JSON."""
    return {
        "inputs": len(net.inputs),
        "hidden": len(net.hidden),
        "outputs": len(net.outputs),
        "edges": net.size,
        "depth": net.depth,
    }


def _frozen(one: Any) -> dict[str, Any]:
    """Return a frozen weight and its certificate for JSON."""
    return {
        "tail": one.edge[0],
        "head": one.edge[1],
        "status": one.status,
        "sign": one.sign,
        "least": one.least,
        "side": one.side,
        "bottleneck": list(one.bottleneck),
        "balance": float(one.balance),
    }


def _echo_analysis(
    net: Any, about: dict[str, Any], found: Any, worst: Sequence[Any], most: int
) -> None:
    from obstruction.dag.graph.names import shown

    if "model" in about:
        click.echo(f"{about['model']} ({about['format']})")
        if about["layers"]:
            *hidden, last = about["layers"]
            nodes = [*(f"h{i}: {name}" for i, name in enumerate(hidden, 1)), f"y: {last}"]
            click.echo(f"  nodes and the layers that make them: {', '.join(nodes)}")
        for note in about["notes"]:
            click.echo(f"  the network ends at: {note}")
    else:
        click.echo(about["edges"])
    click.echo(repr(net))
    click.echo()
    k = found.log2_components
    if k:
        least = "at least " if about.get("notes") else ""  # not all of the model was read
        click.echo(
            f"{counted(k, 'weight')} can never change {'its' if k == 1 else 'their'} sign under "
            f"gradient flow: what training can reach has {least}{power_of_two(k, below=64)} "
            "components."
        )
    else:
        part = " of what was read" if about.get("notes") else ""
        reach = "" if part else ": what training can reach is connected"
        click.echo(f"No weight{part} is frozen{reach}.")
    if found.boundary:
        click.echo(f"{counted(len(found.boundary), 'weight')} at the boundary, undecided.")
    if not worst[:most]:
        return
    click.echo()
    rows = [("weight", "status", "sign", "|w| at least", "is the only one", "c(S)")]
    for one in worst[:most]:
        way = "out of" if one.side == "out" else "into"
        rows.append(
            (
                shown([one.edge]),
                one.status,
                "+" if one.sign > 0 else "-" if one.sign < 0 else "0",
                f"{one.least:.6g}",
                f"{way} {{{shown(one.bottleneck)}}}",
                f"{float(one.balance):.6g}",
            )
        )
    echo_table(*rows)
    if len(worst) > most:
        click.echo(f"and {len(worst) - most:,} more (--max)")


# --- fresh networks ------------------------------------------------------------------------------


def _sample(net: Any, options: dict[str, Any], listed: int | None, as_json: bool) -> int:
    from obstruction.dag.probability.study import sample_dag
    from obstruction.schemes import as_scheme
    from obstruction.tools.checks import LARGEST_SEED, check_probability
    from obstruction.tools.parsing import parse_count

    level = 1e-3 if options["level"] is None else options["level"]
    check_probability("level", level)
    threads = options["threads"]
    study = sample_dag(
        net,
        as_scheme(options["scheme"]),
        networks=parse_count("networks", options["networks"] or DEFAULT_NETWORKS),
        seed=parse_count("seed", options["seed"] or "0", least=0, most=LARGEST_SEED),
        threads=None if threads is None else parse_count("threads", threads),
    )
    verdict = study.agreement(level=level)
    if as_json:
        content = _study(study, verdict, listed)
        click.echo(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        click.echo(study.summary(DEFAULT_MAX if listed is None else listed))
        click.echo()
        click.echo(str(verdict))
    return exit_code(verdict)


def _study(study: Any, verdict: Any, listed: int | None) -> dict[str, Any]:
    """Return counts, rates and exact values for JSON, with None where there is no exact value."""
    from obstruction.tools.json_values import json_object, json_value

    low, high = study.interval()
    exact, n = study.exact, study.networks
    numbers = study.counts.numbers[: study.most + 1].tolist()
    expected = [None] * len(numbers) if exact.law is None else (exact.law * n).tolist()
    table = study.worst(listed)
    return {
        "network": _shape(study.network),
        "scheme": study.scheme.label,
        "seed": study.seed,
        "networks": n,
        "disconnected": {
            "networks": study.counts.disconnected,
            "rate": study.disconnected,
            "ci_low": low,
            "ci_high": high,
            "exact": json_value(exact.disconnected),
        },
        "frozen": {
            "mean": study.mean,
            "standard_error": json_value(study.mean_error),
            "exact": json_value(exact.mean),
        },
        "numbers": [
            {"frozen": k, "networks": count, "expected": one}
            for k, (count, one) in enumerate(zip(numbers, expected, strict=True))
        ],
        "weights": [json_object(row) for row in table.to_dict(orient="records")],
        "agreement": {
            "verdict": verdict.verdict,
            "level": verdict.level,
            "tests": verdict.tests,
            "rejected": verdict.rejected,
            "smallest_adjusted_p": json_value(verdict.smallest),
            "reason": verdict.reason,
        },
    }
