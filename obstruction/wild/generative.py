"""Discriminators, critics and segmenters, with one output or one class."""

from __future__ import annotations

from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import images, noise
from obstruction.wild.libraries import library

ZOO: Final = Zoo("generative")
SEGMENTERS: Final = Zoo("vision")

ZOO.add("torchgan/dcgan_discriminator", images(32, batch=4), "as shipped, 32 x 32")(
    lambda: library("torchgan.models").DCGANDiscriminator()
)
ZOO.add("torchgan/dcgan_discriminator-no_batchnorm", images(32), "no BatchNorm, 32 x 32")(
    lambda: library("torchgan.models").DCGANDiscriminator(batchnorm=False)
)
ZOO.add("torchgan/dcgan_generator", lambda: noise(4, 100), "one channel, 32 x 32")(
    lambda: library("torchgan.models").DCGANGenerator(out_channels=1)
)


@ZOO.add("monai/discriminator", images(16, channels=1), "channels 8 to 16, 16 x 16")
def _discriminator() -> Any:
    return library("monai.networks.nets").Discriminator((1, 16, 16), (8, 16), (2, 2))


@ZOO.add("monai/critic", images(16, channels=1), "channels 8 to 16, 16 x 16")
def _critic() -> Any:
    return library("monai.networks.nets").Critic((1, 16, 16), (8, 16), (2, 2))


@ZOO.add("monai/patch_discriminator", images(32, channels=1), "2 layers, 8 channels, 32 x 32")
def _patch() -> Any:
    return library("monai.networks.nets").PatchDiscriminator(2, 8, 1, 1, num_layers_d=2)


@ZOO.add("diffusers/unet2d", lambda: (noise(2, 1, 16, 16), 3), "one channel, 16 to 32 wide")
def _unet2d() -> Any:
    return library("diffusers").UNet2DModel(
        sample_size=16,
        in_channels=1,
        out_channels=1,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def _of_smp(name: str) -> None:
    def factory() -> Any:
        made = getattr(library("segmentation_models_pytorch"), name)
        return made("resnet18", encoder_weights=None, classes=1)

    note = "one class, encoder resnet18, 64 x 64"
    SEGMENTERS.add(f"segmentation-models-pytorch/{name.lower()}", images(64), note)(factory)


_of_smp("Unet")
_of_smp("FPN")
_of_smp("Linknet")
_of_smp("PSPNet")
_of_smp("DeepLabV3Plus")


@SEGMENTERS.add("monai/densenet", images(32, channels=1), "one output, blocks of 2 and 2, 32 x 32")
def _densenet() -> Any:
    return library("monai.networks.nets").DenseNet(2, 1, 1, 16, 8, block_config=(2, 2))


@SEGMENTERS.add("monai/unet", images(32, channels=1), "one class, channels 8 to 32, 32 x 32")
def _unet() -> Any:
    return library("monai.networks.nets").UNet(2, 1, 1, (8, 16, 32), (2, 2), num_res_units=2)
