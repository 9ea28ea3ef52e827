"""The script that trains MNASNet from a frozen head, on a narrow network and few images."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import framework

torch = framework("torch")
framework("torchvision")
framework("sklearn")

ROOT = Path(__file__).parents[2]
ALPHA, IMAGES = 0.1, 12

pytestmark = pytest.mark.skipif(
    not (ROOT / "scripts" / "mnasnet_head.py").exists(), reason="installed away from its scripts"
)


@pytest.fixture(scope="module")
def script():
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import mnasnet_head

        torch.set_num_threads(mnasnet_head.THREADS)
        yield mnasnet_head
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def laws(script):
    return script.head_laws(ALPHA)


@pytest.fixture
def data(script):
    return script.digits(0, IMAGES)


@pytest.fixture
def model(script):
    return script.network(0, ALPHA)


def test_the_images(script, data):
    assert data.x.shape == (IMAGES, 3, 32, 32)
    assert len(data.x) + len(data.x_test) == 183 + 174  # the threes and eights of the package
    assert data.x.mean().abs() < 0.05
    assert set(data.y_test.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(data.x, script.digits(0, IMAGES).x)
    assert not torch.equal(data.x, script.digits(1, IMAGES).x)


def test_what_is_frozen_at_each_start(script, model, laws, data):
    head = model.get_parameter(script.HEAD).detach().clone()
    assert 0.98 * script.BOUND < head.abs().max() <= script.BOUND
    (law,) = laws
    assert {term.tensor for term in law.terms} == {
        script.HEAD,
        "layers.15.weight",
        "layers.15.bias",
    }
    outputs = model(data.x).detach()

    def frozen(changed):
        found = script.present(changed, laws).frozen_scalars.frozen
        return {one.position for one in found}

    large = {(0, int(k)) for k in torch.nonzero(head[0].abs() > 1.0)}
    assert frozen(script.shipped(model, laws, data)) == large
    assert 450 < len(large) < 630

    other = script.rebalanced(model, laws, data)
    assert frozen(other) == set()
    changed = (other.get_parameter(script.HEAD) != head)[0]
    assert {(0, int(k)) for k in torch.nonzero(changed)} == large
    torch.testing.assert_close(other(data.x), outputs, rtol=1e-3, atol=1e-3)

    other = script.repaired(model, laws, data)
    assert frozen(other) == set()
    torch.testing.assert_close(other(data.x), script.FACTOR * outputs, rtol=1e-3, atol=1e-3)
    with torch.no_grad():  # no larger factor would do for every draw
        other.get_parameter(script.HEAD).mul_(1.01)
    assert frozen(other)


def test_the_balances_hold_with_dropout(script):
    from torchvision.models import MNASNet

    torch.manual_seed(0)
    model = MNASNet(ALPHA, num_classes=1, dropout=0.5).double()
    x = torch.randn(8, 3, 32, 32, dtype=torch.float64)
    model(x).square().sum().backward()
    gain, offset, head = (
        model.get_parameter(name) for name in ("layers.15.weight", "layers.15.bias", script.HEAD)
    )
    written, read = gain * gain.grad + offset * offset.grad, (head * head.grad)[0]
    assert read.abs().median() > 1e-6
    torch.testing.assert_close(written, read, rtol=1e-9, atol=1e-9)


class Planted(torch.optim.SGD):
    """Gradient descent that turns the sign of two weights of the head by hand."""

    turned = ()
    scale = 1.0

    def step(self, closure=None):
        super().step(closure)
        for parameter in self.param_groups[0]["params"]:
            if parameter.shape == (1, 1280):
                with torch.no_grad():
                    parameter[0, self.turned] *= -self.scale
        self.turned = []


def test_small_steps_leave_frozen_signs_and_planted_ones_are_seen(script, model, laws, data):
    head = model.get_parameter(script.HEAD).detach()[0].abs()

    def run(turned, scale=1.0):
        fresh = copy.deepcopy(model)
        update = Planted(fresh.parameters(), lr=1e-3)
        update.turned, update.scale = turned, scale
        return script.train(fresh, laws, data, update, steps=4)

    plain = run([])
    assert plain["frozen"] == int((head > 1.0).sum())
    assert plain["frozen"] + plain["free"] == 1280
    assert plain["frozen_crossed"] == 0
    assert plain["drift"] < 1e-5
    assert plain["moved"] > 0.0
    assert len(plain["losses"]) == 5
    assert plain["losses"][0] != plain["losses"][-1]

    turned = [int(head.argmax()), int((head - 0.5).abs().argmin())]  # one is frozen, one is not
    planted = run(turned)
    assert planted["frozen_crossed"] == 1
    assert planted["free_crossed"] == plain["free_crossed"] + 1
    assert planted["moved"] > 1.9 * head.max()
    planted = run(turned, scale=0.5)
    assert planted["frozen_crossed"] == 1
    assert planted["drift"] > 0.1  # the weight is no longer of the size that its balance demands


def test_a_run_is_written_continued_and_the_same_again(script, laws, monkeypatch, tmp_path, capsys):
    out, kept = tmp_path / "out", tmp_path / "kept"
    monkeypatch.setattr(script, "head_laws", lambda alpha: laws)  # to find them takes seconds
    monkeypatch.setattr(script, "QUICK", replace(script.QUICK, steps=2))
    monkeypatch.setattr(script, "RATES", {"gradient descent": (1e-3,), "Adam": (1e-3,)})
    words = ["--quick", "--kept", str(kept), "--out", str(out)]
    assert script.main(words) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(script.FILES)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    table = pd.read_csv(out / "mnasnet_head.csv")
    assert len(table) == 2 * 2 * 3
    assert (table.loc[table["start"] == "shipped", "frozen"] > 400).all()
    assert (table.loc[table["start"] != "shipped", "frozen"] == 0).all()
    page = first["mnasnet_head.md"].decode()
    assert f"torchvision {framework('torchvision').__version__.partition('+')[0]}" in page

    path = kept / "trainings.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 1 + 4 + len(table)
    path.write_text("".join(lines[:-2]), encoding="utf-8")  # as if killed before the last two
    capsys.readouterr()
    assert script.main(words) == 0
    assert capsys.readouterr().out.count(": loss ") == 2
    again = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("mnasnet_head.csv", "mnasnet_head.md"):
        assert again[name] == first[name]
    assert path.read_text(encoding="utf-8") == "".join(lines)

    head = json.loads(lines[0])
    path.write_text(json.dumps(head | {"steps": 3}) + "\n", encoding="utf-8")
    assert script.main(words) == 2
    assert "trainings of other settings" in capsys.readouterr().err


# --- the report, on made-up trainings ---------------------------------------------------------


@pytest.fixture
def records(script):
    """Return trainings in which only the repaired start differs, and one frozen sign crosses."""
    rng = np.random.default_rng(0)
    made = []
    for optimiser in script.OPTIMISERS:
        for seed in range(20):
            for start in script.STARTS:
                factor = 0.5 if start == "repaired" else 1.0 + 0.01 * rng.standard_normal()
                frozen = 540 if start == "shipped" else 0
                crossed = int(frozen > 0 and seed == 3 and optimiser == "Adam")
                losses = [factor * (seed + 1.0), 0.0]
                told = (1.0, factor, 0.8, frozen, 1280 - frozen, crossed, 7, 0.1, 1e-6)
                made.append(script.Record(optimiser, start, 1e-3, seed, losses, *told))
    return made


def test_comparisons_find_what_differs_and_nothing_else(script, records):
    found = script.reporting.tests(records)
    assert len(found) == 20
    different = found[found["adjusted"] <= script.reporting.LEVEL]
    assert set(different["start"]) == {"repaired"}
    assert set(different["measure"]) == {"mean_loss", "test_loss"}
    row = different.iloc[0]
    assert (row["lower"], row["higher"], row["p"]) == (20, 0, pytest.approx(2 * 0.5**20))


def test_the_page_tells_crossings(script, records):
    told = script.facts(script.QUICK) | {"seeds": 20}
    tried = {(name, 1e-3): 1.0 for name in script.OPTIMISERS}
    rates = dict.fromkeys(script.OPTIMISERS, 1e-3)
    page = script.reporting.page(records, rates, tried, told, quick=False)
    adam = "**Adam**: of 10,800 frozen weights of the shipped starts 1 crossed zero, of 14,800 "
    assert adam in page
    assert "no difference seen in" in page
    table = script.reporting.table(records)
    assert table["loss_1"].tolist() == [r.train_loss for r in records]
    assert set(asdict(records[0])) - {"losses"} <= set(table.columns)


# --- what is committed ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def committed():
    return pd.read_csv(ROOT / "figures" / "mnasnet_head.csv")


def test_the_committed_table_is_that_of_the_page(script, committed):
    page = (ROOT / "figures" / "mnasnet_head.md").read_text(encoding="utf-8")
    settings = script.Settings()
    assert len(committed) == 2 * 3 * settings.seeds
    for name, of_optimiser in committed.groupby("optimiser"):
        old = of_optimiser[of_optimiser["start"] == "shipped"]
        assert (old["frozen"] / 1280).mean() == pytest.approx(1 - 3**-0.5, abs=0.01)
        frozen, crossed = old["frozen"].sum(), old["frozen_crossed"].sum()
        told = f"**{name}**: of {frozen:,} frozen weights of the shipped starts {crossed:,} crossed"
        assert told in page
        assert (of_optimiser.loc[of_optimiser["start"] != "shipped", "frozen"] == 0).all()
