"""The report: tables, text, HTML, JSON, picture."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from test_audit import audited, random_chain

import obstruction as ob
from obstruction.auditing.report import SCHEMA_VERSION
from obstruction.auditing.text import report_text

NEURONS = "layer index in_norm out_norm balance margin sign status frozen bottleneck scale"
LAYERS = (
    "layer following inputs neurons outputs activation bias audited pathological boundary dead "
    "frozen_inputs smallest_margin reason"
)


@pytest.fixture(scope="module")
def report():
    return audited(random_chain(3, 5, 40, 1, seed=8, bias=True))


def test_tables(report):
    assert report.neurons.columns.tolist() == NEURONS.split()
    assert report.layers.columns.tolist() == LAYERS.split()
    assert report.layers["neurons"].tolist() == [5, 40]
    assert report.layers["pathological"].sum() == report.summary()["pathological"] > 0
    copy = report.to_dataframe()
    copy.loc[0, "in_norm"] = -1.0
    assert report.neurons.loc[0, "in_norm"] > 0
    smallest = report.neurons[report.neurons["layer"] == report.layers["layer"].iloc[1]]["margin"]
    assert report.summary()["smallest_margin"] == smallest.min()


def test_text(report):
    text = str(report)
    assert repr(report) == text
    assert max(map(len, text.splitlines())) <= 100
    count = report.summary()["pathological"]
    assert re.search(rf"OBSTRUCTED: {count} of 40 neurons have an output weight", text)
    assert f"2^{count}" in text
    worst = report.worst(1).iloc[0]
    assert f"{worst['layer']}[{worst['index']}]" in text
    assert "pathological" not in report_text(report, most=0).split("OBSTRUCTED")[1]
    assert len(report_text(report, most=1000).splitlines()) > len(text.splitlines())


def test_text_of_a_sound_network():
    hidden, _, output, _ = random_chain(30, 4, 1, seed=9)
    text = str(audited([hidden * 10, None, output, None]))
    assert "CLEAR: no output weight is frozen" in text
    assert "ob.repair" not in text
    several = str(audited(random_chain(3, 4, 2)))
    assert "every neuron has several outgoing weights" in several


def test_text_says_what_was_left_out():
    text = str(
        ob.audit(
            {
                "0.weight": np.ones((4, 3)),
                "0.bias": np.ones(4),
                "2.weight": np.ones((5, 4)),
                "2.bias": np.zeros(5),
                "3.weight": np.ones(5),
                "3.bias": np.zeros(5),
                "3.running_mean": np.zeros(5),
                "5.weight": np.ones((1, 5)),
                "5.bias": np.zeros(1),
            },
            activation="relu",
            layout="out_in",
            scheme=None,
        )
    )
    assert "Not audited: the neurons of 2" in text
    assert "normalisation" in text


def test_html(report):
    text = report._repr_html_()
    assert text.count("<table") == 2
    assert "OBSTRUCTED" in text
    odd = audited(
        {
            "<b>.weight": np.ones((2, 3)),
            "<b>.bias": np.ones(2),
            "c.weight": np.ones((1, 2)),
            "c.bias": np.ones(1),
        }
    )
    assert "<b>" not in odd._repr_html_()


def test_json(report):
    content = json.loads(report.to_json())
    assert content["schema_version"] == SCHEMA_VERSION
    assert content["obstruction_version"] == ob.__version__
    assert list(content["neurons"][0]) == NEURONS.split()
    assert len(content["neurons"]) == 45
    table = pd.DataFrame(content["neurons"])
    for name in ("in_norm", "out_norm", "balance", "margin"):
        assert table[name].tolist() == report.neurons[name].tolist()  # not a digit is lost
    assert content["summary"] == report.summary()
    assert [layer["neurons"] for layer in content["layers"]] == [5, 40]
    listed = json.loads(report.to_json(neurons=3))["neurons"]
    assert [row["margin"] for row in listed] == sorted(table["margin"][5:])[:3]


def test_json_has_no_numbers_that_json_lacks():
    output = np.ones((1, 100))
    output[0, 0] = 0.0
    report = audited([np.full((100, 2), 1e-3), None, output, None])
    content = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert content["summary"]["components"] == "2^99"
    assert content["summary"]["log2_components"] == 99
    assert report.components == 2**99
    assert content["neurons"][0]["margin"] is None
    assert report.neurons["margin"][0] == math.inf


def test_the_keys_of_the_json_are_documented(report):
    with open("docs/audit.md", encoding="utf-8") as file:
        schema = file.read().split("## The JSON")[1].split("```")[1]
    content = json.loads(report.to_json())
    names = {*content, *content["summary"], *content["layers"][0], *content["neurons"][0]}
    names |= set(
        ob.audit(ob.replay(0, network=7, d=3, l=5, scheme="kaiming_normal")).luck.to_dict()
    )
    assert {name for name in names if not re.search(rf"\b{name}\b", schema)} == set()


def test_picture(report):
    axes = report.plot()
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    counts = report.neurons["status"][5:].value_counts()
    assert f"pathological ({counts['pathological']})" in legend
    assert "several outgoing weights (5)" in legend
    points = {c.get_label(): c.get_offsets() for c in axes.collections if len(c.get_offsets()) > 1}
    bad = points[f"pathological ({counts['pathological']})"]
    assert (bad[:, 1] > bad[:, 0]).all()
    assert axes.get_xscale() == axes.get_yscale() == "log"
    for limits, column in ((axes.get_xlim(), "in_norm"), (axes.get_ylim(), "out_norm")):
        assert limits[0] < report.neurons[column].min()
        assert limits[1] > report.neurons[column].max()
    assert report.plot(ax=axes) is axes


def test_a_million_neurons():
    weights = np.random.default_rng(0).standard_normal((1_000_000, 4))
    report = audited([weights[:, 1:].copy(), None, weights[:, :1].T.copy(), None])
    assert len(report.neurons) == 1_000_000
    assert report.frozen_weights > 0
    assert "2^" in str(report)
    assert len(json.loads(report.to_json(neurons=5))["neurons"]) == 5
