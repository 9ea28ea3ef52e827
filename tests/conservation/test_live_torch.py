"""Modules of PyTorch that libraries write: parameters without entries, layers of equal names."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework
from kind import Of

import obstruction as ob
from obstruction.conservation.live.opening import open_model

torch = framework("torch")
nn = torch.nn


class Tokens(nn.Module):
    """A vision transformer puts tokens before its patches, and there may be none."""

    def __init__(self) -> None:
        super().__init__()
        self.register_tokens = nn.Parameter(torch.empty(1, 0, 3))
        self.frozen = nn.Parameter(torch.empty(0, 3), requires_grad=False)
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x):
        return self.net(torch.cat([self.register_tokens.expand(len(x), -1, -1), x], 1))


def test_parameters_without_entries_are_left_out():
    model = Tokens()
    live = open_model(model, torch.randn(2, 5, 3))
    assert set(live.parameters) == {"net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias"}
    assert live.fixed == ()
    assert ob.conservation_laws(model, inputs=torch.randn(2, 5, 3)).counts == {"balance": 4}


def test_layers_of_libraries_may_share_the_names_of_others():
    class Linear(nn.Module):  # those of PyTorch Geometric say in_channels
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(out_channels, in_channels))

        def forward(self, x):
            return x @ self.weight.T

    model = nn.Sequential(Linear(3, 4), nn.ReLU(), Linear(4, 1))
    assert ob.conservation_laws(model, inputs=torch.randn(2, 3)).counts == {"balance": 4}
    with pytest.raises(ValueError, match=r"inputs=torch.randn\(16, 10\)"):
        open_model(model)


class Complex(nn.Module):
    """Spectral layers keep complex weights, and cast what they read to their type."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.weight = nn.Parameter(torch.randn(5, 4, dtype=torch.complex64))
        self.register_buffer("phase", torch.polar(torch.ones(5), torch.randn(5)))

    def forward(self, x):
        y = self.phase * (torch.relu(self.first(x)).cfloat() @ self.weight.T)
        return torch.view_as_real(torch.fft.fft(y.to(torch.complex64)))


def test_complex_weights_are_pairs_of_real_ones_in_double_precision():
    model, x = Complex(), torch.randn(2, 3)
    live = open_model(model, x)
    assert live.parameters["weight"].shape == (5, 4, 2)
    assert [y.shape for y in live.outputs(live.parameters, live.inputs, seed=0)] == [(2, 5, 2)]
    assert model.weight.dtype == model.phase.dtype == torch.complex64
    laws = ob.conservation_laws(model, inputs=x)
    (law,) = laws  # the rows of the first layer against the lengths of complex columns
    assert laws.counts == {"balance": 4}
    assert law.violation.max() < 1e-13
    weights = live.parameters
    written = (weights["first.weight"] ** 2).sum(1) + weights["first.bias"] ** 2
    read = (abs(model.weight.detach().numpy().astype(complex)) ** 2).sum(0)
    assert law.values(weights) == pytest.approx(written - read, rel=1e-12)


def test_hooks_on_parameters_change_the_laws():
    """A row whose gradient is removed keeps its weights, but not its bias: no balance."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    assert ob.conservation_laws(model, inputs=inputs).counts == {"balance": 4}
    model[0].weight.register_hook(lambda gradient: gradient * 0.0)
    assert ob.conservation_laws(model, inputs=inputs).counts == {}


def test_inputs_of_both_signs_are_tried():
    """Where the sum of the inputs is negative, the hidden neurons are linear."""
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        hidden = self.first(x)
        return self.second(hidden.relu() if x.sum() > 0 else hidden)

    model = Of(forward, first=first, second=second)
    for shift in (-2.0, 2.0):
        laws = ob.conservation_laws(model, inputs=torch.randn(5, 3) + shift)
        assert laws.counts == {"balance": 4}


def test_one_layer_that_is_read_twice_at_once():
    """Each channel is written once and read by a column of each half."""

    def forward(self, x, y):
        return self.read(torch.cat([self.write(x).relu(), self.write(y).relu()], 1))

    model = Of(forward, write=nn.Linear(3, 4), read=nn.Linear(8, 2))
    laws = ob.conservation_laws(model, inputs=(torch.randn(5, 3), torch.randn(5, 3)))
    assert laws.counts == {"balance": 4}


def test_powers_that_overflow_are_tried_at_smaller_scales():
    """The outputs are not finite where the weights are a hundred times the usual."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model = Of(lambda self, x: (10.0 * self.layers(x)).exp(), layers=layers)
    laws = ob.conservation_laws(model, inputs=torch.randn(5, 3))
    assert laws.counts == {"balance": 4}


class Clipped(nn.Module):
    """A critic whose weights are clipped whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x):
        self.first.weight.data.clamp_(-1.0, 1.0)
        return self.last(torch.relu(self.first(x)))


class Shown(Clipped):
    """A layer whose weights are an output."""

    def forward(self, x):
        return self.last(torch.relu(self.first(x))), self.first.weight


@pytest.mark.parametrize("kind", [Clipped, Shown])
def test_a_run_leaves_values_and_earlier_outputs_alone(kind):
    live = open_model(kind(), torch.randn(5, 3))
    generator = np.random.default_rng(0)
    for size in (0.1, 1.0, 10.0, 1.0, 10.0):
        values = {n: size * generator.standard_normal(p.shape) for n, p in live.parameters.items()}
        kept = {name: value.copy() for name, value in values.items()}
        outputs = live.outputs(values, live.inputs, seed=0)
        before = [y.copy() for y in outputs]
        gradients = live.gradients(values, live.inputs, seed=0, cotangent=0)
        first = {name: part.copy() for name, part in gradients.items()}
        others = {name: value + 1.0 for name, value in values.items()}
        live.outputs(others, live.inputs, seed=0)
        live.gradients(others, live.inputs, seed=0, cotangent=0)
        np.testing.assert_equal(values, kept)
        np.testing.assert_equal(gradients, first)
        np.testing.assert_equal(outputs, before)


def pathological(*middle):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), *middle, nn.Linear(8, 1))
    with torch.no_grad():
        net[-1].weight *= 30.0
    return net


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_scripted_and_traced_modules_have_the_laws_of_their_source():
    net = pathological(nn.Tanh(), nn.Linear(8, 8), nn.ReLU())
    inputs = torch.randn(16, 5)
    part = nn.Sequential(net[0], net[1], torch.jit.script(nn.Sequential(net[2], net[3])), net[4])
    expected = sorted(ob.audit(net, inputs=inputs).frozen["position"])
    assert len(expected) == 7
    for one in (torch.jit.script(net), torch.jit.trace(net, inputs), part):
        assert sorted(ob.audit(one, inputs=inputs).frozen["position"]) == expected


class Narrow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return (gradient.float() * (x > 0)).to(x.dtype)


def scripted(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x.float()).double()


class Through(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def cast(x):
    return torch.relu(x.type(torch.FloatTensor)).type(torch.DoubleTensor)


@pytest.mark.parametrize("function", [Narrow.apply, scripted, cast])
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_single_precision_inside_a_model_is_no_evidence_against_laws(function):
    if function is scripted:  # which a module cannot hold, as it cannot be copied
        compiled = torch.jit.script(scripted)
        function = lambda x: compiled(x)  # noqa: E731
    with pytest.raises(ValueError, match=r"^model: .*_?[tT]o_?[cC]opy.* less than double"):
        ob.audit(pathological(Through(function)), inputs=torch.randn(16, 5))


def test_single_precision_beside_the_gradients_does_not_matter():
    def logged(x):
        assert float(x.detach().type(torch.FloatTensor).mean()) < 1e9
        return torch.relu(x)

    laws = ob.conservation_laws(pathological(Through(logged)), inputs=torch.randn(16, 5))
    assert laws.counts == {"balance": 8}


def test_what_a_model_raises_at_random_parameters_is_told():
    def checked(x):
        if float(x.abs().max()) > 1e-3:
            raise RuntimeError("too big")
        return x

    net = pathological(Through(checked))
    with torch.no_grad():
        net[0].weight.zero_()
        net[0].bias.zero_()
    with pytest.raises(ValueError, match=r"no finite outputs at random .*RuntimeError: too big"):
        ob.conservation_laws(net, inputs=torch.randn(16, 5))
