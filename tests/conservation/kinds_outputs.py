"""Networks whose outputs are combined, and parameters that gradients do not reach."""

from __future__ import annotations

from kind import Kind, Of, columns, draws, nn, rows, torch

relu = torch.relu
SHIFT = frozenset({"shift"})


def headed(after, outputs=3):
    """Return 3 -> 4 -> outputs with something behind the last layer."""

    def forward(self, x):
        return after(self.out(relu(self.first(x))))

    return Of(forward, first=nn.Linear(3, 4), out=nn.Linear(4, outputs)), draws(5, 3)


def of_head(model):
    return rows(model.first) - columns(model.out)


def logits(name, after, outputs=3):
    why = (
        "4 neurons. A common shift of all logits is not seen: the sum of the 4 output columns and "
        "of the output biases is constant."
    )
    expected = {"balance": 4, "shift": 5}
    values = {"balance": of_head}
    return Kind(name, lambda: headed(after, outputs), why, expected, values=values)


def frozen(*names, readers=1):
    """Return 3 -> 4 -> 5 -> 2 with some frozen parameters, perhaps read twice at the end."""

    def forward(self, x):
        h = relu(self.second(relu(self.first(x))))
        return self.out(h) if readers == 1 else self.out(h) + self.also(h)

    parts = {"first": nn.Linear(3, 4), "second": nn.Linear(4, 5), "out": nn.Linear(5, 2)}
    if readers == 2:
        parts["also"] = nn.Linear(5, 2, bias=False)
    model = Of(forward, **parts)
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    return model, draws(5, 3)


def first_of(model):
    return rows(model.first) - columns(model.second)


def second_of(model):
    return rows(model.second) - columns(model.out)


def both_of(model):
    return torch.cat([first_of(model), second_of(model)])


def detached():
    def forward(self, x):
        h = relu(self.first(x)).detach()
        return self.out(relu(self.second(h)))

    parts = {"first": nn.Linear(3, 4), "second": nn.Linear(4, 5), "out": nn.Linear(5, 2)}
    return Of(forward, **parts), draws(5, 3)


def unseen():
    def forward(self, x):
        return self.out(relu(self.first(x))) + 0.0 * self.times_zero(x)

    parts = {"first": nn.Linear(3, 4), "out": nn.Linear(4, 2), "never": nn.Linear(2, 2)}
    return Of(forward, **parts, alone=draws(3), times_zero=nn.Linear(3, 2)), draws(5, 3)


OUTPUTS = [
    logits("softmax inside", lambda y: torch.softmax(y, -1)),
    logits("log-softmax inside", lambda y: torch.log_softmax(y, -1)),
    logits("two logits", lambda y: torch.softmax(y, -1), 2),
    logits("difference of two outputs", lambda y: y[:, 0] - y[:, 1], 2),
    Kind(
        "sigmoid of a score",
        lambda: headed(torch.sigmoid, 1),
        "4 neurons; the sigmoid sees every shift.",
        {"balance": 4},
        values={"balance": of_head},
    ),
    Kind(
        "first of three outputs",
        lambda: headed(lambda y: y[:, :1]),
        "4 neurons; two rows of 4 weights and a bias are seen by nothing.",
        {"balance": 4, "constant": 10},
    ),
    Kind(
        "sum of three outputs",
        lambda: headed(lambda y: y.sum(-1)),
        "4 neurons; weights that one neuron sends to the three outputs have one gradient, so two "
        "differences of 5 columns (biases included) are constant: 10 linear laws.",
        {"balance": 4},
        convention=SHIFT,
        other_linear=10,
        values={"balance": of_head},
    ),
    Kind(
        "unseen parameters",
        unseen,
        "4 neurons; 6 + 3 scalars that are never used and 8 that are multiplied by 0.",
        {"balance": 4, "constant": 17},
        values={"balance": of_head},
    ),
    Kind(
        "frozen first bias",
        lambda: frozen("first.bias"),
        "A fixed bias cannot be scaled along: only the second layer's 5 neurons keep a balance.",
        {"balance": 5},
        values={"balance": second_of},
    ),
    Kind(
        "frozen first layer",
        lambda: frozen("first.weight", "first.bias"),
        "Fixed features: only the second layer's 5 neurons keep a balance.",
        {"balance": 5},
        values={"balance": second_of},
    ),
    Kind(
        "frozen last layer",
        lambda: frozen("out.weight", "out.bias"),
        "Columns that do not move cannot be scaled: only the first layer's 4 neurons.",
        {"balance": 4},
        values={"balance": first_of},
    ),
    Kind(
        "frozen last bias",
        lambda: frozen("out.bias"),
        "The output's bias belongs to no neuron: 4 + 5 as without.",
        {"balance": 9},
        values={"balance": both_of},
    ),
    Kind(
        "one of two readers frozen",
        lambda: frozen("also.weight", readers=2),
        "A fixed reader sees the scale of the second layer: only the first layer's 4 neurons.",
        {"balance": 4},
        values={"balance": first_of},
    ),
    Kind(
        "detached features",
        detached,
        "No gradient reaches the first layer, and the outputs depend on it, so nothing is claimed "
        "of it. The second layer's 5 neurons keep a balance.",
        {"balance": 5},
        convention=frozenset({"constant"}),
        values={"balance": second_of},
        complete=False,
    ),
]
