"""Draw the paper's figure 2: the hyperquadrics of a neuron, and the components of two neurons.

    python scripts/figure2.py [--quick] [--out figures]

Writes ``figure2.png`` and ``figure2.pdf``. The upper row shows, for a neuron with two inputs and
one output, the invariant hyperquadrics ``w1^2 + w2^2 - v^2 = c`` for c > 0, c = 0 and c < 0, with a
path of `obstruction.topology.path` on each. The lower row shows which output weights two neurons
with c < 0 can have. They form 4 components, or 3 after the neurons have been put in order. All
numbers come from `obstruction.topology`. Nothing is random, so there is no seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import seaborn as sns
from hyperboloids import FREE, PATH, Stage
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

from obstruction import topology
from obstruction.reporting import heatmaps
from obstruction.tools.words import counted
from obstruction.topology import Parameters

FILES = ("figure2.png", "figure2.pdf")
SEED = None

STAGE = Stage(elev=16.0, azim=-58.0, highest=2.5)
QUICK_STAGE = replace(STAGE, mesh=(31, 16))
LINES = (12, 7)
"""The number of lines drawn on a surface, around it and along it."""
STYLE: Any = {"font.size": 7.5, "axes.titlesize": 8.5, "axes.linewidth": 0.6}

_PALETTE = sns.color_palette("colorblind")
COLOURS = {1: _PALETTE[0], 0: _PALETTE[2], -1: _PALETTE[3]}
"""Colours by the sign of a frozen output weight, or by the sign of the sum of two."""

Array = NDArray[np.float64]


class Quadric(NamedTuple):
    """A hyperquadric to draw, and the ends of a path on it as angle and output weight."""

    c: float
    ends: tuple[tuple[float, float], tuple[float, float]]


QUADRICS = (
    Quadric(1.0, ((-100.0, 1.8), (-20.0, -1.8))),
    Quadric(0.0, ((-100.0, 1.9), (-20.0, -1.9))),
    Quadric(-1.0, ((-130.0, 2.3), (5.0, 2.1))),
)


# --- one neuron --------------------------------------------------------------------------------


def point(c: float, angle: float, v: float) -> Parameters:
    """Return a neuron with balance ``c``, output weight ``v`` and an angle of its input, in deg."""
    size, turn = np.sqrt(c + v**2), np.deg2rad(angle)
    weights = [[size * np.cos(turn), size * np.sin(turn)]]
    return Parameters(np.array(weights), np.array([[v]]))


def walk(quadric: Quadric, steps: int = 201) -> Array:
    """Return points ``(w1, w2, v)`` on a path between the two ends, shape ``(steps, 3)``."""
    along = topology.path(*(point(quadric.c, *end) for end in quadric.ends))
    passed = [along(s) for s in np.linspace(0.0, 1.0, steps)]
    return np.array([[*theta.W1[0], theta.W2[0, 0]] for theta in passed])


def draw_quadric(ax: Axes3D, quadric: Quadric, stage: Stage) -> None:
    """Draw a hyperquadric with lines on it, its path, and a title from its topology."""
    c = quadric.c
    for order, (sign, sheet) in enumerate(sorted(stage.sheets(c).items())):  # the lower one first
        look: Any = {"rstride": 1, "cstride": 1, "shade": False, "antialiased": False, "lw": 0}
        colours = stage.shaded(sheet, COLOURS[sign] if sign else FREE)
        parts = np.moveaxis(sheet, -1, 0)
        ax.plot_surface(*parts, facecolors=colours, zorder=order, rasterized=True, **look)
        rows, columns, _ = sheet.shape
        lines = [sheet[i] for i in np.linspace(0, rows - 1, LINES[1]).round().astype(int)]
        lines += [
            sheet[:, j] for j in np.linspace(0, columns - 1, LINES[0] + 1).round().astype(int)
        ]
        for line in lines:
            seen = np.where(stage.hidden(line)[:, None], np.nan, line)
            if np.isfinite(seen).any():
                ax.plot(*seen.T, color="0.35", lw=0.35, zorder=order + 0.5)
        if sign:
            words = f"$v {'>' if sign > 0 else '<'} 0$ for ever"
            ax.text(0, 0, 0.3 * sign, words, color=COLOURS[sign], ha="center", va="center")
    passed = walk(quadric)
    stage.draw_path(ax, passed, color=PATH, lw=1.5)
    for end in passed[[0, -1]]:
        ax.plot(*end[:, None], "o", color=PATH, ms=3.5, zorder=6)
    crossing = np.flatnonzero(np.diff(np.sign(passed[:, 2])))
    if crossing.size:
        spot = passed[np.abs(passed[:, 2]).argmin()]
        ax.plot(*spot[:, None], "o", mfc="white", mec=PATH, ms=5, mew=1.1, zorder=6)
    counts = topology.sign_counts([c])
    pieces = topology.components(2, counts.l_pos, counts.l_neg)
    shape = topology.hyperquadric(c, 2)
    kind = (
        f"$S^{shape.sphere} \\times R^{shape.euclidean}$" if shape.sphere is not None else "a cone"
    )
    sign = {1: ">", 0: "=", -1: "<"}[shape.sign]
    title = f"$c = {c:g}{f' {sign} 0' * bool(shape.sign)}$: {counted(pieces, 'component')}, {kind}"
    ax.set_title(title, y=1.0)
    dress(ax, stage)


def dress(ax: Axes3D, stage: Stage) -> None:
    """Give all axes the same scale, few ticks and no panes."""
    reach = np.sqrt(1.0 + stage.highest**2)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-stage.highest, stage.highest))
    ax.set_box_aspect((reach, reach, stage.highest), zoom=1.04)
    ax.set_proj_type("ortho")
    ax.view_init(elev=stage.elev, azim=stage.azim)
    for axis, name in ((ax.xaxis, "$w_1$"), (ax.yaxis, "$w_2$"), (ax.zaxis, "")):
        axis.set_ticks([-2, 0, 2])
        axis.set_label_text(name)
        axis.set_rotate_label(False)
        axis.pane.fill = False
        axis.pane.set_edgecolor("0.85")
        axis.labelpad = -9
    ax.text2D(0.95, 0.86, "$v$", transform=ax.transAxes, ha="center")  # above its axis
    ax.patch.set_alpha(0.0)  # or it covers the labels of the panel before it
    ax.tick_params(pad=-4, labelsize=6.5)
    ax.grid(False)


# --- two neurons -------------------------------------------------------------------------------

C = np.array([-1.0, -1.0])
SIGNS = ((1, 1), (-1, 1), (-1, -1), (1, -1))


def two(first: tuple[float, float], second: tuple[float, float]) -> Parameters:
    """Return two neurons of balance -1, each from its angle and output weight."""
    parts = [point(c, *one) for c, one in zip(C, (first, second), strict=True)]
    return Parameters(
        np.vstack([part.W1 for part in parts]), np.hstack([part.W2 for part in parts])
    )


def walk_two() -> list[Parameters]:
    """Return parameters on a path in the component with signs (-, +)."""
    along = topology.path(two((20.0, -1.3), (70.0, 2.6)), two((160.0, -2.7), (-50.0, 1.4)))
    return [along(s) for s in np.linspace(0.0, 1.0, 201)]


def ordered(theta: Parameters) -> Parameters:
    """Return the same network with the neuron of the larger output weight first."""
    return topology.permute(theta.W1, theta.W2, np.argsort(-theta.W2[0]))


def draw_pair(ax: Axes, fold: bool) -> None:
    """Draw which values two output weights can have, after `ordered` if the plane is folded."""
    least, most = np.sqrt(-C), 3.2
    for signs in SIGNS:
        if fold and signs[0] < signs[1]:
            continue
        label = topology.component_label(*two((0.0, 2.0 * signs[0]), (0.0, 2.0 * signs[1]))[:2])
        spans = [(least[i], most) if s > 0 else (-most, -least[i]) for i, s in enumerate(signs)]
        (x0, x1), (y0, y1) = spans
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        halved = fold and signs[0] == signs[1]
        colour = COLOURS[int(np.sign(label.effective.output_sum))]
        look: Any = {"facecolor": (*colour, 0.3), "edgecolor": colour, "lw": 1.0}
        ax.add_patch(Polygon(corners[:3] if halved else corners, **look))
        name = "(" + ", ".join("+" if s > 0 else "−" for s in label.output_signs) + ")"
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if fold and signs[0] != signs[1]:
            name, x, y = f"{name}\n= (−, +)", x + 0.22, y - 0.2
        elif signs[0] == signs[1]:  # beside the diagonal
            x, y = x + 0.43 * (1 if fold else -1), y - 0.55 * (1 if fold else -1)
        ax.text(x, y, name, ha="center", va="center", color="0.1", zorder=3)
    passed = walk_two()
    swapped = [topology.permute(theta.W1, theta.W2, [1, 0]) for theta in passed]
    for trail in [[ordered(theta) for theta in passed]] if fold else [passed, swapped]:
        v = np.array([theta.W2[0] for theta in trail])
        ax.plot(*v.T, color=PATH, lw=1.5)
        ax.plot(*v[[0, -1]].T, "o", color=PATH, ms=3.5)
    ax.axline((0, 0), slope=1, color="0.45", lw=0.8, ls="--", zorder=0.5)
    faint: Any = {"color": "0.45", "fontsize": 6.5, "ha": "center", "va": "center"}
    ax.text(0, -2.1, "no neuron\nhas $|v_1| < 1$", **faint)
    if fold:
        ax.text(-1.2, 1.2, "networks with $v_1 < v_2$:\nswap the neurons", **faint)
    else:
        ax.text(-2.1, 0, "no neuron\nhas $|v_2| < 1$", **faint)
        arrow = {"arrowstyle": "<->", "color": "0.25", "lw": 0.9, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", (-0.85, 0.85), (0.85, -0.85), arrowprops=arrow)
        ax.text(-0.28, 0.6, "swap", rotation=-45, **{**faint, "color": "0.25"})
    ax.set_title(title(fold))
    ax.set(xlim=(-most, most), ylim=(-most, most), aspect="equal")
    ax.set(xlabel="output weight $v_1$", ylabel="output weight $v_2$")
    ax.set_xticks([-2, -1, 0, 1, 2])
    ax.set_yticks([-2, -1, 0, 1, 2])


def title(fold: bool) -> str:
    """Return a title with the number of components of two neurons, plain or effective."""
    l_pos, l_neg, _ = topology.sign_counts(C)
    if fold:
        number = topology.effective_components(2, l_pos, l_neg)
        return f"up to permutation: {number} effective components"
    number = topology.components(2, l_pos, l_neg)
    return f"two neurons, $c_1 = c_2 = {C[0]:g}$: {number} components"


def draw(stage: Stage = STAGE, note: str = "") -> Figure:
    """Draw the hyperquadrics above and the components of two neurons below."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        figure = Figure(figsize=(7.0, 5.3))
        for i, quadric in enumerate(QUADRICS):
            ax = figure.add_axes((0.005 + 0.325 * i, 0.515, 0.325, 0.43), projection="3d")
            ax.computed_zorder = False
            draw_quadric(ax, quadric, stage)
        for i, fold in enumerate((False, True)):
            draw_pair(figure.add_axes((0.1 + 0.46 * i, 0.085, 0.38, 0.36)), fold)
        figure.text(0.01, 0.95, "a", fontweight="bold", fontsize=10)
        figure.text(0.01, 0.455, "b", fontweight="bold", fontsize=10)
        if note:
            figure.text(0.99, 0.99, note, ha="right", va="top", fontsize=7, color="firebrick")
    return figure


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a coarser mesh")
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args(argv)
    figure = draw(QUICK_STAGE, "quick version: coarse mesh") if options.quick else draw()
    heatmaps.save(figure, options.out / "figure2", dpi=300)
    return 0


if __name__ == "__main__":
    sys.exit(main())
