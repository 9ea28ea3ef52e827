"""Pickles read as data: nothing that they name is imported, and nothing is called.

A pickle is a program for a small machine. This is that machine without hands: where Python would
import a name there is a `Global`, where it would call something there is a `Call`, and where it
would ask for an object kept elsewhere there is a `Persistent`. All three only hold what the stream
says. The binary operations of protocols 1 to 5 are known, and the two of protocol 0 that name
things; any other is refused. Limits on the number of operations, on numbers and on keys keep time
and memory in proportion to the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

MOST_OPERATIONS: Final = 500_000
"""The number of operations that any stream may have, however short; each costs some 100 bytes."""

MOST_MARKS: Final = 1_000
"""How deeply the stream may be nested while it is read."""

MOST_BYTES_OF_INTEGER: Final = 1_000

MOST_PARTS_OF_KEY: Final = 100
"""How many parts a tuple may have that is a key, with those of its parts."""

MOST_TUPLES_AS_KEYS: Final = 1_000
"""Hashes of tuples are easily made to collide, after which each costs the time of all."""

_LARGEST_KEY: Final = 2**61 - 2  # larger integers have the hashes of smaller ones


class Global:
    """A name that Python would import, such as ``torch._utils`` and ``_rebuild_tensor_v2``."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module = module
        self.name = name

    def __repr__(self) -> str:
        return f"Global({self.module[:100]!r}, {self.name[:100]!r})"

    @property
    def path(self) -> str:
        """Module and name as one, with Python 2's ``__builtin__`` called ``builtins``."""
        module = "builtins" if self.module == "__builtin__" else self.module
        return f"{module}.{self.name}"


class Call:
    """What Python would make by a call.

    Attributes
    ----------
    function : object
        What would be called, normally a `Global`.
    args : object
        Its positional arguments, normally a tuple.
    kwargs : object
        Its named arguments, normally a dict, None if there are none.
    states : list
        What the result would be given by ``__setstate__``.
    items : dict
        Entries that it would be given as a mapping.
    elements : list
        Elements that would be appended to it.
    """

    __slots__ = ("args", "elements", "function", "items", "kwargs", "states")

    def __init__(self, function: Any, args: Any, kwargs: Any = None) -> None:
        self.function = function
        self.args = args
        self.kwargs = kwargs
        self.states: list[Any] | None = None
        self.items: dict[Any, Any] | None = None
        self.elements: list[Any] | None = None

    def __repr__(self) -> str:
        return f"Call({self.path or '?'})"

    @property
    def path(self) -> str:
        """The full name of what would be called, "" if that is no name."""
        return self.function.path if isinstance(self.function, Global) else ""


class Persistent:
    """An object kept outside of the stream, known by an id."""

    __slots__ = ("pid",)

    def __init__(self, pid: Any) -> None:
        self.pid = pid


def load(
    data: Any,
    start: int = 0,
    *,
    most: int = MOST_OPERATIONS,
    fetch: Callable[[Any], Any] = Persistent,
) -> tuple[Any, int]:
    """Read one pickle.

    Parameters
    ----------
    data : bytes-like
        What holds it; it may go on after the pickle's end.
    start : int
        Where the pickle starts.
    most : int
        The largest number of operations.
    fetch : callable
        Makes what stands for an object kept outside of the stream of its id.

    Returns
    -------
    value : object
        Numbers, strings, bytes, tuples, lists, dicts, and `Global`, `Call` and `Persistent`. It may
        be nested as deeply as the stream is long, and contain itself.
    stop : int
        Where the pickle ends.

    Raises
    ------
    ValueError
        If it is cut off, damaged, beyond a limit, or uses an operation that is not known.
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
                raise ValueError("damaged (a pickle leaves something behind)")
            return value, machine.at
        operation = operations.get(code)
        if operation is None:
            raise ValueError(f"a pickle has the operation {bytes([code])!r}, which is not known")
        operation(machine)
    raise ValueError(f"a pickle has more than {most:,} operations: no more are read")


_STOP: Final = ord(".")


class _Machine:
    """Stack, marked stacks below it, and memo."""

    def __init__(self, data: memoryview, start: int, fetch: Callable[[Any], Any]) -> None:
        self.data = data
        self.fetch = fetch
        self.at = start
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.tuples_as_keys = 0

    # --- the stream ---

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
        # names are short, so that a missing end is soon found
        piece = bytes(self.data[self.at : self.at + 1_000])
        end = piece.find(b"\n")
        if end < 0:
            raise ValueError("damaged (a name in a pickle does not end)")
        self.at += end + 1
        return piece[:end].decode("utf-8")

    # --- the stack ---

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("damaged (a pickle takes what is not there)")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise ValueError("damaged (a pickle takes what is not there)")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MOST_MARKS:
            raise ValueError("a pickle is nested too deeply")
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("damaged (a pickle takes what is not there)")
        found, self.stack = self.stack, self.marks.pop()
        return found

    def remember(self, index: int) -> None:
        # whatever the index, the memo is a dict and holds no more than was put there
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError("damaged (a pickle recalls what is not there)")
        self.stack.append(self.memo[index])

    # --- what is made ---

    def put(self, target: Any, flat: list[Any]) -> None:
        if len(flat) % 2:
            raise ValueError("damaged (a key without a value in a pickle)")
        if isinstance(target, Call):
            if target.items is None:
                target.items = {}
            target = target.items
        if not isinstance(target, dict):
            raise ValueError("damaged (a pickle gives entries to what is no mapping)")
        for i in range(0, len(flat), 2):
            self.check_key(flat[i])
            target[flat[i]] = flat[i + 1]

    def append(self, target: Any, elements: list[Any]) -> None:
        if isinstance(target, Call):
            if target.elements is None:
                target.elements = []
            target = target.elements
        if not isinstance(target, list):
            raise ValueError("damaged (a pickle gives elements to what is no list)")
        target.extend(elements)

    def check_key(self, key: Any) -> None:
        """Refuse keys that have no hash, or whose hashes take long or may be made to collide."""
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
                raise ValueError("damaged (a key in a pickle is no key)")

    def build(self) -> None:
        state = self.pop()
        target = self.top()
        if not isinstance(target, Call):
            raise ValueError("damaged (a pickle gives a state to what is no object)")
        if target.states is None:
            target.states = []
        target.states.append(state)

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("damaged (a pickle names what is no name)")
        self.stack.append(Global(module, name))


def _protocol(machine: _Machine) -> None:
    version = machine.number(1)
    if version > 5:
        raise ValueError(f"a pickle of protocol {version}: protocols up to 5 are known")


def _frame(machine: _Machine) -> None:
    if machine.number(8) > len(machine.data) - machine.at:
        raise ValueError("damaged (a pickle is cut off)")


def _integer(width: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        size = machine.number(width)
        if size > MOST_BYTES_OF_INTEGER:
            raise ValueError(f"a pickle has an integer of {size:,} bytes: too large")
        machine.stack.append(int.from_bytes(machine.take(size), "little", signed=True))

    return push


def _text(width: int, encoding: str) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        piece = machine.take(machine.number(width))
        machine.stack.append(
            str(piece, encoding, "surrogatepass" if encoding == "utf-8" else "strict")
        )

    return push


def _raw(width: int, kind: type[bytes] | type[bytearray]) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine.stack.append(kind(machine.take(machine.number(width))))

    return push


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        if len(machine.stack) < count:
            raise ValueError("damaged (a pickle takes what is not there)")
        parts = tuple(machine.stack[len(machine.stack) - count :])
        del machine.stack[len(machine.stack) - count :]
        machine.stack.append(parts)

    return push


def _tuple(machine: _Machine) -> None:
    parts = machine.pop_mark()
    machine.stack.append(tuple(parts))


def _list(machine: _Machine) -> None:
    parts = machine.pop_mark()
    machine.stack.append(parts)


def _dict(machine: _Machine) -> None:
    flat, made = machine.pop_mark(), dict[Any, Any]()
    machine.put(made, flat)
    machine.stack.append(made)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put(machine.top(), [key, value])


def _set_items(machine: _Machine) -> None:
    flat = machine.pop_mark()
    machine.put(machine.top(), flat)


def _append(machine: _Machine) -> None:
    element = machine.pop()
    machine.append(machine.top(), [element])


def _extend(machine: _Machine) -> None:
    elements = machine.pop_mark()
    machine.append(machine.top(), elements)


def _frozen_set(machine: _Machine) -> None:
    # sets stay calls with a list: nothing here needs their elements, which would have to be hashed
    parts = machine.pop_mark()
    machine.stack.append(Call(Global("builtins", "frozenset"), (parts,)))


def _discard(machine: _Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push_global(module, name)


def _instance(machine: _Machine) -> None:
    args = tuple(machine.pop_mark())
    machine.stack.append(Call(Global(machine.line(), machine.line()), args))


def _object(machine: _Machine) -> None:
    parts = machine.pop_mark()
    if not parts:
        raise ValueError("damaged (a pickle takes what is not there)")
    machine.stack.append(Call(parts[0], tuple(parts[1:])))


def _call(machine: _Machine) -> None:
    args, function = machine.pop(), machine.pop()
    machine.stack.append(Call(function, args))


def _call_with_names(machine: _Machine) -> None:
    kwargs, args, function = machine.pop(), machine.pop(), machine.pop()
    machine.stack.append(Call(function, args, kwargs))


def _float(machine: _Machine) -> None:
    machine.stack.append(struct.unpack(">d", machine.take(8))[0])


_OPERATIONS: Final[dict[int, Callable[[_Machine], None]]] = {
    code[0]: operation
    for code, operation in {
        b"\x80": _protocol,
        b"\x95": _frame,
        b"(": _Machine.mark,
        b"0": _discard,
        b"1": lambda machine: machine.pop_mark() and None,
        # --- numbers and text ---
        b"N": lambda machine: machine.stack.append(None),
        b"\x88": lambda machine: machine.stack.append(True),
        b"\x89": lambda machine: machine.stack.append(False),
        b"J": lambda machine: machine.stack.append(
            int.from_bytes(machine.take(4), "little", signed=True)
        ),
        b"K": lambda machine: machine.stack.append(machine.number(1)),
        b"M": lambda machine: machine.stack.append(machine.number(2)),
        b"\x8a": _integer(1),
        b"\x8b": _integer(4),
        b"G": _float,
        b"U": _text(1, "latin-1"),  # Python 2's strings
        b"T": _text(4, "latin-1"),
        b"\x8c": _text(1, "utf-8"),
        b"X": _text(4, "utf-8"),
        b"\x8d": _text(8, "utf-8"),
        b"C": _raw(1, bytes),
        b"B": _raw(4, bytes),
        b"\x8e": _raw(8, bytes),
        b"\x96": _raw(8, bytearray),
        # --- collections ---
        b")": lambda machine: machine.stack.append(()),
        b"t": _tuple,
        b"\x85": _tuple_of(1),
        b"\x86": _tuple_of(2),
        b"\x87": _tuple_of(3),
        b"]": lambda machine: machine.stack.append([]),
        b"l": _list,
        b"a": _append,
        b"e": _extend,
        b"}": lambda machine: machine.stack.append({}),
        b"d": _dict,
        b"s": _set_item,
        b"u": _set_items,
        b"\x8f": lambda machine: machine.stack.append(Call(Global("builtins", "set"), ())),
        b"\x90": _extend,
        b"\x91": _frozen_set,
        # --- memo ---
        b"q": lambda machine: machine.remember(machine.number(1)),
        b"r": lambda machine: machine.remember(machine.number(4)),
        b"\x94": lambda machine: machine.remember(len(machine.memo)),
        b"h": lambda machine: machine.recall(machine.number(1)),
        b"j": lambda machine: machine.recall(machine.number(4)),
        # --- what Python would import, call or fetch ---
        b"c": lambda machine: machine.push_global(machine.line(), machine.line()),
        b"\x93": _stack_global,
        b"R": _call,
        b"\x81": _call,
        b"\x92": _call_with_names,
        b"i": _instance,
        b"o": _object,
        b"b": lambda machine: machine.build(),
        b"Q": lambda machine: machine.stack.append(machine.fetch(machine.pop())),
    }.items()
}
