"""Generators, discriminators, denoisers; segmentation and medical images."""

from __future__ import annotations

from typing import Any

import torch

from .entry import Built, Zoo, images

ZOO = Zoo("torchgan", "0.1.0")


@ZOO.add("torchgan/dcgan_generator", "as shipped, 32 x 32")
def _generator() -> Built:
    from torchgan.models import DCGANGenerator

    return DCGANGenerator(), (torch.randn(4, 100),)


@ZOO.add("torchgan/dcgan_discriminator", "as shipped, 32 x 32")
def _discriminator() -> Built:
    from torchgan.models import DCGANDiscriminator

    return DCGANDiscriminator(), images(32, batch=4)


@ZOO.add("torchgan/wgan_critic", "no normalisation, leaky ReLU, 32 x 32")
def _critic() -> Built:
    from torch import nn
    from torchgan.models import DCGANDiscriminator

    model = DCGANDiscriminator(batchnorm=False, nonlinearity=nn.LeakyReLU(0.2))
    return model, images(32)


@ZOO.add(
    "ddpm/unet",
    "32 wide, 3 levels, 32 x 32",
    package="denoising-diffusion-pytorch",
    version="2.3.4",
)
def _ddpm() -> Built:
    from denoising_diffusion_pytorch import Unet

    model = Unet(dim=32, dim_mults=(1, 2, 4), flash_attn=False)
    return model, (*images(32), torch.randint(0, 1000, (2,)))


@ZOO.add("diffusers/unet2d", "32 to 64 wide, 32 x 32", package="diffusers", version="0.42.1")
def _unet2d() -> Built:
    from diffusers import UNet2DModel

    model = UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    return model, (*images(32), torch.randint(0, 1000, (2,)))


@ZOO.add("diffusers/dit", "64 wide, 2 layers", package="diffusers", version="0.42.1")
def _dit() -> Built:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=4,
        num_layers=2,
        sample_size=8,
        num_embeds_ada_norm=1000,
        norm_num_groups=8,
    )
    inputs: dict[str, Any] = {
        "hidden_states": images(8, channels=4)[0],
        "timestep": torch.randint(0, 1000, (2,)),
        "class_labels": torch.randint(0, 10, (2,)),
    }
    return model, inputs


@ZOO.add(
    "diffusers/autoencoder_kl", "32 to 64 wide, 32 x 32", package="diffusers", version="0.42.1"
)
def _vae() -> Built:
    from diffusers import AutoencoderKL

    model = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )
    return model, images(32)


_SMP = {"package": "segmentation-models-pytorch", "version": "0.6.0"}


def _segmentation(name: str, **options: Any) -> Built:
    import segmentation_models_pytorch as smp

    return getattr(smp, name)("resnet18", encoder_weights=None, classes=1, **options), images()


for _name in ("Unet", "UnetPlusPlus", "FPN", "Linknet", "PSPNet", "MAnet"):
    ZOO.add(f"smp/{_name.lower()}_resnet18", "as shipped, one class, 64 x 64", **_SMP)(
        lambda name=_name: _segmentation(name)
    )

_MONAI = {"package": "monai", "version": "1.6.1"}


@ZOO.add("monai/unet3d", "volumes of 32, channels 16 to 64, residual, PReLU", **_MONAI)
def _unet3d() -> Built:
    from monai.networks.nets import UNet

    model = UNet(3, 1, 2, (16, 32, 64), (2, 2), num_res_units=2)
    return model, images(32, channels=1, dimensions=3)


@ZOO.add("monai/segresnet", "volumes of 32, 8 filters", **_MONAI)
def _segresnet() -> Built:
    from monai.networks.nets import SegResNet

    return SegResNet(3, 8, 1, 2), images(32, channels=1, dimensions=3)


@ZOO.add("monai/unetr", "volumes of 32, 64 wide", **_MONAI)
def _unetr() -> Built:
    from monai.networks.nets import UNETR

    model = UNETR(1, 2, (32, 32, 32), feature_size=8, hidden_size=64, mlp_dim=128, num_heads=4)
    return model, images(32, channels=1, dimensions=3)


@ZOO.add("kornia/hardnet", "patches of 32", package="kornia", version="0.9.0")
def _hardnet() -> Built:
    from kornia.feature import HardNet

    return HardNet(pretrained=False), images(32, channels=1)
