"""Are fresh networks of PyTorch as often obstructed as the exact values say?

Every network is made as a user makes it and audited as a user audits it. The numbers of obstructed
networks and of pathological neurons are held against `obstruction.exact` by exact two-sided
binomial tests at the level `ALPHA`: with a right package and other seeds some test of this file
would fail once in 20,000 runs (some 50 tests at 1e-6). Networks per case: 200, or 2000 with
``-m slow``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import scipy.stats
from conftest import framework

import obstruction as ob

ALPHA = 1e-6
FEW, MANY = 200, 2000


def nothing(init: Any, layer: Any) -> None:
    """PyTorch's default."""


def with_init(function: str, **options: Any) -> Callable[[Any, Any], None]:
    return lambda init, layer: getattr(init, function)(layer.weight, **options)


INITS: dict[str, Callable[[Any, Any], None]] = {
    "torch_linear": nothing,
    "torch_xavier_normal": with_init("xavier_normal_"),
    "torch_xavier_uniform": with_init("xavier_uniform_"),
    "torch_kaiming_normal": with_init("kaiming_normal_"),
    "torch_kaiming_uniform": with_init("kaiming_uniform_"),
    "torch_kaiming_normal:mode=fan_out": with_init("kaiming_normal_", mode="fan_out"),
}
CASES = [
    ("torch_linear", 2, 20),
    ("torch_linear", 4, 3),
    ("torch_xavier_normal", 3, 5),
    ("torch_xavier_normal", 6, 20),
    ("torch_xavier_uniform", 4, 10),
    ("torch_kaiming_normal", 2, 6),
    ("torch_kaiming_normal", 6, 5),
    ("torch_kaiming_uniform", 3, 4),
    ("torch_kaiming_normal:mode=fan_out", 10, 6),
    ("torch_kaiming_normal:mode=fan_out", 30, 8),
]


@dataclass(frozen=True)
class Found:
    networks: int
    obstructed: int
    pathological: int


@cache
def audited(scheme: str, d: int, l: int, networks: int, *, before: tuple[int, ...] = ()) -> Found:
    """Audit fresh networks; ``before`` are the widths of layers in front of these."""
    torch = framework("torch")
    torch.manual_seed(20_000 + 100 * d + l)
    sizes = [*before, d, l]
    obstructed = pathological = 0
    for _ in range(networks):
        parts: list[Any] = []
        for fan_in, width in itertools.pairwise(sizes):
            parts += [torch.nn.Linear(fan_in, width), torch.nn.ReLU()]
        parts.append(torch.nn.Linear(l, 1))
        for layer in parts[::2]:
            INITS[scheme](torch.nn.init, layer)
        net = torch.nn.Sequential(*parts)
        found = ob.audit(net.state_dict(), "relu", scheme=None).summary()["pathological"]
        obstructed += found > 0
        pathological += found
    return Found(networks, obstructed, pathological)


def p_values(found: Found, l: int, p: float) -> tuple[float, float]:
    """Return the p-values of the obstructed networks and of the pathological neurons."""
    some = 1.0 - (1.0 - p) ** l
    return (
        float(scipy.stats.binomtest(found.obstructed, found.networks, some).pvalue),
        float(scipy.stats.binomtest(found.pathological, found.networks * l, p).pvalue),
    )


def agrees(scheme: str, d: int, l: int, found: Found) -> bool:
    return min(p_values(found, l, ob.exact.pathological_probability(scheme, d, l))) > ALPHA


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("networks", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_fresh_networks_are_as_often_obstructed_as_the_exact_values_say(case, networks):
    found = audited(*case, networks)
    assert 0 < found.obstructed < networks  # or nothing would be compared
    assert agrees(*case, found)


@pytest.mark.parametrize("networks", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_so_are_deep_ones(networks):
    """Of the last hidden layer, with the width of the one before as its inputs."""
    found = audited("torch_xavier_normal", 3, 6, networks, before=(8, 5))
    assert agrees("torch_xavier_normal", 3, 6, found)
    wrong = ob.exact.pathological_probability("torch_xavier_normal", 8, 6)
    assert networks == FEW or min(p_values(found, 6, wrong)) < ALPHA


WRONG = {
    "one input more": lambda scheme, d, l: ob.exact.pathological_probability(scheme, d + 1, l),
    "no biases": lambda scheme, d, l: ob.exact.pathological_probability(
        ob.scheme(scheme, bias="none"), d, l
    ),
    "ratio inverted": lambda scheme, d, l: ob.exact.pathological_probability_from_ratio(
        d, 1.0 / float(ob.scheme(scheme).ratio(d, l))
    ),
    "another scheme": lambda scheme, d, l: ob.exact.pathological_probability(
        "torch_xavier_normal", d, l
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("formula", WRONG)
def test_a_wrong_formula_would_be_found_out(formula):
    """In at least one case, and for one more input than there is in most."""
    seen = [
        min(p_values(audited(*case, MANY), case[2], WRONG[formula](*case))) < ALPHA
        for case in CASES
    ]
    assert sum(seen) >= (len(CASES) // 2 if formula == "one input more" else 1)


@pytest.mark.parametrize("formula", ["one input more", "ratio inverted"])
def test_a_wrong_formula_would_be_found_out_by_few_networks(formula):
    seen = [
        min(p_values(audited(*case, FEW), case[2], WRONG[formula](*case))) < ALPHA for case in CASES
    ]
    assert any(seen)
