"""Compiled kernels that train a few networks by gradient descent.

They take arrays, fill arrays and do not validate their input; `obstruction.training.descent` does.

A *pack* is a set of networks of one shape whose neurons together fill whole tiles of four. Data
points are processed in chunks of `CHUNK`, so that the arrays of a chunk fit the fast caches and no
array as long as the data is ever written. For each chunk the kernel computes the inputs ``z_k`` of
all neurons, the outputs of the networks and the slopes (derivatives) of the loss with respect to
the outputs. It then adds the chunk's part of

    S[k] = sum over points with z_k > 0 of slope * x,      z_k = W1[k] . x.

Both gradients follow from S: dL/dW1[k] = W2[k] S[k] and, because relu(z_k) = 1[z_k > 0] W1[k] . x,
dL/dW2[k] = W1[k] . S[k]. Because they share S, gradient flow conserves the balances.

The order of every sum depends only on the network, so results do not depend on threads or on the
other networks. Products and sums may be contracted (FMA), and the sum over a chunk is split among
the lanes of a vector register, so the last digits may differ between processors.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.kernels.compiling import compiled

_Array: TypeAlias = NDArray[Any]

CHUNK = 128
"""Points in a chunk; the fastest value that was measured."""

TILE = 4
"""Neurons in a tile. The number of neurons of a pack is a multiple of it."""

INPUTS = 2
"""Inputs in a tile. The number of inputs is padded with zeros to a multiple of it."""

MSE = 0
BCE = 1
GRADIENT_DESCENT = 0
ADAM = 1


class Points(NamedTuple):
    """Data in chunks, the last of which is filled up with points of weight 0.

    Attributes
    ----------
    x : float64[chunks * d * CHUNK]
        For each chunk and each input, the values of that input at the points.
    y : float64[chunks * CHUNK]
        Targets or labels.
    share : float64[chunks * CHUNK]
        The weight of each point in the mean: 1 / n, or 0 for points that fill up a chunk.
    """

    x: _Array
    y: _Array
    share: _Array


class Rule(NamedTuple):
    """An optimizer as numbers; `first` is the momentum, or `first` and `second` are the betas."""

    kind: int
    learning_rate: float
    first: float
    second: float
    eps: float
    weight_decay: float
    decoupled: bool


class Records(NamedTuple):
    """Records of a pack of m networks with l neurons each, one after each step in `at`.

    Attributes
    ----------
    at : int64[r]
        The steps to record, ascending. The last is the total number of steps.
    losses, test_losses : float64[r, m]
    balances : float64[r, m * l]
    W1 : float64[r, m * l * d] or float64[0, 0]
    W2 : float64[r, m * l] or float64[0, 0]
    """

    at: _Array
    losses: _Array
    test_losses: _Array
    balances: _Array
    W1: _Array
    W2: _Array


def _compile(*fastmath):
    """Compile without the interpreter lock and cache the result on disk if possible."""
    fast = set(fastmath)

    def decorate(function):
        return compiled(function, fastmath=fast)

    return decorate


_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10
_TO_WHOLE = 6755399441055744.0  # 1.5 * 2**52; a number that is added to it becomes an integer
_WHOLE_BITS = np.int64(0x4338000000000000)
_FARTHEST = 708.0
_TAYLOR = tuple(1.0 / math.factorial(i) for i in range(14))


@_compile("contract")
def exponential(x):
    """Return exp(x) to one or two units in the last place, in a form that vectorises.

    ``x`` is clipped to [-708, 708]; NaN stays NaN.
    """
    x = _FARTHEST if x > _FARTHEST else x  # the comparison is false for NaN
    x = -_FARTHEST if x < -_FARTHEST else x
    shifted = x * _LOG2_E + _TO_WHOLE
    whole = shifted - _TO_WHOLE
    x = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = _TAYLOR[13] * x + _TAYLOR[12]
    p = p * x + _TAYLOR[11]
    p = p * x + _TAYLOR[10]
    p = p * x + _TAYLOR[9]
    p = p * x + _TAYLOR[8]
    p = p * x + _TAYLOR[7]
    p = p * x + _TAYLOR[6]
    p = p * x + _TAYLOR[5]
    p = p * x + _TAYLOR[4]
    p = p * x + _TAYLOR[3]
    p = p * x + _TAYLOR[2]
    p = p * x + _TAYLOR[1]
    p = p * x + _TAYLOR[0]
    exponent = np.int64(np.float64(shifted).view(np.int64) - _WHOLE_BITS + np.int64(1023))
    return p * np.int64(exponent << np.int64(52)).view(np.float64)


@_compile("contract")
def multiply(W1, d, x, z):
    """Set z (neurons, CHUNK) to W1 (neurons, d) times x (d, CHUNK); all arrays are flat."""
    even = d - d % 4
    for k in range(0, W1.size // d, TILE):
        tile = z[k * CHUNK : (k + TILE) * CHUNK]
        tile[:] = 0.0
        for i in range(0, even, 4):
            four = x[i * CHUNK : (i + 4) * CHUNK]
            w = W1[k * d + i : (k + TILE) * d]
            a0, a1, a2, a3 = w[0], w[1], w[2], w[3]
            b0, b1, b2, b3 = w[d], w[d + 1], w[d + 2], w[d + 3]
            c0, c1, c2, c3 = w[2 * d], w[2 * d + 1], w[2 * d + 2], w[2 * d + 3]
            e0, e1, e2, e3 = w[3 * d], w[3 * d + 1], w[3 * d + 2], w[3 * d + 3]
            for j in range(CHUNK):
                p, q = four[j], four[CHUNK + j]
                r, s = four[2 * CHUNK + j], four[3 * CHUNK + j]
                tile[j] = tile[j] + a0 * p + a1 * q + a2 * r + a3 * s
                tile[CHUNK + j] = tile[CHUNK + j] + b0 * p + b1 * q + b2 * r + b3 * s
                tile[2 * CHUNK + j] = tile[2 * CHUNK + j] + c0 * p + c1 * q + c2 * r + c3 * s
                tile[3 * CHUNK + j] = tile[3 * CHUNK + j] + e0 * p + e1 * q + e2 * r + e3 * s
        for i in range(even, d, INPUTS):
            two = x[i * CHUNK : (i + INPUTS) * CHUNK]
            w = W1[k * d + i : (k + TILE) * d]
            a0, a1, b0, b1 = w[0], w[1], w[d], w[d + 1]
            c0, c1, e0, e1 = w[2 * d], w[2 * d + 1], w[3 * d], w[3 * d + 1]
            for j in range(CHUNK):
                p, q = two[j], two[CHUNK + j]
                tile[j] = tile[j] + a0 * p + a1 * q
                tile[CHUNK + j] = tile[CHUNK + j] + b0 * p + b1 * q
                tile[2 * CHUNK + j] = tile[2 * CHUNK + j] + c0 * p + c1 * q
                tile[3 * CHUNK + j] = tile[3 * CHUNK + j] + e0 * p + e1 * q


@_compile()
def _add(sums, d, i, a, b, c, e):
    """Add one number for each of a tile's four neurons to the neurons' sums for input i."""
    sums[i] += a
    sums[d + i] += b
    sums[2 * d + i] += c
    sums[3 * d + i] += e


@_compile("contract", "reassoc")
def add_products(z, d, x, sums):
    """Add z (neurons, CHUNK) times x transposed (CHUNK, d) to sums (neurons, d); all are flat."""
    even = d - d % 4
    for k in range(0, z.size // CHUNK, TILE):
        tile = z[k * CHUNK : (k + TILE) * CHUNK]
        for i in range(0, even, 4):
            four = x[i * CHUNK : (i + 4) * CHUNK]
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = 0.0
            c0 = c1 = c2 = c3 = e0 = e1 = e2 = e3 = 0.0
            for j in range(CHUNK):
                p, q = four[j], four[CHUNK + j]
                r, s = four[2 * CHUNK + j], four[3 * CHUNK + j]
                a, b = tile[j], tile[CHUNK + j]
                c, e = tile[2 * CHUNK + j], tile[3 * CHUNK + j]
                a0, a1, a2, a3 = a0 + a * p, a1 + a * q, a2 + a * r, a3 + a * s
                b0, b1, b2, b3 = b0 + b * p, b1 + b * q, b2 + b * r, b3 + b * s
                c0, c1, c2, c3 = c0 + c * p, c1 + c * q, c2 + c * r, c3 + c * s
                e0, e1, e2, e3 = e0 + e * p, e1 + e * q, e2 + e * r, e3 + e * s
            _add(sums[k * d + i : (k + TILE) * d], d, 0, a0, b0, c0, e0)
            _add(sums[k * d + i : (k + TILE) * d], d, 1, a1, b1, c1, e1)
            _add(sums[k * d + i : (k + TILE) * d], d, 2, a2, b2, c2, e2)
            _add(sums[k * d + i : (k + TILE) * d], d, 3, a3, b3, c3, e3)
        for i in range(even, d, INPUTS):
            two = x[i * CHUNK : (i + INPUTS) * CHUNK]
            a0 = a1 = b0 = b1 = c0 = c1 = e0 = e1 = 0.0
            for j in range(CHUNK):
                p, q = two[j], two[CHUNK + j]
                a, b = tile[j], tile[CHUNK + j]
                c, e = tile[2 * CHUNK + j], tile[3 * CHUNK + j]
                a0, a1, b0, b1 = a0 + a * p, a1 + a * q, b0 + b * p, b1 + b * q
                c0, c1, e0, e1 = c0 + c * p, c1 + c * q, e0 + e * p, e1 + e * q
            _add(sums[k * d + i : (k + TILE) * d], d, 0, a0, b0, c0, e0)
            _add(sums[k * d + i : (k + TILE) * d], d, 1, a1, b1, c1, e1)


@_compile("contract")
def add_up(z, W2, out):
    """Set out (CHUNK,) to the outputs of a network whose neurons have the inputs z (l, CHUNK)."""
    out[:] = 0.0
    for k in range(W2.size):
        row = z[k * CHUNK : (k + 1) * CHUNK]
        weight = W2[k]
        for j in range(CHUNK):
            out[j] += weight * (0.0 if row[j] <= 0.0 else row[j])


@_compile("contract")
def set_slopes(loss, y, share, out):
    """Replace outputs by the derivatives of the mean loss with respect to them."""
    if loss == BCE:
        for j in range(CHUNK):
            out[j] = share[j] * (1.0 / (1.0 + exponential(-out[j])) - y[j])
    else:
        for j in range(CHUNK):
            out[j] = share[j] * 2.0 * (out[j] - y[j])


@_compile()
def pass_back(slope, z):
    """Replace each neuron's input by the slope at points where it is positive, else by 0."""
    for k in range(z.size // CHUNK):
        row = z[k * CHUNK : (k + 1) * CHUNK]
        for j in range(CHUNK):
            row[j] = 0.0 if row[j] <= 0.0 else slope[j]


@_compile()
def set_sums(W1, W2, m, loss, points, z, slope, sums):
    """Set sums (m * l, d) to S of the module's docstring, for m networks."""
    d, wide = W1.size // W2.size, W2.size // m
    sums[:] = 0.0
    for c in range(points.y.size // CHUNK):
        x = points.x[c * d * CHUNK : (c + 1) * d * CHUNK]
        y = points.y[c * CHUNK : (c + 1) * CHUNK]
        share = points.share[c * CHUNK : (c + 1) * CHUNK]
        multiply(W1, d, x, z)
        for network in range(m):
            own = z[network * wide * CHUNK : (network + 1) * wide * CHUNK]
            add_up(own, W2[network * wide : (network + 1) * wide], slope)
            set_slopes(loss, y, share, slope)
            pass_back(slope, own)
        add_products(z, d, x, sums)


@_compile()
def set_losses(W1, W2, m, loss, points, z, out, losses):
    """Set losses (m,) to the mean loss of each of m networks."""
    d, wide = W1.size // W2.size, W2.size // m
    losses[:] = 0.0
    for c in range(points.y.size // CHUNK):
        multiply(W1, d, points.x[c * d * CHUNK : (c + 1) * d * CHUNK], z)
        for network in range(m):
            own = z[network * wide * CHUNK : (network + 1) * wide * CHUNK]
            add_up(own, W2[network * wide : (network + 1) * wide], out)
            for j in range(CHUNK):
                f, y = out[j], points.y[c * CHUNK + j]
                if loss == BCE:
                    value = (0.0 if f <= 0.0 else f) - f * y + math.log1p(math.exp(-abs(f)))
                else:
                    value = (f - y) * (f - y)
                losses[network] += points.share[c * CHUNK + j] * value


@_compile("contract")
def update(rule, step, gradient, weights, first, second):
    """Do one step of an optimizer, counted from 1; ``first`` and ``second`` are its moments."""
    for i in range(weights.size):
        g = gradient[i]
        if rule.decoupled:
            weights[i] *= 1.0 - rule.learning_rate * rule.weight_decay
        else:
            g += rule.weight_decay * weights[i]
        if rule.kind == ADAM:
            first[i] += (1.0 - rule.first) * (g - first[i])
            second[i] = rule.second * second[i] + (1.0 - rule.second) * g * g
            rate = rule.learning_rate / (1.0 - rule.first**step)
            size = math.sqrt(second[i]) / math.sqrt(1.0 - rule.second**step) + rule.eps
            weights[i] -= rate * first[i] / size
        else:
            first[i] = rule.first * first[i] + g
            weights[i] -= rule.learning_rate * first[i]


@_compile("contract")
def set_gradients(W1, W2, sums, gradient):
    """Turn sums (neurons, d) into the gradient of W1, and set gradient (neurons,) to that of W2."""
    d = W1.size // W2.size
    for k in range(W2.size):
        w, s = W1[k * d : (k + 1) * d], sums[k * d : (k + 1) * d]
        total = 0.0
        for i in range(d):
            total += w[i] * s[i]
            s[i] *= W2[k]
        gradient[k] = total


@_compile()
def record(W1, W2, m, loss, points, test, z, out, r, records):
    """Fill the r-th record."""
    d = W1.size // W2.size
    set_losses(W1, W2, m, loss, points, z, out, records.losses[r])
    if test.y.size:
        set_losses(W1, W2, m, loss, test, z, out, records.test_losses[r])
    for k in range(W2.size):
        inward = 0.0
        for i in range(d):
            inward += W1[k * d + i] * W1[k * d + i]
        records.balances[r, k] = inward - W2[k] * W2[k]
    if records.W1.size:
        records.W1[r] = W1
        records.W2[r] = W2


@_compile()
def descend(W1, W2, m, loss, rule, points, test, records, stop):
    """Train a pack of m networks in place and fill their records.

    W1 (m * l * d) and W2 (m * l) are flat; ``m * l`` is a multiple of `TILE`, and d of `INPUTS`.
    The test data may be empty. The kernel gives up before the next step if stop[0] is not 0.
    """
    z, out = np.empty(W2.size * CHUNK), np.empty(CHUNK)
    sums, gradient = np.empty(W1.size), np.empty(W2.size)
    first, second = np.zeros(W1.size), np.zeros(W1.size)
    first_out, second_out = np.zeros(W2.size), np.zeros(W2.size)
    done = 0
    for r in range(records.at.size):
        while done < records.at[r]:
            if stop[0]:
                return
            done += 1
            set_sums(W1, W2, m, loss, points, z, out, sums)
            set_gradients(W1, W2, sums, gradient)
            update(rule, done, sums, W1, first, second)
            update(rule, done, gradient, W2, first_out, second_out)
        record(W1, W2, m, loss, points, test, z, out, r, records)
