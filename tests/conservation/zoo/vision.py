"""Image and video models of torchvision, at their real widths unless the note says otherwise."""

from __future__ import annotations

from .entry import Built, Zoo, images

ZOO = Zoo("torchvision", "0.28.0")

_BY_NAME = (
    "alexnet",
    "squeezenet1_1",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet1_0",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
    "swin_t",
)


def _by_name(name: str) -> Built:
    from torchvision import models

    return models.get_model(name, weights=None), images()


for _name in _BY_NAME:
    ZOO.add(f"torchvision/{_name}", "images of 64 x 64")(lambda name=_name: _by_name(name))


@ZOO.add("torchvision/vgg11_bn", "classifier of 256 instead of 4,096 neurons, 64 x 64")
def _vgg() -> Built:
    from torch import nn
    from torchvision import models

    model = models.vgg11_bn(weights=None, init_weights=False)
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.classifier = nn.Sequential(
        nn.Linear(512 * 4, 256), nn.ReLU(), nn.Dropout(), nn.Linear(256, 10)
    )
    return model, images()


@ZOO.add("torchvision/googlenet", "with both auxiliary classifiers, 64 x 64")
def _googlenet() -> Built:
    from torchvision import models

    return models.googlenet(weights=None, init_weights=False, aux_logits=True), images()


@ZOO.add("torchvision/vit_b_16", "2 of 12 layers, 64 x 64")
def _vit() -> Built:
    from torchvision.models import VisionTransformer

    return VisionTransformer(64, 16, 2, 12, 768, 3072, num_classes=10), images()


@ZOO.add("torchvision/fcn_resnet50", "21 classes, 64 x 64")
def _fcn() -> Built:
    from torchvision.models import segmentation

    return segmentation.fcn_resnet50(weights=None, weights_backbone=None), images()


@ZOO.add("torchvision/deeplabv3_mobilenet_v3_large", "21 classes, 64 x 64")
def _deeplab() -> Built:
    from torchvision.models import segmentation

    make = segmentation.deeplabv3_mobilenet_v3_large
    return make(weights=None, weights_backbone=None), images()


@ZOO.add("torchvision/lraspp_mobilenet_v3_large", "21 classes, 64 x 64")
def _lraspp() -> Built:
    from torchvision.models import segmentation

    make = segmentation.lraspp_mobilenet_v3_large
    return make(weights=None, weights_backbone=None), images()


@ZOO.add("torchvision/r2plus1d_18", "8 frames of 32 x 32")
def _video() -> Built:
    from torchvision.models import video

    (clip,) = images(32, dimensions=3)
    return video.r2plus1d_18(weights=None), (clip[:, :, :8],)


@ZOO.add("torchvision/raft_small", "images of 128 x 128, two updates of the flow")
def _raft() -> Built:
    from torchvision.models import optical_flow

    first, second = images(128)[0], images(128)[0]
    return optical_flow.raft_small(weights=None), (first, second, 2)
