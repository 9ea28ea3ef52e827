"""Packages whose compiled parts need the very build of PyTorch that they were compiled for."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

_OPERATORS: list[Any] = []


def import_without_compiled_parts() -> None:
    """Import torchvision and torchaudio, if they are here, where their compiled parts do not load.

    Other packages import them. The models of the tests use none of their compiled operators.
    """
    import torch

    if _OPERATORS:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _OPERATORS.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import torchvision  # noqa: F401
        except ImportError:
            pass
        except RuntimeError:
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        try:
            import torchaudio  # noqa: F401
        except ImportError:
            pass
        except OSError:
            extension = types.ModuleType("torchaudio._extension")
            extension.__dict__.update(
                _IS_TORCHAUDIO_EXT_AVAILABLE=False,
                _IS_ALIGN_AVAILABLE=False,
                fail_if_no_align=lambda function: function,
            )
            sys.modules["torchaudio._extension"] = extension
