#!/usr/bin/env bash
# PyTorch and JAX: four ways to write ReLU, and three different gradients at exactly zero.
#
# Networks that start with a layer of zeros are decided by it: where the gradient at zero is 0, the
# layer is dead and stays so; where it is 1/2 or 1, it learns. torch.relu and jax.nn.relu have 0,
# torch.maximum and jax.numpy.maximum share the gradient between equal arguments, and
# torch.clamp(min=0) passes all of it, while jax.numpy.clip passes half.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy jax==0.10.2

cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import torch

zero = torch.zeros(())
ways = {
    "torch.relu": torch.relu,
    "torch.maximum": lambda x: torch.maximum(x, zero),
    "torch.clamp": lambda x: torch.clamp(x, min=0.0),
    "jax.nn.relu": jax.nn.relu,
    "jax.numpy.maximum": lambda x: jnp.maximum(x, 0.0),
    "jax.numpy.clip": lambda x: jnp.clip(x, min=0.0),
}
found = {}
for name, relu in ways.items():
    if name.startswith("torch"):
        x = torch.zeros((), requires_grad=True)
        (gradient,) = torch.autograd.grad(relu(x), x)
    else:
        gradient = jax.grad(relu)(0.0)
    found[name] = float(gradient)
    print(f"gradient of {name} at 0: {found[name]:g}")
as_seen = list(found.values()) == [0.0, 0.5, 1.0, 0.0, 0.5, 0.5]
print(f"torch {torch.__version__}, jax {jax.__version__}: {'as described' if as_seen else 'changed'}")
sys.exit(not as_seen)
PYTHON
