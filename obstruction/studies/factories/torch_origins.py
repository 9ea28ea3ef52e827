"""Where the numbers in tensors of PyTorch come from, as seen while code runs.

Every operation on tensors is seen below Python, so it does not matter by which function, view or
module it was called. Each storage has an origin: the steps that filled all of its entries alike, if
there are such steps, and whether its numbers depend on random ones at all.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest import mock

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from obstruction.studies.factories.recipes import Step

_ROOTS: Final[dict[str, Callable[[Mapping[str, Any]], Step]]] = {
    "uniform_": lambda given: Step("uniform", (given["from"], given["to"])),
    "normal_": lambda given: Step("normal", (given["mean"], given["std"])),
    "fill_": lambda given: Step("fill", (given["value"],)),
    "zero_": lambda given: Step("fill", (0.0,)),
    "zeros": lambda given: Step("fill", (0.0,)),
    "ones": lambda given: Step("fill", (1.0,)),
    "full": lambda given: Step("fill", (given["fill_value"],)),
    "zeros_like": lambda given: Step("fill", (0.0,)),
    "ones_like": lambda given: Step("fill", (1.0,)),
    "full_like": lambda given: Step("fill", (given["fill_value"],)),
    "rand": lambda given: Step("uniform", (0.0, 1.0)),
    "randn": lambda given: Step("normal", (0.0, 1.0)),
}
"""Operations that fill a tensor, whatever was in it before."""


def _once(given: Mapping[str, Any]) -> bool:
    return isinstance(given["other"], int | float) and given["alpha"] == 1


_ENTRIES: Final[dict[str, Callable[[Mapping[str, Any]], Step | None]]] = {
    "mul": lambda given: Step("multiply", (given["other"],)),
    "div": lambda given: (
        Step("divide", (given["other"],)) if given.get("rounding_mode") is None else None
    ),
    "add": lambda given: Step("add", (given["other"],)) if _once(given) else None,
    "sub": lambda given: Step("add", (-given["other"],)) if _once(given) else None,
    "neg": lambda given: Step("multiply", (-1.0,)),
    "erfinv": lambda given: Step("erfinv"),
    "clamp": lambda given: Step(
        "clamp",
        (
            -math.inf if given["min"] is None else given["min"],
            math.inf if given["max"] is None else given["max"],
        ),
    ),
}
"""Operations on each entry alone, by their names without the underscore of those in place."""

_STATE: Final = torch.get_rng_state
"""The function itself, as others are told apart that factories call."""

_READS: Final = {
    *("numpy", "tolist", "__array__", "__dlpack__", "__repr__", "__reduce_ex__"),
    *("tensor", "as_tensor", "asarray"),
}
"""Functions that let numbers out of a tensor, besides operations that return numbers."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the numbers in a storage come from.

    Attributes
    ----------
    steps : tuple of Step or None
        The steps by which all entries were made; None if there is no such list.
    dtype : str
        The type in which they were filled.
    event : int
        The number of the operation that drew them, -1 if none did.
    tainted : bool
        Whether they depend on random numbers at all.
    state : Tensor or None
        The state of the generator before they were drawn.
    """

    steps: tuple[Step, ...] | None = None
    dtype: str = ""
    event: int = -1
    tainted: bool = False
    state: Any = None

    def then(self, step: Step | None) -> Origin:
        """Return the origin after one more step, or after one that is not known."""
        if self.steps is None or step is None:
            return Origin(tainted=self.tainted)
        return replace(self, steps=(*self.steps, step))


_UNKNOWN: Final = Origin()


class _Escapes(TorchFunctionMode):  # type: ignore[misc]
    """See methods that let the numbers of a tensor out to Python."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        passed_on = name in ("as_tensor", "asarray") and args and isinstance(args[0], torch.Tensor)
        if name in _READS and not passed_on and self.recorder.tainted(args):
            self.recorder.escaped = True
        return func(*args, **(kwargs or {}))


_SHAPED: Final = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
"""Tags of operations of which numbers decide the size of the result."""

_CUT_NORMAL: Final[Any] = getattr(torch.nn.init, "_no_grad_trunc_normal_", None)
"""The function behind `torch.nn.init.trunc_normal_`, which other modules import by its own name."""


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Record the origin of the numbers in every storage.

    Attributes
    ----------
    escaped : bool
        Whether a random number was read by Python.
    repeated : bool
        Whether the generator was twice in the same state when it was used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.escaped = False
        self.repeated = False
        self._inside = False
        self._origins: dict[int, tuple[Any, Origin]] = {}
        self._states: set[bytes] = set()

    def tainted(self, values: Any) -> bool:
        """Return whether a tensor among some values depends on random numbers."""
        return any(self.origin(one).tainted for one in _tensors(values))

    def origin(self, tensor: torch.Tensor) -> Origin:
        """Return where the numbers in the storage of a tensor come from."""
        return self._origins.get(_storage(tensor)._cdata, (None, _UNKNOWN))[1]

    def draw_cut(
        self, tensor: torch.Tensor, mean: float, std: float, a: float, b: float, generator: Any
    ) -> torch.Tensor:
        """Draw from a normal law between two ends by PyTorch's code, which is one step."""
        state = _STATE()
        self._inside = True
        try:
            result: torch.Tensor = _CUT_NORMAL(tensor, mean, std, a, b, generator)
        finally:
            self._inside = False
        self._saw(state)
        known = whole(tensor) and generator is None
        step = Step("cut_normal", (mean, std, a, b))
        event = len(self._states)
        origin = Origin((step,) if known else None, _dtype(tensor), event, True, state)
        self._set(tensor, origin)
        return result

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._inside:
            return func(*args, **kwargs)
        drawing = torch.Tag.nondeterministic_seeded in func.tags
        state = _STATE() if drawing else None
        result = func(*args, **kwargs)
        given = _given(func._schema, args, kwargs)
        inputs = _tensors((args, kwargs))
        if drawing:
            self._saw(state)
        tainted = drawing or any(self.origin(one).tainted for one in inputs)
        if any(self.origin(one).tainted for one in inputs) and (
            _SHAPED & set(func.tags)
            or any(
                not isinstance(one, torch.Tensor) and one is not None for one in tree_leaves(result)
            )
        ):
            self.escaped = True  # as numbers, or by the size of a result
        written = _tensors(
            [
                given[one.name]
                for one in func._schema.arguments
                if one.alias_info is not None and one.alias_info.is_write
            ]
        )
        for tensor in written:
            self._set(tensor, self._result(func, given, inputs, tensor, tainted, drawing, state))
        known = {_storage(one)._cdata for one in inputs}
        for tensor in _tensors(result):
            if _storage(tensor)._cdata not in known:
                self._set(
                    tensor, self._result(func, given, inputs, tensor, tainted, drawing, state)
                )
        return result

    def _result(
        self,
        func: Any,
        given: Mapping[str, Any],
        inputs: list[torch.Tensor],
        tensor: torch.Tensor,
        tainted: bool,
        drawing: bool,
        state: Any,
    ) -> Origin:
        """Return the origin of a tensor that an operation wrote or made."""
        opaque = Origin(tainted=tainted)
        name = func._schema.name.removeprefix("aten::")
        if not whole(tensor) or given.get("generator") is not None:
            return Origin(tainted=tainted or self.tainted([tensor]))
        if name in _ROOTS:
            step = _ROOTS[name](given)
            if not all(isinstance(one, int | float) for one in step.arguments):
                return opaque
            event = len(self._states) if drawing else -1
            return Origin((step,), _dtype(tensor), event, drawing, state)
        if name in ("copy_", "clone", "_to_copy"):
            source = given["src" if name == "copy_" else "self"]
            if not whole(source) or source.shape != tensor.shape:
                return opaque
            origin = self.origin(source)
            if source.dtype != tensor.dtype:
                return origin.then(Step("cast", (_dtype(tensor),)))
            return origin
        rule = _ENTRIES.get(name.removesuffix("_"))
        first = given.get("self")
        if rule is not None and isinstance(first, torch.Tensor) and len(inputs) == 1:
            entry = rule(given)
            numbers = entry is not None and all(
                isinstance(one, int | float) for one in entry.arguments
            )
            if numbers and whole(first) and first.dtype == tensor.dtype:
                return self.origin(first).then(entry)
        return opaque

    def _set(self, tensor: torch.Tensor, origin: Origin) -> None:
        storage = _storage(tensor)
        held = self._origins.get(storage._cdata)
        # the reference keeps the address from being given to another storage
        reference = StorageWeakRef(storage) if held is None else held[0]
        self._origins[storage._cdata] = (reference, origin)

    def _saw(self, state: Any) -> None:
        digest = hashlib.sha256(state.numpy().tobytes()).digest()
        self.repeated |= digest in self._states
        self._states.add(digest)


@contextmanager
def _cut_in_one_step(recorder: Recorder) -> Iterator[None]:
    """Have the recorder see a draw from a cut normal law as one step."""
    if _CUT_NORMAL is None:
        yield
        return

    def drawn(
        tensor: torch.Tensor,
        mean: float,
        std: float,
        a: float,
        b: float,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        return recorder.draw_cut(tensor, mean, std, a, b, generator)

    with mock.patch.object(torch.nn.init, "_no_grad_trunc_normal_", drawn):
        yield


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what happens to tensors in a block."""
    recorder = Recorder()
    with ExitStack() as stack:
        for place, name in _STATES:
            stack.enter_context(mock.patch.object(place, name, _asked(recorder, place, name)))
        for one in (recorder, _Escapes(recorder), _cut_in_one_step(recorder)):
            stack.enter_context(one)
        yield recorder


def _asked(recorder: Recorder, place: Any, name: str) -> Callable[..., Any]:
    """Return a function in place of another one that tells the state of a generator."""
    original = getattr(place, name)

    def asked(*args: Any, **kwargs: Any) -> Any:
        recorder.escaped = True
        return original(*args, **kwargs)

    return asked


_STATES: Final[tuple[tuple[Any, str], ...]] = (
    (torch, "initial_seed"),
    (torch.random, "initial_seed"),
    (torch, "get_rng_state"),
    (torch.random, "get_rng_state"),
    (random, "getstate"),
    (np.random, "get_state"),
)
"""Functions that tell the seed or the state of a generator."""


def _given(schema: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an operation by name, with its defaults."""
    given = {one.name: one.default_value for one in schema.arguments if one.has_default_value()}
    given.update(zip((one.name for one in schema.arguments), args, strict=False))
    given.update(kwargs)
    return given


def _tensors(values: Any) -> list[torch.Tensor]:
    return [one for one in tree_leaves(values) if isinstance(one, torch.Tensor)]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _storage(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()


def whole(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has every number of its storage, and each once."""
    if tensor.numel() * tensor.element_size() != _storage(tensor).nbytes():
        return False
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
