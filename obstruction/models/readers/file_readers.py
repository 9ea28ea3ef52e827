"""The readers of files, in one list.

A new format is a module that fulfils the protocol `FileReader`, and its entry here. This list is
loaded with the first file that is read, so a module must import the library of its format only
where it uses it.
"""

from typing import Final

from obstruction.models.readers import eqx, npz, safetensors
from obstruction.models.readers.base import FileReader
from obstruction.models.readers.keras import files as keras
from obstruction.models.readers.onnx import graph as onnx
from obstruction.models.readers.torch import archives
from obstruction.models.readers.torch import files as torch

FILE_READERS: Final[list[FileReader]] = [torch, archives, safetensors, npz, eqx, keras, onnx]
"""The first reader that matches a file reads it."""
