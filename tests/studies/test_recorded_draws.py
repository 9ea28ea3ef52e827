"""How factories of PyTorch fill parameters, as recorded, and the exact values that follow."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from conftest import framework
from scipy import stats

import obstruction as ob
from obstruction.schemes.laws import CONSTANT, CUT_STD, NORMAL, TRUNCATED, UNIFORM
from obstruction.studies.factories.draws import Draws
from obstruction.studies.factories.exact_sides import exact_sides
from obstruction.studies.factories.recipes import Recipe, Step
from obstruction.studies.factories.single_sides import single_sides

torch = framework("torch")
nn = torch.nn


class Made(nn.Module):
    """A module of the given parameters."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            setattr(self, name, nn.Parameter(tensor))


def recipes(factory, *needed):
    model = factory()
    shapes = {name: tuple(one.shape) for name, one in model.named_parameters()}
    return Draws(factory, {}, None, 0, "").recipes(shapes, set(needed or shapes))


# --- what is recorded --------------------------------------------------------------------------


def cut(**options):
    return Made(w=nn.init.trunc_normal_(torch.empty(40, 50), **options))


TWO_DEVIATIONS = math.erf(math.sqrt(2.0))


def by_quantiles(std=0.5, top=TWO_DEVIATIONS):
    """Draw as torch did before version 2.13 and as timm does."""
    w = torch.empty(40, 50).uniform_(-top, top).erfinv_().mul_(std * math.sqrt(2.0)).add_(0.0)
    return Made(w=w.clamp_(-1.0, 1.0))


def halves():
    return nn.Linear(9, 5).to(torch.float64)


@pytest.mark.parametrize(
    ("factory", "law", "scale"),
    [
        (lambda: Made(w=torch.randn(40, 50) * 0.02), NORMAL, 0.02),
        (lambda: Made(w=torch.zeros(40, 50).normal_(0.0, 0.3)), NORMAL, 0.3),
        (lambda: Made(w=torch.rand(40, 50) * 4 - 2), UNIFORM, 2 / math.sqrt(3.0)),
        (lambda: Made(w=nn.init.xavier_uniform_(torch.empty(40, 50), gain=2.0)), UNIFORM, None),
        (lambda: Made(w=-torch.randn(40, 50).div(4)), NORMAL, 0.25),
        (lambda: Made(w=torch.randn(40, 50, dtype=torch.float64).float()), NORMAL, 1.0),
        (lambda: cut(std=0.02), NORMAL, 0.02),  # cut at 100 standard deviations
        (lambda: cut(std=0.5, a=-1.0, b=1.0), TRUNCATED, 0.5 * CUT_STD),
        (by_quantiles, TRUNCATED, 0.5 * CUT_STD),
        (lambda: by_quantiles(0.02, 1.0), NORMAL, 0.02),
        (lambda: Made(w=torch.ones(40, 50).mul_(0.5).neg()), CONSTANT, 0.5),
        (lambda: Made(w=torch.full((40, 50), 3.0).sub_(0).clamp_(max=2.0)), CONSTANT, 2.0),
    ],
)
def test_laws_follow_from_the_steps(factory, law, scale):
    found = recipes(factory)
    one = found["w"].drawn()
    assert one.law is law
    torch.manual_seed(1)
    sample = torch.cat([factory().w.flatten() for _ in range(4)]).double().detach()
    rms = float(sample.square().mean().sqrt())
    assert rms == pytest.approx(one.scale, rel=0.06)
    if scale is not None:
        assert one.scale == pytest.approx(scale, rel=1e-6)


@pytest.mark.parametrize(
    "factory",
    [
        lambda: Made(w=torch.randn(8) + 1.0),  # has a mean
        lambda: Made(w=torch.rand(8)),
        lambda: Made(w=torch.randn(8).half()),  # few values
        lambda: cut(std=0.5, a=-0.7, b=0.7),  # another cut
        lambda: cut(std=0.5, a=-1.0, b=2.0),
        lambda: Made(w=torch.randn(8).clamp_(-1.0, 1.0)),
        lambda: Made(w=torch.randn(8, dtype=torch.bfloat16).float()),
        lambda: Made(w=torch.empty(8).uniform_(-1, 1).erfinv_().clamp_(-1, 1).mul_(0.1)),
    ],
)
def test_other_laws_are_drawn_but_have_no_exact_values(factory):
    found = recipes(factory)
    assert found["w"].random
    assert found["w"].drawn() is None


@pytest.mark.parametrize(("value", "known"), [(1.0, True), (0.0, True), (0.3, False)])
def test_constants_of_few_digits_are_known_if_they_are_exact(value, known):
    found = recipes(lambda: Made(w=torch.full((2,), value, dtype=torch.bfloat16)))
    assert (found["w"].drawn() is not None) == known


def orthogonal():
    return Made(w=nn.init.orthogonal_(torch.empty(4, 4)))


def seeded():
    torch.manual_seed(0)
    return nn.Linear(3, 4)


def forked():
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(1)
    model = nn.Linear(3, 4)
    generator.set_state(state)
    return model


def own_generator():
    generator = torch.Generator().manual_seed(0)
    return Made(w=nn.init.normal_(torch.empty(3, 4), generator=generator))


def set_back():
    state = torch.default_generator.get_state()
    first = nn.Linear(3, 3)
    torch.set_rng_state(state)
    return nn.Sequential(first, nn.Linear(3, 3))


def depends():
    model = nn.Linear(3, 3)
    if model.weight.detach()[0, 0] > 0.0:
        nn.init.normal_(model.weight)
    return model


def listed():
    model = nn.Linear(3, 3)
    if model.weight.detach().tolist()[0][0] > 0.0:
        nn.init.normal_(model.bias)
    return model


def asked(read):
    """Return a factory that reads something random, which might decide what it does."""

    def factory():
        model = nn.Linear(3, 3)
        read(model.weight.detach())
        return model

    factory.__name__ = f"asked{id(read)}"
    return factory


READS = {
    "size of nonzero": lambda w: (w > 0.0).nonzero().shape,
    "size of a mask": lambda w: w[w > 0.0].numel(),
    "where": lambda w: torch.where(w > 0.0),
    "unique": torch.unique,
    "repr": repr,
    "as_tensor": lambda w: torch.as_tensor([w[0, 0], w[0, 1]]),
    "item": lambda w: w[0, 0].item(),
    "format": lambda w: f"{w[0, 0]:.2f}",
    "equal": lambda w: torch.equal(w, w + 1.0),
    "initial seed": lambda w: np.random.default_rng(torch.initial_seed() % 2**32).random(),
    "state of PyTorch": lambda w: torch.get_rng_state(),
    "state of Python": lambda w: random.getstate(),
    "state of NumPy": lambda w: np.random.get_state(),  # noqa: NPY002
    "fork": lambda w: torch.random.fork_rng(devices=[]).__enter__(),
}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
def test_what_is_read_is_seen(read):
    assert recipes(asked(read)).startswith("a random number or the state of a generator was read")


def test_what_is_not_random_may_be_read():
    def factory():
        rates = [x.item() for x in torch.linspace(0.0, 0.5, 3)]
        model = nn.Linear(3, 3)
        assert repr((torch.ones(2) > 0.0).nonzero())
        assert rates
        return model

    assert recipes(factory)["weight"].drawn().law is UNIFORM


@pytest.mark.parametrize("same", [torch.as_tensor, torch.asarray])
def test_a_tensor_that_is_passed_on_is_not_read(same):
    """As MONAI 1.6.1 initialises its layers."""

    def factory():
        model = nn.Linear(3, 3)
        nn.init.normal_(same(model.weight.detach()))
        return model

    assert recipes(factory)["weight"].drawn().law is NORMAL


def test_a_seed_of_its_own_is_not_recorded():
    def factory(seed):
        assert np.random.default_rng(seed).random() < 1.0
        return nn.Linear(3, 3)

    found = Draws(factory, {}, None, 0, "").recipes({"weight": (3, 3)}, {"weight"})
    assert found == "it has a seed of its own"


def from_numpy():
    return Made(w=torch.from_numpy(np.random.standard_normal((3, 3))))  # noqa: NPY002


def normalised():
    w = torch.randn(3, 4)
    return Made(w=w / w.norm())


def partly():
    w = torch.randn(5, 4)
    w[2].zero_()
    return Made(w=w)


def copied():
    w = torch.randn(5, 4)
    return Made(v=w, w=w.clone())


def varying():
    varying.calls += 1
    return Made(w=torch.randn(3) * varying.calls)


varying.calls = 0


def transposed():
    w = torch.empty(3, 4)
    w.t().copy_(torch.randn(4, 3))
    return Made(w=w)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (orthogonal, "w was not filled entry by entry"),
        (seeded, "a generator was seeded again"),
        (forked, "bias has the same random numbers in two draws"),
        (own_generator, "w was not filled entry by entry"),
        (set_back, "the generator was set back to an earlier state"),
        (depends, "a random number or the state"),
        (listed, "a random number or the state"),
        (from_numpy, "the generators of Python or NumPy were used"),
        (normalised, "w was not filled entry by entry"),
        (partly, "w was not filled entry by entry"),
        (copied, "w shares its random numbers with another parameter"),
        (varying, "two draws were made by different steps"),
        (transposed, "w is another one when its steps are repeated"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_cannot_be_drawn_alone_is_told(factory, reason):
    found = recipes(factory)
    assert isinstance(found, str)
    assert reason in found


def test_only_the_needed_parameters_matter():
    def factory():
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
        nn.init.orthogonal_(model[0].weight)
        return model

    assert isinstance(recipes(factory, "0.weight", "1.weight"), str)
    assert recipes(factory, "1.weight")["1.weight"].drawn().law is UNIFORM


def test_the_repeated_steps_have_the_law_of_the_factory():
    def factory():
        return Made(w=torch.randn(30, 40) * 0.02, v=nn.init.xavier_uniform_(torch.empty(20, 20)))

    draws = Draws(factory, {}, None, 5, "")
    found = draws.recipes({"w": (30, 40), "v": (20, 20)}, {"v", "w"})
    alone = draws.redraws(found)
    for name in ("v", "w"):
        one = np.concatenate([alone(k)[name].ravel() for k in range(20)])
        other = np.concatenate(
            [draws.model(k).get_parameter(name).detach().numpy().ravel() for k in range(20)]
        )
        assert stats.ks_2samp(one, other).pvalue > 1e-4
        assert not np.array_equal(alone(0)[name], alone(1)[name])
        assert np.array_equal(alone(7)[name], draws.redraws(found)(7)[name])


def masked():
    model = Made(w=torch.randn(4, 3), v=torch.randn(1, 4))
    model.register_buffer("mask", (torch.rand(4, 3) < 0.5).float())
    model.forward = lambda x: torch.relu(x @ (model.w * model.mask).T) @ model.v.T
    return model


def of_chance():
    activation = [nn.ReLU, nn.Tanh][int(torch.randint(2, ()))]
    return nn.Sequential(nn.Linear(3, 4), activation(), nn.Linear(4, 1))


def test_draws_are_of_one_model():
    """Its laws are found once."""
    x = torch.randn(8, 3)
    with pytest.raises(ValueError, match=r"^factory: draw 1 has another buffer mask than draw 0"):
        ob.sample_model(masked, inputs=x, networks=3)
    with pytest.raises(
        ValueError, match=r"^factory: draw \d+ has 1 = \w+\(\) where draw 0 has 1 ="
    ):
        ob.sample_model(of_chance, inputs=x, networks=60)


# --- exact values ------------------------------------------------------------------------------


def images(channels=3, size=8):
    return torch.linspace(-1.0, 1.0, 4 * channels * size**2).reshape(4, channels, size, size)


def pooled(first, head):
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def convolution():
    return pooled(nn.Conv2d(4, 8, (1, 2), groups=2), nn.Linear(8, 1))


def normal_convolution():
    model = pooled(nn.Conv2d(2, 6, (1, 2), bias=False), nn.Linear(6, 1, bias=False))
    nn.init.kaiming_normal_(model[0].weight)
    nn.init.xavier_normal_(model[4].weight, gain=1.5)
    return model


def gain():
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
    nn.init.normal_(model[3].weight, std=0.7)
    return model


def logits():
    return nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 2))


def mixed():
    """Normal weights with a constant bias, and a head from a cut normal law."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.normal_(model[0].weight, std=0.3)
    nn.init.constant_(model[0].bias, 0.1)
    nn.init.trunc_normal_(model[2].weight, std=0.6, a=-1.2, b=1.2)
    return model


def uneven():
    """Uniform weights, and a bias with another law."""
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.normal_(model[0].bias, std=0.2)
    return model


obstructed = ob.exact.obstruction_probability


def drawn(found):
    return {name: recipe.drawn() for name, recipe in found.items()}


def some(p, number):
    return 1.0 - (1.0 - p) ** number


@pytest.mark.parametrize(
    ("factory", "x", "loss", "expected"),
    [
        # 2 inputs per group x 2 places; the bias and the head are those of nn.Linear too
        (
            convolution,
            images(4),
            None,
            lambda: obstructed("torch_linear", 4, 8),
        ),
        (
            normal_convolution,
            images(2),
            None,
            lambda: some(
                ob.exact.pathological_probability_from_ratio(4, 1.5**2 * (2 / 7) / (2 / 4)), 6
            ),
        ),
        (gain, torch.randn(8, 4), None, lambda: some(math.erfc(1.0 / 0.7 / math.sqrt(2.0)), 16)),
        (
            logits,
            torch.randn(8, 3),
            "cross_entropy",
            lambda: obstructed("torch_linear", 3, 12, e=2, loss="cross_entropy"),
        ),
        (mixed, torch.randn(8, 3), None, None),
        (uneven, torch.randn(8, 3), None, None),
    ],
    ids=["convolution", "normal convolution", "gain", "logits", "mixed", "uneven"],
)
def test_exact_values_are_found_and_agree(factory, x, loss, expected):
    """Seeded; a false alarm in one of 1000 seeds each."""
    study = ob.sample_model(factory, inputs=x, networks=4000, seed=2, loss=loss)
    (row,) = study.table().to_dict("records")
    if expected is not None:
        assert row["exact"] == pytest.approx(expected(), rel=2e-6)
    assert 0.003 < row["exact"] < 0.99
    assert row["share"] == pytest.approx(row["exact_share"], rel=0.5)
    verdict = study.agreement()
    assert (verdict.verdict, verdict.tests) == ("agrees", 2)
    for wrong in (0.5, 1.7):  # a wrong share is rejected, whatever the probability of a draw
        (cell,) = study.cells
        other = replace(cell, shares=tuple(wrong * share for share in cell.shares))
        assert replace(study, cells=(other,)).agreement().verdict == "disagrees"


@pytest.mark.parametrize("fault", ["gain", "bias", "fan"])
def test_planted_faults_in_the_laws_are_rejected(fault):
    study = ob.sample_model(convolution, inputs=images(4), networks=20_000, seed=1)
    assert study.agreement().verdict == "agrees"
    laws = ob.conservation_laws(convolution(), inputs=images(4))
    sides = single_sides(laws)
    found = dict(recipes(convolution))
    name = {"gain": "4.weight", "bias": "0.bias", "fan": "0.weight"}[fault]
    bound = {
        "gain": 1 / 8,  # without the root
        "bias": 0.0,  # forgotten
        "fan": (4 * 2) ** -0.5,  # fan-out of a group in place of fan-in
    }[fault]
    steps = (Step("uniform", (-bound, bound)),) if bound else (Step("fill", (0.0,)),)
    found[name] = replace(found[name], steps=steps)
    wrong = exact_sides(sides, drawn(found), laws.shapes)
    (cell,) = study.cells
    other = replace(cell, exact=wrong.probability, shares=wrong.shares)
    assert replace(study, cells=(other,)).agreement().verdict == "disagrees"


def test_of_two_single_weights_exactly_one_is_frozen():
    def factory():
        return nn.Sequential(nn.Linear(1, 6, bias=False), nn.ReLU(), nn.Linear(6, 1))

    study = ob.sample_model(factory, inputs=torch.ones(8, 1), networks=200)
    (row,) = study.table().to_dict("records")
    assert row["obstructed"] == 200
    assert row["exact"] == 1.0
    laws = study.by_law()
    assert laws["exact"].sum() == pytest.approx(1.0, rel=1e-6)
    assert laws["share"].sum() == pytest.approx(1.0)
    assert study.agreement().agrees


class Scaled(nn.Module):
    """One neuron, whose output weight is a parameter without axes."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * torch.relu(self.first(x))


def test_a_parameter_without_axes():
    """The neuron is pathological if the squares of three uniform numbers sum to less than 1."""
    study = ob.sample_model(Scaled, inputs=torch.randn(8, 2), networks=3000)
    (row,) = study.table().to_dict("records")
    torch.manual_seed(0)
    draws = torch.empty(200_000, 3).uniform_(-(2**-0.5), 2**-0.5).square().sum(1)
    assert row["exact"] == pytest.approx(float((draws < 1.0).double().mean()), abs=0.005)
    assert study.agreement().agrees
    assert study.agreement().tests == 2


def test_dependent_sides_are_not_tested():
    recipe = Recipe((Step("uniform", (-1.0, 1.0)),), (1, 4), "float32")
    laws = ob.conservation_laws(
        nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1)),
        inputs=torch.randn(8, 2),
    )
    (side,) = single_sides(laws)
    found = {"0.weight": replace(recipe, shape=(4, 2)), "2.weight": recipe}
    apart = exact_sides([side], drawn(found), laws.shapes)
    assert apart.independent == (True,)
    assert 0.0 < apart.probability < 1.0
    shared = replace(
        side.law,
        terms=tuple(
            replace(term, labels=np.roll(term.labels, 1)) if term.tensor == "0.weight" else term
            for term in side.law.terms
        ),
    )
    both = [side, replace(side, number=1, law=shared)]  # the same weights in two balances
    assert exact_sides(both, drawn(found), laws.shapes).independent == (True, True)
    assert math.isnan(exact_sides(both, drawn(found), laws.shapes).probability)
