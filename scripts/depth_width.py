"""Draw how depth, width-1 layers and skip connections change the obstruction of fresh networks.

    python scripts/depth_width.py [--quick] [--networks 1e5] [--out figures]

Writes ``depth_width.png`` and ``depth_width.pdf``, ``depth_width.csv`` (one row for each network
shape and scheme) and ``depth_width.md`` (the tables of docs/depth_width.md). Networks have 8
inputs, hidden layers of one width and one output. They are sampled with seed 0, and the counts are
compared with the exact values where there are any. The script exits with 1 if they disagree.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

import obstruction as ob
from obstruction.dag import BIAS, Network
from obstruction.reporting import heatmaps
from obstruction.sampling.inference import binomial

FILES = ("depth_width.png", "depth_width.pdf", "depth_width.csv", "depth_width.md")
SEED, LEVEL = 0, 1e-3
NETWORKS, QUICK_NETWORKS = 10**5, 10**4
SCHEMES = {
    "kaiming_normal": "Kaiming normal",
    "xavier_normal": "Xavier normal",
    "torch_linear": "PyTorch default",
}
SKIPS = {
    "none": "the layer before",
    "one": "the two layers before",
    "inputs": "the layer before and the inputs",
}
"""The inputs of every layer, the output included, for each kind of skip connection."""

INPUTS, PLACES, BOTTLENECK_WIDTH = 8, 6, 8
WIDTHS, QUICK_WIDTHS = (1, 2, 3, 4, 6, 8, 12, 16), (1, 2, 4, 8)
DEPTHS, QUICK_DEPTHS, TABLED = range(1, 9), (1, 2, 4), (1, 2, 3, 4, 8)


def network(widths: Sequence[int], skip: str, bias: bool) -> Network:
    """Return a network with layers of these widths, with or without skip connections.

    Each layer, the output included, receives the layer before it. With ``skip`` "one" it also
    receives the layer before that, and with "inputs" the inputs of the network.
    """
    layers = [[f"{i}.{k}" for k in range(width)] for i, width in enumerate(widths)]
    edges: list[tuple[str, str]] = []
    for i in range(1, len(layers)):
        sources = {i - 1, *({"one": [i - 2], "inputs": [0]}.get(skip, []))}
        for j in sorted(j for j in sources if j >= 0):
            edges += itertools.product(layers[j], layers[i])
    if bias:
        edges += [(BIAS, node) for layer in layers[1:-1] for node in layer]
    return Network.from_edges(edges, inputs=layers[0], outputs=layers[-1])


def shapes(widths: Sequence[int], depths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the shapes to sample: all depths and widths, and chains with layers of width 1."""
    for skip, depth, width in itertools.product(SKIPS, depths, widths):
        yield {"part": "grid", "skip": skip, "depth": depth, "width": width, "ones": ""}
    full = {"depth": PLACES, "width": BOTTLENECK_WIDTH}
    for skip in ("none", "one"):
        yield {"part": "one", "skip": skip, **full, "ones": ""}
        for place in range(1, PLACES + 1):
            yield {"part": "one", "skip": skip, **full, "ones": str(place)}
    for skip, number in itertools.product(("none", "one"), range(2, PLACES + 1)):
        last = " ".join(map(str, range(PLACES - number + 1, PLACES + 1)))
        yield {"part": "last", "skip": skip, **full, "ones": last}


def widths_of(shape: dict[str, Any]) -> list[int]:
    """Return the widths of the layers of a shape, inputs and output included."""
    widths = [INPUTS, *[shape["width"]] * shape["depth"], 1]
    for place in shape["ones"].split():
        widths[int(place)] = 1
    return widths


def sampled(widths: Sequence[int], depths: Sequence[int], networks: float) -> pd.DataFrame:
    """Sample all shapes with all schemes; return a table with one row for each."""
    rows = []
    for scheme, shape in itertools.product(SCHEMES, shapes(widths, depths)):
        bias = ob.scheme(scheme).has_bias
        net = network(widths_of(shape), shape["skip"], bias)
        study = ob.sample_dag(net, scheme, networks=networks, seed=SEED)
        low, high = study.interval()
        rows.append(
            {
                "scheme": scheme,
                **shape,
                "weights": net.size,
                "networks": study.networks,
                "disconnected": study.counts.disconnected,
                "P": study.disconnected,
                "ci_low": low,
                "ci_high": high,
                "P_exact": study.exact.disconnected,
                "frozen": study.counts.frozen,
                "mean": study.mean,
                "mean_error": study.mean_error,
                "mean_exact": study.exact.mean,
            }
        )
    return pd.DataFrame(rows)


def verdict(table: pd.DataFrame) -> bool:
    """Compare the counts with the exact values; return whether they agree."""
    exact = table[table.P_exact.notna()]
    adjusted = binomial.holm(
        binomial.p_value(exact.disconnected, exact.networks, exact.P_exact.clip(0.0, 1.0))
    )
    agrees = bool((adjusted > LEVEL).all())
    print(
        f"{len(table)} kinds of networks, {len(exact)} with an exact value: smallest adjusted "
        f"p-value {adjusted.min():.2g}, {'agrees' if agrees else 'DISAGREES'} at {LEVEL:g}"
    )
    return agrees


# --- the picture ---------------------------------------------------------------------------------


def draw(table: pd.DataFrame, note: str) -> Figure:
    """Draw heatmaps for each scheme and kind of skips, and below them depth and width-1 layers."""
    figure = Figure(figsize=(7.2, 9.0), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.9, 1.25])
    panels = top.subplots(len(SKIPS), len(SCHEMES), sharex=True, sharey=True)
    grid = table[table.part == "grid"]
    for i, (skip, about) in enumerate(SKIPS.items()):
        for j, (scheme, title) in enumerate(SCHEMES.items()):
            ax = panels[i, j]
            mesh = heat(ax, grid[(grid.skip == skip) & (grid.scheme == scheme)])
            if i == 0:
                ax.set_title(title, fontsize=9)
            if i == len(SKIPS) - 1:
                ax.set_xlabel("width of the hidden layers", fontsize=8)
        panels[i, 0].set_ylabel(f"every layer fed by\n{about}\n\nhidden layers", fontsize=8)
    bar = top.colorbar(mesh, ax=panels, location="right", shrink=0.6, aspect=35)
    bar.set_label("probability P that the network is disconnected (slanted: sampled)", fontsize=8)
    bar.set_ticks([0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0])
    bar.ax.tick_params(labelsize=7)
    if note:
        top.suptitle(note, fontsize=7, color="firebrick")
    bottom.suptitle(
        "solid: every layer fed by the layer before, dotted: by the two layers before\n"
        "lines: exact where it is known, points: sampled with 95 % intervals",
        fontsize=7.5,
    )
    left, middle, right = bottom.subplots(1, 3)
    draw_depth(left, grid[grid.scheme == "kaiming_normal"])
    draw_ones(middle, right, table)
    for ax in (left, middle, right):
        ax.xaxis.label.set_size(7.5)
        ax.yaxis.label.set_size(7.5)
        ax.title.set_size(8)
        ax.tick_params(labelsize=7)
        ax.grid(lw=0.3)
    return figure


def heat(ax: Any, cells: pd.DataFrame) -> Any:
    """Draw P over width and depth, with its value in every cell; sampled values are slanted."""
    wide = cells.pivot(index="depth", columns="width", values="P")
    exact = cells.pivot(index="depth", columns="width", values="P_exact")
    shown = exact.where(exact.notna(), wide)
    palette = sns.color_palette("viridis", as_cmap=True)
    mesh = ax.pcolormesh(
        np.arange(shown.shape[1] + 1),
        np.arange(shown.shape[0] + 1),
        shown,
        cmap=palette,
        norm=PowerNorm(0.5, 0.0, 1.0),  # small probabilities get different colours, too
    )
    for i, j in itertools.product(range(shown.shape[0]), range(shown.shape[1])):
        value, known = shown.iat[i, j], not np.isnan(exact.iat[i, j])
        text = "≈0" if value < 0.005 else "1" if value == 1.0 else f"{value:.2f}"
        ax.text(
            j + 0.5,
            i + 0.5,
            text.removeprefix("0"),
            ha="center",
            va="center",
            fontsize=5.5,
            color="black" if value > 0.4 else "white",
            style="normal" if known else "italic",
        )
    ax.set_xticks(np.arange(shown.shape[1]) + 0.5, [str(w) for w in shown.columns], fontsize=7)
    ax.set_yticks(np.arange(shown.shape[0]) + 0.5, [str(d) for d in shown.index], fontsize=7)
    return mesh


def draw_depth(ax: Any, cells: pd.DataFrame) -> None:
    """Draw P against depth for some widths: lines are exact, points sampled, with intervals."""
    widths = [w for w in (1, 2, 4, 8, 16) if w in set(cells.width)]
    for colour, width in zip(sns.color_palette("viridis", len(widths)), widths, strict=True):
        for skip, style in (("none", "-"), ("one", ":")):
            mine = cells[(cells.width == width) & (cells.skip == skip)].sort_values("depth")
            label = f"{width}" if skip == "none" else None
            draw_rates(ax, mine.depth, mine, "P", colour, style, label)
    ax.set(xlabel="hidden layers", ylabel="P", title="Kaiming normal, equal widths")
    ax.set_ylim(-0.03, 1.05)
    ax.legend(
        title="width",
        title_fontsize=6.5,
        fontsize=6.5,
        ncols=2,
        loc="center right",
        bbox_to_anchor=(1.0, 0.77),
        framealpha=1.0,
        edgecolor="none",
    )


def draw_ones(place: Any, number: Any, table: pd.DataFrame) -> None:
    """Draw the expected number of frozen weights over the place and number of width-1 layers."""
    colours = sns.color_palette("colorblind")
    for colour, (scheme, title) in zip(colours, SCHEMES.items(), strict=False):
        for skip, style in (("none", "-"), ("one", ":")):
            mine = table[(table.scheme == scheme) & (table.skip == skip) & (table.part != "grid")]
            many = mine.ones.str.split().str.len()
            single = mine[many == 1]
            draw_rates(place, single.ones.astype(int), single, "mean", colour, style)
            last = mine[(mine.part == "last") | (mine.ones == str(PLACES)) | (many == 0)]
            last = last.assign(many=many).sort_values("many")
            label = title if skip == "none" else None
            draw_rates(number, last.many, last, "mean", colour, style, label)
    width = f"of {PLACES} layers of width {BOTTLENECK_WIDTH}"
    place.set(xlabel=f"which {width} has width 1", ylabel="expected number of frozen weights")
    number.set(xlabel=f"how many of {PLACES} layers (the last ones)")
    place.set_title("one layer of width 1")
    number.set_title("several layers of width 1")
    for ax in (place, number):
        ax.set(yscale="log", ylim=(2e-3, 20.0))
    number.legend(frameon=False, fontsize=6.5, loc="lower right")


def draw_rates(
    ax: Any, x: Any, rows: pd.DataFrame, name: str, colour: Any, style: str, label: Any = None
) -> None:
    """Draw exact values as a line and sampled values as points with 95 % intervals."""
    exact = rows[f"{name}_exact"]
    known = exact.where(exact.notna(), rows[name])
    ax.plot(x, known, color=colour, ls=style, lw=1.2, label=label)
    if name == "P":
        bars = np.array([rows.P - rows.ci_low, rows.ci_high - rows.P])
    else:
        bars = np.tile(1.96 * rows.mean_error, (2, 1))
    seen = (rows[name] > 0).to_numpy()
    look = {"color": colour, "fmt": "o", "ms": 2.5, "lw": 0.8}
    ax.errorbar(x[seen], rows[name][seen], bars[:, seen], **look)


# --- the numbers ---------------------------------------------------------------------------------


def report(table: pd.DataFrame, note: str) -> str:
    """Return the numbers that docs/depth_width.md quotes, as Markdown."""
    words = ["# Depth, width, skip connections", ""]
    words += [f"{note[0].upper()}{note[1:]}.", ""] if note else []
    words += [
        f"From `python scripts/depth_width.py`, seed {SEED}, {table.networks.iloc[0]:,} networks "
        f"of each kind, {INPUTS} inputs, one output. In italics: sampled; upright: exact.",
        "",
    ]
    grid = table[table.part == "grid"]
    depths, widths = sorted(set(grid.depth)), sorted(set(grid.width))
    some = [w for w in widths if w in (1, 2, 4, 8, 16)]
    words += ["## P(disconnected) by depth and width", ""]
    words.append(
        "| scheme | layers fed by | hidden layers | "
        + " | ".join(f"width {w}" for w in some)
        + " |"
    )
    words.append("| --- | --- | --: |" + " --: |" * len(some))
    for scheme, skip, depth in itertools.product(
        SCHEMES, SKIPS, [n for n in depths if n in TABLED]
    ):
        mine = grid[(grid.scheme == scheme) & (grid.skip == skip) & (grid.depth == depth)]
        cells = [probability(mine[mine.width == w].iloc[0]) for w in some]
        words.append(f"| `{scheme}` | {SKIPS[skip]} | {depth} | " + " | ".join(cells) + " |")
    words += ["", f"## Layers of width 1 among {PLACES} of width {BOTTLENECK_WIDTH}", ""]
    words.append(
        "| scheme | layers fed by | layers of width 1 | P(disconnected) | frozen weights |"
    )
    words.append("| --- | --- | --- | --: | --: |")
    for row in table[table.part != "grid"].itertuples():
        known = not np.isnan(row.mean_exact)
        sampled = f"*{row.mean:.4f} ± {row.mean_error:.4f}*"
        mean = f"{row.mean_exact:.4g}" if known else sampled
        words.append(
            f"| `{row.scheme}` | {SKIPS[row.skip]} | {row.ones.replace(' ', ', ') or 'none'} | "
            f"{probability(row)} | {mean} |"
        )
    return "\n".join([*words, ""])


def probability(row: Any) -> str:
    """Return P as text, exact or sampled."""
    known = not np.isnan(row.P_exact)
    value = row.P_exact if known else row.P
    text = f"{value:.4f}" if value >= 1e-3 else f"{value:.1e}"
    return text if known else f"*{text}*"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=float, help=f"of each kind ({NETWORKS:,})")
    parser.add_argument("--quick", action="store_true", help="fewer networks, depths and widths")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    networks = options.networks or (QUICK_NETWORKS if options.quick else NETWORKS)
    widths, depths = (QUICK_WIDTHS, QUICK_DEPTHS) if options.quick else (WIDTHS, DEPTHS)
    note = f"quick version: {int(networks):,} networks of each kind" if options.quick else ""
    table = sampled(widths, depths, networks)
    agrees = verdict(table)
    options.out.mkdir(parents=True, exist_ok=True)
    heatmaps.save(draw(table, note), options.out / "depth_width")
    table.to_csv(
        options.out / "depth_width.csv", index=False, float_format="%.9g", lineterminator="\n"
    )
    text = report(table, note)
    (options.out / "depth_width.md").write_text(text, encoding="utf-8", newline="\n")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
