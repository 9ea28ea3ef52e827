"""A monitor that records conserved numbers and signs of weights during training.

Gradient flow conserves every balance, so the output weight of a pathological neuron never changes
its sign. Finite steps, momentum, Adam and weight decay do not conserve balances exactly. A
`Monitor` shows by how much balances drift, and which weights change their sign as a result. With
example inputs it does the same for all conservation laws of any live model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from obstruction.models import NoChain, Orientation, ReadOptions
from obstruction.tools.checks import check_count
from obstruction.training import callbacks
from obstruction.training.norm_records import NormRecorder
from obstruction.training.recorder import Recorder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from obstruction.conservation.laws import Laws


class Monitor:
    """Records balances, or all conservation laws, and signs of weights during training.

    Parameters
    ----------
    model : model
        Any model that `obstruction.audit` takes. It is read again at every recorded step, so it
        must be the object that training changes or the file that training writes. With `inputs` a
        ``torch.nn.Module``, a Keras model, or a pair ``(apply, params)`` of JAX.
    inputs : array, tuple or dict, optional
        Example inputs, as for `obstruction.conservation_laws`. With them the laws of the model are
        found once, and all of them are recorded. Without them the balances of the neurons in
        chains of layers are recorded.
    loss : {"cross_entropy"}, optional
        The loss for which laws are sought. It is allowed with `inputs` only.
    laws : Laws, optional
        The laws of this model, in place of `inputs`, if they have been found before.
    activation, layout, layers
        As for `obstruction.audit`: facts that the model itself does not contain. They are allowed
        without `inputs` only.
    every : int
        The least number of steps between records, >= 1.

    Attributes
    ----------
    laws : Laws or None
        The laws of the model when the monitor was made, if it got inputs or laws.

    Raises
    ------
    NothingAuditable
        If no hidden layer keeps a balance, or, with `inputs`, if there is no conservation law.
    ValueError
        If the model cannot be read or run, `every` is not a whole number >= 1, or arguments do not
        go together.

    Notes
    -----
    Drift is measured from the state of the model when the monitor is made, so it must be made
    before training. A record takes 17 bytes for every hidden neuron, so 1000 records of 10,000
    neurons take 170 MB; a larger `every` saves memory. Norms that are not finite are recorded as
    NaN.

    With `inputs` a record takes 16 bytes for every law, one for every watched weight, and 8 for
    every conserved number whose value is kept. The values of the smallest laws are kept, at most
    20,000 numbers, which is 160 kB a record. Larger laws, such as matrices of wide heads, only have
    their drift recorded. Watched are the weights that are frozen, at the boundary, or alone on
    their side of a balance at the start.

    Examples
    --------
    >>> import numpy as np
    >>> weights = [np.array([[1.0, 2.0], [0.5, 0.0]]), np.array([[3.0, -1.0]])]
    >>> monitor = Monitor(weights, activation="relu", layout="out_in")
    >>> for step in range(3):
    ...     weights[1] -= 0.75  # an optimiser would be here
    ...     monitor.step(step)
    >>> monitor.drift["largest"].round(3).tolist()
    [0.0, 1.65, 4.2, 7.65]
    """

    def __init__(
        self,
        model: Any,
        *,
        inputs: Any = None,
        loss: str | None = None,
        laws: Laws | None = None,
        activation: str | None = None,
        layout: Orientation | None = None,
        layers: Sequence[str] | None = None,
        every: int = 1,
    ) -> None:
        self.every = check_count("every", every)
        options = ReadOptions(activation, layout, layers)
        self.laws: Laws | None = None
        self._recorder: Recorder[Any]
        _check_together(inputs, loss, laws, options)
        if inputs is None and laws is None:
            try:
                self._recorder = NormRecorder(model, options)
            except NoChain as error:
                inputs = _inputs_for(model, error)
        if inputs is not None or laws is not None:
            from obstruction.conservation.finding import conservation_laws
            from obstruction.training.law_records import LawRecorder

            found = conservation_laws(model, inputs, loss=loss) if laws is None else laws
            recorder = LawRecorder(model, found)
            self._recorder, self.laws = recorder, recorder.laws
        self._last: int | None = None
        self._steps: list[int] = []
        self._records: list[Any] = []

    def step(self, step: int, model: Any = None) -> None:
        """Record the model if at least `every` steps have passed since the last record.

        Parameters
        ----------
        step : int
            The number of the step, >= 0 and larger than at the last call. The first call is always
            recorded. If training has changed the model before it, the state from which training
            started is recorded as the previous step.
        model : model, optional
            The present model, with the same structure. It is needed if training makes new arrays
            instead of changing the old ones, as with JAX.

        Raises
        ------
        ValueError
            If `step` does not increase or the structure of the model has changed.
        """
        self._visit(step, self.every, model)

    def _visit(self, step: int, every: int, model: Any = None) -> None:
        number = check_count("step", step, least=0)
        if self._last is not None and number <= self._last:
            raise ValueError(f"step = {step!r}: must be larger than the last one, {self._last}")
        if not self._steps or number - self._steps[-1] >= every:
            record = self._recorder.read(model)
            if not self._steps and not self._recorder.same(record, self._recorder.start):
                self._steps, self._records = [number - 1], [self._recorder.start]
            self._steps.append(number)
            self._records.append(record)
        self._last = number

    @property
    def history(self) -> pd.DataFrame:
        """All records, with a row for every neuron at every recorded step.

        The columns are ``step``, ``layer``, ``neuron`` (index in the layer), ``balance``
        (``in_norm² - out_norm²``), ``in_norm`` (with bias), ``out_norm`` and ``sign``. The sign is
        that of the output weight, -1, 0 or 1; it is missing for neurons with several.

        With `inputs` there is a row for every conserved number whose value is kept, and the columns
        are ``step``, ``law`` (its index in `laws`), ``kind``, ``index`` and ``value``.
        """
        return self._recorder.history(self._steps, self._records)

    @property
    def drift(self) -> pd.DataFrame:
        """The drift of the balances, with a row for every recorded step and layer.

        The columns are ``step``, ``layer``, ``largest`` and ``mean``. The last two are taken over
        the neurons of the layer. The drift of a neuron is ``|balance - balance at the start|``
        relative to ``in_norm² + out_norm²`` at the start.

        With `inputs` there is a row for every recorded step and law, and the columns are ``step``,
        ``law``, ``kind``, ``largest`` and ``mean``. The drift of a conserved number is relative to
        the sum of the absolute values of all terms at the start, or absolute if that is 0.
        """
        return self._recorder.drift(self._steps, self._records)

    @property
    def sign_changes(self) -> pd.DataFrame:
        """All changes of sign of output weights of neurons with a single output weight.

        The columns are ``layer``, ``neuron``, ``step_before``, ``step_after``, ``sign_before``,
        ``sign_after``, ``pathological_at_start`` and ``pathological_before``. The two steps are
        recorded steps with opposite signs and nothing but zeros between them. The last two columns
        say whether gradient flow from the start, or from ``step_before``, could not have changed
        the sign.

        With `inputs` these are the changes of sign of all watched weights. The columns are
        ``tensor``, ``position``, ``step_before``, ``step_after``, ``sign_before``, ``sign_after``
        and ``frozen_at_start``.
        """
        return self._recorder.sign_changes(self._steps, self._records)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the drift over the steps, a line for each layer or law, and mark changes of sign.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw in; by default those of a new figure.
        """
        return self._recorder.plot(self._steps, self._records, ax)

    def keras_callback(self, every: int | None = None) -> Any:
        """Return a ``keras.callbacks.Callback`` that records while ``fit`` runs.

        Parameters
        ----------
        every : int, optional
            The least number of batches between records; by default `every` of the monitor.

        Raises
        ------
        ImportError
            If Keras is not installed.
        """
        return callbacks.keras_callback(self._visitor(every), lambda: self._last)

    def lightning_callback(self, every: int | None = None) -> Any:
        """Return a Lightning ``Callback`` that records while ``Trainer.fit`` runs.

        Parameters
        ----------
        every : int, optional
            The least number of optimiser steps between records; by default `every` of the monitor.

        Raises
        ------
        ImportError
            If neither ``lightning`` nor ``pytorch_lightning`` is installed.
        """
        return callbacks.lightning_callback(self._visitor(every), lambda: self._last)

    def _visitor(self, every: int | None) -> Callable[[int], None]:
        pause = self.every if every is None else check_count("every", every)
        return lambda step: self._visit(step, pause)


def _inputs_for(model: Any, reason: NoChain) -> Any:
    """Return example inputs of a module that is no chain of layers, if they follow from it."""
    from obstruction.models.readers.torch.inputs import example, inputs_of

    found = inputs_of(model)
    if found is None:
        raise NoChain(
            f"{reason}. To watch its laws, give inputs that it takes: "
            f"ob.Monitor(model, inputs={example(model)})"
        ) from None
    return found


def _check_together(inputs: Any, loss: str | None, laws: Laws | None, options: ReadOptions) -> None:
    """Raise a ValueError if arguments do not go together."""
    if inputs is not None and laws is not None:
        raise ValueError("inputs: must be None with laws")
    if inputs is None and loss is not None:
        raise ValueError(f"loss = {loss!r}: must be None without inputs")
    for name, value in vars(options).items():
        if value is not None and not (inputs is None and laws is None):
            raise ValueError(f"{name} = {value!r}: must be None with inputs or laws")
