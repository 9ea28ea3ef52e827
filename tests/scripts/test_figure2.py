"""Figure 2: what is drawn lies on the hyperquadrics, and the numbers come from the topology."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from obstruction import topology

SCRIPT = Path(__file__).parents[2] / "scripts" / "figure2.py"


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.exists():
        pytest.skip("the package is installed away from its scripts")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))
        import figure2

        yield figure2


@pytest.fixture(scope="module")
def panels(script):
    """The axes of a coarse figure."""
    return script.draw(script.QUICK_STAGE, "quick").axes


def balance(points):
    return points[..., 0] ** 2 + points[..., 1] ** 2 - points[..., 2] ** 2


@pytest.mark.parametrize("number", range(3))
def test_all_that_is_drawn_is_on_the_hyperquadric(script, panels, number):
    c, ax = script.QUADRICS[number].c, panels[number]
    drawn = [np.transpose(line.get_data_3d()) for line in ax.lines]
    assert len(drawn) > 15
    for points in drawn:
        seen = points[np.isfinite(points).all(axis=1)]
        assert seen.size
        assert np.allclose(balance(seen), c, atol=1e-9)
        assert (np.abs(seen[:, 2]) <= script.STAGE.highest + 1e-9).all()
    surfaces = [np.asarray(piece._faces) for piece in ax.collections]
    assert len(surfaces) == topology.components(2, int(c > 0), int(c < 0))
    for corners in surfaces:
        assert np.allclose(balance(corners), c, atol=1e-9)


def test_two_sheets_have_a_sign_and_a_colour_each(script, panels):
    pieces = script.STAGE.sheets(-1.0)
    assert sorted(pieces) == [-1, 1]
    for collection, sign in zip(panels[2].collections, (-1, 1), strict=True):
        v = np.asarray(collection._faces)[..., 2]
        assert (np.sign(v) == sign).all()
        assert np.abs(v).min() == pytest.approx(1.0)
        # blue is bluest where the weight is positive, vermilion reddest where it is negative
        red, _, blue, _ = collection.get_facecolor().mean(axis=0)
        assert (blue > red) == (sign > 0)
    words = {text.get_text(): text.get_color() for text in panels[2].texts}
    assert words["$v > 0$ for ever"] == script.COLOURS[1]
    assert words["$v < 0$ for ever"] == script.COLOURS[-1]


@pytest.mark.parametrize("number", range(3))
def test_axes_have_one_scale(script, panels, number):
    ax = panels[number]
    spans = [np.ptp(limits) for limits in (ax.get_xlim(), ax.get_ylim(), ax.get_zlim())]
    assert np.ptp(np.array(spans) / ax._box_aspect) < 1e-9


@pytest.mark.parametrize("number", range(3))
def test_what_is_hidden_is_what_a_walk_along_the_line_of_sight_finds(script, number):
    c = script.QUADRICS[number].c
    rng = np.random.default_rng(0)
    v = rng.uniform(np.sqrt(max(-c, 0.0)) + 0.01, script.STAGE.highest, 200) * rng.choice(
        [-1, 1], 200
    )
    turn = rng.uniform(0.0, 2.0 * np.pi, 200)
    size = np.sqrt(c + v**2)
    points = np.stack([size * np.cos(turn), size * np.sin(turn), v], axis=-1)
    steps = np.linspace(0.02, 12.0, 4000)
    path = points[:, None, :] + steps[None, :, None] * script.STAGE.eye
    inside = balance(path) > c
    meets = (inside[:, 1:] != inside[:, :-1]) & (np.abs(path[:, 1:, 2]) <= script.STAGE.highest)
    found = script.STAGE.hidden(points)
    assert 20 < found.sum() < 180
    assert np.mean(found == meets.any(axis=1)) > 0.98  # grazing lines of sight are beyond a walk


@pytest.mark.parametrize("number", range(3))
def test_paths_stay_in_their_component(script, number):
    quadric = script.QUADRICS[number]
    theta = [([row[:2]], [[row[2]]]) for row in script.walk(quadric).tolist()]
    assert all(topology.same_component(theta[0], other) for other in theta)
    v = [one[1][0][0] for one in theta]
    assert (min(v) < 0.0 < max(v)) == (quadric.c >= 0.0)  # it changes its sign where it can


def test_the_components_of_two_neurons(script, panels):
    passed = script.walk_two()
    labels = {topology.component_label(*theta[:2]).output_signs for theta in passed}
    assert labels == {(-1, 1)}
    assert all(topology.in_invariant_set(theta, script.C) for theta in passed)
    for theta in passed:
        swapped = script.ordered(theta)
        assert swapped.W2[0, 0] > swapped.W2[0, 1]
        assert topology.same_effective_component(theta, swapped)
        assert not topology.same_component(theta, swapped)
        assert topology.observationally_equivalent(theta, swapped)


@pytest.mark.parametrize(("number", "regions", "colours"), [(3, 4, 3), (4, 3, 3)])
def test_regions_are_where_output_weights_can_be(script, panels, number, regions, colours):
    drawn = [patch for patch in panels[number].patches if isinstance(patch, Polygon)]
    assert len(drawn) == regions
    assert len({patch.get_edgecolor() for patch in drawn}) == colours
    for patch in drawn:
        corners = patch.get_xy()
        assert np.abs(corners).min() == pytest.approx(1.0)  # |v| >= sqrt(-c)
        signs = set(map(tuple, np.sign(corners).astype(int).tolist()))
        assert len(signs) == 1
        if number == 4:
            assert (corners[:, 0] >= corners[:, 1] - 1e-12).all()
    lines = [line for line in panels[number].lines if len(line.get_xdata()) > 2]
    assert len(lines) == regions - 2
    for line in lines:
        x, y = np.array(line.get_data())
        assert any(
            patch.get_path().contains_points(np.column_stack([x, y]), radius=1e-9).all()
            for patch in drawn
        )


def test_titles_say_what_the_topology_says(script, panels, monkeypatch):
    assert [ax.get_title() for ax in panels] == [
        "$c = 1 > 0$: 1 component, $S^1 \\times R^1$",
        "$c = 0$: 1 component, a cone",
        "$c = -1 < 0$: 2 components, $S^0 \\times R^2$",
        "two neurons, $c_1 = c_2 = -1$: 4 components",
        "up to permutation: 3 effective components",
    ]
    monkeypatch.setattr(topology, "components", lambda d, l_pos, l_neg: 17)
    monkeypatch.setattr(topology, "effective_components", lambda d, l_pos, l_neg: 18)
    assert "17 components" in script.title(fold=False)
    assert "18 effective" in script.title(fold=True)


def test_a_quick_figure_says_so(script, panels):
    assert "quick" in [text.get_text() for text in panels[0].figure.texts]


def test_axes_are_labelled(panels):
    for ax in panels[:3]:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("$w_1$", "$w_2$")
        assert "$v$" in [text.get_text() for text in ax.texts]
    for ax in panels[3:]:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("output weight $v_1$", "output weight $v_2$")


def test_quick_says_so_and_writes_its_files(script, tmp_path, monkeypatch):
    notes = []

    def watched(mesh, note):
        notes.append((mesh, note))
        return Figure(figsize=(1, 1))

    monkeypatch.setattr(script, "draw", watched)
    assert script.main(["--quick", "--out", str(tmp_path / "new")]) == 0
    assert notes == [(script.QUICK_STAGE, "quick version: coarse mesh")]
    assert {path.name for path in (tmp_path / "new").iterdir()} == set(script.FILES)
