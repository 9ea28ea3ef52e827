"""Rare events: the probability that a neuron is pathological, by importance sampling.

A neuron is pathological if ``a V^2 > S`` with ``S = W_1^2 + ... + W_d^2 + beta B^2``. Counting sees
nothing of a probability of 1e-16. Here every hidden weight is drawn from its law *tilted* by
``exp(-kappa w^2)``, under which small sums are common, and the output weight is integrated out:

    p = E_Q[ Z(kappa)^d Z_B(kappa beta) exp(kappa S) P(a V^2 > S | S) ],  Z(k) = E[exp(-k W^2)],

for any ``kappa >= 0``, with Q the tilted law (exponential tilting: Siegmund, Ann. Statist. 4, 1976;
Asmussen and Glynn, *Stochastic Simulation*, 2007, ch. VI). Nothing but one-dimensional facts about
single weights enters, so the estimate can check what the exact formulas say about sums of them.

The best tilt balances the two varying factors, ``kappa = -(d/ds) log P(a V^2 > s)`` at the mean
of ``S`` under Q; for normal outputs that is ``1/(2a)`` or a little more. An efficient ``kappa`` may
be missed by a fraction of the standard deviation of ``S``, so tilts are rounded until
``log(1 + 2 kappa)`` is a whole multiple of ``2^-m``, with ``m`` from ``d`` alone. The same draws
serve all cells of one tilt: the sum after ``d`` draws is that of the cells with ``d`` inputs,
whatever their ``a``. An estimate depends on its own cell, the number of samples and the
seed, never on the other cells asked for, on threads or on the order of the work; but estimates of
different cells may depend on each other.
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
    watch: Callable[[float], None] | None = None,
) -> Estimate:
    """Estimate the probability that a neuron of a fresh network is pathological.

    Parameters
    ----------
    scheme : str or InitScheme
        Its weights must be independent.
    d, l : array_like of int
        Inputs and hidden neurons; they broadcast, and the cells have that shape.
    samples : int
        Weighted samples per cell, >= 2.
    seed : int
        The same seed gives the same samples for any set of cells.
    threads : int
        Workers; without influence on the result.
    watch : callable, optional
        Called now and then with the share of the work that is done; an exception ends it.

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
    Draws are the same on every IEEE machine; weights are rounded, in a fixed order, and use the
    platform's mathematical library for their constants, so the last digits may differ.

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
    watch: Callable[[float], None] | None = None,
) -> Estimate:
    """Estimate ``P(a V^2 > W_1^2 + ... + W_d^2 + beta B^2)``.

    Parameters
    ----------
    laws : (Law, Law)
        Of the hidden weights W and of the output weight V.
    d, a, beta : array_like
        Inputs, and the ratios of the variances of output and hidden weights, and of biases and
        hidden weights; they broadcast. ``a`` may be 0 or ``inf``.
    bias_law : Law, optional
        Of the bias B; None stands for ``beta = 0``.
    samples, seed, threads, watch
        As in `estimate`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        If an argument is out of its range.
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


# --- the work ------------------------------------------------------------------------------


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
    sampler: TiltedSampler, threads: int, watch: Callable[[float], None] | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return, per cell, the sums of the scaled weights, the log of the scale and of the bound."""
    efforts = sampler.efforts
    done = np.append(0.0, np.cumsum(efforts)) / max(efforts.sum(), 1.0)
    runner = Runner(sampler)
    runner.run(
        efforts.size,
        threads=threads,
        watch=lambda pieces: None if watch is None else watch(float(done[pieces])),
    )
    size = sampler.cells.d.size
    sums, log_scale, log_bound = np.zeros((size, SUMS)), np.zeros(size), np.full(size, np.inf)
    for place, found in runner.snapshot()[1].sums.items():
        tilt = sampler.tilts[place]
        sums[tilt.rows] = found
        log_scale[tilt.rows], log_bound[tilt.rows] = tilt.log_scale, tilt.log_bound
    return sums, log_scale, log_bound


def _statistics(sums: FloatArray, samples: int, log_scale: FloatArray) -> tuple[FloatArray, ...]:
    """Return log of the mean, its relative error, the skewness and the largest share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        one = sums[:, 0] / samples
        two, three = (sums[:, k] / samples / one ** (k + 1) for k in (1, 2))
        variance = np.maximum(two - 1.0, 0.0)
        third = three - 3.0 * two + 2.0
        error = np.where(one > 0.0, np.sqrt(variance / (samples - 1)), np.inf)
        skewness = np.where(variance > 1e-9, third / variance**1.5, 0.0)
        share = np.where(one > 0.0, sums[:, -1] / sums[:, 0], 1.0)
        return log_scale + np.log(one), error, skewness, share
