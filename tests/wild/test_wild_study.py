"""The study over the zoo, with small architectures in place of those of packages."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import framework

import obstruction as ob
from obstruction.reporting.wild.figure import figure
from obstruction.reporting.wild.page import page
from obstruction.reporting.wild.writing import write
from obstruction.studies.wild import ARCHITECTURES, Architecture
from obstruction.studies.wild.remedies import kept, remedy, scaled
from obstruction.studies.wild.study import chosen, study_wild

torch = framework("torch")
nn = torch.nn


def x(d=3):
    return lambda: torch.linspace(-1.0, 1.0, 8 * d).reshape(8, d)


def often():
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))


def never():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def always():
    """Both sides of each balance are single weights."""
    return nn.Sequential(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 1))


def gains():
    model = nn.Sequential(nn.Linear(3, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))
    nn.init.uniform_(model[3].weight, -(3**0.5), 3**0.5)
    return model


def shifted():
    """Weights with a mean have no exact value, though they can be drawn alone."""
    model = often()
    nn.init.normal_(model[0].weight, mean=0.3, std=0.1)
    return model


def fixed():
    torch.manual_seed(5)
    return often()


def read():
    model = often()
    assert model[0].weight.detach().isfinite().all()  # read, so that draws call the factory
    return model


def exact_often():
    return ob.exact.obstruction_probability("torch_linear", 3, 16)


ENTRIES = {
    "torch/often": (often, x(), exact_often),
    "torch/never": (never, x(), None),
    "torch/always": (always, x(1), None),
    "torch/gains": (gains, x(), None),
    "torch/shifted": (shifted, x(), None),
    "torch/fixed": (fixed, x(), None),
    "torch/read": (read, x(), exact_often),
}


def set_up(patched):
    """Put the toys into the zoo."""
    patched.setattr("obstruction.studies.wild.study.installed_version", lambda package: "9.9")
    for name, (factory, inputs, exact) in ENTRIES.items():
        one = Architecture(name, "torch", "9.9", "dense", factory, inputs, note="toy", exact=exact)
        patched.setitem(ARCHITECTURES, name, one)


@pytest.fixture(autouse=True)
def zoo(monkeypatch):
    set_up(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with its folder."""
    place = tmp_path_factory.mktemp("wild")
    with pytest.MonkeyPatch.context() as patched:
        set_up(patched)
        return study_wild(ENTRIES, networks=400, seed=1, out=place, remedies=True), place


def row(study, name):
    return study.table().set_index("architecture").loc[f"torch/{name}"]


def test_the_table(made):
    study, _ = made
    table = study.table()
    assert set(table["architecture"]) == set(ENTRIES)
    best = table["exact"].fillna(table["empirical"]).to_numpy()
    assert (np.diff(best) <= 1e-12).all()
    assert row(study, "always")["exact"] == 1.0
    assert row(study, "never")["weights"] == 0
    assert row(study, "often")["exact"] == pytest.approx(exact_often(), rel=1e-5)
    assert row(study, "read")["exact"] == exact_often()  # from the sizes
    assert row(study, "read")["way"].startswith("a random number or the state")
    assert row(study, "gains")["exact_share"] == pytest.approx(1.0 - 3**-0.5, rel=1e-6)
    assert row(study, "gains")["freezes"] == "3.weight (reads 64 channels)"
    assert row(study, "fixed")["same_start"]
    assert not row(study, "often")["same_start"]


def test_the_verdict_holds_all_counts_together(made):
    """Seeded; a false alarm in one of 1000 seeds."""
    study, _ = made
    assert study.agreement().agrees
    assert study.agreement().tests > 6
    (cell,) = study.studies["torch/often"].cells
    wrong = replace(cell, exact=4.0 * cell.exact, shares=(4.0 * cell.shares[0],))
    other = replace(study.studies["torch/often"], cells=(wrong,))
    planted = replace(study, studies={**study.studies, "torch/often": other})
    assert not planted.agreement().agrees
    worst = planted.by_hand()["torch/often"]
    assert worst[0] == pytest.approx(4.0 * worst[1], rel=1e-4)
    assert "torch/read" not in study.by_hand()  # there is the value from the sizes alone


def test_architectures_are_independent_of_each_other(made):
    study, _ = made
    alone = study_wild(["torch/often"], networks=400, seed=1)
    assert row(alone, "often")["obstructed"] == row(study, "often")["obstructed"]
    counts = study.studies["torch/often"].cells[0].counts
    others = study.studies["torch/read"].cells[0].counts
    assert counts.largest[0] != others.largest[0]


def test_changes_bring_the_probability_to_the_risk(made):
    study, _ = made
    table = study.table().set_index("architecture")
    assert set(study.remedies) == set(table.index[table["empirical"] > 0.01])
    assert {"torch/often", "torch/always", "torch/gains", "torch/read"} <= set(study.remedies)
    one = study.remedies["torch/often"]
    gain = ob.design.max_output_gain("torch_linear", 3, 16, risk=1e-3)
    assert one.factor == pytest.approx(gain, rel=1e-5)
    assert one.exact == pytest.approx(1e-3, rel=1e-4)
    assert one.tensors == ("2.weight",)
    assert one.networks == 3 * 400
    assert one.obstructed <= 7
    assert math.isnan(study.remedies["torch/always"].factor)
    # one of 64 weights may exceed 1 with probability 1e-3
    least = 3**-0.5 / (1.0 - 1e-3 / 64)
    assert study.remedies["torch/gains"].factor == pytest.approx(least, rel=1e-5)
    sampled = study.remedies["torch/read"]
    assert sampled.factor == pytest.approx(gain, rel=0.5)
    assert sampled.obstructed <= 0.01 * sampled.networks


def test_what_is_kept_is_not_done_again(made, monkeypatch):
    study, place = made
    assert len(kept(place)) == len(study.remedies)
    assert kept(place)["torch+often@9.9"] == study.remedies["torch/often"]

    def refused(*arguments, **options):
        raise AssertionError("sought again")

    monkeypatch.setattr("obstruction.studies.wild.study.remedy", refused)
    monkeypatch.setattr("obstruction.studies.factories.sampling_models.Architecture", refused)
    again = study_wild(ENTRIES, networks=400, seed=1, out=place, remedies=True)
    columns = ["architecture", "obstructed", "exact", "share", "factor", "obstructed_after"]
    pd.testing.assert_frame_equal(again.table()[columns], study.table()[columns])
    monkeypatch.setattr("obstruction.studies.wild.study.installed_version", lambda package: "10")
    with pytest.raises(AssertionError, match="sought again"):  # another version draws afresh
        study_wild(["torch/often"], networks=400, seed=1, out=place)
    monkeypatch.setattr("obstruction.studies.wild.study.installed_version", lambda package: "9.9")
    (place / "remedies.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"remedies\.json: damaged"):
        study_wild(ENTRIES, networks=400, seed=1, out=place, remedies=True)


def test_page_and_figure_tell_the_same(made, tmp_path):
    study, _ = made
    text = page(study, "wild.png")
    assert "7 architectures of 1 package, each" in text
    assert "is **agrees**" in text
    assert "all draws of these have the same weights in their balances: `torch/fixed`" in text
    assert "of which one is frozen in any case: `torch/always`" in text
    assert "## What to do about it" in text
    assert "no weight is alone on a side of a balance" in text
    files = write(study, tmp_path)
    assert [one.name for one in files] == ["wild.csv", "wild.md", "wild.png", "wild.pdf"]
    assert len(pd.read_csv(tmp_path / "wild.csv")) == len(ENTRIES)
    left = figure(study.table()).axes[0]
    names = [name for name in study.table()["architecture"] if name != "torch/never"]
    assert [one.get_text() for one in left.get_yticklabels()] == names
    again = tmp_path / "again"
    write(study, again)
    for one in files:
        assert one.read_bytes() == (again / one.name).read_bytes()


def test_models_of_all_frameworks_are_scaled():
    model = scaled(often, {"2.weight": 2}, 0.5)
    torch.manual_seed(0)
    one = model()[2].weight
    torch.manual_seed(0)
    assert torch.equal(one, 0.5 * often()[2].weight)
    jax = framework("jax")

    def pair(seed):
        params = {"b": jax.numpy.ones(2), "w": jax.random.normal(jax.random.key(seed), (3, 2))}
        return (lambda p, x: x @ p["w"] + p["b"]), params

    _, params = scaled(pair, {"w": 1}, 0.5)(seed=3)
    assert np.array_equal(params["w"], 0.5 * pair(3)[1]["w"])
    assert np.array_equal(params["b"], [1.0, 1.0])


def test_names_and_families():
    assert chosen("dense")[-len(ENTRIES) :] == list(ENTRIES)
    assert chosen("torch/often, torch/often,torch/read") == ["torch/often", "torch/read"]
    assert set(chosen("all")) == set(ARCHITECTURES)
    for wrong in ("", "birds", "torch/often,", "vision,TORCH/often"):
        with pytest.raises(ValueError, match=r"^zoo = .*: must be all, a family \(vision, rl"):
            chosen(wrong)


def test_wrong_arguments(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"^names: 'birds' is not in the zoo"):
        study_wild(["torch/often", "birds"])
    with pytest.raises(ValueError, match=r"^names: must hold at least one"):
        study_wild([])
    with pytest.raises(ValueError, match=r"^networks = 0"):
        study_wild(["torch/often"], networks=0)
    with pytest.raises(ValueError, match=r"^seed = -1"):
        study_wild(["torch/often"], seed=-1)
    monkeypatch.setattr("obstruction.studies.wild.study.installed_version", lambda package: None)
    with pytest.raises(ValueError, match=r"^torch: not installed; pip install 'obstruction\[wild"):
        study_wild(["torch/often"])


def test_large_architectures_have_fewer_draws(monkeypatch):
    one = replace(ARCHITECTURES["torch/often"], most=30)
    monkeypatch.setitem(ARCHITECTURES, "torch/often", one)
    study = study_wild(["torch/often", "torch/never"], networks=100)
    assert row(study, "often")["networks"] == 30
    assert "100 draws of each (30 of the large `torch/often`), seed 0" in page(study, "wild.png")
    assert row(study_wild(["torch/often"], networks=20), "often")["networks"] == 20


def test_an_architecture_that_fails_is_named(monkeypatch):
    def broken():
        raise RuntimeError("no such width")

    one = replace(ARCHITECTURES["torch/often"], factory=broken)
    monkeypatch.setitem(ARCHITECTURES, "torch/often", one)
    with pytest.raises(ValueError, match=r"^torch/often: no such width"):
        study_wild(["torch/often"], networks=3)


def test_a_law_without_an_exact_value_is_sampled():
    one = ARCHITECTURES["torch/shifted"]
    found = remedy(replace(one, factory=lambda: shifted()), networks=300, risk=0.02)
    assert 0.0 < found.factor < 1.0
    assert math.isnan(found.exact)


def test_the_smallest_change_needs_no_study():
    found = remedy(ARCHITECTURES["torch/often"], networks=50, risk=0.01)
    gain = ob.design.max_output_gain("torch_linear", 3, 16, risk=0.01)
    assert found.factor == pytest.approx(gain, rel=1e-5)
    assert found.networks == 50


def test_an_interruption_is_told_in_one_line(command, monkeypatch, tmp_path):
    def stopped():
        os.kill(os.getpid(), signal.SIGTERM)
        return often()

    one = replace(ARCHITECTURES["torch/often"], factory=stopped)
    monkeypatch.setitem(ARCHITECTURES, "torch/often", one)
    done = command("wild", "--zoo", "torch/often", "--out", str(tmp_path))
    assert done.code == 128 + signal.SIGTERM
    assert done.err.count("\n") == 1
    assert "the same command goes on" in done.err


def test_the_command(command, tmp_path):
    listed = command("wild", "--list", "--zoo", "torch/often,torch/never")
    assert [line.split()[:2] for line in listed.out.splitlines()] == [
        ["dense", "torch/often"],
        ["dense", "torch/never"],
    ]
    out = tmp_path / "wild"
    options = ("wild", "--zoo", "torch/often,torch/never", "--networks", "200", "--out", str(out))
    done = command(*options)
    assert (done.code, done.err) == (0, "")
    assert "torch/often: " in done.out
    assert "Written: " in done.out
    assert (out / "wild.md").exists()
    quiet = command(*options, "--quiet", "--no-remedies")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    for wrong in (("--zoo", "birds"), ("--networks", "0"), ("--seed", "-1"), ("--level", "2")):
        failed = command(*options, *wrong)
        assert failed.code == 2
        assert failed.err.count("\n") == 1
    more = command(*options, "--seed", "7")
    assert more.code == 2
    assert "seed = 7: " in more.err
    assert "holds draws of another seed" in more.err
