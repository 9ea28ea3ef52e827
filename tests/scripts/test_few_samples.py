"""The script about few training samples: its files, its exact values, and faults it notices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import framework

torch = framework("torch")
framework("sklearn")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "scripts" / "few_samples.py").exists(), reason="installed away from its scripts"
)


@pytest.fixture
def few_samples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import few_samples

    threads = torch.get_num_threads()
    yield few_samples
    torch.set_num_threads(threads)


def test_the_files_it_writes(few_samples, tmp_path, capsys):
    assert few_samples.main(["--quick", "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(few_samples.FILES)
    page = (tmp_path / "few_samples.md").read_text("utf-8")
    assert "The verdict is **agrees**: 18 tests" in page
    assert "All 1,797 images span 61 of the 64 dimensions" in page
    table = pd.read_csv(tmp_path / "few_samples.csv")
    assert table["data_rank"].tolist() == [1, 4, 10, 25] * 4
    normal = table["initialisation"] == "Kaiming normal"
    assert np.allclose(table["exact"][normal], table["normal"][normal], rtol=1e-12, atol=0.0)
    assert table["exact"][~normal].isna().all()
    assert capsys.readouterr().out.startswith("AGREES")


def test_the_number_of_inputs_in_place_of_the_rank_is_noticed(few_samples, monkeypatch, tmp_path):
    """A planted fault: the exact value of all inputs."""

    def wrong(width, images):
        return float(few_samples.normal_probability(few_samples.INPUTS, few_samples.INPUTS, width))

    monkeypatch.setitem(few_samples.INITIALISATIONS, "Kaiming normal", (few_samples.kaiming, wrong))
    monkeypatch.setattr(few_samples, "QUICK_NETWORKS", 20)
    assert few_samples.main(["--quick", "--out", str(tmp_path)]) == 1


def test_probabilities_of_larger_images(few_samples):
    """784 inputs, 128 neurons, 30 samples: 0.989 (sampled by other code); all inputs: 1.7e-25."""
    assert few_samples.normal_probability(30, 784, 128) == pytest.approx(0.989, abs=5e-4)
    assert few_samples.on_all(784, 128) == "1.7e-25"
    assert few_samples.on_all(64, 16) == "2.7e-03"
    assert few_samples.on_all(3072, 2048) == "8.1e-340"
    rank = few_samples.most(784, 128, 0.5)
    assert few_samples.normal_probability(rank, 784, 128) >= 0.5
    assert few_samples.normal_probability(rank + 1, 784, 128) < 0.5
