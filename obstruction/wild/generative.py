"""Discriminators, and networks of medical images, with one output or one class."""

from __future__ import annotations

from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import behind_norm, images
from obstruction.wild.libraries import library

ZOO: Final = Zoo("generative")
SEGMENTERS: Final = Zoo("vision")

ZOO.add("torchgan/dcgan_discriminator", images(32, batch=4), "as shipped, 32 x 32")(
    lambda: library("torchgan.models").DCGANDiscriminator()
)


@ZOO.add("monai/discriminator", images(16, channels=1), "channels 8 to 16, 16 x 16")
def _discriminator() -> Any:
    return library("monai.networks.nets").Discriminator((1, 16, 16), (8, 16), (2, 2))


def _of_smp(name: str) -> None:
    def factory() -> Any:
        made = getattr(library("segmentation_models_pytorch"), name)
        return made("resnet18", encoder_weights=None, classes=1)

    note = "one class, encoder resnet18, 64 x 64"
    SEGMENTERS.add(f"segmentation-models-pytorch/{name.lower()}", images(64), note)(factory)


_of_smp("FPN")
_of_smp("DeepLabV3Plus")


@SEGMENTERS.add(
    "monai/densenet",
    images(32, channels=1),
    "one output, blocks of 2 and 2, 32 x 32",
    exact=behind_norm(32),
)
def _densenet() -> Any:
    return library("monai.networks.nets").DenseNet(2, 1, 1, 16, 8, block_config=(2, 2))
