"""Networks on graphs and molecules, with one output."""

from __future__ import annotations

from typing import Any, Final

from obstruction.wild.architecture import Exact, Zoo
from obstruction.wild.examples import head, noise, numbers
from obstruction.wild.libraries import library

ZOO: Final = Zoo("graphs")

_NODES: Final = 12


def _graph() -> Any:
    """Return 8 features of each node, and a ring with chords."""
    torch = library("torch")
    node = torch.arange(_NODES)
    edges = [torch.stack([node, (node + step) % _NODES]) for step in (1, 3, _NODES - 1)]
    return noise(_NODES, 8), torch.cat(edges, 1)


def _of_geometric(name: str, note: str, exact: Exact | None = None, **options: Any) -> None:
    def factory() -> Any:
        made = getattr(library("torch_geometric.nn.models"), name)
        return made(8, 32, num_layers=2, out_channels=1, **options)

    note = f"2 layers of 32{note}, 8 features"
    ZOO.add(f"torch-geometric/{name.lower()}", _graph, note, exact=exact)(factory)


_of_geometric("GCN", "", head("keras_dense", 8, 32))
_of_geometric("GraphSAGE", "")
# its last part has one neuron, behind 32 whose own signs are free but for 2e-16 of all draws
_of_geometric("GIN", "", head("torch_linear", 32, 1))
_of_geometric("GAT", ", 4 heads", heads=4)
_of_geometric("EdgeCNN", "", head("torch_linear", 64, 1))


@ZOO.add("torch-geometric/pna", _graph, "2 layers of 32, 4 aggregators, 3 scalers, 8 features")
def _pna() -> Any:
    torch = library("torch")
    return library("torch_geometric.nn.models").PNA(
        8,
        32,
        num_layers=2,
        out_channels=1,
        aggregators=["mean", "min", "max", "std"],
        scalers=["identity", "amplification", "attenuation"],
        deg=torch.tensor([0, 0, 0, _NODES]),
    )


def _all_pairs(places: Any, batch: Any) -> Any:
    """Return the edges between all atoms, and their lengths."""
    torch = library("torch")
    start, end = torch.nonzero(1 - torch.eye(len(places)), as_tuple=True)
    return torch.stack([start, end]), (places[start] - places[end]).norm(dim=-1)


@ZOO.add(
    "torch-geometric/schnet",
    lambda: (numbers(9, 6), 2 * noise(6, 3)),
    "32 wide, 2 interactions, a molecule of 6 atoms",
)
def _schnet() -> Any:
    return library("torch_geometric.nn.models").SchNet(
        hidden_channels=32, num_filters=32, num_interactions=2, interaction_graph=_all_pairs
    )


def _edges() -> Any:
    x, edges = _graph()
    torch = library("torch")
    batch = torch.zeros(_NODES, dtype=torch.long)
    return x, edges, noise(edges.shape[1], 3, seed=1), batch


@ZOO.add("torch-geometric/attentive_fp", _edges, "32 wide, 2 layers, 8 features")
def _attentive() -> Any:
    return library("torch_geometric.nn.models").AttentiveFP(
        8, 32, 1, edge_dim=3, num_layers=2, num_timesteps=2
    )
