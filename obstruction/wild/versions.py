"""The versions of packages for which the zoo was measured; the extra ``wild`` pins the same."""

from __future__ import annotations

from typing import Final

VERSIONS: Final[dict[str, str]] = {
    "torch": "2.13.0",
    "torchvision": "0.28.0",
    "timm": "1.0.31",
    "stable-baselines3": "2.9.2",
    "sb3-contrib": "2.9.2",
    "torchrl": "0.14.1",
    "tianshou": "0.5.1",
    "skrl": "2.1.1",
    "pfrl": "0.4.0",
    "rtdl-revisiting-models": "0.0.2",
    "pytorch-tabnet": "4.1.0",
    "deepctr-torch": "0.3.0",
    "torchtuples": "0.2.2",
    "pycox": "0.3.0",
    "deepxde": "1.15.0",
    "neuraloperator": "2.0.0",
    "torch-geometric": "2.8.1",
    "torchgan": "0.1.0",
    "monai": "1.6.1",
    "segmentation-models-pytorch": "0.6.0",
    "transformers": "5.24.0",
    "vit-pytorch": "1.26.14",
    "scikit-learn": "1.9.1",
    "keras": "3.15.1",
    "flax": "0.12.8",
    "dm-haiku": "0.0.17",
}
"""The versions by the names under which pip knows the packages."""
