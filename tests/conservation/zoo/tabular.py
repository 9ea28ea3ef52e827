"""Models of tables, survival and clicks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .entry import Built, Zoo

ZOO = Zoo("rtdl-revisiting-models", "0.0.2")


def _rows(width: int = 10, *, batch: int = 4) -> tuple[torch.Tensor]:
    return (torch.randn(batch, width),)


@ZOO.add("rtdl/mlp", "2 blocks of 384")
def _mlp() -> Built:
    from rtdl_revisiting_models import MLP

    return MLP(d_in=10, d_out=1, n_blocks=2, d_block=384, dropout=0.1), _rows()


@ZOO.add("rtdl/resnet", "2 blocks of 192")
def _resnet() -> Built:
    from rtdl_revisiting_models import ResNet

    model = ResNet(
        d_in=10,
        d_out=1,
        n_blocks=2,
        d_block=192,
        d_hidden=None,
        d_hidden_multiplier=2.0,
        dropout1=0.15,
        dropout2=0.0,
    )
    return model, _rows()


@ZOO.add("rtdl/ft_transformer", "2 blocks of 96, ReGLU, as shipped")
def _ft() -> Built:
    from rtdl_revisiting_models import FTTransformer

    options = FTTransformer.get_default_kwargs(n_blocks=2)
    options.pop("_is_default", None)
    model = FTTransformer(n_cont_features=8, cat_cardinalities=[3, 5], d_out=1, **options)
    return model, (*_rows(8), torch.randint(0, 3, (4, 2)))


@ZOO.add(
    "rtdl_num/periodic_mlp",
    "embeddings of 24, MLP of 2 x 256",
    package="rtdl-num-embeddings",
    version="0.0.12",
)
def _periodic() -> Built:
    from rtdl_num_embeddings import PeriodicEmbeddings
    from rtdl_revisiting_models import MLP

    embed = PeriodicEmbeddings(10, lite=False)
    mlp = MLP(d_in=240, d_out=1, n_blocks=2, d_block=256, dropout=0.0)
    return nn.Sequential(embed, nn.Flatten(), mlp), _rows()


@ZOO.add(
    "rtdl_num/linear_relu_mlp",
    "embeddings of 16, MLP of 2 x 128",
    package="rtdl-num-embeddings",
    version="0.0.12",
)
def _linear_relu() -> Built:
    from rtdl_num_embeddings import LinearReLUEmbeddings
    from rtdl_revisiting_models import MLP

    mlp = MLP(d_in=160, d_out=1, n_blocks=2, d_block=128, dropout=0.0)
    return nn.Sequential(LinearReLUEmbeddings(10, 16), nn.Flatten(), mlp), _rows()


@ZOO.add("tabm/tabm", "32 members, 2 blocks of 128", package="tabm", version="0.0.3")
def _tabm() -> Built:
    from tabm import TabM

    return TabM.make(n_num_features=10, d_out=1, n_blocks=2, d_block=128, k=32), _rows()


@ZOO.add(
    "tabnet/tabnet", "as shipped: 8 + 8 wide, 3 steps", package="pytorch-tabnet", version="4.1.0"
)
def _tabnet() -> Built:
    from pytorch_tabnet.tab_network import TabNet

    matrix = torch.eye(10)
    return TabNet(10, 2, group_attention_matrix=matrix, virtual_batch_size=8), _rows(batch=8)


@ZOO.add(
    "tab_transformer/tab_transformer",
    "32 wide, 2 layers",
    package="tab-transformer-pytorch",
    version="0.6.1",
)
def _tab_transformer() -> Built:
    from tab_transformer_pytorch import TabTransformer

    model = TabTransformer(
        categories=(5, 3, 4),
        num_continuous=6,
        dim=32,
        dim_out=1,
        depth=2,
        heads=4,
        dim_head=8,
        mlp_act=nn.ReLU(),
    )
    return model, (torch.randint(0, 3, (4, 3)), *_rows(6))


@ZOO.add(
    "torchtuples/mlp_vanilla", "2 layers of 32, BatchNorm", package="torchtuples", version="0.2.2"
)
def _vanilla() -> Built:
    from torchtuples.practical import MLPVanilla

    return MLPVanilla(9, [32, 32], 1, batch_norm=True, dropout=0.1), _rows(9)


@ZOO.add("pycox/cox_time_mlp", "2 layers of 32, of time too", package="pycox", version="0.3.0")
def _cox() -> Built:
    from pycox.models.cox_time import MLPVanillaCoxTime

    model = MLPVanillaCoxTime(9, [32, 32], batch_norm=True, dropout=0.1)
    return model, (*_rows(9), torch.rand(4, 1))


def _columns() -> tuple[list[Any], torch.Tensor]:
    from deepctr_torch.inputs import DenseFeat, SparseFeat

    columns: list[Any] = [SparseFeat(f"c{i}", 10 + i, embedding_dim=4) for i in range(4)]
    columns += [DenseFeat(f"d{i}", 1) for i in range(3)]
    rows = torch.cat([torch.randint(0, 10, (8, 4)).float(), torch.rand(8, 3)], 1)
    return columns, rows


def _clicks(name: str, *, wide: bool = True, **options: Any) -> Built:
    import deepctr_torch.models

    columns, rows = _columns()
    model = getattr(deepctr_torch.models, name)
    arguments = (columns, columns) if wide else (columns,)
    return model(*arguments, task="regression", **options), (rows,)


for _name, _wide, _options in (
    ("DeepFM", True, {}),
    ("WDL", True, {}),
    ("DCN", True, {}),
    ("xDeepFM", True, {}),
    ("AutoInt", True, {}),
    ("NFM", True, {}),
    ("PNN", False, {}),
    ("FiBiNET", True, {}),
):
    ZOO.add(
        f"deepctr/{_name.lower()}",
        "as shipped, 7 features",
        package="deepctr-torch",
        version="0.3.0",
    )(lambda name=_name, wide=_wide, options=_options: _clicks(name, wide=wide, **options))


@ZOO.add("torchfm/afi", "attention, 16 wide", package="torchfm", version="0.7.0")
def _afi() -> Built:
    from torchfm.model.afi import AutomaticFeatureInteractionModel

    model = AutomaticFeatureInteractionModel(
        [10, 12, 14],
        embed_dim=16,
        atten_embed_dim=32,
        num_heads=2,
        num_layers=2,
        mlp_dims=(64, 64),
        dropouts=(0.0, 0.0, 0.0),
    )
    return model, (torch.randint(0, 10, (8, 3)),)


@ZOO.add("botorch/deep_kernel", "features 10-100-50-2", package="gpytorch", version="1.15.2")
def _kernel() -> Built:
    import gpytorch

    class Model(nn.Module):
        """The covariance of a deep kernel, as the marginal likelihood sees it."""

        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 2)
            )
            self.kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.kernel(self.features(x)).to_dense()

    return Model(), _rows()
