"""The graph of operations of a Keras model, read from its description."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

from obstruction.models.contents import (
    Activation,
    Barrier,
    Dense,
    Operation,
    OperationGraph,
    Step,
    Tensor,
)
from obstruction.models.operations.graphs import operation_graph
from obstruction.models.readers.keras import layers as keras_layers
from obstruction.models.readers.keras.config import (
    Call,
    Place,
    Reference,
    call_of,
    class_name_of,
    class_of,
    config_of,
    has_graph,
    is_custom,
    is_new,
    layers_of,
    name_of,
    references_in,
)

Find: TypeAlias = Callable[[Place], tuple[str, ...]]
"""Returns the names of a layer's tensors, weights before biases; ValueError if not found."""

_MOST_OPERATIONS: Final = 20_000
"""How many operations a graph may have, as a small file can describe very many."""


def graph_of(
    class_name: str,
    config: Mapping[str, Any],
    find: Find,
    tensors: Mapping[str, Tensor],
    frozen: Collection[str] = (),
) -> OperationGraph | None:
    """Return the operations of a model, None if it is subclassed and its description has no graph.

    Parameters
    ----------
    class_name : str
        The class of the model.
    config : mapping
        Its configuration, as from ``model.get_config()``.
    find : callable
        Returns the names of the tensors of a layer by its place.
    tensors : mapping of str to Tensor
        The tensors of the model.
    frozen : collection of str
        The names of tensors that training leaves as they are, apart from those of layers that the
        configuration itself says are not trainable.

    Raises
    ------
    ValueError
        If the configuration contradicts itself or the tensors.
    """
    if not has_graph(class_name, config):
        return None
    reading = _Reading(find, tensors, frozen)
    call = Call((Reference("", 0, 0),), given=("input",))
    results = reading.model(class_name, config, (), call, True)
    return operation_graph(
        reading.operations,
        results,
        lambda layer: not reading.elsewhere.isdisjoint({layer.weight, layer.bias}),
    )


class _Reading:
    """Collects the operations of a model and of the models that are nested in it."""

    def __init__(self, find: Find, tensors: Mapping[str, Tensor], frozen: Collection[str]) -> None:
        self.find, self.tensors, self.frozen = find, tensors, frozen
        self.operations: list[Operation] = []
        self.elsewhere: set[str] = set()  # tensors of layers whose effect is not known
        self._scopes = itertools.count()
        self._calls: dict[Place, _Calls] = {}  # those of each model, read once

    def add(
        self,
        inputs: Sequence[Hashable],
        outputs: Sequence[Hashable],
        steps: Sequence[Step] = (),
        reshapes: bool = False,
    ) -> Sequence[Hashable]:
        """Add an operation and return the values that it makes."""
        if len(self.operations) == _MOST_OPERATIONS:
            raise ValueError(f"its graph has more than {_MOST_OPERATIONS:,} nodes")
        self.operations.append(Operation(tuple(inputs), tuple(outputs), tuple(steps), reshapes))
        return outputs

    def model(
        self, class_name: str, config: Mapping[str, Any], under: Place, call: Call, trained: bool
    ) -> Sequence[Hashable]:
        """Add the operations of a model that is applied to values, and return its results."""
        trained = trained and config.get("trainable") is not False
        scope = next(self._scopes)
        if class_name != "Sequential":
            if under not in self._calls:
                self._calls[under] = _Calls(config)
            return self.functional(self._calls[under], scope, under, call, trained)
        made: Sequence[Hashable] = call.given
        for i, layer in enumerate(layers_of(config)):
            one = Call(tuple(Reference("", 0, k) for k in range(len(made))), given=tuple(made))
            made = self.layer(layer, under, one, [(scope, i)], trained)
        return made

    def functional(
        self, calls: _Calls, scope: int, under: Place, call: Call, trained: bool
    ) -> Sequence[Hashable]:
        """Add the operations of a Functional model, and return its results."""

        def values_of(references: Iterable[Reference]) -> tuple[Hashable, ...]:
            return tuple((scope, *one[:3]) for one in references)

        starts = [one.layer for one in calls.starts]
        given: Sequence[Hashable] = call.given if under else starts
        if len(starts) != len(given):
            raise ValueError(f"{under[-1]!r} takes {len(starts)} inputs and is given {len(given)}")
        if call.keys is not None and not calls.has_keys:  # Keras looks for the names of the inputs
            named = dict(zip(call.keys, given, strict=True))
            if named.keys() != set(starts):
                raise ValueError(f"{under[-1]!r} is given inputs of other names than its own")
            given = [named[name] for name in starts]
        for name, value, start in zip(starts, given, values_of(calls.starts), strict=True):
            if under or not calls.of.get(name):
                self.add([value], [start])
        for name, layer in calls.layers.items():
            for i, one in enumerate(calls.of[name]):
                if not one.references:
                    raise ValueError(f"it does not say what the layer {name!r} is applied to")
                one = replace(one, given=values_of(one.references))
                used = sorted(calls.used.get((name, i), ()))
                outputs = values_of(Reference(name, i, tensor) for tensor in used)
                made = self.layer(layer, under, one, outputs, trained)
                if made is not outputs:  # the layer is a model, whose results have other names
                    if used and used[-1] >= len(made):
                        raise ValueError(f"the layer {name!r} has no output {used[-1]}")
                    for tensor, output in zip(used, outputs, strict=True):
                        self.add([made[tensor]], [output])
        return values_of(calls.results)

    def layer(
        self,
        layer: Mapping[str, Any],
        under: Place,
        call: Call,
        outputs: Sequence[Hashable],
        trained: bool,
    ) -> Sequence[Hashable]:
        """Add a layer that makes these outputs, or a nested model; return the values it makes."""
        kind, config, place = class_name_of(layer), config_of(layer), (*under, name_of(layer))
        name, trained = "/".join(place), trained and config.get("trainable") is not False
        if has_graph(kind, config) and not is_custom(layer):
            return self.model(kind, config, place, call, trained)
        steps: Sequence[Step] = []
        if is_custom(layer):
            own = f"{kind} is a layer of the user's own, whose code is not read"
            kind, steps = "", [Barrier(name, own)]
        elif (operation := keras_layers.as_operation(layer, call)) is not None:
            kind, arguments = operation
            steps = keras_layers.steps_of_operation(kind, arguments, name, call)
        else:
            steps = self.steps_of(kind, config, place, call, trained)
        if steps and all(isinstance(step, Barrier) for step in steps):
            with contextlib.suppress(ValueError):  # what it does with its weights is not known
                self.elsewhere.update(self.find(place))
        return self.add(call.given, outputs, steps, kind in keras_layers.RESHAPED)

    def steps_of(
        self, kind: str, config: Mapping[str, Any], place: Place, call: Call, trained: bool
    ) -> Sequence[Step]:
        """Return the steps of a layer that is one of Keras's own."""
        name, inner = "/".join(place), config.get("layer")
        if kind == "TimeDistributed" and isinstance(inner, dict) and not is_custom(inner):
            applied = class_name_of(inner)
            kind, config = (applied, config_of(inner)) if applied == "Dense" else (kind, config)
        if kind == "Dense" and len(call.references) > 1:
            return [Barrier(name, keras_layers.SEVERAL)]
        if kind == "Dense":
            return self.dense(config, place, trained)
        steps = keras_layers.steps_of_layer(kind, config, name, call)
        if kind == "PReLU" and steps == [Activation(kind)] and (names := self.find(place)):
            slopes = self.tensors[names[0]].array
            if slopes.size and (slopes == slopes.flat[0]).all():
                return [Activation(kind, float(slopes.flat[0]) or 0.0)]
        return steps

    def dense(self, config: Mapping[str, Any], place: Place, trained: bool) -> list[Step]:
        """Return the steps of a fully connected layer."""
        name = "/".join(place)
        if config.get("lora_rank"):
            return [Barrier(name, "an adapter (LoRA) is trained in place of these weights")]
        if config.get("quantization_config") or "Quantized" in class_of(config.get("dtype")):
            return [Barrier(name, "the weights are quantised")]
        names = self.find(place)
        biased = bool(config.get("use_bias", True))
        if len(names) < 1 + biased:
            raise ValueError(f"the weights of {name!r} are not where its layer says")
        weight, bias = names[0], names[1] if biased else None
        shape = self.tensors[weight].shape
        if len(shape) != 2 or config.get("units", shape[1]) != shape[1]:
            raise ValueError(f"the weights of {name!r} do not have the shape its layer says")
        if bias is not None and self.tensors[bias].shape != shape[1:]:
            raise ValueError(f"the biases of {name!r} do not have the shape its layer says")
        trained = trained and weight not in self.frozen and bias not in self.frozen
        layer = Dense(name, weight, bias, layout="in_out", trained=trained)
        applied = keras_layers.activation(config.get("activation"), name)
        for part in ("kernel_constraint", "bias_constraint"):
            if constraint := class_of(config.get(part)):
                held = Barrier(name, f"{constraint} changes the weights after every step")
                return [held, layer, *applied, held]
        return [layer, *applied]


class _Calls:
    """The layers of a Functional model, and the values that each call of a layer takes.

    Calls are numbered from 0 here. Keras counts the making of a nested model as its first call and
    numbers the others from 1. Keras 3 does so only where it lists the results of a model.

    Attributes
    ----------
    layers : dict of str to dict
        The configuration of each layer, by its name.
    of : dict of str to list of Call
        The calls of each layer.
    starts, results : tuple of Reference
        The inputs of the model and the values that it returns.
    has_keys : bool
        Whether the inputs are given as a dictionary.
    used : dict of (str, int) to set of int
        Which of the tensors that a call of a layer returns are used.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.layers = {name_of(layer): layer for layer in layers_of(config)}
        if len(self.layers) < len(layers_of(config)):
            raise ValueError("two layers have the same name")
        described = {name: layer.get("inbound_nodes") or [] for name, layer in self.layers.items()}
        for name, calls in described.items():
            if not isinstance(calls, list):
                raise ValueError(f"the layer {name!r} has no list of nodes")
        self.starts = references_in(config.get("input_layers"))
        results = references_in(config.get("output_layers"))
        if not results or not self.starts:
            raise ValueError("it does not say which layers come first and last")
        self.has_keys = isinstance(config["input_layers"], dict)
        self.used: dict[tuple[str, int], set[int]] = {}
        of = {name: [call_of(call) for call in calls] for name, calls in described.items()}
        counts = {name: len(calls) for name, calls in of.items()}
        for start in self.starts:
            counts[start.layer] = counts.get(start.layer) or 1

        def counted(
            references: Iterable[Reference], first: Mapping[str, int]
        ) -> tuple[Reference, ...]:
            found = tuple(
                one._replace(call=one.call - first.get(one.layer, 0)) for one in references
            )
            for one in found:
                if one.layer not in self.layers:
                    raise ValueError(f"it refers to a layer {one.layer!r} that it does not list")
                if not 0 <= one.call < counts[one.layer]:
                    raise ValueError(f"it does not list all calls of the layer {one.layer!r}")
                self.used.setdefault((one.layer, one.call), set()).add(one.tensor)
            return found

        def first_calls(references: Iterable[Reference]) -> dict[str, int]:
            """Return 1 for layers whose calls are numbered from 1; all calls are referred to."""
            beyond = (one for one in references if one.call >= counts.get(one.layer, 0))
            return {one.layer: 1 for one in beyond if one.call}

        inner = [one for calls in of.values() for call in calls for one in call.references]
        if all(is_new(call) for calls in described.values() for call in calls):
            first = first_calls(inner)
            models = [name for name, one in self.layers.items() if "input_layers" in config_of(one)]
            last = {**first_calls(results), **dict.fromkeys(models, 1)}
        else:
            first = last = first_calls([*inner, *results])
        self.of = {
            name: [replace(call, references=counted(call.references, first)) for call in calls]
            for name, calls in of.items()
        }
        self.results = counted(results, last)
