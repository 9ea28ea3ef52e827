"""Random streams: keys from seeds, and networks cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from obstruction import schemes
from obstruction.sampling import streams


def test_the_block_size_is_part_of_every_seeded_result():
    assert streams.BLOCK == 1024


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**128 - 1])
@pytest.mark.parametrize("path", [(0, 0, 0), (1, 2**32 - 1, 3, 1000)])
def test_a_key_is_the_state_of_a_spawned_descendant(seed, path):
    sequence = np.random.SeedSequence(seed)
    for branch in (*path, 5):
        sequence = np.random.SeedSequence(sequence.entropy, spawn_key=(*sequence.spawn_key, branch))
    key = streams.block_key(seed, path, 5)
    assert (key.dtype, key.shape) == (np.uint32, (4,))
    np.testing.assert_array_equal(key, sequence.generate_state(4))


def test_keys_are_those_that_spawn_gives():
    children = np.random.SeedSequence(7).spawn(2)[1].spawn(3)
    for first, child in enumerate(children):
        for second, grandchild in enumerate(child.spawn(2)):
            expected = grandchild.generate_state(4)
            np.testing.assert_array_equal(streams.block_key(7, (1, first), second), expected)


def test_a_key_is_pinned():
    assert streams.block_key(0, (0, 0, 0), 0).tolist() == PINNED_KEY


PINNED_KEY = [4237079836, 880890286, 1142855264, 417292536]


def test_seeds_paths_and_blocks_all_give_different_keys():
    names = ("xavier", "kaiming", "lecun")
    rules = [schemes.scheme(f"{name}_{law}") for name in names for law in ("normal", "uniform")]
    rules.append(schemes.scheme("custom"))
    rules += [schemes.scheme("kaiming_normal", output_gain=gain) for gain in (0.5, 2.0)]
    paths = {streams.nested_path(rule) for rule in rules}
    assert len(paths) == 2  # both weights normal, or both uniform
    paths |= {
        streams.independent_path(rule, d, l) for rule in rules for d in (1, 2, 9) for l in (1, 2, 9)
    }
    assert len(paths) == 2 + 9 * len(rules)
    keys = {
        tuple(streams.block_key(seed, path, block).tolist())
        for seed in (0, 1, 2**64)
        for path in paths
        for block in (0, 1, 2**32, 2**32 + 1)
    }
    assert len(keys) == 3 * 4 * len(paths)


def test_biases_have_networks_of_their_own_unless_they_are_zero():
    paths = [
        streams.nested_path(schemes.scheme(label))
        for label in ("torch_linear", "torch_kaiming_uniform", "sklearn_mlp", "keras_dense")
    ]
    assert paths[0] == paths[1] == paths[2] != paths[3]
    assert paths[3] == streams.nested_path(schemes.scheme("xavier_uniform"))
    assert streams.nested_path(schemes.scheme("torch_linear:bias=zero")) == paths[3]
    assert streams.nested_path(schemes.scheme("torch_linear:bias=none")) == paths[3]


def test_nested_networks_depend_on_the_laws_only():
    def path(*args, **options):
        return streams.nested_path(schemes.scheme(*args, **options))

    assert path("kaiming_normal") == path("xavier_normal", output_gain=3) == path("custom")
    assert path("kaiming_uniform") == path("custom", law="uniform") != path("custom")
    mixed = path("custom", hidden_law="uniform"), path("custom", output_law="uniform")
    assert len({*mixed, path("custom"), path("kaiming_uniform")}) == 4


@given(start=st.integers(0, 10**5), length=st.integers(0, 10**4))
def test_pieces_cover_a_range_in_order_and_keep_to_the_blocks(start, length):
    networks = []
    for block, first, count in streams.pieces(start, start + length):
        assert 0 <= first < first + count <= streams.BLOCK
        begin = streams.BLOCK * block + first
        networks.extend(range(begin, begin + count))
    assert networks == list(range(start, start + length))


def test_pieces_at_the_block_boundary():
    assert list(streams.pieces(0, 1023)) == [(0, 0, 1023)]
    assert list(streams.pieces(0, 1024)) == [(0, 0, 1024)]
    assert list(streams.pieces(0, 1025)) == [(0, 0, 1024), (1, 0, 1)]
    assert list(streams.pieces(1024, 2048)) == [(1, 0, 1024)]
    assert list(streams.pieces(5, 5)) == []
