"""The zoo: its names, its versions, what it imports, and that its models can be drawn."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import obstruction as ob
from obstruction.wild import ARCHITECTURES, architecture, libraries
from obstruction.wild.architecture import FAMILIES, Zoo, installed_version
from obstruction.wild.examples import behind_gains, head
from obstruction.wild.versions import VERSIONS

os.environ.setdefault("KERAS_BACKEND", "jax")

PROJECT = Path(ob.__file__).parent.parent / "pyproject.toml"


def test_there_are_sixty_architectures_of_twelve_packages():
    """Sizes and variants of one architecture count once."""
    assert len({one.base for one in ARCHITECTURES.values()}) >= 60
    assert len({one.package for one in ARCHITECTURES.values()}) >= 12
    assert {one.family for one in ARCHITECTURES.values()} == set(FAMILIES)


def test_names_say_the_package_and_nothing_else_has_them():
    lists = [
        part for part in vars(sys.modules["obstruction.wild"]).values() if hasattr(part, "ZOO")
    ]
    zoos = [zoo for part in lists for zoo in vars(part).values() if isinstance(zoo, Zoo)]
    assert sum(map(len, zoos)) == len(ARCHITECTURES)
    for name, one in ARCHITECTURES.items():
        assert one.name == name
        assert re.fullmatch(rf"{one.package}/[a-z0-9_]+(-[a-z0-9_=]+)?", name)
        assert one.note
        assert one.loss in (None, "cross_entropy")


def test_a_name_is_given_once():
    zoo = Zoo("dense")
    zoo.add("keras/dense", lambda: None)(lambda: None)
    with pytest.raises(ValueError, match=r"keras/dense.*already"):
        zoo.add("keras/dense", lambda: None)
    with pytest.raises(ValueError, match="no pinned version of unheard_of"):
        zoo.add("unheard_of/dense", lambda: None)
    with pytest.raises(ValueError, match=r"family = 'birds': must be one of vision, rl"):
        Zoo("birds")


@pytest.mark.skipif(not PROJECT.exists(), reason="installed away from its project file")
def test_versions_are_those_of_the_extra():
    extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    pins = dict(one.split("==") for one in extras["optional-dependencies"]["wild"])
    assert pins == VERSIONS
    for one in ARCHITECTURES.values():
        assert one.version == pins[one.package]


def test_the_variant_is_no_part_of_the_architecture():
    one = ARCHITECTURES["stable-baselines3/sac_critic-one_layer"]
    assert one.base == "stable-baselines3/sac_critic"
    assert one.base == ARCHITECTURES["stable-baselines3/sac_critic"].base


def test_the_installed_version_is_compared_with_the_pinned_one():
    one = ARCHITECTURES["keras/dense"]
    here = dataclasses.replace(one, package="numpy", version=np.__version__.split("+")[0])
    assert here.installed == here.version
    assert here.is_pinned
    assert not dataclasses.replace(here, version="0.0.1").is_pinned
    gone = dataclasses.replace(one, package="surely-not-a-package")
    assert gone.installed is None
    assert not gone.is_pinned


def test_the_label_of_a_build_is_no_part_of_the_version(monkeypatch):
    monkeypatch.setattr(architecture.metadata, "version", lambda package: "2.13.0+cpu")
    assert installed_version("torch") == "2.13.0"


def test_importing_the_zoo_imports_no_framework():
    code = "import sys, obstruction.wild\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "obstruction.wild.vision" in loaded
    assert not loaded & {"torch", "torchvision", "transformers", "keras", "jax", "sklearn"}


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setattr(libraries, "_import_torchvision", lambda: None)
    name = next(name for name in ARCHITECTURES if name.startswith("timm/"))
    message = r"^timm is not installed: pip install 'obstruction\[wild\]'$"
    with pytest.raises(ImportError, match=message):
        ARCHITECTURES[name].factory()


def test_factories_take_nothing_but_a_seed():
    for one in ARCHITECTURES.values():
        names = inspect.signature(one.factory).parameters
        free = [name for name, given in names.items() if given.default is given.empty]
        assert free in ([], ["seed"]), one.name


def test_exact_values_are_probabilities():
    values = {name: one.exact() for name, one in ARCHITECTURES.items() if one.exact}
    assert all(0.0 <= value <= 1.0 for value in values.values())
    assert values["keras/dense"] == pytest.approx(0.9127861, abs=1e-6)
    assert values["torchvision/mnasnet0_5"] == 1.0


def test_weights_behind_gains_are_frozen_if_they_exceed_one():
    generator = np.random.default_rng(0)
    draws = 200_000
    uniform = generator.uniform(-1.5, 1.5, (2, draws))
    samples = {
        ("normal", 0.7): 0.7 * generator.standard_normal(draws),
        ("uniform", 1.5 / 3**0.5): uniform[0],
        ("triangular", 1.5 / 3**0.5): (uniform[0] - uniform[1]) / 2**0.5,
    }
    for (law, std), sample in samples.items():
        p = behind_gains(law, std, 1)()
        assert (abs(sample) > 1).mean() == pytest.approx(p, abs=5 * (p / draws) ** 0.5), law
        assert behind_gains(law, std, 3)() == pytest.approx(1 - (1 - p) ** 3)
    assert behind_gains("uniform", 0.3, 100)() == behind_gains("triangular", 0.3, 100)() == 0.0


def test_copies_of_a_head_are_independent():
    one = head("xavier_normal", 20, 20)()
    assert head("xavier_normal", 20, 20, copies=4)() == pytest.approx(1 - (1 - one) ** 4)
    assert head("torch_linear", 64, 64, copies=2)() == pytest.approx(
        2 * head("torch_linear", 64, 64)(), rel=1e-12
    )
    assert head("zero_output", 3, 4, copies=2)() == 0.0


CHEAP = {
    "torch-geometric/gcn": ("torch_geometric", "convs.1.lin.weight", 32),
    "stable-baselines3/ddpg_critic-one_layer": ("stable_baselines3", "qf0.2.weight", 64),
    "scikit-learn/mlp_regressor-d=3": ("sklearn", "2.weight", 100),
    "keras/dense": ("keras", None, 32),
    "flax/dense": ("flax", "params/layers_2/kernel", 32),
    "deepxde/pfnn": ("deepxde", "layers.2.0.weight", 80),
    "torchtuples/mlp_vanilla": ("torchtuples", "net.2.weight", 32),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", CHEAP)
def test_cheap_ones_are_drawn(name):
    """Those whose packages are here; PyTorch computes with the weights of scikit-learn."""
    pytest.importorskip("torch")
    module, tensor, weights = CHEAP[name]
    pytest.importorskip(module)
    one = ARCHITECTURES[name]
    study = ob.sample_model(
        one.factory,
        inputs=one.inputs,
        networks=200,
        seed=0,
        loss=one.loss,
        exact=one.exact() if one.exact else None,
    )
    assert study.table()["weights"].item() == weights
    if tensor is not None:  # Keras numbers its layers
        assert tensor in set(study.by_law()["tensor"])
    assert not study.table()["same_start"].item()
    if one.exact:
        assert study.agreement().verdict == "agrees"


def test_inputs_are_always_the_same():
    torch = pytest.importorskip("torch")
    for name in ("stable-baselines3/ddpg_critic", "torch-geometric/gcn", "transformers/t5"):
        first, second = (ARCHITECTURES[name].inputs() for _ in range(2))
        pairs = zip(
            *(one.values() if isinstance(one, dict) else one for one in (first, second)),
            strict=True,
        )
        assert all(torch.equal(a, b) for a, b in pairs)
    assert math.prod(ARCHITECTURES["torchvision/resnet18"].inputs().shape) <= 2 * 3 * 64 * 64
