"""Networks for equations, operators, densities and signals."""

from __future__ import annotations

import torch

from .entry import Built, Zoo

ZOO = Zoo("deepxde", "1.15.0")


def _deepxde() -> object:
    import os

    os.environ.setdefault("DDE_BACKEND", "pytorch")
    import deepxde

    return deepxde


@ZOO.add("deepxde/fnn_tanh", "3 layers of 50")
def _fnn_tanh() -> Built:
    _deepxde()
    from deepxde.nn.pytorch import FNN

    return FNN([2, 50, 50, 50, 1], "tanh", "Glorot normal"), (torch.rand(4, 2),)


@ZOO.add("deepxde/fnn_relu", "2 layers of 32")
def _fnn_relu() -> Built:
    _deepxde()
    from deepxde.nn.pytorch import FNN

    return FNN([2, 32, 32, 1], "relu", "He normal"), (torch.rand(4, 2),)


@ZOO.add("deepxde/pfnn_relu", "two parallel networks of 2 layers of 20")
def _pfnn() -> Built:
    _deepxde()
    from deepxde.nn.pytorch import PFNN

    return PFNN([2, [20, 20], [20, 20], 2], "relu", "He normal"), (torch.rand(4, 2),)


@ZOO.add("deepxde/deeponet", "branch and trunk of 40, relu")
def _deeponet() -> Built:
    _deepxde()
    from deepxde.nn.pytorch import DeepONetCartesianProd

    model = DeepONetCartesianProd([20, 40, 40], [2, 40, 40], "relu", "Glorot normal")
    return model, ((torch.randn(4, 20), torch.rand(6, 2)),)


@ZOO.add(
    "neuraloperator/fno", "32 wide, 8 modes, 2 layers", package="neuraloperator", version="2.0.0"
)
def _fno() -> Built:
    from neuralop.models import FNO

    model = FNO(n_modes=(8, 8), in_channels=2, out_channels=1, hidden_channels=32, n_layers=2)
    return model, (torch.randn(2, 2, 16, 16),)


@ZOO.add("siren/siren_net", "3 layers of 64, sine", package="siren-pytorch", version="0.1.7")
def _siren() -> Built:
    from siren_pytorch import SirenNet

    return SirenNet(2, 64, 3, 3), (torch.rand(8, 2),)


@ZOO.add("pykan/kan", "splines, 3-5-1", package="pykan", version="0.2.8")
def _kan() -> Built:
    from kan import KAN

    model = KAN(width=[3, 5, 1], grid=3, k=3, seed=0, auto_save=False, symbolic_enabled=False)
    return model, (torch.rand(8, 3),)


@ZOO.add("zuko/nsf", "spline flow, 2 transforms of 64", package="zuko", version="1.6.0")
def _zuko() -> Built:
    import zuko
    from torch import nn

    class Density(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = zuko.flows.NSF(3, 2, transforms=2, hidden_features=[64, 64])

        def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
            return self.flow(context).log_prob(x)

    return Density(), (torch.randn(4, 3), torch.randn(4, 2))


@ZOO.add("nflows/maf", "masked autoregressive, residual, 32 wide", package="nflows", version="0.14")
def _nflows() -> Built:
    from nflows.transforms.autoregressive import MaskedAffineAutoregressiveTransform

    model = MaskedAffineAutoregressiveTransform(4, 32, num_blocks=2)
    return model, (torch.randn(4, 4),)


@ZOO.add("normflows/real_nvp", "4 couplings, MLPs of 64", package="normflows", version="1.7.3")
def _nvp() -> Built:
    import normflows
    from torch import nn

    class Density(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            steps = []
            for _ in range(4):
                net = normflows.nets.MLP([2, 64, 64, 4], init_zeros=True)
                steps += [normflows.flows.AffineCouplingBlock(net), normflows.flows.Permute(4)]
            self.flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(4), steps)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.flow.log_prob(x)

    return Density(), (torch.randn(6, 4),)


@ZOO.add("braindecode/eegnet", "22 electrodes, 256 samples", package="braindecode", version="1.8.1")
def _eegnet() -> Built:
    from braindecode.models import EEGNet

    return EEGNet(n_chans=22, n_outputs=4, n_times=256), (torch.randn(2, 22, 256),)


@ZOO.add(
    "braindecode/shallow", "22 electrodes, 256 samples", package="braindecode", version="1.8.1"
)
def _shallow() -> Built:
    from braindecode.models import ShallowFBCSPNet

    model = ShallowFBCSPNet(n_chans=22, n_outputs=4, n_times=256, final_conv_length="auto")
    return model, (torch.randn(2, 22, 256),)
