"""The forward pass of a PyTorch module as steps, followed without running it on data.

`torch.fx` calls ``forward`` with stand-ins for tensors and notes what is done to them. Every
custom module is followed by itself, its children as they are called, so that one with control flow
hides nothing but itself. Whatever ``forward`` stores on modules is put back.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import inspect
import itertools
import sys
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from obstruction.models.contents import Activation, Barrier, Dense, Layout, Step
from obstruction.models.readers import torch_layers, torch_leaves
from obstruction.models.readers.chains import Node, chained

_TRANSPARENT: Final = frozenset(
    (
        "dropout",
        "dropout1d",
        "dropout2d",
        "dropout3d",
        "flatten",
        "unflatten",
        "view",
        "reshape",
        "contiguous",
        "squeeze",
        "unsqueeze",
        "to",
        "float",
        "double",
        "half",
        "bfloat16",
        "type",
        "type_as",
        "clone",
        "cpu",
        "cuda",
    )
)
_ABOUT: Final = frozenset(
    ("size", "dim", "ndimension", "numel", "nelement", "stride", "get_device", "__len__")
)
_ABOUT_ATTRIBUTES: Final = frozenset(
    ("shape", "device", "dtype", "ndim", "is_cuda", "requires_grad")
)
_PRODUCTS: Final = ("mul", "imul", "multiply")
_QUOTIENTS: Final = ("truediv", "itruediv", "div", "divide", "true_divide")
_MEET: Final = "several results meet here, so the layers are no chain"
_SEVERAL: Final = "it returns several results"
_NORMALISED: Final = "normalisation makes the outputs independent of the scale of the weights"
_OTHER: Final = object()  # an argument that is no tensor of the chain
_NOT_FOLLOWED: Final = "its forward pass cannot be followed"


class NotFollowed(Exception):
    """A forward pass that depends on data, or does what stand-ins for tensors cannot."""


def steps_of(module: Any) -> tuple[Step, ...]:
    """Return the steps of a module's forward pass.

    Raises
    ------
    NotFollowed
        If they cannot be told.
    """
    follower = _Follower(module)
    value = follower.call(module, (_INPUT,), {})
    steps = chained(follower.nodes, follower.results or (value.key,))
    if follower.failed and not any(isinstance(step, Dense) for step in steps):
        raise NotFollowed(follower.failed[0])
    return steps


@dataclass(frozen=True)
class _Value:
    """A tensor that depends on the input of the network."""

    key: Hashable


_INPUT: Final = _Value("input")


class _Follower:
    """Follows modules into the nodes of one graph."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.paths = {id(module): path for path, module in root.named_modules()}
        self.nodes: list[Node] = []
        self.results: tuple[Hashable, ...] = ()
        self.failed: list[str] = []
        self._keys = itertools.count()

    def add(self, inputs: Sequence[Any], *steps: Step) -> _Value:
        """Add an operation and return what it makes."""
        made = _Value(next(self._keys))
        keys = tuple(value.key for value in inputs)
        self.nodes.append(Node(keys, (made.key,), steps))
        return made

    def call(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Value:
        """Return what a module makes of its arguments, of which some are values."""
        values = [one for one in (*args, *kwargs.values()) if isinstance(one, _Value)]
        path = self.paths.get(id(module), "")
        label = path or type(module).__name__
        kind = torch_leaves.builtin(module)
        role = torch_layers.role(kind) if kind else None
        if role == "wrapper" or hasattr(module, "_orig_mod"):
            inner = module.module if role == "wrapper" else module._orig_mod
            return self.call(inner, args, kwargs)
        if kind is not None and role is not None:
            if role == "chain" and len(values) == 1:
                value = values[0]
                for child in module:
                    value = self.call(child, (value,), {})
                return value
            return self.add(values, *torch_leaves.leaf(module, kind, role, path, label))
        if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            return self.add(values, torch_leaves.conv1d(module, path, label))
        try:
            return self._custom(module, args, kwargs)
        except NotFollowed as problem:
            if module is self.root:
                raise
            self.failed.append(f"{label}: {problem}")
            return self.add(values, Barrier(label, _NOT_FOLLOWED))

    def _custom(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Value:
        given, fixed = _bound(module, args, kwargs)
        graph = _graph(module, fixed)
        known: dict[Any, _Value | None] = {}
        biases: dict[Any, _Value] = {}  # additions that are part of a layer
        for node in graph.nodes:
            inputs = [value for n in node.all_input_nodes if (value := known[n]) is not None]
            if node.op == "placeholder":
                known[node] = given.get(node.target)
            elif node.op == "output":
                return self._returned(module, node, inputs)
            elif not inputs or _tells_about(node):
                known[node] = None
            elif node in biases:
                known[node] = biases[node]
            elif node.op == "call_module":
                known[node] = self._called(module, node, inputs, known)
            else:
                steps, addition = self._function(module, node, inputs)
                known[node] = value = self.add(inputs, *steps)
                if addition is not None:
                    biases[addition] = value
        raise NotFollowed("it returns nothing")

    def _returned(self, module: Any, node: Any, inputs: list[_Value]) -> _Value:
        if not inputs:
            raise NotFollowed("what it returns does not depend on its input")
        if module is self.root:
            self.results = tuple(value.key for value in inputs)
        single = len(inputs) == 1 and _is_node(node.args[0])
        return inputs[0] if single else self.add(inputs, Barrier(module._get_name(), _SEVERAL))

    def _called(
        self, module: Any, node: Any, inputs: list[_Value], known: Mapping[Any, _Value | None]
    ) -> _Value:
        def given(argument: Any) -> Any:
            return (known[argument] or _OTHER) if _is_node(argument) else argument

        args = tuple(given(argument) for argument in node.args)
        kwargs = {name: given(argument) for name, argument in node.kwargs.items()}
        found = sum(isinstance(one, _Value) for one in (*args, *kwargs.values()))
        if found < len(inputs):  # some are in a list or dictionary
            return self.add(inputs, Barrier(node.target, _MEET))
        return self.call(module.get_submodule(node.target), args, kwargs)

    def _function(
        self, module: Any, node: Any, inputs: list[_Value]
    ) -> tuple[tuple[Step, ...], Any]:
        """Return the steps of a function or method, and the addition that gives them biases."""
        target = node.target
        name = (target if isinstance(target, str) else getattr(target, "__name__", "")).rstrip("_")
        rest = list(node.args[1:])
        if len(inputs) > 1:
            return (Barrier(node.name, _MEET),), None
        if name == "linear":
            weight = self._parameter(module, _argument(node, 1, "weight"), 2)
            bias_node = _argument(node, 2, "bias")
            bias = self._parameter(module, bias_node, 1)
            if weight is not None and (bias is not None or bias_node is None):
                return (self._dense(weight, bias, "out_in"),), None
        elif name in ("matmul", "mm") and rest and (p := self._parameter(module, rest[0], 2)):
            bias, addition = self._added(module, node, p)
            return (self._dense(p, bias, "in_out"),), addition
        elif name in _TRANSPARENT or _is_factor(name, node):
            return (), None
        elif name in ("clamp", "clip", "clamp_min"):
            least, most = _argument(node, 1, "min"), _argument(node, 2, "max")
            if least == 0 and most is None:
                return (Activation("relu"),), None
        elif name == "detach":
            return (Barrier(node.name, "no gradient passes here"),), None
        elif name.endswith("_norm") or name == "normalize":
            return (Barrier(node.name, _NORMALISED),), None
        elif torch_leaves.is_activation(name):
            slope = _argument(node, 1, "negative_slope")
            return (Activation(name, torch_leaves.slope(name, slope)),), None
        return (Barrier(node.name, f"what {name!r} does with the neurons is not known"),), None

    def _parameter(self, module: Any, node: Any, ndim: int) -> _Parameter | None:
        """Return the parameter that a node of the graph is, perhaps transposed."""
        turned = False
        while _is_node(node) and _is_turning(node):
            node, turned = node.args[0], not turned
        if not _is_node(node) or node.op != "get_attr":
            return None
        prefix, _, name = node.target.rpartition(".")
        owner = module.get_submodule(prefix)
        held = owner._parameters.get(name)
        if held is None or held.ndim != ndim:
            return None
        path = self.paths.get(id(owner), prefix)
        return _Parameter(f"{path}.{name}" if path else name, held, turned)

    def _added(self, module: Any, node: Any, weight: _Parameter) -> tuple[_Parameter | None, Any]:
        """Return the biases added to a product right away, and the node that does so."""
        after = list(node.users)
        if len(after) == 1 and getattr(after[0].target, "__name__", "") in ("add", "iadd"):
            others = [a for a in after[0].args if a is not node]
            bias = self._parameter(module, others[0], 1) if len(others) == 1 else None
            if bias is not None and len(bias.held) == weight.held.shape[0 if weight.turned else 1]:
                return bias, after[0]
        return None, None

    def _dense(self, weight: _Parameter, bias: _Parameter | None, layout: Layout) -> Dense:
        if weight.turned:
            layout = "in_out" if layout == "out_in" else "out_in"
        held = [weight.held] + ([bias.held] if bias else [])
        return Dense(
            weight.name.removesuffix(".weight"),
            weight.name,
            bias=bias.name if bias else None,
            layout=layout,
            trained=all(one.requires_grad for one in held),
        )


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A parameter used in a function: its name in the root, and whether it is transposed."""

    name: str
    held: Any
    turned: bool


# --- graphs ---------------------------------------------------------------------------------


def _bound(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, _Value], dict[str, Any]]:
    """Return which parameters of ``forward`` are values, and which have fixed values."""
    try:
        signature = inspect.signature(type(module).forward)
        names = list(signature.parameters)[1:]
        if args == (_INPUT,):  # the root: whatever it needs is an input of the network
            needed = [
                name
                for name in names
                if signature.parameters[name].default is inspect.Parameter.empty
                and signature.parameters[name].kind.name != "VAR_KEYWORD"
            ]
            args, kwargs = (), {name: _Value(name) for name in needed}
        bound = signature.bind(module, *args, **kwargs)
    except (TypeError, ValueError) as problem:
        raise NotFollowed(str(problem)) from None
    bound.apply_defaults()
    held = {name: bound.arguments[name] for name in names}
    given = {name: value for name, value in held.items() if isinstance(value, _Value)}
    plain = (bool, int, float, str, type(None))
    return given, {name: value for name, value in held.items() if isinstance(value, plain)}


def _graph(module: Any, fixed: dict[str, Any]) -> Any:
    """Return the graph of one module's ``forward``, the modules it calls taken as they are."""
    torch, fx = sys.modules["torch"], importlib.import_module("torch.fx")
    behaviour = {"is_leaf_module": lambda *_: True, "proxy_buffer_attributes": True}
    tracer = type("Tracer", (fx.Tracer,), behaviour)()
    try:
        with _untouched(module), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return tracer.trace(module, concrete_args=fixed or None)
    except Exception as problem:  # it is the user's code that runs
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise NotFollowed(lines[0]) from None


@contextlib.contextmanager
def _untouched(module: Any) -> Iterator[None]:
    """Put back whatever is stored on modules, or in lists and dictionaries they hold."""
    kept = [(vars(one), dict(vars(one))) for one in module.modules()]
    inner = [
        (value, copy.copy(value))
        for _, held in kept
        for value in held.values()
        if isinstance(value, (dict, list, set))
    ]
    try:
        yield
    finally:
        for value, before in inner:
            if isinstance(value, list):
                value[:] = before
            else:
                value.clear()
                value.update(before)
        for now, held in kept:
            now.clear()
            now.update(held)


def _is_node(value: Any) -> bool:
    return isinstance(value, sys.modules["torch.fx"].Node)


def _argument(node: Any, position: int, name: str) -> Any:
    """Return an argument given by its position or name, None if it is not."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def _tells_about(node: Any) -> bool:
    """Return whether a node is the shape or type of a tensor, not its numbers."""
    if node.op == "call_method":
        return node.target in _ABOUT
    return node.target is getattr and node.args[1] in _ABOUT_ATTRIBUTES


def _is_turning(node: Any) -> bool:
    """Return whether a node transposes a matrix."""
    if node.op not in ("call_method", "call_function"):
        return False
    if node.target is getattr:
        return node.args[1] in ("T", "mT")
    name = node.target if isinstance(node.target, str) else node.target.__name__
    axes = sorted(a % 2 for a in node.args[1:] if isinstance(a, int))
    return name == "t" or (name in ("transpose", "permute", "swapaxes") and axes == [0, 1])


def _is_factor(name: str, node: Any) -> bool:
    """Return whether a node multiplies by a number, or divides by one."""
    numbers = [type(argument) in (int, float) for argument in node.args]
    if node.kwargs or len(numbers) != 2:
        return False
    return (name in _PRODUCTS and any(numbers)) or (name in _QUOTIENTS and numbers[1])
