"""The script about critics, with critics of its own in place of those of stable-baselines3."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from conftest import framework

torch = framework("torch")
nn = torch.nn

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "scripts" / "critics.py").exists(), reason="installed away from its scripts"
)


class Critics(nn.Module):
    """Two networks of observations and an action."""

    def __init__(self, width, inputs):
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, 1))
            for _ in range(2)
        )

    def forward(self, seen, acted):
        return tuple(one(torch.cat([seen, acted], dim=1)) for one in self.networks)


@pytest.fixture
def critics(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import critics

    def critic(width, observations):
        return Critics(width, observations + 1)

    monkeypatch.setattr(critics, "critic", critic)
    monkeypatch.setattr(critics, "WIDTHS", (4, 8))
    monkeypatch.setattr(critics, "OBSERVATIONS", (1, 2))
    monkeypatch.setattr(critics, "version", lambda name: "0")
    return critics


def test_the_files_it_writes(critics, tmp_path, capsys):
    assert critics.main(["--networks", "300", "--out", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["critics.csv", "critics.md", "critics.pdf", "critics.png"]
    assert "The verdict is **agrees**: 12 tests" in (tmp_path / "critics.md").read_text("utf-8")
    table = pd.read_csv(tmp_path / "critics.csv")
    assert table["weights"].tolist() == [8, 8, 16, 16]
    assert capsys.readouterr().out.startswith("AGREES")


def test_a_wrong_exact_value_is_noticed(critics, monkeypatch, tmp_path):
    monkeypatch.setattr(critics, "exact", lambda width, observations: 0.05)
    assert critics.main(["--networks", "300", "--out", str(tmp_path)]) == 1
