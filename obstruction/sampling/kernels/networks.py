"""Compiled kernels that draw random networks and count the obstructed ones on a whole grid.

The kernels take arrays and fill arrays. They neither validate their input nor know a scheme by
name; the callers do. Arithmetic is strict IEEE (no reassociation, no contraction, no library
``log`` or ``cos``), so that one seed gives the same counts on every machine. Everything but `pack`
is in one file, because numba's cache on disk does not notice changes in other files.

Terms
-----
- A *cell* is a pair ``(d, l)`` of the grid for one scheme. Its *threshold* is the scheme's ratio
  ``a(d, l)``, see `obstruction.sampling.thresholds`.
- A *row* is a hidden neuron of one network. It belongs to all cells whose ``l`` is large enough,
  and ``at`` is the index of the first of these ``l`` in the grid.
- A *column* is a weight of a row: column 0 is the output weight, columns 1, 2, ... are the hidden
  weights. The columns of the grid are its ``d``, because columns 1 ... d decide the cells with
  ``d`` inputs.
- A *group* is the four columns ``4g ... 4g + 3``, which are drawn together.
- A *chunk* is up to `CHUNK` rows that are processed together.
- A *batch* is a number of networks whose rows advance together, one group at a time.
- The *bound* of a row is the product of its squared output weight and the largest threshold that it
  can meet. A row is dropped when its sum of squared hidden weights reaches the bound, and it is
  *kept* until then.
- The *pool* holds rows of several batches that are kept for many groups and then advance together.
- A *candidate* is a row that may be pathological in some cell of the current group.
- An *event* is a candidate that is pathological for one scheme and one ``d``, together with the
  interval of indices along ``l`` for which it is.
- *Marks* are bytes, one for each entry of an array: 1 where `pack` shall move the entry, else 0.

How a weight is drawn
---------------------
The random words come from Threefry-4x32-20, a counter-based generator (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011). A key names a block of networks, and a counter
``(group, row, network, role)`` names four consecutive weights of one hidden neuron. Any weight
of any network can therefore be drawn at any time, in any order, or not at all.

Output weights whose law differs from that of the hidden weights have a role of their own, and so
have hidden biases; both use column 0. The kernels need only squares of weights. A pair of normal
weights is drawn by Box and Muller's polar method, ``-2 ln u · (sin² θ, cos² θ)``, with logarithm
and sine as polynomials in single precision (relative error below 3e-7). A truncated normal weight
is drawn by inversion; the inverse distribution function is a rational function in single precision
(relative error of the square below 5e-7). Products, sums and comparisons are in double precision.
The largest normal weight that can occur is 6.76 standard deviations.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from obstruction.sampling.kernels.compiling import compiled
from obstruction.sampling.kernels.packing import LANES, pack, prefer_wide
from obstruction.sampling.thresholds import ANY, FALLING_WITH_BIAS, NO_BIAS, RISING
from obstruction.schemes.laws import CONSTANT, NORMAL, TRUNCATED, UNIFORM

_u32 = np.uint32
_u64 = np.uint64
_i32 = np.int32
_f32 = np.float32
_f64 = np.float64

CHUNK = 512
"""Rows in a chunk, whose arrays fit the first-level cache together."""

CANDIDATES = 4096
"""Candidates that are collected over several chunks before their events are looked for."""

PAD = 32
"""The number of draws is rounded up to a multiple of this, so that loops run on whole vectors."""

DOUBT = 1e-6
"""The guess of a curve is not trusted if it is closer to an integer than this."""

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
    """Memory for the rows of a batch and of the pool, whose former contents are overwritten."""

    # A batch has r >= min(batch, count) * l_max + PAD rows, and the pool has m >= PAD rows.
    integers: _Array  # uint32[3, r]: number in the network, network and `at` of each row
    reals: _Array  # float64[4, r]: squared output weight, sum of squares, squared bias, bound
    pool_integers: _Array  # uint32[3, m]: the same for the rows of the pool
    pool_reals: _Array  # float64[4, m]

    @classmethod
    def of(cls, rows: int, pool: int) -> Room:
        """Return memory for ``rows`` rows of a batch and ``pool`` rows of the pool."""
        rows, pool = (size + size % 2 + PAD for size in (rows, pool))  # even, for words of 32 bits
        return cls(
            aligned(3, rows // 2).view(np.uint32),
            aligned(4, rows),
            aligned(3, pool // 2).view(np.uint32),
            aligned(4, pool),
        )


class _Workspace(NamedTuple):
    """Memory for a call of `count_nested`: ``c`` rows of a chunk, ``m`` candidates or events.

    `_record`, `_record_rising` and `_record_any` explain ``union`` and ``stamp``, which say what is
    already counted as obstructed.
    """

    words: _Array  # uint32[4, c]: random words of the current group
    scratch: _Array  # float32[2, c]: memory for their transformation
    sums: _Array  # float64[4, c]: sums of squared hidden weights up to each column of the group
    fresh: _Array  # uint32[3, c]: rows of group 0 as in `Room`, to which the kept ones move
    fresh_reals: _Array  # float64[4, c]
    marks: _Array  # uint8[m]: the marks for `pack`
    limits: _Array  # float64[m]: the numbers with which sums are compared
    indices: _Array  # uint32[m]: 0, 1, 2, ...
    picked: _Array  # uint32[c]: places in the chunk of its candidates
    candidate_integers: _Array  # uint32[2, m]: network and `at` of each candidate
    candidate_reals: _Array  # float64[2, m]: squared output weight and squared bias
    candidate_sums: _Array  # float64[4, m]: running sums of each candidate
    shifted: _Array  # float64[m]: running sum up to one column plus multiple of the squared bias
    events: _Array  # uint32[4, m]: network, start, end for one scheme and one `d`; row 3: scratch
    event_reals: _Array  # float64[4, m]: scratch for the same events
    keys: _Array  # uint64[2, m]: scratch for the same events
    grid_column: _Array  # int64[4]: index along `d` in the grid of each column; -1 if not in it
    union: _Array  # uint64[schemes, 4, 1]
    stamp: _Array  # uint32[schemes, 4, nl]


def _jit(function):
    """Compile a function that may allocate arrays."""
    return compiled(function)


def _lean(function):
    """Compile a function that allocates nothing.

    The arrays that it is given outlive the call, so it needs no reference counts. These take two
    atomic operations for every view of an array, which were a sixth of the running time.
    """
    return compiled(function, _nrt=False)


def _inner(function):
    """Compile a lean function that only compiled functions call.

    It has no wrapper for Python, which saves compile time. A call from Python would crash, so the
    names of these functions start with ``_``.
    """
    return compiled(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


@_jit
def aligned(rows, columns):
    """Return an uninitialised array that starts at a cache line, so that vectors do not cross one.

    Its shape is ``(rows, columns)``.
    """
    whole = np.empty(rows * columns + 8)
    skip = (64 - np.int64(whole.ctypes.data) % 64) % 64 // 8
    return whole[skip : skip + rows * columns].reshape(rows, columns)


# --- Threefry-4x32-20 ------------------------------------------------------------------------


@_inner
def _mix(x, y, rotation):
    x = _u32(x + y)
    y = _u32((y << rotation) | (y >> _u32(_u32(32) - rotation)))
    return x, _u32(y ^ x)


@_inner
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


@_inner
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


@_inner
def _inject(a, b, c, d, k0, k1, k2, k3, step):
    return _u32(a + k0), _u32(b + k1), _u32(c + k2), _u32(_u32(d + k3) + step)


@_lean
def threefry(key, group, row, network, role, n, words):
    """Fill ``words[:, i]`` from the counter ``(group, row[i], network[i], role)``, ``i < n``.

    ``key`` is ``uint32[4]``, ``row`` and ``network`` are ``uint32[n]``, ``words`` is
    ``uint32[4, >= n]``.
    """
    prefer_wide()
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


# --- laws: from random words to squares of standardised weights ------------------------------

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

# x² / z² as a ratio of polynomials in 1 - z², where P(|X| < x) = z for the standardised normal X
# that is cut at ±2; relative error 1.1e-7; all coefficients are positive
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


@_inner
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


@_inner
def _sine_squared(word):
    """Return ``sin² θ`` for an angle uniform in (0, π/4), made of the upper 29 bits of a word."""
    t = (_f32(_i32(word >> _u32(3))) + _HALF) * _2_29
    t = t * t
    p = _S4 * t + _S3
    p = p * t + _S2
    p = p * t + _S1
    p = p * t + _S0
    return p * t


@_inner
def _normal_pair(radius_word, angle_word, n, radius, share, first, second):
    """Fill ``first`` and ``second`` with the squares of ``n`` pairs of normal weights.

    Bit 0 of the angle's word decides which of the two is the smaller; bits 1 and 2 are signs, which
    `signs` reads. ``radius`` and ``share`` are scratch.
    """
    prefer_wide()
    for i in range(n):
        radius[i] = _exponential(radius_word[i])
        sine = _sine_squared(angle_word[i])
        share[i] = sine if (angle_word[i] & _u32(1)) != _u32(0) else -sine
    for i in range(n):
        # The smaller square is a product, so its relative error is small even if it is tiny. The
        # larger one is at least half of the sum of both, so no digits cancel in the difference.
        whole = _f64(radius[i])
        swap = _f64(share[i])
        less = whole * abs(swap)
        more = whole - less
        first[i] = less if swap > 0.0 else more
        second[i] = more if swap > 0.0 else less


@_inner
def _uniform(word, n, square):
    """Fill ``square`` with squares of weights uniform on [-sqrt 3, sqrt 3]; bit 0 is the sign."""
    prefer_wide()
    for i in range(n):
        x = (_f64(_i32(word[i] >> _u32(1))) + 0.5) * 2.0**-31
        square[i] = 3.0 * (x * x)


@_inner
def _truncated(word, n, square):
    """Fill ``square`` with squares of standardised normals cut at ±2; bit 0 is the sign."""
    prefer_wide()
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


@_lean
def squares(law, words, n, scratch, out):
    """Turn random words into squares of standardised weights.

    ``law`` is the code of a law, ``words`` is ``uint32[4, >= n]``, ``scratch`` is
    ``float32[2, >= n]``, and ``out`` is ``float64[4, >= n]``.
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


@_lean
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


@_inner
def _draw(laws, key, group, row, network, n, words, scratch, spare, out, bias):
    """Fill ``out`` with the squares of one group of columns of ``n`` rows.

    Group 0 also fills ``bias`` with the squared biases if there are any. ``n`` is rounded up to a
    multiple of `PAD`, so entries behind the last row may be written.
    """
    hidden_law, output_law, bias_law = laws
    n = (n + PAD - 1) // PAD * PAD
    threefry(key, group, row, network, _u32(HIDDEN_ROLE), n, words)
    squares(hidden_law, words, n, scratch, out)
    if group == 0 and (output_law != hidden_law or bias_law != NO_BIAS):
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


@_lean
def accumulate(group, n, sums, output, total):
    """Turn the squares of a group into running sums over the hidden weights, in place.

    In group 0 the squared output weights move to ``output``. In later groups ``total`` holds the
    sums at the end of the previous group.
    """
    prefer_wide()
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


@_inner
def _multiply(output, at, thresholds, n, limits):
    """Fill ``limits`` with ``output * thresholds[at]``."""
    for i in range(n):
        limits[i] = output[i] * thresholds[at[i]]


@_inner
def _mark(low, limits, n, marks):
    """Mark the rows with ``low < limits``; the `LANES` marks behind the last row become 0."""
    for i in range(n):
        marks[i] = low[i] < limits[i]
    for i in range(LANES):
        marks[n + i] = 0


@_inner
def _gather(source, picked, n, out):
    for e in range(n):
        out[e] = source[picked[e]]


@_inner
def _first_index(thresholds, low, high, s, v):
    """Return the first index in [low, high) of falling thresholds with ``s >= v * threshold``."""
    while low < high:
        middle = (low + high) >> 1
        if s < v * thresholds[middle]:
            low = middle + 1
        else:
            high = middle
    return low


@_inner
def _guess(p, q, r, t, s, v, end):
    """Return the index in [0, end] at which the threshold is ``s / v`` according to a curve."""
    guess = (p * v + q * s) / (r * v + t * s)
    guess = guess if guess > 0.0 else 0.0  # compiled without branches, which would mispredict
    return guess if guess < end else end


@_lean
def find_events(n, total, output, at, thresholds, curve, ends, marks):
    """Compute where along ``l`` falling thresholds become too low, from a curve that fits them.

    A row is pathological at the indices ``at ... ends - 1``; rows for which these exist are marked.
    Return whether every end is certain. If some guess is within `DOUBT` of an integer, it is not,
    and `_find_ends` has to compare thresholds.
    """
    prefer_wide()
    last_index = _u32(thresholds.shape[0] - 2)
    end = _f64(last_index)
    first, last = thresholds[0], thresholds[last_index]
    p, q, r, t = curve[0], curve[1], curve[2], curve[3]
    doubtful = 0
    for i in range(n):
        s = total[i]
        v = output[i]
        guess = _guess(p, q, r, t, s, v, end)
        floor = _i32(guess)
        beyond = guess - _f64(floor)
        below, never = s < v * last, s >= v * first
        close = (beyond < DOUBT) | (beyond > 1.0 - DOUBT)
        doubtful |= close & ~(below | never)
        high = _u32(_u32(floor) + _u32(1))
        high = last_index + _u32(1) if below else high
        high = _u32(0) if never else high
        ends[i] = high
        marks[i] = high > at[i]
    for i in range(LANES):
        marks[n + i] = 0
    return doubtful == 0


@_inner
def _find_ends(events, total, output, at, thresholds, curve, inside, outside, ends):
    """Find the first index along ``l`` at which falling thresholds are too low for each event.

    ``inside`` and ``outside`` are scratch. The work is split into several loops, all of which but
    the one that looks up thresholds compile to vector instructions.
    """
    prefer_wide()
    last_index = _u32(thresholds.shape[0] - 2)
    end = _f64(last_index)
    last = thresholds[last_index]
    p, q, r, t = curve[0], curve[1], curve[2], curve[3]
    for e in range(events):
        s = total[e]
        v = output[e]
        guess = _guess(p, q, r, t, s, v, end)
        guess = end if s < v * last else guess
        ends[e] = _u32(_i32(guess))
    for e in range(events):
        before = ends[e]
        inside[e] = thresholds[before]
        outside[e] = thresholds[_u32(before + _u32(1))]
    doubtful = 0
    for e in range(events):
        s = total[e]
        v = output[e]
        doubtful |= (s < v * outside[e]) | (s >= v * inside[e])
        ends[e] += _u32(1)
    if doubtful != 0:  # rare rounding errors of a good curve, or a curve that fits badly
        for e in range(events):
            s = total[e]
            v = output[e]
            if (s < v * outside[e]) | (s >= v * inside[e]):
                ends[e] = _first_index(thresholds, at[e] + 1, last_index + 1, s, v)


@_inner
def _falling_events(n, total, thresholds, curve, fits, workspace):
    """Fill ``workspace.events`` for one scheme and one ``d`` whose thresholds fall along ``l``.

    Return the number of events.
    """
    marks, limits = workspace.marks, workspace.limits
    network, at = workspace.candidate_integers[0], workspace.candidate_integers[1]
    output = workspace.candidate_reals[0]
    starts, ends = workspace.events[1], workspace.events[2]
    certain = fits and find_events(n, total, output, at, thresholds, curve, ends, marks)
    if not certain:
        _multiply(output, at, thresholds, n, limits)
        _mark(total, limits, n, marks)
    pack(marks, n, network, workspace.events[0], 0)
    events = pack(marks, n, at, starts, 0)
    if certain:
        pack(marks, n, ends, ends, 0)
    else:
        reals = workspace.event_reals
        pack(marks, n, total, reals[0], 0)
        pack(marks, n, output, reals[1], 0)
        _find_ends(events, reals[0], reals[1], starts, thresholds, curve, reals[2], reals[3], ends)
    return events


@_inner
def _falling_events_with_bias(n, total, thresholds, shift, workspace):
    """Fill ``workspace.events`` where thresholds fall and multiples of the bias rise along ``l``.

    As in `_falling_events`, but the ends are found by bisection alone.
    """
    marks = workspace.marks
    network, at = workspace.candidate_integers[0], workspace.candidate_integers[1]
    output, bias = workspace.candidate_reals[0], workspace.candidate_reals[1]
    ends = workspace.events[2]
    for i in range(n):
        s = total[i]
        b = bias[i]
        v = output[i]
        low = np.int64(at[i])
        high = np.int64(thresholds.shape[0] - 1)
        while low < high:
            middle = (low + high) >> 1
            if s + shift[middle] * b < v * thresholds[middle]:
                low = middle + 1
            else:
                high = middle
        ends[i] = low
        marks[i] = low > at[i]
    for i in range(LANES):
        marks[n + i] = 0
    pack(marks, n, network, workspace.events[0], 0)
    pack(marks, n, ends, ends, 0)
    return pack(marks, n, at, workspace.events[1], 0)


@_inner
def _record(events, workspace, union, obstructed, pathological):
    """Count the events in ``workspace.events``, which belong to one scheme and one ``d``.

    A network is obstructed on the union of its events' intervals. Events come in order of network
    and start, so an event adds to the union what lies beyond the largest end so far. ``union``
    keeps the last network and that end between calls, as one number that only grows.
    """
    prefer_wide()
    network, starts, ends = workspace.events[0], workspace.events[1], workspace.events[2]
    closed = workspace.events[3]
    marks, reached, before = workspace.marks, workspace.keys[0], workspace.keys[1]
    for e in range(events):
        pathological[starts[e]] += 1
    # Most events last up to the largest l and need no second step.
    nl = pathological.shape[0] - 1
    for e in range(events):
        marks[e] = ends[e] < nl
    for i in range(LANES):
        marks[events + i] = 0
    for e in range(pack(marks, events, ends, closed, 0)):
        pathological[closed[e]] -= 1
    # Only the second of the three loops is sequential.
    for e in range(events):
        reached[e] = (_u64(network[e]) << _u64(32)) | _u64(ends[e])
    covered = union[0]
    for e in range(events):
        before[e] = covered
        covered = max(reached[e], covered)
    union[0] = covered
    for e in range(events):
        starts[e] = _u32(max((_u64(network[e]) << _u64(32)) | _u64(starts[e]), before[e]))
        marks[e] = reached[e] > before[e]
    pack(marks, events, starts, starts, 0)
    for e in range(pack(marks, events, ends, ends, 0)):
        obstructed[starts[e]] += 1
        obstructed[ends[e]] -= 1


@_inner
def _record_rising(n, total, thresholds, workspace, union, obstructed, pathological):
    """Find and count the events of one scheme and one ``d`` whose thresholds rise along ``l``.

    The interval of an event starts at the first index from ``at`` on whose threshold is high enough
    and lasts up to the largest ``l``. ``union`` keeps the last network and the length of its
    longest interval between calls, as one number that only grows.
    """
    marks, limits, picked = workspace.marks, workspace.limits, workspace.events[3]
    network, at = workspace.candidate_integers[0], workspace.candidate_integers[1]
    output = workspace.candidate_reals[0]
    nl = np.int64(thresholds.shape[0] - 1)
    for i in range(n):
        limits[i] = output[i] * thresholds[nl - 1]
    _mark(total, limits, n, marks)
    covered = union[0]
    for e in range(pack(marks, n, workspace.indices, picked, 0)):
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
        here = _u64(network[i]) << _u64(32)
        reached = here | _u64(nl - low)
        if reached > covered:
            obstructed[low] += 1
            obstructed[nl - np.int64(_u32(max(here, covered)))] -= 1
            covered = reached
    union[0] = covered


@_inner
def _record_any(n, total, thresholds, shift, workspace, stamp, obstructed, pathological):
    """Find and count the pathological neurons of one scheme and one ``d`` at every single ``l``.

    ``stamp`` keeps, for each cell, the last network that was counted as obstructed.
    """
    network, at = workspace.candidate_integers[0], workspace.candidate_integers[1]
    output, bias = workspace.candidate_reals[0], workspace.candidate_reals[1]
    for i in range(n):
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


@_inner
def _enter(n, bias_law, grid, workspace, obstructed, pathological):
    """Find and count the events of ``n`` candidates for every scheme and ``d`` of a group."""
    for c in range(4):
        j = workspace.grid_column[c]
        if j < 0:
            continue
        for k in range(grid.trend.shape[0]):
            total, bias = workspace.candidate_sums[c], workspace.candidate_reals[1]
            trend, thresholds = grid.trend[k], grid.thresholds[k, j]
            union = workspace.union[k, c]
            of_networks, of_neurons = obstructed[k, j], pathological[k, j]
            if trend == ANY:
                shift, stamp = grid.shift[k, j], workspace.stamp[k, c]
                _record_any(n, total, thresholds, shift, workspace, stamp, of_networks, of_neurons)
                continue
            if trend == FALLING_WITH_BIAS:
                shift = grid.shift[k, j]
                events = _falling_events_with_bias(n, total, thresholds, shift, workspace)
                _record(events, workspace, union, of_networks, of_neurons)
                continue
            if bias_law != NO_BIAS:
                for i in range(n):
                    workspace.shifted[i] = total[i] + grid.shift[k, j, 0] * bias[i]
                total = workspace.shifted
            if trend == RISING:
                _record_rising(n, total, thresholds, workspace, union, of_networks, of_neurons)
            else:
                curve, fits = grid.curve[k, j], grid.fits[k, j]
                events = _falling_events(n, total, thresholds, curve, fits, workspace)
                _record(events, workspace, union, of_networks, of_neurons)


@_inner
def _name_rows(first, of_network, row_cell, n, row, network, at):
    """Fill the number, the network and ``at`` of ``n`` consecutive rows of a network."""
    for i in range(n):
        row[i] = first + i
        network[i] = of_network
        at[i] = row_cell[i]


@_inner
def _first_column(columns, least):
    """Return the index of the first of the grid's columns that is at least ``least``."""
    jd = 0
    while jd < columns.shape[0] and columns[jd] < least:
        jd += 1
    return jd


@_inner
def _advance(
    key, laws, group, live, first, grid, integers, reals, workspace, obstructed, pathological
):
    """Draw the next group of columns of ``live`` rows, count their events and drop rows.

    In group 0 these are the rows of the networks from ``first`` on. In later groups they are the
    first ``live`` rows in ``integers`` and ``reals``. The rows that are kept move to the front of
    these arrays; return their number.
    """
    words, scratch, sums = workspace.words, workspace.scratch, workspace.sums
    marks, grid_column, union = workspace.marks, workspace.grid_column, workspace.union
    candidate_integers, candidate_reals = workspace.candidate_integers, workspace.candidate_reals
    bias_law = laws[2]
    row, network, at = integers[0], integers[1], integers[2]
    output, total, bias, bound = reals[0], reals[1], reals[2], reals[3]
    limits, picked = workspace.limits, workspace.picked
    fresh, fresh_reals = workspace.fresh, workspace.fresh_reals
    columns, row_cell = grid.columns, grid.row_cell
    nd = columns.shape[0]
    width = row_cell.shape[0]
    jd_first = _first_column(columns, 4 * group)
    jd = jd_first
    for c in range(4):
        grid_column[c] = -1
    while jd < nd and columns[jd] < 4 * group + 4:
        grid_column[columns[jd] - 4 * group] = jd
        jd += 1
    # Sums grow along the columns. A row can be pathological in the group only if its sum at the
    # group's first column of the grid is below the largest limit in the group.
    has_cells = jd > jd_first
    earliest = columns[jd_first] - 4 * group if has_cells else 0
    for k in range(union.shape[0]):
        for c in range(4):
            union[k, c, 0] = 0
            for i in range(workspace.stamp.shape[2]):
                workspace.stamp[k, c, i] = NO_NETWORK
    fresh_row = 0
    fresh_network = first
    kept = 0
    candidates = 0
    for start in range(0, live, CHUNK):
        n = min(CHUNK, live - start)
        end = start + n
        if group == 0:
            filled = 0
            while filled < n:
                run = min(n - filled, width - fresh_row)
                _name_rows(
                    fresh_row,
                    fresh_network,
                    row_cell[fresh_row:],
                    run,
                    fresh[0, filled:],
                    fresh[1, filled:],
                    fresh[2, filled:],
                )
                filled += run
                fresh_row += run
                if fresh_row == width:
                    fresh_row = 0
                    fresh_network += 1
            rows, networks_of, cells = fresh[0], fresh[1], fresh[2]
            outputs, totals, biases = fresh_reals[0], fresh_reals[1], fresh_reals[2]
            bounds = fresh_reals[3]
        else:
            rows = row[start:]
            networks_of = network[start:]
            cells = at[start:]
            outputs = output[start:]
            totals = total[start:]
            biases = bias[start:]
            bounds = bound[start:]
        spare = workspace.event_reals
        _draw(laws, key, group, rows, networks_of, n, words, scratch, spare, sums, biases)
        accumulate(group, n, sums, outputs, totals)
        if has_cells:
            _multiply(outputs, cells, grid.peak[jd_first], n, limits)
            _mark(sums[earliest], limits, n, marks)
            found = pack(marks, n, workspace.indices, picked, 0)
            _gather(networks_of, picked, found, candidate_integers[0, candidates:])
            _gather(cells, picked, found, candidate_integers[1, candidates:])
            _gather(outputs, picked, found, candidate_reals[0, candidates:])
            if bias_law != NO_BIAS:
                _gather(biases, picked, found, candidate_reals[1, candidates:])
            for c in range(earliest, 4):
                if grid_column[c] >= 0:
                    _gather(sums[c], picked, found, workspace.candidate_sums[c, candidates:])
            candidates += found
            if candidates >= CANDIDATES or end == live:
                _enter(candidates, bias_law, grid, workspace, obstructed, pathological)
                candidates = 0
        if group == 0:
            _multiply(outputs, cells, grid.bound, n, bounds)
        _mark(sums[3], bounds, n, marks)
        pack(marks, n, rows, row, kept)
        pack(marks, n, networks_of, network, kept)
        pack(marks, n, cells, at, kept)
        pack(marks, n, outputs, output, kept)
        pack(marks, n, bounds, bound, kept)
        if bias_law != NO_BIAS:
            pack(marks, n, biases, bias, kept)
        kept += pack(marks, n, sums[3], total, kept)
    return kept


@_jit
def count_nested(key, laws, first, count, grid, batch, room, stop, obstructed, pathological):
    """Count obstructed networks and pathological neurons in all cells of a grid at once.

    Every network of the block serves every cell. Let ``v`` be the squared output weight of its
    ``k``-th neuron, ``k >= 1``, and ``s`` the sum of the neuron's first ``d`` squared hidden
    weights. The neuron is pathological in the cell ``(d, l)``, ``l >= k``, iff ``s < v · a(d, l)``
    (`obstruction.sampling.thresholds` says what biases change). The thresholds ``a`` are monotone
    along ``l``, so these ``l`` form an interval, which is counted as two steps of a difference
    array. A row is dropped once it cannot be pathological in any later cell. The few rows that are
    kept for many groups join the pool, so that distant columns are processed in full chunks.

    Parameters
    ----------
    key : uint32[4]
        The stream of the block.
    laws : (int, int, int)
        Codes of the laws of the hidden weights, the output weights and the hidden biases.
    first, count : int
        The networks of the block to draw: ``first ... first + count - 1``.
    grid : obstruction.sampling.thresholds.Grid
        The cells.
    batch : int
        Networks in a batch; has no influence on the counts.
    room : Room
        Memory; its size has no influence on the counts.
    stop : uint8[1]
        The kernel gives up soon after another thread sets it to 1.
    obstructed, pathological : int32[schemes, nd, nl + 1]
        Difference arrays along ``l``, to which the counts are added. The last entry along ``l``
        has no meaning. No entry changes by more than the number of rows drawn.

    Returns
    -------
    bool
        True if all networks were counted. False if the kernel was stopped; the arrays are then
        incomplete and must be discarded.
    """
    schemes = grid.trend.shape[0]
    scanned = 0
    for k in range(schemes):
        if grid.trend[k] == ANY:
            scanned = grid.thresholds.shape[2]
    width = grid.row_cell.shape[0]
    chunk, gathered = CHUNK + PAD, CANDIDATES + CHUNK + PAD
    workspace = _Workspace(
        words=aligned(4, chunk // 2).view(np.uint32),
        scratch=aligned(2, chunk // 2).view(np.float32),
        sums=aligned(4, chunk),
        fresh=aligned(3, chunk // 2).view(np.uint32),
        fresh_reals=aligned(4, chunk),
        marks=np.empty(gathered, np.uint8),
        limits=aligned(1, gathered)[0],
        indices=np.arange(gathered).astype(np.uint32),
        picked=np.empty(chunk, np.uint32),
        candidate_integers=aligned(2, gathered // 2).view(np.uint32),
        candidate_reals=aligned(2, gathered),
        candidate_sums=aligned(4, gathered),
        shifted=np.empty(gathered),
        events=aligned(4, gathered // 2).view(np.uint32),
        event_reals=aligned(4, gathered),
        keys=aligned(2, gathered).view(np.uint64),
        grid_column=np.empty(4, np.int64),
        union=np.empty((schemes, 4, 1), np.uint64),
        stamp=np.empty((schemes, 4, scanned), np.uint32),
    )
    groups = grid.columns[-1] // 4 + 1
    pool = room.pool_integers.shape[1] - PAD
    handover = groups  # the group at which rows join the pool; the first small batch sets it
    pooled = 0
    waiting = 0  # rows of a batch that are about to join the pool
    done = 0
    networks = 0
    while done < count or pooled + waiting > 0:
        emptying = pooled > 0 and (pooled + waiting > pool or (done == count and waiting == 0))
        if waiting > 0 and not emptying:
            for i in range(waiting):
                for k in range(3):
                    room.pool_integers[k, pooled + i] = room.integers[k, i]
                for k in range(4):
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
    """Draw all weights of one network.

    ``square`` and ``sign`` are ``float64[l, 4 * groups]``; column 0 is for output weights, and
    columns 1, 2, ... are for hidden weights. ``bias`` is ``float64[l]`` and receives the biases
    with their signs, if there are any.
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
