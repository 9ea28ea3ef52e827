#!/usr/bin/env bash
# PyTorch: Adam moves the key bias of an attention layer, whose exact gradient is zero.
#
# A key bias adds the same number to all scores of a query, and softmax does not see it. So its
# gradient is zero, and gradient flow keeps it. In float32 the gradient is rounding, some 1e-9. SGD
# leaves the bias as it is. Adam divides each gradient by its own size, so rounding becomes steps as
# long as all others, and the bias drifts although nothing depends on it.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy

"$work/venv/bin/python" - <<'PYTHON'
import sys

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
x, y = torch.randn(64, 6, 16), torch.randn(64, 6, 16)


def moved(make):
    torch.manual_seed(1)
    attention = torch.nn.MultiheadAttention(16, 2, batch_first=True)
    with torch.no_grad():
        attention.in_proj_bias.normal_(std=0.1)
    start = attention.in_proj_bias.detach().clone()
    optimizer, steepest = make(attention.parameters()), 0.0
    for _ in range(300):
        optimizer.zero_grad()
        (attention(x, x, x)[0] - y).square().mean().backward()
        steepest = max(steepest, float(attention.in_proj_bias.grad[16:32].abs().max()))
        optimizer.step()
    change = (attention.in_proj_bias.detach() - start).abs()
    return steepest, [float(part.max()) for part in change.split(16)]


print(f"torch {torch.__version__}")
found = {}
for name, make in (
    ("SGD", lambda p: torch.optim.SGD(p, lr=0.1)),
    ("Adam", lambda p: torch.optim.Adam(p, lr=1e-2)),
):
    steepest, (query, key, value) = moved(make)
    found[name] = key
    print(f"{name}: largest gradient of a key bias {steepest:.1e}, after 300 steps")
    print(f"  biases moved by at most: query {query:.1e}, key {key:.1e}, value {value:.1e}")
sys.exit(0 if found["SGD"] < 1e-6 and found["Adam"] > 1e-3 else 1)
PYTHON
