"""Nothing is claimed of networks that only look homogeneous, and what they do keep is found."""

from __future__ import annotations

import pytest
from every_law import linear_and_diagonal
from kind import framework
from not_homogeneous import ACTIVATIONS, SPECIAL, case
from open_cases import CLAIMS, open_ones
from searching import blocks, counts, found

SCALES = (-4.0, 14.0)
"""Exponents of 2 of the parameters' scales that show what each activation is."""


def cases(*designs):
    """Return each activation in networks of some designs: depth, norm, form."""
    made = [
        case(activation, *design)
        for activation in ACTIVATIONS
        for design in designs
        if not (activation.flat and design[1] in ("batch", "layer"))
    ]
    return [pytest.param(kind, id=kind.name) for kind in made]


DEEP = cases(
    (1, "none", "dense"),
    (1, "batch", "dense"),
    (6, "none", "dense"),
    (2, "none", "convolution"),
    (6, "batch", "dense"),
    (2, "batch", "convolution"),
    (2, "layer", "dense"),
    (6, "layer", "convolution"),
    (2, "batch behind", "dense"),
    (6, "batch behind", "convolution"),
    (2, "layer behind", "convolution"),
)
SHALLOW = cases((2, "none", "dense"))
LISTED = [pytest.param(kind, id=kind.name) for kind in SPECIAL]
ONE_LAYER = cases(*((1, norm, "dense") for norm in ("none", "batch", "layer")))
BEHIND = cases(*((2, f"{norm} behind", "dense") for norm in ("batch", "layer")))
UNCLEAR = {
    f"{name}, 2 dense, {norm} behind"
    for name in ("clamp to 1000", "ReLU plus 0.1")  # never saturates; dead neurons leave noise
    for norm in ("batch", "layer")
}
USUAL = (-2.0, 2.0)
"""Scales at which saturated activations leave a normalisation something to do."""


QUICK = {
    "ReLU6",
    "hard-swish",
    "hard-sigmoid",
    "hard-tanh",
    "tanh",
    "GELU",
    "SiLU",
    "softplus",
    "ELU",
    "threshold to 0.5",
    "clamp to 1000",
    "ReLU plus 0.1",
    "noise before",
    "rounding",
    "fake quantisation",
    "straight-through rounding",
    "gradient twice too large",
    "gradient that is clipped",
    "detached beside",
    "no_grad beside",
}


def is_quick(one):
    return one.id.partition(",")[0] in QUICK


def slow(listed):
    return [pytest.param(*one.values, id=one.id, marks=pytest.mark.slow) for one in listed]


def complete(listed):
    return [one for one in listed if one.values[0].complete]


SOME = [one for one in SHALLOW if is_quick(one)]
OTHERS = [one for one in SHALLOW if not is_quick(one)]


@pytest.mark.parametrize("kind", slow(complete(LISTED + ONE_LAYER)))
def test_laws_by_hand_are_all_there_are(kind):
    """Linear algebra on gradients at all scales finds as many laws as were derived."""
    wide = kind not in SPECIAL
    found = linear_and_diagonal(kind, SCALES if wide else (0.0, 0.0))
    assert found == (kind.linear, kind.diagonal)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [one for one in complete(BEHIND) if one.id not in UNCLEAR])
def test_laws_by_hand_are_all_there_are_behind_a_norm(kind):
    """They need no vanishing eps but for the norms of blocks."""
    exact = kind.count("scale") > 0
    found = linear_and_diagonal(kind, USUAL, exact=exact)
    assert found == (kind.linear, kind.diagonal)


@pytest.mark.parametrize("kind", open_ones(LISTED + SOME + slow(OTHERS + DEEP), CLAIMS))
def test_the_search_claims_nothing_else(kind):
    laws = found(kind)
    expected = {name: n for name, n in kind.expected.items() if name not in kind.convention}
    assert counts(laws, kind.convention) == expected
    assert blocks(laws) == []


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_mobilenet_v2(training):
    """Only the linear bottlenecks keep balances; ReLU6 stands behind every other norm.

    A stage of bottlenecks shares one stream. Its channels are written by the gains and offsets of
    the last norms of all its blocks and read by the expansions of the blocks behind it. At this
    width the first bottleneck adds to the stem, and ReLU6 stands in their stream.
    """
    torchvision = framework("torchvision")
    torch = framework("torch")
    from searching import laws_of

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.mobilenet_v2(num_classes=2, width_mult=0.25).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=torch.Generator().manual_seed(1))
    laws = laws_of(model, torch.randn(2, 3, 64, 64, dtype=torch.float64), training=training)
    blocks_of = [m for m in model.features if type(m).__name__ == "InvertedResidual"]
    widths = [block.conv[-2].out_channels for block in blocks_of]
    streams = [b.conv[-2].out_channels for b in blocks_of if not b.use_res_connect]
    expected = {"balance": sum(streams)}
    if training:
        convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
        expected |= {"scale": sum(m.out_channels for m in convolutions), "constant": sum(widths)}
    assert counts(laws) == expected
