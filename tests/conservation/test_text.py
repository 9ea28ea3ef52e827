"""Laws as text."""

from __future__ import annotations

import re

from conftest import framework

import obstruction as ob


def test_norms_of_blocks_drift_by_eps_and_other_laws_have_a_violation():
    torch = framework("torch")
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=1e-3), nn.ReLU(), nn.Linear(4, 2))
    laws = ob.conservation_laws(net, inputs=torch.randn(8, 3))
    lines = {line.split()[0]: line for line in str(laws).splitlines()[1:]}
    assert set(lines) == {"balance", "scale", "shift"}
    (law,) = (law for law in laws if law.kind == "scale")
    assert lines["scale"].endswith(f"drift by eps {law.violation.max():.2g}")
    assert 1e-4 < law.violation.max() < 0.1  # eps over a variance, at the actual parameters
    assert "violation" not in lines["scale"]
    assert re.search(r"violation 1e-\d+$", lines["balance"])
    assert "drift" not in lines["balance"] + lines["shift"]
