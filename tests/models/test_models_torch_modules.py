"""PyTorch modules and state dicts in memory; the forward pass itself is the oracle."""

from __future__ import annotations

import copy
import random
import warnings

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction import models
from obstruction.models.contents import NoChain, NothingAuditable, UnreadableModel
from obstruction.models.options import ReadOptions

torch = framework("torch")
nn, F = torch.nn, torch.nn.functional


def linked(source, **options):
    """The names of layers, and of each link its activation or the reason why it is not audited."""
    model = models.read(source, ReadOptions(**options))
    names = [layer.name for layer in model.layers]
    return names, [link.reason or link.activation for link in model.links]


def outputs(model, x):
    """What the layers and links of a model make of inputs."""
    x = x.numpy().astype(float)
    for i, layer in enumerate(model.layers):
        x = x @ np.asarray(layer.weight, float).T + (0 if layer.bias is None else layer.bias)
        if i < len(model.links):
            x = np.where(x < 0, model.links[i].slope * x, x)
    return x


def module(forward, **children):
    """A custom module with a forward pass and children or parameters."""
    kind = type("Custom", (nn.Module,), {"forward": forward})
    made = kind()
    for name, child in children.items():
        setattr(made, name, child)
    return made


def kept(net):
    """How many balances a module keeps that is no chain of layers, as its gradients show."""
    with pytest.raises(NoChain, match=r" is no chain of fully connected layers: "):
        models.read(net)
    report = ob.audit(net)
    assert isinstance(report, ob.LawReport)
    return report.laws.counts.get("balance", 0)


def doubled(net, first="0", last="2"):
    """Changes that leave what a network computes as it was: twice the weights, then half."""
    state = {name: value.detach().cpu() for name, value in net.named_parameters()}
    factors = {f"{first}.weight": 2, f"{first}.bias": 2, f"{last}.weight": 0.5}
    return {name: (state[name] * factor).numpy() for name, factor in factors.items()}


def mlp(**options):
    return nn.Sequential(nn.Linear(5, 7, **options), nn.ReLU(), nn.Linear(7, 1, **options))


# --- the forward pass is run ----------------------------------------------------------------

FORWARDS = {
    "modules": lambda self, x: self.fc2(self.act(self.fc1(x))),
    "F.relu": lambda self, x: self.fc2(F.relu(self.fc1(x))),
    "torch.relu": lambda self, x: self.fc2(torch.relu(self.fc1(x))),
    "method": lambda self, x: self.fc2(self.fc1(x).relu()),
    "in place": lambda self, x: self.fc2(self.fc1(x).relu_()),
    "clamp": lambda self, x: self.fc2(self.fc1(x).clamp(min=0)),
    "clamp_min": lambda self, x: self.fc2(torch.clamp_min(self.fc1(x), 0)),
    "leaky": lambda self, x: self.fc2(F.leaky_relu(self.fc1(x), 0.2)),
    "leaky named": lambda self, x: self.fc2(F.leaky_relu(self.fc1(x), negative_slope=0.2)),
    "linear": lambda self, x: F.linear(
        F.relu(F.linear(x, self.fc1.weight, self.fc1.bias)), self.fc2.weight, bias=self.fc2.bias
    ),
    "matmul": lambda self, x: self.fc2(F.relu(x @ self.fc1.weight.t() + self.fc1.bias)),
    "matmul T": lambda self, x: self.fc2(
        F.relu(torch.matmul(x, self.fc1.weight.T) + self.fc1.bias)
    ),
    "shapes": lambda self, x: self.fc2(F.relu(self.fc1(x.view(x.size(0), -1).reshape(x.shape)))),
    "shapes of hidden": lambda self, x: (lambda h: self.fc2(F.relu(h).view(h.shape[0], h.size(1))))(
        self.fc1(x)
    ),
    "dropout": lambda self, x: self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5, False)),
    "flag": lambda self, x, flag=None: self.fc2(
        F.relu(self.fc1(x)) if flag is None else self.fc1(x).tanh()
    ),
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_the_layers_compute_what_the_module_computes(forward):
    torch.manual_seed(0)
    net = module(FORWARDS[forward], fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 3), act=nn.ReLU())
    model = models.read(net)
    assert [layer.name for layer in model.layers] == ["fc1", "fc2"]
    assert [link.reason for link in model.links] == [None]
    x = torch.randn(20, 5)
    np.testing.assert_allclose(outputs(model, x), net(x).detach(), rtol=1e-4, atol=1e-6)


def test_a_sequential_with_everything_that_does_not_matter():
    net = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(5, 7), nn.Identity(), nn.LeakyReLU(0.3), nn.Dropout()),
        nn.Linear(7, 7),
        nn.PReLU(),
        nn.Linear(7, 2),
        nn.Softmax(dim=1),
    ).eval()
    assert linked(net) == (["1.0", "2", "4"], ["leaky_relu", "prelu"])
    x = torch.randn(9, 5)
    np.testing.assert_allclose(
        outputs(models.read(net), x), net[:-1](x).detach(), rtol=1e-4, atol=1e-6
    )


def test_own_parameters():
    def forward(self, x):
        return F.relu(x @ self.W1 + self.b1) @ self.W2

    parts = {"W1": (5, 7), "b1": (7,), "W2": (7, 1)}
    net = module(forward, **{name: nn.Parameter(torch.randn(s)) for name, s in parts.items()})
    model = models.read(net)
    assert [layer.layout for layer in model.layers] == ["in_out", "in_out"]
    x = torch.randn(9, 5)
    np.testing.assert_allclose(outputs(model, x), net(x).detach(), rtol=1e-4, atol=1e-6)


def test_the_order_is_that_of_the_forward_pass():
    net = module(
        lambda self, x: self.a(F.relu(self.b(F.relu(self.c(x))))),
        **{name: nn.Linear(6, 6) for name in "abc"},
    )
    assert linked(net) == (["c", "b", "a"], ["relu", "relu"])


BETWEEN = {
    # what comes behind the first of three layers, and how many balances are kept, of 7 + 6
    "batch normalisation": (nn.BatchNorm1d(7), 13),  # gains and offsets write, too
    "normalisation": (nn.LayerNorm(7), 13),
    "alpha dropout": (nn.AlphaDropout(), 6),
    "twice": (
        type("Block", (nn.Linear,), {"forward": lambda self, x: x * 2})(7, 7),
        13,
    ),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_other_layers_between_make_no_chain(name):
    between, number = BETWEEN[name]
    layers = [nn.Linear(5, 7), between, nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 1)]
    assert kept(nn.Sequential(*layers)) == number


@pytest.mark.parametrize(
    ("between", "number"),
    [
        (lambda x: x + 1, 0),
        (lambda x: x.detach(), 0),
        (lambda x: F.layer_norm(x, (7,)), 0),
        (lambda x: torch.cat([x, x]), 7),  # every neuron twice, at the same weights
        (lambda x: x * x.sigmoid(), 0),
        (lambda x: torch.tanh(x), 0),
        (lambda x: F.silu(x), 0),
        (lambda x: 2 * x / 3.0, 7),
        (lambda x: torch.div(x, 2, rounding_mode="floor"), 0),
    ],
)
def test_functions_between(between, number):
    net = module(
        lambda self, x: self.fc2(between(F.relu(self.fc1(x)))),
        fc1=nn.Linear(5, 7),
        fc2=nn.Linear(7, 1),
    )
    assert kept(net) == number


def test_modules_that_take_other_inputs_are_no_chains():
    net = module(
        lambda self, x: self.fc2(F.relu(self.fc1(x)).transpose(0, 1)),
        fc1=nn.Linear(5, 7),
        fc2=nn.Linear(16, 1),
    )
    with pytest.raises(NoChain):
        models.read(net)


def test_residual_blocks_are_no_chains():
    block = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x):
        h = self.first(x)
        return self.last(F.relu(h + self.block(h)))

    net = module(forward, first=nn.Linear(5, 8), block=block, last=nn.Linear(8, 1))
    assert kept(net) == 16 + 8  # the stream is scaled as a whole
    inner = module(lambda self, x: x + self.block(x), block=copy.deepcopy(block))
    assert kept(nn.Sequential(nn.Linear(5, 8), inner, nn.Linear(8, 1))) == 16


def test_hidden_outputs_that_are_returned_stop_a_chain():
    def forward(self, x):
        h = F.relu(self.fc1(x))
        return self.fc2(h), h

    assert kept(module(forward, fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 1))) == 0


def test_two_heads_stop_a_chain():
    def forward(self, x):
        h = F.relu(self.trunk(x))
        return self.a(h), self.b(h)

    assert kept(module(forward, trunk=nn.Linear(5, 7), a=nn.Linear(7, 1), b=nn.Linear(7, 2))) == 7


# --- what is told is held against the run ---------------------------------------------------


def branching(self, x):
    return self.fc2(F.relu(self.fc1(x))) if x.sum() > 0 else self.fc2(self.fc1(x))


def told(net, **options):
    """The error about what was told of a module."""
    with pytest.raises(ValueError, match=r"^(layers|activation)\b") as refused:
        ob.audit(net, **options)
    assert not isinstance(refused.value, NoChain)
    assert len(str(refused.value)) < 400
    return str(refused.value)


def test_control_flow_is_seen_by_running():
    net = module(branching, fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 1))
    with pytest.raises(NoChain):
        models.read(net)
    assert told(net, activation="relu").startswith("activation = 'relu': Custom is no chain")
    assert told(net, layers=["fc1", "fc2"]).startswith("layers = ['fc1', 'fc2']: Custom is no")


def test_control_flow_in_a_part():
    part = module(branching, fc1=nn.Linear(6, 6), fc2=nn.Linear(6, 6))
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 6), part, nn.Linear(6, 1))
    with pytest.raises(NoChain):
        models.read(net)
    named = ["2", "3.fc1", "3.fc2", "4"]
    assert told(net, layers=named, activation="relu").startswith(f"layers = {named}: Sequential")


def test_parallel_branches_are_not_taken_for_consecutive_layers():
    """A graph convolution adds what it makes of a node and of its neighbours."""
    net = module(
        lambda s, x: s.out(F.relu(s.own(x) + s.neighbours(x.roll(1, 0)))),
        own=nn.Linear(6, 6),
        neighbours=nn.Linear(6, 6, bias=False),
        out=nn.Linear(6, 1),
    )
    assert kept(net) == 6
    for layers in (["own", "neighbours", "out"], ["neighbours", "own", "out"]):
        assert "Custom is no chain of fully connected layers" in told(net, layers=layers)
    assert told(net, layers=["own", "two"]).startswith("layers: there is no layer 'two' among own")


@pytest.mark.parametrize("other", [F.relu6, torch.tanh, F.hardswish, F.softplus, F.gelu, F.elu])
def test_no_other_function_is_taken_for_relu(other):
    """Not even those that are nearly homogeneous for large or small numbers."""
    net = module(
        lambda s, x: s.b(other(s.a(x))),
        a=nn.Linear(4, 8, bias=False),
        b=nn.Linear(8, 1, bias=False),
    )
    assert kept(net) == 0
    assert told(net, activation="relu").startswith("activation = 'relu': Custom is no chain")
    kind = {F.relu6: nn.ReLU6, torch.tanh: nn.Tanh, F.elu: nn.ELU}.get(other)
    if kind is not None:
        layers = nn.Sequential(nn.Linear(4, 8), kind(), nn.Linear(8, 1))
        assert "is not positively homogeneous" in linked(layers)[1][0]
        seen = {"relu6": "relu6", "tanh": "tanh", "elu": "elu"}[kind.__name__.lower()]
        assert told(layers, activation="relu").endswith(f"the PyTorch module has {seen}")


def test_neurons_that_start_dead_hide_nothing():
    """At the actual parameters a dead layer of tanh is equal to one of ReLU."""
    net = module(lambda s, x: s.b(torch.tanh(s.a(x))), a=nn.Linear(4, 8), b=nn.Linear(8, 1))
    for parameter in net.a.parameters():
        nn.init.zeros_(parameter)
    with pytest.raises(NoChain):
        models.read(net)
    told(net, activation="relu")


def test_layers_that_are_named_may_be_a_part_of_the_chain():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)]
    net = nn.Sequential(*layers)
    assert linked(net, layers=["2", "4"]) == (["2", "4"], ["relu"])
    assert linked(net, layers=["0", "2", "4"], activation="relu")[1] == ["relu", "relu"]
    assert told(net, layers=["4", "2"]).startswith("layers = ['4', '2']: PyTorch module has the")


def test_no_forward_pass_at_all():
    net = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
    with pytest.raises(NoChain, match=r"^ModuleList is no chain"):
        ob.audit(net)
    assert told(net, activation="relu").startswith("activation = 'relu': ModuleList is no chain")


@pytest.mark.parametrize("noise", [False, True])
def test_running_leaves_no_trace(noise):
    def forward(self, x):
        self.calls += 1
        self.seen.append(x)
        self.last = h = F.relu(self.fc1(x))
        if noise:
            self.noise = torch.randn(3)
        return self.fc2(h)

    net = module(forward, fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 1), calls=0, seen=[])
    net.eval()
    keys, state = set(vars(net)), copy.deepcopy(net.state_dict())
    random = torch.random.get_rng_state()
    if noise:  # a run proves nothing about other random numbers
        assert kept(net) == 7
    else:
        assert linked(net)[1] == ["relu"]
    assert (net.calls, net.seen, set(vars(net))) == (0, [], keys)
    assert not net.training
    assert torch.equal(torch.random.get_rng_state(), random)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    net(torch.randn(2, 5))
    assert net.calls == 1


def test_a_counter_in_a_buffer_is_not_moved():
    def forward(self, x):
        self.steps += 1
        return self.fc2(F.relu(self.fc1(x)))

    net = module(forward, fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 1))
    net.register_buffer("steps", torch.zeros(()))
    models.read_contents(net)
    assert net.steps == 0


# --- what the structure does not show --------------------------------------------------------


def small(*, first=None, last=None):
    """A network that a repair changes, its output weights being ten times as large."""
    torch.manual_seed(0)
    net = nn.Sequential(first or nn.Linear(3, 8), nn.ReLU(), last or nn.Linear(8, 1))
    with torch.no_grad():
        net[2].weight.mul_(10)
    return net


def keeps_the_function(net):
    """Whether a repair is refused, or leaves what the network computes as it was."""
    torch.manual_seed(1)
    x = torch.randn(50, 3)
    try:
        repaired = ob.repair(net)
    except ValueError:
        return True
    return torch.allclose(repaired(x), net(x), rtol=1e-4, atol=1e-4)


HOOKS = {
    "forward": lambda one: one.register_forward_hook(lambda m, i, o: torch.tanh(o)),
    "forward with kwargs": lambda one: one.register_forward_hook(
        lambda m, i, k, o: torch.tanh(o), with_kwargs=True
    ),
    "pre": lambda one: one.register_forward_pre_hook(lambda m, i: (torch.tanh(i[0]),)),
    "pre with kwargs": lambda one: one.register_forward_pre_hook(
        lambda m, i, k: ((torch.tanh(i[0]),), k), with_kwargs=True
    ),
}


@pytest.mark.parametrize("place", ["0", "1", "2", "container"])
@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_are_seen(kind, place):
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 8)), nn.ReLU(), nn.Linear(8, 1))
    assert linked(net)[1] == ["relu"]
    hooked = net[0] if place == "container" else net[0][0] if place == "0" else net[int(place)]
    handle = HOOKS[kind](hooked)
    if place == "2" and kind.startswith("forward"):  # a function of the outputs
        assert models.read(net).ending == ("tanh",)
    else:
        with pytest.raises(NoChain):
            models.read(net)
    handle.remove()
    assert linked(net)[1] == ["relu"]
    for barred in (small(), small(first=nn.Linear(3, 8, bias=False))):
        HOOKS[kind](barred[0 if place == "container" else int(place)])
        assert keeps_the_function(barred)


@pytest.mark.parametrize("kind", HOOKS)
def test_hooks_on_the_whole_change_inputs_or_outputs_only(kind):
    net = small()
    HOOKS[kind](net)
    if kind.startswith("forward"):
        assert linked(net)[1] == ["relu"]
    else:
        assert kept(net) == 8
    assert keeps_the_function(net)


def test_hooks_on_all_modules_are_seen():
    net = small()
    handle = nn.modules.module.register_module_forward_hook(
        lambda m, i, o: torch.tanh(o) if isinstance(m, nn.Linear) else o
    )
    try:
        with pytest.raises(NoChain):
            models.read(net)
    finally:
        handle.remove()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_forward_put_on_an_object(place):
    net = small()
    own = net[place].forward
    net[place].forward = lambda x: torch.tanh(own(x))
    assert keeps_the_function(net)
    with pytest.raises(NoChain):
        models.read(nn.Sequential(net, nn.Linear(1, 1)))
    whole = small()
    whole.forward = lambda x: whole[2](torch.tanh(whole[0](x)))
    with pytest.raises(NoChain):
        models.read(whole)


def test_calls_other_than_forward():
    kind = type("Own", (nn.ReLU,), {"__call__": lambda self, x: torch.tanh(x)})
    net = small()
    net[1] = kind()
    with pytest.raises(NoChain):
        models.read(net)
    traced = torch.fx.symbolic_trace(small())
    assert linked(traced) == (["0", "2"], ["relu"])


ELSEWHERE = {
    "square": lambda s, x: s.p(torch.relu(s.a(x))) + (s.a.weight**2).sum(),
    "outer weights": lambda s, x: s.p(torch.relu(s.a(x))) + s.p.weight.norm(),
    "bias": lambda s, x: s.p(torch.relu(s.a(x))) + s.a.bias[0],
    "functional": lambda s, x: s.p(torch.relu(s.a(x))) + F.linear(x, s.a.weight).sum(),
    "transposed": lambda s, x: s.p(torch.relu(s.a(x))) + s.a.weight.t().sum(),
    "all parameters": lambda s, x: (
        s.p(torch.relu(s.a(x))) + sum(p.detach().norm() for p in s.parameters())
    ),
    "returned": lambda s, x: (s.p(torch.relu(s.a(x))), s.a.weight.abs().sum()),
    "data": lambda s, x: s.p(torch.relu(s.a(x))) * s.a.weight.data[0, 0],
    "alias": lambda s, x: s.p(torch.relu(s.a(x))) + s.alias.sum(),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_weights_used_outside_their_layer(name):
    seq = small()
    net = module(ELSEWHERE[name], a=seq[0], p=seq[2])
    net.alias = seq[0].weight.detach()
    if name != "returned":
        assert keeps_the_function(net)
    with pytest.raises(NoChain):
        models.read(net)


def test_what_is_asked_of_weights_is_no_use_of_them():
    def forward(s, x):
        x = x.to(s.a.weight.dtype).to(next(s.parameters()).device).type_as(s.a.weight)
        return s.p(torch.relu(s.a(x))).view(-1, s.p.weight.shape[0])

    net = module(forward, a=nn.Linear(3, 8), p=nn.Linear(8, 1))
    assert linked(net) == (["a", "p"], ["relu"])


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("api", ["new", "old"])
def test_normalised_weights_used_outside_their_layer(api):
    net = module(ELSEWHERE["square"], a=normed(api)(nn.Linear(3, 8)), p=nn.Linear(8, 1))
    with pytest.raises(NoChain):
        models.read(net)


def test_weights_in_a_part_of_its_own():
    seq = small()
    part = module(lambda s, x: x + s.a.weight.sum() if x.sum() > 0 else x, a=seq[0])
    net = nn.Sequential(*seq, part)
    with pytest.raises(NoChain):
        models.read(net)
    assert keeps_the_function(net)


class Between(nn.Sequential):
    def forward(self, x):
        return self[2](torch.tanh(self[1](self[0](x))))


class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


class Halves(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class Branching(nn.ReLU):
    def forward(self, x):
        return x.tanh() if x.sum() > 0 else x


def test_subclasses_with_a_forward_of_their_own():
    assert kept(Between(*small())) == 0
    assert kept(Shifted(*small())) == 8
    assert keeps_the_function(Between(*small()))
    assert keeps_the_function(Shifted(*small()))
    assert kept(small(first=Halves(3, 8))) == 0
    net = small()
    net[1] = Branching()
    assert kept(net) == 0
    same = type("Same", (nn.Linear,), {})
    assert linked(small(first=same(3, 8))) == (["0", "2"], ["relu"])


IN_PLACE = {
    "relu": (lambda h: h.relu_(), True),
    "module": (nn.ReLU(inplace=True), True),
    "flag": (lambda h: F.relu(h, True), True),
    "named flag": (lambda h: F.relu(h, inplace=True), True),
    "tanh": (lambda h: h.tanh_(), False),
    "of a view": (lambda h: h.view(-1).tanh_(), False),
    "out": (lambda h: torch.tanh(h, out=h), False),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_changed_in_place_is_changed_for_all_later_uses(name):
    change, is_relu = IN_PLACE[name]

    def forward(self, x):
        h = self.fc1(x)
        (self.act if name == "module" else change)(h)
        return self.fc2(h)

    net = module(forward, fc1=nn.Linear(5, 7), fc2=nn.Linear(7, 1), act=nn.ReLU(inplace=True))
    if is_relu:
        assert linked(net)[1] == ["relu"]
    else:
        with pytest.raises(NoChain):
            models.read(net)


def test_torchscript_is_refused():
    net = small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(net), torch.jit.trace(net, torch.ones(1, 3))
    for one in (scripted, traced):
        with pytest.raises(UnreadableModel, match=r"^TorchScript modules cannot be read: give"):
            models.read(one)
        assert linked(one.state_dict(), activation="relu") == (["0", "2"], ["relu"])
    mixed = nn.Sequential(scripted, nn.ReLU(), nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    with pytest.raises(NoChain):
        models.read(mixed)


@pytest.mark.parametrize("layers", [5, 1.5, True, b"ab", "ab", [1, 2]])
def test_names_of_layers_are_checked(layers):
    with pytest.raises(ValueError, match=r"^layers = .*: must be a sequence of names"):
        models.read(small(), ReadOptions(layers=layers))


# --- sharing and training ------------------------------------------------------------------


def test_a_module_called_twice():
    def forward(self, x):
        return self.out(F.relu(self.h(F.relu(self.h(F.relu(self.fc(x)))))))

    net = module(forward, fc=nn.Linear(5, 7), h=nn.Linear(7, 7), out=nn.Linear(7, 1))
    names, links = linked(net)
    assert names == ["fc", "h", "h", "out"]
    assert all("h is used 2 times" in link for link in links)


@pytest.mark.parametrize("tie", ["parameter", "transposed", "function"])
def test_tied_weights(tie):
    def forward(self, x):
        h = F.relu(self.enc(x))
        return F.linear(h, self.enc.weight.t()) if tie == "function" else self.dec(h)

    net = module(forward, enc=nn.Linear(5, 5, bias=False), dec=nn.Linear(5, 5))
    if tie == "parameter":
        net.dec.weight = net.enc.weight
    elif tie == "transposed":
        net.dec.weight = nn.Parameter(net.enc.weight.detach().t())
    if tie == "function":
        with pytest.raises(NoChain):
            models.read(net)
    else:
        assert linked(net)[1][0].startswith("weights are shared")


def test_a_module_under_two_names_is_not_shared():
    net = module(lambda self, x: self.net(x), net=mlp())
    net.alias = net.net
    assert linked(net) == (["net.0", "net.2"], ["relu"])
    new = models.write(net, doubled(net, "net.0", "net.2"))
    assert torch.equal(new.alias[0].weight, 2 * net.alias[0].weight)


def test_parts_of_one_buffer_are_not_shared():
    flat = torch.randn(42)
    net = mlp(bias=False)
    net[0].weight.data, net[2].weight.data = flat[:35].view(7, 5), flat[35:].view(1, 7)
    assert linked(net)[1] == ["relu"]


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_frozen_layers(part):
    net = mlp()
    getattr(net[0], part).requires_grad_(False)
    assert linked(net)[1] == ["0 is not trained"]


# --- kinds of layers and tensors -----------------------------------------------------------


def normed(api):
    if api == "new":
        return torch.nn.utils.parametrizations.weight_norm
    return torch.nn.utils.weight_norm


@pytest.mark.parametrize("api", ["new", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_weight_normalisation(api):
    net = nn.Sequential(normed(api)(nn.Linear(5, 7)), nn.ReLU(), nn.Linear(7, 1))
    assert linked(net) == (["0", "2"], ["relu"])
    model = models.read(net)
    np.testing.assert_allclose(model.layers[0].weight, net[0].weight.detach(), rtol=1e-5)
    assert linked(net.state_dict(), activation="relu") == (["0", "2"], ["relu"])
    changes = model.layers[0].rescaled(np.full(7, 2.0), None)
    changes |= model.layers[1].rescaled(None, np.full(7, 0.5))
    x = torch.randn(9, 5)
    new = models.write(net, changes)
    assert torch.allclose(new(x), net(x), atol=1e-6)
    assert not torch.equal(new[0].weight, net[0].weight)

    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), normed(api)(nn.Linear(7, 1)))
    assert "the weights of 2 are normalised" in linked(net)[1][0]


@pytest.mark.parametrize("dim", [1, None])
@pytest.mark.parametrize("api", ["new", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_weight_normalisation_not_row_by_row(api, dim):
    net = nn.Sequential(nn.Linear(5, 1), normed(api)(nn.Linear(1, 7), dim=dim), nn.Linear(7, 1))
    with pytest.raises(NoChain):
        models.read(net)


def test_spectral_normalisation_and_pruning():
    spectral = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(7, 7))
    prune = framework("torch.nn.utils.prune")
    pruned = prune.random_unstructured(nn.Linear(7, 7), "weight", 0.3)
    net = nn.Sequential(nn.Linear(5, 7), spectral, nn.Linear(7, 7), pruned, nn.Linear(7, 1))
    with pytest.raises(NoChain):
        models.read(net)
    biases = prune.random_unstructured(nn.Linear(5, 7), "bias", 0.3)
    net = nn.Sequential(biases, nn.ReLU(), nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 1))
    assert kept(net) == 14  # a bias that is masked never moves


def test_conv1d_of_hugging_face_is_stored_transposed():
    def forward(self, x):
        return torch.addmm(self.bias, x, self.weight)

    conv1d = type("Conv1D", (nn.Module,), {"forward": forward})
    net = nn.Sequential(conv1d(), nn.ReLU(), nn.Linear(6, 1))
    net[0].nf, net[0].weight, net[0].bias = (
        6,
        nn.Parameter(torch.randn(6, 6)),
        nn.Parameter(torch.zeros(6)),
    )
    model = models.read(net)
    x = torch.randn(9, 6)
    np.testing.assert_allclose(outputs(model, x), net(x).detach(), rtol=1e-4, atol=1e-6)


def test_lazy_and_meta_tensors_hold_no_numbers():
    with pytest.raises(UnreadableModel, match=r"^0.weight: is not initialised"):
        models.read(nn.Sequential(nn.LazyLinear(7), nn.Linear(7, 1)))
    with pytest.raises(UnreadableModel, match=r"^0.weight: is on the device 'meta'"):
        models.read(mlp(device="meta"))
    with pytest.raises(UnreadableModel, match=r"^ReLU: the PyTorch module has no parameters"):
        models.read(nn.ReLU())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_kept(dtype):
    net = mlp().to(dtype)
    model = models.read(net)
    assert model.layers[0].weight_tensor.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_array_equal(model.layers[0].weight, net[0].weight.detach().double())
    changes = model.layers[0].rescaled(np.full(7, 1 + 2**-5), None)
    changes |= model.layers[1].rescaled(None, np.full(7, 1 / (1 + 2**-5)))
    for source in (net, net.state_dict()):
        new = models.write(source, changes)
        held = new[0].weight if isinstance(new, nn.Module) else new["0.weight"]
        assert held.dtype == dtype
        wanted = (net[0].weight.detach().double() * (1 + 2**-5)).to(dtype)
        assert torch.equal(held, wanted)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_weights_are_refused():
    state = mlp().state_dict()
    state["0.weight"] = torch.quantize_per_tensor(state["0.weight"], 0.1, 0, torch.qint8)
    with pytest.raises(NothingAuditable, match=r"0: .* it looks quantised by PyTorch \(weight"):
        ob.audit(state, "relu")
    state["0.weight"] = torch.ones(7, 5).to(torch.float8_e4m3fn)
    with pytest.raises(NothingAuditable, match=r"0: .* eight bits \(float8_e4m3fn\)"):
        ob.audit(state, "relu")


def test_the_memory_of_the_model_is_read_only():
    net = mlp()
    layer = models.read(net).layers[0]
    assert layer.weight.ctypes.data == net[0].weight.data_ptr()
    with pytest.raises(ValueError, match=r"read-only"):
        layer.weight[0, 0] = 1.0


# --- wrappers ------------------------------------------------------------------------------


def unwrapped(net):
    return next(one for one in net.modules() if type(one) is nn.Sequential)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_wrappers_are_taken_off():
    for wrapped in (
        nn.DataParallel(mlp()),
        torch.compile(mlp(), backend="eager"),
        torch.compile(nn.DataParallel(mlp()), backend="eager"),
    ):
        assert linked(wrapped) == (["0", "2"], ["relu"])
        before = next(wrapped.parameters()).detach().clone()
        changes = doubled(unwrapped(wrapped))
        assert models.write(wrapped, changes, inplace=True) is wrapped
        assert torch.equal(next(wrapped.parameters()), 2 * before)
        assert linked(wrapped.state_dict(), activation="relu") == (["0", "2"], ["relu"])


def test_lightning():
    lightning = framework("lightning")

    class Net(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = mlp()

        def forward(self, x):
            return self.model(x)

    assert linked(Net()) == (["model.0", "model.2"], ["relu"])


# --- state dicts ---------------------------------------------------------------------------


def test_state_dicts():
    net = mlp()
    assert linked(net.state_dict(), activation="relu") == (["0", "2"], ["relu"])
    assert linked({"epoch": 3, "model": net.state_dict()}, activation="relu")[0] == ["0", "2"]
    model = models.read(mlp(bias=False).state_dict(), ReadOptions("relu"))  # no option needed
    assert model.layers[0].weight.shape == (7, 5)
    with pytest.raises(ValueError, match=r"^layout = 'in_out'"):
        models.read(net.state_dict(), ReadOptions("relu", layout="in_out"))


def test_a_state_dict_of_tied_weights_says_so():
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    net[2].weight = net[0].weight
    assert (
        "weights are shared between 0.weight and 2.weight"
        in linked(net.state_dict(), activation="relu", layout="out_in")[1][0]
    )


def test_state_dicts_are_changed():
    net = mlp()
    state = net.state_dict()
    changes = {"0.bias": np.full(7, 3.0, np.float32)}
    new = models.write(state, changes)
    assert type(new) is type(state)
    assert (new["0.bias"] == 3).all()
    assert not (net[0].bias == 3).any()
    assert new["0.weight"] is state["0.weight"]
    mlp().load_state_dict(new)
    checkpoint = {"epoch": 3, "state_dict": state}
    new = models.write(checkpoint, changes)
    assert (new["epoch"], (new["state_dict"]["0.bias"] == 3).all()) == (3, True)
    assert checkpoint["state_dict"] is state
    assert models.write(state, changes, inplace=True) is state
    assert (net[0].bias == 3).all()


# --- changes -------------------------------------------------------------------------------


def test_a_copy_computes_the_same_and_the_model_stays():
    net = mlp()
    model = models.read(net)
    factors = np.arange(1.0, 8.0)
    changes = model.layers[0].rescaled(factors, None) | model.layers[1].rescaled(None, 1 / factors)
    before = copy.deepcopy(net.state_dict())
    new = models.write(net, changes)
    x = torch.randn(20, 5)
    assert torch.allclose(new(x), net(x), atol=1e-5)
    assert not torch.equal(new[0].weight, net[0].weight)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert new[0].weight.requires_grad


def test_optimisers_go_on_with_a_model_changed_in_place():
    net = mlp()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    weight, before = net[0].weight, net[0].weight.detach().clone()
    assert models.write(net, doubled(net), inplace=True) is net
    assert net[0].weight is weight
    assert weight.is_leaf
    assert weight.grad is None
    assert torch.equal(weight, 2 * before)
    net[0].bias.detach().fill_(9.0)  # some neuron is active
    net(torch.ones(1, 5)).sum().backward()
    optimiser.step()
    assert not torch.equal(weight, 2 * before)


def test_a_module_that_cannot_be_copied():
    net = mlp()
    net.lock = __import__("threading").Lock()
    with pytest.raises(
        ValueError, match=r"^inplace = False: Sequential cannot be copied .*inplace=True"
    ):
        models.write(net, {"0.bias": np.zeros(7, np.float32)})
    with pytest.raises(ValueError, match=r"^changes: there is no tensor 'x'"):
        models.write(net, {"x": np.zeros(7)})


class Hidden(nn.Module):
    """A network whose forward pass cannot be followed, nor is it what its layers show."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(5, 7), nn.Linear(7, 1)
        self.register_buffer("steps", torch.zeros(()))
        self.seen, self.calls = [], 0

    def forward(self, x):
        self.calls += 1
        self.steps += 1
        self.seen.append(x)
        noise = 0.0 * torch.rand(()) * np.random.rand() * random.random()  # noqa: NPY002
        h = torch.tanh(self.fc1(x)) if x.sum() > 0 or self.calls > 0 else self.fc1(x)
        return self.fc2(h) + noise


@pytest.mark.parametrize("inplace", [False, True])
def test_another_function_than_the_layers_show_is_found_out(inplace):
    net = Hidden().train()
    state = copy.deepcopy(net.state_dict())
    generators = torch.random.get_rng_state(), random.getstate()
    legacy = np.random.get_state()[1].tolist()  # noqa: NPY002
    with pytest.raises(ValueError, match=r"^Hidden: the module computes another function than"):
        models.write(net, doubled(net, "fc1", "fc2"), inplace=inplace)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert (net.seen, net.calls, net.training) == ([], 0, True)
    assert torch.equal(generators[0], torch.random.get_rng_state())
    assert generators[1] == random.getstate()
    assert legacy == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rounding_is_no_other_function(dtype):
    net = mlp().to(dtype)
    factors = np.geomspace(0.01, 90.0, 7)
    layers = models.read(net).layers
    changes = layers[0].rescaled(factors, None) | layers[1].rescaled(None, 1 / factors)
    models.write(net, changes)
    changes["2.weight"] = changes["2.weight"] * 1.2
    with pytest.raises(ValueError, match=r"^Sequential: the module computes another function than"):
        models.write(net, changes)


def test_modules_that_cannot_be_run_are_not_checked():
    net = nn.Sequential(nn.Conv1d(1, 1, 2), nn.Flatten(), mlp())
    zeros = {"2.0.weight": np.zeros((7, 5), np.float32)}
    assert not models.write(net, zeros)[2][0].weight.any()
    calls = []
    net = small()
    net.register_forward_hook(lambda *_: calls.append(1))  # it writes elsewhere
    models.write(net, doubled(net))
    assert not calls


def test_warnings_are_not_raised_by_reading():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        linked(nn.Sequential(nn.Linear(5, 7), nn.PReLU(7), nn.Linear(7, 1)))
