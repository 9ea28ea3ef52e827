#!/usr/bin/env bash
# Keras: a Sequential model that holds one layer twice is saved with that layer once.
#
# The live model applies the layer twice. Its description, from which the .keras format restores a
# model, lists the layer once, so that the loaded model lacks a layer and computes something else.
# Neither saving nor loading warns. clone_model keeps both places.
#
# Exits 0 if this is still so, and 1 if it has changed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2

cd "$work"
KERAS_BACKEND=jax "$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import keras
import numpy as np

keras.utils.set_random_seed(0)
twice = keras.layers.Dense(4, "relu", name="twice")
model = keras.Sequential([keras.Input((4,)), twice, keras.layers.Dense(4, name="middle"), twice])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.save("model.keras")
    loaded = keras.saving.load_model("model.keras")
x = np.ones((1, 4), dtype="float32")
live, restored = [layer.name for layer in model.layers], [layer.name for layer in loaded.layers]
difference = float(np.abs(model.predict(x, verbose=0) - loaded.predict(x, verbose=0)).max())
said = [str(one.message) for one in caught if "twice" in str(one.message)]

print(f"keras {keras.__version__}")
print(f"layers of the live model:    {live}")
print(f"layers of the loaded model:  {restored}")
print(f"warnings that name a layer:  {said}")
print(f"largest difference of outputs: {difference:.4g}")
as_seen = live.count("twice") == 2 and restored.count("twice") == 1 and not said
sys.exit(0 if as_seen and difference > 0.1 else 1)
PYTHON
