"""Gradient flow itself: balances stay, labels never change, free signs do."""

import itertools

import numpy as np
import pytest
from scipy.integrate import DOP853, solve_ivp

from obstruction import topology as top
from obstruction.topology.chains import frozen_weights

DRIFT = 1e-9
"""How far a balance may drift in these solutions, in parts of the neuron's squared weights. The
solver is asked for 1e-10 a step; what is not conserved moves by 0.02 and more."""


STEPS = 150


class Flow:
    """Gradient flow of the mean squared error of a chain of layers, as an ordinary equation."""

    def __init__(self, weights, biases, x, y, slope):
        self.shapes = [w.shape for w in weights]
        self.with_bias = [b is not None for b in biases]
        self.x, self.y, self.slope = x, y, slope
        self.start = self.flat(weights, biases)

    def flat(self, weights, biases):
        parts = [w.ravel() for w in weights] + [b for b in biases if b is not None]
        return np.concatenate(parts)

    def parts(self, theta):
        weights, biases, at = [], [], 0
        for shape in self.shapes:
            weights.append(theta[at : at + shape[0] * shape[1]].reshape(shape))
            at += shape[0] * shape[1]
        for shape, has in zip(self.shapes, self.with_bias, strict=True):
            biases.append(theta[at : at + shape[0]] if has else None)
            at += shape[0] * has
        return weights, biases

    def forward(self, theta):
        weights, biases = self.parts(theta)
        inputs, slopes, a = [], [], self.x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            inputs.append(a)
            z = w @ a + (0.0 if b is None else b[:, None])
            last = i == len(weights) - 1
            slopes.append(np.ones_like(z) if last else np.where(z > 0.0, 1.0, self.slope))
            a = z * slopes[-1]
        return a, inputs, slopes

    def loss(self, theta):
        return np.mean((self.forward(theta)[0] - self.y) ** 2)

    def velocity(self, _, theta):
        weights, biases = self.parts(theta)
        out, inputs, slopes = self.forward(theta)
        back = 2.0 * (out - self.y) / self.y.size
        moves, bias_moves = [], []
        for i in reversed(range(len(weights))):
            back = back * slopes[i]
            moves.append(-back @ inputs[i].T)
            bias_moves.append(None if biases[i] is None else -back.sum(axis=1))
            back = weights[i].T @ back
        return self.flat(moves[::-1], bias_moves[::-1])

    def run(self, time, steps=STEPS):
        """Solve to the given time, or for so many steps, and return the states on the way.

        At a kink of the activation the velocity jumps, and a flow may slide along it: the solver
        then goes on in ever so small steps. What it has found until there is a solution all the
        same.
        """
        solver = DOP853(
            self.velocity, 0.0, self.start, time, rtol=1e-10, atol=1e-12, max_step=time / 20
        )
        states = [self.start]
        while solver.status == "running" and len(states) <= steps:
            solver.step()
            assert solver.status != "failed"
            states.append(solver.y.copy())
        thinned = states[:: max(1, len(states) // 30)]
        return [self.parts(theta) for theta in [*thinned, states[-1]]]


def two_layers(rng, d, l, e, bias, c):
    W1, W2 = rng.standard_normal((l, d)), rng.standard_normal((e, l))
    b1 = 0.5 * rng.standard_normal(l) if bias else None
    theta = top.rescale_to_balance(W1, W2, c, b1)
    b2 = np.zeros(e) if bias else None
    return [theta.W1, theta.W2], [theta.b1, b2]


def test_the_velocity_is_the_gradient():
    """Otherwise the solutions below would show nothing."""
    rng = np.random.default_rng(0)
    weights, biases = two_layers(rng, 2, 3, 2, True, [0.5, -0.5, 0.0])
    flow = Flow(weights, biases, rng.standard_normal((2, 6)), rng.standard_normal((2, 6)), 0.1)
    v, h = flow.velocity(0.0, flow.start), 1e-6
    for i, unit in enumerate(np.eye(flow.start.size)):
        slope = (flow.loss(flow.start + h * unit) - flow.loss(flow.start - h * unit)) / (2 * h)
        assert -v[i] == pytest.approx(slope, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(("d", "e"), [(1, 1), (2, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_balances_are_conserved_and_labels_never_change(d, e, bias, slope):
    rng = np.random.default_rng(1)
    c = np.array([1.0, -0.8, 0.3, -0.2])
    weights, biases = two_layers(rng, d, 4, e, bias, c)
    x, y = rng.standard_normal((d, 8)), 2.0 * rng.standard_normal((e, 8))
    flow = Flow(weights, biases, x, y, slope)
    states = [(w[0], w[1], b[0]) for w, b in flow.run(4.0)]
    label = top.component_label(*states[0])
    assert len(label.output_neurons) == 2 * (e == 1)
    assert len(label.input_neurons) == 2 * (d == 1 and not bias)
    for state in states:
        assert top.in_invariant_set(state, c, rtol=DRIFT)
        assert top.component_label(*state) == label
        assert top.same_component(states[0], state, rtol=2 * DRIFT)
    moved = np.abs(top.neurons(*states[-1]) - top.neurons(*states[0])).max()
    assert moved > 0.1  # it did go somewhere


def test_parts_of_a_balance_are_not_conserved():
    """What a wrong formula would compute does move: norms alone, or a bias with the wrong sign."""
    rng = np.random.default_rng(1)
    weights, biases = two_layers(rng, 2, 4, 1, True, [1.0, -0.8, 0.3, -0.2])
    x, y = rng.standard_normal((2, 8)), 2.0 * rng.standard_normal((1, 8))
    states = Flow(weights, biases, x, y, 0.1).run(4.0)
    (first, last) = states[0], states[-1]

    def wrong(state, bias_sign, out_sign):
        (W1, W2), (b1, _) = state
        return (W1**2).sum(axis=1) + bias_sign * b1**2 + out_sign * (W2**2).sum(axis=0)

    for signs in ((0, -1), (-1, -1), (1, 1), (1, 0)):
        assert np.abs(wrong(last, *signs) - wrong(first, *signs)).max() > 0.02
    right = wrong(last, 1, -1) - wrong(first, 1, -1)
    assert np.abs(right).max() < 1e-6


@pytest.mark.parametrize("slope", [0.0, 0.1])
def test_a_free_neuron_changes_its_sign_and_a_frozen_one_cannot(slope):
    """The target is minus the neuron's own function: the output weight must become negative."""
    rng = np.random.default_rng(2)
    direction = np.array([[0.8, 0.6]])
    x = rng.standard_normal((2, 20))
    z = direction @ x
    y = -2.0 * np.where(z > 0.0, z, slope * z)
    losses = {}
    for c in (0.5, -0.5):
        theta = top.rescale_to_balance(direction, [[0.7]], c)
        flow = Flow([theta.W1, theta.W2], [None, None], x, y, slope)
        states = [tuple(w) for w, _ in flow.run(30.0)]
        signs = [np.sign(W2[0, 0]) for _, W2 in states]
        assert signs[0] == 1.0
        assert all(top.in_invariant_set(state, c, rtol=DRIFT) for state in states)
        losses[c] = np.mean(
            (states[-1][1] @ np.where((h := states[-1][0] @ x) > 0, h, slope * h) - y) ** 2
        )
        if c > 0.0:
            assert signs[-1] == -1.0
            assert top.same_component(states[0], states[-1], rtol=2 * DRIFT)
        else:
            assert set(signs) == {1.0}
    assert losses[0.5] < 1e-3
    assert losses[-0.5] > 0.1


@pytest.mark.parametrize(
    ("widths", "bias"),
    [
        ((2, 3, 1, 1), False),
        ((2, 1, 1, 3, 1), False),
        ((1, 3, 1, 2, 2), True),
        ((1, 1, 4, 1, 1), False),
    ],
)
def test_frozen_weights_of_deep_chains_keep_their_sign(widths, bias):
    """Every weight found to be frozen stays above its bound, on all ways that training takes."""
    checked = 0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        shapes = list(itertools.pairwise(widths))
        weights = [rng.standard_normal((n, m)) for m, n in shapes]
        biases = [0.3 * rng.standard_normal(n) if bias else None for n in widths[1:]]
        x, y = rng.standard_normal((widths[0], 6)), 2.0 * rng.standard_normal((widths[-1], 6))
        states = Flow(weights, biases, x, y, 0.3).run(2.0, steps=80)

        def balances(state):
            w, b = state
            return [
                (w[i] ** 2).sum(axis=1)
                + (0.0 if b[i] is None else b[i] ** 2)
                - (w[i + 1] ** 2).sum(axis=0)
                for i in range(len(w) - 1)
            ]

        start = balances(states[0])
        found = frozen_weights(start, widths[0], widths[-1], [bias] * len(start))
        for state in states:
            for one, two in zip(balances(state), start, strict=True):
                np.testing.assert_allclose(one, two, rtol=0, atol=1e-6)
        for i, layer in enumerate(found.layers):
            for k in np.flatnonzero(layer.out_frozen):
                run = np.array([w[i + 1][0, k] for w, _ in states])
                assert len(set(np.sign(run))) == 1
                assert (run**2 > -layer.out_bottleneck[k] - 1e-6).all()
                checked += 1
            for k in np.flatnonzero(layer.in_frozen):
                run = np.array([w[i][k, 0] for w, _ in states])
                assert len(set(np.sign(run))) == 1
                if not bias:
                    assert (run**2 > layer.in_bottleneck[k] - 1e-6).all()
                checked += 1
    assert checked >= 2


@pytest.mark.parametrize("bias", [False, True])
def test_the_whole_way_to_the_end_of_training(bias):
    """Positive data keep every ReLU on: without kinks `solve_ivp` goes through to the minimum."""
    rng = np.random.default_rng(5)
    W1, W2 = rng.uniform(1.0, 2.0, (4, 2)), rng.choice([-1.0, 1.0], (1, 4))
    b1 = rng.uniform(0.5, 1.0, 4) if bias else None
    theta = top.rescale_to_balance(W1, W2, [-1.0, -0.5, 1.0, 2.0], b1)
    x = rng.uniform(0.5, 1.5, (2, 12))
    y = -np.ones((1, 2)) @ x  # at least one output weight must become negative
    biases = [theta.b1, np.zeros(1) if bias else None]
    flow = Flow([theta.W1, theta.W2], biases, x, y, 0.0)
    found = solve_ivp(
        flow.velocity, (0.0, 60.0), flow.start, method="DOP853", rtol=1e-11, atol=1e-13
    )
    assert found.status == 0
    assert flow.loss(found.y[:, -1]) < 1e-3 * flow.loss(flow.start)
    first = top.component_label(*theta)
    assert len(first.output_signs) == 2
    for state in found.y.T:
        (W1, W2), (b1, _) = flow.parts(state)
        assert top.balances(W1, W2, b1) == pytest.approx([-1.0, -0.5, 1.0, 2.0], abs=1e-8)
        assert top.component_label(W1, W2, b1) == first
