"""The probability that a neuron is pathological, estimated by importance sampling.

A neuron is pathological if ``a V^2 > S`` with ``S = W_1^2 + ... + W_d^2 + beta B^2``. An event of
probability 1e-16 cannot be counted. Here every hidden weight is drawn from its law *tilted* by
``exp(-kappa w^2)``, under which small sums are common, and the output weight is integrated out:

    p = E_Q[ Z(kappa)^d Z_B(kappa beta) exp(kappa S) P(a V^2 > S | S) ],  Z(k) = E[exp(-k W^2)],

for any ``kappa >= 0``, with Q the tilted law (exponential tilting: Siegmund, Ann. Statist. 4, 1976;
Asmussen and Glynn, *Stochastic Simulation*, 2007, ch. VI). The method uses only the laws of single
weights, so it can check the exact formulas, which are about the law of the sum.

The best tilt balances the two varying factors: ``kappa = -(d/ds) log P(a V^2 > s)`` at the mean of
``S`` under Q, which is ``1/(2a)`` or slightly more for normal outputs. A tilt that moves this mean
by a fraction of a standard deviation of ``S`` is still efficient. Tilts are therefore rounded such
that ``log(1 + 2 kappa)`` is a multiple of ``2^-m``, where ``m`` depends only on ``d``. All cells of
one tilt share their draws: the sum after ``d`` draws serves the cells with ``d`` inputs, for every
``a``. Estimates of different cells may therefore depend on each other. Nevertheless, an estimate is
determined by its cell, the number of samples and the seed, for any set of cells and any threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from obstruction.sampling.inference.weighted import Estimate
from obstruction.sampling.kernels.tilted import SUMS
from obstruction.sampling.rare.tilted_sampler import TiltedSampler
from obstruction.sampling.rare.tilts import Cells, FloatArray
from obstruction.sampling.runner import Runner
from obstruction.schemes import SchemeLike, as_scheme
from obstruction.schemes.laws import CONSTANT, Law
from obstruction.tools.checks import check_count, check_seed

Laws: TypeAlias = tuple[Law, Law]

_ROUNDING: Final = 1e-10
"""Relative error of an estimate per input, since a draw has 32 random bits."""


def estimate(
    scheme: SchemeLike,
    d: ArrayLike,
    l: ArrayLike,
    samples: int = 10_000,
    *,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[float], None] = lambda share: None,
) -> Estimate:
    """Estimate the probability that a neuron is pathological at initialisation.

    Parameters
    ----------
    scheme : str or InitScheme
        The scheme, whose weights must be independent.
    d, l : array_like of int
        The numbers of inputs and of hidden neurons, which are broadcast to the shape of the cells.
    samples : int
        The number of weighted samples per cell, >= 2.
    seed : int
        The seed, which determines the samples of a cell for any set of cells.
    threads : int
        The number of workers, which has no influence on the result.
    watch : callable, optional
        A function that is called now and then with the share of the work that is done. An exception
        in it ends the work.

    Returns
    -------
    Estimate
        Arrays in the shape of the cells. See `obstruction.sampling.inference.weighted` for
        intervals and tests.

    Raises
    ------
    ValueError
        If the scheme's weights depend on each other, or an argument is out of its range.

    Notes
    -----
    The draws are the same on every IEEE machine. The weights depend on the mathematical library of
    the platform, so their last digits may differ between platforms.

    Examples
    --------
    >>> rare = estimate("kaiming_normal", 100, 100, samples=1000)
    >>> round(float(np.exp(rare.log_p) / 9.90168898459e-17), 1)
    1.0
    """
    scheme = as_scheme(scheme)
    if not scheme.independent:
        raise ValueError(
            f"scheme {scheme.label!r}: its weights depend on each other, "
            "and tilting needs independent weights"
        )
    d, l = np.broadcast_arrays(np.asarray(d), np.asarray(l))
    return estimate_ratios(
        scheme.laws,
        d,
        scheme.ratio(d, l),
        beta=scheme.bias_ratio(d, l),
        bias_law=scheme.bias_law,
        samples=samples,
        seed=seed,
        threads=threads,
        watch=watch,
    )


def estimate_ratios(
    laws: Laws,
    d: ArrayLike,
    a: ArrayLike,
    *,
    beta: ArrayLike = 0.0,
    bias_law: Law | None = None,
    samples: int = 10_000,
    seed: int = 0,
    threads: int = 1,
    watch: Callable[[float], None] = lambda share: None,
) -> Estimate:
    """Estimate ``P(a V^2 > W_1^2 + ... + W_d^2 + beta B^2)`` as `estimate` does.

    Parameters
    ----------
    laws : (Law, Law)
        The laws of the hidden weights W and of the output weight V.
    d, a, beta : array_like
        The number of inputs, the ratio of the variances of output and hidden weights, which may be
        0 or ``inf``, and the ratio of those of biases and hidden weights. They are broadcast.
    bias_law : Law, optional
        The law of the bias B. Without it, ``beta`` must be 0.
    """
    hidden, output = laws
    samples = check_count("samples", samples, least=2)
    threads = check_count("threads", threads)
    seed = check_seed(seed)
    arrays = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (d, a, beta)))
    shape = arrays[0].shape
    cells = Cells(hidden, output, bias_law or CONSTANT, *(x.ravel() for x in arrays))
    _check(cells, bias_law)
    sums, log_scale, log_bound = _sums(TiltedSampler(cells, samples, seed), threads, watch)
    log_p, error, skewness, share = _statistics(sums, samples, log_scale)
    error = np.hypot(error, _ROUNDING * cells.d)
    for sure, value in ((cells.never(), -np.inf), (cells.always(), 0.0)):
        log_p[sure], error[sure], skewness[sure], share[sure] = value, 0.0, 0.0, 1.0 / samples
        log_bound[sure] = value
    fields = (x.reshape(shape) for x in (log_p, error, skewness, share, log_bound))
    return Estimate(samples, *fields)


def _check(cells: Cells, bias_law: Law | None) -> None:
    for law in (cells.hidden, cells.output, cells.bias):
        if not law.independent:
            raise ValueError(f"laws: {law} weights depend on each other")
    for d in cells.d[~((cells.d >= 1.0) & (cells.d <= 1e9) & (cells.d == np.floor(cells.d)))]:
        raise ValueError(f"d = {d:g}: must be a whole number from 1 to 1e9")
    for name, values in (("a", cells.a), ("beta", cells.beta)):
        for value in values[~(values >= 0.0) | ((name == "beta") & np.isinf(values))]:
            raise ValueError(f"{name} = {value:g}: must be a number >= 0")
    if bias_law is None and cells.beta.any():
        raise ValueError("beta: must be 0 without a law of the biases")


def _sums(
    sampler: TiltedSampler, threads: int, watch: Callable[[float], None]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the sums of the scaled weights, and the logarithms of the scale and of the bound."""
    efforts = sampler.efforts
    done = np.append(0.0, np.cumsum(efforts)) / max(efforts.sum(), 1.0)
    runner = Runner(sampler)
    runner.run(
        efforts.size,
        threads=threads,
        watch=lambda pieces: watch(float(done[pieces])),
        watch_seconds=0.01,  # most estimates take less than a second
    )
    size = sampler.cells.d.size
    sums, log_scale, log_bound = np.zeros((size, SUMS)), np.zeros(size), np.full(size, np.inf)
    for place, found in runner.snapshot()[1].sums.items():
        tilt = sampler.tilts[place]
        sums[tilt.rows] = found
        log_scale[tilt.rows], log_bound[tilt.rows] = tilt.log_scale, tilt.log_bound
    return sums, log_scale, log_bound


def _statistics(sums: FloatArray, samples: int, log_scale: FloatArray) -> tuple[FloatArray, ...]:
    """Return the logarithm of the mean, its relative error, the skewness and the largest share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = sums[:, 0] / samples
        two, three = (sums[:, k] / samples / one ** (k + 1) for k in (1, 2))
        variance = np.maximum(two - 1.0, 0.0)
        third = three - 3.0 * two + 2.0
        error = np.where(one > 0.0, np.sqrt(variance / (samples - 1)), np.inf)
        skewness = np.where(variance > 1e-9, third / variance**1.5, 0.0)
        share = np.where(one > 0.0, sums[:, -1] / sums[:, 0], 1.0)
        return log_scale + np.log(one), error, skewness, share
