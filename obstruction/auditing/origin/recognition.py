"""Recognition of the initialisation schemes from which weights can have been drawn.

A scheme is a hypothesis, which gives every weight matrix and every vector of hidden biases a law
and a variance. `obstruction.auditing.origin.tensor_tests` tests each tensor against them. The
p-value of a scheme is the smallest p-value of all tests times their number (Bonferroni). The true
scheme is therefore excluded with probability at most ``level``, whatever the size of the network.

Tests cannot find everything: normal weights without biases that training has moved by less than
about 15 % can still fit the scheme from which they were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from obstruction.auditing.origin.tensor_tests import CERTAIN, Finding, TensorSample, compare
from obstruction.models.model import Model
from obstruction.schemes import (
    InitScheme,
    LayerRule,
    SchemeLike,
    as_schemes,
    scheme,
    scheme_names,
    scheme_options,
)
from obstruction.tools.checks import check_probability

_OTHERS: Final = (
    "kaiming_normal:mode=fan_out",
    "kaiming_uniform:mode=fan_out",
    "torch_kaiming_normal:mode=fan_out",
    "torch_kaiming_uniform:mode=fan_out",
    "torch_kaiming_normal:mode=fan_out,bias=zero",
    "torch_kaiming_uniform:mode=fan_out,bias=zero",
    "keras_he_normal:truncation=uncorrected",
    "keras_glorot_normal:truncation=uncorrected",
    "sklearn_mlp:activation=logistic",
    "ntk:bias_std=1",
)
"""Candidates besides those with default options, ``bias=zero`` or ``bias=none``."""

_RELU_GAIN: Final = math.sqrt(2.0)
"""The gain for ReLU, which users often pass to ``xavier_*_`` and ``orthogonal_``."""

_OPTION_COST: Final = 3.0
"""How much an option lowers the log-likelihood when schemes are ordered. A common scheme thereby
comes before a rare one if the weights fit both equally well."""


@dataclass(frozen=True)
class Fit:
    """A scheme from which the weights of a network can have been drawn.

    Attributes
    ----------
    scheme : InitScheme
        The scheme. If several are the same for this network, it is the one with the fewest
        options.
    labels : tuple of str
        The labels of all schemes that are the same for this network, that of `scheme` first.
    p_value : float
        The smallest p-value of all tests times their number, at most 1.
    log_likelihood : float
        The log-likelihood of the tested values, inf if the scheme has an orthogonal matrix.
    """

    scheme: InitScheme
    labels: tuple[str, ...]
    p_value: float
    log_likelihood: float


class Misfit(NamedTuple):
    """The p-value of a scheme as in `Fit`, and the finding of the test that decided it."""

    p_value: float
    reason: str


def candidates() -> tuple[InitScheme, ...]:
    """Return the schemes that `recognise` tries by default.

    These are all named schemes except ``custom``, with their default options, with zero biases and
    without biases, and a few schemes with other common options.
    """
    found = []
    for name in scheme_names():
        if name == "custom":
            continue
        found.append(scheme(name))
        if "bias" in scheme_options(name):
            zero, none = (scheme(name, bias=bias) for bias in ("zero", "none"))
            found += [none] if zero.bias == found[-1].bias else [zero, none]
    found += [scheme(label) for label in _OTHERS]
    for name in ("xavier_normal", "xavier_uniform"):
        found.append(scheme(name, hidden_gain=_RELU_GAIN))
        found.append(scheme(f"torch_{name}", hidden_gain=_RELU_GAIN))
    # Orthogonal weights in nn.Linear, whose biases stay as they were.
    for orthogonal in (scheme("orthogonal"), scheme("orthogonal", hidden_gain=_RELU_GAIN)):
        found += [orthogonal, replace(orthogonal, bias=scheme("torch_linear").bias)]
    return tuple(found)


def recognise(
    model: Model,
    *,
    level: float = 1e-3,
    schemes: SchemeLike | Iterable[SchemeLike] | None = None,
) -> tuple[Fit, ...]:
    """Return the schemes from which the weights of a network can have been drawn.

    Parameters
    ----------
    model : Model
        The network. Only layers next to audited neurons are tested. The last layer of the model
        counts as the output layer of a scheme and all others as hidden layers. Output biases are
        not tested, because they enter no balance.
    level : float
        The largest probability with which the true scheme is excluded, between 0 and 1.
    schemes : schemes or labels, optional
        The schemes to try, by default `candidates`.

    Returns
    -------
    tuple of Fit
        The likeliest first. Schemes that give all tensors of this network the same laws and
        variances are one fit. The tuple is empty if the weights fit no scheme, as after training.

    Raises
    ------
    ValueError
        If the level is not between 0 and 1, or a scheme is unknown.

    Notes
    -----
    A scheme without biases also fits hidden biases that are all zero: they change no balance.
    """
    level = check_probability("level", level)
    tried = candidates() if schemes is None else as_schemes(schemes)
    tensors = _tensors(model)
    if not tensors:
        return ()
    biased = any(tensor.role == "bias" and tensor.sample is not None for tensor in tensors)
    groups: dict[Any, list[InitScheme]] = {}
    for one in sorted(
        tried, key=lambda one: (_cost(one), one.has_bias != biased, len(one.options))
    ):
        groups.setdefault(tuple(tensor.key(one) for tensor in tensors), []).append(one)
    fits = []
    for alike in groups.values():
        found, likelihood = _misfit(alike[0], tensors)
        if found.p_value >= level:
            labels = tuple(dict.fromkeys(_same_biases(alike, biased)))
            fits.append(Fit(alike[0], labels, found.p_value, likelihood))
    return tuple(sorted(fits, key=lambda fit: _cost(fit.scheme) - fit.log_likelihood))


def misfit(model: Model, scheme: SchemeLike) -> Misfit:
    """Return the p-value of a scheme and the finding of the test that decided it.

    The tested layers are those of `recognise`.
    """
    (rule,) = as_schemes(scheme)
    return _misfit(rule, _tensors(model))[0]


@dataclass(frozen=True)
class _Tensor:
    """A weight matrix or the hidden biases of a layer; ``sample`` is None without biases."""

    name: str
    role: str
    sample: TensorSample | None
    fans: tuple[NDArray[np.float64], NDArray[np.float64]]  # fan-in and fan-out

    def rule(self, scheme: InitScheme) -> LayerRule | None:
        rules = {"hidden": scheme.hidden, "output": scheme.output, "bias": scheme.bias}
        return rules[self.role]

    def variance(self, rule: LayerRule) -> float:
        return float(rule.variance(*self.fans))

    def key(self, scheme: InitScheme) -> tuple[str, str]:
        """Return a key that is equal for two schemes if they are the same for this tensor."""
        rule = self.rule(scheme)
        if rule is None or rule.scale == 0.0:  # the same if the tensor exists
            return ("zero" if rule is not None and self.sample is None else "none"), ""
        return rule.law.name, f"{self.variance(rule):.12g}"

    def compare(self, scheme: InitScheme) -> tuple[list[Finding], float]:
        """Return the findings of all tests and the log-likelihood."""
        rule = self.rule(scheme)
        if self.sample is None:
            found = [] if rule is None else [Finding(0.0, lambda: f"{self.name} are missing")]
            return found, 0.0
        if rule is not None and rule.scale > 0.0:
            return compare(self.sample, rule.law, self.variance(rule))
        found = [] if self.sample.zero else [Finding(0.0, lambda: f"{self.name} are not zero")]
        return found, 0.0


def _tensors(model: Model) -> list[_Tensor]:
    """Return the tensors that enter balances, in forward order."""
    found = []
    for part in model.segments():
        for i in part:
            layer = model.layers[i]
            fans = np.asarray(float(layer.inputs)), np.asarray(float(layer.outputs))
            weights, biases = (f"the {word} of {layer.name!r}" for word in ("weights", "biases"))
            following = None if i == part[-1] else model.layers[i + 1].weight
            role = "output" if i == len(model.layers) - 1 else "hidden"
            sample = TensorSample(weights, layer.weight, following)
            found.append(_Tensor(weights, role, sample, fans))
            if i != part[-1]:
                bias = None if layer.bias is None else TensorSample(biases, layer.bias)
                found.append(_Tensor(biases, "bias", bias, fans))
    return found


def _misfit(scheme: InitScheme, tensors: list[_Tensor]) -> tuple[Misfit, float]:
    findings: list[Finding] = []
    likelihood = 0.0
    for tensor in tensors:
        found, part = tensor.compare(scheme)
        findings += found
        likelihood += part
        if any(finding.p_value < CERTAIN for finding in found):
            break  # the minimum over all tests cannot rise again
    if not findings:  # all tensors are zero, as the scheme says
        return Misfit(1.0, "nothing is amiss"), likelihood
    worst = min(findings, key=lambda finding: finding.p_value)
    return Misfit(min(1.0, worst.p_value * len(findings)), worst.reason()), likelihood


def _cost(scheme: InitScheme) -> float:
    return _OPTION_COST * sum(option != "bias" for option, _ in scheme.options)


def _same_biases(schemes: list[InitScheme], biased: bool) -> Iterator[str]:
    """Yield the labels of schemes except those that differ only in biases the network lacks."""
    for i, one in enumerate(schemes):
        if i == 0 or one.has_bias == biased or not one.options:
            yield one.label
