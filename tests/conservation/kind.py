"""What a small model of one kind is: how it is built, and the laws that are known by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from conftest import framework

torch = framework("torch")
nn = torch.nn

COUNTED = ("balance", "scale", "constant", "shift")


@dataclass(frozen=True, eq=False)
class Kind:
    """A small model whose conservation laws are derived by hand.

    Attributes
    ----------
    name : str
        The name of the case.
    build : callable
        Returns the model in float64 and its inputs: one tensor, a tuple or a dictionary.
    why : str
        The derivation of the numbers.
    expected : dict of str to int
        How many numbers of each kind are conserved. A kind that is left out has none.
    blocks : tuple of int
        The side lengths of the blocks of matrix laws: ``side * (side + 1) / 2`` numbers each.
    convention : set of str
        The kinds whose number is a matter of convention and is not compared.
    other_linear : int
        Linear laws beyond constants and shifts in the usual sense, such as the difference of two
        biases of one channel. A search may call them shifts, so `convention` has "shift" then.
    other_quadratic : int
        Quadratic laws that are neither sums of squares nor blocks of a matrix.
    values : dict of str to callable
        For a kind, the conserved numbers by an independent formula from the model, in any order.
    training : bool
        Whether the model is run in training mode.
    redraw : callable or None
        Draws other inputs from a generator. By default floats are drawn afresh and the rest is
        kept.
    complete : bool
        Whether gradients alone tell the same numbers. They do not where the backward pass is not
        that of the forward pass.
    """

    name: str
    build: Callable[[], tuple[Any, Any]]
    why: str
    expected: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[int, ...] = ()
    convention: frozenset[str] = frozenset()
    other_linear: int = 0
    other_quadratic: int = 0
    values: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    training: bool = True
    redraw: Callable[[Any], Any] | None = None
    complete: bool = True

    @property
    def linear(self) -> int:
        """The dimension of all linear laws."""
        return self.count("constant") + self.count("shift") + self.other_linear

    @property
    def diagonal(self) -> int:
        """The dimension of all laws that are weighted sums of squares, or fix one scalar."""
        seen = self.count("balance") + self.count("scale") + self.count("constant")
        return seen + sum(self.blocks)

    @property
    def quadratic(self) -> int:
        """The dimension of all quadratic laws, products of two linear laws included."""
        seen = self.count("balance") + self.count("scale")
        seen += self.matrix + self.other_quadratic
        return seen + self.linear * (self.linear + 1) // 2

    @property
    def matrix(self) -> int:
        """The number of independent entries of the matrix laws."""
        return sum(side * (side + 1) // 2 for side in self.blocks)

    def count(self, kind: str) -> int:
        return self.expected.get(kind, 0)

    def made(self) -> tuple[Any, Any]:
        """Return the model, the same at every call, and its inputs."""
        with seeded(0):
            model, inputs = self.build()
            model = model.double()
        return model.train(self.training), inputs


class Of(nn.Module):
    """A module whose forward pass is a function of the module's parts and the inputs."""

    def __init__(self, forward: Callable[..., Any], /, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, torch.Tensor) else part)
        self.function = forward

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(self, *inputs, **named)


class Function(nn.Module):
    """A function without parameters as a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run code from a seed of PyTorch's generator and restore its state.

    ``torch.manual_seed`` takes milliseconds: it records a traceback for devices that are not there.
    """
    generator = torch.random.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def draws(*shape: int, seed: int = 5) -> Any:
    """Return standard normal numbers, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def along(weight: Any, axis: int) -> Any:
    """Return the sum of squares for each index of an axis."""
    return weight.detach().square().movedim(axis, 0).flatten(1).sum(1)


def rows(layer: Any, axis: int = 0) -> Any:
    """Return the squared norm of each row of a layer, its bias included."""
    bias = getattr(layer, "bias", None)
    return along(layer.weight, axis) + (0.0 if bias is None else bias.detach().square())


def columns(layer: Any, axis: int = 1) -> Any:
    """Return the squared norm of each column of a layer."""
    return along(layer.weight, axis)


def gains(norm: Any) -> Any:
    """Return the squared gain and offset of each channel of a normalisation."""
    bias = getattr(norm, "bias", None)
    offset = 0.0 if bias is None else bias.detach().square()
    return norm.weight.detach().square() + offset


def without_eps(model: Any) -> Any:
    """Make the eps of every normalisation vanish beside any variance, and return the model.

    PyTorch refuses an eps of 0 in batch normalisation.
    """
    for module in model.modules():
        if isinstance(getattr(module, "eps", None), float):
            module.eps = 1e-300
    return model
