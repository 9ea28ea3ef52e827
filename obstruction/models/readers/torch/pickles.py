"""Pickles read as data: nothing that they name is imported, and nothing is called.

A pickle is a program for a small stack machine. This module runs the program without its effects:
it makes a `Global` where Python would import a name, and a `Call` where it would call a function.
Both only record what the pickle says. The binary operations of protocols 1 to 5 are known, and the
two operations of protocol 0 that import names; any other is refused. Limits on the number of
operations, on integers and on keys keep time and memory in proportion to the pickle.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

MOST_OPERATIONS: Final = 500_000
"""The number of operations that every pickle may have. Each needs about 100 bytes of memory."""

MOST_MARKS: Final = 1_000
"""The largest number of open marks, which begin tuples, lists and dictionaries."""

MOST_BYTES_OF_INTEGER: Final = 1_000

MOST_PARTS_OF_KEY: Final = 100
"""The largest number of parts of a key that is a tuple, with the parts of its parts."""

MOST_TUPLES_AS_KEYS: Final = 1_000
"""The largest number of keys that are tuples, whose hashes can be made to collide."""

_LARGEST_KEY: Final = 2**61 - 2  # of integers with distinct hashes


@dataclass(slots=True, eq=False, repr=False)
class Global:
    """A name that Python would import, such as ``torch._utils`` and ``_rebuild_tensor_v2``."""

    module: str
    name: str

    def __repr__(self) -> str:
        return f"Global({self.module[:100]!r}, {self.name[:100]!r})"

    @property
    def path(self) -> str:
        """The full name, with ``builtins`` for Python 2's ``__builtin__``."""
        module = "builtins" if self.module == "__builtin__" else self.module
        return f"{module}.{self.name}"


@dataclass(slots=True, eq=False, repr=False)
class Call:
    """A call that Python would make, and how it would change the result."""

    function: Any  # normally a `Global`
    args: Any  # normally a tuple
    kwargs: Any = None  # normally a dict, or None
    states: list[Any] | None = None  # what ``__setstate__`` of the result would receive
    items: dict[Any, Any] | None = None  # the entries that the result would receive
    elements: list[Any] | None = None  # what would be appended to the result

    def __repr__(self) -> str:
        return f"Call({self.path or '?'})"

    @property
    def path(self) -> str:
        """The full name of the function, or "" if it is not a `Global`."""
        return self.function.path if isinstance(self.function, Global) else ""


def load(
    data: Any,
    start: int = 0,
    *,
    most: int = MOST_OPERATIONS,
    fetch: Callable[[Any], Any] = lambda pid: pid,
) -> tuple[Any, int]:
    """Read the pickle that starts at a position, and return its object and where it ends.

    The object consists of numbers, strings, bytes, tuples, lists, dicts, `Global` and `Call`. It
    may be nested to any depth, and may contain itself. `fetch` returns what stands for an object
    outside the pickle, given its id.

    Raises
    ------
    ValueError
        If the pickle is cut off or damaged, exceeds a limit, or has an unknown operation.
    """
    machine = _Machine(memoryview(data).cast("B"), start, fetch)
    operations = _OPERATIONS
    view, size = machine.data, len(machine.data)
    for _ in range(most):
        at = machine.at
        if at >= size:
            raise ValueError("damaged (a pickle is cut off)")
        code = view[at]
        machine.at = at + 1
        if code == _STOP:
            value = machine.pop()
            if machine.stack or machine.marks:
                raise ValueError("damaged (a pickle makes more than one object)")
            return value, machine.at
        operation = operations.get(code)
        if operation is None:
            raise ValueError(f"a pickle has the operation {bytes([code])!r}, which is not known")
        operation(machine)
    raise ValueError(f"a pickle has more than {most:,} operations: no more are read")


_STOP: Final = ord(".")


class _Machine:
    """The state of a pickle that is read: its stack, the stacks below open marks, and the memo."""

    def __init__(self, data: memoryview, start: int, fetch: Callable[[Any], Any]) -> None:
        self.data = data
        self.fetch = fetch
        self.at = start
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuples_as_keys = 0

    # --- the bytes ---

    def take(self, size: int) -> memoryview:
        stop = self.at + size
        if size < 0 or stop > len(self.data):
            raise ValueError("damaged (a pickle is cut off)")
        piece = self.data[self.at : stop]
        self.at = stop
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def line(self) -> str:
        # no name is longer than this, and a missing end is found soon
        piece = bytes(self.data[self.at : self.at + 1_000])
        end = piece.find(b"\n")
        if end < 0:
            raise ValueError("damaged (a name in a pickle does not end)")
        self.at += end + 1
        return piece[:end].decode("utf-8")

    # --- the stack ---

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("damaged (a pickle takes an object from an empty stack)")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("damaged (a pickle takes an object from an empty stack)")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MOST_MARKS:
            raise ValueError("a pickle is nested too deeply")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("damaged (a pickle collects objects without a mark)")
        found, self.stack = self.stack, self.marks.pop()
        return found

    def remember(self, index: int) -> None:
        # the memo is a dict, so that a large index needs no memory
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("damaged (a pickle recalls an object that it did not store)")
        self.stack.append(self.memo[index])

    # --- the object on top of the stack ---

    def put(self, flat: list[Any]) -> None:
        target = self.top()
        if len(flat) % 2:
            raise ValueError("damaged (a key without a value in a pickle)")
        if isinstance(target, Call):
            if target.items is None:
                target.items = {}
            target = target.items
        if not isinstance(target, dict):
            raise ValueError("damaged (a pickle gives entries to an object that is no mapping)")
        for i in range(0, len(flat), 2):
            self.check_key(flat[i])
            target[flat[i]] = flat[i + 1]

    def extend(self, elements: list[Any]) -> None:
        target = self.top()
        if isinstance(target, Call):
            if target.elements is None:
                target.elements = []
            target = target.elements
        if not isinstance(target, list):
            raise ValueError("damaged (a pickle gives elements to an object that is no list)")
        target.extend(elements)

    def check_key(self, key: Any) -> None:
        """Refuse a key without a hash, or with one that takes long or may be made to collide."""
        if type(key) is tuple:
            self.tuples_as_keys += 1
            if self.tuples_as_keys > MOST_TUPLES_AS_KEYS:
                raise ValueError("a pickle has too many tuples as keys")
        todo, parts = [key], 0
        while todo:
            part = todo.pop()
            parts += 1
            if type(part) is tuple:
                if len(part) + parts + len(todo) > MOST_PARTS_OF_KEY:
                    raise ValueError("a key in a pickle has too many parts")
                todo.extend(part)
            elif type(part) is int and abs(part) > _LARGEST_KEY:
                raise ValueError("a key in a pickle is too large a number")
            elif isinstance(part, (list, dict, bytearray)):
                raise ValueError("damaged (a key in a pickle has no hash)")

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, Call):
            raise ValueError("damaged (a pickle gives a state to an object that has none)")
        if target.states is None:
            target.states = []
        target.states.append(state)

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("damaged (a pickle imports something that is no name)")
        self.push(Global(module, name))


def _protocol(machine: _Machine) -> None:
    version = machine.number(1)
    if version > 5:
        raise ValueError(f"a pickle of protocol {version}: protocols up to 5 are known")


def _frame(machine: _Machine) -> None:
    if machine.number(8) > len(machine.data) - machine.at:
        raise ValueError("damaged (a pickle is cut off)")


def _sized(width: int, make: Callable[[memoryview], Any]) -> Callable[[_Machine], None]:
    """Return the operation that pushes an object made of bytes, whose number precedes them."""

    def push(machine: _Machine) -> None:
        machine.stack.append(make(machine.take(machine.number(width))))

    return push


def _integer(piece: memoryview) -> int:
    if len(piece) > MOST_BYTES_OF_INTEGER:
        raise ValueError(f"a pickle has an integer of {len(piece):,} bytes: too large")
    return int.from_bytes(piece, "little", signed=True)


def _latin1(piece: memoryview) -> str:
    return str(piece, "latin-1")


def _utf8(piece: memoryview) -> str:
    return str(piece, "utf-8", "surrogatepass")


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        if len(machine.stack) < count:
            raise ValueError("damaged (a pickle takes an object from an empty stack)")
        machine.stack[-count:] = [tuple(machine.stack[-count:])]

    return push


def _dict(machine: _Machine) -> None:
    flat = machine.pop_mark()
    machine.push({})
    machine.put(flat)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put([key, value])


def _discard(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_global(module, name)


def _object(machine: _Machine) -> None:
    parts = machine.pop_mark()
    if not parts:
        raise ValueError("damaged (a pickle takes an object from an empty stack)")
    machine.stack.append(Call(parts[0], tuple(parts[1:])))


def _call(machine: _Machine, kwargs: Any = None) -> None:
    args, function = machine.pop(), machine.pop()
    machine.stack.append(Call(function, args, kwargs))


_OPERATIONS: Final[dict[int, Callable[[_Machine], None]]] = {
    code[0]: operation
    for code, operation in {
        b"\x80": _protocol,
        b"\x95": _frame,
        b"(": _Machine.mark,  # the objects above it become one collection
        b"0": _discard,
        b"1": lambda machine: machine.pop_mark() and None,
        # --- numbers and text ---
        b"N": lambda machine: machine.stack.append(None),
        b"\x88": lambda machine: machine.stack.append(True),
        b"\x89": lambda machine: machine.stack.append(False),
        b"J": lambda machine: machine.stack.append(_integer(machine.take(4))),
        b"K": lambda machine: machine.stack.append(machine.number(1)),
        b"M": lambda machine: machine.stack.append(machine.number(2)),
        b"\x8a": _sized(1, _integer),
        b"\x8b": _sized(4, _integer),
        b"G": lambda machine: machine.stack.append(struct.unpack(">d", machine.take(8))[0]),
        b"U": _sized(1, _latin1),  # a string of Python 2
        b"T": _sized(4, _latin1),
        b"\x8c": _sized(1, _utf8),
        b"X": _sized(4, _utf8),
        b"\x8d": _sized(8, _utf8),
        b"C": _sized(1, bytes),
        b"B": _sized(4, bytes),
        b"\x8e": _sized(8, bytes),
        b"\x96": _sized(8, bytearray),
        # --- collections ---
        b")": lambda machine: machine.stack.append(()),
        b"t": lambda machine: machine.push(tuple(machine.pop_mark())),
        b"\x85": _tuple_of(1),
        b"\x86": _tuple_of(2),
        b"\x87": _tuple_of(3),
        b"]": lambda machine: machine.stack.append([]),
        b"l": lambda machine: machine.push(machine.pop_mark()),
        b"a": lambda machine: machine.extend([machine.pop()]),
        b"e": lambda machine: machine.extend(machine.pop_mark()),
        b"}": lambda machine: machine.stack.append({}),
        b"d": _dict,
        b"s": _set_item,
        b"u": lambda machine: machine.put(machine.pop_mark()),
        # sets stay calls with lists, so that their elements need no hash
        b"\x8f": lambda machine: machine.stack.append(Call(Global("builtins", "set"), ())),
        b"\x90": lambda machine: machine.extend(machine.pop_mark()),
        b"\x91": lambda machine: machine.push(
            Call(Global("builtins", "frozenset"), (machine.pop_mark(),))
        ),
        # --- memo ---
        b"q": lambda machine: machine.remember(machine.number(1)),
        b"r": lambda machine: machine.remember(machine.number(4)),
        b"\x94": lambda machine: machine.remember(len(machine.memo)),
        b"h": lambda machine: machine.recall(machine.number(1)),
        b"j": lambda machine: machine.recall(machine.number(4)),
        # --- names, calls and objects outside ---
        b"c": lambda machine: machine.push_global(machine.line(), machine.line()),
        b"\x93": _stack_global,
        b"R": _call,
        b"\x81": _call,
        b"\x92": lambda machine: _call(machine, machine.pop()),
        b"i": lambda machine: machine.push(
            Call(Global(machine.line(), machine.line()), tuple(machine.pop_mark()))
        ),
        b"o": _object,
        b"b": _Machine.build,
        b"Q": lambda machine: machine.stack.append(machine.fetch(machine.pop())),
    }.items()
}
