"""Networks whose activations look homogeneous and are not, and the few laws that they do keep.

Between two layers around an activation that is not homogeneous no balance holds, whatever the
gradients look like at one scale of the weights. What a normalisation does not see of the layer
before it stays, and gains that the next layer reads at once keep their balance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kind import Function, Kind, Of, draws, nn, torch

functional = nn.functional
relu = torch.relu


class WrongBackward(torch.autograd.Function):
    """ReLU forward, and a backward pass that is not its own."""

    @staticmethod
    def forward(ctx, z, wrong):
        ctx.save_for_backward(z)
        ctx.wrong = wrong
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (z,) = ctx.saved_tensors
        return ctx.wrong(gradient, z), None


def twice(gradient, z):
    return 2 * gradient * (z > 0)


def leaking(gradient, z):
    return gradient * torch.where(z > 0, 1.0, 0.3)


def smooth(gradient, z):
    return gradient * torch.sigmoid(z)


def clipped(gradient, z):
    return gradient.clamp(-0.01, 0.01) * (z > 0)


def wrong(backward):
    return lambda: Function(lambda z: WrongBackward.apply(z, backward))


def through(forward):
    """Return a straight-through estimator: its gradient is that of the identity."""
    return lambda: Function(lambda z: z + (forward(z) - z).detach())


def fake_quantised(z):
    return torch.fake_quantize_per_tensor_affine(z, 0.1, 0, -128, 127)


def function(f):
    return lambda: Function(f)


def not_traced(z):
    with torch.no_grad():
        kept = relu(z)
    return relu(z) + kept * 0.5


@dataclass(frozen=True)
class Activation:
    """An activation that is not homogeneous of any degree.

    `honest` tells whether its gradients are those of a continuous function, so that they tell all.
    A jump, as that of ``Threshold(0.1, 0)``, is not seen by gradients: z f'(z) = f(z) on both sides
    of it, and only the scaling itself refutes the law. The gradient of an activation that is `flat`
    vanishes almost everywhere. A normalisation behind some activations does `forget` the scale of
    what is before: their outputs are homogeneous, up to a constant, and gradients agree with that.
    It has an `offset` if it is homogeneous but for a constant.
    """

    name: str
    build: Callable[[], Any]
    honest: bool = True
    flat: bool = False
    forgets: bool = False
    offset: bool = False


def dishonest(name, build, *, forgets=False):
    return Activation(name, build, honest=False, forgets=forgets)


ACTIVATIONS = [
    Activation("ReLU6", nn.ReLU6),
    Activation("hard-swish", nn.Hardswish),
    Activation("hard-sigmoid", nn.Hardsigmoid),
    Activation("hard-tanh", nn.Hardtanh),
    Activation("tanh", nn.Tanh),
    Activation("sigmoid", nn.Sigmoid),
    Activation("GELU", nn.GELU),
    Activation("GELU by tanh", partial(nn.GELU, "tanh")),
    Activation("SiLU", nn.SiLU),
    Activation("Mish", nn.Mish),
    Activation("softplus", nn.Softplus),
    Activation("steep softplus", partial(nn.Softplus, 100.0)),
    Activation("ELU", nn.ELU),
    Activation("SELU", nn.SELU),
    Activation("CELU", nn.CELU),
    Activation("softsign", nn.Softsign),
    Activation("soft shrinkage", nn.Softshrink),
    Activation("tanh shrinkage", nn.Tanhshrink),
    Activation("log-sigmoid", nn.LogSigmoid),
    Activation("threshold to 0.5", partial(nn.Threshold, 0.0, 0.5)),
    Activation("clamp to 1", function(lambda z: z.clamp(-1, 1))),
    Activation("clamp to 1000", function(lambda z: z.clamp(-1000, 1000))),
    Activation("ReLU up to 1000", function(lambda z: z.clamp(0, 1000))),
    Activation("ReLU from 0.001", function(lambda z: relu(z - 0.001))),
    Activation("ReLU plus 0.1", function(lambda z: relu(z) + 0.1), forgets=True, offset=True),
    Activation("Leaky ReLU of z - 1", function(lambda z: functional.leaky_relu(z - 1))),
    Activation("ReLU and its square", function(lambda z: relu(z) + 0.1 * z**2)),
    Activation("sine", function(torch.sin)),
    Activation("z + sin² z", function(lambda z: z + z.sin() ** 2)),
    Activation("gate of itself", function(lambda z: relu(z) * torch.sigmoid(z))),
    Activation("square root of 1 + z²", function(lambda z: (1 + z**2).sqrt())),
    Activation("log(1 + ReLU)", function(lambda z: relu(z).log1p())),
    Activation("noise behind", function(lambda z: relu(z) + 0.1 * torch.randn_like(z))),
    Activation("noise before", function(lambda z: relu(z + 0.1 * torch.randn_like(z)))),
    Activation("rounding", function(torch.round), flat=True),
    Activation("sign", function(torch.sign), flat=True),
    dishonest("hard shrinkage", nn.Hardshrink),
    dishonest("threshold 0.1", partial(nn.Threshold, 0.1, 0.0)),
    dishonest("fake quantisation", function(lambda z: fake_quantised(relu(z)))),
    dishonest("fake quantisation before", function(lambda z: relu(fake_quantised(z)))),
    dishonest("straight-through rounding", through(torch.round)),
    dishonest("straight-through sign", through(torch.sign)),
    dishonest("straight-through ReLU", through(torch.relu)),
    dishonest("gradient twice too large", wrong(twice), forgets=True),
    dishonest("gradient that leaks", wrong(leaking)),
    dishonest("gradient that is smooth", wrong(smooth)),
    dishonest("gradient that is clipped", wrong(clipped)),
    dishonest("detached beside", function(lambda z: relu(z) + relu(z).detach()), forgets=True),
    dishonest("detached factor", function(lambda z: relu(z) * relu(z).detach()), forgets=True),
    dishonest("no_grad beside", function(not_traced), forgets=True),
]

WIDTH = 4


def normalisation(norm, form):
    if norm == "batch":
        return nn.BatchNorm1d(WIDTH) if form == "dense" else nn.BatchNorm2d(WIDTH)
    return nn.LayerNorm(WIDTH) if form == "dense" else nn.GroupNorm(1, WIDTH)


def network(activation: Activation, depth: int, norm: str, form: str) -> tuple[Any, Any]:
    """Return a network of some hidden layers of 4 with biases everywhere, and its inputs."""
    layers: list[Any] = []
    kind, _, behind = norm.partition(" ")
    for layer in range(depth):
        fan_in = 3 if layer == 0 else WIDTH
        if form == "dense":
            layers.append(nn.Linear(fan_in, WIDTH))
        else:
            layers.append(nn.Conv2d(fan_in, WIDTH, 2, padding=layer % 2))
        if kind != "none" and not behind:
            layers.append(normalisation(kind, form))
        layers.append(activation.build())
        if behind:
            layers.append(normalisation(kind, form))
    if form == "convolution":
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    inputs = draws(9, 3) if form == "dense" else draws(4, 3, 5, 5)
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2)), inputs


def laws(activation: Activation, depth: int, norm: str, form: str) -> dict[str, int]:
    """Return the numbers of laws of `network`.

    norm before the activation
        Batch norm: the length of each row and its bias are not seen. Layer norm: the length of all
        rows together is not seen, nor the sum of the biases and, in a dense layer, of each column.
        If a constant is all that the activation adds to a homogeneous one, the next batch norm
        removes what becomes of it: gains and offsets keep balances with the columns between.
    norm behind the activation
        The next layer reads gains and offsets at once: their balances. If the activation lets it,
        the norm forgets the length of each row with its bias, or of all rows together. No gradient
        gets through a flat activation, so that nothing is seen but the last balances.
    """
    if norm == "none":
        return {}
    if norm.endswith("behind"):
        scale = depth * (WIDTH if norm.startswith("batch") else 1) * activation.forgets
        found = {"balance": (1 if activation.flat else depth) * WIDTH, "scale": scale}
        return {kind: number for kind, number in found.items() if number}
    if norm == "batch":
        found = {"scale": depth * WIDTH, "constant": depth * WIDTH}
        if activation.offset and form == "dense" and depth > 1:
            found["balance"] = (depth - 1) * WIDTH
        return found
    sums = (3 + 1) + (depth - 1) * (WIDTH + 1) if form == "dense" else depth
    return {"scale": depth, "shift": sums}


def case(activation: Activation, depth: int, norm: str = "none", form: str = "dense") -> Kind:
    """Return the network as a case; a flat activation lets no gradient reach what is below."""
    if activation.flat and norm not in ("none", "batch behind", "layer behind"):
        raise ValueError("a flat activation hides what a normalisation before it keeps")
    return Kind(
        f"{activation.name}, {depth} {form}, {norm}",
        lambda: network(activation, depth, norm, form),
        laws.__doc__ or "",
        laws(activation, depth, norm, form),
        convention=frozenset({"constant"}) if activation.flat else frozenset(),
        complete=activation.honest and not activation.flat,
    )


def homogeneous_power():
    """Return z|z|, which has degree 2, between batch norms."""
    layers = [nn.Linear(3, 4), nn.BatchNorm1d(4), Function(lambda z: z * z.abs())]
    return nn.Sequential(*layers, nn.Linear(4, 2)), draws(9, 3)


def dense(*between, outputs=2):
    return nn.Sequential(nn.Linear(3, 4), *between, nn.Linear(4, outputs)), draws(9, 3)


def offset(where):
    """Return a network with a learned offset of its own for each neuron around Leaky ReLU."""

    def forward(self, x):
        z = self.first(x)
        if where == "before":
            return self.out(functional.leaky_relu(z + self.offset, 0.1))
        return self.out(functional.leaky_relu(z, 0.1) + self.offset)

    parts = {"first": nn.Linear(3, 4), "out": nn.Linear(4, 2), "offset": draws(4)}
    return Of(forward, **parts), draws(9, 3)


def one_offset():
    def forward(self, x):
        return self.out(relu(self.first(x)) + self.offset)

    return Of(forward, first=nn.Linear(3, 4), out=nn.Linear(4, 2), offset=draws(1)), draws(9, 3)


def beside(stop):
    """Return a network that reads its hidden layer twice, once without gradient."""

    def forward(self, x):
        h = relu(self.first(x))
        return self.out(h) + self.also(stop(h))

    parts = {"first": nn.Linear(3, 4), "out": nn.Linear(4, 2)}
    return Of(forward, **parts, also=nn.Linear(4, 2, bias=False)), draws(9, 3)


def not_recorded(h):
    with torch.no_grad():
        return h * 1.0


def long_memory():
    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])

    cells = nn.LSTM(2, 3, batch_first=True)
    return Of(forward, cells=cells, out=nn.Linear(3, 2)), draws(4, 4, 2)


def gated_memory():
    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])

    cells = nn.GRU(2, 3, batch_first=True)
    return Of(forward, cells=cells, out=nn.Linear(3, 2)), draws(4, 4, 2)


SHIFT = frozenset({"shift"})
SPECIAL = [
    Kind(
        "softmax in the middle",
        lambda: dense(nn.Softmax(-1)),
        "Softmax is not homogeneous; it does not see a common shift: 3 columns and the biases. "
        "Its values add up to 1, so what a row of the next layer gains its bias may lose: 2 more "
        "linear laws.",
        {"shift": 4},
        convention=frozenset({"shift"}),
        other_linear=2,
    ),
    Kind(
        "log-softmax in the middle",
        lambda: dense(nn.LogSoftmax(-1)),
        "The same.",
        {"shift": 4},
    ),
    Kind(
        "layer norm without gain",
        lambda: dense(nn.LayerNorm(4, elementwise_affine=False), nn.ReLU()),
        "The rows are one block, the mean is subtracted; nothing is left to scale.",
        {"scale": 1, "shift": 4},
    ),
    Kind(
        "RMS norm without gain",
        lambda: dense(nn.RMSNorm(4, elementwise_affine=False), nn.ReLU()),
        "The rows are one block.",
        {"scale": 1},
    ),
    Kind(
        "batch norm without gain",
        lambda: dense(nn.BatchNorm1d(4, affine=False), nn.ReLU()),
        "Each row is a block and each bias constant.",
        {"scale": 4, "constant": 4},
    ),
    Kind(
        "instance norm without gain",
        lambda: (
            nn.Sequential(
                nn.Conv2d(2, 4, 2),
                nn.InstanceNorm2d(4),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(4, 2),
            ),
            draws(4, 2, 4, 4),
        ),
        "Each filter is a block and each bias constant.",
        {"scale": 4, "constant": 4},
    ),
    Kind(
        "local response norm",
        lambda: (
            nn.Sequential(
                nn.Conv2d(2, 4, 2),
                nn.ReLU(),
                nn.LocalResponseNorm(3, 0.5),
                nn.Flatten(),
                nn.Linear(16, 2),
            ),
            draws(4, 2, 3, 3),
        ),
        "Neighbouring channels divide each other and a constant is added: no law.",
    ),
    Kind(
        "z|z| behind batch norm",
        homogeneous_power,
        "This one is homogeneous, of degree 2: gains and offsets against twice the columns.",
        {"balance": 4, "scale": 4, "constant": 4},
    ),
    *(
        Kind(
            f"learned offset {where} Leaky ReLU",
            lambda where=where: offset(where),
            "A learned offset of each neuron scales along with its row, so the balance holds with "
            "the offset among the writers."
            + " Offset and bias have one gradient: 4 linear laws."
            * (where == "before"),
            {"balance": 4},
            convention=SHIFT if where == "before" else frozenset(),
            other_linear=4 if where == "before" else 0,
        )
        for where in ("before", "behind")
    ),
    Kind(
        "one learned offset for all",
        one_offset,
        "An offset that all neurons share lets only all of them be scaled together: one number.",
        {"balance": 1},
    ),
    *(
        Kind(
            f"hidden layer read {name}",
            lambda stop=stop: beside(stop),
            "Gradients alone keep row² - column² of the reader that passes them on, but the "
            "network's outputs change under that scaling: not claimed.",
            complete=False,
        )
        for name, stop in (("detached", lambda h: h.detach()), ("under no_grad", not_recorded))
    ),
    Kind(
        "LSTM",
        long_memory,
        "No gate is homogeneous. Both biases of each of 4 x 3 gates have one gradient.",
        convention=SHIFT,
        other_linear=12,
    ),
    Kind(
        "GRU",
        gated_memory,
        "No gate is homogeneous. Both biases of reset and update gates have one gradient.",
        convention=SHIFT,
        other_linear=6,
    ),
]
