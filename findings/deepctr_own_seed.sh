#!/usr/bin/env bash
# deepctr-torch 0.3.0 with PyTorch 2.13.0: building a model seeds PyTorch's global generator.
#
# The constructors of models take a seed, 1024 by default, and pass it to torch.manual_seed. So two
# models have the same weights whatever the user seeded before, and the random numbers that the
# program draws afterwards are the same, too. A loop over seeds that trains such a model repeats
# one start, and everything else that is random from then on, unless each seed is passed on.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 deepctr-torch==0.3.0 requests==2.32.5
cat > "$work/look.py" <<'PYTHON'
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import DCN
from importlib.metadata import version

print("deepctr-torch", version("deepctr-torch"), "torch", torch.__version__)
columns = [SparseFeat("kind", 10, 4), DenseFeat("size", 1)]
heads, later = [], []
for seed in (1, 2, 3):
    torch.manual_seed(seed)
    before = torch.rand(1).item()
    model = DCN(columns, columns, device="cpu")
    heads.append(model.dnn_linear.weight.detach().clone())
    later.append(torch.rand(3).tolist())
    print(f"seed {seed}: before {before:.4f}, head {heads[-1][0, :3].tolist()}, later {later[-1]}")
same = all(torch.equal(heads[0], one) for one in heads) and later[0] == later[1] == later[2]
print("the same weights and the same later numbers for all seeds:", same)
raise SystemExit(0 if same else 1)
PYTHON
"$work/venv/bin/python" -W ignore "$work/look.py" 2>/dev/null
