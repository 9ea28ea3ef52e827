"""The probability that a ReLU network's initialisation already obstructs its training.

A hidden neuron of a two-layer ReLU network with one output is *pathological* if its output weight
is larger than its input weights together, ``‖in‖² < ‖out‖²``: under gradient flow that weight can
never change sign (Nurisso, Leroy, Vaccarino: Topological obstruction to the training of shallow
ReLU neural networks, NeurIPS 2024). A network with such a neuron is *obstructed*: the parameters
it can reach fall into pieces.

>>> import obstruction as ob
>>> round(ob.exact.obstruction_probability("kaiming_normal", d=10, l=10), 6)
0.09671
"""

import lazy_loader

from obstruction.tools.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
