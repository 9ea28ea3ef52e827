"""Real architectures: the laws that are reported, against those of an independent search.

`scripts/zoo.py` does the same for the whole zoo.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from conftest import framework

import obstruction as ob

torch = framework("torch")

from judging import judged  # noqa: E402, needs PyTorch
from zoo import ZOO  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # those of the packages

LAWFUL = (
    "torchvision/squeezenet1_1",
    "transformers/llama",
    "transformers/t5",
    "transformers/vit",
    "sb3/ppo_nature_cnn",
    "sb3/sac_critic",
    "pyg/gat_v2",
    "pyg/edge_cnn",
    "rtdl/ft_transformer",
    "torchtuples/mlp_vanilla",
    "deepxde/pfnn_relu",
    "torchgan/dcgan_discriminator",
)
LAWLESS = ("deepxde/fnn_tanh", "ncps/cfc")


def built(name: str) -> tuple[Any, Any]:
    """Return a model of the zoo and its inputs; skip the test if its package is missing.

    With ``REQUIRED_FRAMEWORKS="zoo"`` in the environment the test fails instead.
    """
    if "zoo" in os.environ.get("REQUIRED_FRAMEWORKS", "").split():
        return ZOO[name].build()
    try:
        return ZOO[name].build()
    except ImportError as error:
        pytest.skip(f"could not import {error.name}")


@pytest.mark.parametrize("name", LAWFUL)
def test_balances_of_real_architectures(name):
    model, inputs = built(name)
    laws = ob.conservation_laws(model, inputs=inputs)
    judgement = judged(model, inputs, laws)
    assert judgement.channels > 0
    assert judgement.covered >= 0.95 * judgement.channels, judgement.missed
    assert not judgement.refuted


@pytest.mark.parametrize("name", LAWLESS)
def test_architectures_without_balances(name):
    model, inputs = built(name)
    report = ob.audit(model, inputs=inputs)
    assert len(report.laws) == 0
    assert report.unreached == ()  # gradients reach, and refute, everything
    judgement = judged(model, inputs, report.laws)
    assert judgement.channels == 0


def test_channels_of_a_residual_network_by_hand():
    model, inputs = built("torchvision/resnet18")
    laws = ob.conservation_laws(model, inputs=inputs)
    # inside the 8 blocks, and one stream for each of 4 stages; its first has that of the stem
    inside = 2 * (64 + 128 + 256 + 512)
    assert laws.counts["balance"] == inside + 64 + 128 + 256 + 512 == 2880
    # every filter in front of a batch normalisation keeps its norm
    filters = sum(m.out_channels for m in model.modules() if isinstance(m, torch.nn.Conv2d))
    assert laws.counts["scale"] == filters == 4800
    assert np.isfinite([law.change for law in laws]).all()


def test_weights_behind_gains_of_one_are_frozen():
    model, inputs = built("torchvision/mnasnet1_0")
    torch.manual_seed(0)
    model.classifier[1] = head = torch.nn.Linear(1280, 1)
    torch.nn.init.kaiming_uniform_(head.weight, mode="fan_out", nonlinearity="sigmoid")
    torch.nn.init.zeros_(head.bias)  # as torchvision draws it: between -3^(1/2) and 3^(1/2)
    frozen = ob.audit(model, inputs=inputs).frozen
    assert set(frozen["tensor"]) == {"classifier.1.weight"}
    gain, offset = model.layers[15].weight, model.layers[15].bias
    expected = (head.weight[0] ** 2 > gain**2 + offset**2).nonzero().flatten()
    assert sorted(column for _, column in frozen["position"]) == expected.tolist()
    assert abs(len(expected) - 1280 * (1 - 3**-0.5)) < 60  # 541, three standard deviations 53


def test_weights_behind_one_bias_are_frozen():
    model, inputs = built("deepctr/dcn")
    frozen = ob.audit(model, inputs=inputs).frozen
    assert set(frozen["tensor"]) == {"dnn_linear.weight"}
    last = model.dnn.linears[-1]
    width = last.weight.shape[0]
    head = model.dnn_linear.weight[0, -width:]
    balance = (last.weight**2).sum(1) + last.bias**2 - head**2
    first = model.dnn_linear.weight.shape[1] - width
    expected = (balance < 0.0).nonzero().flatten() + first
    assert sorted(column for _, column in frozen["position"]) == expected.tolist()
    assert len(expected) > 0
