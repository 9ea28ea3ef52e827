"""The formats that can be read, one list of readers for files and one for objects.

A new format is one module, which fulfils a protocol of `obstruction.models.readers.base`, and its
entry here. The module is imported with the first model that is read, so it must import the library
of its format only where it uses it.
"""

from __future__ import annotations

from typing import Final

from obstruction.models.readers import npz, safetensors
from obstruction.models.readers.base import FileReader, ObjectReader
from obstruction.models.readers.keras import files as keras_files
from obstruction.models.readers.keras import objects as keras_objects
from obstruction.models.readers.memory import arrays, sklearn, trees
from obstruction.models.readers.onnx import graph as onnx_files
from obstruction.models.readers.torch import files as torch_files
from obstruction.models.readers.torch import modules as torch_modules

FILE_READERS: Final[list[FileReader]] = [torch_files, safetensors, npz, keras_files, onnx_files]
"""Readers of files; the first that matches a file reads it."""

OBJECT_READERS: Final[list[ObjectReader]] = [
    keras_objects,  # before PyTorch, as with that backend a Keras model is a module too
    torch_modules,
    sklearn,
    arrays,
    trees,
]
"""Readers of objects; the first that matches an object reads it."""
