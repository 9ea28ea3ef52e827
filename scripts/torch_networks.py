"""Networks of PyTorch for scripts that need real architectures but no package of models.

`resnet18` has the layers, shapes and initialisation of torchvision's ResNet-18. With another
`width` all channels are scaled. `Transformer` is a small encoder with pre-normalisation.
"""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions with batch normalisation, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


def resnet18(classes: int, *, width: int = 64) -> nn.Module:
    """Return a ResNet-18 with `width` channels after the first convolution."""
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    blocks = []
    for i in range(4):
        stride = 1 if i == 0 else 2
        blocks += [Block(widths[i], widths[i + 1], stride), Block(widths[i + 1], widths[i + 1], 1)]
    net = nn.Sequential(
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


class Attention(nn.Module):
    """Multi-head attention without positions in its scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a ReLU network, each behind a normalisation and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(width), Attention(width, heads)
        self.norm2 = nn.RMSNorm(width)
        self.hidden, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        x = x + self.attention(self.norm1(x))
        return x + self.out(self.hidden(self.norm2(x)).relu())


class Transformer(nn.Module):
    """An encoder of sequences of vectors; its scores are read from the mean over the positions."""

    def __init__(
        self, inputs: int, length: int, outputs: int, *, width: int, heads: int, layers: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return self.head(self.norm(self.layers(self.embed(x) + self.position)).mean(1))
