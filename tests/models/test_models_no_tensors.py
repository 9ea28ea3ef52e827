"""What is named like the weights of a layer and holds no matrix of numbers is a wall."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction import models
from obstruction.models import NothingAuditable, ReadOptions
from obstruction.models.contents import names_weights

RANDOM = np.random.default_rng(3)
NAMES = [("fc1", "fc2", "fc3"), ("net.0", "net.2", "net.4"), ("inp", "mid", "out")]


def floats(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def between(first, middle, last, turn=lambda array: array):
    """A network with ``middle``, entries by the names, stored between its two layers."""
    one = {f"{first}.weight": floats(6, 3), f"{first}.bias": floats(6)}
    two = {f"{last}.weight": floats(1, 6), f"{last}.bias": floats(1)}
    return (
        {name: turn(a) for name, a in one.items()} | middle | {n: turn(a) for n, a in two.items()}
    )


ENTRIES = {
    "text": "QUJD" * 200,
    "texts": ["a"] * 36,
    "mapping": {i: i for i in range(36)},
    "mapping of one": {"a": 1},
    "nothing": None,
    "large number": 10**400,
    "bytes": b"x" * 100,
}


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=list(ENTRIES))
def test_entries_of_state_dicts_that_are_no_tensors(tmp_path, entry, names):
    torch = framework("torch")
    state = between(names[0], {f"{names[1]}.weight": entry}, names[2], torch.from_numpy)
    torch.save(state, tmp_path / "a.pt")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "b.pt")
    for source in (state, tmp_path / "a.pt", tmp_path / "b.pt"):
        with pytest.raises(NothingAuditable, match="what it does is not known"):
            ob.audit(source, "relu")


@pytest.mark.parametrize("name", ["arch", "epoch", "config", "optimizer_name", "w_decay"])
def test_what_else_checkpoints_hold_is_no_layer(tmp_path, name):
    torch = framework("torch")
    state = between("fc1", {}, "fc3", torch.from_numpy)
    torch.save({name: "weight", "settings": {"weight": 3}, "state_dict": state}, tmp_path / "a.pt")
    for source in (tmp_path / "a.pt", state | {name: "weight"}):
        assert len(ob.audit(source, "relu").layers) == 1


ONE = {
    "text": np.array("x" * 2000),
    "texts": np.array([b"x" * 2000]),
    "record": np.zeros((), [("a", "f4", (6, 6))]),
    "records": np.zeros((1,), [("a", "f4", (6, 6))]),
    "bytes": np.array(b"x" * 200, "V200"),
}


@pytest.mark.parametrize("part", ["weight", "data", "q"])
@pytest.mark.parametrize("array", ONE.values(), ids=list(ONE))
def test_arrays_of_one_element_may_hold_much(tmp_path, array, part):
    np.savez(tmp_path / "a.npz", **between("fc1", {f"fc2.{part}": array}, "fc3"))
    with pytest.raises(NothingAuditable, match="what it does is not known"):
        ob.audit(tmp_path / "a.npz", "relu")


@pytest.mark.parametrize(
    "array", [np.array("1.0"), np.array(b"float32"), np.array(3), np.array(True)]
)
def test_remarks_and_single_numbers_are_air(tmp_path, array):
    np.savez(tmp_path / "a.npz", **between("fc1", {"fc2.version_of_file": array}, "fc3"))
    assert len(ob.audit(tmp_path / "a.npz", "relu").layers) == 1
    text = between("fc1", {"fc2.weight": np.array("short")}, "fc3")
    np.savez(tmp_path / "b.npz", **text)
    with pytest.raises(NothingAuditable, match="it holds text"):
        ob.audit(tmp_path / "b.npz", "relu")


@pytest.mark.parametrize(
    ("name", "size"),
    [("weight", 36), ("_flat_param", 42), ("toeplitz", 11), ("tril", 21), ("v", 9)],
)
@pytest.mark.parametrize("names", NAMES[:2], ids=" ".join)
def test_vectors_that_fit_no_layer_are_walls_between_two(name, size, names):
    state = between(names[0], {f"{names[1]}.{name}": floats(size)}, names[2])
    with pytest.raises(NothingAuditable, match=f"its {size} numbers fit no layer"):
        ob.audit(state, "relu", "out_in")
    behind = between(names[0], {}, names[2]) | {f"z.9.{name}": floats(size)}
    assert len(ob.audit(behind, "relu", "out_in").layers) == 1


def test_slopes_and_norms_are_known():
    one = between("fc1", {"fc2.weight": floats(1)}, "fc3")
    assert len(ob.audit(one, "relu", "out_in").layers) == 1
    norm = between("fc1", {"fc2.weight": floats(6), "fc2.bias": floats(6)}, "fc3")
    with pytest.raises(NothingAuditable, match="a normalisation layer"):
        ob.audit(norm, "relu", "out_in")


@pytest.mark.parametrize(
    "middle",
    [
        {"fc2.U": floats(6, 2), "fc2.V": floats(2, 6)},
        {"fc2.A": floats(2, 2), "fc2.B": floats(3, 3)},
        {"fc2.U": floats(6, 2), "fc2.S": floats(2), "fc2.V": floats(2, 6)},
    ],
)
def test_it_is_not_advised_to_pass_over_factors(middle):
    with pytest.raises(ValueError, match="name them in forward order") as caught:
        models.read(between("fc1", middle, "fc3"), ReadOptions("relu", "out_in"))
    assert "such as" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, True) for name in ("weight", "fc.weight", "a/kernel", "x.w", "W1", "b.kernel:0")),
        *((name, False) for name in ("bias", "fc.b", "epoch", "weighting", "weights_of.a", "arch")),
    ],
)
def test_names_of_weights(name, told):
    assert names_weights(name) == told
