"""The judge of reports: what it accepts and refutes is derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import framework

from obstruction.conservation.law import Law, Term

torch = framework("torch")
nn = torch.nn

from covering import covered  # noqa: E402, these need PyTorch
from independent_search import search  # noqa: E402
from judging import judged  # noqa: E402
from plain_model import PlainModel  # noqa: E402
from rescaling import Balance  # noqa: E402
from second_look import other_points, refuted_laws, wrong_numbers  # noqa: E402

SHAPES = {"w": (4, 3), "b": (4,), "v": (2, 4)}
ROWS, COLUMNS = np.arange(4)[:, None], np.arange(4)[None, :]


def law(kind, labels, *terms):
    parts = tuple(Term(t, np.asarray(index, np.int64), k) for t, index, k in terms)
    return Law(kind, parts, labels, np.zeros(labels), 0.0)


def balance(width, *terms):
    return Balance(width, {}, tuple((t, np.asarray(index), k) for t, index, k in terms))


NEURONS = ("w", ROWS, 1), ("b", np.arange(4), 1), ("v", COLUMNS, -1)


@pytest.mark.parametrize(
    ("oracle", "laws", "expected"),
    [
        (balance(4, *NEURONS), [law("balance", 4, *NEURONS)], [True] * 4),
        # the sign, the order of the channels and a common factor do not matter
        (
            balance(4, *((t, np.flip(np.asarray(index)), -2 * k) for t, index, k in NEURONS)),
            [law("balance", 4, *NEURONS)],
            [True] * 4,
        ),
        # sums of neurons follow from neurons, neurons do not follow from their sums
        (
            balance(2, *((t, np.asarray(index) // 2, k) for t, index, k in NEURONS)),
            [law("balance", 4, *NEURONS)],
            [True] * 2,
        ),
        (
            balance(4, *NEURONS),
            [law("balance", 2, *((t, np.asarray(index) // 2, k) for t, index, k in NEURONS))],
            [False] * 4,
        ),
        # two of four channels are reported
        (
            balance(4, *NEURONS),
            [
                law(
                    "balance",
                    2,
                    *((t, np.where(index < 2, index, -1), k) for t, index, k in NEURONS),
                )
            ],
            [True, True, False, False],
        ),
        # without the bias it is another law, unless the bias is constant
        (balance(4, *NEURONS), [law("balance", 4, NEURONS[0], NEURONS[2])], [False] * 4),
        (
            balance(4, *NEURONS),
            [law("balance", 4, NEURONS[0], NEURONS[2]), law("constant", 4, NEURONS[1])],
            [True] * 4,
        ),
        # a law of a chain is the sum of those of its parts; a norm of a block counts as a part
        (
            balance(4, NEURONS[0], ("b", np.arange(4), -1)),
            [law("scale", 4, NEURONS[0]), law("scale", 4, NEURONS[1])],
            [True] * 4,
        ),
        (balance(4, *NEURONS), [], [False] * 4),
    ],
)
def test_what_follows_from_a_report(oracle, laws, expected):
    (found,) = covered([oracle], laws, SHAPES)
    assert found.tolist() == expected


def network(activation):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), activation, nn.Linear(4, 2)), (torch.randn(5, 3),)


def neurons(kind="balance"):
    return law(
        kind, 4, ("0.weight", ROWS, 1), ("0.bias", np.arange(4), 1), ("2.weight", COLUMNS, -1)
    )


def points_of(model, inputs):
    plain = PlainModel(model, inputs)
    return plain, other_points(plain, 0)


@pytest.mark.parametrize(
    ("activation", "wrong"),
    [(nn.ReLU(), False), (nn.Tanh(), True), (nn.ReLU6(), True), (nn.LeakyReLU(), False)],
)
def test_laws_that_outputs_refute(activation, wrong):
    plain, points = points_of(*network(activation))
    claim = neurons()
    assert refuted_laws(plain, [claim], points) == ([claim] if wrong else [])
    assert refuted_laws(plain, [law("constant", 4, ("0.bias", np.arange(4), 1))], points)


@pytest.mark.parametrize("eps", [1e-5, 1e-3, 0.9])
def test_laws_of_a_normalisation(eps):
    norm = nn.BatchNorm1d(4, eps=eps)
    model = nn.Sequential(nn.Linear(3, 4), norm, nn.Tanh(), nn.Linear(4, 2))
    plain, points = points_of(model.train(), (torch.randn(9, 3),))
    true = [
        law("constant", 4, ("0.bias", np.arange(4), 1)),
        law("scale", 4, ("0.weight", ROWS, 1)),
    ]
    false = [
        law("constant", 4, ("1.bias", np.arange(4), 1)),
        law("shift", 3, ("0.weight", np.arange(3)[None, :], 1)),
        law("scale", 4, ("1.weight", np.arange(4), 1)),
    ]
    if eps > 0.1:  # the lengths of the weights matter
        false.append(true.pop())
    assert refuted_laws(plain, [*true, *false], points) == false


def test_single_channels_that_outputs_refute():
    class Mixed(nn.Module):
        def forward(self, x):
            return torch.cat([torch.relu(x[:, :3]), torch.tanh(x[:, 3:])], 1)

    plain, points = points_of(*network(Mixed()))
    terms = tuple((t.tensor, t.labels, t.coefficient) for t in neurons().terms)
    assert wrong_numbers(plain, Balance(4, {}, terms), np.arange(4), points) == [3]


def test_the_judgement_of_a_report():
    model, inputs = network(nn.ReLU())
    whole, none, false = (
        judged(model, inputs, Report(laws, model))
        for laws in ([neurons()], [], [law("constant", 2, ("2.bias", np.arange(2), 1))])
    )
    assert (whole.channels, whole.covered, whole.refuted, whole.missed) == (4, 4, (), ())
    assert (none.channels, none.covered) == (4, 0)
    assert [number for number, _ in none.missed] == [4]
    assert [one.kind for one in false.refuted] == ["constant"]
    assert [found.width for found in search(model, inputs)] == [4]


class Report(list):
    def __init__(self, laws, model):
        super().__init__(laws)
        self.parameters = {n: p.detach().numpy() for n, p in model.named_parameters()}
