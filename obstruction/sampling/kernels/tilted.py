"""Compiled kernels that estimate rare events by importance sampling with tilted laws.

They use the generator of `obstruction.sampling.kernels.networks` and, like the kernels there, they
do not validate their input. A weight of the network is called a draw here, and only its square is
needed. A weight is always one of importance sampling: the ratio of two densities.

All arithmetic is in double precision and strict IEEE. Logarithm, exponential, sine, the inverse of
erf and the scaled complement of erf are polynomials, because a call of a library function for every
draw would keep the loops from being vectorised. The relative error of the inverse of erf is below
4e-10 (1e-13 on average), that of the others is below 1e-14.
"""

from __future__ import annotations

import numpy as np

from obstruction.sampling.kernels.networks import (
    CONSTANT_CODE,
    NORMAL_CODE,
    TRUNCATED_CODE,
    UNIFORM_CODE,
    _jit,
    threefry,
)

_u32 = np.uint32
_i32 = np.int32
_i64 = np.int64
_f64 = np.float64

BLOCK = 1024
"""Samples that share a key, a power of 2. Every seeded result depends on it."""

SUMS = 5
"""Statistics of the weights that are kept for each cell: four power sums and the maximum."""

HIDDEN_ROLE = 0
BIAS_ROLE = 1

_ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2) in double precision
_MANTISSA = 0xFFFFFFFFFFFFF
_LN2 = 0.6931471805599453
_LN2_HIGH = 0.693147180369123816490
_LN2_LOW = 1.90821492927058770002e-10
_1_LN2 = 1.4426950408889634
_ROUNDER = 6755399441055744.0  # 1.5 * 2**52; a number that is added to it becomes an integer

# (log(1 + s) - log(1 - s) - 2 s) / s**3 in s**2 (fdlibm's e_log.c), error 2**-58
_LOG = (
    0.6666666666666735130,
    0.3999999999940941908,
    0.2857142874366239149,
    0.2222219843214978396,
    0.1818357216161805012,
    0.1531383769920937332,
    0.1479819860511658591,
)

# exp(x) on [-log(2) / 2, log(2) / 2]: Taylor series, error 7e-15
_EXP = (
    1.0,
    1.0,
    0.5,
    0.16666666666666666,
    0.041666666666666664,
    0.008333333333333333,
    0.001388888888888889,
    0.0001984126984126984,
    2.48015873015873e-05,
    2.7557319223985893e-06,
    2.755731922398589e-07,
    2.505210838544172e-08,
)

# sin(pi t / 4)**2 / t**2 in t**2 on [0, 1], error 8e-15
_SINE = (
    0.616850275068081,
    -0.12683475395014215,
    0.01043174037556447,
    -0.00045963010071667045,
    1.2600916164760973e-05,
    -2.353892923210119e-07,
    3.0803447762390206e-09,
)

# (1 + 2 x) erfcx(x) in (x - 3.75) / (x + 3.75), x >= 0 (as Shepherd and Laframboise 1981), 4e-15
_ERFCX = (
    1.2375126308378275,
    -0.14024059858550467,
    0.0035854154855230608,
    0.08227673848703723,
    -0.10880393014607209,
    0.09230432122781818,
    -0.05869339849573223,
    0.028362276745721345,
    -0.00974658049572148,
    0.0017556295619700168,
    0.0002937188315829379,
    -0.00029016643090319617,
    5.163190106804331e-05,
    2.2410222381498155e-05,
    -1.140797962207656e-05,
    -1.008530581926421e-06,
    1.7029934016673204e-06,
    -2.765709383664066e-08,
    -2.1759244986628552e-07,
    8.506913358851904e-09,
    1.820795314421729e-08,
)

# (erfinv(t) / t)**2 / (1 + L) in (L - 6) / (L + 6), L = -log(1 - t**2) < 24, error 3.3e-10
_QUANTILE = (
    0.7468195150375877,
    0.2854499915155266,
    -0.00852963152677115,
    -0.16539272427207968,
    0.20491785290990178,
    0.05156096649287321,
    -0.2038497121168627,
    -0.12092175670876673,
    0.2848375103576001,
    0.18663417527728454,
    -0.25234808280755405,
    -0.2801053859603015,
    0.17506828662013396,
    0.24979674155154205,
    -0.13965330273101748,
    -0.13707798933394405,
    0.28499790128448743,
    0.15303014127440914,
    -0.3852573639803989,
    -0.3230425985171659,
    0.15268028933642763,
    0.2529891357531289,
    0.07863559783466442,
)


# --- functions -------------------------------------------------------------------------------


@_jit
def _minus_log(x):
    """Return ``-log(x)`` for a normal number x > 0."""
    bits = _i64(_f64(x).view(np.int64) - _i64(_ROOT_HALF))
    exponent = _f64(_i32(bits >> _i64(52)))
    mantissa = _i64(_i64(bits & _i64(_MANTISSA)) + _i64(_ROOT_HALF))
    f = mantissa.view(np.float64) - 1.0
    s = f / (2.0 + f)
    z = s * s
    p = _LOG[6] * z + _LOG[5]
    p = p * z + _LOG[4]
    p = p * z + _LOG[3]
    p = p * z + _LOG[2]
    p = p * z + _LOG[1]
    p = p * z + _LOG[0]
    return -(exponent * _LN2 + (2.0 * s + s * (z * p)))


@_jit
def _exp(x):
    """Return ``exp(x)``, with x clipped to [-700, 700]."""
    x = x if x > -700.0 else -700.0
    x = x if x < 700.0 else 700.0
    whole = (x * _1_LN2 + _ROUNDER) - _ROUNDER
    r = (x - whole * _LN2_HIGH) - whole * _LN2_LOW
    p = _EXP[11] * r + _EXP[10]
    p = p * r + _EXP[9]
    p = p * r + _EXP[8]
    p = p * r + _EXP[7]
    p = p * r + _EXP[6]
    p = p * r + _EXP[5]
    p = p * r + _EXP[4]
    p = p * r + _EXP[3]
    p = p * r + _EXP[2]
    p = p * r + _EXP[1]
    p = p * r + _EXP[0]
    power = _i64(_i64(_i64(_i32(whole)) + _i64(1023)) << _i64(52))
    return p * power.view(np.float64)


@_jit
def _sine_squared(word):
    """Return ``sin(angle)**2`` for an angle in (0, pi/4) made of the upper 29 bits of a word."""
    t = (_f64(_i32(word >> _u32(3))) + 0.5) * 2.0**-29
    t = t * t
    p = _SINE[6] * t + _SINE[5]
    p = p * t + _SINE[4]
    p = p * t + _SINE[3]
    p = p * t + _SINE[2]
    p = p * t + _SINE[1]
    p = p * t + _SINE[0]
    return p * t


@_jit
def _erfcx(x):
    """Return ``exp(x * x) * erfc(x)`` for x >= 0."""
    y = (x - 3.75) / (x + 3.75)
    p = _ERFCX[20] * y + _ERFCX[19]
    p = p * y + _ERFCX[18]
    p = p * y + _ERFCX[17]
    p = p * y + _ERFCX[16]
    p = p * y + _ERFCX[15]
    p = p * y + _ERFCX[14]
    p = p * y + _ERFCX[13]
    p = p * y + _ERFCX[12]
    p = p * y + _ERFCX[11]
    p = p * y + _ERFCX[10]
    p = p * y + _ERFCX[9]
    p = p * y + _ERFCX[8]
    p = p * y + _ERFCX[7]
    p = p * y + _ERFCX[6]
    p = p * y + _ERFCX[5]
    p = p * y + _ERFCX[4]
    p = p * y + _ERFCX[3]
    p = p * y + _ERFCX[2]
    p = p * y + _ERFCX[1]
    p = p * y + _ERFCX[0]
    return p / (1.0 + 2.0 * x)


@_jit
def _erfinv_squared(t):
    """Return the square of the inverse of erf for 0 < t <= 1 - 2**-33."""
    length = _minus_log((1.0 - t) * (1.0 + t))
    y = (length - 6.0) / (length + 6.0)
    p = _QUANTILE[22] * y + _QUANTILE[21]
    p = p * y + _QUANTILE[20]
    p = p * y + _QUANTILE[19]
    p = p * y + _QUANTILE[18]
    p = p * y + _QUANTILE[17]
    p = p * y + _QUANTILE[16]
    p = p * y + _QUANTILE[15]
    p = p * y + _QUANTILE[14]
    p = p * y + _QUANTILE[13]
    p = p * y + _QUANTILE[12]
    p = p * y + _QUANTILE[11]
    p = p * y + _QUANTILE[10]
    p = p * y + _QUANTILE[9]
    p = p * y + _QUANTILE[8]
    p = p * y + _QUANTILE[7]
    p = p * y + _QUANTILE[6]
    p = p * y + _QUANTILE[5]
    p = p * y + _QUANTILE[4]
    p = p * y + _QUANTILE[3]
    p = p * y + _QUANTILE[2]
    p = p * y + _QUANTILE[1]
    p = p * y + _QUANTILE[0]
    return p * (1.0 + length) * (t * t)


# --- draws -----------------------------------------------------------------------------------


@_jit
def _normal_pair(radius_word, angle_word, n, scale, first, second):
    """Fill the squares of ``n`` pairs of normals of variance ``scale / 2`` (Box and Muller)."""
    for i in range(n):
        whole = _minus_log((_f64(radius_word[i]) + 0.5) * 2.0**-32) * scale
        less = whole * _sine_squared(angle_word[i])
        more = whole - less
        swap = (angle_word[i] & _u32(1)) != _u32(0)
        first[i] = less if swap else more
        second[i] = more if swap else less


@_jit
def _cut_normal(word, n, edge, scale, square):
    """Fill squares of normals of variance ``scale / 2`` that are cut symmetrically.

    The cut is where ``erf(w / sqrt(scale)) = edge``. Each draw takes one word and inverts the
    distribution function.
    """
    for i in range(n):
        t = (_f64(word[i]) + 0.5) * 2.0**-32 * edge
        square[i] = _erfinv_squared(t) * scale


@_jit
def tilted_squares(law, words, n, edge, scale, out):
    """Turn random words into squares of draws from a law tilted by ``exp(-kappa w**2)``.

    ``law`` is the code of a law, ``words`` is ``uint32[4, >= n]``, and ``out`` is
    ``float64[4, >= n]``. Unless it is constant, the tilted law has a density proportional to
    ``exp(-w**2 / scale)`` on the interval where ``erf(|w| / sqrt(scale)) < edge``.
    """
    if law == NORMAL_CODE:
        _normal_pair(words[0], words[1], n, scale, out[0], out[1])
        _normal_pair(words[2], words[3], n, scale, out[2], out[3])
    elif law == CONSTANT_CODE:
        for j in range(4):
            for i in range(n):
                out[j, i] = 1.0
    else:
        for j in range(4):
            _cut_normal(words[j], n, edge, scale, out[j])


# --- weights ---------------------------------------------------------------------------------


@_jit
def weigh(law, kappa, shift, slope, total, n, out):
    """Fill ``exp(kappa s - shift) P(a V**2 > s)`` for every sum ``s`` of squares in ``total``.

    ``law`` is the code of the law of the output weight V. ``slope`` is ``1/(2a)`` for the normal
    law, ``CUT_STD**2/(2a)`` for the truncated, ``1/(3a)`` for the uniform and ``1/a`` for the
    constant law.
    """
    if law == NORMAL_CODE:
        rest = kappa - slope
        for i in range(n):
            s = total[i]
            out[i] = _exp(rest * s - shift) * _erfcx(np.sqrt(slope * s))
    elif law == TRUNCATED_CODE:
        beyond = 0.04550026389635842  # erfc(sqrt 2)
        for i in range(n):
            s = total[i]
            x = slope * s
            left = _exp(-x) * _erfcx(np.sqrt(x)) - beyond
            left = left if left > 0.0 else 0.0
            out[i] = _exp(kappa * s - shift) * (left / (1.0 - beyond))
    elif law == UNIFORM_CODE:
        for i in range(n):
            s = total[i]
            left = 1.0 - np.sqrt(slope * s)
            left = left if left > 0.0 else 0.0
            out[i] = _exp(kappa * s - shift) * left
    else:
        for i in range(n):
            s = total[i]
            out[i] = _exp(kappa * s - shift) if slope * s < 1.0 else 0.0


@_jit
def add_moments(weight, rows, scratch, sums):
    """Add the power sums of the first ``rows`` of `BLOCK` weights to ``sums``, in a fixed order.

    The last entry of ``sums`` becomes the maximum instead. ``scratch`` is
    ``float64[SUMS, BLOCK // 2]``. The entries of ``weight`` from ``rows`` on are set to zero.
    """
    for i in range(rows, BLOCK):
        weight[i] = 0.0
    half = BLOCK // 2
    one, two, three, four, top = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for i in range(half):
        x, y = weight[i], weight[i + half]
        x2, y2 = x * x, y * y
        one[i] = x + y
        two[i] = x2 + y2
        three[i] = x * x2 + y * y2
        four[i] = x2 * x2 + y2 * y2
        top[i] = x if x > y else y
    while half > 1:
        half >>= 1
        for i in range(half):
            one[i] += one[i + half]
            two[i] += two[i + half]
            three[i] += three[i + half]
            four[i] += four[i + half]
            top[i] = top[i] if top[i] > top[i + half] else top[i + half]
    for k in range(SUMS - 1):
        sums[k] += scratch[k, 0]
    sums[SUMS - 1] = max(sums[SUMS - 1], top[0])


@_jit
def _with_bias(law, word, beta, edge, scale, total, square, out):
    """Fill ``out`` with ``total`` plus ``beta`` times the squares of biases drawn from ``word``."""
    if law == CONSTANT_CODE:
        for i in range(BLOCK):
            out[i] = total[i] + beta
    else:
        _cut_normal(word, BLOCK, edge, scale, square)
        for i in range(BLOCK):
            out[i] = total[i] + beta * square[i]


@_jit
def sample(
    keys,
    samples,
    hidden_law,
    output_law,
    bias_law,
    kappa,
    edge,
    scale,
    columns,
    first,
    cells,
    stop,
    sums,
):
    """Draw samples at one tilt and add up their weights in every cell.

    Parameters
    ----------
    keys : uint32[blocks, 4]
        The key of each block of `BLOCK` samples.
    samples : int
        The number of samples; only a part of the last block may be needed.
    hidden_law, output_law, bias_law : int
        Codes of the laws.
    kappa, edge, scale : float
        The tilt of the hidden draws; see `tilted_squares`.
    columns : int64[c]
        The numbers of inputs ``d`` for which there are cells, ascending.
    first : int64[c + 1]
        The cells with ``columns[j]`` inputs are ``first[j] ... first[j + 1] - 1``.
    cells : float64[n, 5]
        For each cell the shift and the slope of `weigh`, then ``beta`` and the edge and the scale
        of the tilted bias. Cells with the same bias should be neighbours.
    stop : uint8[1]
        The kernel gives up soon after another thread sets it to 1.
    sums : float64[n, SUMS]
        Updated by `add_moments`.

    Returns
    -------
    bool
        True if all samples were drawn, False if the kernel was stopped.
    """
    words = np.empty((4, BLOCK), np.uint32)
    bias_words = np.empty((4, BLOCK), np.uint32)
    square = np.empty((4, BLOCK))
    scratch = np.empty((SUMS, BLOCK // 2))
    total = np.empty(BLOCK)
    biased = np.empty(BLOCK)
    weight = np.empty(BLOCK)
    row = np.zeros(BLOCK, np.uint32)
    index = np.arange(BLOCK).astype(np.uint32)
    last = columns[columns.shape[0] - 1]
    for block in range(keys.shape[0]):
        rows = min(BLOCK, samples - block * BLOCK)
        key = keys[block]
        threefry(key, _u32(0), row, index, _u32(BIAS_ROLE), BLOCK, bias_words)
        total[:] = 0.0
        j = 0
        for group in range((last + 3) // 4):
            if stop[0]:
                return False
            if hidden_law != CONSTANT_CODE:
                threefry(key, _u32(group), row, index, _u32(HIDDEN_ROLE), BLOCK, words)
            tilted_squares(hidden_law, words, BLOCK, edge, scale, square)
            for c in range(4):
                more = square[c]
                for i in range(BLOCK):
                    total[i] += more[i]
                if j == columns.shape[0] or columns[j] != 4 * group + c + 1:
                    continue
                beta, bias_edge, bias_scale = 0.0, -1.0, -1.0
                for n in range(first[j], first[j + 1]):
                    cell = cells[n]
                    if cell[2] > 0.0:
                        if cell[2] != beta or cell[3] != bias_edge or cell[4] != bias_scale:
                            beta, bias_edge, bias_scale = cell[2], cell[3], cell[4]
                            _with_bias(
                                bias_law,
                                bias_words[0],
                                beta,
                                bias_edge,
                                bias_scale,
                                total,
                                square[c],
                                biased,
                            )
                        weigh(output_law, kappa, cell[0], cell[1], biased, BLOCK, weight)
                    else:
                        weigh(output_law, kappa, cell[0], cell[1], total, BLOCK, weight)
                    add_moments(weight, rows, scratch, sums[n])
                j += 1
    return True
