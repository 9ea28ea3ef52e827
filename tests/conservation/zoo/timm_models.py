"""Image models of timm, at their real widths; deep ones have fewer blocks, as their notes say."""

from __future__ import annotations

from typing import Any

from .entry import Built, Zoo, images

ZOO = Zoo("timm", "1.0.31")

_SMALL: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("nf_resnet26", {}, "64 x 64"),
    ("skresnet18", {}, "64 x 64"),
    ("resnest14d", {}, "64 x 64"),
    ("ghostnet_100", {}, "64 x 64"),
    ("repvgg_a0", {}, "64 x 64"),
    ("mobileone_s0", {}, "64 x 64"),
    ("hrnet_w18_small", {}, "64 x 64"),
    ("dla34", {}, "64 x 64"),
    ("dpn48b", {}, "64 x 64"),
    ("ese_vovnet19b_dw", {}, "64 x 64"),
    ("darknet17", {}, "64 x 64"),
    ("rexnet_100", {}, "64 x 64"),
    ("selecsls42b", {}, "64 x 64"),
    ("inception_v3", {}, "96 x 96"),
    ("poolformer_s12", {}, "64 x 64"),
    ("edgenext_xx_small", {}, "64 x 64"),
    ("mobilevit_xxs", {}, "64 x 64"),
    ("pvt_v2_b0", {}, "64 x 64"),
    ("levit_128s", {"img_size": 64}, "64 x 64"),
    ("xcit_nano_12_p16_224", {"img_size": 64}, "64 x 64"),
    ("convmixer_768_32", {"depth": 2, "kernel_size": 3}, "2 of 32 blocks, kernels of 3, 64 x 64"),
    ("mixer_s16_224", {"img_size": 64, "num_blocks": 3}, "3 of 8 blocks, 64 x 64"),
    ("resmlp_12_224", {"img_size": 64, "blocks": 3}, "3 of 12 blocks, 64 x 64"),
    ("gmlp_s16_224", {"img_size": 64, "blocks": 3}, "3 of 30 blocks, 64 x 64"),
    ("cait_xxs24_224", {"img_size": 64, "depth": 3}, "3 of 24 blocks, 64 x 64"),
    ("beit_base_patch16_224", {"img_size": 64, "depth": 2}, "2 of 12 blocks, 64 x 64"),
    ("eva02_tiny_patch14_224", {"img_size": 56, "depth": 3}, "3 of 12 blocks, 56 x 56"),
    ("vit_small_patch16_224", {"img_size": 64, "depth": 3, "qk_norm": True}, "3 of 12, q/k norm"),
)


def _make(name: str, options: dict[str, Any], size: int) -> Built:
    import timm

    blocks = options.get("blocks")
    given = {key: value for key, value in options.items() if key != "blocks"}
    model = timm.create_model(name, pretrained=False, num_classes=10, **given)
    if blocks is not None:  # of models that do not take their number
        model.blocks = model.blocks[:blocks]
    return model, images(size)


for _name, _options, _note in _SMALL:
    _size = {"inception_v3": 96, "eva02_tiny_patch14_224": 56}.get(_name, 64)
    ZOO.add(f"timm/{_name}", f"10 classes, {_note}")(
        lambda name=_name, options=_options, size=_size: _make(name, options, size)
    )
