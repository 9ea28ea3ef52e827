#!/usr/bin/env bash
# onnx2fx: a converted Gather with a single negative index fails when it is run.
#
# ONNX allows indices from -s to s - 1, and exporters write x[:, -1] as such a Gather. The conversion
# calls torch.index_select, which refuses -1. So every recurrent network that reads its last step fails.
# A list of indices works, because that branch indexes with brackets.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnx2fx==0.0.1

cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx2fx import convert

x = np.arange(6, dtype=np.float32).reshape(2, 3)
said = {}
for index in (-1, [-1]):
    graph = helper.make_graph(
        [helper.make_node("Gather", ["x", "index"], ["y"], axis=1)],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(index), "index")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    wanted = ReferenceEvaluator(model).run(None, {"x": x})[0]
    try:
        found = convert(model)(torch.from_numpy(x)).numpy()
        said[str(index)] = "right" if np.array_equal(found, wanted) else "wrong"
    except Exception as error:
        said[str(index)] = f"{type(error).__name__}: {error}"
    print(f"index {index}: reference {wanted.tolist()}, onnx2fx {said[str(index)]}")
as_seen = said["[-1]"] == "right" and "Error" in said["-1"]
print("onnx2fx 0.0.1:", "as described" if as_seen else "changed")
sys.exit(not as_seen)
PYTHON
