"""Transformers of smaller packages: text, images, sound and several of them together."""

from __future__ import annotations

from typing import Any

import torch

from .entry import Built, Zoo, images, tokens

ZOO = Zoo("vit-pytorch", "1.26.14")

_SIZE: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_classes": 5,
    "dim": 64,
    "depth": 2,
    "heads": 4,
    "mlp_dim": 128,
}
_X: dict[str, str] = {"package": "x-transformers", "version": "2.31.10"}


@ZOO.add("vit_pytorch/simple_vit", "64 wide, 2 layers")
def _simple() -> Built:
    from vit_pytorch import SimpleViT

    return SimpleViT(**_SIZE), images(32)


@ZOO.add("vit_pytorch/deepvit", "64 wide, 2 layers, heads mixed again")
def _deepvit() -> Built:
    from vit_pytorch.deepvit import DeepViT

    return DeepViT(**_SIZE), images(32)


@ZOO.add("vit_pytorch/cct", "64 wide, 2 layers, convolutional tokens")
def _cct() -> Built:
    from vit_pytorch.cct import CCT

    model = CCT(
        img_size=32,
        embedding_dim=64,
        n_conv_layers=2,
        kernel_size=3,
        stride=2,
        padding=1,
        num_layers=2,
        num_heads=4,
        mlp_ratio=2.0,
        num_classes=5,
        positional_embedding="learnable",
    )
    return model, images(32)


@ZOO.add("vit_pytorch/cvt", "16 to 64 wide, convolutional projections")
def _cvt() -> Built:
    from vit_pytorch.cvt import CvT

    model = CvT(
        num_classes=5,
        s1_emb_dim=16,
        s2_emb_dim=32,
        s2_heads=2,
        s2_depth=1,
        s3_emb_dim=64,
        s3_heads=2,
        s3_depth=1,
    )
    return model, images()


def _decoder(**options: Any) -> Built:
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=64, depth=2, heads=4, attn_dim_head=16, **options)
    model = TransformerWrapper(num_tokens=96, max_seq_len=32, attn_layers=layers)
    return model, (tokens(96),)


@ZOO.add("x_transformers/decoder_relu_squared", "64 wide, 2 layers", **_X)
def _squared() -> Built:
    return _decoder(ff_relu_squared=True, ff_no_bias=True)


@ZOO.add("x_transformers/decoder_swiglu_rotary", "64 wide, 2 layers, RMSNorm, grouped heads", **_X)
def _swiglu() -> Built:
    return _decoder(
        ff_glu=True, ff_swish=True, rotary_pos_emb=True, use_rmsnorm=True, attn_kv_heads=2
    )


@ZOO.add("x_transformers/encoder_alibi_talking", "64 wide, 2 layers, values gated", **_X)
def _alibi() -> Built:
    return _decoder(alibi_pos_bias=True, alibi_num_heads=4, attn_gate_values=True)


@ZOO.add("open_clip/clip", "towers 64 wide, 2 layers", package="open-clip-torch", version="3.3.0")
def _open_clip() -> Built:
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    vision = CLIPVisionCfg(layers=2, width=64, head_width=16, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=12, vocab_size=96, width=64, heads=4, layers=2)
    return CLIP(32, vision, text), (*images(32), tokens(96))


@ZOO.add(
    "perceiver/perceiver",
    "32 latents of 64, depth 2",
    package="perceiver-pytorch",
    version="0.11.0",
)
def _perceiver() -> Built:
    from perceiver_pytorch import Perceiver

    model = Perceiver(
        input_channels=3,
        input_axis=2,
        num_freq_bands=4,
        max_freq=10.0,
        depth=2,
        num_latents=32,
        latent_dim=64,
        cross_heads=1,
        latent_heads=4,
        cross_dim_head=16,
        latent_dim_head=16,
        num_classes=5,
    )
    return model, (torch.randn(2, 16, 16, 3),)


@ZOO.add(
    "performer/lm", "64 wide, 2 layers, 32 features", package="performer-pytorch", version="1.1.4"
)
def _performer() -> Built:
    from performer_pytorch import PerformerLM

    model = PerformerLM(
        num_tokens=96,
        max_seq_len=12,
        dim=64,
        depth=2,
        heads=4,
        dim_head=16,
        nb_features=32,
        generalized_attention=True,
    )
    return model, (tokens(96),)


@ZOO.add("conformer/conformer", "64 wide, 2 layers", package="conformer", version="0.3.2")
def _conformer() -> Built:
    from conformer import Conformer

    model = Conformer(dim=64, depth=2, dim_head=16, heads=4, conv_kernel_size=7)
    return model, (torch.randn(2, 12, 64),)


@ZOO.add("mambapy/mamba", "32 wide, 2 layers", package="mambapy", version="1.2.0")
def _mamba() -> Built:
    from mambapy.mamba import Mamba, MambaConfig

    return Mamba(MambaConfig(d_model=32, n_layers=2)), (torch.randn(2, 8, 32),)


_AUDIO: dict[str, str] = {"package": "torchaudio", "version": "2.11.1"}


@ZOO.add("torchaudio/conv_tasnet", "reduced: 32 filters, 2 blocks", **_AUDIO)
def _tasnet() -> Built:
    from torchaudio.models import ConvTasNet

    model = ConvTasNet(2, 16, 32, 3, 16, 32, 2, 2)
    return model, (torch.randn(2, 1, 400),)


@ZOO.add("torchaudio/conformer", "64 wide, 2 layers", **_AUDIO)
def _audio_conformer() -> Built:
    from torchaudio.models import Conformer

    model = Conformer(64, 4, 128, 2, 7)
    return model, (torch.randn(2, 12, 64), torch.tensor([12, 10]))
