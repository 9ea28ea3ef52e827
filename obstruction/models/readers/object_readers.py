"""The readers of objects in memory, in one list.

A new kind of objects is a module that fulfils the protocol `ObjectReader`, and its entry here. This
list is loaded with the first object that is read, whatever it is, so no module may import the
framework of its objects.
"""

from typing import Final

from obstruction.models.readers.base import ObjectReader
from obstruction.models.readers.keras import objects as keras
from obstruction.models.readers.memory import arrays, equinox, nnx, sklearn, trees
from obstruction.models.readers.torch import modules as torch
from obstruction.models.readers.torch import programs

OBJECT_READERS: Final[list[ObjectReader]] = [
    keras,
    torch,
    programs,
    equinox,
    nnx,
    sklearn,
    arrays,
    trees,
]
"""The first reader that matches an object reads it. With PyTorch as its backend, a Keras model is a
``torch.nn.Module`` too, so Keras comes before PyTorch."""
