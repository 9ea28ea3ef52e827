"""The conservation laws of any differentiable network, found and verified by its gradients.

A live model, which can be run, goes in; the laws that gradient flow keeps come out, whatever the
architecture. `obstruction.conservation.live` runs models of PyTorch, JAX and Keras behind one
interface. `obstruction.conservation.search` derives candidates from gradients at random parameters,
and `obstruction.conservation.verification` admits those that pass two independent checks.

These modules may import `obstruction.topology` and `obstruction.tools`. They must never know how a
model file is read, how likely an initialisation is, or how a report is written.
"""
