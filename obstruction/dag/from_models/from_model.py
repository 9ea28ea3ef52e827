"""Real models as networks on graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from obstruction import models
from obstruction.dag.from_models.assembling import ModelNetwork
from obstruction.dag.from_models.from_operations import from_operations, has_branches
from obstruction.dag.network import Network
from obstruction.models import (
    Layer,
    Model,
    NoChain,
    NothingAuditable,
    Orientation,
    ReadOptions,
)
from obstruction.models.contents import Contents, Dense
from obstruction.models.options import NO_OPTIONS


def from_model(
    source: Any,
    activation: str | None = None,
    layout: Orientation | None = None,
    layers: Sequence[str] | None = None,
) -> tuple[Network, NDArray[np.float64]]:
    """Return the fully connected layers of a model as a network, and its weights.

    Parameters
    ----------
    source : path, arrays or model
        Everything that `obstruction.audit` reads. The layers of ONNX files and of Keras models and
        files may branch, and their outputs may be added or concatenated. So may those of a PyTorch
        module, as long as its balances and runs show which weights lead to which neurons.
    activation, layout, layers
        What the source does not say, as for `obstruction.audit`. With ``layers`` the named layers
        are read as a chain.

    Returns
    -------
    network : Network
        If the layers form a chain, it is the run of layers that the audit judges, as `Network.mlp`
        makes it, with nodes ``x0``, ``h1.0``, ``y0``. What comes before or behind, such as
        convolutions, is left out. If the model branches or has several such runs, nodes are named
        by their layers. The network ends where no balance is conserved, for instance at shared
        weights and at values that are added without weights of their own, and what comes behind
        begins with new inputs; `read_model` says where. All weights that are found to be frozen are
        frozen in the model too, in which there may be more. A node has a bias if the model has one.
    weights : ndarray of float64, shape (size,)
        The weights, which have the balances that the audit shows.

    Raises
    ------
    NothingAuditable
        If no hidden neuron keeps a balance; the message gives the reasons.
    UnreadableModel, ValueError
        If the source cannot be read safely, if an option must be given or contradicts the source,
        or if a source that does not say how its layers are connected and stored has several runs of
        them; the message names the option or the layer.

    Examples
    --------
    >>> arrays = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[3.0, 1.0]])
    >>> net, weights = from_model(arrays, activation="relu")
    >>> net.frozen_edges(weights)[0].edge
    ('h1.0', 'y0')
    """
    found = read_model(source, ReadOptions(activation, layout, layers))
    return found.network, found.weights


def read_model(source: Any, options: ReadOptions = NO_OPTIONS) -> ModelNetwork:
    """Return what `from_model` does, with the source's format, its layers and remarks."""
    contents = models.read_contents(source)
    models.check_is_network(contents)
    try:
        contents = contents.with_graph(options.activation, options.layers)
    except NoChain as reason:
        from obstruction.dag.from_models.from_laws import from_laws

        if options.layout is not None:
            raise ValueError(f"layout = {options.layout!r}: {reason}; leave it out") from None
        return from_laws(source, contents, reason)
    if options.layers is None and has_branches(contents):
        return _branching(contents, options)
    model = models.resolve(contents, options)
    layouts = [layer.layout for layer in _layers(contents)]
    if options.layers is None and len(model.segments()) > 1 and layouts and None not in layouts:
        return _branching(contents, options)
    return _chain(model)


def _branching(contents: Contents, options: ReadOptions) -> ModelNetwork:
    """Return the network of a source that holds a graph of operations."""
    if options.layout is not None:
        for dense in _layers(contents):
            if dense.layout != options.layout:
                raise ValueError(
                    f"layout = {options.layout!r}: {contents.format} stores {dense.name} "
                    f"{dense.layout}"
                )
    found = from_operations(contents, options)
    return found._replace(notes=(*contents.notes, *found.notes))


def _layers(contents: Contents) -> list[Dense]:
    """Return the layers in a graph of operations; none if the source has no graph."""
    operations = contents.graph.operations if contents.graph else ()
    return [step for one in operations for step in one.steps if isinstance(step, Dense)]


def _chain(model: Model) -> ModelNetwork:
    """Return the network of a model that has one run of layers to audit."""
    run = audited_run(model)
    net = Network.mlp(
        [run[0].inputs, *(layer.outputs for layer in run)],
        hidden_bias=[layer.bias is not None for layer in run[:-1]],
        output_bias=run[-1].bias is not None,
    )
    biases = [None if layer.bias is None else layer.bias.astype(np.float64) for layer in run]
    weights = net.from_layers([layer.weight.astype(np.float64) for layer in run], biases)
    names, passed = tuple(layer.name for layer in run), (*model.notes, *_passed_over(model))
    return ModelNetwork(net, weights, model.format, names, passed)


def audited_run(model: Model) -> tuple[Layer, ...]:
    """Return the layers of the only run in which all neurons are audited.

    Raises
    ------
    NothingAuditable
        If there is none.
    ValueError
        If there are several.
    """
    segments = model.segments()
    if len(segments) == 1:
        return tuple(model.layers[i] for i in segments[0])
    if not segments:
        raise NothingAuditable(
            f"this model ({model.format}) has no two fully connected layers with a positively "
            f"homogeneous activation between them: {_reasons(model)}"
        )
    runs = [f"{model.layers[run[0]].name} to {model.layers[run[-1]].name}" for run in segments]
    raise ValueError(
        f"layers = None: this model ({model.format}) has several runs of layers "
        f"({', '.join(runs)}; {_reasons(model)}), name those of one"
    )


def _reasons(model: Model) -> str:
    """Return what was passed over and why, as a text."""
    passed = _passed_over(model)
    return "; ".join(passed) or f"it has {len(model.layers)} fully connected layers"


def _passed_over(model: Model) -> list[str]:
    reasons = [f"{name}: {reason}" for name, reason in model.skipped]
    reasons += [
        f"neurons of {layer.name}: {link.reason}"
        for layer, link in zip(model.layers, model.links, strict=False)
        if link.reason is not None
    ]
    return reasons
