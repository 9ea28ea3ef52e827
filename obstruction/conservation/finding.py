"""Find the laws of a live model: open it, search by gradients, and verify what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from obstruction.conservation.laws import Laws
from obstruction.conservation.live.losses import check_loss
from obstruction.conservation.live.onnx_files import is_onnx
from obstruction.conservation.live.opening import open_model
from obstruction.conservation.probing import Prober
from obstruction.conservation.search import find_laws
from obstruction.tools.checks import check_count, check_flag


def conservation_laws(
    model: Any,
    inputs: Any = None,
    *,
    loss: str | None = None,
    training: bool = True,
    seed: int = 0,
) -> Laws:
    """Find the numbers that gradient flow keeps while a model is trained, and verify them.

    Parameters
    ----------
    model : model
        A ``torch.nn.Module``, a Keras model, or a pair ``(apply, params)`` of JAX, where
        ``apply(params, *inputs)`` returns the outputs; or the path of an ONNX file, which needs
        ``pip install 'obstruction[onnx-run]'``. It is not changed.
    inputs : array, tuple or dict
        Example inputs: one array, several positional inputs, or keyword inputs. Their shapes,
        types and ranges matter, their values do not. An ONNX file with fixed shapes needs none.
    loss : {"cross_entropy"}, optional
        The loss for which laws are sought. By default they hold for every loss.
    training : bool
        Whether the model runs in training mode. An ONNX file runs as it was exported.
    seed : int
        The seed of the random probes, >= 0.

    Returns
    -------
    Laws
        Printing it shows a law a line.

    Raises
    ------
    ValueError
        If an argument is out of its range, or the model cannot be run with these inputs.
    TypeError
        If `model` is none of the models above.

    Notes
    -----
    If ``f(exp(t S) w) = f(w)`` for a symmetric matrix ``S`` and all ``t``, then ``wᵀ S w`` is
    conserved (Kunin et al. 2021; Marcotte, Gribonval, Peyré 2023). Candidates for ``S`` are sums of
    slices of parameters for which the sum of ``w * dL/dw`` vanishes at random parameters, inputs
    and losses. They are admitted if, besides, the outputs stay the same to rounding when the
    transformation is applied to the model.
    """
    prober = prober_of(model, inputs, loss=loss, training=training, seed=seed)
    return laws_of(prober, model, loss=loss)


def prober_of(model: Any, inputs: Any, *, loss: str | None, training: bool, seed: int) -> Prober:
    """Return the probes of a model that is opened; see `conservation_laws`."""
    check_count("seed", seed, least=0)
    check_flag("training", training)
    check_loss(loss)
    live = open_model(model, inputs, training=training, loss=loss, run=False)
    return Prober(live, seed=seed)


def laws_of(prober: Prober, model: Any, *, loss: str | None) -> Laws:
    """Return the laws of a model that is open already; see `conservation_laws`."""
    live = prober.live
    found = find_laws(prober)
    source = type(model[1] if isinstance(model, tuple) else model).__name__
    if is_onnx(model):
        source = Path(model).name
    return Laws(tuple(found), source, live.framework, live.parameters, live.fixed, loss)
