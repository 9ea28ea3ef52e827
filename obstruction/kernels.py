"""Compiled kernels: arrays in, integer counts out.

All in one file, because numba's cache on the disk notices a change in a function's own file only.
Nothing here validates its input or knows a scheme by name; the callers do. Arithmetic is strict
IEEE (no reassociation, no contraction, no library ``log`` or ``cos``), so that one seed gives the
same counts on every machine.

How a weight is drawn
---------------------
The words come from Threefry-4x32-20, a counter-based generator (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011): a key names a block of networks, a counter
``(group, row, network, role)`` names four consecutive weights of one hidden neuron. Any weight
of any network can therefore be drawn at any time, in any order, or not at all.

Column 0 of a row is the neuron's output weight, columns 1, 2, ... are its hidden weights; group
``g`` holds columns ``4g ... 4g + 3``. Output weights of another law than the hidden ones, and
hidden biases, are column 0 under a role of their own. The kernels need only squares. A normal
pair is Box and Muller's in polar form, ``-2 ln u · (sin² θ, cos² θ)``, with logarithm and sine as
polynomials in single precision (relative error below 3e-7); a truncated normal is its inverse
distribution function as a rational function in single precision (relative error of the square
below 5e-7). Products, sums and comparisons are in double. The largest normal weight that can
occur is 6.76 standard deviations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from obstruction.grid import ANY, FALLING_WITH_BIAS, NO_BIAS, RISING
from obstruction.laws import CONSTANT, NORMAL, TRUNCATED, UNIFORM

_u32 = np.uint32
_i32 = np.int32
_f32 = np.float32
_f64 = np.float64

CHUNK = 512
"""Rows drawn at a time: the working set of a chunk fits the first-level cache."""

NEAR = 1024
"""Rows close to a threshold that are gathered before they are looked at, a column at a time."""

PAD = 32
"""Draws are rounded up to a multiple of this, so that no vector loop has a scalar remainder."""

NO_NETWORK = 0xFFFFFFFF
HIDDEN_ROLE = 0
OUTPUT_ROLE = 1
BIAS_ROLE = 2

NORMAL_CODE = NORMAL.code
UNIFORM_CODE = UNIFORM.code
TRUNCATED_CODE = TRUNCATED.code
CONSTANT_CODE = CONSTANT.code

_Array: TypeAlias = NDArray[Any]


class Room(NamedTuple):
    """Memory for the rows in flight; what is in it does not matter and is lost.

    Attributes
    ----------
    integers, reals : uint32[3, r], float64[3, r]
        For a batch, ``r >= min(batch, count) * l_max + PAD``.
    pool_integers, pool_reals : uint32[3, m], float64[3, m]
        For what several batches leave over, ``m >= PAD``.
    """

    integers: _Array
    reals: _Array
    pool_integers: _Array
    pool_reals: _Array

    @classmethod
    def of(cls, rows: int, pool: int) -> Room:
        """Return room for so many rows of a batch and of the pool."""
        sizes = rows + PAD, pool + PAD
        integers = [np.zeros((3, size), np.uint32) for size in sizes]
        reals = [np.zeros((3, size)) for size in sizes]
        return cls(integers[0], reals[0], integers[1], reals[1])


class _Workspace(NamedTuple):
    """What a call of `count_nested` works with, a chunk of rows at a time."""

    words: _Array
    scratch: _Array
    sums: _Array
    fresh: _Array
    fresh_reals: _Array
    picked: _Array
    event: _Array
    near_integers: _Array
    near_reals: _Array
    near_sums: _Array
    shifted: _Array
    cell: _Array
    union: _Array
    stamp: _Array


def _jit(function):
    """Compile without the interpreter lock, keeping the result on disk where that is possible."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # no folder that numba could keep its cache in
        return njit(nogil=True, error_model="numpy")(function)


# --- Threefry-4x32-20 ------------------------------------------------------------------------


@_jit
def _mix(x, y, rotation):
    x = _u32(x + y)
    y = _u32((y << rotation) | (y >> _u32(_u32(32) - rotation)))
    return x, _u32(y ^ x)


@_jit
def _rounds_even(a, b, c, d):
    a, b = _mix(a, b, _u32(10))
    c, d = _mix(c, d, _u32(26))
    a, d = _mix(a, d, _u32(11))
    c, b = _mix(c, b, _u32(21))
    a, b = _mix(a, b, _u32(13))
    c, d = _mix(c, d, _u32(27))
    a, d = _mix(a, d, _u32(23))
    c, b = _mix(c, b, _u32(5))
    return a, b, c, d


@_jit
def _rounds_odd(a, b, c, d):
    a, b = _mix(a, b, _u32(6))
    c, d = _mix(c, d, _u32(20))
    a, d = _mix(a, d, _u32(17))
    c, b = _mix(c, b, _u32(11))
    a, b = _mix(a, b, _u32(25))
    c, d = _mix(c, d, _u32(10))
    a, d = _mix(a, d, _u32(18))
    c, b = _mix(c, b, _u32(20))
    return a, b, c, d


@_jit
def _inject(a, b, c, d, k0, k1, k2, k3, step):
    return _u32(a + k0), _u32(b + k1), _u32(c + k2), _u32(_u32(d + k3) + step)


@_jit
def threefry(key, group, row, network, role, n, words):
    """Fill ``words[:, i]`` from the counter ``(group, row[i], network[i], role)``, ``i < n``.

    ``key`` is ``uint32[4]``, ``row`` and ``network`` are ``uint32[n]``, ``words`` is
    ``uint32[4, >= n]``.
    """
    k0, k1, k2, k3 = key[0], key[1], key[2], key[3]
    k4 = _u32(_u32(0x1BD11BDA) ^ _u32(_u32(k0 ^ k1) ^ _u32(k2 ^ k3)))
    first = _u32(_u32(group) + k0)
    last = _u32(_u32(role) + k3)
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(n):
        a, b, c, d = first, _u32(row[i] + k1), _u32(network[i] + k2), last
        a, b, c, d = _rounds_even(a, b, c, d)
        a, b, c, d = _inject(a, b, c, d, k1, k2, k3, k4, _u32(1))
        a, b, c, d = _rounds_odd(a, b, c, d)
        a, b, c, d = _inject(a, b, c, d, k2, k3, k4, k0, _u32(2))
        a, b, c, d = _rounds_even(a, b, c, d)
        a, b, c, d = _inject(a, b, c, d, k3, k4, k0, k1, _u32(3))
        a, b, c, d = _rounds_odd(a, b, c, d)
        a, b, c, d = _inject(a, b, c, d, k4, k0, k1, k2, _u32(4))
        a, b, c, d = _rounds_even(a, b, c, d)
        a, b, c, d = _inject(a, b, c, d, k0, k1, k2, k3, _u32(5))
        w0[i] = a
        w1[i] = b
        w2[i] = c
        w3[i] = d


# --- laws: words to squares of standardised weights ------------------------------------------

_HALF = _f32(0.5)
_ONE = _f32(1.0)
_TWO = _f32(2.0)
_BITS = _f32(32.0)
_LN2 = _f32(0.6931471805599453)
_BELOW_2_32 = _f32(4294967040.0)
_2_29 = _f32(2.0**-29)
_ROOT_HALF = 0x3F3504F3  # the bits of sqrt(1/2) in single precision

# ln(1 + f) / f on [sqrt(1/2) - 1, sqrt(2) - 1], relative error 2.6e-8
_L8 = _f32(0.08722243422588508)
_L7 = _f32(-0.1436678824980938)
_L6 = _f32(0.14952283000301803)
_L5 = _f32(-0.16562401931781712)
_L4 = _f32(0.19956832823699136)
_L3 = _f32(-0.250020736555013)
_L2 = _f32(0.33334185637152003)
_L1 = _f32(-0.4999998796903003)
_L0 = _f32(0.9999999741892218)

# sin²(πt/4) / t² as a polynomial in t² on [0, 1], relative error 8e-10
_S4 = _f32(1.2019406327073785e-05)
_S3 = _f32(-0.0004591184597663167)
_S2 = _f32(0.010431555157132236)
_S1 = _f32(-0.12683473028431624)
_S0 = _f32(0.6168502745779284)

# x² / z² for the standardised normal cut at ±2 and the quantile P(|X| < x) = z, as a ratio of
# polynomials in 1 - z², relative error 1.1e-7; all coefficients are positive
_2_31 = _f32(2.0**-31)
_P4 = _f32(0.019952452465151921)
_P3 = _f32(0.57140437204095239)
_P2 = _f32(0.91214618872961122)
_P1 = _f32(0.31867844101878099)
_P0 = _f32(0.0274098104181437)
_Q4 = _f32(0.12486913555901988)
_Q3 = _f32(0.44624459471399373)
_Q2 = _f32(0.34380946448689991)
_Q1 = _f32(0.07977477909436577)
_Q0 = _f32(0.0053020261457207037)


@_jit
def _exponential(word):
    """Return ``-2 ln u`` for ``u = (word + 1/2) / 2**32``, in (0, 45.8)."""
    x = np.float32(min(_f32(_f32(word) + _HALF), _BELOW_2_32))
    bits = _i32(x.view(np.int32) - _i32(_ROOT_HALF))
    exponent = _f32(_i32(bits >> _i32(23)))
    mantissa = np.int32(_i32(bits & _i32(0x7FFFFF)) + _i32(_ROOT_HALF))
    f = _f32(mantissa.view(np.float32) - _ONE)
    p = _L8 * f + _L7
    p = p * f + _L6
    p = p * f + _L5
    p = p * f + _L4
    p = p * f + _L3
    p = p * f + _L2
    p = p * f + _L1
    p = p * f + _L0
    return ((_BITS - exponent) * _LN2 - p * f) * _TWO


@_jit
def _sine_squared(word):
    """Return ``sin² θ`` for an angle uniform in (0, π/4), from the upper 29 bits of the word."""
    t = (_f32(_i32(word >> _u32(3))) + _HALF) * _2_29
    t = t * t
    p = _S4 * t + _S3
    p = p * t + _S2
    p = p * t + _S1
    p = p * t + _S0
    return p * t


@_jit
def _normal_pair(radius_word, angle_word, n, radius, share, first, second):
    """Fill the squares of a pair of normals. Bit 0 of the angle swaps, bits 1 and 2 are signs."""
    for i in range(n):
        radius[i] = _exponential(radius_word[i])
        sine = _sine_squared(angle_word[i])
        share[i] = sine if (angle_word[i] & _u32(1)) != _u32(0) else -sine
    for i in range(n):
        # the smaller of the pair is the product, so that it keeps its digits however small it is
        whole = _f64(radius[i])
        swap = _f64(share[i])
        less = whole * abs(swap)
        more = whole - less
        first[i] = less if swap > 0.0 else more
        second[i] = more if swap > 0.0 else less


@_jit
def _uniform(word, n, square):
    """Fill the squares of uniforms on [-sqrt 3, sqrt 3]. Bit 0 of the word is the sign."""
    for i in range(n):
        x = (_f64(_i32(word[i] >> _u32(1))) + 0.5) * 2.0**-31
        square[i] = 3.0 * (x * x)


@_jit
def _truncated(word, n, square):
    """Fill the squares of normals cut at ±2, standardised. Bit 0 of the word is the sign."""
    for i in range(n):
        z = (_f32(_i32(word[i] >> _u32(1))) + _HALF) * _2_31
        z = z * z
        u = _ONE - z
        p = _P4 * u + _P3
        p = p * u + _P2
        p = p * u + _P1
        p = p * u + _P0
        q = _Q4 * u + _Q3
        q = q * u + _Q2
        q = q * u + _Q1
        q = q * u + _Q0
        square[i] = z * (p / q)


@_jit
def squares(law, words, n, scratch, out):
    """Turn words into squares of standardised weights.

    ``law`` is a code, ``words`` is ``uint32[4, >= n]``, ``scratch`` is ``float32[2, >= n]``,
    ``out`` is ``float64[4, >= n]``.
    """
    if law == NORMAL_CODE:
        _normal_pair(words[0], words[1], n, scratch[0], scratch[1], out[0], out[1])
        _normal_pair(words[2], words[3], n, scratch[0], scratch[1], out[2], out[3])
    else:
        for j in range(4):
            if law == UNIFORM_CODE:
                _uniform(words[j], n, out[j])
            elif law == TRUNCATED_CODE:
                _truncated(words[j], n, out[j])
            else:
                for i in range(n):
                    out[j, i] = 1.0


@_jit
def signs(law, words, n, out):
    """Fill ``out[j, i]`` (``float64[4, >= n]``) with the sign, 1 or -1, of each weight."""
    for j in range(4):
        if law == NORMAL_CODE:
            source, shift = 2 * (j // 2) + 1, 1 + j % 2
        else:
            source, shift = j, 0
        either = 0.0 if law == CONSTANT_CODE else 2.0
        for i in range(n):
            out[j, i] = 1.0 - either * ((words[source, i] >> _u32(shift)) & _u32(1))


@_jit
def _draw(laws, key, group, row, network, n, words, scratch, out, bias):
    """Draw the squares of one group of columns of ``n`` rows; ``PAD`` more may be written.

    In group 0 column 0 is the output weight, and the biases go to ``bias`` if there are any.
    """
    hidden_law, output_law, bias_law = laws
    n = (n + PAD - 1) // PAD * PAD
    threefry(key, group, row, network, _u32(HIDDEN_ROLE), n, words)
    squares(hidden_law, words, n, scratch, out)
    if group == 0 and (output_law != hidden_law or bias_law != NO_BIAS):
        spare = np.empty((4, n))
        if output_law != hidden_law:
            threefry(key, group, row, network, _u32(OUTPUT_ROLE), n, words)
            squares(output_law, words, n, scratch, spare)
            for i in range(n):
                out[0, i] = spare[0, i]
        if bias_law != NO_BIAS:
            threefry(key, group, row, network, _u32(BIAS_ROLE), n, words)
            squares(bias_law, words, n, scratch, spare)
            for i in range(n):
                bias[i] = spare[0, i]


@_jit
def _accumulate(group, n, sums, output, total):
    """Turn the squares of a group into running sums over the hidden weights, in place.

    Column 0 moves to ``output``; ``total`` holds the sums up to the group before.
    """
    q0, q1, q2, q3 = sums[0], sums[1], sums[2], sums[3]
    if group == 0:
        for i in range(n):
            output[i] = q0[i]
            q0[i] = 0.0
    else:
        for i in range(n):
            q0[i] += total[i]
    for i in range(n):
        s1 = q0[i] + q1[i]
        s2 = s1 + q2[i]
        q1[i] = s1
        q2[i] = s2
        q3[i] += s2


@_jit
def _pick(low, output, at, thresholds, n, picked):
    """List the rows with ``low < output * thresholds[at]``; return how many."""
    found = 0
    for i in range(n):
        picked[found] = i
        found += low[i] < output[i] * thresholds[at[i]]
    return found


@_jit
def _pick_any(low, output, thresholds, n, picked):
    """List the rows that are below the last of rising thresholds; return how many."""
    last = thresholds[thresholds.shape[0] - 2]
    found = 0
    for i in range(n):
        picked[found] = i
        found += low[i] < output[i] * last
    return found


@_jit
def _gather(source, picked, n, out):
    for e in range(n):
        out[e] = source[picked[e]]


@_jit
def _first_index(thresholds, low, high, s, v):
    """Return the first index in [low, high) of a falling row with ``s >= v * threshold``."""
    while low < high:
        middle = (low + high) >> 1
        if s < v * thresholds[middle]:
            low = middle + 1
        else:
            high = middle
    return low


@_jit
def _record_falling(
    events, picked, total, output, at, network, thresholds, curve, union, obstructed, pathological
):
    """Enter the events of one scheme and column whose thresholds fall along ``l``.

    An event at row ``at`` counts from there to the first index whose threshold is too low.
    ``union`` remembers, between calls, the current network and up to where it is counted as
    obstructed: rows come in order, so only the part beyond is new.
    """
    last_index = _u32(thresholds.shape[0] - 2)
    end = _f64(last_index)
    last = thresholds[last_index]
    p, q, r, t = curve[0], curve[1], curve[2], curve[3]
    current, covered = _u32(union[0]), _u32(union[1])
    for e in range(events):
        i = picked[e]
        s = total[i]
        v = output[i]
        low = at[i]
        # without branches, which nothing could predict
        guess = (p * v + q * s) / (r * v + t * s)
        guess = guess if guess > 0.0 else 0.0
        guess = guess if guess < end else end
        guess = end if s < v * last else guess
        before = _u32(_i32(guess))
        high = _u32(before + _u32(1))
        if (s < v * thresholds[high]) | (s >= v * thresholds[before]):  # rounding, rarely
            high = _u32(_first_index(thresholds, low + 1, last_index + 1, s, v))
        pathological[low] += 1
        pathological[high] -= 1
        covered = covered if network[i] == current else _u32(0)
        current = network[i]
        new = max(low, covered)
        covered = max(high, covered)
        obstructed[new] += 1
        obstructed[max(new, high)] -= 1
    union[0], union[1] = current, covered


@_jit
def _record_rising(
    events, picked, total, output, at, network, thresholds, union, obstructed, pathological
):
    """Enter the events of one scheme and column whose thresholds rise along ``l``.

    An event at row ``at`` counts from the first index whose threshold is high enough on.
    ``union`` remembers, between calls, the current network and how many indices at the end it
    is counted as obstructed in.
    """
    nl = np.int64(thresholds.shape[0] - 1)
    current, covered = _u32(union[0]), np.int64(union[1])
    for e in range(events):
        i = picked[e]
        s = total[i]
        v = output[i]
        low = np.int64(at[i])
        high = nl
        while low < high:
            middle = np.int64((low + high) >> 1)
            if s < v * thresholds[middle]:
                high = middle
            else:
                low = middle + 1
        pathological[low] += 1
        pathological[nl] -= 1
        if network[i] != current:
            current = network[i]
            covered = np.int64(0)
        if low < nl - covered:
            obstructed[low] += 1
            obstructed[nl - covered] -= 1
            covered = nl - low
    union[0], union[1] = current, covered


@_jit
def _record_searched(
    near, total, bias, output, at, network, thresholds, shift, union, obstructed, pathological
):
    """Enter the events of one scheme and column whose condition falls along ``l``, bias and all.

    As `_record_falling`, for all rows and without a guess.
    """
    nl = thresholds.shape[0] - 1
    current, covered = _u32(union[0]), np.int64(union[1])
    for i in range(near):
        s = total[i]
        b = bias[i]
        v = output[i]
        first = np.int64(at[i])
        low = first
        high = nl
        while low < high:
            middle = (low + high) >> 1
            if s + shift[middle] * b < v * thresholds[middle]:
                low = middle + 1
            else:
                high = middle
        if low > first:
            pathological[first] += 1
            pathological[low] -= 1
            if network[i] != current:
                current = network[i]
                covered = np.int64(0)
            if low > covered:
                obstructed[max(first, covered)] += 1
                obstructed[low] -= 1
                covered = low
    union[0], union[1] = current, covered


@_jit
def _record_any(
    near, total, bias, output, at, network, thresholds, shift, stamp, obstructed, pathological
):
    """Enter the events of one scheme and column, looking at every ``l``.

    ``stamp`` remembers, between calls, the last network that is counted as obstructed in a cell.
    """
    for i in range(near):
        s = total[i]
        b = bias[i]
        v = output[i]
        for j in range(np.int64(at[i]), thresholds.shape[0] - 1):
            if s + shift[j] * b < v * thresholds[j]:
                pathological[j] += 1
                pathological[j + 1] -= 1
                if stamp[j] != network[i]:
                    stamp[j] = network[i]
                    obstructed[j] += 1
                    obstructed[j + 1] -= 1


@_jit
def _enter(near, bias_law, grid, workspace, obstructed, pathological):
    """Find and enter the events of ``near`` rows in the columns of a group, in every scheme."""
    event, union = workspace.event, workspace.union
    network, at = workspace.near_integers[1], workspace.near_integers[2]
    output, bias = workspace.near_reals[0], workspace.near_reals[2]
    for c in range(4):
        j = workspace.cell[c]
        if j < 0:
            continue
        for k in range(grid.trend.shape[0]):
            total = workspace.near_sums[c]
            thresholds = grid.thresholds[k, j]
            trend = grid.trend[k]
            if bias_law != NO_BIAS:
                shift = grid.shift[k, j]
                if trend == FALLING_WITH_BIAS:
                    _record_searched(
                        near,
                        total,
                        bias,
                        output,
                        at,
                        network,
                        thresholds,
                        shift,
                        union[k, c],
                        obstructed[k, j],
                        pathological[k, j],
                    )
                    continue
                if trend == ANY:
                    _record_any(
                        near,
                        total,
                        bias,
                        output,
                        at,
                        network,
                        thresholds,
                        shift,
                        workspace.stamp[k, c],
                        obstructed[k, j],
                        pathological[k, j],
                    )
                    continue
                total = workspace.shifted
                for i in range(near):
                    total[i] = workspace.near_sums[c, i] + shift[0] * bias[i]
            if trend == RISING:
                events = _pick_any(total, output, thresholds, near, event)
                _record_rising(
                    events,
                    event,
                    total,
                    output,
                    at,
                    network,
                    thresholds,
                    union[k, c],
                    obstructed[k, j],
                    pathological[k, j],
                )
            else:
                events = _pick(total, output, at, thresholds, near, event)
                _record_falling(
                    events,
                    event,
                    total,
                    output,
                    at,
                    network,
                    thresholds,
                    grid.curve[k, j],
                    union[k, c],
                    obstructed[k, j],
                    pathological[k, j],
                )


@_jit
def _first_column(columns, least):
    """Return the index of the first column that is at least so large."""
    jd = 0
    while jd < columns.shape[0] and columns[jd] < least:
        jd += 1
    return jd


@_jit
def _advance(
    key, laws, group, live, first, grid, integers, reals, workspace, obstructed, pathological
):
    """Draw the next group of columns of ``live`` rows, enter their events, keep who can matter.

    In group 0 these are all rows of the networks from ``first`` on, made as they are needed;
    later the first ``live`` rows in ``integers`` and ``reals``. Returns how many are kept there.
    """
    words, scratch, sums = workspace.words, workspace.scratch, workspace.sums
    picked, cell, union = workspace.picked, workspace.cell, workspace.union
    near_integers, near_reals = workspace.near_integers, workspace.near_reals
    bias_law = laws[2]
    row, network, at = integers[0], integers[1], integers[2]
    output, total, bias = reals[0], reals[1], reals[2]
    fresh, fresh_reals = workspace.fresh, workspace.fresh_reals
    columns, row_cell = grid.columns, grid.row_cell
    nd = columns.shape[0]
    width = row_cell.shape[0]
    jd_first = _first_column(columns, 4 * group)
    jd = jd_first
    for c in range(4):
        cell[c] = -1
    while jd < nd and columns[jd] < 4 * group + 4:
        cell[columns[jd] - 4 * group] = jd
        jd += 1
    # a row that matters in this group at all does so before its sum passes this mark
    watch = jd > jd_first
    mark = columns[jd_first] - 4 * group if watch else 0
    for k in range(union.shape[0]):
        for c in range(4):
            union[k, c, 0] = NO_NETWORK
            union[k, c, 1] = 0
            for i in range(workspace.stamp.shape[2]):
                workspace.stamp[k, c, i] = NO_NETWORK
    fresh_row = 0
    fresh_network = first
    kept = 0
    near = 0
    for start in range(0, live, CHUNK):
        n = min(CHUNK, live - start)
        end = start + n
        if group == 0:
            for i in range(n):
                fresh[0, i] = fresh_row
                fresh[1, i] = fresh_network
                fresh[2, i] = row_cell[fresh_row]
                fresh_row += 1
                if fresh_row == width:
                    fresh_row = 0
                    fresh_network += 1
            rows, networks_of, cells = fresh[0], fresh[1], fresh[2]
            outputs, totals, biases = fresh_reals[0], fresh_reals[1], fresh_reals[2]
        else:
            rows = row[start:]
            networks_of = network[start:]
            cells = at[start:]
            outputs = output[start:]
            totals = total[start:]
            biases = bias[start:]
        _draw(laws, key, group, rows, networks_of, n, words, scratch, sums, biases)
        _accumulate(group, n, sums, outputs, totals)
        if watch:
            found = _pick(sums[mark], outputs, cells, grid.peak[jd_first], n, picked)
            _gather(networks_of, picked, found, near_integers[1, near:])
            _gather(cells, picked, found, near_integers[2, near:])
            _gather(outputs, picked, found, near_reals[0, near:])
            if bias_law != NO_BIAS:
                _gather(biases, picked, found, near_reals[2, near:])
            for c in range(mark, 4):
                if cell[c] >= 0:
                    _gather(sums[c], picked, found, workspace.near_sums[c, near:])
            near += found
            if near >= NEAR or end == live:
                _enter(near, bias_law, grid, workspace, obstructed, pathological)
                near = 0
        alive = _pick(sums[3], outputs, cells, grid.bound, n, picked)
        _gather(rows, picked, alive, row[kept:])
        _gather(networks_of, picked, alive, network[kept:])
        _gather(cells, picked, alive, at[kept:])
        _gather(outputs, picked, alive, output[kept:])
        _gather(sums[3], picked, alive, total[kept:])
        if bias_law != NO_BIAS:
            _gather(biases, picked, alive, bias[kept:])
        kept += alive
    return kept


@_jit
def count_nested(key, laws, first, count, grid, batch, room, stop, obstructed, pathological):
    """Count over a whole grid, every network of the block serving every cell at once.

    A neuron ``k`` with squared output weight ``v`` and ``s`` the sum of its first ``d`` squared
    hidden weights is pathological in cell ``(d, l)``, ``l >= k``, iff ``s < v · a(d, l)``. Along
    ``l`` the thresholds ``a`` are monotone, so each such neuron counts in one interval of cells,
    entered as two steps of a difference array (`obstruction.grid` says what biases change). Rows
    leave as soon as they can matter nowhere. The few that stay long are pooled over the batches,
    so that far columns are visited seldom.

    Parameters
    ----------
    key : uint32[4]
        The stream of the block.
    laws : (int, int, int)
        Codes of the laws of the hidden weights, the output weights and the hidden biases.
    first, count : int
        The networks of the block to draw: ``first ... first + count - 1``.
    grid : obstruction.grid.Grid
        The cells.
    batch : int
        Networks in flight at a time; has no influence on the counts.
    room : Room
        Memory; its size has no influence on the counts.
    stop : uint8[1]
        Set from outside to give up.
    obstructed, pathological : int32[schemes, nd, nl + 1]
        Difference arrays along ``l``, added to. No entry exceeds the number of rows drawn.

    Returns
    -------
    bool
        Whether all networks were counted (False if stopped: the arrays are then worthless).
    """
    schemes = grid.trend.shape[0]
    scanned = 0
    for k in range(schemes):
        if grid.trend[k] == ANY:
            scanned = grid.thresholds.shape[2]
    width = grid.row_cell.shape[0]
    workspace = _Workspace(
        np.empty((4, CHUNK), np.uint32),
        np.empty((2, CHUNK), np.float32),
        np.empty((4, CHUNK)),
        np.zeros((3, CHUNK), np.uint32),
        np.empty((3, CHUNK)),
        np.empty(CHUNK + 1, np.uint32),
        np.empty(NEAR + CHUNK + 1, np.uint32),
        np.empty((3, NEAR + CHUNK), np.uint32),
        np.empty((3, NEAR + CHUNK)),
        np.empty((4, NEAR + CHUNK)),
        np.empty(NEAR + CHUNK),
        np.empty(4, np.int64),
        np.empty((schemes, 4, 2), np.int64),
        np.empty((schemes, 4, scanned), np.uint32),
    )
    groups = grid.columns[-1] // 4 + 1
    pool = room.pool_integers.shape[1] - PAD
    handover = groups  # where batches leave their last rows to the pool, once it is known
    pooled = 0
    waiting = 0  # rows of a batch that has come to the handover
    done = 0
    networks = 0
    while done < count or pooled + waiting > 0:
        emptying = pooled > 0 and (pooled + waiting > pool or (done == count and waiting == 0))
        if waiting > 0 and not emptying:
            for i in range(waiting):
                for k in range(3):
                    room.pool_integers[k, pooled + i] = room.integers[k, i]
                    room.pool_reals[k, pooled + i] = room.reals[k, i]
            pooled += waiting
            waiting = 0
            continue
        if emptying:
            integers, reals = room.pool_integers, room.pool_reals
            live, group = pooled, handover
            pooled = 0
        else:
            integers, reals = room.integers, room.reals
            networks = min(batch, count - done)
            live, group = networks * width, 0
        while live > 0 and group < groups:
            if not emptying:
                if handover == groups and group > 0 and networks < count and 16 * live <= pool:
                    handover = group
                if group == handover and live <= pool:
                    waiting = live
                    break
            if stop[0] != 0:
                return False
            live = _advance(
                key,
                laws,
                group,
                live,
                first + done,
                grid,
                integers,
                reals,
                workspace,
                obstructed,
                pathological,
            )
            group += 1
        if not emptying:
            done += networks
    return True


@_jit
def draw_network(key, laws, network, square, sign, bias):
    """Draw one network whole: ``square`` and ``sign`` are ``float64[l, 4 * groups]``.

    Column 0 is the output weight, columns 1, 2, ... the hidden weights. ``bias`` is
    ``float64[l]`` and holds the biases, sign and all, if there are any.
    """
    rows = np.zeros(CHUNK, np.uint32)
    networks = np.zeros(CHUNK, np.uint32)
    words = np.empty((4, CHUNK), np.uint32)
    scratch = np.empty((2, CHUNK), np.float32)
    squared = np.empty((4, CHUNK))
    signed = np.empty((4, CHUNK))
    hidden_law, output_law, bias_law = laws
    l, columns = square.shape
    for start in range(0, l, CHUNK):
        n = min(CHUNK, l - start)
        for i in range(n):
            rows[i] = start + i
            networks[i] = network
        for group in range(columns // 4):
            threefry(key, group, rows, networks, _u32(HIDDEN_ROLE), n, words)
            squares(hidden_law, words, n, scratch, squared)
            signs(hidden_law, words, n, signed)
            for c in range(4):
                for i in range(n):
                    square[start + i, 4 * group + c] = squared[c, i]
                    sign[start + i, 4 * group + c] = signed[c, i]
        if output_law != hidden_law:
            threefry(key, 0, rows, networks, _u32(OUTPUT_ROLE), n, words)
            squares(output_law, words, n, scratch, squared)
            signs(output_law, words, n, signed)
            for i in range(n):
                square[start + i, 0] = squared[0, i]
                sign[start + i, 0] = signed[0, i]
        if bias_law != NO_BIAS:
            threefry(key, 0, rows, networks, _u32(BIAS_ROLE), n, words)
            squares(bias_law, words, n, scratch, squared)
            signs(bias_law, words, n, signed)
            for i in range(n):
                bias[start + i] = signed[0, i] * np.sqrt(squared[0, i])
