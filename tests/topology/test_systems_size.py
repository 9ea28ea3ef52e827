"""Systems of balances of large networks, of weights of any size, and what is refused."""

import math
import time
from fractions import Fraction

import numpy as np
import pytest

from obstruction.topology.systems import Membership, Scaled, System, Tensor, frozen_scalars
from obstruction.topology.systems.magnitudes import square_root


class Net:
    """Tensors and weights of a network, with laws added one by one."""

    def __init__(self):
        self.nodes, self.tensors, self.weights = 0, [], {}

    def law(self, width):
        self.nodes += width
        return self.nodes - width

    def add(self, name, weights, *memberships):
        """Add a tensor; a membership is (axis or labels, first node, coefficient)."""
        made = []
        for axis, first, coefficient in memberships:
            labels = axis
            if isinstance(axis, int):
                dims = [n if a == axis else 1 for a, n in enumerate(weights.shape)]
                labels = np.arange(weights.shape[axis]).reshape(dims)
            made.append(Membership(first, labels, coefficient))
        self.tensors.append(Tensor(name, weights.shape, made))
        self.weights[name] = weights

    def found(self, limit):
        """Return the frozen scalars; fail if that takes longer than `limit` seconds of CPU."""
        best = math.inf
        for _ in range(2):
            start = time.process_time()
            system = System.from_weights(self.nodes, self.tensors, self.weights)
            result = frozen_scalars(system)
            best = min(best, time.process_time() - start)
        assert best < limit
        assert not result.undecided
        return result


def resnet18(rng, *, norms, offsets, head):
    """Return ResNet-18 with one output.

    `norms` adds the norms of filters before normalisations, one node for each filter. Then their
    scalars enter two laws, and nothing leads out of the network but by the head.
    """
    net = Net()

    def conv(name, out, into, kernel, source):
        memberships = [] if source is None else [(1, source, -1)]
        if norms:
            memberships.append((0, net.law(out), 1))
        shape = (out, into, kernel, kernel)
        scale = (2 / (into * kernel**2)) ** 0.5
        net.add(name, scale * rng.standard_normal(shape, dtype=np.float32), *memberships)

    def norm(name, width, target):
        net.add(f"{name}.gain", np.ones(width, dtype=np.float32), (0, target, 1))
        if offsets:
            net.add(f"{name}.offset", np.zeros(width, dtype=np.float32), (0, target, 1))

    stream, width = net.law(64), 64
    conv("stem", 64, 3, 7, None)
    norm("stem", 64, stream)
    for stage, channels in enumerate((64, 128, 256, 512)):
        for block in range(2):
            name, out = f"{stage}.{block}", stream
            if stage and not block:
                out = net.law(channels)
                conv(f"{name}.down", channels, width, 1, stream)
                norm(f"{name}.down", channels, out)
            middle = net.law(channels)
            conv(f"{name}.1", channels, width, 3, stream)
            norm(f"{name}.1", channels, middle)
            conv(f"{name}.2", channels, channels, 3, middle)
            norm(f"{name}.2", channels, out)
            stream, width = out, channels
    net.add("head", np.full((1, 512), head, dtype=np.float32), (1, stream, -1))
    return net


@pytest.mark.parametrize("norms", [False, True])
def test_resnet18(norms):
    net = resnet18(np.random.default_rng(1), norms=norms, offsets=True, head=0.01)
    assert sum(w.size for w in net.weights.values()) == 11_177_024
    assert net.nodes == 2_880 + 4_800 * norms
    assert len(net.found(2.0)) == 0  # 0.4 s when nothing else runs


def test_resnet18_with_gains_alone():
    """Gains in the middle of blocks are alone, and frozen if the next column is small.

    To each channel of a stream, several gains write.
    """
    net = resnet18(np.random.default_rng(1), norms=True, offsets=False, head=0.01)
    for name, w in net.weights.items():
        if name.endswith(".2"):
            w *= 0.7
    result = net.found(2.0)
    expected = set()
    for name, w in net.weights.items():
        if name.endswith(".2"):
            column = (w.astype(float) ** 2).sum(axis=(0, 2, 3))
            expected |= {(f"{name[:-1]}1.gain", (int(k),)) for k in np.flatnonzero(column < 1)}
    assert 500 < len(expected) < 1_900
    assert {(one.tensor, one.position) for one in result} == expected
    assert all(len(one.nodes) == 1 for one in result)


def test_deep_wide_perceptron():
    """Widths of 2,048: only the head of large weights freezes, where they exceed what comes in."""
    rng, net = np.random.default_rng(2), Net()
    source = None
    for i in range(6):
        target = net.law(2048)
        w = rng.standard_normal((2048, 2048), dtype=np.float32) * np.float32(2048**-0.5)
        net.add(f"W{i}", w, (0, target, 1), *([] if source is None else [(1, source, -1)]))
        source = target
    head = rng.standard_normal((1, 2048), dtype=np.float32)
    net.add("head", head, (1, source, -1))
    into = (w.astype(float) ** 2).sum(axis=1)
    result = net.found(4.0)  # 0.7 s when nothing else runs
    expected = np.flatnonzero(into < head[0].astype(float) ** 2)
    assert [one.position for one in result] == [(0, int(k)) for k in expected]
    assert result.components == 2**expected.size > 2**500
    for one in result:
        k = one.position[1]
        assert one.least == pytest.approx((float(head[0, k]) ** 2 - into[k]) ** 0.5, rel=1e-12)


def test_attention():
    """Queries, keys and values in one tensor: keys enter the laws of gains and of heads by -1."""
    rng, net, d = np.random.default_rng(3), Net(), 384
    for i in range(6):
        gains, keys, values = (net.law(d) for _ in range(3))
        none = np.full(d, -1)
        part = [np.arange(d) if i == j else none for i in range(3) for j in range(3)]
        rows = [np.concatenate(part[3 * i : 3 * i + 3])[:, None] for i in range(3)]
        w = rng.standard_normal((3 * d, d), dtype=np.float32) * np.float32(d**-0.5)
        laws = [(rows[0], keys, 1), (rows[1], keys, -1), (rows[2], values, 1)]
        net.add(f"{i}.qkv", w, (1, gains, -1), *laws)
        net.add(f"{i}.gain", np.full(d, 1.75, dtype=np.float32), (0, gains, 1))
        net.add(f"{i}.out", w[:d] * 1.5, (1, values, -1))
    found = {(one.tensor, *one.position) for one in net.found(3.0)}  # 0.3 s when nothing else runs
    columns = [(net.weights[f"{i}.qkv"].astype(float) ** 2).sum(axis=0) for i in range(6)]
    expected = {
        (f"{i}.gain", int(k))
        for i, column in enumerate(columns)
        for k in np.flatnonzero(column < 1.75**2)
    }
    assert found == expected
    assert 500 < len(expected) < 2_000


def test_grouped_and_depthwise_convolutions():
    """One-by-one grouped convolutions: cells of block-diagonal products, of single scalars.

    Both kinds of laws of 512 channels in 32 groups. The gains are alone, and the norms of filters
    are kept, so gains freeze exactly if they exceed their column.
    """
    rng, net, c, groups = np.random.default_rng(4), Net(), 512, 32
    channels, filters = net.law(c), net.law(c)
    inner = (
        np.arange(c // groups)[None, :] + (np.arange(c) // (c // groups) * (c // groups))[:, None]
    )
    w = rng.standard_normal((c, c // groups, 1, 1)) * 0.25
    net.add("grouped", w, (inner[:, :, None, None], channels, -1), (0, filters, 1))
    net.add("gain", np.ones(c), (0, channels, 1))
    column = np.bincount(inner.ravel(), weights=w.ravel() ** 2)
    depth = net.law(c)
    net.add("depthwise", rng.standard_normal((c, 1, 3, 3)), (0, depth, -1))
    net.add("gain2", np.ones(c), (0, depth, 1))
    spread = (net.weights["depthwise"] ** 2).sum(axis=(1, 2, 3))
    found = {(one.tensor, *one.position) for one in net.found(2.0)}
    expected = {("gain", int(k)) for k in np.flatnonzero(column < 1)}
    expected |= {("gain2", int(k)) for k in np.flatnonzero(spread < 1)}
    assert found == expected
    assert 100 < len(expected) < 500


def test_cells_that_are_too_many_are_undecided():
    """Without weights, no cell of a normalised layer can be excluded at a glance."""
    rng, net = np.random.default_rng(7), Net()
    channels, norms = net.law(200), net.law(150)
    net.add("W", rng.standard_normal((150, 200)), (1, channels, -1), (0, norms, 1))
    net.add("gain", np.ones(200), (0, channels, 1))
    assert len(net.found(2.0)) == 0
    balances = System.from_weights(net.nodes, net.tensors, net.weights).balances
    result = frozen_scalars(System.from_balances(net.nodes, net.tensors, balances))
    assert (len(result), result.undecided) == (0, {"W": 30_000})


def test_width_one_and_many_layers():
    """All squares rise and fall together: one can reach 0, and the others are frozen."""
    rng, net, n = np.random.default_rng(5), Net(), 100
    first, w = net.law(n), rng.standard_normal(n + 1)
    into = np.append(np.arange(n), -1)
    net.add("w", w, (into, first, 1), (np.roll(into, 1), first, -1))
    result = net.found(4.0)  # 0.5 s when nothing else runs
    least = w**2 - (w**2).min()
    assert [one.position[0] for one in result] == np.flatnonzero(least).tolist()
    assert [one.least**2 for one in result] == pytest.approx(least[least > 0], rel=1e-9)
    assert len(result) == n
    assert not result.boundary


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-163, 1.0, 1e150])
def test_norms_may_differ_by_any_factor(scale):
    """Neuron 0 has weights of order 1e-163 times those of neuron 1, and is frozen all the same."""
    hidden = np.array([[1e-150, 1e-150], [1.0, 1.0]]) * scale
    output = np.array([[2e-150, 2.0]]) * scale
    tensors = [
        Tensor("hidden", (2, 2), [Membership(0, np.arange(2)[:, None], 1)]),
        Tensor("output", (1, 2), [Membership(0, np.arange(2)[None, :], -1)]),
    ]
    system = System.from_weights(2, tensors, {"hidden": hidden, "output": output})
    result = frozen_scalars(system)
    assert [one.position for one in result] == [(0, 0), (0, 1)]
    assert [one.least for one in result] == pytest.approx(
        [2**0.5 * 1e-150 * scale, 2**0.5 * scale], rel=1e-6
    )
    assert not result.boundary


def test_sums_of_squares_against_exact_sums():
    rng = np.random.default_rng(6)
    for trial in range(40):
        shape = tuple(rng.integers(1, 5, rng.integers(0, 4)).tolist())
        w = rng.standard_normal(shape) * 10.0 ** rng.integers(-300, 300, shape)
        w = w * (rng.random(shape) < 0.8)
        if trial % 2 and shape:
            w = w * np.where(np.arange(shape[0]) % 2, 1.0, 0.0).reshape(-1, *[1] * (len(shape) - 1))
        labels = rng.integers(-1, 3, shape)
        tensor = Tensor("w", shape, [Membership(0, labels, 3)])
        system = System.from_weights(3, [tensor], {"w": w}, rtol=0.25)
        for k in range(3):
            exact = 3 * sum(Fraction(float(x)) ** 2 for x in np.ravel(w)[np.ravel(labels) == k])
            for numbers, factor in ((system.balances, 1), (system.tolerances, Fraction(1, 4))):
                number = Fraction(float(numbers.values[k])) * (
                    Fraction(2) ** int(numbers.exponents[k]) if numbers.values[k] else 0
                )
                assert abs(number - exact * factor) <= exact * factor * Fraction(1, 10**14)


def test_square_roots_of_any_size():
    for exponent in (-2000, -700, -1, 0, 3, 600):
        number = Fraction(3) * Fraction(4) ** exponent
        wanted = 3**0.5 * 2.0**exponent if exponent > -1074 else 0.0
        assert square_root(number) == pytest.approx(wanted, rel=1e-15)
    assert square_root(Fraction(4) ** 2000) == math.inf
    assert square_root(Fraction(-1)) == 0.0


def test_scaled_numbers():
    numbers = Scaled.of([1.0, -3.0, 0.0], [4000, -4000, 7])
    assert (numbers - numbers).values.tolist() == [0.0, 0.0, 0.0]
    total = (numbers + Scaled.of([1.0, 1.0, 1.0], [4000, -4001, -9000])).at([4000, -4001, -9000])
    assert total.tolist() == [2.0, -5.0, 1.0]


# --- errors --------------------------------------------------------------------------------------

ROW = np.array([0, 1])


@pytest.mark.parametrize(
    ("shape", "membership", "message"),
    [
        ((2,), (0, np.array([0.5, 1.0]), 1), r"^tensor 'w', membership 0: labels must be integers"),
        ((3,), (0, ROW, 1), r"membership 0: labels of shape \(2,\) must broadcast to \(3,\)"),
        ((1,), (0, ROW, 1), r"membership 0: labels of shape \(2,\) must broadcast to \(1,\)"),
        ((2,), (0, ROW - 2, 1), r"labels are from -2 to -1 and first = 0; they must be -1 or lead"),
        ((2,), (1, ROW, 1), r"labels are from 0 to 1 and first = 1; .* lead to one of 2 nodes"),
        ((2,), (0, ROW, 0), r"coefficient = 0: must be an integer other than 0"),
        ((2,), (0, ROW, 0.5), r"coefficient = 0.5: must be an integer other than 0"),
    ],
)
def test_memberships_that_do_not_fit(shape, membership, message):
    tensor = Tensor("w", shape, [Membership(*membership)])
    with pytest.raises(ValueError, match=message):
        System.from_weights(2, [tensor], {"w": np.ones(shape)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: System.from_weights(0, [], {}), "^nodes = 0: must be a whole number"),
        (
            lambda t: System.from_weights(2, [t, t], {"w": ROW}),
            "^tensors: 'w' occurs twice; all memberships of a tensor belong together$",
        ),
        (
            lambda t: System.from_weights(2, [t], {}),
            "^weights: must hold the scalars of tensor 'w'",
        ),
        (
            lambda t: System.from_weights(2, [t], {"w": np.ones(3)}),
            r"^weights\['w'\] has shape \(3,\): must be \(2,\)$",
        ),
        (
            lambda t: System.from_weights(2, [t], {"w": np.array([1.0, np.nan])}),
            r"^weights\['w'\]: must be finite numbers$",
        ),
        (
            lambda t: System.from_weights(2, [t], {"w": np.array(["a", "b"])}),
            r"^weights\['w'\]: must be real numbers, not <U1$",
        ),
        (lambda t: System.from_weights(2, [t], {"w": ROW}, rtol=1.0), "^rtol = 1.0: must be"),
        (lambda t: System.from_balances(2, [t], [1.0]), r"^balances has shape \(1,\): must be one"),
        (lambda t: System.from_balances(2, [t], [1.0, np.inf]), "^balances: must be one finite"),
        (
            lambda t: System.from_balances(2, [t], [1.0, 1.0], tolerances=-1.0),
            "^tolerances: must be at least 0$",
        ),
        (
            lambda t: frozen_scalars(System.from_balances(2, [t], [1, 1]), most_programs=-1),
            "^most_programs = -1: must be a whole number of at least 0$",
        ),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor("w", (2,), [Membership(0, ROW, 1)]))
