"""The roles of the classes of ``torch.nn`` in an audit, found by the names of the classes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from obstruction.models.contents import Orientation

Role: TypeAlias = Literal["linear", "chain", "wrapper", "activation", "nothing", "barrier"]

_MODULES: Final = "torch.nn.modules."

_ROLES: Final[dict[str, Role]] = {
    "torch.nn.modules.linear.Linear": "linear",
    "torch.nn.modules.linear.NonDynamicallyQuantizableLinear": "linear",
    "torch.nn.modules.container.Sequential": "chain",
    "torch.nn.parallel.data_parallel.DataParallel": "wrapper",
    "torch.nn.parallel.distributed.DistributedDataParallel": "wrapper",
    "torch.optim.swa_utils.AveragedModel": "wrapper",
    "torch.nn.modules.linear.Identity": "nothing",
    "torch.nn.modules.flatten.Flatten": "nothing",
    **{f"torch.nn.modules.dropout.Dropout{axes}": "nothing" for axes in ("", "1d", "2d", "3d")},
    "torch.nn.modules.activation.MultiheadAttention": "barrier",
}

_REASONS: Final = {
    "batchnorm": "batch normalisation makes the outputs independent of the scale of the weights",
    "instancenorm": "normalisation makes the outputs independent of the scale of the weights",
    "normalization": "normalisation makes the outputs independent of the scale of the weights",
    "conv": "convolutions share their weights between positions",
    "rnn": "recurrent layers share their weights between steps",
    "transformer": "attention is no chain of fully connected layers",
    "activation": "attention is no chain of fully connected layers",
    "pooling": "pooling mixes neurons",
    "sparse": "an embedding is no fully connected layer",
    "dropout": "alpha dropout shifts its inputs",
}  # by the module in torch.nn.modules that defines the class


_GPT2: Final = re.compile(r"(^|\.)c_(fc|attn)\.weight$")


def customary(names: Iterable[str]) -> Orientation | None:
    """Return how weights of some names are usually stored, None if that cannot be told.

    Examples
    --------
    >>> customary(["fc1.weight"]), customary(["h.0.mlp.c_fc.weight"])
    ('out_in', None)
    """
    return None if any(map(_GPT2.search, names)) else "out_in"


def role(path: str) -> Role:
    """Return the role of a class, given by its module and name, in an audit.

    A ``"chain"`` applies its modules in order, and a ``"wrapper"`` its only module. The role
    ``"nothing"`` does not affect balances. Across a ``"barrier"`` no balance is kept; `reason`
    says why.

    Examples
    --------
    >>> role("torch.nn.modules.activation.ReLU"), role("my_project.Block")
    ('activation', 'barrier')
    """
    if path in _ROLES:
        return _ROLES[path]
    return "activation" if path.startswith(_MODULES + "activation.") else "barrier"


def reason(path: str) -> str:
    """Return why no balance is kept across a layer of this class.

    Examples
    --------
    >>> reason("torch.nn.modules.conv.Conv2d")
    'convolutions share their weights between positions'
    """
    if path.startswith(_MODULES):
        known = _REASONS.get(path.removeprefix(_MODULES).split(".")[0])
        if known is not None:
            return known
    return f"what {path.rpartition('.')[2][:100]!r} does with its inputs is not known"
