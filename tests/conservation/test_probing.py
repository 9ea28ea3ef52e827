"""Probes are the same for the same number, also after a spread was reduced."""

from __future__ import annotations

import numpy as np

from obstruction.conservation.probing import Prober


class Overflowing:
    """A live model whose outputs are its parameters, and whose first gradients are infinite."""

    framework = "none"
    fixed = ()
    inputs = (np.zeros((2, 1)),)

    def __init__(self):
        self.parameters = {"w": np.ones(3)}
        self.output_axes, self.groups = {}, {}
        self.runs = 0

    def outputs(self, values, inputs, *, seed):
        return [values["w"].copy()]

    def gradients(self, values, inputs, *, seed, cotangent):
        self.runs += 1
        return {"w": np.full(3, np.inf if self.runs == 1 else 1.0)}


def test_outputs_are_those_of_the_probe_after_its_spread_was_reduced():
    prober = Prober(Overflowing(), seed=0)
    before = prober.outputs(0)[0]
    probe, gradients = prober.gradients(4)  # of the spread that probe 0 has, too
    assert np.isfinite(gradients["w"]).all()
    np.testing.assert_array_equal(probe.values["w"], prober.probe(4).values["w"])
    np.testing.assert_array_equal(prober.outputs(0)[0], prober.probe(0).values["w"])
    assert (prober.outputs(0)[0] != before).all()
