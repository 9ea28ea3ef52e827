"""Which models are recognised, and what is said about others and about inputs that do not fit."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.conservation.live.opening import open_model


def refusal(model: object, inputs: object = None) -> str:
    with pytest.raises((TypeError, ValueError)) as caught:
        open_model(model, inputs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 800
    return message


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        (3, "model = 3 of type int: must be a module of PyTorch, a model of Keras"),
        ("net.pt", "a file cannot be run, load the model first"),
        (pathlib.Path("net.pt"), "a file cannot be run, load the model first"),
        (len, "a function needs its parameters, give the pair (function, params)"),
        ((np.ones(3), len), "a pair must hold a function and its parameters, in this order"),
    ],
)
def test_what_is_no_model(model, hint):
    message = refusal(model, np.ones(3))
    assert hint in message
    assert "(lambda params, x: net.apply(params, x, train=True), params)" in message


def test_modules_without_their_parameters():
    framework("jax")
    nn, haiku = framework("flax.linen"), framework("haiku")
    assert "give the pair (module, variables)" in refusal(nn.Dense(3), np.ones(3))
    network = haiku.transform(lambda x: haiku.Linear(2)(x))
    assert "give the pair (transformed, params)" in refusal(network, np.ones(3))


def test_missing_inputs_come_with_an_example():
    torch = framework("torch")
    nn = torch.nn
    for model, example in (
        (nn.Sequential(nn.Linear(7, 2)), "torch.randn(16, 7)"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)), "torch.randn(4, 3, 64, 64)"),
        (nn.Embedding(9, 2), "torch.randint(9, (4, 16))"),
        (nn.LSTM(6, 2), "torch.randn(16, 4, 6)"),
    ):
        assert f"for instance inputs={example}; inputs may be" in refusal(model)
        # the example does what it says
        live = open_model(model, eval(example, {"torch": torch}))
        assert live.outputs(live.parameters, live.inputs, seed=0)
    framework("jax")
    pair = lambda params, x: x @ params, np.ones((2, 2))
    assert "where apply(params, x) is how you call the model" in refusal(pair)


def test_inputs_that_do_not_fit_a_module():
    torch = framework("torch")
    model = torch.nn.Linear(7, 2)
    x = torch.ones(3, 7)
    x[1, 2] = torch.inf
    assert refusal(model, x).startswith("inputs[1, 2] = inf: inputs must be finite")
    assert "inputs of shape (3, 6). RuntimeError: mat1 and mat2" in refusal(model, torch.ones(3, 6))
    assert "unexpected keyword argument 'x'" in refusal(model, {"x": torch.ones(3, 7)})
    assert "holds no array" in refusal(model, "text")
    assert open_model(model, {"input": torch.ones(3, 7)}).framework == "PyTorch"


def test_no_framework_is_imported_for_the_models_of_another():
    framework("torch")
    code = (
        "import sys, torch; from obstruction.conservation.live.opening import open_model;"
        "open_model(torch.nn.Linear(2, 1), torch.ones(3, 2));"
        "print([name for name in ('jax', 'keras', 'flax', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("training", [None, 1, "yes"])
def test_training_is_true_or_false(training):
    torch = framework("torch")
    with pytest.raises(ValueError, match=f"^training = {training!r}: must be True or False"):
        ob.conservation_laws(torch.nn.Linear(3, 1), torch.ones(4, 3), training=training)


def test_the_audit_of_a_pair_asks_for_inputs():
    framework("jax")
    with pytest.raises(ValueError, match=r"^inputs: .*inputs=x, where apply\(params, x\)"):
        ob.audit((lambda params, x: x @ params["w"], {"w": np.ones((3, 1))}))
