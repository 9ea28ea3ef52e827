"""The audit of a real network: which weights are frozen, and what training cannot reach."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, overload

import numpy as np

from obstruction import models
from obstruction.auditing.hidden_layers import STATUSES, HiddenLayer
from obstruction.auditing.learning import stuck_segments
from obstruction.auditing.live.arguments import (
    inputs_for,
    is_live,
    is_onnx,
    is_torch,
    may_run,
    refused_source,
    shortened,
)
from obstruction.auditing.live.law_report import LawReport
from obstruction.auditing.report import Report
from obstruction.models import (
    AdapterFound,
    Model,
    NoChain,
    NothingAuditable,
    Orientation,
    ReadOptions,
    UnreadableModel,
)
from obstruction.models.model import Layer, Link
from obstruction.models.norms import NeuronNorms, hidden_norms
from obstruction.schemes import InitScheme
from obstruction.tools.checks import check_choice, check_rtol
from obstruction.tools.words import counted
from obstruction.topology.chains import FrozenLayer, FrozenWeights, frozen_weights

REPAIR_MARGIN: Final = 0.1
"""The margin that a neuron has after it is multiplied by the factor in the report."""

FREE, PATHOLOGICAL, BOUNDARY, DEAD = range(len(STATUSES))

LOSSES: Final = ("cross_entropy",)
"""The losses under which conservation laws are sought."""


@overload
def audit(
    source: Mapping[str, Any] | tuple[Any, ...] | list[Any],
    activation: str | None = ...,
    layout: Orientation | None = ...,
    scheme: str | InitScheme | None = ...,
    rtol: float = ...,
    *,
    layers: Sequence[str] | None = ...,
    inputs: None = None,
    loss: str | None = ...,
    data: Any = ...,
    seed: int | None = ...,
) -> Report: ...


@overload
def audit(
    source: Any,
    activation: str | None = ...,
    layout: Orientation | None = ...,
    scheme: str | InitScheme | None = ...,
    rtol: float = ...,
    *,
    layers: Sequence[str] | None = ...,
    inputs: None = None,
    loss: str | None = ...,
    data: Any = ...,
    seed: int | None = ...,
) -> Report | LawReport: ...


@overload
def audit(
    source: Any,
    activation: str | None = ...,
    layout: Orientation | None = ...,
    scheme: str | InitScheme | None = ...,
    rtol: float = ...,
    *,
    layers: Sequence[str] | None = ...,
    inputs: Any,
    loss: str | None = ...,
    data: Any = ...,
    seed: int | None = ...,
) -> LawReport: ...


def audit(
    source: Any,
    activation: str | None = None,
    layout: Orientation | None = None,
    scheme: str | InitScheme | None = "auto",
    rtol: float = 1e-6,
    *,
    layers: Sequence[str] | None = None,
    inputs: Any = None,
    loss: str | None = None,
    data: Any = None,
    seed: int | None = None,
) -> Report | LawReport:
    """Find the frozen weights of a network and what training cannot reach because of them.

    A model that is given with example inputs is run, and the audit rests on the conservation laws
    that its gradients show (`obstruction.conservation_laws`), whatever its architecture is. Without
    them the layers of the source are read, which finds chains of fully connected layers. A PyTorch
    module is run too, as a chain must return what the module returns; if there is none, the audit
    rests on conservation laws, with inputs that follow from the first layer. With
    ``pip install 'obstruction[onnx-run]'`` an ONNX file is run, too, if there are `inputs` or if it
    is no such chain. It is run as it was exported: normalisations usually have constant statistics.

    Parameters
    ----------
    source : path, arrays or model
        A weight file (.safetensors, .pt, .pth, .ckpt, .pt2, .npz, .eqx, .onnx, .keras, .weights.h5,
        .h5; read without its framework and without executing anything in it), the index of a model
        in several files (``*.index.json``) or the folder that holds it, a ``torch.nn.Module``,
        program of ``torch.export`` or state dict, a Keras model, a module of Equinox or nnx, a Flax
        or Haiku tree of parameters, a scikit-learn MLP, a sequence ``(W1, W2)`` or
        ``[W1, b1, W2, b2]`` of arrays, or the result of `obstruction.replay`.
    activation : str, optional
        The activation of the hidden layers, if the source does not say. It is held against a run of
        a PyTorch module, and so are the layers.
    layout : {"out_in", "in_out"}, optional
        How weight matrices are stored, if the source does not say.
    scheme : str, InitScheme or None
        The initialisation to compare with. "auto" recognises it from the weights; with None there
        is no comparison.
    rtol : float
        In [0, 1). A balance counts as zero ("boundary") if its absolute value is at most `rtol`
        times the larger of ``in²`` and ``out²``.
    layers : sequence of str, optional
        The names of the fully connected layers in forward order, if the source does not say.
    inputs : array, tuple or dict, optional
        Example inputs of a live model, which is a ``torch.nn.Module``, a Keras model, a pair
        ``(apply, params)`` of JAX or an ONNX file: one array, several positional inputs, or keyword
        inputs. Their shapes, types and ranges matter, their values do not.
    loss : {"cross_entropy"}, optional
        With `inputs`, or an ONNX file: the loss that is assumed. By default, findings hold for
        every loss.
    data : array, optional
        With `inputs`: the training inputs, samples along the first axis. What they do not span
        cannot move, and can freeze more weights. The model must begin with a dense layer.
    seed : int, optional
        With `inputs`: the seed of the random parameters and inputs of the search, 0 by default.

    Returns
    -------
    Report or LawReport
        A LawReport if there are `inputs`, or for a PyTorch module or ONNX file that is run as it is
        no chain of fully connected layers with ReLU or alike between them. Printing it shows what
        was found.

    Raises
    ------
    NothingAuditable
        If no hidden layer of a source that is read keeps a balance, or if it holds an adapter (such
        as LoRA) and no network; the message gives the reasons.
    UnreadableModel, ValueError
        If the source cannot be read safely, an argument is out of its range, or the source lacks
        a fact that an option must give; the message names the option.

    Notes
    -----
    Gradient flow conserves the balance ``‖in‖² − ‖out‖²`` of every neuron with a positively
    homogeneous activation (Nurisso et al. 2024, eq. 11 and App. E). The balances alone decide
    whether a weight is frozen: by Cor. 2 and Prop. 3 for one hidden layer, and by a cut criterion
    (docs/topology.md) for chains of any depth.

    Examples
    --------
    >>> import numpy as np
    >>> report = audit((np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[1.0, -2.0]])), "relu")
    >>> report.neurons["status"].tolist()
    ['free', 'pathological']
    """
    tolerance = check_rtol(rtol)
    asked = [value is not None for value in (loss, data, seed)]
    if inputs is not None or (is_onnx(source) and any(asked)):
        _check_source(source)
        _check_told(activation, layout, layers, scheme)
        return _run(source, inputs, loss, data, tolerance, seed)
    for name, value in (("loss", loss), ("data", data), ("seed", seed)):
        if value is not None:
            raise ValueError(
                f"{name}: is for a live model that is run, which needs inputs= as well"
            )
    if isinstance(source, tuple) and is_live(source):
        return _run(source, inputs, loss, data, tolerance, seed)  # which needs inputs
    told = layers is not None or activation is not None
    model: Model | None = None
    try:
        model = models.read(source, ReadOptions(activation, layout, layers))
        _check_auditable(model)
        if is_torch(source) and not told:
            _check_complete(model)
        if may_run(source) and not told and layout is None and scheme in ("auto", None):
            _check_complete(model)
            _check_whole(model)
    except AdapterFound:
        raise
    except (NoChain, NothingAuditable) as error:
        if may_run(source):
            found = _tried(source, error, model, tolerance)
            if found is not None:
                return found
        elif is_torch(source):
            _check_told(activation, layout, layers, scheme)
            return _run(source, inputs_for(source, error), None, None, tolerance, None)
        if model is None or not model.segments():
            raise
    norms = hidden_norms(model)
    _check_norms(model, norms)
    from obstruction.auditing.origin import luck  # exact values, which live models do not need

    triples = list(zip(model.layers, model.layers[1:], model.links, strict=False))
    hidden = [HiddenLayer(**_description(*triple)) for triple in triples]
    components = effective = 1
    for segment in model.segments():
        links = list(segment)[:-1]
        inside = [norm for i in links if (norm := norms[i]) is not None]
        unit = max(float(max(n.incoming.max(), n.outgoing.max())) for n in inside) or 1.0
        frozen = _frozen(model, segment, inside, tolerance, unit)
        components *= frozen.components
        effective *= frozen.effective_components
        for i, norm, facts in zip(links, inside, frozen.layers, strict=True):
            with np.errstate(over="ignore"):
                facts = replace(facts, out_bottleneck=facts.out_bottleneck * unit * unit)
            hidden[i] = _judged(*triples[i], norm, facts)
    flagged = hidden[-1].count("pathological")
    stuck = stuck_segments(model, norms)
    lucky = luck.assess(model, flagged, scheme=scheme)
    path = isinstance(source, (str, os.PathLike))
    name = Path(os.fsdecode(source)).absolute().name if path else type(source).__name__
    assessed = None if stuck and scheme == "auto" else lucky
    return Report(name, model, tuple(hidden), components, effective, assessed, tolerance, stuck)


def _run(model: Any, inputs: Any, loss: Any, data: Any, rtol: float, seed: Any) -> LawReport:
    """Return the report of a model that is run."""
    from obstruction.auditing.live.live_audit import audit_live

    return audit_live(
        model,
        inputs,
        loss=None if loss is None else check_choice("loss", loss, LOSSES),
        data=data,
        rtol=rtol,
        seed=0 if seed is None else seed,
    )


def _tried(path: Any, error: Exception, model: Model | None, rtol: float) -> LawReport | None:
    """Return the report of an ONNX file that is run; None if it cannot be, but can be read."""
    try:
        return _run(path, None, None, None, rtol, None)
    except ValueError as failure:
        if model is not None and model.segments():
            return None
        raise type(error)(f"{shortened(error)}. Running it: {failure}") from None


def _check_source(source: Any) -> None:
    """Raise ValueError if a source cannot be run."""
    if is_onnx(source):
        return
    if isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"inputs: of files, only .onnx is run, and {source} is read; load the model and pass "
            "it instead"
        )
    if not is_live(source):
        raise refused_source(source)


def _check_told(activation: Any, layout: Any, layers: Any, scheme: Any) -> None:
    """Raise ValueError if something is told that does not go together with a run."""
    told = {"activation": activation, "layout": layout, "layers": layers}
    for name, value in told.items():
        if value is not None:
            raise ValueError(
                f"{name} = {value!r}: the gradients of the model decide, as it is run; leave it out"
            )
    if scheme not in ("auto", None):
        raise ValueError(
            f"scheme = {scheme!r}: an initialisation is compared with the weights of a chain of "
            "layers, not with a model that is run; leave out scheme="
        )


def _check_complete(model: Model) -> None:
    """Raise NothingAuditable if the balances of single neurons are not all that a module keeps."""
    if any(link.reason is None and link.activation == "linear" for link in model.links):
        raise NothingAuditable("layers with nothing between them keep a matrix")
    if "softmax" in model.ending and model.layers[-1].outputs == 2:
        raise NothingAuditable("a softmax binds the weights of two outputs to each other")


def _check_whole(model: Model) -> None:
    """Raise NothingAuditable if a part of a file is no chain of layers that keep balances."""
    if model.skipped or any(link.reason is not None for link in model.links):
        raise NothingAuditable("a part of the file is no chain of fully connected layers")


def _check_auditable(model: Model) -> None:
    """Raise NothingAuditable, with all reasons, if no hidden layer can be audited."""
    if model.segments():
        return
    reasons = [f"{name}: {reason}" for name, reason in model.skipped]
    reasons += [
        f"neurons of {layer.name}: {link.reason}"
        for layer, link in zip(model.layers, model.links, strict=False)
    ]
    if len(model.layers) < 2:
        count = len(model.layers)
        reasons.insert(0, f"{counted(count, 'fully connected layer')} in a chain, two are needed")
    raise NothingAuditable(
        f"nothing in this model ({model.format}) can be audited: " + "; ".join(reasons)
    )


def _check_norms(model: Model, norms: Sequence[NeuronNorms | None]) -> None:
    for layer, norm in zip(model.layers, norms, strict=False):
        if norm is not None and not np.isfinite([norm.incoming, norm.outgoing]).all():
            raise UnreadableModel(
                f"{layer.name}: the weights of its neurons are too large, their norm overflows"
            )


def _frozen(
    model: Model, segment: range, norms: Sequence[NeuronNorms], rtol: float, unit: float
) -> FrozenWeights:
    """Return which weights are frozen in a run of audited layers.

    Norms are divided by ``unit``, so that their squares do not overflow.
    """
    layers = [model.layers[i] for i in segment]
    balances, tolerances = [], []
    for norm in norms:
        into, out = norm.incoming / unit, norm.outgoing / unit
        balances.append((into - out) * (into + out))
        tolerances.append(rtol * np.maximum(into, out) ** 2)
    return frozen_weights(
        balances,
        inputs=layers[0].inputs,
        outputs=layers[-1].outputs,
        biases=[layer.bias is not None for layer in layers[:-1]],
        tolerances=tolerances,
    )


def _judged(
    layer: Layer, following: Layer, link: Link, norms: NeuronNorms, frozen: FrozenLayer
) -> HiddenLayer:
    """Return the neurons between two layers with their status and the factors that repair them."""
    into, out = norms.incoming, norms.outgoing
    status = np.full(layer.outputs, FREE, dtype=np.int8)
    status[frozen.out_boundary] = BOUNDARY
    status[frozen.out_frozen] = PATHOLOGICAL
    status[into == 0.0] = DEAD
    scale = np.ones(layer.outputs)
    flagged = (status == PATHOLOGICAL) | (status == BOUNDARY)
    scale[flagged] = np.sqrt((1.0 + REPAIR_MARGIN) * out[flagged] / into[flagged])
    alone = into >= (1.0 + REPAIR_MARGIN) * out  # neurons of other layers freeze it
    scale[(status == DEAD) | (flagged & alone)] = np.nan
    single = following.outputs == 1
    sign = np.sign(following.weight[0]).astype(np.int8) if single else np.zeros_like(status)
    return HiddenLayer(
        **_description(layer, following, link),
        in_norm=into,
        out_norm=out,
        sign=sign,
        status=status,
        out_frozen=frozen.out_frozen,
        in_frozen=frozen.in_frozen,
        bottleneck=frozen.out_bottleneck,
        scale=scale,
    )


def _description(layer: Layer, following: Layer, link: Link) -> dict[str, Any]:
    return {
        "name": layer.name,
        "following": following.name,
        "inputs": layer.inputs,
        "neurons": layer.outputs,
        "outputs": following.outputs,
        "activation": link.activation,
        "bias": layer.bias is not None,
        "reason": link.reason,
    }
