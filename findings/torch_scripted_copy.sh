#!/usr/bin/env bash
# PyTorch: the parameters of a deep copy of a scripted module are results, not leaves.
#
# Scripting and tracing give modules whose own parameters are leaves. Those of copy.deepcopy are
# results of a clone of them: their gradients stay empty after backward(), without an error, and an
# optimiser refuses them. If their data are replaced by data in double precision, their gradients
# still have the single precision of the parameters that were copied. A copy of the module from
# which the scripted one was made has leaves.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy

cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import copy
import sys

import torch
from torch import nn

torch.manual_seed(0)
plain = nn.Linear(3, 1)
x = torch.ones(2, 3)
print(f"torch {torch.__version__.partition('+')[0]}")
as_seen = True
for name, module in (("scripted", torch.jit.script(plain)), ("traced", torch.jit.trace(plain, x))):
    twin = copy.deepcopy(module)
    leaves = [p.is_leaf for p in module.parameters()], [p.is_leaf for p in twin.parameters()]
    twin(x).sum().backward()
    gradients = [p.grad for p in twin.parameters()]
    try:
        torch.optim.SGD(twin.parameters(), lr=0.1)
        said = "nothing"
    except ValueError as error:
        said = str(error)
    for parameter in twin.parameters():
        parameter.data = parameter.data.double()
    kinds = torch.autograd.grad(twin(x.double()).sum(), list(twin.parameters()))
    kinds = [str(one.dtype) for one in kinds]
    print(f"{name}: leaves {leaves[0]}, in a copy {leaves[1]}, gradients there {gradients}")
    print(f"  an optimiser says: {said}")
    print(f"  gradients after the data were widened to double: {kinds}")
    as_seen &= leaves == ([True, True], [False, False]) and gradients == [None, None]
    as_seen &= "non-leaf" in said and kinds == ["torch.float32", "torch.float32"]
leaf = copy.deepcopy(plain).weight.is_leaf
print(f"a copy of the module itself has leaves: {leaf}")
sys.exit(0 if as_seen and leaf else 1)
PYTHON
