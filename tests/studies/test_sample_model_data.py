"""Models on the span of training data: counts by hand, exact values, planted faults, descent."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.studies.factories.draws import Draws

torch = framework("torch")
nn = torch.nn

from_ratio = ob.exact.pathological_probability_from_ratio

D, WIDTH = 12, 24


def samples(number, d=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, d, generator=generator)


def normal(d=D, width=WIDTH, fan=None):
    """Return a model with Kaiming's normal weights, as if it had another number of inputs."""
    model = nn.Sequential(
        nn.Linear(d, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)
    )
    nn.init.normal_(model[0].weight, std=math.sqrt(2.0 / (fan or d)))
    nn.init.normal_(model[2].weight, std=math.sqrt(2.0 / width))
    return model


def usual(d=D, width=WIDTH):
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, 1))


def network_probability(r, ratio=D / WIDTH, width=WIDTH):
    return -math.expm1(width * math.log1p(-from_ratio(r, ratio)))


def inside(weights, data):
    """Return the squared lengths of the projections of rows on the span of data."""
    return np.square(weights @ np.linalg.pinv(data) @ data).sum(1)


# --- by hand -----------------------------------------------------------------------------------


def fixed():
    model = normal(3, 2)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.1, 2.0], [2.0, 0.0, 0.0]]))
        model[2].weight.copy_(torch.tensor([[1.0, 1.0]]))
    return model


def test_the_span_decides_where_the_plain_balance_does_not():
    """The third input is always 0: 0.1² + 0.1² < 1², although 0.1² + 0.1² + 2² > 1²."""
    data = samples(10, 3)
    plain = ob.sample_model(fixed, inputs=data, networks=2)
    data[:, 2] = 0.0
    study = ob.sample_model(fixed, inputs=data, networks=2, data=data)
    assert (plain.cells[0].counts.frozen, study.cells[0].counts.frozen) == (0, 2 * 1)
    assert plain.cells[0].largest == pytest.approx(1.0 / 4.0)
    assert study.cells[0].largest == pytest.approx(1.0 / 0.02)
    (side,) = study.cells[0].sides
    assert (side.side, side.tensor, side.weights, side.others) == ("read", "2.weight", 2, 2.0)
    assert (plain.cells[0].data_rank, study.cells[0].data_rank) == (None, 2)
    assert study.table()["data_rank"].tolist() == [2]
    assert "The 10 samples span 2 of 3 dimensions that layer 0 can see" in str(study)
    assert "samples" not in str(plain)


def test_one_sample_leaves_one_combination_of_incoming_weights():
    """On (1, 1, 0) the rows move by 0.02 and by 2: an output weight and a row are frozen."""
    study = ob.sample_model(
        fixed, inputs=samples(4, 3), networks=1, data=torch.tensor([[1.0, 1.0, 0.0]])
    )
    frozen = study.by_law().set_index("side")["share"].to_dict()
    assert frozen == {"read": 0.5, "combination": 0.5}
    assert study.cells[0].largest == pytest.approx(1.0 / 0.02)
    assert study.cells[0].beyond == 0


def test_data_that_are_zero_leave_nothing_that_moves():
    study = ob.sample_model(fixed, inputs=samples(4, 3), networks=1, data=torch.zeros(5, 3))
    assert (study.cells[0].data_rank, study.cells[0].counts.frozen) == (0, 2)
    assert study.cells[0].largest == math.inf


def test_counts_with_a_bias_are_those_of_each_draw_by_hand():
    """A bias reads a one that is appended to each input."""

    def factory():
        model = usual()
        assert model[0].weight.detach().isfinite().all()  # read, so that draws call the factory
        return model

    data, number, seed = samples(3), 30, 5
    study = ob.sample_model(factory, inputs=data, networks=number, seed=seed, data=data)
    draws = Draws(factory, {}, data, seed, "")
    frozen = []
    for k in range(number):
        first, _, last = draws.model(k)
        rows = torch.cat([first.weight, first.bias[:, None]], 1).detach().double().numpy()
        squares = inside(rows, np.c_[data.double().numpy(), np.ones(3)])
        frozen.append(np.count_nonzero(last.weight[0].detach().double().numpy() ** 2 > squares))
    counts = study.cells[0].counts
    assert counts.frozen == sum(frozen) > 0
    assert 0 < counts.obstructed == np.count_nonzero(frozen) < number


def test_counts_of_a_model_of_jax():
    jax = framework("jax")
    data = samples(3).numpy()

    def factory(seed):
        first, last = jax.random.split(jax.random.key(seed))
        return (
            lambda p, x: jax.numpy.maximum(x @ p["first"], 0.0) @ p["last"],
            {
                "first": jax.random.normal(first, (D, WIDTH)),
                "last": jax.random.normal(last, (WIDTH, 1)),
            },
        )

    study = ob.sample_model(factory, inputs=data, networks=8, data=data)
    draws, total = Draws(factory, {}, data, 0, ""), 0
    for k in range(8):
        first, last = (np.asarray(one, np.float64) for one in draws.model(k)[1].values())
        total += np.count_nonzero(last[:, 0] ** 2 > inside(first.T, data.astype(np.float64)))
    assert study.cells[0].counts.frozen == total > 0


def test_every_layer_that_reads_the_inputs_is_on_the_span():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = normal(), usual()

        def forward(self, x):
            return self.one(x) + self.other(x)

    study = ob.sample_model(Twice, inputs=samples(16), networks=1, data=samples(5))
    assert [side.others for side in study.cells[0].sides] == [5.0, 5.0]
    widths = sorted((span.width, span.rank) for span in study.cells[0].data.spans)
    assert widths == [(D, 5), (D + 1, 5)]


# --- exact values ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study():
    """Networks on 1, 2, 3, 5 and 8 samples; one sample freezes a sign of every neuron."""
    return ob.sample_model(
        lambda rank: normal(),
        inputs=samples(16),
        data=lambda rank: samples(rank),
        grid={"rank": [1, 2, 3, 5, 8]},
        networks=1000,
        exact=lambda rank: 1.0 if rank == 1 else network_probability(rank),
    )


def held_against(study, values):
    pairs = zip(study.cells, values, strict=True)
    return replace(study, cells=tuple(replace(cell, exact=value) for cell, value in pairs))


def test_normal_weights_have_the_law_of_as_many_inputs_as_the_rank(study):
    """Seeded; a false alarm in one of 1000 seeds."""
    verdict = study.agreement()
    assert (verdict.verdict, verdict.tests) == ("agrees", 5 + 6)
    assert study.table()["data_rank"].tolist() == [1, 2, 3, 5, 8]
    assert [cell.sides[0].others for cell in study.cells] == [1, 2, 3, 5, 8]
    assert study.cells[0].counts.frozen == 1000 * WIDTH
    assert study.cells[0].counts.obstructed == 1000
    assert study.cells[3].counts.obstructed not in (0, 1000)


def test_networks_with_that_many_inputs_have_the_same_probability():
    """Seeded; a false alarm in one of 1000 seeds."""
    narrow = ob.sample_model(
        lambda rank: normal(rank, fan=D),
        inputs=lambda rank: samples(16, rank),
        grid={"rank": [2, 3, 5, 8]},
        networks=1000,
        exact=lambda rank: network_probability(rank),
    )
    assert narrow.agreement().verdict == "agrees"


@pytest.mark.parametrize("wrong", [lambda rank: D, lambda rank: rank + 1])
def test_planted_faults_are_rejected(study, wrong):
    """The number of inputs in place of the rank, and a bias that is not there."""
    values = [network_probability(wrong(cell.data_rank)) for cell in study.cells]
    values[0] = math.nan
    assert held_against(study, values).agreement().verdict == "disagrees"


def test_the_table_of_a_grid_shows_the_ranks(study):
    lines = str(study).splitlines()
    assert lines[1].split()[:3] == ["rank", "rank", "P"]
    assert [line.split()[:2] for line in lines[2:7]] == [[r, r] for r in "12358"]
    assert lines[7].startswith("The rank is the dimension of the span of the data")


@pytest.mark.parametrize("factory", [normal, usual])
def test_data_of_full_rank_change_nothing(factory):
    without = ob.sample_model(factory, inputs=samples(16), networks=100)
    full = ob.sample_model(factory, inputs=samples(16), networks=100, data=samples(40))
    assert full.by_law().equals(without.by_law())
    names = without.table().columns.drop("data_rank")
    assert full.table()[names].equals(without.table()[names])
    assert without.table()["data_rank"].isna().all()
    assert full.cells[0].data_rank == D + (factory is usual)
    assert "which is all of them, so that the data change nothing" in str(full)


# --- gradient descent --------------------------------------------------------------------------


def one_neuron():
    model = nn.Sequential(nn.Linear(6, 1, bias=False), nn.LeakyReLU(0.2), nn.Linear(1, 1, False))
    nn.init.normal_(model[0].weight)
    nn.init.normal_(model[2].weight)
    assert model[0].weight.detach().isfinite().all()  # read, so that draws call the factory
    return model.double()


def descended(model, data):
    """Return the output weight after each step on a target that needs it of the other sign."""
    value = model[2].weight
    target = -torch.sign(value.detach()) * model[:2](data).detach()
    found, loss = [], torch.tensor(math.inf)
    for _ in range(2500):
        model.zero_grad()
        loss = (model(data) - target).square().mean()
        loss.backward()
        found.append(value.item())
        with torch.no_grad():
            for one in model.parameters():
                one -= 2e-3 * one.grad
    return np.array(found), loss.item()


def test_descent_on_few_samples_never_carries_a_frozen_weight_through_zero():
    """On the span the balance is negative, though that of all weights is positive.

    On samples that span everything the same starts cross and learn the target.
    """
    few, many = samples(2, 6).double(), samples(40, 6).double()
    few = torch.cat([few, -few])
    study = ob.sample_model(one_neuron, inputs=many, networks=60, data=few)
    draws, frozen, tried = Draws(one_neuron, {}, many, 0, ""), 0, 0
    crossed = 0
    for k in range(60):
        weights, value = (one.detach().numpy() for one in draws.model(k).parameters())
        bound = value[0, 0] ** 2 - inside(weights, few.numpy())[0]
        frozen += bound > 0.0
        if bound < 0.05 or np.square(weights).sum() < value[0, 0] ** 2 + 0.5 or tried == 2:
            continue
        tried += 1
        path, loss = descended(draws.model(k), few)
        assert (path * path[0] > 0.0).all()
        assert np.abs(path).min() > 0.98 * math.sqrt(bound)
        assert loss > 0.1, (path[-1], bound)
        path, loss = descended(draws.model(k), many)
        crossed += path[-1] * path[0] < 0.0 and loss < 0.01
    assert study.by_law().set_index("tensor").loc["2.weight", "share"] == frozen / 60
    assert (tried, crossed) == (2, 2)


# --- models that do not begin with a dense layer, and wrong data --------------------------------


def convolution():
    return nn.Sequential(
        nn.Conv1d(1, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = usual()

    def forward(self, x, y):
        return self.model(x + y)


@pytest.mark.parametrize(
    ("factory", "inputs", "said"),
    [
        (convolution, samples(8)[:, None], "whose first parameters are a dense layer"),
        (lambda: nn.Sequential(nn.LayerNorm(D), *usual()), samples(8), "whose first parameters"),
        (TwoInputs, (samples(8), samples(8)), "with one array of real inputs"),
    ],
)
def test_data_of_models_that_begin_otherwise_change_nothing(factory, inputs, said):
    data = samples(3) if isinstance(inputs, tuple) else inputs[:3]
    study = ob.sample_model(factory, inputs=inputs, networks=20, data=data)
    without = ob.sample_model(factory, inputs=inputs, networks=20)
    assert study.by_law().equals(without.by_law())
    assert study.cells[0].data_rank is None
    assert study.table()["data_rank"].isna().all()
    (line,) = [line for line in str(study).splitlines() if "data" in line]
    assert line.startswith("The data change nothing: data= is judged for models ")
    assert said in line


def test_a_grid_tells_which_models_do_not_begin_with_a_dense_layer():
    study = ob.sample_model(
        lambda normed: nn.Sequential(nn.LayerNorm(D), *usual()) if normed else usual(),
        inputs=samples(8),
        data=samples(3),
        grid={"normed": [False, True]},
        networks=5,
    )
    assert study.table()["data_rank"].isna().tolist() == [False, True]
    assert "normed = True: The data change nothing" in str(study)
    assert "normed = False: The data" not in str(study)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (samples(3, D + 1), r"data has shape \(3, 13\)"),
        (np.full((3, D), np.nan), "data: must be finite"),
        ([["a"] * D], "data has shape"),
    ],
)
def test_wrong_data_are_refused_as_in_an_audit(data, said):
    with pytest.raises(ValueError, match=said):
        ob.sample_model(usual, inputs=samples(8), data=data)
    with pytest.raises(ValueError, match=said):
        ob.audit(usual(), inputs=samples(8), data=data)


def test_a_function_of_data_takes_the_axes():
    with pytest.raises(ValueError, match="data: cannot be called with the keywords width"):
        ob.sample_model(
            lambda width: usual(width=width),
            inputs=samples(8),
            data=lambda d: samples(3),
            grid={"width": [4]},
        )


# --- the folder --------------------------------------------------------------------------------


def test_a_study_is_kept_with_its_data_and_continued(tmp_path):
    data = samples(3)
    again = {"inputs": samples(8), "out": tmp_path}
    ob.sample_model(usual, networks=10, data=data, **again)
    (entries,) = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["cells"]
    assert entries["data"]["rank"] == 3
    assert len(entries["data"]["digest"]) == 64
    longer = ob.sample_model(usual, networks=25, data=data.double().tolist(), **again)
    whole = ob.sample_model(usual, networks=25, data=data, inputs=samples(8))
    for found in (longer, ob.load_models(tmp_path)):
        assert found.table().equals(whole.table())
        assert found.by_law().equals(whole.by_law())
        assert found.cells[0].data == whole.cells[0].data
        assert str(found).splitlines()[1:] == str(whole).splitlines()[1:]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (samples(3), samples(4), "data is other there"),
        (samples(3), samples(3) * 2.0, "data is other there"),
        (samples(3), None, "data is given there"),
        (None, samples(3), "data is None there"),
    ],
)
@pytest.mark.parametrize("networks", [5, 9])
def test_a_folder_with_other_data_is_refused(tmp_path, first, second, said, networks):
    ob.sample_model(usual, inputs=samples(8), networks=5, data=first, out=tmp_path)
    with pytest.raises(ValueError, match=f"holds another study: {said}"):
        ob.sample_model(usual, inputs=samples(8), networks=networks, data=second, out=tmp_path)


def test_a_grid_with_other_data_in_one_cell_is_refused(tmp_path):
    common = {
        "inputs": samples(8),
        "grid": {"width": [4, 6]},
        "networks": 3,
        "out": tmp_path,
    }
    ob.sample_model(lambda width: usual(width=width), data=samples(3), **common)
    with pytest.raises(ValueError, match="data is other there at width=6"):
        ob.sample_model(
            lambda width: usual(width=width),
            data=lambda width: samples(3 if width == 4 else 5),
            **common,
        )


def test_several_arrays_are_told_apart(tmp_path):
    common = {"inputs": (samples(8), samples(8)), "networks": 3, "out": tmp_path}
    data = (samples(3), samples(4, 2))
    ob.sample_model(TwoInputs, data=data, **common)
    ob.sample_model(TwoInputs, data=data, **common)
    with pytest.raises(ValueError, match="data is other there"):
        ob.sample_model(TwoInputs, data=(samples(3), samples(4, 2, seed=1)), **common)
