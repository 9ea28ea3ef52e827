"""Initialisation schemes: rules that give every weight its law and its scale.

A two-layer network with ``d`` inputs, ``l`` hidden neurons and ``e`` outputs has hidden weights
``W1`` of shape ``(l, d)`` (fan-in ``d``, fan-out ``l``), optional hidden biases ``b1`` of shape
``(l,)``, and output weights ``W2`` of shape ``(e, l)`` (fan-in ``l``, fan-out ``e``). A scheme
gives each of these a law and a variance that depends on the fans. Two ratios of variances decide
how likely neurons are pathological: ``a = Var W2 / Var W1`` and, with biases,
``beta = Var b1 / Var W1``. "Variance" means the mean square throughout; all laws but the constant
one have mean 0.

Its modules may import tools only. They must never know how weights are drawn or counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from obstruction.schemes.registry import REGISTRY, Entry
from obstruction.schemes.rules import ZERO, InitScheme, LayerRule, Option
from obstruction.tools.checks import suggestion

__all__ = [
    "ZERO",
    "InitScheme",
    "LayerRule",
    "Option",
    "SchemeLike",
    "as_scheme",
    "as_schemes",
    "option_about",
    "scheme",
    "scheme_about",
    "scheme_names",
    "scheme_options",
    "scheme_origin",
]

SchemeLike: TypeAlias = str | InitScheme


def scheme_names() -> tuple[str, ...]:
    """Return the names of all schemes.

    Examples
    --------
    >>> "kaiming_normal" in scheme_names()
    True
    """
    return tuple(REGISTRY)


def scheme_options(name: str) -> dict[str, Option]:
    """Return the options of a scheme with their defaults.

    Raises
    ------
    ValueError
        If no scheme has that name.

    Examples
    --------
    >>> scheme_options("xavier_normal")
    {'hidden_gain': 1.0, 'output_gain': 1.0}
    """
    return {option: spec.default for option, spec in _entry(name).options.items()}


def scheme_about(name: str) -> str:
    """Return a description of a scheme in one line."""
    return _entry(name).about


def scheme_origin(name: str) -> tuple[str, str]:
    """Return the framework that a scheme comes from, or "textbook", and its name there."""
    entry = _entry(name)
    return entry.framework, entry.api


def option_about(name: str, option: str) -> str:
    """Return a description of an option of a scheme in a few words."""
    return _entry(name).options[option].about


def scheme(name: str, **options: Any) -> InitScheme:
    """Return an initialisation scheme.

    Parameters
    ----------
    name : str
        A name from `scheme_names`, or a label, which is a name with options:
        ``"kaiming_normal:mode=fan_out,output_gain=0.5"``.
    **options
        Options of the scheme, see `scheme_options`. Most schemes take ``hidden_gain`` and
        ``output_gain`` (>= 0), which are factors on the standard deviations of the weights but not
        of the biases. ``kaiming_*`` take ``mode`` (``"fan_in"`` or ``"fan_out"``) and
        ``negative_slope``. Most schemes of frameworks take ``bias`` (``"default"``, ``"zero"`` or
        ``"none"``). Some truncated normal ones take ``truncation`` (``"corrected"`` or
        ``"uncorrected"``). ``mup``, ``ntk`` and ``mean_field`` take ``parametrization``
        (``"stored"`` or ``"effective"``).

    Returns
    -------
    InitScheme

    Raises
    ------
    ValueError
        If the name or an option is unknown (the message suggests the nearest), if a value is out
        of its range, if all weights of both layers would be zero, or if all hidden weights but not
        all hidden biases would be zero.

    Notes
    -----
    Textbook names follow PyTorch's formulas: `xavier_*` has variance ``2 / (fan_in + fan_out)``,
    `kaiming_*` has ``2 / ((1 + negative_slope²) · fan)``, `lecun_*` has ``1 / fan_in``, all
    without biases.

    Examples
    --------
    >>> scheme("kaiming_normal:mode=fan_out") == scheme("kaiming_normal", mode="fan_out")
    True
    """
    if not isinstance(name, str):
        raise ValueError(f"scheme = {name!r}: must be a name such as 'kaiming_normal'")
    name, _, attached = name.partition(":")
    given = {**_parse_options(name, attached), **options}
    entry = _entry(name)
    for option in given:
        if option not in entry.options:
            raise ValueError(
                f"scheme {name!r} has no option {option!r}{suggestion(option, entry.options)}; "
                f"it takes {', '.join(entry.options)}"
            )
    values: dict[str, Option] = {
        option: spec.read(option, given[option]) if option in given else spec.default
        for option, spec in entry.options.items()
    }
    rules = entry.build(values)
    hidden, output = _gained(rules.hidden, values, "hidden_gain"), rules.output
    output = _gained(output, values, "output_gain")
    if hidden.scale == 0.0 and output.scale == 0.0:
        raise ValueError(
            f"scheme {name!r}: hidden and output weights would both be all zeros; "
            "one of the two scales must be positive"
        )
    if hidden.scale == 0.0 and rules.bias is not None and rules.bias.scale > 0.0:
        raise ValueError(
            f"scheme {name!r}: the hidden weights would be all zeros, but the hidden biases would "
            "not; the scale of the weights must be positive, or the biases must be zero"
        )
    changed = tuple((k, v) for k, v in values.items() if v != entry.options[k].default)
    return InitScheme(name, changed, hidden, output, rules.bias)


def as_scheme(value: SchemeLike) -> InitScheme:
    """Return ``value`` itself if it is a scheme, or the scheme of that name or label."""
    return value if isinstance(value, InitScheme) else scheme(value)


def as_schemes(values: SchemeLike | Iterable[SchemeLike]) -> tuple[InitScheme, ...]:
    """Return one scheme or several schemes as a tuple.

    Raises
    ------
    ValueError
        If there is no scheme, or one is unknown or given twice.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = (values,)
    schemes = tuple(as_scheme(value) for value in values)
    if not schemes:
        raise ValueError("schemes = []: must name at least one scheme")
    labels = [one.label for one in schemes]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ValueError(
            f"schemes: {', '.join(twice)} given more than once; each scheme must be given once"
        )
    return schemes


def _gained(rule: LayerRule, values: Mapping[str, Option], option: str) -> LayerRule:
    return replace(rule, scale=rule.scale * float(values.get(option, 1.0)) ** 2)


def _entry(name: str) -> Entry:
    try:
        return REGISTRY[name]
    except KeyError:
        raise ValueError(
            f"unknown scheme {name!r}{suggestion(name, REGISTRY)}; available: {', '.join(REGISTRY)}"
        ) from None


def _parse_options(name: str, text: str) -> dict[str, str]:
    label = f"{name}:{text}"
    options: dict[str, str] = {}
    for part in text.split(",") if text else []:
        option, equals, value = part.partition("=")
        if not option or not equals or not value:
            raise ValueError(f"scheme {label!r}: options must be name=value, not {part!r}")
        if option in options:
            raise ValueError(f"scheme {label!r}: option {option!r} is given twice")
        options[option] = value
    return options
