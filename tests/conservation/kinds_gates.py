"""Gated units and embeddings with hand-derived laws."""

from __future__ import annotations

from kind import Kind, Of, columns, draws, nn, rows, torch

relu = torch.relu


def gated(gate, *, bias=False):
    def forward(self, x):
        return self.down(gate(self.gate(x)) * self.up(x))

    parts = {"gate": nn.Linear(3, 4, bias=bias), "up": nn.Linear(3, 4, bias=bias)}
    return Of(forward, **parts, down=nn.Linear(4, 2, bias=bias)), draws(7, 3)


def of_up(model):
    return rows(model.up) - columns(model.down)


def one_layer(gate_first):
    def forward(self, x):
        gate, up = self.both(x).chunk(2, -1)
        if not gate_first:
            gate, up = up, gate
        return self.down(nn.functional.silu(gate) * up)

    return Of(forward, both=nn.Linear(3, 8), down=nn.Linear(4, 2)), draws(7, 3)


def gated_linear_unit():
    return nn.Sequential(nn.Linear(3, 8), nn.GLU(), nn.Linear(4, 2)), draws(7, 3)


def squeezed():
    def forward(self, x):
        x = relu(self.first(x))
        gate = self.expand(relu(self.squeeze(x.mean((2, 3))))).sigmoid()
        return self.out((x * gate[:, :, None, None]).amax((2, 3)))

    parts = {"first": nn.Conv2d(2, 4, 2), "squeeze": nn.Linear(4, 3), "expand": nn.Linear(3, 4)}
    return Of(forward, **parts, out=nn.Linear(4, 2)), draws(4, 2, 3, 3)


def of_squeezed(model):
    seen = columns(model.squeeze) + columns(model.out)
    return torch.cat([rows(model.first) - seen, rows(model.squeeze) - columns(model.expand)])


def product_of_networks():
    def forward(self, x, z):
        return self.out(relu(self.one(x)) * relu(self.two(z)) * self.gain)

    parts = {"one": nn.Linear(3, 4), "two": nn.Linear(2, 4), "out": nn.Linear(4, 2)}
    return Of(forward, **parts, gain=draws(4)), (draws(7, 3), draws(7, 2, seed=6))


WORDS = 5


def words(generator):
    return torch.randint(WORDS, (9,), generator=generator)


def embedded(activation):
    def forward(self, indices):
        return self.out(activation(self.table(indices)))

    parts = {"table": nn.Embedding(WORDS, 3), "out": nn.Linear(3, 2)}
    return Of(forward, **parts), torch.tensor([0, 1, 1, 3])


def of_embedded(model):
    return columns(model.table) - columns(model.out)


def sentences(generator):
    return torch.randint(WORDS, (4, 3), generator=generator)


def positioned():
    def forward(self, indices):
        return self.out(torch.tanh(self.mix(self.table(indices) + self.places))).sum(1)

    parts = {"table": nn.Embedding(WORDS, 3), "mix": nn.Linear(3, 2), "out": nn.Linear(2, 2)}
    return Of(forward, **parts, places=draws(3, 3)), torch.tensor([[0, 1, 3], [2, 4, 4]])


GATES = [
    *(
        Kind(
            f"{name}{' with biases' if bias else ''}",
            lambda gate=gate, bias=bias: gated(gate, bias=bias),
            "4 units: the up row scales the product, the gate row does not.",
            {"balance": 4},
            values={"balance": of_up},
        )
        for name, gate in (("SwiGLU", nn.functional.silu), ("GeGLU", nn.functional.gelu))
        for bias in (False, True)
    ),
    *(
        Kind(
            f"SwiGLU in one layer, {'gate' if gate_first else 'up'} first",
            lambda gate_first=gate_first: one_layer(gate_first),
            "4 units whose up rows are one half of a layer's rows.",
            {"balance": 4},
            values={
                "balance": lambda m, gate_first=gate_first: (
                    rows(m.both).view(2, 4)[int(gate_first)] - columns(m.down)
                )
            },
        )
        for gate_first in (True, False)
    ),
    Kind(
        "gated linear unit",
        gated_linear_unit,
        "4 units: a sigmoid of the second half gates the first half.",
        {"balance": 4},
        values={"balance": lambda m: rows(m[0])[:4] - columns(m[2])},
    ),
    *(
        Kind(
            name,
            lambda gate=gate, bias=bias: gated(gate, bias=bias),
            "4 units: either factor of the product scales it, so both rows have the balance of "
            "their column: 2 numbers each.",
            {"balance": 8},
        )
        for name, gate, bias in (
            ("ReGLU", relu, False),
            ("ReGLU with biases", relu, True),
            ("bilinear unit", lambda z: z, False),
            ("bilinear unit with biases", lambda z: z, True),
        )
    ),
    Kind(
        "product of two networks and a gain",
        product_of_networks,
        "4 units: two rows, a gain and a column scale the product: 3 numbers each.",
        {"balance": 12},
    ),
    Kind(
        "squeeze and excitation",
        squeezed,
        "4 channels, read by the squeeze and by the last layer; 3 neurons of the squeeze.",
        {"balance": 7},
        values={"balance": of_squeezed},
    ),
    Kind(
        "embedding, linear",
        lambda: embedded(lambda x: x),
        "3 linear neurons: a block of side 3. A word that no sample contains is not constant.",
        blocks=(3,),
        redraw=words,
    ),
    Kind(
        "embedding, ReLU",
        lambda: embedded(relu),
        "3 channels, written by the columns of the table.",
        {"balance": 3},
        redraw=words,
        values={"balance": of_embedded},
    ),
    Kind(
        "embedding with positions",
        positioned,
        "3 linear neurons written by two tables. What all words gain and all places lose is not "
        "seen: the difference of the sums of both tables is constant for each of the 3 channels.",
        blocks=(3,),
        convention=frozenset({"shift"}),
        other_linear=3,
        redraw=sentences,
    ),
]
