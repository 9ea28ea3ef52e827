"""Neurons of real PyTorch modules and their ONNX files keep the balances that are told of them.

Each module is read, and the gradients of a loss are followed a little: the balance of every hidden
neuron must stay, whatever the module does. What cannot be seen must not be claimed.
"""

import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import framework
from model_balances import of_neurons, of_nodes

from obstruction import models
from obstruction.dag.from_models.from_model import read_model
from obstruction.models import ReadOptions

torch = framework("torch")
nn, F = torch.nn, torch.nn.functional
relu, linear = F.relu, nn.Linear
WHOLE = torch.zeros(1, dtype=torch.long)

pytestmark = pytest.mark.filterwarnings("ignore")


class Made(nn.Module):
    """A module with this forward pass and these parts, layers by their sizes."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.made = forward
        for name, part in parts.items():
            setattr(self, name, linear(*part) if isinstance(part, tuple) else part)

    def forward(self, x):
        return self.made(self, x)


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(_, x):
        return x.clone()

    @staticmethod
    def backward(_, slope):
        return -slope


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = linear(4, 5)

    @torch.no_grad()
    def forward(self, x):
        return relu(self.a(x))


class Unfollowed(nn.Module):
    def forward(self, x):
        if x.sum() > -1e9:
            x.sigmoid_()
        return x


class Normaliser(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
        self.a, self.b = linear(4, 5), linear(5, 2)

    def forward(self, x):
        rows = x.size(0)
        with torch.no_grad():
            self.mean.copy_(x.mean(0))
        return self.b(relu(self.a(x)).view(rows, -1))


class InPlace(nn.Module):
    def forward(self, x):
        return x.tanh_()


def without_gradients(s, x):
    with torch.no_grad():
        h = relu(s.a(x))
    return s.b(h)


def switched_off(s, x):
    torch.set_grad_enabled(False)
    h = relu(s.a(x))
    torch.set_grad_enabled(True)
    return s.b(h)


def dropped(s, x):
    z = s.a(x)
    s.act(z)
    return s.b(z)


def through_a_view(s, x):
    z = s.a(x)
    z.ravel().tanh_()
    return s.b(z)


def through_an_unknown_view(s, x):
    h = relu(s.a(x)) * 1.0
    turned = h.movedim(0, 1)
    turned.add_(1.0)
    return s.b(h)


def many_at_once(s, x):
    h = relu(s.a(x)) * 1.0
    torch._foreach_add_([h], 1.0)
    return s.b(h)


def unfollowed(s, x):
    h = relu(s.a(x)) * 1.0
    s.act(h)
    return s.b(h)


def seldom(s, x):
    h = relu(s.a(x))
    if random.random() < 0.01:
        h = relu(s.m(h))
    return s.b(h)


def added_in_place(s, x):
    z = s.a(x)
    same = z
    z += s.c(x)
    return s.b(relu(same)) + s.d(relu(z))


def by_chance(s, x):
    h = relu(s.a(x))
    if torch.rand(()) < 0.5:
        h = relu(s.m(h))
    return s.b(h)


def residual(s, x):
    h = s.a(x)
    for block in (s.p, s.q):
        h = h + block(h)
    return s.b(h)


def heads(s, x):
    return torch.cat([relu(s.a(x)).view(-1, 2, 3), relu(s.b(x)).view(-1, 2, 3)], -1).flatten(1)


def hooked():
    module = Made(lambda s, x: s.b(relu(s.a(x))), a=linear(4, 5), b=linear(5, 2))
    module.a.weight.register_hook(lambda slope: 0 * slope)
    return module


def hooked_back():
    module = Made(lambda s, x: s.b(s.r(s.a(x))), a=linear(4, 5), r=nn.ReLU(), b=linear(5, 2))
    module.r.register_full_backward_hook(lambda _, given, taken: (3 * given[0],))
    return module


def viewed():
    module = Made(lambda s, x: s.b(relu(s.a(x))) * s.part[0].sum(), a=linear(4, 5), b=linear(5, 2))
    module.part = module.a.weight[1:3]
    return module


def block():
    return nn.Sequential(linear(3, 6), nn.ReLU(inplace=True), linear(6, 3))


def ab(forward, **parts):
    return lambda: Made(forward, **{"a": (4, 5), "b": (5, 2)} | parts)


MODULES = {
    # what is known of, and how many neurons are found in it; the second number is that of its file,
    # which says what a run of the module does not show
    "chain": (ab(lambda s, x: s.b(relu(s.a(x)))), 5),
    "residual": (
        lambda: Made(residual, a=(4, 3), p=block(), q=block(), b=(3, 1)),
        0,
        12,
    ),
    "inputs added": (
        lambda: Made(lambda s, x: x + s.b(relu(s.a(x))), a=(4, 5), b=(5, 4)),
        0,
        5,
    ),
    "sum": (
        ab(lambda s, x: s.b(relu(sum([s.a(x), s.c(x), s.d(x)]))), c=(4, 5), d=(4, 5)),
        5,
    ),
    "one neuron repeated": (ab(lambda s, x: s.b(relu(s.a(x) + s.c(x))), c=(4, 1)), 0),
    "dense": (
        ab(lambda s, x: s.c(torch.cat([x, relu(s.a(x))], -1)), c=(9, 2)),
        0,
        5,
    ),
    "gate": (ab(lambda s, x: s.b(relu(s.a(x)) * torch.sigmoid(s.c(x))), c=(4, 5)), 0),
    "normalised": (
        lambda: Made(
            lambda s, x: x + s.b(relu(s.a(x))),
            a=nn.utils.parametrizations.weight_norm(linear(4, 5)),
            b=(5, 4),
        ),
        0,
        5,
    ),
    "two runs": (
        lambda: nn.Sequential(
            linear(4, 5), nn.ReLU(), linear(5, 3), nn.Tanh(), linear(3, 6), nn.ReLU(), linear(6, 1)
        ),
        11,
    ),
    "not trained in between": (
        ab(lambda s, x: s.b(relu(s.a(x))) + s.c(x).detach(), c=(4, 2)),
        5,
        5,
    ),
    "augmented": (ab(added_in_place, c=(4, 5), d=(5, 2)), 5),
    # what must not be claimed
    "no_grad": (ab(without_gradients), 0),
    "set_grad_enabled": (ab(switched_off), 0),
    "decorated": (lambda: Made(lambda s, x: s.b(s.f(x)), f=Frozen(), b=(5, 2)), 0),
    "heads": (
        lambda: Made(lambda s, x: s.o(heads(s, x)), a=(4, 6), b=(4, 6), o=(12, 1)),
        12,
        0,
    ),
    "interleaved": (
        ab(
            lambda s, x: s.o(
                torch.cat([relu(s.a(x)).unsqueeze(-1), relu(s.c(x)).unsqueeze(-1)], -1).flatten(1)
            ),
            c=(4, 5),
            o=(10, 1),
        ),
        0,
    ),
    "pairs": (
        ab(lambda s, x: s.b(relu(s.a(x).unsqueeze(-1) + s.c(x).unsqueeze(-2))), c=(4, 5)),
        0,
    ),
    "tied": (lambda: Made(lambda s, x: F.linear(relu(s.a(x)), s.a.weight.t()), a=(4, 5)), 0),
    "read alone": (ab(lambda s, x: s.b(relu(s.a(x))) + s.a.weight.sum()), 0),
    "dropped": (ab(dropped, act=nn.Sequential(nn.SiLU(inplace=True))), 0),
    "dropped child": (ab(dropped, act=InPlace()), 0),
    "through a view": (ab(through_a_view), 0),
    "whole numbers": (
        ab(lambda s, x: s.b(relu(s.a(x)).to(torch.int8).to(x.dtype)) + s.c(x), c=(4, 2)),
        0,
    ),
    "own backward": (
        ab(lambda s, x: (lambda h: s.b(h) + s.c(Reversed.apply(h)))(relu(s.a(x))), c=(5, 2)),
        0,
    ),
    "hooked": (hooked, 0),
    "hooked back": (hooked_back, 0),
    "viewed": (viewed, 0),
    "by chance": (ab(by_chance, m=(5, 5)), 0),
    "seldom": (ab(seldom, m=(5, 5)), 0),
    "through an unknown view": (ab(through_an_unknown_view), 0),
    "many at once": (ab(many_at_once), 0),
    "unfollowed": (ab(unfollowed, act=Unfollowed()), 0),
    "as whole numbers": (
        ab(lambda s, x: s.b((9 * relu(s.a(x))).type_as(WHOLE).to(x.dtype)) + s.c(x), c=(4, 2)),
        0,
    ),
    # what must not be lost
    "a buffer is written": (Normaliser, 5),
    "a factor by chance": (ab(lambda s, x: s.b(relu(s.a(x))) * random.uniform(0.5, 2.0)), 0, 5),
    "noise": (ab(lambda s, x: s.b(relu(s.a(x + random.gauss(0.0, 1.0))))), 0, 5),
}
UNSEEN = {  # in a file there is nothing of it
    *("no_grad", "set_grad_enabled", "decorated", "not trained in between", "own backward"),
    *("hooked", "hooked back", "viewed", "by chance", "through a view", "normalised"),
    *("seldom", "through an unknown view", "many at once", "as whole numbers", "noise"),
}


def drift(module, balances):
    """Return the fastest relative change of a balance, and their number."""
    x = 2 * torch.randn(7, 4)
    module.zero_grad()
    y = module(x)
    ((y - torch.randn_like(y)) ** 2).sum().backward()
    weights = list(module.parameters())
    slopes = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in weights]

    def moved(size):
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight += size * slope
        found = balances(module, x)
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                weight -= size * slope
        return found

    change = moved(1e-3) - moved(-1e-3)
    norms = [np.sqrt(sum(float((p**2).sum()) for p in some)) for some in (weights, slopes)]
    return np.abs(change).max(initial=0.0) / 2e-3 / np.prod(norms), change.size


@pytest.fixture(autouse=True)
def exact_and_repeatable():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("balances", [of_nodes, of_neurons])
@pytest.mark.parametrize("name", MODULES)
def test_balances_of_modules_are_conserved(name, balances):
    make, number, *_ = MODULES[name]

    def read(module, _):
        return balances(module)

    try:
        fastest, found = drift(make(), read)
    except ValueError:
        fastest, found = 0.0, 0
    assert fastest < 1e-9
    if number is not None and balances is of_nodes:
        assert found == number


@pytest.mark.parametrize("balances", [of_nodes, of_neurons])
@pytest.mark.parametrize("name", sorted(set(MODULES) - UNSEEN))
def test_balances_of_files_are_conserved(name, balances, tmp_path):
    framework("onnx")
    make, *_, number = MODULES[name]
    path = str(tmp_path / "model.onnx")

    def read(module, x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(module.eval(), (x.clone(),), path, dynamo=False)
        return balances(path)

    try:
        fastest, found = drift(make(), read)
    except ValueError:
        fastest, found = 0.0, 0
    assert fastest < 1e-9
    if number is not None and balances is of_nodes:
        assert found == number


def test_the_check_sees_what_is_not_conserved():
    """With the balance of neurons whose scale is bound, by a skip of fixed weight."""
    module = Made(
        lambda s, x: s.o((lambda h: h + s.b(relu(h)))(s.a(x))),
        a=linear(4, 5),
        b=linear(5, 5),
        o=linear(5, 1),
    )

    def wrong(module, _):
        a, o = module.a.weight.detach().numpy(), module.o.weight.detach().numpy()
        return (a**2).sum(axis=1) + module.a.bias.detach().numpy() ** 2 - (o**2).sum(axis=0)

    assert drift(module, wrong)[0] > 1e-3


def test_values_are_added_only_along_one_axis(tmp_path):
    """In a file a transpose may put neurons on the axis before the last."""
    framework("onnx")
    path, x = tmp_path / "m.onnx", torch.randn(6, 4, 4)

    def turned(layer, x):
        return layer(x.transpose(1, 2)).transpose(1, 2)

    parts = {"a": (4, 4), "b": (4, 4), "o": (4, 1)}
    mixed = Made(lambda s, x: s.o(relu(s.a(x) + turned(s.b, x))), **parts)
    torch.onnx.export(mixed, (x,), str(path), dynamo=False)
    with pytest.raises(models.NothingAuditable):
        read_model(path)
    alike = Made(lambda s, x: s.o(relu(turned(s.a, x) + turned(s.b, x)).transpose(1, 2)), **parts)
    torch.onnx.export(alike, (x,), str(path), dynamo=False)
    told = read_model(path)
    assert (len(told.network.hidden), told.notes) == (4, ())


def test_weights_that_an_exporter_stores_twice_are_shared(tmp_path):
    framework("onnx")
    module = Made(lambda s, x: F.linear(relu(s.a(x)), s.a.weight.t()), a=linear(4, 5))
    torch.onnx.export(module, (torch.randn(3, 6, 4),), str(tmp_path / "m.onnx"), dynamo=False)
    with pytest.raises(models.NothingAuditable, match="weights are shared between"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize("name", ["by chance", "seldom"])
def test_a_branch_by_chance_is_told(name):
    with pytest.raises(ValueError, match=r"^layers = \['a', 'b'\]: Made is no chain"):
        read_model(MODULES[name][0](), ReadOptions("relu", layers=["a", "b"]))


def test_random_states_are_left_alone():
    module = Made(lambda s, x: s.b(relu(s.a(x) + torch.randn(5))), a=linear(4, 5), b=linear(5, 2))
    before = torch.random.get_rng_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    with pytest.raises(models.NoChain):
        read_model(module)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert repr(before[1]) == repr(np.random.get_state(legacy=False))  # noqa: NPY002


def test_many_threads_read_at_once():
    modules = [make() for make, number, *_ in MODULES.values() if number]
    alone = [read_model(module).weights for module in modules]
    with ThreadPoolExecutor(8) as pool:
        found = [told.weights for told in pool.map(read_model, modules * 4)]
    for weights, expected in zip(found, alone * 4, strict=True):
        np.testing.assert_array_equal(weights, expected)


def test_a_search_for_laws_waits_for_a_run_in_another_thread():
    """It sets the default type and the random generators of the process, which a run may use."""
    from obstruction.conservation.live.running_torch import running

    searches, seen = [], []

    def search():
        with running(0):
            random.random()

    def forward(s, x):
        searches.append(threading.Thread(target=search))
        searches[-1].start()
        before = random.getstate()
        searches[-1].join(0.05)
        seen.append((searches[-1].is_alive(), random.getstate() == before))
        return s.b(relu(s.a(x)))

    kind = torch.get_default_dtype()
    read_model(Made(forward, a=linear(4, 5), b=linear(5, 2)))
    for thread in searches:
        thread.join()
    assert seen
    assert set(seen) == {(True, True)}
    assert torch.get_default_dtype() == kind
