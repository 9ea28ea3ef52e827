"""The heatmaps, read from their artists: labels, ticks, limits, colours and data."""

import io
import os
import struct
import subprocess
import sys
import zlib
from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from scipy.special import betainc
from scipy.stats import beta

from obstruction.reporting.heatmaps import figure, heatmap, save, write

XAVIER, KAIMING = "xavier_normal", "kaiming_normal"
TO_100 = np.arange(1, 101)
POWERS = 2 ** np.arange(1, 13)


def make_table(d, l, *, networks=10_000, schemes=(XAVIER, KAIMING), closed_form=True, seed=1):
    """A table with the closed forms of the two schemes and binomial counts, rows shuffled."""
    rng = np.random.default_rng(seed)
    parts = []
    for scheme in schemes:
        dd, ll = (axis.ravel() for axis in np.meshgrid(d, l))
        a = (dd + ll) / (ll + 1) if scheme.startswith("xavier") else dd / ll
        chance = -np.expm1(ll * np.log1p(-betainc(dd / 2, 0.5, a / (1 + a))))
        k = rng.binomial(networks, chance)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = (k - networks * chance) / np.sqrt(networks * chance * (1 - chance))
            ci_high = np.where(k < networks, beta.ppf(0.975, k + 1, networks - k), 1.0)
        nan = np.full(len(dd), np.nan)
        columns = {"scheme": scheme, "d": dd, "l": ll, "networks": networks, "obstructed": k}
        columns |= {"empirical": k / networks, "ci_high": ci_high}
        columns |= {"exact": chance if closed_form else nan, "z": z if closed_form else nan}
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts).sample(frac=1.0, random_state=seed, ignore_index=True)


def ordered(table):
    """The same with the schemes as categories, Xavier first."""
    return table.assign(scheme=pd.Categorical(table["scheme"], [XAVIER, KAIMING, "unused"]))


def mesh(ax):
    """The coloured cells."""
    (found,) = (one for one in ax.collections if isinstance(one, mpl.collections.QuadMesh))
    return found


def spread(table, scheme, column):
    """A column as an array with a row an l, a column a d."""
    rows = table[table["scheme"] == scheme]
    return rows.sort_values(["l", "d"])[column].to_numpy().reshape(rows["l"].nunique(), -1)


def contours(ax):
    """The contour lines' probabilities."""
    return [-np.expm1(-np.exp(s.levels)) for s in ax.collections if isinstance(s, ContourSet)]


def luminance(colour):
    """The relative luminance of WCAG 2.1."""
    rgb = np.array(colour[:3])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.fixture(autouse=True)
def no_trace():
    """Nothing global changes: no pyplot figure, no setting, no backend."""
    before = {key: value for key, value in mpl.rcParams.items() if key != "backend"}
    figures = plt.get_fignums()
    yield
    assert plt.get_fignums() == figures
    assert {key: value for key, value in mpl.rcParams.items() if key != "backend"} == before


@pytest.fixture(scope="module")
def table():
    return ordered(make_table(TO_100, TO_100))


@pytest.fixture(scope="module")
def whole(table):
    return figure(table)


# --- one heatmap ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "column"), [("empirical", "empirical"), ("exact", "exact"), ("zscore", "z")]
)
def test_the_cells_are_the_pivoted_column(table, value, column):
    ax = heatmap(table, value, scheme=KAIMING)
    assert isinstance(ax, Axes)
    want = spread(table, KAIMING, column)
    shown = mesh(ax).get_array()
    assert shown.shape == want.shape == (100, 100)
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), np.isnan(want))
    np.testing.assert_array_equal(shown.compressed(), want[~np.isnan(want)])


def test_d_runs_right_and_l_runs_up():
    table = make_table([3, 4, 5], [7, 8], schemes=[XAVIER])
    table["empirical"] = np.where((table["d"] == 5) & (table["l"] == 8), 0.9, 0.1)
    ax = heatmap(table, levels=())
    ax.figure.canvas.draw()
    pixels = np.asarray(ax.figure.canvas.buffer_rgba())[::-1]  # first row lowest
    box = ax.get_window_extent()
    for d, l in [(3, 7), (5, 7), (3, 8), (5, 8)]:
        x, y = ax.transData.transform((d, l))
        assert box.contains(x, y)
        expected = mesh(ax).cmap(mesh(ax).norm(0.9 if (d, l) == (5, 8) else 0.1), bytes=True)
        np.testing.assert_allclose(pixels[int(y), int(x)], expected, atol=1)
    assert ax.get_xlim() == (2.5, 5.5)
    assert ax.get_ylim() == (6.5, 8.5)


def test_labels_and_titles(table):
    ax = heatmap(table, scheme=XAVIER)
    assert ax.get_xlabel() == "inputs $d$"
    assert ax.get_ylabel() == "hidden neurons $l$"
    assert ax.get_title() == "xavier_normal\nempirical, 10,000 networks"
    assert heatmap(table, "exact", scheme=XAVIER).get_title() == "xavier_normal\nexact"
    assert heatmap(table, "zscore", scheme=XAVIER).get_title() == "xavier_normal\nz-score"
    bar = ax.figure.axes[1]
    assert bar.get_xlabel() == "probability of obstruction $P$"
    assert tick_labels(ax.xaxis) == tick_labels(ax.yaxis) == ["1", "20", "40", "60", "80", "100"]
    assert ax.get_xlim() == ax.get_ylim() == (0.5, 100.5)


def test_numbers_of_networks_that_differ(table):
    varied = table[table["scheme"] == XAVIER].copy()
    varied.loc[varied.index[0], "networks"] = 500
    assert heatmap(varied).get_title().endswith("empirical, up to 10,000 networks")


def test_a_long_label_is_broken_but_complete():
    label = "custom:hidden_law=uniform,negative_slope=0.12345678901234567,output_law=normal"
    ax, _ = heatmap(make_table([1, 2], [1, 2], schemes=[label, XAVIER]).sort_values("scheme"))
    lines = ax.get_title().split("\n")
    assert "".join(lines[:-1]) == label
    assert len(lines) == 4
    ax.figure.canvas.draw()
    assert ax.title.get_window_extent().x0 >= 0.0
    assert ax.title.get_window_extent().y1 <= ax.figure.bbox.height


def test_colours(table):
    ax = heatmap(table, scheme=XAVIER)
    assert (mesh(ax).norm.vmin, mesh(ax).norm.vmax) == (0.0, 1.0)
    assert mesh(ax).cmap.name == "viridis"
    z = mesh(heatmap(table, "zscore", scheme=XAVIER))
    assert z.norm.vmin == -z.norm.vmax == -4.0
    assert min(z.cmap(0.5)[:3]) > 0.9  # no deviation: nearly white
    bad = z.cmap.get_bad()
    assert bad[0] == bad[1] == bad[2]
    assert 0.5 < bad[0] < 0.85  # undefined: grey, and not the white of no deviation


def test_an_infinite_z_is_off_the_scale_and_not_undefined():
    table = make_table([1, 2, 3], [1, 2, 3], schemes=[XAVIER]).sort_values(["l", "d"])
    table["z"] = [np.inf, -np.inf, np.nan, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    ax = heatmap(table, "zscore")
    colours = mesh(ax).to_rgba(mesh(ax).get_array()).reshape(9, 4)
    cmap = mesh(ax).cmap
    assert tuple(colours[0]) == cmap(1.0)
    assert tuple(colours[1]) == cmap(0.0)
    assert tuple(colours[2]) == tuple(cmap.get_bad())
    bar = ax.figure.axes[1]
    assert bar.get_xlabel() == "$z$-score (grey: undefined)"
    assert bar._colorbar.extend == "both"


def test_several_schemes_stand_side_by_side(table):
    axes = heatmap(table, "exact")
    assert isinstance(axes, np.ndarray)
    assert [ax.get_title() for ax in axes] == ["xavier_normal\nexact", "kaiming_normal\nexact"]
    assert axes[0].get_position().x1 < axes[1].get_position().x0
    for ax, scheme in zip(axes, (XAVIER, KAIMING), strict=True):
        np.testing.assert_array_equal(mesh(ax).get_array(), spread(table, scheme, "exact"))


@pytest.mark.parametrize("order", [(KAIMING, XAVIER), (XAVIER, KAIMING)])
def test_schemes_without_categories_come_in_order_of_appearance(order):
    table = pd.concat([make_table([2, 3], [4], schemes=[scheme]) for scheme in order])
    assert tuple(ax.get_title().split()[0] for ax in heatmap(table)) == order


def test_a_missing_cell_is_grey():
    table = make_table([1, 2], [1, 2], schemes=[XAVIER])
    table = table[(table["d"] == 1) | (table["l"] == 1)]
    shown = mesh(heatmap(table)).get_array()
    assert np.ma.getmaskarray(shown).tolist() == [[False, False], [False, True]]


# --- the caller's own Axes -----------------------------------------------------------------


def own_axes(**kwargs):
    fig = Figure(**kwargs)
    FigureCanvasAgg(fig)
    return fig.add_subplot()


def test_ax_is_used_and_returned(table):
    ax = own_axes()
    assert heatmap(table, scheme=KAIMING, ax=ax) is ax
    assert mesh(ax).get_array().shape == (100, 100)
    assert len(ax.figure.axes) == 2
    assert ax.figure.axes[1].get_ylabel() == "probability of obstruction $P$"


def test_ax_keeps_the_style_of_its_owner(table):
    with mpl.rc_context({"axes.labelsize": 17.0, "axes.grid": True}):
        ax = heatmap(table, scheme=KAIMING, ax=own_axes(), colorbar=False)
        own = heatmap(table, scheme=KAIMING)
    assert ax.xaxis.label.get_fontsize() == 17.0
    assert own.xaxis.label.get_fontsize() == 7.0
    assert not any(line.get_visible() for line in ax.get_xgridlines())
    assert ax.figure.axes == [ax]


def test_ax_in_a_subfigure_and_without_ticks(table):
    subfigure = Figure(figsize=(8, 4)).subfigures(1, 2)[1]
    ax = subfigure.add_subplot(xticks=[], yticks=[])
    heatmap(table, scheme=KAIMING, ax=ax)
    assert len(subfigure.axes) == 2


def test_one_ax_needs_one_scheme(table):
    with pytest.raises(ValueError, match=r"scheme = None.*xavier_normal, kaiming_normal"):
        heatmap(table, ax=own_axes())


# --- contour lines -------------------------------------------------------------------------


def test_contours_are_where_the_exact_probability_has_them(table):
    ax = heatmap(table, scheme=XAVIER)
    (levels,) = contours(ax)
    np.testing.assert_allclose(levels, [0.01, 0.05, 0.5])
    (lines,) = (one for one in ax.collections if isinstance(one, ContourSet))
    assert lines.get_linestyle() == [(0.0, None)] * 3  # solid
    for level, path in zip(levels, lines.get_paths(), strict=True):
        d, l = path.vertices[5::50].T
        a = (d + l) / (l + 1)
        chance = -np.expm1(l * np.log1p(-betainc(d / 2, 0.5, a / (1 + a))))
        np.testing.assert_allclose(chance, level, rtol=0.05)


def test_contours_are_labelled_apart_and_inside(table):
    for ax in [*heatmap(table), *heatmap(table, "log10")]:
        assert sorted(texts(ax)) == ["0.01", "0.05", "0.5"]
        boxes = [text.get_window_extent() for text in ax.texts]
        for box in boxes:
            assert ax.bbox.x0 < box.x0 < box.x1 < ax.bbox.x1
            assert ax.bbox.y0 < box.y0 < box.y1 < ax.bbox.y1
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_contour_labels_contrast_with_the_cells(table):
    for ax in (heatmap(table, scheme=XAVIER), heatmap(table, "log10", scheme=XAVIER)):
        panel = mesh(ax)
        log = panel.norm.vmin < 0
        for text in ax.texts:
            level = float(text.get_text())
            behind = panel.cmap(panel.norm(np.log10(level) if log else level))
            dark, bright = sorted([luminance(behind), luminance(to_rgba(text.get_color()))])
            assert (bright + 0.05) / (dark + 0.05) > 3.0  # WCAG 2.1 for large text


def test_contours_of_the_empirical_probability_without_a_closed_form():
    table = make_table(TO_100, TO_100, schemes=["xavier_uniform"], closed_form=False)
    (levels,) = contours(heatmap(table))
    np.testing.assert_allclose(levels, [0.01, 0.05, 0.5])


def test_levels_outside_the_data_are_left_out(table):
    high = table[(table["d"] <= 3) & (table["scheme"] == XAVIER)]  # 0.32 and more
    (levels,) = contours(heatmap(high))
    np.testing.assert_allclose(levels, [0.5])
    low = table[(table["d"] > 60) & (table["l"] > 60)]
    assert [contours(ax) for ax in heatmap(low)] == [[], []]
    assert contours(heatmap(table, scheme=XAVIER, levels=())) == []
    (levels,) = contours(heatmap(table, scheme=KAIMING, levels=(1e-12, 0.3)))
    np.testing.assert_allclose(levels, [1e-12, 0.3])


def test_no_contours_on_z_scores(table):
    assert contours(heatmap(table, "zscore", scheme=XAVIER)) == []


# --- the logarithmic scale -----------------------------------------------------------------


def test_log10_of_the_exact_probability(table):
    ax = heatmap(table, "log10", scheme=KAIMING)
    shown, want = mesh(ax).get_array(), np.log10(spread(table, KAIMING, "exact"))
    np.testing.assert_allclose(shown, want)
    assert mesh(ax).norm.vmin == np.floor(want.min())
    assert mesh(ax).norm.vmax == 0.0
    assert ax.figure.axes[1].get_xlabel() == r"probability of obstruction, $\log_{10}P$"
    assert ax.get_legend() is None


def test_log10_prefers_the_column_that_does_not_underflow():
    table = make_table([5000, 10_000], [5000, 10_000], schemes=[KAIMING])
    assert (table["exact"] == 0.0).all()
    shown = mesh(heatmap(table, "log10"))
    assert not np.ma.is_masked(shown.get_array())
    assert (shown.get_array() < shown.norm.vmin).all()
    deep = table.assign(log10_exact=-0.15 * table["d"])
    shown = mesh(heatmap(deep, "log10"))
    np.testing.assert_allclose(shown.get_array(), [[-750.0, -1500.0]] * 2)
    assert shown.norm.vmin == -1500.0


def test_log10_masks_the_zeros_and_says_what_they_mean(table):
    ax = heatmap(table, "empirical", scheme=KAIMING, scale="log10")
    rates = spread(table, KAIMING, "empirical")
    shown = mesh(ax).get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown), rates == 0.0)
    np.testing.assert_allclose(shown.compressed(), np.log10(rates[rates > 0.0]))
    assert mesh(ax).norm.vmin == -4.0  # one network in 10,000
    (text,) = ax.get_legend().get_texts()
    assert text.get_text() == "no event seen:\n$P$ below 0.00037"
    (patch,) = ax.get_legend().get_patches()
    assert patch.get_facecolor()[:3] == tuple(mesh(ax).cmap.get_bad()[:3])


def test_log10_falls_back_on_the_empirical_probability():
    plain = make_table(TO_100, TO_100, schemes=[XAVIER])
    no_form = make_table(TO_100, TO_100, schemes=["xavier_uniform"], closed_form=False)
    first, second = heatmap(pd.concat([plain, no_form]), "log10")
    assert first.get_title().endswith("exact")
    assert second.get_title().endswith("empirical, 10,000 networks")
    assert mesh(first).norm is mesh(second).norm


def test_nothing_was_ever_seen():
    table = make_table([500, 600], [500, 600], schemes=[KAIMING])
    ax = heatmap(table, scale="log10")
    assert np.ma.getmaskarray(mesh(ax).get_array()).all()
    assert ax.get_legend() is not None
    assert mesh(ax).norm.vmin == -1.0


# --- axes ----------------------------------------------------------------------------------


def test_geometric_axes_have_equal_cells_and_true_labels():
    ax = heatmap(make_table(POWERS, POWERS, schemes=[XAVIER]))
    wanted = ["2", "8", "32", "128", "512", "2048"]
    assert tick_labels(ax.xaxis) == tick_labels(ax.yaxis) == wanted
    np.testing.assert_array_equal(ax.get_xticks(), [2, 8, 32, 128, 512, 2048])
    corners = ax.transData.transform(mesh(ax).get_coordinates().reshape(-1, 2))
    widths = np.diff(corners[:13, 0])
    np.testing.assert_allclose(widths, widths[0])
    assert corners[0, 0] == pytest.approx(ax.bbox.x0)
    assert corners[12, 0] == pytest.approx(ax.bbox.x1)
    centre = ax.transData.transform((2, 2))[0]
    assert centre == pytest.approx(corners[:2, 0].mean())


def test_a_long_axis_is_logarithmic():
    sizes = np.arange(1, 1001)
    ax = heatmap(make_table(sizes, [1, 2, 3], schemes=[XAVIER]))
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert tick_labels(ax.xaxis) == ["1", "10", "100", "1000"]
    assert tick_labels(ax.yaxis) == ["1", "2", "3"]
    assert all(not label.get_text() for label in ax.get_xticklabels(minor=True))


@pytest.mark.parametrize(
    ("values", "scale", "labels"),
    [
        ([10], "linear", ["10"]),
        ([3, 5], "linear", ["3", "5"]),
        (range(10, 101, 10), "linear", ["10", "30", "50", "70", "90"]),
        (range(1, 51), "linear", ["1", "10", "20", "30", "40", "50"]),
        (range(500, 601), "linear", ["500", "520", "540", "560", "580", "600"]),
        ([1, 2, 3, 5, 10, 100], "log", ["1", "3", "10", "100"]),
        (range(60, 801), "log", ["100", "200", "500"]),
    ],
)
def test_ticks(values, scale, labels):
    values = list(values)
    ax = heatmap(make_table(values, [1, 2], schemes=[XAVIER]))
    assert ax.get_xscale() == scale
    assert tick_labels(ax.xaxis) == labels
    edges = mesh(ax).get_coordinates()[0, :, 0]
    assert len(edges) == len(values) + 1
    assert all(
        low < value < high for value, (low, high) in zip(values, pairwise(edges), strict=True)
    )
    assert ax.get_xlim() == (edges[0], edges[-1])


@pytest.mark.parametrize(("d", "l"), [([10], [7]), ([10], TO_100), (TO_100, [7])])
def test_a_single_cell_row_or_column(d, l):
    fig = figure(make_table(d, l, schemes=[XAVIER]))
    for ax in fig.axes[:3]:
        assert mesh(ax).get_array().shape == (len(l), len(d))
        assert contours(ax) == []
    fig.canvas.draw()


# --- the figure ----------------------------------------------------------------------------


def test_the_figure_has_a_row_a_scheme(table, whole):
    assert isinstance(whole, Figure)
    assert whole.get_figwidth() == 7.0
    panels, bars = np.array(whole.axes[:6]).reshape(2, 3), whole.axes[6:]
    for row, scheme in zip(panels, (XAVIER, KAIMING), strict=True):
        titles = [ax.get_title() for ax in row]
        assert titles == ["empirical, 10,000 networks", "exact", "z-score"]
        assert [ax.get_title("left").strip() for ax in row] == [scheme, "", ""]
        for ax, column in zip(row, ("empirical", "exact", "z"), strict=True):
            want = np.ma.masked_invalid(spread(table, scheme, column))
            np.testing.assert_array_equal(mesh(ax).get_array(), want)
        assert [ax.get_ylabel() for ax in row] == ["hidden neurons $l$", "", ""]
    assert [ax.get_xlabel() for ax in panels[:, 0]] == ["", "inputs $d$"]
    assert len({id(mesh(ax).norm) for ax in panels[:, :2].flat}) == 1
    assert [bar.get_xlabel().split()[0] for bar in bars] == ["probability", "$z$-score"]


def test_nothing_in_the_figure_overlaps_or_leaves_it(table, whole):
    for fig in (whole, figure(table, scale="log10", width=6.0)):
        boxes = [ax.get_tightbbox() for ax in fig.axes]
        for box in boxes:
            assert box.x0 >= 0.0
            assert box.y0 >= 0.0
            assert box.x1 <= fig.bbox.width
            assert box.y1 <= fig.bbox.height
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        for ax in fig.axes[:6]:
            assert ax.bbox.width == pytest.approx(ax.bbox.height)  # square
            assert min(label.get_fontsize() for label in ax.get_xticklabels()) >= 6.5


def test_colour_bars_line_up_with_their_columns(whole):
    place = [ax.get_position(original=True) for ax in whole.axes]
    assert (place[7].x0, place[7].x1) == pytest.approx((place[2].x0, place[2].x1))
    middle = (place[0].x0 + place[1].x1) / 2
    assert (place[6].x0 + place[6].x1) / 2 == pytest.approx(middle)
    assert place[6].y0 == place[7].y0


@pytest.mark.parametrize("value", ["exact", "log10"])
def test_one_column_alone(table, value):
    fig = figure(table, value=value)
    assert len(fig.axes) == 3  # two schemes and a colour bar
    assert fig.get_figwidth() == 3.4
    assert fig.axes[0].get_position().y0 > fig.axes[1].get_position().y1


def test_the_logarithmic_figure_clips_the_exact_column_where_counting_ends(table):
    fig = figure(table, scale="log10")
    empirical, exact, z = fig.axes[3:6]
    assert mesh(empirical).norm is mesh(exact).norm
    assert mesh(exact).norm.vmin == -4.0
    assert mesh(exact).get_array().min() < -4.0
    assert not np.ma.is_masked(mesh(exact).get_array())
    assert mesh(z).norm.vmin == -4.0 == -mesh(z).norm.vmax
    assert fig.axes[6]._colorbar.extend == "min"
    assert fig.axes[6].get_xlim() == (-4.0, 0.0)


def test_a_scheme_without_exact_values_says_so():
    table = make_table(TO_100, TO_100, schemes=["xavier_uniform"], closed_form=False)
    empirical, exact, z = figure(table).axes[:3]
    assert "no exact value" not in texts(empirical)
    assert texts(exact) == texts(z) == ["no exact value"]
    assert np.ma.getmaskarray(mesh(exact).get_array()).all()


def test_an_unsampled_table_says_so(table):
    bare = table.assign(empirical=np.nan, z=np.nan, networks=0)
    empirical, exact, z = figure(bare).axes[:3]
    assert texts(empirical) == texts(z) == ["not sampled"]
    assert texts(exact) != []
    assert empirical.get_title() == "empirical"
    assert texts(heatmap(table.assign(z=np.nan), "zscore", scheme=XAVIER)) == ["undefined"]


# --- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"value": "exakt"}, r"value = 'exakt'.*zscore.*\(did you mean 'exact'\?\)"),
        ({"scale": "log"}, r"scale = 'log'.*linear, log10"),
        ({"value": "zscore", "scale": "log10"}, r"scale = 'log10'.*must be one of linear"),
        ({"levels": (0.5, 1.0)}, r"levels = 1\.0"),
    ],
)
def test_wrong_arguments(table, wrong, message):
    with pytest.raises(ValueError, match=message):
        heatmap(table, **wrong)
    with pytest.raises(ValueError, match=message):
        figure(table, **wrong)


def test_unknown_scheme(table):
    message = r"scheme = 'kaiming_norm': .*one of xavier_normal, .*did you mean 'kaiming_normal'\?"
    with pytest.raises(ValueError, match=message):
        heatmap(table, scheme="kaiming_norm")


@pytest.mark.parametrize("column", ["scheme", "l", "networks", "exact", "z"])
def test_missing_column(table, column):
    with pytest.raises(ValueError, match=f"no column '{column}'"):
        heatmap(table.drop(columns=column))


def test_no_rows(table):
    with pytest.raises(ValueError, match="no rows"):
        heatmap(table.iloc[:0])


def test_duplicate_cells():
    table = make_table([3, 4], [5, 6], schemes=[XAVIER])
    twice = pd.concat([table, table[(table["d"] == 4) & (table["l"] == 5)]])
    with pytest.raises(ValueError, match=r"more than one row.*'d': 4, 'l': 5"):
        heatmap(twice)


@pytest.mark.parametrize("width", [0.5, float("nan"), 1e6])
def test_wrong_width(table, width):
    with pytest.raises(ValueError, match="width = "):
        figure(table, width=width)


# --- files ---------------------------------------------------------------------------------


def chunks(png):
    """The chunks of a PNG file: (name, content)."""
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        yield png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        at += 12 + length


def test_saved_files(table, tmp_path):
    stem = tmp_path / "new" / "heatmap.v1"
    fig = heatmap(table, "zscore", scheme=XAVIER, colorbar=False).figure
    png, pdf = save(fig, stem)
    assert (png.name, pdf.name) == ("heatmap.v1.png", "heatmap.v1.pdf")
    assert sorted(path.name for path in stem.parent.iterdir()) == [pdf.name, png.name]
    image = dict(chunks(png.read_bytes()))
    width, height = struct.unpack(">II", image[b"IHDR"][:8])
    assert width == 680  # 3.4 inches at 200 dots
    assert height == pytest.approx(200 * fig.get_figheight(), abs=1)
    assert image[b"pHYs"] == struct.pack(">IIB", 7874, 7874, 1)  # 200 dots per inch in metres
    assert not {b"tEXt", b"iTXt", b"zTXt", b"tIME"} & set(image)
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content
    assert content.count(b"/Subtype /Image") == 1  # the mesh of 10,000 cells
    assert len(content) < 1_000_000


OTHER_STYLE = {"font.size": 20.0, "axes.grid": True, "pdf.fonttype": 3, "savefig.bbox": "tight"}


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_figure_written_twice_gives_the_same_bytes(kind):
    first, again = io.BytesIO(), io.BytesIO()
    fig = heatmap(make_table(POWERS[:4], POWERS[:4], schemes=[XAVIER]), "log10").figure
    write(fig, first, kind=kind)
    with mpl.rc_context(OTHER_STYLE):
        write(fig, again, kind=kind)
    assert first.getvalue() == again.getvalue()


def test_neither_style_nor_order_of_rows_changes_the_figure():
    first, other = io.BytesIO(), io.BytesIO()
    table = ordered(make_table(POWERS[:4], POWERS[:4]))
    write(figure(table), first)
    with mpl.rc_context(OTHER_STYLE):
        fig = figure(table.iloc[::-1])
    write(fig, other)
    assert first.getvalue() == other.getvalue()


def test_a_small_mesh_stays_vectors_in_the_pdf():
    stream = io.BytesIO()
    ax = heatmap(make_table(POWERS, POWERS, schemes=[XAVIER]), colorbar=False)
    write(ax.figure, stream, kind="pdf")
    content = stream.getvalue()
    assert b"/Subtype /Image" not in content
    assert b"/FontFile2" in content  # text is text, in TrueType
    pages = [part for part in content.split(b"stream\n")[1:] if part[:1] == b"x"]
    drawn = b"".join(zlib.decompressobj().decompress(page) for page in pages)
    assert b" Tj" in drawn or b" TJ" in drawn


def test_wrong_ways_to_write(table, tmp_path):
    fig = heatmap(table, scheme=XAVIER).figure
    with pytest.raises(ValueError, match=r"kind = 'svg': must be one of png, pdf"):
        write(fig, io.BytesIO(), kind="svg")
    with pytest.raises(ValueError, match="dpi = 0"):
        save(fig, tmp_path / "never", dpi=0)
    assert not (tmp_path / "never.png").exists()


def test_no_display_is_needed(tmp_path):
    program = """
import sys
import pandas as pd
from obstruction.reporting import heatmaps
heatmaps.save(heatmaps.heatmap(pd.read_csv(sys.argv[1]))[0].figure, sys.argv[2])
"""
    make_table([1, 2, 3], [1, 2, 3]).to_csv(tmp_path / "cells.csv")
    displays = ("DISPLAY", "WAYLAND_DISPLAY")
    environment = {key: value for key, value in os.environ.items() if key not in displays}
    environment["MPLBACKEND"] = "tkagg"  # fails without a display; unset, pyplot would fall back
    command = [sys.executable, "-W", "error", "-c", program]
    command += [str(tmp_path / "cells.csv"), str(tmp_path / "heatmap")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "heatmap.png").stat().st_size > 0
