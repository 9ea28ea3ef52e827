"""PyTorch modules in wrappers, with attributes of libraries, and with computed weights."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction import models
from obstruction.auditing.report import Report
from obstruction.models.contents import NoChain, NothingAuditable
from obstruction.models.layers.parametrised import why_computed
from obstruction.models.options import ReadOptions

torch = framework("torch")
prune = framework("torch.nn.utils.prune")
nn = torch.nn
parametrizations = torch.nn.utils.parametrizations
parametrize = torch.nn.utils.parametrize
AveragedModel = torch.optim.swa_utils.AveragedModel

RELU = ReadOptions(activation="relu")


class Squared(nn.Module):
    def forward(self, weight):
        return weight * weight


class Net(nn.Module):
    def __init__(self, first=3, width=6):
        super().__init__()
        self.fc1 = nn.Linear(first, width)
        self.fc2 = nn.Linear(width, 1)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


def sequential():
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))


def averaged(make, **options):
    """An average of two models, which is neither of them."""
    found = AveragedModel(make(), **options)
    for _ in range(2):
        found.update_parameters(make())
    return found


# --- wrappers --------------------------------------------------------------------------------

WRAPPERS = {
    "averaged": lambda make: averaged(make),
    "moving": lambda make: averaged(
        make, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True
    ),
    "parallel": lambda make: nn.DataParallel(make()),
    "both": lambda make: averaged(lambda: nn.DataParallel(make())),
}


@pytest.mark.parametrize("name", WRAPPERS)
@pytest.mark.parametrize("make", [sequential, Net])
def test_names_and_numbers_are_those_of_the_module_within(name, make, tmp_path):
    wrapped = WRAPPERS[name](make)
    inner = wrapped
    while hasattr(inner, "module"):
        inner = inner.module
    names = ["0", "2"] if make is sequential else ["fc1", "fc2"]
    torch.save(wrapped.state_dict(), tmp_path / "state.pt")
    for source in (wrapped, wrapped.state_dict(), tmp_path / "state.pt"):
        model = models.read(source, RELU)
        assert [layer.name for layer in model.layers] == names
        assert np.array_equal(
            model.layers[0].weight,
            inner[0].weight.detach().numpy()
            if make is sequential
            else inner.fc1.weight.detach().numpy(),
        )
    before = wrapped(torch.ones(2, 3)).detach().clone()
    repaired = ob.repair(wrapped)
    assert type(repaired) is type(wrapped)
    assert torch.allclose(repaired(torch.ones(2, 3)), before, rtol=1e-5)


@pytest.mark.parametrize("name", ["averaged", "parallel", "both"])
def test_a_pickled_wrapper_of_a_sequential_tells_its_activation(name, tmp_path):
    torch.save(WRAPPERS[name](sequential), tmp_path / "model.pt")
    model = models.read(tmp_path / "model.pt")
    assert [link.activation for link in model.links] == ["relu"]


# --- attributes of parameters ------------------------------------------------------------------


def test_copies_keep_the_attributes_of_parameters():
    """A forward pass that reads one, as layers of mup do, can be run."""

    def forward(self, x):
        self.seen.add(id(self.fc1.weight.owner))
        return self.fc2(torch.relu(self.fc1(x))) * self.fc1.weight.factor[0]

    kind = type("Marked", (Net,), {"forward": forward, "seen": set()})
    net = kind()
    net.fc1.weight.factor, net.fc1.weight.owner = [1.0], net
    net.fc1.bias.lock = open  # which is shared, as it cannot be copied
    assert isinstance(ob.audit(net), Report)
    assert id(net) not in kind.seen, "copies belong to copies"
    net.fc1.weight.factor = [0.5]
    report = ob.audit(net, inputs=torch.randn(8, 3))
    assert report.laws.counts == {"balance": 6}


@pytest.mark.parametrize("zero", [False, True])
def test_models_of_mup_are_run(zero):
    mup = framework("mup")

    def make(width):
        readout = mup.MuReadout(width, 1, readout_zero_init=zero)
        return nn.Sequential(nn.Linear(3, width), nn.ReLU(), readout)

    net = make(8)
    mup.set_base_shapes(net, make(4), delta=make(6))
    assert net[2].width_mult() == 2.0
    report = ob.audit(net)
    assert isinstance(report, ob.LawReport), "the outputs are those of the layers times a half"
    assert report.laws.counts["balance"] == 8
    assert (ob.conservation_laws(net, torch.randn(8, 3)).counts) == report.laws.counts
    repaired = ob.repair(net, report)
    x = torch.randn(5, 3)
    assert torch.allclose(repaired(x), net(x), atol=1e-5)


# --- computed weights --------------------------------------------------------------------------


def old(name, **options):
    def apply(layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            getattr(nn.utils, name)(layer, **options)

    return apply


def square(what):
    return lambda layer: parametrize.register_parametrization(layer, what, Squared())


def twice(layer):
    parametrizations.weight_norm(layer)
    parametrizations.spectral_norm(layer)


COMPUTED = {
    "orthogonal": (parametrizations.orthogonal, "weights .*orthogonal parametrisation"),
    "spectral": (parametrizations.spectral_norm, "weights .*spectral normalisation"),
    "older spectral": (old("spectral_norm"), "weights .*spectral normalisation"),
    "own": (square("weight"), "weights .*a parametrisation whose class is not stored"),
    "own of biases": (square("bias"), "biases .*a parametrisation whose class is not stored"),
    "two": (twice, "weights .*several tensors or parametrisations"),
    "pruned": (
        lambda layer: prune.l1_unstructured(layer, "weight", 3), "weights .*pruning"
    ),
    "pruned biases": (
        lambda layer: prune.l1_unstructured(layer, "bias", 2), "biases .*pruning"
    ),
    "columns": (lambda layer: parametrizations.weight_norm(layer, dim=1), "not each row"),
    "whole": (lambda layer: parametrizations.weight_norm(layer, dim=None), "not each row"),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTED)
def test_computed_weights_are_named_for_what_they_are(name, tmp_path):
    """No balance is read from their files; a live module is run."""
    change, words = COMPUTED[name]
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1))
    change(net[2])
    torch.save(net.state_dict(), tmp_path / "a.pt")
    for source in (net.state_dict(), tmp_path / "a.pt"):
        model = models.read(source, RELU)
        for link in model.links:
            assert link.reason is not None
            assert re.search(words, link.reason), link.reason
    report = ob.audit(net)
    assert isinstance(report, ob.LawReport)


def test_a_live_parametrisation_is_called_by_its_class():
    net = sequential()
    parametrizations.orthogonal(net[2])
    assert "1 Linear and 1 Orthogonal" in str(ob.audit(net))
    with pytest.raises(NoChain, match=r"2\.weight is computed .* \(orthogonal parametrisation\)"):
        models.read(net)
    net = sequential()
    square("weight")(net[0])
    with pytest.raises(NoChain, match=r"0\.weight is computed .* \(parametrisation Squared\)"):
        models.read(net)
    with pytest.raises(ValueError, match=r"activation = 'relu': .*parametrisation Squared"):
        ob.audit(net, "relu")


def test_weight_normalisation_is_read():
    for apply in (parametrizations.weight_norm, old("weight_norm")):
        net = sequential()
        apply(net[0])
        for source in (net, net.state_dict()):
            model = models.read(source, RELU)
            assert [link.reason for link in model.links] == [None]
            assert model.layers[0].magnitude is not None
            assert np.allclose(model.layers[0].weight, net[0].weight.detach().numpy())


def test_words_of_computed_weights():
    start = "a.parametrizations.weight."
    normed = [start + "original0", start + "original1"]
    assert why_computed(["a.weight", "a.bias", "a.weight_mask"]) is None
    assert why_computed(normed) is None
    assert why_computed([name.replace(".", "/") for name in normed]) is None
    assert "several" in why_computed([*normed, start + "original2"])
    assert why_computed(["weight_orig"]) == "its weights are computed from others"
    both = why_computed(["weight_orig", "weight_mask", "weight_u"])
    assert both.endswith("(pruning and spectral normalisation)")
    arrays = {start + name: np.ones((6, 3), "f4") for name in ("original", "0.base")}
    arrays["b.weight"] = np.ones((1, 6), "f4")
    with pytest.raises(NothingAuditable, match="orthogonal"):
        ob.audit(arrays, "relu", layout="out_in")
