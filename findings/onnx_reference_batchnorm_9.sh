#!/usr/bin/env bash
# onnx: the reference evaluator computes BatchNormalization before operator set 14 as training does.
#
# A node with a single output normalises with the mean and variance that it is given (operator sets 9
# and 13; training is told by five outputs). The evaluator mixes them with those of the batch by the
# attribute momentum, which has a default, so every exported network with batch normalisation gives
# other outputs. It is right from operator set 14 on, and onnxruntime is right for all.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0

cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

x = np.array([[1.0, 2.0], [3.0, 10.0]], np.float32)
values = {"scale": [1, 1], "bias": [0, 0], "mean": [0, 0], "variance": [1, 1]}
apart = {}
for opset in (9, 13, 15):
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *values], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2])],
        [numpy_helper.from_array(np.float32(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    (runtime,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    apart[opset] = [float(np.abs(one - x).max()) for one in (reference, runtime)]
    print(f"operator set {opset}: from (x - 0) / sqrt(1 + 1e-5) the reference evaluator differs by "
          f"{apart[opset][0]:.2g}, onnxruntime by {apart[opset][1]:.2g}")
as_seen = all(apart[n][0] > 1.0 and apart[n][1] < 1e-3 for n in (9, 13)) and apart[15][0] < 1e-3
print(f"onnx {onnx.__version__}: {'as described' if as_seen else 'changed'}")
sys.exit(not as_seen)
PYTHON
