"""The exact values of all cells of a study."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction import exact
from obstruction.exact.methods import LARGEST_INPUTS, has_neuron_exact
from obstruction.exact.neurons import neuron_factors, pathological_factors
from obstruction.exact.neurons_to_network import log_some, log_value, some, value
from obstruction.exact.orthogonal import LARGEST_WIDTH
from obstruction.sampling.config import StudyConfig


class ExactValues(NamedTuple):
    """Exact probabilities of shape ``(schemes, nd, nl)``, NaN in cells that have none.

    Attributes
    ----------
    neuron, log_neuron : ndarray
        The probability that a neuron is pathological, and its natural logarithm.
    network, log_network : ndarray
        The probability that a network is obstructed, and its natural logarithm.
    """

    neuron: NDArray[np.float64]
    log_neuron: NDArray[np.float64]
    network: NDArray[np.float64]
    log_network: NDArray[np.float64]


@functools.lru_cache(maxsize=1)
def exact_values(config: StudyConfig) -> ExactValues:
    """Return the exact values of a study as read-only arrays. The last result is cached."""
    d, l = np.array(config.d)[:, None], np.array(config.l)[None, :]
    values = ExactValues(*(np.full(config.shape, np.nan) for _ in range(4)))
    for k, scheme in enumerate(config.schemes):
        if not exact.has_exact(scheme):
            narrow = slice(np.count_nonzero(l <= LARGEST_WIDTH))
            if has_neuron_exact(scheme):  # and its neurons depend on each other
                _, *factors = neuron_factors(scheme, d, l[:, narrow])
                values.neuron[k, :, narrow] = value(*factors)
                values.log_neuron[k, :, narrow] = log_value(*factors)
            continue
        within = slice(None)  # the inputs for which the method is accurate
        if exact.method(scheme) not in ("F distribution", "certain"):
            within = slice(np.count_nonzero(d <= LARGEST_INPUTS))
        width, *factors = pathological_factors(scheme, d[within], l)
        values.neuron[k, within] = value(*factors)
        values.log_neuron[k, within] = log_value(*factors)
        values.network[k, within] = some(width, *factors)
        values.log_network[k, within] = log_some(width, *factors)
    for array in values:
        array.flags.writeable = False
    return values
