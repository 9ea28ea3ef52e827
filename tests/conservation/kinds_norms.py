"""Normalisations, layer scale and weight normalisation with hand-derived laws."""

from __future__ import annotations

from kind import Function, Kind, Of, along, columns, draws, gains, nn, rows, torch

relu = torch.relu


def dense(norm, *after, bias=True, width=4):
    """Return 3 -> width, a normalisation, perhaps ReLU, width -> 2."""
    layers = [nn.Linear(3, width, bias=bias), norm, *after, nn.Linear(width, 2)]
    return nn.Sequential(*layers), draws(7, 3)


def gains_of(model):
    """Return the balances of gains and offsets against the last layer."""
    return gains(model[1]) - columns(model[-1])


def filters_of(model):
    """Return the squared norm of each row of the first layer, without its bias."""
    return along(model[0].weight, 0)


def whole_of(model):
    """Return the squared norm of the first layer with its bias."""
    return rows(model[0]).sum()[None]


def convolution(norm):
    layers = [nn.Conv2d(2, 4, 2), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 2)), draws(4, 2, 4, 4)


def stages():
    layers = [nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU()]
    layers += [nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers), draws(4, 2, 5, 5)


def of_stages(model):
    first = gains(model[1]) - columns(model[3])
    return torch.cat([first, gains(model[4]) - columns(model[8])])


def bottleneck():
    layers = [nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)]
    layers += [nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers), draws(4, 2, 5, 5)


def evaluated():
    model, inputs = dense(nn.BatchNorm1d(4), nn.ReLU())
    model[1].running_mean.copy_(draws(4))
    model[1].running_var.copy_(draws(4, seed=6).square() + 0.5)
    return model, inputs


def residual(norm):
    """Return a residual block that reads its stream through normalisations, and a head."""

    def forward(self, x):
        x = self.inward(x)
        x = x + self.up(relu(self.down(self.before(x))))
        return self.out(self.final(x))

    parts = {"inward": nn.Linear(2, 3), "before": norm(3), "down": nn.Linear(3, 4)}
    return Of(forward, **parts, up=nn.Linear(4, 3), final=norm(3), out=nn.Linear(3, 2)), draws(7, 2)


def of_residual(model):
    parts = [gains(model.before) - columns(model.down), rows(model.down) - columns(model.up)]
    return torch.cat([*parts, gains(model.final) - columns(model.out)])


def of_writers(model):
    return (rows(model.inward) + rows(model.up)).sum()[None]


def layer_scale():
    def forward(self, x):
        x = self.inward(x)
        return self.out(x + self.gain * self.up(relu(self.down(x))))

    parts = {"inward": nn.Linear(2, 3), "down": nn.Linear(3, 4), "up": nn.Linear(4, 3)}
    return Of(forward, **parts, gain=draws(3), out=nn.Linear(3, 2)), draws(6, 2)


def of_layer_scale(model):
    gain = model.gain.detach().square()
    stream = rows(model.inward) + gain - columns(model.down) - columns(model.out)
    return torch.cat([stream, rows(model.up) - gain, rows(model.down) - columns(model.up)])


def weight_norm():
    first = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4))
    return nn.Sequential(first, nn.ReLU(), nn.Linear(4, 2)), draws(5, 3)


def parts_of_weight_norm(model):
    parts = model[0].parametrizations.weight
    return parts.original0.detach().square()[:, 0], along(parts.original1, 0)


def of_weight_norm(model):
    gain = parts_of_weight_norm(model)[0]
    return gain + model[0].bias.detach().square() - columns(model[2])


def unit_vectors():
    first, unit = nn.Linear(3, 4), Function(lambda z: z / z.norm(dim=1, keepdim=True))
    return nn.Sequential(first, unit, nn.Linear(4, 2)), draws(7, 3)


NORMS = [
    Kind(
        "batch norm, dense",
        lambda: dense(nn.BatchNorm1d(4), nn.ReLU()),
        "4 gains with offsets against columns; the norm does not see the length of the 4 rows "
        "before it, nor their biases.",
        {"balance": 4, "scale": 4, "constant": 4},
        values={"balance": gains_of, "scale": filters_of},
    ),
    Kind(
        "batch norm, nothing behind",
        lambda: dense(nn.BatchNorm1d(4)),
        "The same without ReLU: gains act on single channels, so there is no matrix law.",
        {"balance": 4, "scale": 4, "constant": 4},
        values={"balance": gains_of, "scale": filters_of},
    ),
    Kind(
        "batch norm, tanh behind",
        lambda: dense(nn.BatchNorm1d(4), nn.Tanh()),
        "Tanh is not homogeneous: no balance. What is before the norm stays.",
        {"scale": 4, "constant": 4},
        values={"scale": filters_of},
    ),
    Kind(
        "batch norm, evaluation",
        evaluated,
        "With fixed, non-zero running means the rows are seen: only 4 gains with offsets.",
        {"balance": 4},
        values={"balance": gains_of},
        training=False,
    ),
    Kind(
        "batch norm, two stages of convolutions",
        stages,
        "3 + 4 gains, 3 + 4 filters, and the 4 biases of the second convolution.",
        {"balance": 7, "scale": 7, "constant": 4},
        values={"balance": of_stages},
    ),
    Kind(
        "batch norm, linear bottleneck",
        bottleneck,
        "3 + 4 gains and 3 + 4 filters; the first 3 offsets are subtracted with the mean by the "
        "next norm, as a 1 x 1 convolution passes constants on: constant.",
        {"balance": 7, "scale": 7, "constant": 3},
    ),
    Kind(
        "layer norm",
        lambda: dense(nn.LayerNorm(4), nn.ReLU()),
        "4 gains with offsets; all rows together are a block; the mean over outputs is "
        "subtracted, so the sums of the 3 columns and of the biases are constant.",
        {"balance": 4, "scale": 1, "shift": 4},
        values={"balance": gains_of, "scale": whole_of},
    ),
    Kind(
        "layer norm, nothing behind",
        lambda: dense(nn.LayerNorm(4)),
        "The same without ReLU.",
        {"balance": 4, "scale": 1, "shift": 4},
        values={"balance": gains_of, "scale": whole_of},
    ),
    Kind(
        "layer norm, GELU behind",
        lambda: dense(nn.LayerNorm(4), nn.GELU()),
        "GELU is not homogeneous: no balance. What is before the norm stays.",
        {"scale": 1, "shift": 4},
        values={"scale": whole_of},
    ),
    Kind(
        "layer norm, no bias before",
        lambda: dense(nn.LayerNorm(4), nn.ReLU(), bias=False),
        "The same with the sums of the 3 columns only.",
        {"balance": 4, "scale": 1, "shift": 3},
        values={"balance": gains_of, "scale": whole_of},
    ),
    Kind(
        "group norm, convolution",
        lambda: convolution(nn.GroupNorm(2, 4)),
        "4 gains; 2 groups of 2 filters with biases are blocks; a common offset of the biases of "
        "a group is subtracted with the mean over channels and space: 2 sums of biases.",
        {"balance": 4, "scale": 2, "shift": 2},
        values={"balance": gains_of, "scale": lambda m: rows(m[0]).view(2, 2).sum(1)},
    ),
    Kind(
        "group norm, dense",
        lambda: dense(nn.GroupNorm(2, 6), nn.ReLU(), width=6),
        "6 gains; 2 groups of 3 rows are blocks; in each group the sums of the 3 columns and of "
        "the biases are constant. (A group of 2 would be normalised to ±1 and learn nothing.)",
        {"balance": 6, "scale": 2, "shift": 8},
        values={"balance": gains_of, "scale": lambda m: rows(m[0]).view(2, 3).sum(1)},
    ),
    Kind(
        "instance norm",
        lambda: convolution(nn.InstanceNorm2d(4, affine=True)),
        "4 gains, 4 filters; biases are subtracted with the mean over space: constant.",
        {"balance": 4, "scale": 4, "constant": 4},
        values={"balance": gains_of, "scale": filters_of},
    ),
    Kind(
        "RMS norm",
        lambda: dense(nn.RMSNorm(4), nn.ReLU()),
        "4 gains; all rows together, biases included, are a block; no mean is subtracted.",
        {"balance": 4, "scale": 1},
        values={"balance": gains_of, "scale": whole_of},
    ),
    Kind(
        "RMS norm before a score",
        lambda: dense(nn.RMSNorm(4)),
        "The same without ReLU: one weight on each side.",
        {"balance": 4, "scale": 1},
        values={"balance": gains_of, "scale": whole_of},
    ),
    Kind(
        "unit vectors",
        unit_vectors,
        "The length of the hidden vector is divided out: the first layer is one block. What is "
        "left is not homogeneous of single neurons.",
        {"scale": 1},
        values={"scale": whole_of},
    ),
    Kind(
        "layer-normalised residual block",
        lambda: residual(nn.LayerNorm),
        "3 + 3 gains, 4 neurons; all that writes the stream is one block; the mean of the stream "
        "is never read, so each of 2 + 4 columns and 2 biases of the writers keeps its sum.",
        {"balance": 10, "scale": 1, "shift": 8},
        values={"balance": of_residual, "scale": of_writers},
    ),
    Kind(
        "RMS-normalised residual block",
        lambda: residual(nn.RMSNorm),
        "The same without shifts.",
        {"balance": 10, "scale": 1},
        values={"balance": of_residual, "scale": of_writers},
    ),
    Kind(
        "layer scale",
        layer_scale,
        "3 channels of the stream, written by the gains; 3 rows against their gains; 4 neurons. "
        "The gains act on single channels, so the stream has no matrix law.",
        {"balance": 10},
        values={"balance": of_layer_scale},
    ),
    Kind(
        "weight norm",
        weight_norm,
        "4 lengths with biases against columns; 4 directions whose norm is divided out.",
        {"balance": 4, "scale": 4},
        values={"balance": of_weight_norm, "scale": lambda m: parts_of_weight_norm(m)[1]},
    ),
]
