"""Properties of single PyTorch modules, functions and nodes of graphs."""

from __future__ import annotations

import contextlib
import numbers
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

from obstruction.models.activations import canonical, is_activation
from obstruction.models.contents import Activation, Barrier, Dense, Step
from obstruction.models.readers.torch import layers as torch_layers

_RESHAPES: Final = frozenset(("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze"))
_CASTS: Final = frozenset(
    ("to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda")
)
_TRANSPARENT: Final = (
    _RESHAPES | _CASTS | {"dropout", "dropout1d", "dropout2d", "dropout3d", "contiguous", "clone"}
)
_ABOUT_METHODS: Final = frozenset(
    ("size", "dim", "ndimension", "numel", "nelement", "stride", "get_device", "__len__")
)
_ABOUT_ATTRIBUTES: Final = frozenset(
    ("shape", "device", "dtype", "ndim", "is_cuda", "is_meta", "layout", "requires_grad")
)
ABOUT: Final = _ABOUT_METHODS | _ABOUT_ATTRIBUTES
_PRODUCTS: Final = ("mul", "imul", "multiply")
_QUOTIENTS: Final = ("truediv", "itruediv", "div", "divide", "true_divide")
_VIEWS: Final = (
    _RESHAPES
    | _CASTS
    | {"contiguous", "getitem", "narrow", "select", "chunk", "split", "transpose", "permute", "t"}
    | {"swapaxes", "expand", "detach", "getattr", "ravel", "view_as", "reshape_as"}
)  # functions whose result shares memory with their argument
_MODULES: Final = frozenset(("torch", "_operator", "operator", "builtins", "math"))
_COPIES: Final = frozenset(
    (
        *("linear", "matmul", "mm", "addmm", "add", "sub", "mul", "truediv", "div", "neg", "pow"),
        *("cat", "concat", "concatenate", "stack", "clone", "sum", "mean", "prod", "maximum"),
        *("minimum", "clamp", "clamp_min", "exp", "log", "sqrt", "abs", "square", "rsqrt"),
        *("eq", "ne", "lt", "le", "gt", "ge", "where", "layer_norm", "batch_norm", "norm"),
    )
)  # functions whose result has memory of its own
AUGMENTED: Final = frozenset(("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"))
_COMPUTED: Final = "its weights are computed from others when it is called"


def builtin(module: Any) -> str | None:
    """Return the class of ``torch.nn`` whose ``forward`` a module runs, None if it has its own."""
    own = getattr(type(module), "forward", None)
    if is_replaced(module) or own is sys.modules["torch"].nn.Module.forward:
        return None
    for kind in type(module).__mro__:
        ours = kind.__module__.startswith("torch.nn.")
        if kind.__module__.startswith("torch.nn.utils."):
            continue  # a class that parametrisation made
        if ours and getattr(kind, "forward", None) is own:
            return f"{kind.__module__}.{kind.__qualname__}"
    return None


def is_replaced(module: Any) -> bool:
    """Return whether calling a module does not run the ``forward`` of its class."""
    torch = sys.modules["torch"]
    if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
        return True
    # the __call__ of a torch.fx.GraphModule only changes error messages
    calls = type(module).__call__
    return calls is not torch.nn.Module.__call__ and calls.__module__ != "torch.fx.graph_module"


def has_hooks(module: Any) -> bool:
    """Return whether a user's hooks may change the values or gradients that pass a module.

    Hooks of ``torch.nn.utils`` do not count, as they only compute weights from other parameters.
    """
    everywhere = sys.modules["torch.nn.modules.module"]
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    hooks += everywhere._global_forward_pre_hooks.values()
    hooks += everywhere._global_forward_hooks.values()
    hooks += [*module._backward_pre_hooks.values(), *module._backward_hooks.values()]
    hooks += everywhere._global_backward_pre_hooks.values()
    hooks += everywhere._global_backward_hooks.values()
    return any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)


def wrapped(module: Any) -> Any:
    """Return the module inside the wrapper of DataParallel or torch.compile, None if it is none."""
    if type(module).__module__.startswith("torch._dynamo."):
        return getattr(module, "_orig_mod", None)
    kind = builtin(module)
    return module.module if kind and torch_layers.role(kind) == "wrapper" else None


def leaf(module: Any, kind: str, role: str, path: str, label: str) -> tuple[Step, ...]:
    """Return the steps of a module of ``torch.nn``."""
    if role == "linear":
        return (_linear(module, path, label),)
    if role == "activation":
        name, weight = kind.rpartition(".")[2], getattr(module, "weight", None)
        given = (
            module.__dict__.get("negative_slope")
            if weight is None
            else float(weight.detach().mean())
        )
        return (Activation(name, slope(name, given)),)
    return () if role == "nothing" else (Barrier(label, torch_layers.reason(kind)),)


def _linear(module: Any, path: str, label: str) -> Dense | Barrier:
    held, prefix = dict(module._parameters), f"{path}." if path else ""
    weight, magnitude = "weight", ""
    if hasattr(module, "parametrizations"):
        how: Any = getattr(module.parametrizations, "weight", ())
        if set(module.parametrizations) != {"weight"} or len(how) != 1:
            return Barrier(label, _COMPUTED)
        if type(how[0]).__name__ != "_WeightNorm":
            return Barrier(label, _COMPUTED)
        held |= {f"parametrizations.weight.{name}": p for name, p in how._parameters.items()}
        magnitude, weight = (f"parametrizations.weight.original{i}" for i in (0, 1))
    elif "weight_g" in held and "weight" not in held:
        magnitude, weight = "weight_g", "weight_v"
    has_bias = getattr(module, "bias", None) is not None
    if held.get(weight) is None or has_bias != (held.get("bias") is not None):
        return Barrier(label, _COMPUTED)
    if magnitude and tuple(held[magnitude].shape) != (len(held[weight]), 1):  # not one per output
        return Barrier(label, _COMPUTED)
    bias = "bias" if held.get("bias") is not None else ""
    return Dense(
        label,
        prefix + weight,
        bias=prefix + bias if bias else None,
        layout="out_in",
        magnitude=prefix + magnitude if magnitude else None,
        trained=all(is_trained(held[part]) for part in (weight, magnitude, bias) if part),
    )


def is_trained(parameter: Any) -> bool:
    """Return whether a parameter gets its gradient, which no hook changes."""
    return bool(parameter.requires_grad) and not parameter._backward_hooks


def is_transparent(name: str, node: Any) -> bool:
    """Return whether a node, which calls a function of this name, does not affect balances."""
    if name in ("to", "type", "type_as"):  # no gradient passes through whole numbers
        told = [*node.args[1:], *node.kwargs.values()]
        dtype = sys.modules["torch"].dtype
        if not all(map(_is_real, told)):
            return False
        return name != "type" or all(isinstance(one, dtype) or is_node(one) for one in told)
    return name in _TRANSPARENT


def _is_real(told: Any) -> bool:
    """Return whether an argument, a type or a tensor, stands for a floating-point type."""
    if isinstance(told, sys.modules["torch"].dtype):
        return bool(told.is_floating_point)
    if not is_node(told) or told.op == "placeholder":
        return True
    if told.target is getattr:
        return _is_real(told.args[0])
    return told.op == "get_attr" and bool(told.meta.get("is_real"))


def is_activation_function(name: str) -> bool:
    """Return whether a function of this name is applied to each output of a layer."""
    return is_activation(name) and canonical(name) != "linear"


def slope(name: str, given: Any) -> float:
    """Return the factor of negative inputs of an activation, the usual one if none is given."""
    usual = {"leaky_relu": 0.01, "prelu": 0.25}.get(canonical(name), 0.0)
    return float(given) if usual and isinstance(given, numbers.Real) else usual


# --- nodes of graphs --------------------------------------------------------------------------


def addresses(values: Iterable[Any]) -> set[int]:
    """Return the addresses of the memory of all tensors among some values."""
    found = set()
    for value in values:
        if isinstance(value, sys.modules["torch"].Tensor):
            with contextlib.suppress(RuntimeError, NotImplementedError):
                found.add(value.untyped_storage().data_ptr())
    return found - {0}


def is_node(value: Any) -> bool:
    """Return whether an argument is a node of the graph, so that it stands for its result."""
    return isinstance(value, sys.modules["torch.fx"].Node)


def argument(node: Any, position: int, name: str) -> Any:
    """Return an argument by its position or name, None if it is not given."""
    return node.args[position] if len(node.args) > position else node.kwargs.get(name)


def tells_about(node: Any) -> bool:
    """Return whether a node is a property of a tensor, such as its shape, and not its numbers."""
    if node.op == "call_method":
        return node.target in _ABOUT_METHODS
    return node.target is getattr and node.args[1] in _ABOUT_ATTRIBUTES


def readers(node: Any) -> Iterator[Any]:
    """Yield the nodes that compute with the numbers of a tensor or its transpose."""
    for user in node.users:
        if is_turning(user):
            yield from readers(user)
        elif not tells_about(user) and not (
            user.target in ("to", "type_as") and user.args[0] is not node
        ):
            yield user


def changed_in_place(module: Any, node: Any) -> Iterator[Any]:
    """Yield the nodes whose values an operation overwrites with its result."""
    changed: Any = node.args[0] if node.args else None
    if node.op == "call_module":
        in_place = getattr(module.get_submodule(node.target), "inplace", False) is True
    else:
        name = name_of(node)
        in_place = name.endswith("_") and not name.endswith("__")
        in_place |= name in AUGMENTED
        in_place |= node.kwargs.get("inplace") is True
        in_place |= is_activation_function(name) and any(a is True for a in node.args[-1:])
        if is_node(node.kwargs.get("out")):
            changed, in_place = node.kwargs["out"], True
    while in_place and is_node(changed):
        yield changed
        changed = changed.args[0] if is_view(changed) and changed.args else None


def known_name(node: Any) -> str:
    """Return the name of the function that a node calls, "" if it is the user's own."""
    target = node.target
    if isinstance(target, str):
        return target if node.op == "call_method" else ""
    named = getattr(target, "_qualified_op_name", None)  # functions in torch.ops have one
    module = getattr(target, "__module__", None) or ""
    known = named.startswith("aten::") if named else module.split(".")[0] in _MODULES
    return name_of(node) if known else ""


def name_of(node: Any) -> str:
    """Return the name of the function or method that a node calls."""
    target = node.target
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def is_view(node: Any) -> bool:
    """Return whether the result of a node may share memory with its arguments."""
    return node.op in ("call_method", "call_function") and name_of(node) in _VIEWS


def may_share_memory(node: Any) -> bool:
    """Return whether the result of a node may share memory with its argument."""
    name = known_name(node)
    return not (name in _COPIES or is_activation_function(name)) or bool(node.kwargs.get("inplace"))


def may_change(node: Any) -> bool:
    """Return whether a node may change its arguments: its name says so, or its result is unused."""
    if node.op not in ("call_function", "call_method"):
        return False
    return name_of(node).endswith("_") or (not node.users and known_name(node) not in _COPIES)


def is_reshape(node: Any) -> bool:
    """Return whether a node may give a tensor another last axis."""
    name = name_of(node)
    if name == "unsqueeze":  # a new axis that is not the last one leaves that as it is
        place = argument(node, 1, "dim")
        return not (isinstance(place, int) and (place == 0 or place < -1))
    return name in _RESHAPES


def joined(node: Any, name: str) -> Literal["sum", "concat"] | None:
    """Return whether a function adds or concatenates its inputs, None if it does neither."""
    inputs = len(node.all_input_nodes)
    if name in ("add", "iadd"):
        return "sum" if len(node.args) == inputs == 2 and not node.kwargs else None
    if name not in ("cat", "concat", "concatenate") or not isinstance(node.args[0], (list, tuple)):
        return None
    axis = argument(node, 1, "dim")
    return "concat" if axis in (1, -1) and len(node.args[0]) == inputs else None


def is_turning(node: Any) -> bool:
    """Return whether a node transposes a matrix."""
    if node.op not in ("call_method", "call_function"):
        return False
    if node.target is getattr:
        return node.args[1] in ("T", "mT")
    name = node.target if isinstance(node.target, str) else node.target.__name__
    axes = sorted(a % 2 for a in node.args[1:] if isinstance(a, int))
    return name == "t" or (name in ("transpose", "permute", "swapaxes") and axes == [0, 1])


def is_scaling(name: str, node: Any) -> bool:
    """Return whether a node multiplies or divides by a number, or adds 0 as Python's `sum` does."""
    numbers = [type(argument) in (int, float) for argument in node.args]
    if node.kwargs or len(numbers) != 2:
        return False
    if name == "add":
        return any(numbers) and node.args[numbers.index(True)] == 0
    return (name in _PRODUCTS and any(numbers)) or (name in _QUOTIENTS and numbers[1])
