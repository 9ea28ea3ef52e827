"""Pickles read as data: the same as Python reads where nothing is called, and nothing called."""

from __future__ import annotations

import builtins
import collections
import contextlib
import pickle
import pickletools
import sys
import time
import tracemalloc
from fractions import Fraction

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_files import Made, Named, emit, pickled

from obstruction.models.readers.torch import pickles
from obstruction.models.readers.torch.pickles import Call, Global, load

keys = st.one_of(
    st.text(max_size=5),
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.tuples(st.integers(0, 9), st.text(max_size=2)),
)


def nested_values(*more):
    return st.recursive(
        st.one_of(keys, st.integers(), st.text(), *more),
        lambda inner: st.one_of(
            st.lists(inner), st.dictionaries(keys, inner), st.lists(inner, max_size=5).map(tuple)
        ),
    )


# in protocol 2 bytes are a call of an encoder
saved = st.one_of(
    st.tuples(nested_values(), st.just(2)),
    st.tuples(nested_values(st.binary(max_size=300)), st.integers(3, 5)),
)


@hypothesis.settings(max_examples=60)
@given(saved)
def test_plain_values_are_those_of_python(case):
    value, protocol = case
    raw = pickle.dumps(value, protocol)
    assert load(b"12" + raw + b"rest", 2) == (value, 2 + len(raw))


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_types_and_identity_are_those_of_python(protocol):
    inner = [1.5, "x" * 300, 2**100, -(2**100), -1, 70_000, True]
    value = {
        "a": inner,
        "b": inner,
        "big": "y" * 300,
        "t": (inner,) * 5,
        "many": list(range(3000)),
    }
    value["loop"] = value
    back = load(pickle.dumps(value, protocol))[0] if protocol > 1 else None
    if protocol == 1:  # integers beyond 32 bits are text there
        with pytest.raises(ValueError, match="operation b'L', which is not known"):
            load(pickle.dumps(value, protocol))
        return
    assert back["a"] == inner
    assert [type(part) for part in back["a"]] == [type(part) for part in inner]
    assert back["a"] is back["b"] is back["t"][4]
    assert back["loop"] is back
    assert back["many"] == value["many"]
    assert load(pickle.dumps(bytearray(b"ab"), 5))[0] == bytearray(b"ab")
    assert load(pickle.dumps(b"ab", 2))[0].path == "_codecs.encode"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_would_be_called_is_kept(protocol):
    value = collections.OrderedDict(a=Fraction(1, 3), b={4, 5}, c=np.float64, d=frozenset([1]))
    made = load(pickle.dumps(value, protocol))[0]
    assert isinstance(made, Call)
    assert made.path == "collections.OrderedDict"
    assert list(made.items) == ["a", "b", "c", "d"]
    assert made.items["a"].path == "fractions.Fraction"
    # the arguments differ between versions of Python
    assert made.items["a"].args in ((1, 3), ("1/3",))
    members = made.items["b"]
    assert members.path == "builtins.set"
    assert sorted(members.elements or members.args[0]) == [4, 5]
    assert isinstance(made.items["c"], Global)
    assert made.items["c"].path == "numpy.float64"
    assert made.items["d"].path == "builtins.frozenset"


def test_states_arguments_and_names_are_kept():
    made = load(pickled(Made(Named("a.b", "C"), (1,), {"x": 2}, way="newobj")))[0]
    assert (made.path, made.args, made.kwargs, made.states) == ("a.b.C", (1,), None, [{"x": 2}])
    named = load(pickled(Made(Named("a", "C"), (1,), way="newobj_ex")))[0]
    assert (named.path, named.args, named.kwargs) == ("a.C", (1,), {})
    for way in ("inst", "obj", "stack_global"):
        assert load(pickled(Made(Named("a", "C"), (1, "z"), way=way)))[0].args == (1, "z")
    assert load(b"\x80\x02" + emit(("storage", 1)) + b"Q.")[0] == ("storage", 1)
    assert load(b"K\x07Q.", fetch=lambda pid: pid + 1)[0] == 8


@pytest.mark.parametrize("way", ["reduce", "inst", "obj", "newobj", "newobj_ex", "stack_global"])
@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec")],
)
def test_nothing_is_called(way, module, name, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    command = f"touch {mark}" if name == "system" else f"__import__('os').mknod({str(mark)!r})"
    raw = pickled(Made(Named(module, name), (command,), way=way))
    imported: list[str] = []
    real = builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda *a, **k: imported.append(a[0]) or real(*a, **k)
    )
    made = load(raw)[0]
    monkeypatch.undo()
    assert (made.path, made.args) == (f"{module}.{name}", (command,))
    assert imported == []
    assert not mark.exists()
    if way not in ("newobj", "newobj_ex"):  # the attack is one
        pickle.loads(raw)
        assert mark.exists()


def test_nothing_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    load(pickled(Made(Named("this", "s"), ())))
    assert "this" not in sys.modules


# --- limits --------------------------------------------------------------------------------------


def refused(raw: bytes, why: str, **options) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match=why):
        load(raw, **options)
    assert time.process_time() - start < 5.0


def test_a_huge_memo_index_costs_nothing():
    tracemalloc.start()
    assert load(b"K\x01r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.")[0] == (1, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    refused(b"h\x05.", "recalls an object that it did not store")


def nested(depth: int) -> bytes:
    """A tuple of a tuple with itself, and so on: its hash takes 2^depth steps."""
    return b"K\x01" + b"".join(
        b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(depth)
    )


def test_a_key_that_takes_forever_to_hash():
    refused(b"}" + nested(60) + b"Ns.", "too many parts")
    assert load(b"}" + nested(4) + b"Ns.")[0] == pickle.loads(b"}" + nested(4) + b"Ns.")


def test_keys_made_to_collide():
    large = b"".join(
        b"\x8a\x09" + (i * (2**61 - 1)).to_bytes(9, "little") + b"N" for i in range(1, 9)
    )
    refused(b"}(" + large + b"u.", "too large a number")
    pairs = b"".join(emit((i, i)) + b"N" for i in range(1_001))
    refused(b"}(" + pairs + b"u.", "too many tuples")


@pytest.mark.parametrize("key", [[], {}, ([],)])
def test_keys_that_are_none(key):
    refused(b"}" + emit(key) + b"Ns.", "has no hash")


def test_depth_costs_nothing():
    depth = 50_000
    value, _ = load(b"]" + b"\x85" * depth + b".")
    for _ in range(depth):
        (value,) = value
    assert value == []
    refused(b"(" * 2_000 + b".", "nested too deeply")
    value, _ = load(b"]" * 1_000 + b"a" * 999 + b".")
    chain = b"".join(b"cos\nsystem\n" for _ in range(depth)) + b")" + b"R\x85" * (depth - 1) + b"R."
    made, _ = load(chain, most=10**6)
    assert repr(made) == "Call(os.system)"
    assert "os" in repr(made.function)
    del made  # frees as many objects within objects


def test_operations_are_counted():
    refused(b"N0" * pickles.MOST_OPERATIONS, "more than 500,000 operations")
    refused(b"N0N.", "more than 3 operations", most=3)
    assert load(b"N0N.", most=4) == (None, 4)


@pytest.mark.parametrize("hungry", [b"}", b"}\x94", b"\x8f\x94", b"cos\na\n"])
def test_memory_stays_in_bounds(hungry):
    raw, most = b"\x80\x04" + hungry * 20_000, 20_000
    tracemalloc.start()
    refused(raw, "more than 20,000 operations", most=most)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**26 * most / pickles.MOST_OPERATIONS


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "cut off"),
        (b"N", "cut off"),
        (b".", "takes an object from an empty stack"),
        (b"NN.", "makes more than one object"),
        (b"(N.", "makes more than one object"),
        (b"t.", "collects objects without a mark"),
        (b"N\x86.", "takes an object from an empty stack"),
        (b"R.", "takes an object from an empty stack"),
        (b"(o.", "takes an object from an empty stack"),
        (b"q\x00.", "takes an object from an empty stack"),
        (b"X\xff\xff\xff\x7fabc.", "cut off"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "cut off"),
        (b"\x95\xff\x00\x00\x00\x00\x00\x00\x00N.", "cut off"),
        (b"\x8b\x00\x00\x10\x00" + bytes(2**20) + b".", "too large"),
        (b"\x80\x06N.", "protocol 6"),
        (b"cos", "does not end"),
        (b"c" + b"x" * 5_000, "does not end"),
        (b"NNb.", "state to an object that has none"),
        (b"NNNs.", "entries to an object that is no mapping"),
        (b"NNa.", "elements to an object that is no list"),
        (b"}(Nu.", "key without a value"),
        (b"N\x93.", "takes an object from an empty stack"),
        (b"NN\x93.", "imports something that is no name"),
        (b"I1\n.", "operation b'I'"),
        (b"P1\n.", "operation b'P'"),
        (b"\x82\x01.", "operation b'\\\\x82'"),
        (b"\x97.", "operation b'\\\\x97'"),
        (b"N2.", "operation b'2'"),
        (b"\xff", "operation b'\\\\xff'"),
    ],
)
def test_damage_is_told(raw, why):
    refused(raw, why)


def test_every_operation_that_pickletools_knows_is_decided():
    """Those not read are old texts, extensions and out-of-band buffers."""
    known = {ord(op.code) for op in pickletools.opcodes}
    ours = set(pickles._OPERATIONS) | {ord(".")}
    assert ours < known
    left = {op.name for op in pickletools.opcodes if ord(op.code) not in ours}
    assert left == {
        *("INT", "LONG", "STRING", "UNICODE", "FLOAT", "DUP", "PUT", "GET", "PERSID"),
        *("EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"),
    }


@given(st.binary(max_size=60), st.integers(0, 2**32 - 1))
def test_any_bytes_give_a_value_or_a_plain_error(raw, seed):
    codes = [*pickles._OPERATIONS, ord(".")]
    rng = np.random.default_rng(seed)
    mixed = bytes(rng.choice(codes, 40).astype(np.uint8)) + raw
    for data in (raw, mixed, b"\x80\x04" + mixed + b"."):
        with contextlib.suppress(ValueError):
            load(data)
