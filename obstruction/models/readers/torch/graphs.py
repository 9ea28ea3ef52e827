"""Traces of the ``forward`` of single PyTorch modules, made with `torch.fx`.

`torch.fx` calls ``forward`` with stand-ins for tensors and records the operations on them. What
``forward`` stores on modules is restored afterwards, and so are the states of random generators.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import operator
import random
import re
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from obstruction.models.readers.torch import leaves as torch_leaves

_ONE_AT_A_TIME: Final = threading.RLock()
"""A lock that is held while a trace changes PyTorch's own classes."""

_DRAWN: Final = re.compile(r"_tensor_constant\d+|-?\d+\.\d*(e[-+]?\d+)?|-?\d+e-\d+")
"""The parts of a node's text that differ if random numbers do: constants and fractions."""

_TRIALS: Final = (0.0, 1.0 - 2.0**-24, *(None,) * 6)
"""The relative places in their range where uniform random numbers are put, None for no change."""


class NotFollowed(Exception):
    """A forward pass depends on data, or does what is impossible with stand-ins for tensors."""


def traced_graph(module: Any, fixed: dict[str, Any], read: set[int]) -> Any:
    """Return the graph of one module's ``forward``, in which every module it calls is one node.

    The arguments of ``forward`` that are no tensors are fixed. Nodes that are tensors get their
    addresses as ``meta["addresses"]``, and nodes that are computed without gradients get
    ``meta["no_grad"]``. The addresses of tensors with which ``forward`` computes outside of the
    graph are added to ``read``.

    Raises
    ------
    NotFollowed
        If ``forward`` cannot be traced, or if the graph depends on random numbers.
    """
    try:
        with (
            _ONE_AT_A_TIME,
            _untouched(module),
            warnings.catch_warnings(),
            _random_states() as drawn,
        ):
            warnings.simplefilter("ignore")
            graph = _traced(module, fixed, read)
            if drawn():
                seen = _shape_of(graph)
                for seed, place in enumerate(_TRIALS):
                    with _drawn_at(place, seed):
                        again = _traced(module, fixed, read)
                    if _shape_of(again) != seen:
                        raise NotFollowed("what it does depends on random numbers")
            for node in graph.nodes:
                if node.op == "get_attr":
                    held = operator.attrgetter(node.target)(module)
                    node.meta["addresses"] = torch_leaves.addresses([held])
                    is_tensor = isinstance(held, sys.modules["torch"].Tensor)
                    node.meta["is_real"] = is_tensor and held.is_floating_point()
            return graph
    except NotFollowed:
        raise
    except Exception as problem:  # it is the user's code that runs
        lines = str(problem).strip().splitlines() or [type(problem).__name__]
        raise NotFollowed(lines[0]) from None


@contextlib.contextmanager
def _drawn_at(place: float | None, seed: int) -> Iterator[None]:
    """Seed random numbers, and put uniform ones at a place in their range that they seldom take.

    The numbers that other threads draw are not changed.
    """
    torch, here = sys.modules["torch"], threading.get_ident()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - forward may use it

    def instead(usual: Any, place: Any) -> Any:
        def draw(*given: Any, **options: Any) -> Any:
            drawn = usual(*given, **options)
            if threading.get_ident() != here:
                return drawn
            if isinstance(drawn, torch.Tensor):
                return torch.full_like(drawn, place)
            if isinstance(drawn, np.ndarray):
                return np.full_like(drawn, place)
            if isinstance(drawn, float):
                low, high = given if len(given) == 2 else (0.0, 1.0)
                return low + place * (high - low)
            return drawn  # a stand-in, whose size is not known during a trace

        return draw

    owners = ((random, "random"), (random, "uniform"), (np.random, "rand"), (torch, "rand"))
    drawing = [] if place is None else owners
    with _changed([(o, name, instead(getattr(o, name), place)) for o, name in drawing]):
        yield


@contextlib.contextmanager
def _changed(attributes: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """Give objects other attributes for a time; each is an object, a name and a value."""
    with contextlib.ExitStack() as back:
        for owner, name, value in attributes:
            if name in vars(owner):
                back.callback(setattr, owner, name, vars(owner)[name])
            else:
                back.callback(delattr, owner, name)
            setattr(owner, name, value)
        yield


def _traced(module: Any, fixed: dict[str, Any], read: set[int]) -> Any:
    torch, fx = sys.modules["torch"], importlib.import_module("torch.fx")

    def create_node(self: Any, *args: Any, **kwargs: Any) -> Any:
        node = fx.Tracer.create_node(self, *args, **kwargs)
        if not torch.is_grad_enabled():
            node.meta["no_grad"] = True
        return node

    behaviour = {
        "is_leaf_module": lambda *_: True,
        "proxy_buffer_attributes": True,
        "create_node": create_node,
    }
    tracer = type("Tracer", (fx.Tracer,), behaviour)()
    changed = _changed([_own_backward(tracer), *_augmented()])
    with torch.enable_grad(), _recorded(read), changed:
        return tracer.trace(module, concrete_args=fixed or None)


def _shape_of(graph: Any) -> list[str]:
    """Return the nodes of a graph as text, without fractions and the names of constants."""
    nodes = [f"{n.op} {n.target} {n.args} {n.kwargs}" for n in graph.nodes]
    return [_DRAWN.sub("constant", node) for node in nodes]


@contextlib.contextmanager
def _random_states() -> Iterator[Any]:
    """Restore random states at the end, and yield a function that tells whether they changed."""
    torch = sys.modules["torch"]
    with torch.random.fork_rng(devices=[]):
        python, numpy = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
        before = torch.random.get_rng_state()

        def drawn() -> bool:
            now = np.random.get_state(legacy=False)  # noqa: NPY002
            return bool(
                random.getstate() != python
                or not torch.equal(torch.random.get_rng_state(), before)
                or repr(now) != repr(numpy)
            )

        try:
            yield drawn
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _augmented() -> Iterator[tuple[Any, str, Any]]:
    """Yield attributes of stand-ins with which ``x += y`` is noted as a change of ``x``.

    Otherwise it would be noted as ``x = x + y``, which leaves other names for ``x`` as they are.
    """
    proxy = importlib.import_module("torch.fx").Proxy

    def noted(target: Any) -> Any:
        return lambda given, other: given.tracer.create_proxy(
            "call_function", target, (given, other), {}
        )

    for name in (f"__{name}__" for name in torch_leaves.AUGMENTED):
        if not hasattr(proxy, name):
            yield proxy, name, noted(getattr(operator, name))


def _own_backward(tracer: Any) -> tuple[Any, str, Any]:
    """Return the attribute with which functions whose gradients are a user's own are not opened."""
    function = sys.modules["torch"].autograd.Function
    proxy = importlib.import_module("torch.fx").Proxy
    given = vars(function)["apply"]

    def apply(kind: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(isinstance(one, proxy) for one in (*args, *kwargs.values())):
            return given.__get__(None, kind)(*args, **kwargs)

        def unknown(*_: Any, **__: Any) -> None:
            """Stand for the function in the graph."""

        unknown.__name__ = f"{kind.__name__}.apply"
        return tracer.create_proxy("call_function", unknown, args, kwargs)

    return function, "apply", classmethod(apply)


def _recorded(read: set[int]) -> Any:
    """Return a context that records the addresses of tensors used in untraced computations."""
    fx = importlib.import_module("torch.fx")
    mode = importlib.import_module("torch.overrides").TorchFunctionMode

    def watch(_: Any, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given: list[Any] = [*args, *(kwargs or {}).values()]
        given += [one for many in given if isinstance(many, (list, tuple)) for one in many]
        named = function if function.__name__ != "__get__" else function.__self__
        about = named.__name__ in torch_leaves.ABOUT
        if not about and not any(isinstance(one, fx.Proxy) for one in given):
            read.update(torch_leaves.addresses(given))
        return function(*args, **(kwargs or {}))

    return type("Recorder", (mode,), {"__torch_function__": watch})()


@contextlib.contextmanager
def _untouched(module: Any) -> Iterator[None]:
    """Restore the attributes of modules at the end, with the contents of lists, dicts and sets."""
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
