"""The script that studies the zoo, with six real architectures."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
from conftest import framework

torch = framework("torch")

from compiled_parts import import_without_compiled_parts  # noqa: E402, needs PyTorch

from obstruction.wild import ARCHITECTURES  # noqa: E402

REQUIRED = os.environ.get("REQUIRED_FRAMEWORKS", "").split()
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # those of the packages
    pytest.mark.skipif(
        not (ROOT / "scripts" / "wild.py").exists(), reason="installed away from its scripts"
    ),
]


def test_a_quick_study_of_six(monkeypatch, tmp_path, capsys):
    """Seeded; a false alarm in one of 1000 seeds."""
    import_without_compiled_parts()
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import wild

    for name in wild.QUICK:
        if ARCHITECTURES[name].installed is None and "zoo" not in REQUIRED:
            pytest.skip(f"{ARCHITECTURES[name].package} is not installed")
    kept, out = tmp_path / "kept", tmp_path / "out"
    assert wild.main(["--quick", "--kept", str(kept), "--out", str(out)]) == 0
    table = pd.read_csv(out / "wild.csv").set_index("architecture")
    assert set(table.index) == set(wild.QUICK)
    head = table.loc["torchvision/mnasnet0_5"]
    assert head["exact"] == 1.0
    assert 0.3 < head["exact_share"] < 0.45
    assert head["way"] != head["way"]  # empty: only weights in balances were drawn
    assert table.loc["deepctr-torch/dcn", "same_start"]
    assert table.loc["stable-baselines3/ppo_value-one_layer_d=3", "exact_share"] == pytest.approx(
        0.0890, abs=1e-4
    )
    done = capsys.readouterr().out
    assert "smallest change" in done
    assert wild.main(["--quick", "--kept", str(kept), "--out", str(tmp_path / "again")]) == 0
    assert "smallest change" not in capsys.readouterr().out
    first, second = (place / "wild.csv" for place in (out, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()
