"""Networks of tables, clicks and times of survival, with one output."""

from __future__ import annotations

from typing import Any, Final

from obstruction.wild.architecture import Zoo
from obstruction.wild.examples import behind_norm, head, noise, numbers, rows
from obstruction.wild.libraries import library

ZOO: Final = Zoo("tabular")
SURVIVAL: Final = Zoo("survival")

_RTDL: Final = "rtdl_revisiting_models"

_NORMAL_HIDDEN: Final = (
    f"custom:hidden_law=normal,hidden_std={(2 / 4) ** 0.5},bias_law=uniform,"
    f"bias_std={(3 * 4) ** -0.5},output_law=uniform,output_std={(3 * 32) ** -0.5}"
)
"""Kaiming's normal weights, and else the defaults of ``nn.Linear``, of 4 inputs and 32 neurons."""


@ZOO.add(
    "rtdl-revisiting-models/mlp",
    rows(10),
    "2 blocks of 384, 10 features",
    exact=head("torch_linear", 384, 384),
)
def _mlp() -> Any:
    return library(_RTDL).MLP(d_in=10, d_out=1, n_blocks=2, d_block=384, dropout=0.1)


@ZOO.add(
    "rtdl-revisiting-models/resnet",
    rows(10),
    "2 blocks of 192, 10 features",
    exact=behind_norm(192),
)
def _resnet() -> Any:
    return library(_RTDL).ResNet(
        d_in=10,
        d_out=1,
        n_blocks=2,
        d_block=192,
        d_hidden=None,
        d_hidden_multiplier=2.0,
        dropout1=0.15,
        dropout2=0.0,
    )


@ZOO.add(
    "rtdl-revisiting-models/ft_transformer",
    lambda: (noise(8, 8), numbers(3, 8, 2)),
    "2 blocks as shipped, 8 numbers and 2 categories",
    exact=behind_norm(128),
)
def _ft_transformer() -> Any:
    made = library(_RTDL).FTTransformer
    options = made.get_default_kwargs(n_blocks=2)
    options.pop("_is_default", None)
    return made(n_cont_features=8, cat_cardinalities=[3, 5], d_out=1, **options)


@ZOO.add("pytorch-tabnet/tabnet", rows(10, batch=8), "as shipped, 10 features")
def _tabnet() -> Any:
    torch = library("torch")
    made = library("pytorch_tabnet.tab_network").TabNet
    return made(10, 1, group_attention_matrix=torch.eye(10), virtual_batch_size=8)


def _click_rows() -> Any:
    torch = library("torch")
    return torch.cat([numbers(10, 8, 4).float(), noise(8, 3).abs()], 1)


def _click(name: str, wide: bool) -> Any:
    inputs = library("deepctr_torch.inputs")
    columns = [inputs.SparseFeat(f"c{i}", 10 + i, embedding_dim=4) for i in range(4)]
    columns += [inputs.DenseFeat(f"d{i}", 1) for i in range(3)]
    arguments = (columns, columns) if wide else (columns,)
    return getattr(library("deepctr_torch.models"), name)(*arguments, task="regression")


for _name in ("DeepFM", "WDL", "DCN", "xDeepFM", "AutoInt", "NFM", "PNN", "FiBiNET"):
    _note = "as shipped, 4 categories and 3 numbers; its constructor sets the seed"
    ZOO.add(f"deepctr-torch/{_name.lower()}", _click_rows, _note)(
        lambda name=_name: _click(name, name != "PNN")
    )


@SURVIVAL.add(
    "torchtuples/mlp_vanilla",
    rows(9),
    "2 layers of 32, BatchNorm, 9 features",
    exact=behind_norm(32),
)
def _vanilla() -> Any:
    made = library("torchtuples.practical").MLPVanilla
    return made(9, [32, 32], 1, batch_norm=True, dropout=0.1)


@SURVIVAL.add(
    "torchtuples/mlp_vanilla-one_layer",
    rows(4),
    "1 layer of 32, no BatchNorm, 4 features",
    exact=head(_NORMAL_HIDDEN, 4, 32),
)
def _vanilla_one() -> Any:
    return library("torchtuples.practical").MLPVanilla(4, [32], 1, batch_norm=False)


@SURVIVAL.add(
    "pycox/cox_time",
    lambda: (noise(8, 9), noise(8, 1, seed=1).abs()),
    "2 layers of 32, BatchNorm, 9 features and the time",
    exact=behind_norm(32),
)
def _cox_time() -> Any:
    made = library("pycox.models.cox_time").MLPVanillaCoxTime
    return made(9, [32, 32], batch_norm=True, dropout=0.1)
