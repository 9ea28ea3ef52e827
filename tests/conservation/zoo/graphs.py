"""Networks on graphs and point clouds, molecules among them."""

from __future__ import annotations

from typing import Any

import torch

from .entry import Built, Zoo

ZOO = Zoo("torch-geometric", "2.8.1")

_NODES = 20


def _graph() -> tuple[torch.Tensor, torch.Tensor]:
    """Return 16 features of each node, and a ring with chords."""
    node = torch.arange(_NODES)
    edges = [torch.stack([node, (node + step) % _NODES]) for step in (1, 3, _NODES - 1)]
    return torch.randn(_NODES, 16), torch.cat(edges, 1)


def _model(name: str, **options: Any) -> Built:
    from torch_geometric.nn import models

    return getattr(models, name)(16, 64, num_layers=3, out_channels=3, **options), _graph()


@ZOO.add("pyg/gcn", "3 layers of 64")
def _gcn() -> Built:
    return _model("GCN")


@ZOO.add("pyg/sage", "3 layers of 64, with batch normalisation")
def _sage() -> Built:
    return _model("GraphSAGE", norm="batch_norm")


@ZOO.add("pyg/gin", "3 layers of 64")
def _gin() -> Built:
    return _model("GIN")


@ZOO.add("pyg/gat_v2", "3 layers of 64, 4 heads")
def _gat() -> Built:
    return _model("GAT", v2=True, heads=4)


@ZOO.add("pyg/pna", "3 layers of 64, 4 aggregators, 3 scalers")
def _pna() -> Built:
    return _model(
        "PNA",
        aggregators=["mean", "min", "max", "std"],
        scalers=["identity", "amplification", "attenuation"],
        deg=torch.tensor([0, 0, 0, _NODES]),
    )


@ZOO.add("pyg/edge_cnn", "3 layers of 64")
def _edge() -> Built:
    return _model("EdgeCNN")


@ZOO.add("pyg/gps", "2 layers of 32, GIN and attention side by side")
def _gps() -> Built:
    from torch import nn
    from torch_geometric.nn import GINConv, GPSConv

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = nn.Linear(16, 32)
            self.layers = nn.ModuleList(GPSConv(32, GINConv(self._mlp()), heads=4) for _ in "ab")
            self.end = nn.Linear(32, 1)

        @staticmethod
        def _mlp() -> nn.Module:
            return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))

        def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            x = self.start(x)
            for layer in self.layers:
                x = layer(x, edges)
            return self.end(x)

    return Model(), _graph()


def _all_pairs(places: torch.Tensor, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the edges between all atoms, and their lengths."""
    start, end = torch.nonzero(1 - torch.eye(len(places)), as_tuple=True)
    return torch.stack([start, end]), (places[start] - places[end]).norm(dim=-1)


@ZOO.add("pyg/schnet", "64 wide, 2 interactions, one molecule of 8 atoms, all pairs of them")
def _schnet() -> Built:
    from torch_geometric.nn.models import SchNet

    model = SchNet(
        hidden_channels=64, num_filters=64, num_interactions=2, interaction_graph=_all_pairs
    )
    return model, (torch.randint(1, 9, (8,)), 2 * torch.randn(8, 3))


@ZOO.add(
    "pyg/pointnet_pp", "set abstraction, a pool of each quarter of 20 points, and a classifier"
)
def _points() -> Built:
    from torch import nn
    from torch_geometric.nn import MLP, PointNetConv

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = PointNetConv(MLP([16 + 3, 64, 64, 128]), MLP([128, 128]))
            self.second = MLP([128, 64, 5], dropout=0.5)

        def forward(
            self, x: torch.Tensor, places: torch.Tensor, edges: torch.Tensor
        ) -> torch.Tensor:
            parts = self.first(x, places, edges).reshape(4, _NODES // 4, -1)
            return self.second(parts.amax(1))

    x, edges = _graph()
    return Model(), (x, torch.randn(_NODES, 3), edges)


@ZOO.add("egnn/network", "32 wide, depth 2", package="egnn-pytorch", version="0.2.8")
def _egnn() -> Built:
    from egnn_pytorch import EGNN_Network

    model = EGNN_Network(num_tokens=9, dim=32, depth=2, num_nearest_neighbors=4)
    return model, (torch.randint(0, 9, (2, 8)), torch.randn(2, 8, 3))


@ZOO.add("e3nn/gate_points", "degree 1, 16 of each, 2 layers", package="e3nn", version="0.6.0")
def _e3nn() -> Built:
    from e3nn.nn.models.v2106.gate_points_networks import SimpleNetwork

    model = SimpleNetwork(
        "5x0e", "2x0e", max_radius=3.0, num_neighbors=4.0, num_nodes=8.0, mul=16, layers=2, lmax=1
    )
    data = {"pos": torch.randn(8, 3), "x": torch.randn(8, 5)}
    return model, (data,)
