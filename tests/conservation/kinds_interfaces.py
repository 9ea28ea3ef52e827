"""Inputs and outputs of every form, and models of raw tensor operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kind import Kind, Of, columns, draws, nn, rows, torch

relu = torch.relu


def parts():
    return {"first": nn.Linear(3, 4), "out": nn.Linear(4, 2)}


def balances(model):
    return rows(model.first) - columns(model.out)


@dataclass
class Answer:
    """An output of a form that a library of models would define."""

    score: Any
    hidden: Any
    note: str = "none"
    cache: Any = None


def form(name, wrap, *, seen=False):
    """Return a case that returns its outputs in some form, perhaps the hidden layer as well."""

    def forward(self, x):
        h = relu(self.first(x))
        return wrap(self.out(h), h)

    expected = {} if seen else {"balance": 4}
    why = "the hidden layer is an output, so its scale is seen" if seen else "4 neurons"
    values = {} if seen else {"balance": balances}
    build = lambda: (Of(forward, **parts()), draws(5, 3))  # noqa: E731
    return Kind(f"outputs: {name}", build, why, expected, values=values)


def named_inputs():
    def forward(self, *, features, scale, mask=None):
        h = relu(self.first(features) * scale)
        return self.out(h if mask is None else h * mask[:, None])

    inputs = {"features": draws(5, 3), "scale": draws(5, 1, seed=6)}
    inputs["mask"] = torch.tensor([True, False, True, True, True])
    return Of(forward, **parts()), inputs


def many_inputs():
    def forward(self, x, pair, options):
        h = relu(self.first(x) * pair[0])
        return self.out(h) + pair[1] if options["head"] else h

    pair = (draws(5, 1, seed=6), draws(5, 1, seed=7))
    return Of(forward, **parts()), (draws(5, 3), pair, {"head": True})


def graph():
    """Return a graph convolution: an input of floats and edges as integers."""

    def forward(self, x, edges):
        messages = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
        h = relu(self.first(x) + self.neighbours(messages))
        summed = torch.zeros_like(h).index_add(0, edges[1], h[edges[0]])
        return self.out(h) + self.other(summed)

    inputs = draws(5, 3), torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 0, 4, 3, 2]])
    neighbours, other = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
    return Of(forward, **parts(), neighbours=neighbours, other=other), inputs


def of_graph(model):
    return balances(model) + rows(model.neighbours) - columns(model.other)


def redrawn_graph(generator):
    x = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(5, (2, 8), generator=generator)


def raw():
    """Return 3 -> 4 -> 5 -> 2 of einsum alone, weights stored in different orders."""

    def forward(self, x):
        h = torch.einsum("bi,ij->bj", x, self.a) + self.c
        h = torch.einsum("bj,kj->bk", h.clamp(min=0), self.b)
        return torch.einsum("bk,ko->bo", torch.where(h > 0, h, 0.2 * h), self.d)

    weights = {"a": draws(3, 4), "c": draws(4, seed=6), "b": draws(5, 4, seed=7)}
    weights["d"] = draws(5, 2, seed=8)
    return Of(forward, **weights), draws(5, 3)


def squares(weight, dims):
    return weight.detach().square().sum(dims)


def of_raw(model):
    first = squares(model.a, 0) + model.c.detach().square() - squares(model.b, 0)
    return torch.cat([first, squares(model.b, 1) - squares(model.d, 1)])


def raw_attention():
    """Return attention whose heads are an axis of their own of each weight."""

    def forward(self, x):
        q = torch.einsum("bti,ihd->bhtd", x, self.q) + self.c[:, None]
        k = torch.einsum("bti,ihd->bhtd", x, self.k)
        v = torch.einsum("bti,hdi->bhtd", x, self.v)
        scores = torch.einsum("bhsd,bhtd->bhst", q, k).softmax(-1)
        return torch.einsum("bhst,bhtd,hdo->bso", scores, v, self.o)

    weights = {
        "q": draws(3, 2, 2, seed=4),
        "k": draws(3, 2, 2, seed=6),
        "v": draws(2, 2, 3, seed=7),
    }
    return Of(forward, **weights, o=draws(2, 2, 3, seed=8), c=draws(2, 2, seed=9)), draws(3, 4, 3)


def experts():
    """Return 2 dense experts, the expert an axis of each weight, summed by a softmax gate."""

    def forward(self, x):
        h = relu(torch.einsum("bi,eji->bej", x, self.a) + self.b)
        return torch.einsum("bej,eoj,be->bo", h, self.c, (x @ self.gate).softmax(-1))

    weights = {"a": draws(2, 4, 3), "b": draws(2, 4, seed=6), "c": draws(2, 2, 4, seed=7)}
    return Of(forward, **weights, gate=draws(3, 2, seed=8)), draws(6, 3, seed=9)


def of_experts(model):
    return (squares(model.a, 2) + model.b.detach().square() - squares(model.c, 1)).flatten()


def functional_convolution():
    def forward(self, x):
        h = nn.functional.conv2d(x, self.kernel).relu()
        return torch.einsum("bchw,chwo->bo", h, self.read)

    return Of(forward, kernel=draws(3, 2, 2, 2), read=draws(3, 2, 2, 2, seed=6)), draws(3, 2, 3, 3)


INTERFACES = [
    form("a tuple", lambda y, h: (y, y**2)),
    form(
        "a dictionary of lists", lambda y, h: {"scores": [y[:, 0], y[:, 1]], "labels": y.argmax(1)}
    ),
    form("a dataclass", lambda y, h: Answer(y, None)),
    form("a dataclass with the hidden layer", Answer, seen=True),
    form("a tuple with the hidden layer", lambda y, h: (y, [h]), seen=True),
    form("a scalar", lambda y, h: (y**2).sum()),
    Kind(
        "inputs by name, with a mask",
        named_inputs,
        "4 neurons; factors and masks of the inputs commute with the scale.",
        {"balance": 4},
        values={"balance": balances},
    ),
    Kind(
        "nested inputs",
        many_inputs,
        "4 neurons; a factor of the hidden layer and an offset of the outputs do not matter.",
        {"balance": 4},
        values={"balance": balances},
    ),
    Kind(
        "graph convolution",
        graph,
        "4 neurons with two writers and two readers.",
        {"balance": 4},
        values={"balance": of_graph},
        redraw=redrawn_graph,
    ),
    Kind(
        "raw tensors",
        raw,
        "4 + 5 neurons; no module says which axis is which.",
        {"balance": 9},
        values={"balance": of_raw},
    ),
    Kind(
        "raw attention",
        raw_attention,
        "4 blocks of side 2, heads along an axis of their own; there is no key bias.",
        blocks=(2,) * 4,
    ),
    Kind(
        "raw experts",
        experts,
        "2 x 4 neurons, one for every pair of indices. The softmax does not see a common shift of "
        "its inputs: each of the 3 rows of the gate keeps its sum.",
        {"balance": 8, "shift": 3},
        values={"balance": of_experts},
    ),
    Kind(
        "raw convolution",
        functional_convolution,
        "3 channels, read by an array whose first axis they are.",
        {"balance": 3},
        values={"balance": lambda m: squares(m.kernel, (1, 2, 3)) - squares(m.read, (1, 2, 3))},
    ),
]
