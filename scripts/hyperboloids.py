"""Draw paths on the hyperboloids ``w1^2 + w2^2 - v^2 = c`` that gradient flow cannot leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import to_rgb
from mpl_toolkits.mplot3d import Axes3D
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PALETTE = sns.color_palette("colorblind")
FREE = to_rgb("0.65")
COLOURS = {1: _PALETTE[0], -1: _PALETTE[3]}
"""Colours of the sheets, by the frozen sign of the output weight."""
PATH = "0.1"


@dataclass(frozen=True)
class Stage:
    """The direction from which hyperboloids are seen, in degrees, and where they end."""

    elev: float
    azim: float
    highest: float
    mesh: tuple[int, int] = (121, 61)
    """Points around and along a sheet."""

    @property
    def eye(self) -> Array:
        """The direction to the eye, which is far away."""
        elev, azim = np.deg2rad(self.elev), np.deg2rad(self.azim)
        return np.array([np.cos(elev) * np.cos(azim), np.cos(elev) * np.sin(azim), np.sin(elev)])

    def sheets(self, c: float) -> dict[int, Array]:
        """Return the sheets, ``(along, around, 3)``, by the frozen sign of v; 0 if it is free."""
        turn = np.linspace(0.0, 2.0 * np.pi, self.mesh[0])[None, :]
        if c < 0.0:  # equal steps of the hyperbolic angle, so that the tip is round
            lowest = np.sqrt(-c)
            steps = np.linspace(0.0, np.arccosh(self.highest / lowest), self.mesh[1])
            rise = lowest * np.cosh(steps)
            heights = {-1: -rise, 1: rise}
        else:
            heights = {0: np.linspace(-self.highest, self.highest, 2 * self.mesh[1] - 1)}
        found = {}
        for sign, v in heights.items():
            size = np.sqrt(np.maximum(c + v**2, 0.0))[:, None]
            found[sign] = np.stack(
                [size * np.cos(turn), size * np.sin(turn), v[:, None] + 0.0 * turn], axis=-1
            )
        return found

    def hidden(self, points: Array) -> NDArray[np.bool_]:
        """Return which points of a hyperboloid are behind another part of it.

        The line of sight from a point meets the surface once more, at a distance that solves a
        linear equation; it hides the point if it lies towards the eye and on a part drawn.
        """
        form = np.array([1.0, 1.0, -1.0])
        distance = -2.0 * (points * form) @ self.eye / (form @ self.eye**2)
        other = points + distance[..., None] * self.eye
        return (distance > 1e-6) & (np.abs(other[..., 2]) <= self.highest)

    def shaded(self, sheet: Array, colour: tuple[float, float, float]) -> Array:
        """Return the colours of a sheet, which is lit from the left and darker on its inside."""
        normal = sheet * [1.0, 1.0, -1.0]  # half the gradient of w1^2 + w2^2 - v^2
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        facing = normal @ self.eye
        left = np.array([np.sin(np.deg2rad(self.azim)), -np.cos(np.deg2rad(self.azim)), 0.0])
        lamp = self.eye + 0.8 * left + [0.0, 0.0, 0.5]
        lit = (normal * np.sign(facing)[..., None]) @ (lamp / np.linalg.norm(lamp))
        inside = facing * np.sign(normal[..., 2] * sheet[..., 2]) > 0.0
        white = (0.15 + 0.6 * np.clip(lit, 0.0, 1.0) - 0.2 * inside)[..., None]
        return np.clip((1.0 - white) * np.array(colour) + white, 0.0, 1.0)

    def draw(self, ax: Axes3D, c: float) -> None:
        """Draw the hyperboloid; on a single sheet also draw where the output weight is 0."""
        ax.computed_zorder = False
        look: Any = {"rstride": 1, "cstride": 1, "shade": False, "antialiased": False, "lw": 0}
        for order, (sign, sheet) in enumerate(sorted(self.sheets(c).items())):
            colours = self.shaded(sheet, COLOURS[sign] if sign else FREE)
            parts = np.moveaxis(sheet, -1, 0)
            ax.plot_surface(*parts, facecolors=colours, zorder=order, rasterized=True, **look)
        if c > 0.0:
            turn = np.linspace(0.0, 2.0 * np.pi, self.mesh[0])
            waist = np.sqrt(c) * np.stack([np.cos(turn), np.sin(turn), 0.0 * turn], axis=-1)
            self.draw_path(ax, waist, color="white", lw=0.9)
        self._dress(ax)

    def draw_path(self, ax: Axes3D, points: Array, **look: Any) -> None:
        """Draw a path ``(steps, 3)``: solid where it is visible, faint and dotted elsewhere."""
        away = self.hidden(points)
        for behind, style in ((True, {"ls": ":", "alpha": 0.55}), (False, {})):
            shown = np.where((away == behind)[:, None], points, np.nan)
            if np.isfinite(shown).any():
                ax.plot(*shown.T, zorder=4 + (not behind), **{**look, **style})

    def _dress(self, ax: Axes3D) -> None:
        """Give all axes the same scale, with few ticks and no panes."""
        reach = np.sqrt(1.0 + self.highest**2)
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-self.highest, self.highest))
        ax.set_box_aspect((reach, reach, self.highest), zoom=1.02)
        ax.set_proj_type("ortho")
        ax.view_init(elev=self.elev, azim=self.azim)
        names = ("$w_1$", "$w_2$", "$v$")
        for axis, name in zip((ax.xaxis, ax.yaxis, ax.zaxis), names, strict=True):
            axis.set_ticks([-1, 0, 1])
            axis.set_label_text(name)
            axis.set_rotate_label(False)
            axis.pane.fill = False
            axis.pane.set_edgecolor("0.85")
            axis.labelpad = -9
        ax.zaxis.labelpad = -12
        ax.tick_params(pad=-4, labelsize=6.5)
        ax.grid(False)
