"""Nested inputs and outputs: what is opened, what is put back, and what is left out."""

from __future__ import annotations

import collections
import dataclasses
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import framework

from obstruction.conservation.live.trees import arrays_of, flatten, paths

NUMBERS = [np.array([float(i)]) for i in range(4)]
OTHERS = [np.array([10.0 + i]) for i in range(4)]


def is_array(node: Any) -> bool:
    return isinstance(node, np.ndarray)


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    left: Any
    right: Any
    name: str = "kept"


class ModelOutput(collections.OrderedDict):
    """An ordered dictionary whose items are attributes, as transformers has it."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Frozen(collections.abc.Mapping):
    """A mapping that cannot be assigned to, as Flax has it."""

    def __init__(self, items: dict[str, Any]) -> None:
        self.items_ = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self) -> int:
        return len(self.items_)


A, B, C, D = NUMBERS
STRUCTURES = [
    (A, "inputs"),
    ((A, B), "inputs[0] inputs[1]"),
    ([A, (B, [C])], "inputs[0] inputs[1][0] inputs[1][1][0]"),
    ({"b": A, "a": {"c": B}}, "inputs['b'] inputs['a']['c']"),
    (Pair(A, (B,)), "inputs.left inputs.right[0]"),
    (Record(A, None), "inputs.left"),
    (Record([A], {"x": B}), "inputs.left[0] inputs.right['x']"),
    (ModelOutput(logits=A, loss=B), "inputs['logits'] inputs['loss']"),
    (Frozen({"x": A, "flag": True}), "inputs['x']"),
    (collections.UserDict({"x": A}), "inputs['x']"),
    (types.SimpleNamespace(x=A), ""),  # an object of unknown construction is no structure
    ((None, "text", 3, 2.5, True), ""),
]


@pytest.mark.parametrize(("tree", "expected"), STRUCTURES)
def test_leaves_their_names_and_the_way_back(tree, expected):
    leaves, rebuild = flatten(tree, is_array)
    assert paths(tree, is_array) == expected.split()
    assert [id(leaf) for leaf in leaves] == [id(one) for one in NUMBERS[: len(leaves)]]

    new = rebuild(OTHERS[: len(leaves)])
    assert type(new) is type(tree)
    assert paths(new, is_array) == expected.split()
    assert flatten(new, is_array)[0] == OTHERS[: len(leaves)]
    # the structure of the caller holds what it held
    assert [id(leaf) for leaf in flatten(tree, is_array)[0]] == [id(leaf) for leaf in leaves]


def test_what_is_no_array_is_kept():
    marker = object()
    tree = {"x": A, "rest": (None, "text", marker, Record(B, C, "name"))}
    new = flatten(tree, is_array)[1]([D, D, D])
    assert new == {"x": D, "rest": (None, "text", marker, Record(D, D, "name"))}


def test_items_that_are_attributes_change_together():
    new = flatten(ModelOutput(logits=A), is_array)[1]([B])
    assert new["logits"] is B
    assert new.logits is B


def test_a_wrong_number_of_leaves_is_refused():
    _, rebuild = flatten((A, [B]), is_array)
    with pytest.raises(ValueError, match="1 arrays for 2 places"):
        rebuild([C])
    with pytest.raises(ValueError, match="3 arrays for 2 places"):
        rebuild([A, B, C])


def test_caches_are_no_outputs():
    class DynamicCache:
        def __init__(self) -> None:
            self.keys = D

    output = ModelOutput(logits=A, past_key_values=((B, C),), hidden_states=(B,))
    assert arrays_of(output, is_array) == [A, B]
    assert arrays_of((A, DynamicCache()), is_array) == [A]
    assert arrays_of({"cache": B, "other": C}, is_array) == [C]
    assert arrays_of({"cache": B, "other": C}, is_array, skip=["other"]) == [B]
    assert arrays_of(Record(A, {"cached": B}), is_array) == [A, B]


def test_public_attributes_of_other_objects_are_outputs():
    distribution = types.SimpleNamespace(loc=A, scale=[B], _hidden=C)
    distribution.itself = distribution
    assert arrays_of((distribution, distribution), is_array) == [A, B, A, B]

    def function() -> None: ...

    function.weight = A  # type: ignore[attr-defined]
    assert arrays_of(function, is_array) == []


def test_tensors_of_a_graph():
    data = framework("torch_geometric.data")
    torch = framework("torch")
    graph = data.Data(x=torch.ones(2, 3), edge_index=torch.tensor([[0, 1], [1, 0]]), note="text")
    batch = data.Batch.from_data_list([graph, graph])
    leaves, rebuild = flatten(batch, torch.is_tensor)
    assert paths(batch, torch.is_tensor)[0] == "inputs.stores[0]['x']"
    new = rebuild([leaf + 1 for leaf in leaves])
    assert new.num_graphs == 2
    assert torch.equal(new.x, torch.full((4, 3), 2.0))
    assert torch.equal(batch.x, torch.ones(4, 3))
