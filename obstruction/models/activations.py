"""Names of activations, and which activations allow a neuron to be rescaled."""

from __future__ import annotations

import difflib
from typing import Final

HOMOGENEOUS: Final = ("relu", "leaky_relu", "prelu", "linear")
"""Canonical names of the activations that are positively homogeneous: ``f(a x) = a f(x)`` for all
``a > 0``. Gradient flow keeps the balance of a neuron with such an activation."""

_SPELLINGS: Final = {
    "relu": ("relu", "torch.relu", "rectify", "rectifier"),
    "leaky_relu": ("leakyrelu", "leaky"),
    "prelu": ("prelu",),
    "linear": ("linear", "identity", "none"),
}

_OTHERS: Final = {
    "relu6": ("relu6",),
    "tanh": ("tanh", "hardtanh", "tanhshrink"),
    "sigmoid": ("sigmoid", "logistic", "hardsigmoid", "logsigmoid"),
    "gelu": ("gelu", "quickgelu", "geluapproximate", "gelutanh", "gelunew"),
    "silu": ("silu", "swish", "hardswish", "hardsilu", "mish"),
    "elu": ("elu", "celu", "selu"),
    "softplus": ("softplus", "softsign", "exponential", "exp"),
    "softmax": ("softmax", "logsoftmax", "sparsemax"),
    "glu": ("glu", "geglu", "swiglu", "reglu"),
    "threshold": ("threshold", "hardshrink", "softshrink", "thresholdedrelu"),
    "rrelu": ("rrelu",),
    "squared_relu": ("squaredrelu", "relusquared", "relu2"),
    "sin": ("sin", "sine", "cos"),
}

_REASONS: Final = {
    "rrelu": "rrelu draws its slope anew at every step",
    "squared_relu": "squared_relu is homogeneous of degree 2, for which another balance is kept",
    "softmax": "softmax mixes the neurons, so none can be rescaled alone",
    "glu": "a gated unit multiplies neurons with each other",
}

_KNOWN: Final = {
    spelling: name
    for table in (_SPELLINGS, _OTHERS)
    for name, spellings in table.items()
    for spelling in spellings
}


def canonical(name: str) -> str:
    """Return the canonical name of an activation, or the given name if it is unknown.

    Examples
    --------
    >>> canonical("LeakyReLU"), canonical("torch.nn.ReLU"), canonical("my_activation")
    ('leaky_relu', 'relu', 'my_activation')
    """
    last = name.strip().split(".")[-1].split("/")[-1]
    plain = "".join(letter for letter in last.lower() if letter.isalnum())
    return _KNOWN.get(plain, name)


def why_not(name: str) -> str | None:
    """Return why neurons with this activation keep no balance, or None if they keep it.

    Examples
    --------
    >>> why_not("relu")
    >>> why_not("Tanh")
    'tanh is not positively homogeneous: a neuron cannot be rescaled and keeps no balance'
    """
    known = canonical(name)
    if known in HOMOGENEOUS:
        return None
    if known in _REASONS:
        return _REASONS[known]
    if known in _OTHERS:
        spelled = name if name.islower() else known
        return (
            f"{spelled} is not positively homogeneous: "
            "a neuron cannot be rescaled and keeps no balance"
        )
    return f"the activation {name!r} is not known to be positively homogeneous"


def is_activation(name: str) -> bool:
    """Return whether a name is a spelling of a known activation.

    Examples
    --------
    >>> is_activation("LeakyReLU"), is_activation("my_activation")
    (True, False)
    """
    return canonical(name) in _SPELLINGS or canonical(name) in _OTHERS


def check_activation(name: str) -> str:
    """Return the canonical name of an activation that a user gives.

    Raises
    ------
    ValueError
        If the activation is unknown.
    """
    if isinstance(name, str) and is_activation(name):
        return canonical(name)
    near = difflib.get_close_matches(str(name).lower(), _KNOWN, 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    allowed = ", ".join((*_SPELLINGS, *_OTHERS))
    raise ValueError(f"activation = {name!r}: must be one of {allowed}{hint}")
