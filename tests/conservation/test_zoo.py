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
