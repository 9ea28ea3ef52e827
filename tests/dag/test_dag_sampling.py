"""Sampled networks on graphs: the kernel against exact sums, counts against replayed weights."""

import itertools

import numpy as np
import pytest
from conftest import framework
from dag_networks import KINDS, random_network

import obstruction as ob
from obstruction.dag import Network, edge_laws, freezable_edges, replay_dag
from obstruction.dag.probability import sampling
from obstruction.dag.probability.kernels import count_frozen, least_closed_sum
from obstruction.dag.probability.sampling import DagSampler, FrozenCounts
from obstruction.sampling import streams
from obstruction.sampling.runner import Runner
from obstruction.schemes import scheme_names
from obstruction.schemes.laws import LAWS
from obstruction.topology.closures import smallest_closed_sum

SCHEMES = [name for name in scheme_names() if ob.scheme(name).independent]
EVERY_LAW = [
    "kaiming_normal",
    "xavier_uniform",
    "keras_he_normal:bias=none",
    "custom:hidden_law=constant,output_law=normal",
    "custom:law=uniform,bias_law=normal,bias_std=2",
]


def fitting(scheme, net):
    """Return a scheme that the biases of a network allow."""
    biased = any(a == "bias" and b in net.hidden for a, b in net.edges)
    return "kaiming_normal" if ob.scheme(scheme).has_bias and not biased else scheme


def count(net, scheme, networks, *, seed, threads, start=0):
    """Draw networks and count their frozen weights."""
    runner = Runner(DagSampler.of(net, scheme, seed=seed))
    runner.run(start + networks, start=start, threads=threads)
    return runner.snapshot()[1]


def replayed(net, scheme, networks, seed=0):
    """Count by replaying each network and judging its weights."""
    numbers = np.zeros(freezable_edges(net).size + 1, int)
    edges = np.zeros(net.size, int)
    place = {edge: i for i, edge in enumerate(net.edges)}
    for i in networks:
        found = net.frozen_edges(replay_dag(net, scheme, network=i, seed=seed))
        numbers[len(found)] += 1
        for one in found:
            edges[place[one.edge]] += 1
    return FrozenCounts(len(networks), numbers, edges)


def assert_same(a, b):
    assert a.networks == b.networks
    np.testing.assert_array_equal(a.numbers, b.numbers)
    np.testing.assert_array_equal(a.edges, b.edges)


# --- the smallest closed sum ---------------------------------------------------------------------


def random_regions(rng):
    """Values and successors of a random graph without cycles, sometimes in complete layers."""
    n = int(rng.integers(1, 13))
    if rng.random() < 0.5:
        successors = [[w for w in range(v + 1, n) if rng.random() < 0.3] for v in range(n)]
    else:
        cuts = np.sort(rng.choice(n + 1, size=3))
        parts = [list(part) for part in np.split(np.arange(n), cuts) if len(part)]
        successors = [[] for _ in range(n)]
        for here, there in itertools.pairwise(parts):
            for v in here:
                successors[v] = [int(w) for w in there]
    return rng.integers(-9, 10, size=n).tolist(), successors


def by_all_sets(values, successors):
    n = len(values)
    return min(
        sum(values[v] for v in range(n) if code >> v & 1)
        for code in range(2**n)
        if all(code >> w & 1 for v in range(n) if code >> v & 1 for w in successors[v])
    )


def test_the_kernel_finds_the_smallest_closed_sum():
    rng = np.random.default_rng(0)
    cases = [random_regions(rng) for _ in range(400)]
    found = []
    for values, successors in cases:
        one = sampling._Candidate(
            0, 0, 1, *sampling._with_hubs(list(range(len(values))), successors)
        )
        regions = sampling._regions([one], np.array([0, len(one.others)]), np.arange(len(values)))
        m, arcs = len(one.others), regions.heads.size
        left = np.array([0.0 if v < 0 else values[v] for v in one.others])
        room = np.empty(arcs), *np.empty((3, m), np.int64)
        exact, _ = smallest_closed_sum(values, successors)
        assert least_closed_sum(regions, 0, m, left, *room) == exact
        found.append(exact)
    assert len(set(found)) > 30
    for (values, successors), exact in zip(cases[:60], found, strict=False):
        assert exact == by_all_sets(values, successors)


def test_complete_layers_need_few_arcs():
    others, successors = sampling._with_hubs(
        list(range(200)), [[*range(100, 200)]] * 100 + [[]] * 100
    )
    assert len(others) == 201
    assert sum(map(len, successors)) == 200


# --- counts --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_those_of_replayed_networks(kind):
    rng = np.random.default_rng(len(kind))
    frozen = several = 0
    for round_ in range(14):
        net = random_network(rng, int(rng.integers(1, 9)), kind)
        scheme = fitting(EVERY_LAW[round_ % len(EVERY_LAW)], net)
        counts = count(net, scheme, 40, seed=round_, threads=1, start=1000)
        assert_same(counts, replayed(net, scheme, range(1000, 1040), seed=round_))
        frozen += counts.frozen
        several += any(
            one.others for one in sampling._candidates(net)
        )  # sets of several nodes decide
    assert frozen > 100
    assert several > 1


@pytest.mark.parametrize(
    "widths", [[8, 5, 3, 1], [4, 3, 3, 1, 1], [1, 3, 1, 2, 1], [2, 1, 1, 1, 2, 1], [1, 4, 2]]
)
def test_counts_of_chains_are_those_of_replayed_networks(widths):
    net = Network.mlp(widths)
    counts = count(net, "xavier_normal", 300, seed=3, threads=2)
    assert counts.frozen > 30
    assert_same(counts, replayed(net, "xavier_normal", range(300), seed=3))


@pytest.fixture(scope="module")
def skips():
    """A network with skip connections, biases and a layer of width 1."""
    edges = [("x", "a"), ("z", "a"), ("x", "b"), ("z", "b"), ("a", "c"), ("b", "c"), ("c", "d")]
    edges += [("c", "e"), ("a", "d"), ("d", "y"), ("e", "y"), ("b", "f"), ("f", "g"), ("g", "y")]
    return Network.from_edges(edges, inputs=["x", "z"], outputs=["y"], hidden_bias=True)


def test_threads_batches_and_parts_change_nothing(skips, monkeypatch):
    whole = count(skips, "torch_linear", 5000, seed=1, threads=1)
    for threads in (2, 3):
        assert_same(count(skips, "torch_linear", 5000, seed=1, threads=threads), whole)
    first = count(skips, "torch_linear", 1500, seed=1, threads=1)
    assert_same(first + count(skips, "torch_linear", 3500, seed=1, threads=2, start=1500), whole)
    monkeypatch.setattr(sampling, "_IN_FLIGHT", 1)
    assert DagSampler.of(skips, "torch_linear", seed=1).least == 32
    assert_same(count(skips, "torch_linear", 5000, seed=1, threads=1), whole)
    assert (
        count(skips, "torch_linear", 5000, seed=2, threads=1).edges.tolist() != whole.edges.tolist()
    )


def test_the_kernel_is_its_python(skips):
    sampler = DagSampler.of(skips, "torch_linear", seed=0)
    key, stop = streams.block_key(0, streams.graph_path(), 0), np.zeros(1, np.uint8)
    slow, fast = sampler.tally(), sampler.tally()
    common = (sampler.draws, sampler.candidates, sampler.regions, 1e-9, sampler.nodes, stop)
    assert count_frozen.py_func(key, 3, 40, 32, *common, slow.numbers, slow.edges)
    assert count_frozen(key, 3, 40, 64, *common, fast.numbers, fast.edges)
    assert_same(slow, fast)
    assert fast.frozen > 0
    stop[0] = 1
    assert not count_frozen(key, 3, 40, 64, *common, fast.numbers, fast.edges)


def test_only_weights_that_matter_are_drawn():
    net = Network.mlp([784, 64, 64, 10])
    sampler = DagSampler.of(net, "kaiming_normal", seed=0)
    assert sampler.draws.laws.size == sampler.edges.size == sampler.nodes == 0
    study = ob.sample_dag(net, "kaiming_normal", networks=10)
    assert (study.disconnected, study.mean) == (0.0, 0.0)
    assert study.agreement().verdict == "untested"
    assert "No weight can be frozen" in str(study)
    net = Network.mlp([8, 16, 4, 1])  # 16 weights into each of 4 nodes, and one out of each
    sampler = DagSampler.of(net, "kaiming_normal", seed=0)
    assert sampler.draws.laws.size == (16 * 4 + 4) / 4


def test_a_network_without_hidden_nodes():
    net = Network.mlp([3, 2])
    assert ob.sample_dag(net, "kaiming_normal", networks=7).counts.numbers.tolist() == [7]
    assert replay_dag(net, "kaiming_normal", network=0).shape == (6,)


def test_counts_add_up_and_refuse_others():
    one = FrozenCounts(2, np.array([1, 1]), np.array([1]))
    both = one + one
    assert (both.networks, both.disconnected, both.frozen) == (4, 2, 2)
    with pytest.raises(ValueError, match="with 1 and 2 weights cannot be added"):
        one + FrozenCounts(2, np.array([1, 1]), np.array([1, 0]))


# --- the laws of weights -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("widths", [(3, 5, 1), (4, 6, 3, 2)])
def test_chains_have_the_fans_of_their_matrices(name, widths):
    scheme = ob.scheme(name)
    net = Network.mlp(widths, hidden_bias=True, output_bias=True)
    laws, expected, codes = edge_laws(net, scheme), [], []
    for i, (d, l) in enumerate(itertools.pairwise(widths)):
        last = i == len(widths) - 2
        rule = scheme.output if last else scheme.hidden
        variance = scheme.output_variance(1, d, l) if last else scheme.hidden_variance(d, l)
        expected += [float(variance)] * (d * l) + [float(scheme.bias_variance(d, l))] * l
        codes += [rule.law.code] * (d * l)
        codes += [3 if scheme.bias is None else scheme.bias.law.code] * l
    np.testing.assert_allclose(laws.stds**2, expected, rtol=1e-14)
    assert laws.codes.tolist() == codes


def test_layers_of_pytorch():
    torch = framework("torch")
    torch.manual_seed(0)
    net = Network.mlp([300, 200, 100], hidden_bias=True, output_bias=True)
    model = torch.nn.Sequential(
        torch.nn.Linear(300, 200), torch.nn.ReLU(), torch.nn.Linear(200, 100)
    )
    theirs = torch.nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    ours = edge_laws(net, "torch_linear").stds
    for layer in (slice(0, 60_000), slice(60_000, 60_200), slice(60_200, 80_200)):
        share = np.sqrt(np.mean(theirs[layer] ** 2)) / ours[layer]
        assert (
            share.min() == share.max() == pytest.approx(1.0, abs=0.15 if share.size < 999 else 0.02)
        )


def test_fans_on_a_graph(skips):
    place = {edge: i for i, edge in enumerate(skips.edges)}
    with np.errstate(divide="ignore"):
        fan_in = edge_laws(skips, "kaiming_normal").stds ** -2 * 2
        fan_out = edge_laws(skips, "kaiming_normal:mode=fan_out").stds ** -2 * 2
    for (a, b), e in place.items():
        if a != "bias":
            assert fan_in[e] == pytest.approx(sum(y == b and x != "bias" for x, y in place))
            assert fan_out[e] == pytest.approx(sum(x == a for x, _ in place))
    assert np.isinf(fan_in[place["bias", "d"]])  # a scheme without biases starts them at zero
    mean = {"a": 2.0, "f": 2.0, "g": 1.0}  # of the ways out of x and z; of b; of f
    biased = edge_laws(skips, "sklearn_mlp").stds ** -2  # fan_avg
    for node, out in mean.items():
        fans = sum(y == node and x != "bias" for x, y in place)
        assert biased[place["bias", node]] == pytest.approx((fans + out) / 2)


def test_a_node_with_a_bias_only():
    edges = [("bias", "h"), ("h", "y"), ("x", "y")]
    net = Network.from_edges(edges, inputs=["x"], outputs=["y"])
    assert edge_laws(net, "torch_linear").stds[0] == pytest.approx(3**-0.5)


@pytest.mark.parametrize("scheme", EVERY_LAW)
def test_replayed_weights_have_their_law(scheme):
    """Moments within five standard errors, for signs and squares."""
    net = Network.mlp([3, 4, 2], hidden_bias=ob.scheme(scheme).has_bias)
    laws, n = edge_laws(net, scheme), 1500
    drawn = np.array([replay_dag(net, scheme, network=i, seed=5) for i in range(n)])
    for code in np.unique(laws.codes).tolist():
        law = next(law for law in LAWS.values() if law.code == code)
        w = drawn[:, laws.codes == code] / laws.stds[laws.codes == code]
        error = np.sqrt((law.fourth_moment - 1.0) / w.size)
        assert np.mean(w**2) == pytest.approx(1.0, abs=5 * error + 1e-12)
        assert np.abs(w).max() <= law.bound * (1 + 1e-6)
        if law.name == "constant":
            assert (w == 1.0).all()
        else:
            assert abs(np.mean(np.sign(w))) < 5 / np.sqrt(w.size)
            assert np.unique(w).size > 0.999 * w.size  # 32 random bits each
            for a, b in itertools.combinations(w.T[:5], 2):
                assert abs(np.mean(a * b)) < 5 / np.sqrt(n)


def test_a_weight_depends_on_its_place_alone(skips):
    whole, laws = replay_dag(skips, "torch_linear", network=9), edge_laws(skips, "torch_linear")
    part = Network.from_edges(skips.edges[:11], inputs=["x", "z"], outputs=["y"])
    mine = replay_dag(part, "torch_linear:bias=none", network=9)
    fans = edge_laws(part, "torch_linear:bias=none")
    np.testing.assert_array_equal((whole / laws.stds)[:11].round(12), (mine / fans.stds).round(12))


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "options", "message"),
    [
        ("orthogonal", {}, "scheme = 'orthogonal': its weights must be independent"),
        ("torch_linear", {}, "has hidden biases, but no hidden node of the network has one"),
        ("kaiming", {}, "unknown scheme 'kaiming'"),
        ("kaiming_normal", {"networks": 0}, "networks = 0: must be a whole number"),
        ("kaiming_normal", {"seed": -1}, "seed = -1: must be a whole number"),
        ("kaiming_normal", {"threads": 0}, "threads = 0: must be a whole number"),
    ],
)
def test_refusals(scheme, options, message):
    with pytest.raises(ValueError, match=message):
        ob.sample_dag(Network.mlp([2, 3, 1]), scheme, **options)


def test_more_refusals():
    with pytest.raises(ValueError, match=r"network = 3: must be an obstruction\.dag\.Network"):
        ob.sample_dag(3, "kaiming_normal")
    with pytest.raises(ValueError, match="network = -1: must be a whole number"):
        replay_dag(Network.mlp([2, 3, 1]), "kaiming_normal", network=-1)


def test_an_error_in_a_worker_comes_out(monkeypatch):
    def fail(*words):
        raise MemoryError("of the test")

    monkeypatch.setattr(streams, "block_key", fail)
    with pytest.raises(MemoryError, match="of the test"):
        count(Network.mlp([2, 3, 1]), "kaiming_normal", 9000, seed=0, threads=2)
