"""The batch trainer against torch, finite differences, the theory, and itself."""

from __future__ import annotations

import _thread
import itertools
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.training import Adam, GradientDescent, kernels, outputs, train

SHAPES = [(1, 1, 1, 1), (5, 3, 5, 77), (3, 2, 2, 300), (2, 6, 30, 129), (2, 4, 4, kernels.CHUNK)]
"""N, l, d, n: whole and broken tiles of neurons and inputs, whole and broken chunks of points."""


def problem(N, l, d, n, *, seed=0, scale=1.0):
    """Networks and data; about half of the labels are 1."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    y = (X.sum(axis=1) + rng.normal(size=n) > 0.0).astype(float)
    return scale * rng.normal(size=(N, l, d)), scale * rng.normal(size=(N, l)), X, y


def mean_loss(W1, W2, X, y, loss):
    """The mean loss of one network, written plainly."""
    f = np.maximum(X @ W1.T, 0.0) @ W2
    if loss == "mse":
        return np.mean((f - y) ** 2)
    return np.mean(np.logaddexp(0.0, f) - y * f)


# --- gradients and trajectories --------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "bce"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_goes_along_the_gradient_by_finite_differences(shape, loss):
    W1, W2, X, y = problem(*shape)
    rate, eps = 1e-3, 1e-6
    run = train(W1, W2, X, y, loss=loss, optimizer=GradientDescent(rate), steps=1)
    taken = np.concatenate([(W1 - run.W1).reshape(len(W1), -1), W2 - run.W2], axis=1) / rate
    for i, (w1, w2) in enumerate(zip(W1, W2, strict=True)):
        theta = np.concatenate([w1.ravel(), w2])
        for j in range(theta.size):
            ends = []
            for sign in (1.0, -1.0):
                moved = theta.copy()
                moved[j] += sign * eps
                split = moved[: w1.size].reshape(w1.shape), moved[w1.size :]
                ends.append(mean_loss(*split, X, y, loss))
            slope = (ends[0] - ends[1]) / (2.0 * eps)
            assert taken[i, j] == pytest.approx(slope, rel=1e-4, abs=2e-6)
        assert run.losses[i, 0] == pytest.approx(mean_loss(w1, w2, X, y, loss), rel=1e-13)
        end = mean_loss(run.W1[i], run.W2[i], X, y, loss)
        assert run.losses[i, 1] == pytest.approx(end, rel=1e-13)


def torch_optimizer(torch, optimizer, parameters):
    """The optimizer of torch that ours should equal."""
    same = {"lr": optimizer.learning_rate, "weight_decay": optimizer.weight_decay}
    if isinstance(optimizer, GradientDescent):
        return torch.optim.SGD(parameters, momentum=optimizer.momentum, **same)
    kind = torch.optim.AdamW if optimizer.decoupled else torch.optim.Adam
    return kind(parameters, betas=optimizer.betas, eps=optimizer.eps, **same)


def torch_trajectory(torch, optimizer, W1, W2, X, y, loss):
    """Weights and losses at the steps 0 ... 50 of one network."""
    points, labels = torch.tensor(X), torch.tensor(y)
    w1, w2 = (torch.tensor(weights, requires_grad=True) for weights in (W1, W2))
    theirs = torch_optimizer(torch, optimizer, [w1, w2])
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    compare = torch.nn.functional.mse_loss if loss == "mse" else cross_entropy
    path = []
    for _ in range(51):
        value = compare(torch.relu(points @ w1.T) @ w2, labels)
        path.append([w1.detach().numpy().copy(), w2.detach().numpy().copy(), value.item()])
        theirs.zero_grad()
        value.backward()
        theirs.step()
    return map(np.array, zip(*path, strict=True))


@pytest.fixture
def torch():
    """PyTorch on one thread: the matrices are too small for more."""
    found = framework("torch")
    threads = found.get_num_threads()
    found.set_num_threads(1)
    yield found
    found.set_num_threads(threads)


@pytest.mark.parametrize("loss", ["mse", "bce"])
@pytest.mark.parametrize(
    "optimizer",
    [
        GradientDescent(0.005),
        GradientDescent(0.005, momentum=0.9, weight_decay=0.01),
        Adam(0.02),
        Adam(0.02, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.1),
        Adam(0.02, weight_decay=0.1, decoupled=True),
    ],
    ids=["sgd", "momentum", "adam", "adam with decay", "adamw"],
)
def test_whole_trajectories_are_those_of_torch(torch, optimizer, loss):
    for shape in SHAPES:
        W1, W2, X, y = problem(*shape)
        run = train(
            *(W1, W2, X, y),
            loss=loss,
            optimizer=optimizer,
            steps=50,
            record_every=1,
            record_weights=True,
        )
        for i in range(len(W1)):
            w1, w2, losses = torch_trajectory(torch, optimizer, W1[i], W2[i], X, y, loss)
            np.testing.assert_allclose(run.losses[i], losses, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(run.W1_path[i], w1, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(run.W2_path[i], w2, rtol=1e-10, atol=1e-10)


def test_adam_and_momentum_by_hand():
    """One weight at a time, from the papers' formulas; torch is not needed."""
    W1, W2, X, y = problem(1, 1, 1, 40)

    def gradient(w1, w2):
        z = np.maximum(w1 * X[:, 0], 0.0)
        slope = 2.0 * (w2 * z - y) / len(y)
        return np.array([np.sum(slope * w2 * X[:, 0] * (w1 * X[:, 0] > 0.0)), np.sum(slope * z)])

    theta, m, v = np.array([W1.item(), W2.item()]), np.zeros(2), np.zeros(2)
    for t in range(1, 21):
        g = gradient(*theta) + 0.1 * theta
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        theta = theta - 0.05 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-6)
    run = train(W1, W2, X, y, optimizer=Adam(0.05, (0.9, 0.99), 1e-6, 0.1), steps=20)
    np.testing.assert_allclose([run.W1.item(), run.W2.item()], theta, rtol=1e-11)

    theta, buffer = np.array([W1.item(), W2.item()]), np.zeros(2)
    for _ in range(20):
        buffer = 0.8 * buffer + gradient(*theta) + 0.1 * theta
        theta = theta - 0.05 * buffer
    run = train(W1, W2, X, y, optimizer=GradientDescent(0.05, 0.8, 0.1), steps=20)
    np.testing.assert_allclose([run.W1.item(), run.W2.item()], theta, rtol=1e-11)


def test_relu_has_derivative_zero_at_zero():
    """A neuron that is exactly 0 at the only point gets no gradient."""
    run = train([[[0.0]]], [[1.0]], [[1.0]], [1.0], optimizer=GradientDescent(0.1), steps=3)
    assert run.W1.item() == 0.0
    assert run.W2.item() == 1.0


# --- the theory ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_balances_are_conserved_as_the_step_goes_to_zero(loss):
    """Over the same time their drift is proportional to the step; Adam's does not vanish."""
    W1, W2, X, y = problem(4, 5, 3, 200, scale=0.7)
    drift = []
    for rate in (0.02, 0.01, 0.005, 0.0025):
        run = train(
            *(W1, W2, X, y), loss=loss, optimizer=GradientDescent(rate), steps=round(2 / rate)
        )
        drift.append(run.drift.max(axis=1))
    for coarse, fine in itertools.pairwise(drift):
        np.testing.assert_allclose(fine / coarse, 0.5, atol=0.08)
    adam = train(W1, W2, X, y, loss=loss, optimizer=Adam(0.0025), steps=800)
    assert (adam.drift.max(axis=1) > 10 * drift[-1]).all()


def test_recorded_balances_are_those_of_the_topology():
    W1, W2, X, y = problem(3, 4, 3, 50)
    run = train(W1, W2, X, y, optimizer=GradientDescent(0.1), steps=7, record_weights=True)
    for i in range(3):
        for r in range(len(run.steps)):
            expected = ob.topology.balances(run.W1_path[i, r], run.W2_path[i, r][None])
            np.testing.assert_allclose(run.balances[i, r], expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        run.drift, np.abs(run.balances[:, 1] - run.balances[:, 0]), rtol=1e-15
    )


def test_a_frozen_sign_stays_and_a_free_one_changes():
    """f(x) = -relu(x_1) from one positive neuron: reached if its balance is positive, else not."""
    X = np.random.default_rng(0).normal(size=(400, 2))
    y = -np.maximum(X[:, 0], 0.0)
    starts = [ob.topology.rescale_to_balance([[1.0, 0.3]], [[0.5]], c) for c in (1.0, -1.0)]
    W1, W2 = np.array([s.W1 for s in starts]), np.array([s.W2[0] for s in starts])
    run = train(W1, W2, X, y, optimizer=GradientDescent(0.01), steps=10_000, record_every=1000)
    assert run.losses[0, 0] == pytest.approx(run.losses[1, 0], rel=1e-12)
    assert run.losses[0, -1] < 1e-6
    assert run.losses[1, -1] > 0.4
    assert np.sign(run.W2[:, 0]).tolist() == [-1.0, 1.0]
    assert run.drift.max() < 0.02


# --- one result, however it is computed ------------------------------------------------------


def assert_same(one, other):
    """Bit for bit."""
    for name in ("W1", "W2", "steps", "losses", "test_losses", "balances", "W1_path", "W2_path"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("l", [1, 2, 3, 4, 7])
def test_threads_and_other_networks_make_no_difference(l):
    W1, W2, X, y = problem(9, l, 5, 200)
    arguments = {"optimizer": Adam(0.01), "steps": 30, "record_every": 7, "record_weights": True}
    arguments |= {"X_test": X[:30], "y_test": y[:30], "loss": "bce"}
    run = train(W1, W2, X, y, threads=1, **arguments)
    assert_same(run, train(W1, W2, X, y, threads=3, **arguments))
    for i in (0, 4, 8):
        alone = train(W1[i : i + 1], W2[i : i + 1], X, y, **arguments)
        np.testing.assert_array_equal(alone.W1[0], run.W1[i])
        np.testing.assert_array_equal(alone.losses[0], run.losses[i])
        np.testing.assert_array_equal(alone.W2_path[0], run.W2_path[i])


def test_records_do_not_change_the_training():
    W1, W2, X, y = problem(3, 3, 4, 90)
    bare = train(W1, W2, X, y, optimizer=Adam(0.01), steps=20)
    full = train(W1, W2, X, y, optimizer=Adam(0.01), steps=20, record_every=3, record_weights=True)
    np.testing.assert_array_equal(bare.W1, full.W1)
    assert bare.steps.tolist() == [0, 20]
    assert full.steps.tolist() == [0, 3, 6, 9, 12, 15, 18, 20]
    np.testing.assert_array_equal(full.W1_path[:, 0], W1)
    np.testing.assert_array_equal(full.W2_path[:, -1], full.W2)
    np.testing.assert_array_equal(bare.losses, full.losses[:, [0, -1]])
    assert (bare.test_losses, bare.W1_path, bare.W2_path) == (None, None, None)


def test_no_steps_at_all():
    W1, W2, X, y = problem(2, 2, 2, 10)
    run = train(W1, W2, X, y, optimizer=GradientDescent(0.1), steps=0)
    assert run.steps.tolist() == [0]
    assert run.losses.shape == (2, 1)
    np.testing.assert_array_equal(run.W1, W1)


def test_the_test_loss_is_of_the_test_data():
    W1, W2, X, y = problem(2, 3, 4, 100)
    more, labels = problem(1, 1, 4, 33, seed=5)[2:]
    for loss in ("mse", "bce"):
        run = train(
            *(W1, W2, X, y),
            loss=loss,
            optimizer=GradientDescent(0.1),
            steps=5,
            X_test=more,
            y_test=labels,
        )
        for i in range(2):
            end = mean_loss(run.W1[i], run.W2[i], more, labels, loss)
            assert run.test_losses[i, -1] == pytest.approx(end, rel=1e-12)
            plain = np.maximum(more @ run.W1[i].T, 0.0) @ run.W2[i]
            np.testing.assert_allclose(outputs(run.W1, run.W2, more)[i], plain, rtol=1e-12)


def test_the_arguments_stay_as_they_were():
    arrays = problem(2, 3, 2, 20)
    copies = [array.copy() for array in arrays]
    train(*arrays, optimizer=GradientDescent(0.1), steps=3)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


# --- what goes wrong -------------------------------------------------------------------------


def test_networks_that_run_off_are_kept_and_flagged():
    W1, W2, X, y = problem(4, 2, 3, 60)
    W1[2] *= 1e3
    run = train(W1, W2, X, y, optimizer=GradientDescent(0.05), steps=60, record_every=10)
    assert run.diverged.tolist() == [False, False, True, False]
    assert np.isfinite(run.losses[[0, 1, 3]]).all()
    assert not np.isfinite(run.losses[2, -1])
    assert run.W1.shape == W1.shape


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"W1": np.zeros((3, 2))}, r"W1 has shape \(3, 2\): must be \(N, l, d\)"),
        ({"W2": np.zeros((2, 2))}, r"W2 has shape \(2, 2\): must be \(2, 3\) to fit W1"),
        ({"X": np.zeros((8, 5))}, r"X has shape \(8, 5\): must be \(n, 2\) to fit W1"),
        ({"y": np.zeros(7)}, r"y has shape \(7,\): must be \(8,\) to fit X"),
        ({"y": np.full(8, 0.5), "loss": "bce"}, r"y\[0\] = 0.5: must be 0 or 1 for loss 'bce'"),
        ({"X": np.full((8, 2), np.nan)}, r"X\[0, 0\] = nan: must be finite"),
        ({"loss": "mae"}, r"loss = 'mae': must be one of mse, bce"),
        ({"optimizer": "adam"}, r"optimizer = 'adam': must be a GradientDescent or an Adam"),
        ({"steps": -1}, r"steps = -1: must be a whole number of at least 0"),
        ({"record_every": 0}, r"record_every = 0: must be a whole number of at least 1"),
        ({"threads": 0}, r"threads = 0: must be a whole number of at least 1"),
        ({"X_test": np.zeros((2, 2))}, r"X_test, y_test: must both be given or both be left out"),
        (
            {"X_test": np.zeros((2, 3)), "y_test": np.zeros(2)},
            r"X_test has shape \(2, 3\): must be \(n, 2\)",
        ),
        (
            {"steps": 10**13, "record_every": 10**4},
            r"record_every: 1,000,000,001 records would need .* GiB",
        ),
    ],
)
def test_bad_input_is_refused(change, words):
    W1, W2, X, y = problem(2, 3, 2, 8)
    good = {"W1": W1, "W2": W2, "X": X, "y": y, "optimizer": GradientDescent(0.1), "steps": 1}
    with pytest.raises(ValueError, match=words):
        train(**(good | change))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GradientDescent(0.0), r"learning_rate = 0.0: must be a finite number, above 0"),
        (lambda: GradientDescent(0.1, 1.0), r"momentum = 1.0: .* at least 0 and below 1"),
        (lambda: GradientDescent(0.1, weight_decay=-1.0), r"weight_decay = -1.0: .* at least 0"),
        (lambda: GradientDescent("fast"), r"learning_rate = 'fast'"),
        (lambda: Adam(math.inf), r"learning_rate = inf"),
        (lambda: Adam(0.1, (0.9,)), r"betas = \(0.9,\): must be two numbers"),
        (lambda: Adam(0.1, (0.9, 1.0)), r"betas\[1\] = 1.0: .* below 1"),
        (lambda: Adam(0.1, eps=0.0), r"eps = 0.0: .* above 0"),
        (lambda: Adam(0.1, decoupled=1), r"decoupled = 1: must be True or False"),
    ],
)
def test_bad_optimizers_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_interruption_stops_the_threads_soon():
    """Ctrl-C sets the flag that every step looks at."""
    W1, W2, X, y = problem(8, 4, 2, 2000)
    before = threading.active_count()
    train(W1, W2, X, y, optimizer=GradientDescent(0.1), steps=1)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        train(W1, W2, X, y, optimizer=GradientDescent(0.1), steps=10**9)
    assert time.perf_counter() - start < 5.0
    timer.join()
    assert threading.active_count() == before


# --- the kernels -----------------------------------------------------------------------------


def test_the_exponential():
    x = np.concatenate([np.linspace(-708.0, 708.0, 20_001), np.linspace(-1.0, 1.0, 20_001)])
    got = np.array([kernels.exponential(value) for value in x])
    np.testing.assert_allclose(got, np.exp(x), rtol=5e-16)
    assert kernels.exponential(0.0) == 1.0
    assert kernels.exponential(1e5) == kernels.exponential(708.0)
    assert 0.0 < kernels.exponential(-np.inf) < 1e-300
    assert math.isnan(kernels.exponential(np.nan))


def test_the_slopes_of_large_logits_are_exact():
    """sigmoid(f) - y neither overflows nor loses the sign."""
    out = np.tile([-800.0, -40.0, 0.0, 40.0, 800.0, np.nan, 1.0, -1.0], kernels.CHUNK // 8)
    f, y, share = out.copy(), np.zeros(out.size), np.ones(out.size)
    kernels.set_slopes(kernels.BCE, y, share, out)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(out, 1.0 / (1.0 + np.exp(-f)), rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize(("l", "d"), [(4, 2), (8, 6), (4, 4)])
def test_the_products_are_matrix_products(l, d):
    rng = np.random.default_rng(l)
    W1, x = rng.normal(size=(l, d)), rng.normal(size=(d, kernels.CHUNK))
    z, sums = np.empty((l, kernels.CHUNK)), rng.normal(size=(l, d))
    for multiply, add in (
        (kernels.multiply, kernels.add_products),
        (kernels.multiply.py_func, kernels.add_products.py_func),
    ):
        multiply(W1.ravel(), d, x.ravel(), z.reshape(-1))
        np.testing.assert_allclose(z, W1 @ x, rtol=1e-12, atol=1e-12)
        got = sums.copy()
        add(z.reshape(-1), d, x.ravel(), got.reshape(-1))
        np.testing.assert_allclose(got, sums + z @ x.T, rtol=1e-11, atol=1e-11)


def test_kernels_run_without_the_interpreter_lock():
    """Python code goes on while a kernel works."""
    W1, W2, X, y = problem(4, 4, 4, 1000)
    train(W1, W2, X, y, optimizer=GradientDescent(1e-4), steps=1)
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(
            train, W1, W2, X, y, optimizer=GradientDescent(1e-4), steps=3000, threads=1
        )
        turns = 0
        while not work.done():
            turns += 1
            time.sleep(1e-3)
    assert turns > 5
