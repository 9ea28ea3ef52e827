"""Convolutions, pooling, flattening, concatenation and shuffles with hand-derived laws."""

from __future__ import annotations

from itertools import pairwise

from kind import Function, Kind, Of, along, columns, draws, nn, rows, torch

relu = torch.relu


def images(channels=2, size=5):
    return draws(3, channels, size, size)


def pooled(width):
    """Return the end of a network: mean over space, then one linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)]


def sequence(*layers, width):
    return nn.Sequential(*layers, *pooled(width))


def weighted(model):
    """Return the layers of a sequence that have weights."""
    return [layer for layer in model if getattr(layer, "weight", None) is not None]


def chain_of(model):
    """Return the balances of a chain of convolutions without groups, then a linear layer."""
    layers = weighted(model)
    return torch.cat([rows(a) - columns(b) for a, b in pairwise(layers)])


def convolutions(*between, second=None):
    """Return two convolutions 2 -> 3 -> 4 with something between, then the mean over space."""
    second = nn.Conv2d(3, 4, 2, padding=1) if second is None else second
    first = nn.Conv2d(2, 3, 2)
    return sequence(first, *between, second, nn.ReLU(), width=4), images(size=6)


def pooling(name, *between, why):
    values = {"balance": chain_of}
    return Kind(name, lambda: convolutions(*between), why, {"balance": 7}, values=values)


def other(name, second, why):
    """Return a case whose second convolution, after ReLU, is of another sort."""
    values = {"balance": chain_of}
    return Kind(
        name,
        lambda: convolutions(nn.ReLU(), second=second()),
        why,
        {"balance": 7},
        values=values,
    )


def grouped():
    layers = [nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Conv2d(4, 6, 2, groups=2), nn.ReLU()]
    return sequence(*layers, width=6), images()


def grouped_columns(layer):
    """Return the squared norm of what reads each input channel of a grouped convolution."""
    whole = layer.weight.detach().square().unflatten(0, (layer.groups, -1))
    return whole.sum((1, 3, 4)).flatten()


def of_grouped(model):
    a, b, c = weighted(model)
    return torch.cat([rows(a) - grouped_columns(b), rows(b) - columns(c)])


def depthwise(multiplier):
    deep = nn.Conv2d(3, 3 * multiplier, 2, groups=3)
    layers = [nn.Conv2d(2, 3, 1), nn.ReLU(), deep, nn.Conv2d(3 * multiplier, 4, 1), nn.ReLU()]
    return sequence(*layers, width=4), images()


def of_depthwise(model):
    a, b, c, d = weighted(model)
    first = rows(a) - grouped_columns(b)
    return torch.cat([first, rows(b) - columns(c), rows(c) - columns(d)])


def grouped_linear():
    layers = [nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Conv2d(4, 6, 2, groups=2), nn.Conv2d(6, 2, 1)]
    return sequence(*layers, nn.ReLU(), width=2), images()


def transposed(groups):
    first, up = nn.Conv2d(2, 4, 2), nn.ConvTranspose2d(4, 6, 2, stride=2, groups=groups)
    return sequence(first, nn.ReLU(), up, nn.ReLU(), width=6), images(size=3)


def of_transposed(model):
    first, up, out = weighted(model)
    groups = up.weight.detach().square().unflatten(0, (up.groups, -1))
    written = groups.sum((1, 3, 4)).flatten() + up.bias.detach().square()
    return torch.cat([rows(first) - along(up.weight, 0), written - columns(out)])


def one_dimension():
    layers = [nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Conv1d(3, 4, 2), nn.ReLU()]
    layers += [nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers), draws(3, 2, 8)


def three_dimensions():
    layers = [nn.Conv3d(1, 3, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2, 2)), draws(8, 1, 3, 3, 3)


def flattened(last):
    """Return a convolution of 3 channels on 2 x 2 positions, then dense layers 12 -> 4 -> 2."""
    order = [Function(lambda x: x.permute(0, 2, 3, 1))] if last else []
    layers = [nn.Conv2d(2, 3, 2), nn.ReLU(), *order, nn.Flatten(), nn.Linear(12, 4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(4, 2)), images(size=3)


def of_flattened(model, last):
    a, b, c = weighted(model)
    read = along(b.weight, 1)
    channels = read.view(4, 3).sum(0) if last else read.view(3, 4).sum(1)
    return torch.cat([rows(a) - channels, rows(b) - columns(c)])


def wide_flatten():
    layers = [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(3, 2)), images(size=3)


def branches(readers):
    def forward(self, x):
        both = torch.cat([relu(self.wide(x)), relu(self.narrow(x))], 1)
        return self.out(both) if readers == 1 else (self.out(both), self.also(both))

    parts = {"wide": nn.Linear(3, 4), "narrow": nn.Linear(3, 2), "out": nn.Linear(6, 2)}
    if readers == 2:
        parts["also"] = nn.Linear(6, 3)
    return Of(forward, **parts), draws(5, 3)


def of_branches(model):
    read = columns(model.out)
    if hasattr(model, "also"):
        read = read + columns(model.also)
    return torch.cat([rows(model.wide), rows(model.narrow)]) - read


def dense_block():
    def forward(self, x):
        x = relu(self.first(x))
        x = torch.cat([x, relu(self.second(x))], 1)
        x = torch.cat([x, relu(self.third(x))], 1)
        return self.out(x.mean((2, 3)))

    parts = {"first": nn.Conv2d(2, 3, 1), "second": nn.Conv2d(3, 2, 3, padding=1)}
    return Of(forward, **parts, third=nn.Conv2d(5, 2, 1), out=nn.Linear(7, 2)), images()


def of_dense_block(model):
    second, third, out = columns(model.second), columns(model.third), columns(model.out)
    first = rows(model.first) - second - third[:3] - out[:3]
    later = [rows(model.second) - third[3:] - out[3:5], rows(model.third) - out[5:]]
    return torch.cat([first, *later])


def chunks(sizes):
    def forward(self, x):
        one, two = relu(self.first(x)).split(sizes, 1)
        return self.one(one) + self.two(two).tanh()

    one, two = (nn.Linear(size, 2) for size in sizes)
    return Of(forward, first=nn.Linear(3, 6), one=one, two=two), draws(5, 3)


def of_chunks(model):
    return rows(model.first) - torch.cat([columns(model.one), columns(model.two)])


def shuffle(x):
    return x.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)


def shuffled():
    groups = [nn.Conv2d(6, 6, 1, groups=2), nn.ReLU(), Function(shuffle)]
    layers = [nn.Conv2d(2, 6, 1), nn.ReLU(), *groups, nn.Conv2d(6, 4, 1, groups=2), nn.ReLU()]
    return sequence(*layers, width=4), images(size=3)


def of_shuffled(model):
    a, b, c, d = weighted(model)
    read = grouped_columns(c).view(3, 2).T.flatten()
    middle = rows(b) - read
    return torch.cat([rows(a) - grouped_columns(b), middle, rows(c) - columns(d)])


ORDER = [3, 0, 4, 1, 5, 2]


def permuted():
    layers = [nn.Linear(3, 6), nn.ReLU(), Function(lambda x: x[:, ORDER]), nn.Linear(6, 2)]
    return nn.Sequential(*layers), draws(5, 3)


def of_permuted(model):
    place = torch.argsort(torch.tensor(ORDER))
    return rows(model[0]) - columns(model[3])[place]


CONVOLUTION = [
    pooling("convolutions", nn.ReLU(), why="3 + 4 channels: filter and bias against what reads."),
    pooling("max-pooling", nn.ReLU(), nn.MaxPool2d(2), why="A maximum over space is homogeneous."),
    pooling("max-pooling alone", nn.MaxPool2d(2), why="A maximum is homogeneous and not linear."),
    pooling("average pooling", nn.ReLU(), nn.AvgPool2d(2), why="A mean over space is linear."),
    pooling("nearest upsampling", nn.ReLU(), nn.Upsample(scale_factor=2), why="Copies are linear."),
    pooling("channel dropout", nn.ReLU(), nn.Dropout2d(0.3), why="A fixed mask commutes."),
    other("strided", lambda: nn.Conv2d(3, 4, 2, stride=2), "The stride does not matter."),
    other("dilated", lambda: nn.Conv2d(3, 4, 2, dilation=2), "The dilation does not matter."),
    Kind(
        "grouped",
        grouped,
        "4 channels, each read by the 3 filters of its group, and 6 read by the last layer.",
        {"balance": 10},
        values={"balance": of_grouped},
    ),
    Kind(
        "depthwise",
        lambda: depthwise(1),
        "3 channels before the depthwise filters, 3 behind, and 4 behind the pointwise "
        "convolution. Depthwise filters do not mix, so there is no matrix law.",
        {"balance": 10},
        values={"balance": of_depthwise},
    ),
    Kind(
        "depthwise, two filters a channel",
        lambda: depthwise(2),
        "The same, but the 2 filters of a channel see the same input and are read linearly: "
        "mixtures of them are symmetries, 3 blocks of side 2.",
        {"balance": 7},
        (2, 2, 2),
    ),
    Kind(
        "grouped, linear",
        grouped_linear,
        "4 channels before the groups. Nothing acts between the 3 filters of a group and the "
        "convolution that reads them: 2 blocks of side 3. 2 channels are left.",
        {"balance": 6},
        (3, 3),
    ),
    *(
        Kind(
            f"transposed, {groups} groups",
            lambda groups=groups: transposed(groups),
            "4 + 6 channels; the weights of a transposed convolution are stored inputs first.",
            {"balance": 10},
            values={"balance": of_transposed},
        )
        for groups in (1, 2)
    ),
    Kind(
        "one dimension",
        one_dimension,
        "3 + 4 channels, as in two dimensions.",
        {"balance": 7},
        values={"balance": chain_of},
    ),
    Kind(
        "three dimensions",
        three_dimensions,
        "3 + 2 channels, as in two dimensions.",
        {"balance": 5},
        values={"balance": chain_of},
    ),
    Kind(
        "flatten, channels first",
        lambda: flattened(False),
        "3 channels, each read by 4 neighbouring columns of the dense layer, and 4 neurons.",
        {"balance": 7},
        values={"balance": lambda m: of_flattened(m, False)},
    ),
    Kind(
        "flatten, channels last",
        lambda: flattened(True),
        "3 channels, each read by every third column of the dense layer, and 4 neurons.",
        {"balance": 7},
        values={"balance": lambda m: of_flattened(m, True)},
    ),
    Kind(
        "flatten to as many neurons",
        wide_flatten,
        "3 channels and 3 neurons: equal widths must not be taken for each other.",
        {"balance": 6},
    ),
    *(
        Kind(
            f"concatenation, {readers} readers",
            lambda readers=readers: branches(readers),
            "4 + 2 neurons of two branches; the readers see them at an offset.",
            {"balance": 6},
            values={"balance": of_branches},
        )
        for readers in (1, 2)
    ),
    Kind(
        "dense block",
        dense_block,
        "3 + 2 + 2 channels; the first are read by three layers.",
        {"balance": 7},
        values={"balance": of_dense_block},
    ),
    *(
        Kind(
            f"split {sizes[0]} and {sizes[1]}",
            lambda sizes=sizes: chunks(sizes),
            "6 neurons of one layer, read by two layers.",
            {"balance": 6},
            values={"balance": of_chunks},
        )
        for sizes in ([3, 3], [2, 4])
    ),
    Kind(
        "channel shuffle",
        shuffled,
        "6 + 6 + 4 channels; those behind the shuffle are read in another order.",
        {"balance": 16},
        values={"balance": of_shuffled},
    ),
    Kind(
        "permuted neurons",
        permuted,
        "6 neurons, read in an order that is no shuffle.",
        {"balance": 6},
        values={
            "balance": lambda m: rows(m[0]) - columns(m[3])[torch.argsort(torch.tensor(ORDER))]
        },
    ),
]
