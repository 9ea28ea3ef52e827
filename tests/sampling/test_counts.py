"""Counts add up exactly."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from obstruction.sampling.counts import Counts

SHAPE = (2, 3, 4)
ARRAYS = hnp.arrays(np.int64, SHAPE, elements=st.integers(0, 2**61))
COUNTS = st.builds(Counts, st.integers(0, 10**15), ARRAYS, ARRAYS)


def test_zero_counts_nothing():
    zero = Counts.zero(SHAPE)
    assert zero.networks == 0
    for array in (zero.obstructed, zero.pathological):
        assert (array.shape, array.dtype) == (SHAPE, np.int64)
        assert not array.any()
    assert zero.obstructed is not zero.pathological


@given(one=COUNTS, other=COUNTS)
def test_sums_are_exact_in_any_order(one, other):
    total = one + other
    assert total.networks == one.networks + other.networks
    for name in ("obstructed", "pathological"):
        mine, theirs = (getattr(part, name).ravel().tolist() for part in (one, other))
        added = [a + b for a, b in zip(mine, theirs, strict=True)]
        assert getattr(total, name).ravel().tolist() == added
        assert getattr(total, name).dtype == np.int64
    assert total == other + one
    assert one + Counts.zero(SHAPE) == one


def test_addition_leaves_its_terms_alone():
    one = Counts(3, np.ones(SHAPE, np.int64), np.full(SHAPE, 2))
    total = one + one
    total.obstructed[0, 0, 0] = 99
    assert one == Counts(3, np.ones(SHAPE, np.int64), np.full(SHAPE, 2))


@pytest.mark.parametrize("field", ["networks", "obstructed", "pathological"])
def test_one_difference_makes_counts_differ(field):
    def counts():
        return Counts(3, np.ones(SHAPE, np.int64), np.full(SHAPE, 2))

    assert counts() == counts()
    other = counts()
    if field == "networks":
        other = dataclasses.replace(other, networks=4)
    else:
        getattr(other, field)[1, 2, 3] += 1
    assert counts() != other
    assert not counts() == other  # noqa: SIM201
    assert counts() != "counts"


def test_counts_cannot_be_reassigned():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Counts.zero(SHAPE).networks = 1


def test_shapes_must_be_equal():
    with pytest.raises(ValueError, match=r"obstructed has shape \(1, 2, 3\), pathological \(1,"):
        Counts(1, np.zeros((1, 2, 3), np.int64), np.zeros((1, 2, 4), np.int64))
    with pytest.raises(ValueError, match="could not be broadcast"):
        Counts.zero((1, 2, 3)) + Counts.zero((1, 2, 4))
