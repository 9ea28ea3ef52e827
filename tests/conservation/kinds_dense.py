"""Dense networks with hand-derived laws."""

from __future__ import annotations

from kind import Function, Kind, Of, columns, draws, nn, rows, torch

relu = torch.relu
SHIFT = frozenset({"shift"})


def chain(activation=nn.ReLU, *, bias=True):
    """Return 3 -> 4 -> 2 with an activation between."""
    first = nn.Linear(3, 4, bias=bias)
    return nn.Sequential(first, activation(), nn.Linear(4, 2, bias=bias)), draws(5, 3)


def deep(*, bias=True):
    layers = [nn.Linear(3, 4, bias=bias), nn.ReLU(), nn.Linear(4, 5, bias=bias), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(5, 2, bias=bias)), draws(5, 3)


def of_deep(model):
    a, b, c = model[0], model[2], model[4]
    return torch.cat([rows(a) - columns(b), rows(b) - columns(c)])


def of_chain(model):
    return rows(model[0]) - columns(model[2])


def hidden(name, activation, why):
    """Return a case with one hidden layer of 4 neurons that all keep a balance."""
    values = {"balance": of_chain}
    return Kind(name, lambda: chain(activation), why, {"balance": 4}, values=values)


def maxout(shape, axis):
    def forward(self, x):
        return self.out(self.first(x).reshape(-1, *shape).amax(axis))

    return Of(forward, first=nn.Linear(3, 8), out=nn.Linear(4, 2)), draws(5, 3)


def squared():
    layers = [nn.Linear(3, 3), Function(lambda z: relu(z) ** 2), nn.Linear(3, 4)]
    return nn.Sequential(*layers, Function(lambda z: z * z.abs()), nn.Linear(4, 2)), draws(5, 3)


def of_squared(model):
    a, b, c = model[0], model[2], model[4]
    return torch.cat([rows(a) - 2 * columns(b), rows(b) - 2 * columns(c)])


def readers():
    def forward(self, x):
        h = relu(self.first(x))
        return self.one(h), self.two(h)

    return Of(forward, first=nn.Linear(3, 4), one=nn.Linear(4, 2), two=nn.Linear(4, 1)), draws(5, 3)


def writers(bias):
    def forward(self, x, z):
        return self.out(relu(self.one(x) + self.two(z)))

    parts = {"one": nn.Linear(3, 4), "two": nn.Linear(2, 4, bias=bias), "out": nn.Linear(4, 2)}
    return Of(forward, **parts), (draws(5, 3), draws(5, 2, seed=6))


def of_writers(model):
    return rows(model.one) + rows(model.two) - columns(model.out)


def residual(style):
    def linear_stream(self, x):
        x = self.inward(x)
        return self.out(x + self.up(relu(self.down(x))))

    def activated_stream(self, x):
        x = self.inward(x)
        return self.out(relu(x + self.up(relu(self.down(relu(x))))))

    def activated_joins(self, x):
        x = relu(self.inward(x))
        return self.out(relu(x + self.up(relu(self.down(x)))))

    forward = {"linear": linear_stream, "read": activated_stream, "joins": activated_joins}[style]
    parts = {"inward": nn.Linear(2, 3), "down": nn.Linear(3, 4), "up": nn.Linear(4, 3)}
    return Of(forward, **parts, out=nn.Linear(3, 2)), draws(6, 2)


def of_branch(model):
    return rows(model.down) - columns(model.up)


def of_stream(model):
    inward, out = rows(model.inward) + rows(model.up), columns(model.down) + columns(model.out)
    return torch.cat([inward - out, of_branch(model)])


def linear_neurons():
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), draws(6, 3)


def deep_linear():
    layers = [nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False), nn.Linear(2, 3)]
    return nn.Sequential(*layers), draws(6, 3)


def autoencoder():
    def forward(self, x):
        return relu(x @ self.weight.T + self.bias) @ self.weight + self.offset

    parts = {"weight": draws(4, 3), "bias": draws(4, seed=6), "offset": draws(3, seed=7)}
    return Of(forward, **parts), draws(5, 3, seed=8)


def applied_twice():
    def forward(self, x):
        x = relu(self.inward(x))
        return self.out(relu(self.again(relu(self.again(x)))))

    parts = {"inward": nn.Linear(3, 4), "again": nn.Linear(4, 4), "out": nn.Linear(4, 2)}
    return Of(forward, **parts), draws(5, 3)


def of_loop(weight, *also):
    square = weight.detach().square()
    square = square - torch.diag(torch.diag(square))
    return square.sum(1) - square.sum(0) + sum(also)


def of_applied_twice(model):
    again = model.again
    other = again.bias.detach().square() + rows(model.inward) - columns(model.out)
    return of_loop(again.weight, other)


def recurrent():
    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])

    cells = nn.RNN(2, 3, nonlinearity="relu", batch_first=True)
    return Of(forward, cells=cells, out=nn.Linear(3, 2)), draws(4, 4, 2)


def of_recurrent(model):
    cells = model.cells
    biases = cells.bias_ih_l0.detach().square() + cells.bias_hh_l0.detach().square()
    inward = cells.weight_ih_l0.detach().square().sum(1)
    return of_loop(cells.weight_hh_l0, biases, inward, -columns(model.out))


def sorted_neurons():
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    return nn.Sequential(first, Function(lambda z: z.sort(1).values), second), draws(5, 3)


DENSE = [
    Kind(
        "relu chain",
        deep,
        "Each of the 4 + 5 hidden neurons: row and bias against column.",
        {"balance": 9},
        values={"balance": of_deep},
    ),
    Kind(
        "relu chain without biases",
        lambda: deep(bias=False),
        "Each of the 4 + 5 hidden neurons: row against column.",
        {"balance": 9},
        values={"balance": of_deep},
    ),
    hidden("leaky relu", lambda: nn.LeakyReLU(0.1), "Leaky ReLU is homogeneous of degree 1."),
    hidden("shared prelu", nn.PReLU, "A learned slope is homogeneous; the slope has no law."),
    hidden("prelu per channel", lambda: nn.PReLU(4), "The same with a slope for each neuron."),
    hidden("abs", lambda: Function(torch.abs), "The absolute value is homogeneous."),
    hidden("threshold", lambda: nn.Threshold(0.0, 0.0), "This is ReLU under another name."),
    hidden(
        "randomised leaky relu", nn.RReLU, "Random slopes are homogeneous once the draw is fixed."
    ),
    hidden(
        "dropout",
        lambda: nn.Sequential(nn.ReLU(), nn.Dropout(0.3)),
        "A fixed mask multiplies the channel and commutes with its scale.",
    ),
    hidden(
        "multiplicative noise",
        lambda: Function(lambda z: relu(z) * (1 + 0.3 * torch.randn_like(z))),
        "A fixed factor multiplies the channel, as dropout does.",
    ),
    Kind(
        "maxout of neighbours",
        lambda: maxout((4, 2), 2),
        "Each of the 4 units: the 2 rows of its pieces against its column.",
        {"balance": 4},
        values={"balance": lambda m: rows(m.first).view(4, 2).sum(1) - columns(m.out)},
    ),
    Kind(
        "maxout across halves",
        lambda: maxout((2, 4), 1),
        "The same, with pieces k and k + 4 in unit k.",
        {"balance": 4},
        values={"balance": lambda m: rows(m.first).view(2, 4).sum(0) - columns(m.out)},
    ),
    Kind(
        "squared activations",
        squared,
        "relu(z)² and z|z| have degree 2: a row scaled by α needs its column scaled by α⁻², so "
        "row² - 2 column² is kept by each of the 3 + 4 neurons.",
        {"balance": 7},
        values={"balance": of_squared},
    ),
    Kind(
        "several readers",
        readers,
        "4 neurons, each read by two layers.",
        {"balance": 4},
        values={"balance": lambda m: rows(m.first) - columns(m.one) - columns(m.two)},
    ),
    Kind(
        "several writers",
        lambda: writers(False),
        "4 neurons, each written by two layers of different inputs.",
        {"balance": 4},
        values={"balance": of_writers},
    ),
    Kind(
        "several writers with a bias each",
        lambda: writers(True),
        "4 neurons; besides, the two biases of a neuron have one gradient, so their difference is "
        "constant: 4 linear laws.",
        {"balance": 4},
        convention=SHIFT,
        other_linear=4,
        values={"balance": of_writers},
    ),
    Kind(
        "residual stream, linear",
        lambda: residual("linear"),
        "Nothing acts between writers and readers of the stream of 3 channels: an invertible "
        "mixing of it is a symmetry (block of side 3). The 4 neurons of the branch keep balances.",
        {"balance": 4},
        blocks=(3,),
        values={"balance": of_branch},
    ),
    Kind(
        "residual stream, activated before readers",
        lambda: residual("read"),
        "Every reader sees ReLU of the stream: 3 channels of the stream and 4 of the branch.",
        {"balance": 7},
        values={"balance": of_stream},
    ),
    Kind(
        "residual stream, activated joins",
        lambda: residual("joins"),
        "ReLU of a sum is homogeneous in the sum: 3 channels of the stream and 4 of the branch.",
        {"balance": 7},
        values={"balance": of_stream},
    ),
    Kind(
        "linear neurons",
        linear_neurons,
        "Invertible mixings of 4 linear neurons: all entries of a symmetric matrix of side 4.",
        blocks=(4,),
    ),
    Kind(
        "three linear layers",
        deep_linear,
        "One matrix law for each of the two linear hidden layers.",
        blocks=(4, 2),
    ),
    Kind(
        "tied autoencoder",
        autoencoder,
        "One matrix both writes and reads each neuron, so its scale cannot be undone: no law.",
    ),
    Kind(
        "layer applied twice",
        applied_twice,
        "The 4 channels of all three activations are scaled together; diagonal weights of the "
        "repeated layer write and read one channel and drop out.",
        {"balance": 4},
        values={"balance": of_applied_twice},
    ),
    Kind(
        "relu recurrent network",
        recurrent,
        "3 channels, the same at all times: rows and both biases against columns, without the "
        "diagonal of the recurrent matrix. The difference of both biases is constant: 3 linear "
        "laws.",
        {"balance": 3},
        convention=SHIFT,
        other_linear=3,
        values={"balance": of_recurrent},
    ),
    Kind(
        "sorted neurons",
        sorted_neurons,
        "Sorting is homogeneous of all 4 neurons together, so one sum over the layer is kept. It "
        "commutes with a common shift as well, so the sums of rows and columns keep a balance.",
        {"balance": 1},
        convention=frozenset({"matrix"}),
        other_quadratic=1,
        values={"balance": lambda m: (rows(m[0]) - columns(m[2])).sum()[None]},
    ),
]
