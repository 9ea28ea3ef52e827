"""Figure 5: its study, its table, and the verdicts on the paper's sentences."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import obstruction as ob
from obstruction import exact

ROOT = Path(__file__).parents[2]
FIGURES, SCRIPTS = ROOT / "figures", ROOT / "scripts"

pytestmark = pytest.mark.skipif(
    not (SCRIPTS / "figure5.py").exists(), reason="installed away from its scripts"
)

RATIOS = {
    "xavier_normal": lambda d, l: (d + l) / (l + 1),
    "kaiming_normal": lambda d, l: d / l,
}


def chance(scheme, d, l):
    """The paper's formula, by the F distribution: p of a neuron and P of a network."""
    p = stats.f.sf(d / RATIOS[scheme](d, l), 1, d)
    return p, -np.expm1(l * np.log1p(-p))


@pytest.fixture(scope="module")
def scripts():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        import figure5
        import figure5_statements

        yield figure5, figure5_statements


@pytest.fixture(scope="module")
def statements(scripts):
    return scripts[1].statements()


@pytest.fixture(scope="module")
def written():
    return pd.read_csv(FIGURES / "figure5.csv")


# --- the verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holds", "verdict"),
    [([1, 1, 1], "true"), ([1, 1, 0], "loose"), ([1, 0], "false"), ([0, 0, 0], "false")],
)
def test_the_verdict_on_a_claim_is_a_matter_of_counting(scripts, holds, verdict):
    claim = scripts[1].Claim("", "", "", np.array(holds, bool), "")
    assert claim.verdict == verdict


def test_the_verdict_on_a_sentence_follows_from_what_it_says(scripts):
    _, module = scripts

    def claim(holds, said=True):
        return module.Claim("", "", "", np.array([holds]), "", said)

    def verdict(*claims):
        return module.Statement("", "", claims, "").verdict

    assert verdict(claim(True), claim(True)) == "true"
    assert verdict(claim(True), claim(False)) == "loose"
    assert verdict(claim(False), claim(False)) == "false"
    assert verdict(claim(True), claim(False, said=False)) == "true"
    assert module.Statement("", "", (claim(True), claim(False)), "").decisive.verdict == "false"


def found(statements, number, about, words):
    (claim,) = (
        claim
        for claim in statements[number - 1].claims
        if claim.about == about and words in claim.says
    )
    return int(claim.holds.sum()), claim.holds.size, claim.number


def test_the_verdicts(statements):
    assert [one.verdict for one in statements] == [
        *("loose", "loose", "true", "true", "loose", "true")
    ]


@pytest.mark.parametrize(
    ("name", "scheme", "more"),
    [("Xavier", *("xavier_normal", 1)), ("Kaiming", *("kaiming_normal", 0))],
)
def test_many_inputs(statements, name, scheme, more):
    l = np.arange(1, 101)
    limit = -np.expm1(l * np.log1p(-stats.chi2.sf(l + more, 1)))
    held, of, number = found(statements, 1, name, "→ 0")
    assert (held, of) == (0, 100)
    assert f"is {limit[0]:.4f} for l = 1, {limit[9]:.4f} for l = 10" in number
    _, far = chance(scheme, 1e7, l[:12])
    assert np.allclose(far, limit[:12], rtol=1e-4)
    held, of, number = found(statements, 1, name, "all d ≥ 100")
    _, edge = chance(scheme, 100, l)
    assert (held, of) == (int((edge < 0.01).sum()), 100)
    assert held > 80
    assert f"from l = {l[edge < 0.01][0]} on; P = {edge[0]:.4f} at" in number
    _, beyond = chance(scheme, 10**4, l)
    assert (beyond < edge).all()  # or the cells at d = 100 would not bound the others


def test_few_inputs(statements):
    d, l = np.arange(1, 101)[:, None], np.arange(1, 101)[None, :]
    for name, scheme, high in (
        ("Xavier", "xavier_normal", 11),
        ("Kaiming", "kaiming_normal", 2),
    ):
        _, P = chance(scheme, d, l)
        columns = np.flatnonzero((P > 0.5).any(axis=1)) + 1
        assert columns.tolist() == list(range(1, high + 1))
        assert found(statements, 2, name, "exceeds ½")[:2] == (high, high)
        growing = np.all(np.diff(P[:5, :30], axis=1) > 0, axis=1)
        if name == "Kaiming":
            assert growing.tolist() == [True, True, False, False, False]
            turned = [f"d = {k} at l = {P[k - 1].argmax() + 1}" for k in (3, 4, 5)]
            assert ", ".join(turned) in found(statements, 2, name, "1 … 100")[2]
        assert found(statements, 2, name, "1 … 100")[0] == (5 if name == "Xavier" else 2)
        assert found(statements, 2, name, "disconnected")[:2] == (0, 99)


def test_two_schemes(scripts, statements):
    d, l = np.arange(1, 101)[:, None], np.arange(1, 101)[None, :]
    (_, xavier), (_, kaiming) = (chance(scheme, d, l) for scheme in RATIOS)
    areas = scripts[1].areas()
    for threshold in (0.9, 0.5, 0.1, 0.05, 0.01):
        wanted = [int((threshold + 1e-12 < P).sum()) for P in (xavier, kaiming)]
        assert areas.loc[threshold].tolist() == wanted
    assert found(statements, 3, "both", "region")[:2] == (5, 5)
    assert "4.72 times at t = 0.5" in found(statements, 3, "both", "region")[2]
    larger = int((l**2 > d).sum())  # the remark's rule
    assert found(statements, 3, "both", "P is larger")[0] == larger


def test_both_large(scripts, statements):
    for name, scheme in (("Xavier", "xavier_normal"), ("Kaiming", "kaiming_normal")):
        held, of, number = found(statements, 4, name, "P < 0.001")
        assert held == of
        log10 = exact.log_obstruction_probability(scheme, 100, 100) / np.log(10)
        assert f"10^{log10:.1f}, at d = 100, l = 100" in number
    least = scripts[1].half_width("xavier_normal", 20)
    _, P = chance("xavier_normal", 20, np.array([least - 1, least]))
    assert P[0] < 0.5 <= P[1]
    assert f"l = {least:,} on" in found(statements, 4, "Xavier", "fixed d")[2]


def test_wider_layers(statements):
    d, l = np.arange(1, 101)[:, None], np.arange(1, 101)[None, :]
    for name, scheme in (("Xavier", "xavier_normal"), ("Kaiming", "kaiming_normal")):
        p, P = chance(scheme, d, l)
        falling = np.all(np.diff(p, axis=1) < 0, axis=1)
        assert found(statements, 5, name, "every step")[0] == falling.sum()
        fast = p[:, 0] / p[:, -1] > 10.0
        assert found(statements, 5, name, "more than 10 times")[0] == fast.sum()
        smaller = P[:, -1] < P[:, 0]
        assert found(statements, 5, name, "smaller at l = 100")[0] == smaller.sum()
    assert found(statements, 5, "Xavier", "network's* P →")[0] == 0
    assert found(statements, 5, "Kaiming", "network's* P →")[0] == 98


def test_in_practice(statements):
    for name, scheme in (("Xavier", "xavier_normal"), ("Kaiming", "kaiming_normal")):
        held, of, number = found(statements, 6, name, "20 neurons")
        assert held == of == 100
        p, _ = chance(scheme, 1, 20)
        # two signs needed: out of reach if all are frozen positive or all negative
        assert f"at most {2 * (p / 2) ** 20:.2g}, " in number


# --- what is committed ----------------------------------------------------------------------------


def test_the_committed_verdicts_are_those_of_now(statements):
    text = (FIGURES / "figure5_statements.md").read_text(encoding="utf-8")
    assert "uick version" not in text
    for number, one in enumerate(statements, start=1):
        assert f"\n## {number}. {one.verdict.capitalize()}: {one.words} ({one.where})\n" in text
        for claim in one.claims:
            assert f"\n{claim.row}\n" in text
        assert one.remark in text
    assert re.search(r"^AGREES: the counts of 10,688 cells and the weighted samples", text, re.M)


def test_the_committed_table_has_every_cell_confirmed(scripts, written):
    assert written.columns.tolist() == scripts[0].COLUMNS
    assert len(written) == len(written.drop_duplicates(["scheme", "d", "l"])) == 20_000
    assert set(written.estimator) == {"direct", "tilted"}
    assert (written.networks == 10**6).all()
    assert (written.samples[written.estimator == "tilted"] > 0).all()
    for scheme, rows in written.groupby("scheme"):
        _, P = chance(scheme, rows.d.to_numpy(), rows.l.to_numpy())
        assert np.allclose(rows.exact, P, rtol=1e-11, atol=0)
    assert written.p_value.min() * len(written) > 0.01
    inside = (written.ci_low <= written.exact) & (written.exact <= written.ci_high)
    assert inside.mean() > 0.9


def test_the_committed_counts_come_again(scripts, written):
    """The i-th network of a cell does not depend on the grid around it."""
    sizes = [1, 3, 8]
    again = ob.sample(
        scripts[0].SCHEMES, d=sizes, l=sizes, networks=10**6, seed=scripts[0].SEED
    ).table()
    key = ["scheme", "d", "l"]
    both = again.astype({"scheme": str}).merge(written, on=key, suffixes=("", "_written"))
    assert len(both) == 18
    assert (both.obstructed == both.obstructed_written).all()
    assert (both.pathological == both.pathological_written).all()


# --- the script -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_run_writes_everything(scripts, tmp_path, monkeypatch, capsys):
    figure5, module = scripts
    monkeypatch.setattr(figure5, "SIZES", [1, 2, 3, 10, 100])
    monkeypatch.setattr(figure5, "QUICK_NETWORKS", 5000)
    monkeypatch.setattr(module, "statements", lambda: ())  # they do not depend on the run
    drawn = []
    draw = figure5.draw
    monkeypatch.setattr(figure5, "draw", lambda *given: drawn.append(draw(*given)) or drawn[0])
    assert figure5.main(["--quick", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == set(figure5.FILES)
    assert "AGREES" in capsys.readouterr().out
    (figure,) = drawn
    assert [text.get_text() for text in figure.texts] == ["quick version: 5,000 networks per cell"]
    table = pd.read_csv(tmp_path / "figure5.csv")
    assert len(table) == 50
    for ax, scheme in zip(figure.axes[2:6:3], figure5.SCHEMES, strict=True):
        (line,) = ax.collections[1:]
        rows = table[table.scheme == scheme]
        weighted = rows.estimator == "tilted"
        assert 0 < weighted.sum() < 25
        (level,) = line.get_paths()
        assert (level.vertices.min(), level.vertices.max()) <= (100, 100)
    text = (tmp_path / "figure5_statements.md").read_text(encoding="utf-8")
    assert "**Quick version: 5,000 networks per cell.**" in text
    assert "weighted samples" in text


def test_a_disagreement_fails(scripts, tmp_path, monkeypatch, capsys):
    figure5, module = scripts
    wrong = ob.sample("kaiming_normal", d=[10], l=[10], networks=20_000, seed=0)
    table = wrong.table()
    table["p_value"] = 1e-12
    monkeypatch.setattr(type(wrong), "table", lambda self: table)
    from obstruction.studies.verdict import agreement

    monkeypatch.setattr(type(wrong), "agreement", lambda self: agreement(table))
    monkeypatch.setattr(figure5.ob, "sample", lambda *given, **options: wrong)
    monkeypatch.setattr(figure5, "draw", lambda *given: None)
    monkeypatch.setattr(figure5.heatmaps, "save", lambda *given: None)
    monkeypatch.setattr(module, "report", lambda *given: "")
    assert figure5.main(["--out", str(tmp_path)]) == 1
    assert "DISAGREES" in capsys.readouterr().out


def test_the_page_on_figures_says_the_same(statements):
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    table = text.split("**What the paper says about it**")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert [verdict for _, verdict, _ in rows] == [one.verdict for one in statements]
    for (words, _, _), one in zip(rows, statements, strict=True):
        quoted = re.search("“([^”]+)”", words)[1].rstrip("”")
        assert quoted in one.words.replace("“", "").replace("”", "")
    numbers = [number for _, _, number in rows]
    edges = [found(statements, 1, name, "all d ≥ 100")[2] for name in ("Xavier", "Kaiming")]
    first = [re.search(r"from l = (\d+) on", edge)[1] for edge in edges]
    assert f"l ≥ {first[0]} (Xavier), l ≥ {first[1]} (Kaiming)" in numbers[0]
    limits = [found(statements, 1, name, "→ 0")[2][13:18] for name in ("Xavier", "Kaiming")]
    assert f"is {limits[0]} and {limits[1]}" in numbers[0]
    most = found(statements, 4, "Xavier", "P < 0.001")[2]
    assert f"10^−{re.search(r'-([0-9.]+),', most)[1]} for" in numbers[3]
    fast = [found(statements, 5, name, "10 times")[0] for name in ("Xavier", "Kaiming")]
    assert f"at {fast[0]} (Xavier) and {fast[1]} (Kaiming) of 100" in numbers[4]
    assert re.search(r"at most (\S+),", found(statements, 6, "Xavier", "20")[2])[1] in numbers[5]
    rise = [found(statements, 2, name, "exceeds")[0] for name in ("Xavier", "Kaiming")]
    assert rise == [11, 2]
    assert "929 cells against 197" in numbers[2]
