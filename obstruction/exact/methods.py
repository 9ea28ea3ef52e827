"""Choose the method that computes the exact values of a scheme, if there is one."""

from __future__ import annotations

from obstruction.exact.checks import FloatArray
from obstruction.exact.orthogonal import LARGEST_WIDTH
from obstruction.schemes import InitScheme, SchemeLike, as_scheme
from obstruction.schemes.laws import CONSTANT, NORMAL, ORTHOGONAL


class NoExactValue(ValueError):
    """The weights of a scheme have no formula here, mostly because they depend on each other."""


def method(scheme: SchemeLike) -> str:
    """Return the name of the method that computes the probabilities of a scheme.

    Returns
    -------
    str
        ``"F distribution"`` (normal weights, and no biases or normal ones of the same variance),
        ``"Craig's integral"`` (other schemes with normal output weights), ``"contour integral"``
        (bounded output weights; real integrals for few inputs), ``"real integral"`` (constant
        hidden weights), ``"certain"`` (a layer of zeros, so that probabilities are 0 or 1) or
        ``"none"`` (the weights of a layer depend on each other, and so do neurons; there may be a
        value for one neuron, see `pathological_probability`).

    Examples
    --------
    >>> method("kaiming_normal"), method("torch_kaiming_normal"), method("kaiming_uniform")
    ('F distribution', "Craig's integral", 'contour integral')
    """
    rule = as_scheme(scheme)
    hidden, output = rule.laws
    if not rule.independent:
        return "none"
    if 0.0 in (rule.hidden.scale, rule.output.scale):
        return "certain"
    if output == NORMAL:
        alike = rule.bias_law is None or rule.bias == rule.hidden
        return "F distribution" if hidden == NORMAL and alike else "Craig's integral"
    return "real integral" if hidden == CONSTANT else "contour integral"


LARGEST_INPUTS = 10**6
"""The largest d at which methods other than the F distribution are accurate."""


def check_inputs(scheme: InitScheme, d: FloatArray, name: str = "d") -> None:
    """Raise ValueError if the method of a scheme is not accurate for so many inputs."""
    limited = method(scheme) not in ("F distribution", "certain", "none")
    if limited and (d > LARGEST_INPUTS).any():
        raise ValueError(
            f"{name} = {d.max():,.0f}: exact values of scheme {scheme.label!r} go up to "
            f"{name} = {LARGEST_INPUTS:,} ({method(scheme)})"
        )


def has_exact(scheme: SchemeLike) -> bool:
    """Return whether a scheme has exact values for networks, that is, has independent weights.

    Examples
    --------
    >>> has_exact("kaiming_uniform"), has_exact("orthogonal")
    (True, False)
    """
    return method(scheme) != "none"


def has_neuron_exact(scheme: SchemeLike) -> bool:
    """Return whether `pathological_probability` has a value, as it also has for orthogonal weights.

    Examples
    --------
    >>> has_neuron_exact("kaiming_uniform"), has_neuron_exact("orthogonal")
    (True, True)
    """
    rule = as_scheme(scheme)
    unbiased = rule.bias_law is None
    return rule.independent or (rule.laws == (ORTHOGONAL, ORTHOGONAL) and unbiased)


def check_width(scheme: InitScheme, d: FloatArray, l: FloatArray) -> None:
    """Raise ValueError if the integral of orthogonal weights is not accurate for such a width."""
    wide = l[(l > d) & (l > LARGEST_WIDTH)]
    if wide.size:
        raise ValueError(
            f"l = {wide.max():,.0f}: exact values of scheme {scheme.label!r} go up to "
            f"l = {LARGEST_WIDTH:,} with more neurons than inputs"
        )


def exact_scheme(scheme: SchemeLike) -> InitScheme:
    """Return the scheme, or raise `NoExactValue` if its weights depend on each other."""
    rule = as_scheme(scheme)
    if not has_exact(rule):
        raise NoExactValue(
            f"scheme {rule.label!r} has no exact value for networks: the weights of a layer depend "
            "on each other, and the formulas need independent ones"
        )
    return rule
