"""Networks of images, with one output or two logits: torchvision and timm."""

from __future__ import annotations

from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import behind_gains, behind_norm, head, images
from obstruction.wild.libraries import library

ZOO: Final = Zoo("vision")


def _torchvision(name: str, **options: Any) -> Any:
    return library("torchvision.models").get_model(name, weights=None, **options)


def _of_torchvision(name: str, size: int = 64, **options: Any) -> None:
    note = f"one output, images of {size} x {size}"
    options = {"num_classes": 1, **options}
    ZOO.add(f"torchvision/{name}", images(size), note)(lambda: _torchvision(name, **options))


_of_torchvision("squeezenet1_1")
_of_torchvision("resnet18")


ZOO.add(
    "torchvision/mnasnet0_5",
    images(64),
    "one output, images of 64 x 64",
    exact=behind_gains("uniform", 1.0, 1280),
)(lambda: _torchvision("mnasnet0_5", num_classes=1))
ZOO.add(
    "torchvision/mnasnet0_5-two_logits",
    images(64),
    "two logits, images of 64 x 64",
    loss="cross_entropy",
    exact=behind_gains("triangular", 0.5**0.5, 1280),
)(lambda: _torchvision("mnasnet0_5", num_classes=2))

ZOO.add("torchvision/shufflenet_v2_x0_5", images(64), "1,000 classes as shipped, 64 x 64")(
    lambda: _torchvision("shufflenet_v2_x0_5")
)


@ZOO.add("torchvision/mobilenet_v2", images(64), "one output, one block a stage, 64 x 64")
def _mobilenet() -> Any:
    stages = [[1, 16, 1, 1], [6, 24, 1, 2], [6, 32, 1, 2], [6, 64, 1, 2], [6, 160, 1, 2]]
    made = library("torchvision.models").MobileNetV2
    return made(num_classes=1, inverted_residual_setting=stages)


@ZOO.add("torchvision/mobilenet_v3_small", images(64), "one output, 5 of 11 blocks, 64 x 64")
def _mobilenet_v3() -> Any:
    module = library("torchvision.models.mobilenetv3")
    blocks = [
        module.InvertedResidualConfig(*numbers, 1, 1.0)
        for numbers in (
            (16, 3, 16, 16, True, "RE", 2),
            (16, 3, 72, 24, False, "RE", 2),
            (24, 3, 88, 24, False, "RE", 1),
            (24, 5, 96, 40, True, "HS", 2),
            (40, 5, 240, 40, True, "HS", 1),
        )
    ]
    return module.MobileNetV3(blocks, 1024, num_classes=1)


@ZOO.add("torchvision/efficientnet_b0", images(64), "one output, 4 of 7 stages, 64 x 64")
def _efficientnet() -> Any:
    module = library("torchvision.models.efficientnet")
    block = module.MBConvConfig
    stages = [
        block(1, 3, 1, 32, 16, 1),
        block(6, 3, 2, 16, 24, 1),
        block(6, 5, 2, 24, 40, 1),
        block(6, 3, 2, 40, 80, 1),
    ]
    return module.EfficientNet(stages, dropout=0.2, num_classes=1)


@ZOO.add(
    "torchvision/densenet121",
    images(64),
    "one output, blocks of 2 layers, 64 x 64",
    exact=behind_norm(128),
)
def _densenet() -> Any:
    return library("torchvision.models").DenseNet(32, (2, 2, 2, 2), 64, num_classes=1)


@ZOO.add(
    "torchvision/vgg11",
    images(64),
    "one output, 5 of 8 convolutions, 64 instead of 4,096 neurons, 64 x 64",
    exact=head("normal_002", 64, 64),
)
def _vgg() -> Any:
    vgg, nn = library("torchvision.models.vgg"), library("torch.nn")
    features = vgg.make_layers([64, "M", 128, "M", 256, "M", 512, "M", 512, "M"])
    dense = [nn.Linear(512, 64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 64), nn.ReLU()]
    model = nn.Sequential(
        features,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        *dense,
        nn.Dropout(),
        nn.Linear(64, 1),
    )
    for part in model.modules():  # as the constructor of VGG does
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, 0.01)
            nn.init.zeros_(part.bias)
    return model


@ZOO.add("torchvision/convnext_tiny", images(64), "one output, one block a stage, 64 x 64")
def _convnext() -> Any:
    convnext = library("torchvision.models.convnext")
    setting = convnext.CNBlockConfig
    stages = [setting(96, 192, 1), setting(192, 384, 1), setting(384, None, 1)]
    return convnext.ConvNeXt(stages, num_classes=1)


@ZOO.add(
    "torchvision/swin_t",
    images(64),
    "one output, two stages of one block, 64 x 64",
    exact=behind_gains("normal", 0.02, 192),
)
def _swin() -> Any:
    swin = library("torchvision.models").SwinTransformer
    return swin([4, 4], 96, [1, 1], [3, 6], [7, 7], stochastic_depth_prob=0.2, num_classes=1)


@ZOO.add(
    "torchvision/vit_b_16",
    images(64),
    "one output, which starts at zero, 2 of 12 layers, 192 wide, 64 x 64",
    exact=lambda: 0.0,
)
def _vit() -> Any:
    return library("torchvision.models").VisionTransformer(64, 16, 2, 3, 192, 768, num_classes=1)


def _of_timm(name: str, size: int = 64, note: str = "", **options: Any) -> None:
    def factory() -> Any:
        return library("timm").create_model(name, pretrained=False, num_classes=1, **options)

    said = f"one output, {note}, " if note else "one output, "
    ZOO.add(f"timm/{name}", images(size), f"{said}{size} x {size}")(factory)


_of_timm("repvgg_a0")
_of_timm("edgenext_xx_small")
_of_timm("cait_xxs24_224", 64, "2 of 24 blocks", img_size=64, depth=2)
_of_timm("mobilenetv4_conv_small")
_of_timm("starnet_s1")
_of_timm("pvt_v2_b0", 64, "one block a stage", depths=(1, 1, 1, 1))


@ZOO.add("timm/poolformer_s12", images(64), "one output, one block a stage, 64 x 64")
def _poolformer() -> Any:
    module = library("timm.models.metaformer")
    return module.MetaFormer(
        num_classes=1,
        depths=(1, 1, 1, 1),
        dims=(64, 128, 320, 512),
        downsample_norm=None,
        mlp_act=library("torch").nn.GELU,
        mlp_bias=True,
        norm_layers=module.GroupNorm1,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
    )


@ZOO.add("timm/ghostnet_100", images(64), "one output, the first block of each stage, 64 x 64")
def _ghostnet() -> Any:
    stages = [
        [[3, 16, 16, 0, 1]],
        [[3, 48, 24, 0, 2]],
        [[5, 72, 40, 0.25, 2]],
        [[3, 240, 80, 0, 2]],
        [[5, 672, 160, 0.25, 2]],
    ]
    return library("timm.models.ghostnet").GhostNet(stages, num_classes=1)


@ZOO.add(
    "timm/convmixer_768_32",
    images(64),
    "one output, 2 of 32 blocks, 256 wide, 64 x 64",
    exact=behind_norm(256),
)
def _convmixer() -> Any:
    return library("timm.models.convmixer").ConvMixer(256, 2, 3, num_classes=1)


@ZOO.add(
    "timm/mixer_s16_224",
    images(64),
    "one output, which starts at zero, 2 of 8 blocks, 64 x 64",
    exact=lambda: 0.0,
)
def _mixer() -> Any:
    return library("timm.models.mlp_mixer").MlpMixer(1, 64, num_blocks=2)


@ZOO.add("timm/resmlp_12_224", images(64), "one output, 2 of 12 blocks, 64 x 64")
def _resmlp() -> Any:
    mixer = library("timm.models.mlp_mixer")
    return mixer.MlpMixer(
        1,
        64,
        num_blocks=2,
        embed_dim=384,
        mlp_ratio=4,
        block_layer=mixer.ResBlock,
        norm_layer=mixer.Affine,
    )
