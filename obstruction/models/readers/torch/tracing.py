"""The forward pass of a PyTorch module as a graph of operations, found without running it on data.

Each module of the user's own is traced separately, when the forward pass of its parent calls it. A
module with control flow cannot be followed, but the modules that call it still can.
"""

from __future__ import annotations

import inspect
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from obstruction.models.contents import (
    Activation,
    Barrier,
    Dense,
    Join,
    Operation,
    OperationGraph,
    Orientation,
    Step,
)
from obstruction.models.operations.graphs import operation_graph
from obstruction.models.readers.torch import layers as torch_layers
from obstruction.models.readers.torch import leaves as torch_leaves
from obstruction.models.readers.torch.graphs import NotFollowed, traced_graph

_MEET: Final = "several results meet here, so the layers are no chain"
_SEVERAL: Final = "it returns several results"
_NORMALISED: Final = "normalisation makes the outputs independent of the scale of the weights"
_NO_GRADIENT: Final = "no gradient passes here"
_OTHER: Final = object()  # an argument that does not depend on the input of the network
_CHANGED: Final = "what it was made of may be changed in place"
_NOT_FOLLOWED: Final = "its forward pass cannot be followed"
_HOOKED: Final = "a forward hook may change what passes"


def followed(module: Any) -> OperationGraph:
    """Return the operations of a module's forward pass.

    `NotFollowed` is raised if they cannot be found, or if no layer is among them because some part
    cannot be followed.
    """
    follower = _Follower(module)
    value = follower.call(module, (_INPUT,), {})
    graph = operation_graph(
        follower.operations, follower.results or (value.key,), follower.is_used_elsewhere
    )
    steps = (step for operation in graph.operations for step in operation.steps)
    if follower.failed and not any(isinstance(step, Dense) for step in steps):
        raise NotFollowed(follower.failed[0])
    return graph


@dataclass(frozen=True)
class _Value:
    """A tensor that depends on the input of the network."""

    key: Hashable


_INPUT: Final = _Value("input")


class _Known(dict[Any, _Value | None]):
    """The values of the nodes of a trace, None for a node that does not depend on the input."""

    def __init__(self, memory_of: Callable[[_Value], set[Hashable]]) -> None:
        super().__init__()
        self._memory_of = memory_of
        self._nodes: defaultdict[Hashable, set[Any]] = defaultdict(set)
        self._places: dict[Any, int] = {}

    def __setitem__(self, node: Any, value: _Value | None) -> None:
        super().__setitem__(node, value)
        self._places.setdefault(node, len(self._places))
        for key in self._memory_of(value) if value is not None else ():
            self._nodes[key].add(node)

    def sharing(self, memory: Iterable[Hashable]) -> list[Any]:
        """Return the nodes whose values may share some memory, in the order of the trace."""
        nodes = {node for key in memory for node in self._nodes[key]}
        return sorted(nodes, key=self._places.__getitem__)


class _Follower:
    """Collects the operations of modules as their forward passes are traced."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.paths = {id(module): path for path, module in root.named_modules()}
        self.operations: list[Operation] = []
        self.results: tuple[Hashable, ...] = ()
        self.failed: list[str] = []
        self.elsewhere: set[int] = set()  # addresses of parameters that are used outside layers
        self.memory: dict[Hashable, set[Hashable]] = {}  # values whose memory a value may share
        self.changed: list[Hashable] = []  # values whose memory was changed in place
        self._keys = itertools.count()

    def add(
        self, inputs: Sequence[Any], *steps: Step, is_view: bool = False, reshapes: bool = False
    ) -> _Value:
        """Add an operation and return the value that it makes."""
        made = _Value(next(self._keys))
        if is_view or not steps:
            self.memory[made.key] = set().union(*map(self.memory_of, inputs))
        keys = tuple(value.key for value in inputs)
        self.operations.append(Operation(keys, (made.key,), steps, reshapes))
        return made

    def memory_of(self, value: _Value) -> set[Hashable]:
        """Return the earliest values with which a value may share memory."""
        return self.memory.get(value.key, {value.key})

    def change(self, values: Iterable[_Value]) -> None:
        """Record that values may be changed in place."""
        self.changed += itertools.chain.from_iterable(map(self.memory_of, values))

    def is_used_elsewhere(self, step: Dense) -> bool:
        """Return whether the weights of a layer are also used outside of layers."""
        owner = self.root.get_submodule(step.weight.rpartition(".")[0])
        parts = (step.weight, step.bias, step.magnitude)
        tensors = [self.root.get_parameter(name) for name in parts if name is not None]
        tensors += vars(owner).values()  # what the older weight normalisation computes
        return not self.elsewhere.isdisjoint(torch_leaves.addresses(tensors))

    def opaque(self, module: Any, values: Sequence[Any], barrier: Barrier) -> _Value:
        """Add a module whose effect is unknown, and return the value that it makes."""
        self.elsewhere |= torch_leaves.addresses(module.parameters())
        return self.add(values, barrier, is_view=True)

    def call(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Value:
        """Apply a module to arguments, of which some are values, and return its result."""
        if module is self.root or not torch_leaves.has_hooks(module):
            return self._unhooked(module, args, kwargs)
        barrier = Barrier(self.paths.get(id(module), type(module).__name__), _HOOKED)

        def behind(argument: Any) -> Any:
            return self.add((argument,), barrier) if isinstance(argument, _Value) else argument

        given = {name: behind(argument) for name, argument in kwargs.items()}
        value: _Value = behind(self._unhooked(module, tuple(map(behind, args)), given))
        return value

    def _unhooked(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Value:
        values = [one for one in (*args, *kwargs.values()) if isinstance(one, _Value)]
        path = self.paths.get(id(module), "")
        label = path or type(module).__name__
        inner = torch_leaves.wrapped(module)
        if inner is not None:
            return self.call(inner, args, kwargs)
        kind = torch_leaves.builtin(module)
        role = torch_layers.role(kind) if kind else None
        if kind is not None and role is not None:
            if role == "chain" and len(values) == 1:
                value = values[0]
                for child in module:
                    value = self.call(child, (value,), {})
                return value
            steps = torch_leaves.leaf(module, kind, role, path, label)
            if getattr(module, "inplace", False) is True:
                self.change(values)
            if steps and isinstance(steps[0], Barrier):
                return self.opaque(module, values, steps[0])
            return self.add(values, *steps, reshapes=torch_layers.reshapes(kind))
        try:
            return self._custom(module, args, kwargs)
        except NotFollowed as problem:
            if module is self.root:
                raise
            self.failed.append(f"{label}: {problem}")
            self.change(values)
            return self.opaque(module, values, Barrier(label, _NOT_FOLLOWED))

    def _custom(self, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Value:
        if torch_leaves.is_replaced(module):
            raise NotFollowed("another forward than that of its class was put on it")
        given, fixed = _bound(module, args, kwargs)
        graph = traced_graph(module, fixed, self.elsewhere)
        known = _Known(self.memory_of)
        biases: dict[Any, _Value] = {}  # additions that only add biases to a layer
        layers: set[Any] = set()  # nodes that are a layer, or add its biases
        for node in graph.nodes:
            so_far = len(self.changed)
            inputs = [value for n in node.all_input_nodes if (value := known[n]) is not None]
            if node.op == "placeholder":
                known[node] = given.get(node.target)
            elif node.op == "output":
                read = [n for n in graph.nodes if not layers.issuperset(torch_leaves.readers(n))]
                self.elsewhere.update(*(n.meta.get("addresses", ()) for n in read))
                return self._returned(module, node, inputs)
            elif not inputs or torch_leaves.tells_about(node):
                known[node] = None
                if node.op == "call_module":  # its result depends on its weights only
                    weights = module.get_submodule(node.target).parameters()
                    self.elsewhere |= torch_leaves.addresses(weights)
            elif node in biases:
                known[node] = biases[node]
            elif node.meta.get("no_grad"):
                known[node] = self._without_gradient(module, node, inputs)
            elif node.op == "call_module":
                known[node] = self._called(module, node, inputs, known)
            else:
                steps, addition = self._function(module, node, inputs)
                known[node] = value = self.add(
                    inputs,
                    *steps,
                    is_view=torch_leaves.may_share_memory(node),
                    reshapes=torch_leaves.is_reshape(node),
                )
                if any(isinstance(step, Dense) for step in steps):
                    layers |= {node, addition}
                if addition is not None:
                    biases[addition] = value
            if known[node] is not None:
                if torch_leaves.may_change(node):
                    self.change(inputs)
                for changed in torch_leaves.changed_in_place(module, node):
                    before = known.get(changed)
                    if before is None:  # such as a buffer, which does not depend on the input
                        continue
                    for other in known.sharing(self.memory_of(before)):
                        if known[other] == before:
                            known[other] = known[node]
                    self.change([before])
                self._forget(node, known, set(self.changed[so_far:]))
        raise NotFollowed("it returns nothing")

    def _forget(self, node: Any, known: _Known, changed: set[Hashable]) -> None:
        """Put barriers behind the values in memory that a node changed, but for its own result."""
        for other in known.sharing(changed):
            value = known[other]
            if value is None or value == known[node] or changed.isdisjoint(self.memory_of(value)):
                continue  # another value took its place, in memory of its own
            known[other] = self.add([value], Barrier(node.name, _CHANGED))

    def _without_gradient(self, module: Any, node: Any, inputs: list[_Value]) -> _Value:
        """Add an operation that is computed without gradients; its weights count as used."""
        barrier = Barrier(node.name, _NO_GRADIENT)
        if node.op == "call_module":
            return self.opaque(module.get_submodule(node.target), inputs, barrier)
        return self.add(inputs, barrier)

    def _returned(self, module: Any, node: Any, inputs: list[_Value]) -> _Value:
        if not inputs:
            raise NotFollowed("what it returns does not depend on its input")
        if module is self.root:
            self.results = tuple(value.key for value in inputs)
        single = len(inputs) == 1 and torch_leaves.is_node(node.args[0])
        return inputs[0] if single else self.add(inputs, Barrier(module._get_name(), _SEVERAL))

    def _called(
        self, module: Any, node: Any, inputs: list[_Value], known: Mapping[Any, _Value | None]
    ) -> _Value:
        def given(argument: Any) -> Any:
            return (known[argument] or _OTHER) if torch_leaves.is_node(argument) else argument

        args = tuple(given(argument) for argument in node.args)
        kwargs = {name: given(argument) for name, argument in node.kwargs.items()}
        found = sum(isinstance(one, _Value) for one in (*args, *kwargs.values()))
        if found < len(inputs):  # some inputs are in a list or dictionary
            return self.add(inputs, Barrier(node.target, _MEET))
        return self.call(module.get_submodule(node.target), args, kwargs)

    def _function(
        self, module: Any, node: Any, inputs: list[_Value]
    ) -> tuple[tuple[Step, ...], Any]:
        """Return the steps of a function or method, and the node that adds their biases or None."""
        name = torch_leaves.known_name(node).rstrip("_")
        rest = list(node.args[1:])
        if len(inputs) > 1:
            operation = torch_leaves.joined(node, name)
            if operation is not None:
                second = torch_leaves.argument(node, 1, "dim") == 1
                return (Join(node.name, _MEET, operation, second_axis=second),), None
            return (Barrier(node.name, _MEET),), None
        if name == "linear":
            weight = self._parameter(module, torch_leaves.argument(node, 1, "weight"), 2)
            bias_node = torch_leaves.argument(node, 2, "bias")
            bias = self._parameter(module, bias_node, 1)
            if weight is not None and (bias is not None or bias_node is None):
                return (self._dense(weight, bias, "out_in"),), None
        elif name in ("matmul", "mm") and rest and (p := self._parameter(module, rest[0], 2)):
            bias, addition = self._added(module, node, p)
            return (self._dense(p, bias, "in_out"),), addition
        elif name == "addmm" and len(rest) == 2 and not node.kwargs:
            bias, weight = (self._parameter(module, node.args[i], i or 1) for i in (0, 2))
            if weight is not None and bias is not None and len(bias.held) == weight.outputs:
                return (self._dense(weight, bias, "in_out"),), None
        elif torch_leaves.is_transparent(name, node) or torch_leaves.is_scaling(name, node):
            return (), None
        elif name in ("clamp", "clip", "clamp_min"):
            least = torch_leaves.argument(node, 1, "min")
            if least == 0 and torch_leaves.argument(node, 2, "max") is None:
                return (Activation("relu"),), None
        elif name == "detach":
            return (Barrier(node.name, _NO_GRADIENT),), None
        elif name.endswith("_norm") or name == "normalize":
            return (Barrier(node.name, _NORMALISED),), None
        elif torch_leaves.is_activation_function(name):
            slope = torch_leaves.argument(node, 1, "negative_slope")
            return (Activation(name, torch_leaves.slope(name, slope)),), None
        name = torch_leaves.name_of(node).rstrip("_")
        return (Barrier(node.name, f"what {name!r} does with the neurons is not known"),), None

    def _parameter(self, module: Any, node: Any, ndim: int) -> _Parameter | None:
        """Return the parameter of a node, perhaps transposed, or None if it is no parameter."""
        turned = False
        while torch_leaves.is_node(node) and torch_leaves.is_turning(node):
            node, turned = node.args[0], not turned
        if not torch_leaves.is_node(node) or node.op != "get_attr":
            return None
        prefix, _, name = node.target.rpartition(".")
        owner = module.get_submodule(prefix)
        held = owner._parameters.get(name)
        if held is None or held.ndim != ndim:
            return None
        path = self.paths.get(id(owner), prefix)
        return _Parameter(f"{path}.{name}" if path else name, held, turned)

    def _added(self, module: Any, node: Any, weight: _Parameter) -> tuple[_Parameter | None, Any]:
        """Return the biases that are added directly to a product, and the node that adds them."""
        after = list(node.users)
        if len(after) == 1 and getattr(after[0].target, "__name__", "") in ("add", "iadd"):
            others = [a for a in after[0].args if a is not node]
            bias = self._parameter(module, others[0], 1) if len(others) == 1 else None
            if bias is not None and len(bias.held) == weight.outputs:
                return bias, after[0]
        return None, None

    def _dense(self, weight: _Parameter, bias: _Parameter | None, layout: Orientation) -> Dense:
        if weight.turned:
            layout = "in_out" if layout == "out_in" else "out_in"
        held = [weight.held] + ([bias.held] if bias else [])
        return Dense(
            weight.name.removesuffix(".weight"),
            weight.name,
            bias=bias.name if bias else None,
            layout=layout,
            trained=all(map(torch_leaves.is_trained, held)),
        )


@dataclass(frozen=True, eq=False)
class _Parameter:
    """A parameter that is used in a function, by its name in the root module."""

    name: str
    held: Any
    turned: bool

    @property
    def outputs(self) -> int:
        """The number of outputs of a product with it on the right."""
        return int(self.held.shape[0 if self.turned else 1])


def _bound(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[dict[str, _Value], dict[str, Any]]:
    """Return the arguments of ``forward`` that are values, and those that are plain constants."""
    try:
        signature = inspect.signature(type(module).forward)
        names = list(signature.parameters)[1:]
        if args == (_INPUT,):  # this is the root, of which every argument is an input
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
