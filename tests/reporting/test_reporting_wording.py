"""Numbers as people read them; nothing that is not finite ever becomes a number."""

from __future__ import annotations

import math
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import AfterConfig, Method
from ftjax.reporting import findings, wording


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (wording.number, 0.4123, "0.412"),
        (wording.number, 1234.5, "1,234"),
        (wording.number, 0.00012, "1.2e-04"),
        (wording.number, 3e-4, "3e-04"),
        (wording.number, 1e30, "1e+30"),
        (wording.number, 0, "0"),
        (wording.number, None, "–"),
        (wording.setting, 0.05, "0.05"),
        (wording.setting, 1e-5, "1e-5"),
        (wording.setting, None, "–"),
        (wording.percent, 0.9644, "96.4%"),
        (wording.percent, math.nan, "nan"),
        (wording.count, 12345, "12,345"),
        (wording.compact, 5717416, "5.72 M"),
        (wording.compact, 950, "950"),
        (wording.duration, 0.42, "0.42 s"),
        (wording.duration, 59.7, "1 min 0 s"),
        (wording.duration, 75.2, "1 min 15 s"),
        (wording.duration, 7325, "2 h 2 min"),
        (wording.clock, 75.2, "1:15"),
        (wording.clock, 7325, "2:02:05"),
        (wording.clock, None, "-:--"),
        (wording.clock, math.inf, "-:--"),
        (wording.shape, [192, 10], "192 × 10"),
        (wording.shape, [], "scalar"),
        (wording.shape, None, "–"),
        (wording.value, None, "none"),
        (wording.value, [1, "a"], '[1, "a"]'),
        (wording.value, True, "true"),
        (wording.title, "balanced_accuracy", "Balanced accuracy"),
        (wording.method, "full", "Full fine-tuning"),
        (wording.printable, "a\x1b[2J\n", "a\\x1b[2J\n"),
    ],
)
def test_values_are_written_for_people(function, value, text):
    assert function(value) == text


@settings(deadline=None)
@given(st.floats(-1e307, 1e307).filter(bool))
def test_a_number_that_is_not_zero_is_never_written_as_zero(value):
    assert float(wording.number(value).replace(",", "")) == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("function", [wording.number, wording.setting, wording.percent, wording.count, wording.compact, wording.duration])
def test_what_is_not_finite_stays_what_it_is(function, value):
    assert function(value) == str(value)


def test_an_interval_has_the_unit_of_its_metric():
    entry = {"value": 0.9593, "low": 0.937, "high": 0.9778}
    assert wording.with_interval("accuracy", entry) == "95.9% [93.7, 97.8]"
    assert wording.with_interval("log_loss", entry) == "0.959 [0.937, 0.978]"
    assert wording.with_interval("accuracy", 0.5) == "50.0%"


@pytest.mark.parametrize(("name", "less"), [("accuracy", False), ("log_loss", True), ("validation/ece", True), ("macro_f1", False)])
def test_directions_are_known(name, less):
    assert wording.lower_is_better(name) is less


def test_every_method_of_the_schema_has_a_name_for_people():
    assert set(get_args(Method)) == set(wording.METHODS)
    assert wording.method("lp_ft") == "Linear probe, then fine-tuning (LP-FT)"


def test_every_candidate_of_the_schema_has_a_name_for_people():
    annotation = get_type_hints(AfterConfig)["candidates"]
    names = set(get_args(get_args(annotation)[0]))
    assert names == (set(wording.CANDIDATES) - {"best_checkpoint"}) | {"wise_ft", "lines"}
    assert wording.candidate("wise_ft(0.5)") == "WiSE-FT at 0.5"
    assert wording.candidate("lines(0.25)") == "LiNeS at 0.25"
    assert wording.candidate("ema") == "Exponential average (EMA)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Best checkpoint", "best checkpoint"),
        ("WiSE-FT at 0.5", "WiSE-FT at 0.5"),
        ("LiNeS at 1", "LiNeS at 1"),
        ("F1", "F1"),
        ("R²", "R²"),
        ("Pearson correlation", "Pearson correlation"),
        ("", ""),
    ],
)
def test_a_heading_inside_a_sentence_keeps_proper_names(text, expected):
    assert wording.in_sentence(text) == expected


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({}, ""),
        ({"chosen": "best_checkpoint"}, ""),
        ({"chosen": "ema", "candidates": "x"}, "Weights: exponential average (EMA) rather than the best checkpoint."),
        (
            {
                "chosen": "swa",
                "candidates": [{"name": name, "value": value, "metrics": {"log_loss": value}} for name, value in (("best_checkpoint", 0.5), ("swa", 0.4))],
            },
            "Weights: uniform average of the last steps (SWA) rather than the best checkpoint (validation log loss 0.400 instead of 0.500).",
        ),
    ],
)
def test_the_chosen_weights_are_named_where_they_are_not_the_best_checkpoint(after, expected):
    assert findings.chosen(after) == expected


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        ({}, ""),
        ({"after": {"source_loss": 1.0}}, ""),
        (
            {"before": {"source_loss": 1.0}, "after": {"source_divergence": 0.25}},
            "Forgetting: on the source examples the answers diverge from the pretrained ones by 0.250 nats.",
        ),
        (
            {"before": {"source_accuracy": 0.8}, "after": {"source_accuracy": 0.5, "source_divergence": 0.0}, "examples": 1200},
            "Forgetting: accuracy on 1,200 source examples 80.0% before, 50.0% after; divergence from the pretrained answers 0 nats.",
        ),
    ],
)
def test_forgetting_is_one_sentence(measured, expected):
    assert findings.forgetting(measured) == expected


@pytest.mark.parametrize("name", ["accuracy", "validation/macro_f1", "entity_f1", "exact_match", "recall_at_10", "mean_average_precision"])
def test_shares_are_written_in_percent(name):
    assert wording.metric(name, 0.5) == "50.0%"


@pytest.mark.parametrize("name", ["pearson", "mcc", "auroc", "rmse", "mrr", "log_loss", "ndcg_at_10", "inaccuracy"])
def test_other_metrics_are_numbers(name):
    assert wording.metric(name, 0.5) == "0.500"


@pytest.mark.parametrize(
    ("task", "expected"), [("classification", "Majority class"), ("regression", "Training mean"), ("token_classification", "Majority tag")]
)
def test_the_baseline_that_never_looks_is_called_what_it_is(task, expected):
    assert wording.baseline("majority", task) == expected
    assert wording.baseline("probe", task) == "Linear probe"
