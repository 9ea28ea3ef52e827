"""Models of PyTorch that a factory makes: counts by hand, exact values, and planted faults."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import framework

import obstruction as ob
from obstruction.conservation.law import Law, Term
from obstruction.conservation.laws import Laws
from obstruction.sampling.runner import Runner
from obstruction.studies.factories.counting import ModelCounts, ModelSampler, needed_for
from obstruction.studies.factories.draws import Draws
from obstruction.studies.factories.model_folder import save
from obstruction.studies.factories.single_sides import single_sides

torch = framework("torch")
nn = torch.nn

exact = ob.exact.obstruction_probability


def two_layers(d=2, width=8, outputs=1):
    return nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, outputs))


def x(d=2):
    return torch.linspace(-1.0, 1.0, 16 * d).reshape(16, d)


@pytest.fixture(scope="module")
def study():
    return ob.sample_model(two_layers, inputs=x(), networks=2500, exact=exact("torch_linear", 2, 8))


def held_against(study, value):
    return replace(study, cells=tuple(replace(cell, exact=value) for cell in study.cells))


# --- counts and exact values -------------------------------------------------------------------


def test_the_counts_agree_with_the_exact_value(study):
    """Seeded; a false alarm in one of 1000 seeds."""
    assert study.agreement().verdict == "agrees"
    (row,) = study.table().to_dict("records")
    assert (row["networks"], row["weights"], row["beyond"]) == (2500, 8, 0)
    assert row["ci_low"] < row["exact"] < row["ci_high"]
    p = ob.exact.pathological_probability("torch_linear", 2, 8)
    assert abs(row["share"] - p) < 4.5 * math.sqrt(p * (1 - p) / 20_000)


@pytest.mark.parametrize(
    "wrong",
    [
        ("torch_linear:bias=none", 2, 8),  # the bias is forgotten
        ("torch_linear:output_gain=1.7320508075688772", 2, 8),  # a gain is
        ("torch_linear", 8, 2),  # fan-in and fan-out are swapped
        ("torch_linear", 3, 8),  # the bias is one more input
    ],
)
def test_planted_faults_are_rejected(study, wrong):
    assert held_against(study, exact(*wrong)).agreement().verdict == "disagrees"


def read(d=2, width=8):
    """Return a model by code that reads a random number, so that each draw calls all of it."""
    model = two_layers(d, width)
    assert math.isfinite(float(model[0].weight[0, 0].detach()))
    return model


def drawn_whole(number, seed):
    """Return weights as the factory makes them."""
    first, _, last = Draws(read, {}, x(), seed, "").model(number)
    return [one.detach().double() for one in (first.weight, first.bias, last.weight[0])]


def drawn_alone(number, seed):
    """Return weights drawn in the order of their names by the operations of nn.Linear."""
    generator = torch.Generator().manual_seed(ob.sampling.streams.model_seed(seed, "", number))
    bias = torch.empty(8).uniform_(-(2**-0.5), 2**-0.5, generator=generator)
    rows = torch.empty(8, 2).uniform_(-(2**-0.5), 2**-0.5, generator=generator)
    last = torch.empty(8).uniform_(-(8**-0.5), 8**-0.5, generator=generator)
    return [one.double() for one in (rows, bias, last)]


@pytest.mark.parametrize(
    ("factory", "drawn"), [(read, drawn_whole), (two_layers, drawn_alone)], ids=["whole", "alone"]
)
def test_counts_are_those_of_each_draw_by_hand(factory, drawn):
    number, seed = 60, 3
    study = ob.sample_model(factory, inputs=x(), networks=number, seed=seed)
    frozen, ratios = [], []
    for k in range(number):
        rows, bias, last = drawn(k, seed)
        ratio = (last.square() / (rows.square().sum(1) + bias.square())).numpy()
        frozen.append(int(np.count_nonzero(ratio > 1.0)))
        ratios.append(ratio.max())
    counts = study.cells[0].counts
    assert counts.frozen == counts.weights.sum() == sum(frozen) > 0
    assert counts.obstructed == counts.some[0] == np.count_nonzero(frozen)
    assert counts.largest[0] == pytest.approx(
        max(ratios), rel=1e-6 if drawn is drawn_alone else 1e-12
    )


def test_draws_are_those_of_a_user_who_seeds_the_generators():
    draws = Draws(two_layers, {}, x(), 3, "")
    torch.manual_seed(ob.sampling.streams.model_seed(3, "", 5))
    mine = two_layers()
    theirs = draws.model(5)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_counts_add_up_in_any_order_and_are_continued():
    laws = ob.conservation_laws(two_layers(), inputs=x())
    sides = tuple(single_sides(laws))
    draws = Draws(two_layers, {}, x(), 8, "")
    needed = needed_for(sides)
    parameters = partial(draws.parameters, shapes=laws.shapes, needed=needed)
    sampler = ModelSampler(parameters, sides, laws.shapes)
    whole = Runner(sampler)
    whole.run(40, threads=1)
    done, wanted = whole.snapshot()
    parts = Runner(sampler)
    parts.run(40, start=17, threads=1)
    later = Runner(sampler, *parts.snapshot())
    later.run(40, threads=1)
    backwards = ModelCounts.zero(len(sides))
    for k in reversed(range(40)):
        backwards = backwards + sampler.one(k)
    for found in (later.snapshot()[1], backwards):
        assert found.starts == wanted.starts or not found.same_start
        for name in ("networks", "obstructed", "frozen"):
            assert getattr(found, name) == getattr(wanted, name)
        assert np.array_equal(found.weights, wanted.weights)
        assert np.array_equal(found.largest, wanted.largest)
    assert done == ((0, 40),)


def test_the_generators_of_the_caller_are_left_alone():
    states = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    ob.sample_model(two_layers, inputs=x(), networks=3)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), states[2])


def test_orthogonal_weights_of_a_critic():
    """PPO's value head: the mean share of a network's neurons varies at most like a coin's."""

    def critic():
        model = two_layers(3, 64)
        nn.init.orthogonal_(model[0].weight, math.sqrt(2.0))
        nn.init.orthogonal_(model[2].weight, 1.0)
        nn.init.zeros_(model[0].bias)
        return model

    study = ob.sample_model(critic, inputs=x(3), networks=300)
    share = study.by_law()["share"][0]
    p = ob.exact.pathological_probability("orthogonal:hidden_gain=1.4142135623730951", 3, 64)
    assert abs(share - p) < 4.5 * math.sqrt(p * (1 - p) / 300)
    assert study.table()["empirical"][0] == 1.0


def test_two_logits_under_cross_entropy():
    two = {"e": 2, "loss": "cross_entropy"}
    study = ob.sample_model(
        lambda: two_layers(2, 8, 2),
        inputs=x(),
        networks=1500,
        loss="cross_entropy",
        exact=exact("torch_linear", 2, 8, **two),
    )
    assert study.agreement().verdict == "agrees"
    assert study.by_law()["side"].tolist() == ["difference"]
    wrong = exact("torch_linear:output_gain=1.4142135623730951", 2, 8, **two)  # v_1 - v_2 itself
    assert held_against(study, wrong).agreement().verdict == "disagrees"
    free = ob.sample_model(lambda: two_layers(2, 8, 2), inputs=x(), networks=5)
    assert free.cells[0].sides == ()
    assert "No weight is alone on a side of a balance" in str(free)
    three = ob.sample_model(
        lambda: two_layers(2, 8, 3), inputs=x(), networks=5, loss="cross_entropy"
    )
    assert three.cells[0].sides == ()


# --- gains -----------------------------------------------------------------------------------


class Scored(nn.Module):
    """A gain for each channel, read by one weight: both sides of every balance are single."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(6))
        self.score = nn.Linear(6, 1, bias=False)

    def forward(self, data):
        return self.score(self.gain * data / data.norm(dim=-1, keepdim=True))


class Separable(nn.Module):
    """A gain of a normalisation before a depthwise convolution that is normalised again."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 8, 1, bias=False), nn.BatchNorm2d(8))
        depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
        self.second = nn.Sequential(depthwise, nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.last = nn.LazyLinear(3)

    def forward(self, data):
        return self.last(self.second(self.first(data)))


def test_one_of_two_single_weights_is_frozen():
    study = ob.sample_model(Scored, inputs=x(6), networks=20)
    table = study.by_law().set_index("side")
    assert set(table.index) == {"read", "written"}
    assert table["share"].sum() == 1.0
    (row,) = study.table().to_dict("records")
    assert (row["weights"], row["share"], row["empirical"]) == (12, 0.5, 1.0)


def test_gains_of_a_normalisation_are_written_alone():
    """The offset drops out; the column U(-1/3, 1/3) of nine weights is shorter than the gain 1."""
    data = torch.randn(4, 2, 6, 6, generator=torch.manual_seed(0))
    study = ob.sample_model(Separable, inputs=data, networks=25)
    table = study.by_law()
    table = table[table["tensor"] == "first.1.weight"]
    assert table[["side", "weights", "others", "empirical"]].to_numpy().tolist() == [
        ["written", 8, 9.0, 1.0]
    ]
    assert 0.9 < table["share"].iloc[0] <= 1.0


# --- what is said besides ----------------------------------------------------------------------


def test_a_start_that_does_not_depend_on_the_seed_is_reported(study):
    def stubborn():
        torch.manual_seed(0)
        return two_layers()

    same = ob.sample_model(stubborn, inputs=x(), networks=4)
    assert same.table()["same_start"].tolist() == [True]
    assert "whatever the seed" in str(same)
    assert study.table()["same_start"].tolist() == [False]
    assert "whatever the seed" not in str(study)


def test_a_factory_with_a_generator_of_its_own_is_reported(study):
    generator = torch.Generator()

    def unseeded():
        model = two_layers()
        nn.init.normal_(model[2].weight, generator=generator)
        return model

    assert "cannot be repeated" in str(ob.sample_model(unseeded, inputs=x(), networks=3))
    assert "cannot be repeated" not in str(study)


def test_what_sets_of_channels_freeze_is_said_and_not_counted():
    """The only neuron of the second layer is free by its own balance, and not with all others."""

    def chain():
        layers = [nn.Linear(*sizes, bias=False) for sizes in ((2, 3), (3, 1), (1, 1))]
        for layer, value in zip(layers, (0.1, 1.0, 1.2), strict=True):
            nn.init.constant_(layer.weight, value)
        with torch.no_grad():
            layers[0].weight += 0.01 * torch.arange(6.0).reshape(3, 2)
        first, second, third = layers
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)

    study = ob.sample_model(chain, inputs=x().abs(), networks=2)
    assert study.table()["beyond"].tolist() == [1]
    assert "sets of several channels freeze 1 further weight" in str(study)
    assert study.cells[0].counts.frozen == 2 * 3


def test_entries_that_never_move_leave_the_balance():
    """The square 4 of a reader exceeds 1, and not 1 + 9 with the second writer, which is fixed."""
    rows, row = np.arange(2)[:, None], np.arange(2)[None, :]
    none, fixed = np.zeros(2), np.array([[-1, 0], [-1, 1]])
    balance = Law("balance", (Term("w", rows, 1), Term("v", row, -1)), 2, none, 0.0)
    constant = Law("constant", (Term("w", fixed, 1),), 2, none, 0.0)
    parameters = {"w": np.array([[1.0, 3.0], [1.0, 1.5]]), "v": np.array([[2.0, 0.5]])}
    for laws, wanted in (((balance,), [False, False]), ((balance, constant), [True, False])):
        read, *written = single_sides(Laws(laws, "", "", parameters))
        assert (read.side, read.ratios(parameters).frozen.tolist()) == ("read", wanted)
        assert [one.side for one in written] == (["written"] if len(laws) == 2 else [])


def test_printing_shows_each_law(study):
    text = str(study)
    assert "Sequential (PyTorch): 2,500 draws by its own initialisation, seed 0" in text
    assert "exact 0.1236" in text
    assert "2.weight" in text
    assert repr(study) == text


# --- grids -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grid():
    return ob.sample_model(
        two_layers,
        inputs=lambda d, width: x(d),
        networks=400,
        grid={"width": [4, 16], "d": [1, 3]},
        exact=lambda d, width: exact("torch_linear", d, width),
    )


def test_a_grid_has_an_architecture_for_each_combination(grid):
    table = grid.table()
    assert table[["width", "d"]].to_numpy().tolist() == [[4, 1], [4, 3], [16, 1], [16, 3]]
    assert table["weights"].tolist() == [4, 4, 16, 16]
    assert grid.agreement().verdict == "agrees"
    assert grid.agreement().tests == 4 + 4  # of draws with a frozen weight, and of frozen weights
    assert grid.by_law()["others"].tolist() == [2.0, 4.0, 2.0, 4.0]
    assert "4 architectures, 400 draws each" in str(grid)


def test_a_heatmap_of_the_grid(grid):
    table = grid.table()
    ax = ob.heatmap(table, axes=("d", "width"))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("inputs $d$", "width")
    assert ax.collections[0].get_array().tolist() == [
        [table["empirical"][k] for k in row] for row in ((0, 1), (2, 3))
    ]
    assert "Sequential" in ax.get_title()
    assert "400 networks" in ax.get_title()
    log = ob.heatmap(table, "exact", axes=("width", "d"), scale="log10")
    assert log.collections[0].get_array()[0, 1] == pytest.approx(math.log10(table["exact"][2]))
    with pytest.raises(ValueError, match=r"^table has no column 'l': needs scheme, d, l"):
        ob.heatmap(table)
    for wrong in ("d", ("d",), ("d", "d")):
        with pytest.raises(ValueError, match=r"^axes = .*: must be the names of two different co"):
            ob.heatmap(table, axes=wrong)
    with pytest.raises(ValueError, match=r"^axes: share = .*: must hold whole numbers of at lea"):
        ob.heatmap(table, axes=("d", "share"))


def test_a_cell_does_not_depend_on_the_rest_of_the_grid(grid):
    alone = ob.sample_model(
        two_layers, inputs=x(3), networks=400, grid={"width": np.array([16]), "d": (3,)}
    )
    columns = ["width", "d", "obstructed", "share", "largest"]
    assert alone.table()[columns].iloc[0].equals(grid.table()[columns].iloc[3])
    given = grid.table()["exact"][3]  # for the same law
    assert alone.table()["exact"][0] == pytest.approx(given, rel=1e-6)
    assert alone.agreement().verdict == "agrees"


# --- the folder --------------------------------------------------------------------------------


def same(one, other):
    assert one.table().equals(other.table())
    assert one.by_law().equals(other.by_law())
    assert (one.axes, one.networks, one.seed, one.loss) == (
        other.axes,
        other.networks,
        other.seed,
        other.loss,
    )


def test_a_study_is_written_and_read_back(study, grid, tmp_path):
    for number, one in enumerate((study, grid)):
        folder = tmp_path / str(number)
        save(one, folder)
        back = ob.load_models(folder)
        same(one, back)
        assert str(back).splitlines()[1:] == str(one).splitlines()[1:]
        assert sorted(path.name for path in folder.iterdir()) == [
            "cells.csv",
            "laws.csv",
            "run.json",
        ]
        assert (folder / "cells.csv").read_text(encoding="utf-8").startswith("model,")


def test_an_interrupted_run_is_continued(tmp_path):
    options = {"inputs": x(), "seed": 4, "grid": {"width": [4, 6, 8]}}
    whole = ob.sample_model(read, networks=30, **options)
    calls = []

    def interrupted(width):
        calls.append(width)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return read(width=width)

    with pytest.raises(KeyboardInterrupt):
        ob.sample_model(interrupted, networks=30, out=tmp_path, **options)
    held = ob.load_models(tmp_path)
    assert not held.complete
    assert "(interrupted)" in str(held)
    assert held.cells[0].counts.networks == 30
    calls.clear()

    def counted(width):
        calls.append(width)
        return read(width=width)

    same(ob.sample_model(counted, networks=30, out=tmp_path, **options), whole)
    assert set(calls) == {6, 8}
    same(ob.load_models(tmp_path), whole)
    calls.clear()
    more = ob.sample_model(counted, networks=40, out=tmp_path, **options)
    assert len(calls) == 3 * (10 + 3)  # to find the laws, to see the same start, and to record
    same(more, ob.sample_model(read, networks=40, **options))


def test_another_study_in_the_folder_is_not_continued(tmp_path):
    run = {"inputs": x(), "networks": 3, "out": tmp_path, "grid": {"width": [4]}}
    ob.sample_model(two_layers, **run)
    more = {**run, "networks": 5}
    for change, message in (
        ({"seed": 1}, "holds another study: seed is 0 there"),
        ({"loss": "cross_entropy"}, "holds another study: loss is None there"),
        ({"grid": {"width": [8]}}, "its grid is .* and the grid may only have more values"),
        ({"grid": None}, "and the grid may only have more values"),
    ):
        with pytest.raises(ValueError, match=rf"^out = .*{message}"):
            ob.sample_model(two_layers, **{**more, **change})
    with pytest.raises(ValueError, match=r"^factory: draw 0 at width=4 has other weights than"):
        ob.sample_model(lambda width: two_layers(width=width).apply(scaled), **more)
    with pytest.raises(ValueError, match=r"^networks = 2: .* holds 3 networks already"):
        ob.sample_model(two_layers, **{**run, "networks": 2})
    with pytest.raises(ValueError, match=r"^factory: its model at width=4 has other balances than"):
        ob.sample_model(lambda width: two_layers(width=width + 1), **more)
    with pytest.raises(ValueError, match=r"^grid: width = None: must be a text, a finite number"):
        ob.sample_model(two_layers, **{**run, "grid": {"width": [None]}})


def scaled(module):
    if isinstance(module, nn.Linear):
        with torch.no_grad():
            module.weight *= 2.0


def test_damaged_folders_are_refused(study, tmp_path):
    with pytest.raises(ValueError, match=r"run\.json: cannot be read"):
        ob.load_models(tmp_path)
    save(study, tmp_path)
    run = tmp_path / "run.json"
    text = run.read_text(encoding="utf-8")
    for old, new in (
        ('"kind": "models"', '"kind": "other"'),
        ('"format": 2', '"format": 9'),
        ('"obstructed"', '"obstruct"'),
        ('"networks": 2500', '"networks": 2499'),
        ("{", ""),
    ):
        run.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ValueError, match=r"run\.json: (damaged|is of another kind|format = 9)"):
            ob.load_models(tmp_path)


# --- errors ----------------------------------------------------------------------------------


def changing():
    return two_layers(width=random.choice([3, 4, 5, 6]))


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        (two_layers(), {}, r"^factory = Sequential.*: must be a function that returns a new model"),
        (3, {}, r"^factory = 3: must be a function"),
        (two_layers, {"networks": 0}, r"^networks = 0: must be a whole number of at least 1"),
        (two_layers, {"seed": -1}, r"^seed = -1: "),
        (two_layers, {"loss": "mse"}, r"^loss = 'mse': must be None or one of 'cross_entropy'"),
        (two_layers, {"exact": 1.5}, r"^exact = 1\.5: must be a number from 0 to 1, or NaN"),
        (two_layers, {"grid": {}}, r"^grid = \{\}: must be a dictionary of axes"),
        (two_layers, {"grid": {"d": 2}}, r"^grid: d = 2: must be a list of values"),
        (two_layers, {"grid": {"d": []}}, r"^grid: d = \[\]: must hold values that differ"),
        (two_layers, {"grid": {"d": [2, 2]}}, r"^grid: d = \[2, 2\]: must hold values that differ"),
        (two_layers, {"grid": {"seed": [1]}}, r"^grid: the axis 'seed' must be a keyword"),
        (two_layers, {"grid": {"depth": [1]}}, r"^factory: cannot be called with the keywords de"),
        (lambda n: n, {}, r"^factory: cannot be called without arguments"),
        (two_layers, {"inputs": lambda d: x(d)}, r"^inputs: cannot be called without arguments"),
        (two_layers, {"exact": lambda d: 0.5}, r"^exact: cannot be called without arguments"),
        (two_layers, {"inputs": None}, r"^inputs: an example batch is needed"),
        (changing, {"networks": 30}, r"^factory: draw \d+ differs from draw 0 in more than"),
    ],
)
def test_errors_name_the_argument(factory, options, message):
    with pytest.raises(ValueError, match=message):
        ob.sample_model(factory, **{"inputs": x(), "networks": 2, **options})


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model = 5"):
        ob.sample_model(lambda: 5, inputs=x())
