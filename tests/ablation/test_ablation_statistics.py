"""Intervals that hold the truth as often as they say, comparisons that are paired and corrected, and a verdict that says no more than they do."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from scipy import stats

from ftjax.ablation import halving, judging, results, scaling, statistics
from ftjax.ablation.results import Question
from ftjax.ablation.statistics import Comparison, Measured
from ftjax.errors import ConfigError
from ftjax.evaluation import Records
from ftjax.evaluation.metrics import Accuracy, LogLoss

ACCURACY = Accuracy()


def records(right: np.ndarray) -> Records:
    """Records of two classes, right where it says so."""
    logits = np.where(right, 3.0, -3.0)[:, None] * np.array([1.0, -1.0])
    return Records.from_logits(logits.astype(np.float32), np.zeros(len(right), np.int32))


def measured(share: float, seeds: int, draw: np.random.Generator, rows: int = 80, resamples: int = 300) -> Measured:
    """Seeds and examples that both matter: each has its own difficulty, each example too."""
    hard, level = draw.normal(0, 0.1, rows), draw.normal(0, 0.06, seeds)
    right = {seed: draw.random(rows) < share + level[seed] + hard for seed in range(seeds)}
    return statistics.measure({seed: records(hits) for seed, hits in right.items()}, ACCURACY, resamples=resamples)


@pytest.mark.parametrize("module", [statistics, scaling, halving], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


def test_holm_is_what_the_definition_says():
    p = [0.001, 0.2, 0.03, 0.02]
    assert statistics.holm(p) == pytest.approx([0.004, 0.2, 0.06, 0.06])
    assert statistics.holm([]) == []


def test_the_interval_over_seeds_is_students():
    values = [0.8, 0.84, 0.83, 0.86]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert statistics.over_seeds(values) == pytest.approx({"value": np.mean(values), "low": low, "high": high})
    assert statistics.over_seeds([0.5]) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_the_bootstrap_over_both_covers_the_truth():
    """200 simulated arms of 6 seeds and 80 examples; a 95% interval that held it in fewer than 85% would be a lie."""
    draw, held = np.random.default_rng(0), 0
    for _ in range(200):
        interval = statistics.over_both(measured(0.7, 6, draw))
        held += interval["low"] <= 0.7 <= interval["high"]
    assert 0.87 <= held / 200 <= 1.0


def test_a_comparison_is_paired_and_finds_no_difference_where_there_is_none():
    draw, found = np.random.default_rng(1), 0
    for _ in range(120):
        one, other = measured(0.7, 6, draw), measured(0.7, 6, draw)
        found += statistics.paired("one", one, "other", other, ACCURACY).p < 0.05
    assert found / 120 <= 0.12
    hits = draw.random((4, 200)) < 0.6
    base = statistics.measure({seed: records(hits[seed]) for seed in range(4)}, ACCURACY)
    better = statistics.measure({seed: records(hits[seed] | (np.arange(200) % 8 == 0)) for seed in range(4)}, ACCURACY)
    comparison = statistics.paired("better", better, "base", base, ACCURACY)
    assert comparison.low > 0, "the same examples and seeds: a small difference that is always there is sure"
    assert comparison.wins == 4
    assert statistics.paired("same", base, "base", base, ACCURACY).p == 1.0


def test_arms_without_a_seed_in_common_cannot_be_compared():
    draw = np.random.default_rng(2)
    one = measured(0.7, 2, draw)
    with pytest.raises(ConfigError, match="arms 'a' and 'b' have no seed in common, so nothing is paired"):
        statistics.paired("a", one, "b", Measured((7, 8), one.values, one.resampled), ACCURACY)
    with pytest.raises(ConfigError, match="the reference 'x' is no arm with a result; there are 'a'"):
        statistics.compare({"a": one}, ACCURACY, "x")


def member(number, arm, trial, seed, validation, test, status="ok"):
    return {
        "member": number,
        "arm": arm,
        "trial": trial,
        "seed": seed,
        "status": status,
        "settings": {"k": trial},
        "tuned": {"k": trial},
        "learning_rate": 0.1,
        "distance": 0.5,
        "best_step": 4,
        "seconds": {"training": 2.0},
        "live_parameters": 7,
        "examples": 64,
        "train_examples": 32,
        "splits": {"validation": {"accuracy": validation}, "test": {"accuracy": test}},
        "curve": [],
    }


def cells(members):
    draw = np.random.default_rng(3)
    known = {one["member"]: records(draw.random(50) < one["splits"]["test"]["accuracy"]) for one in members}
    return results.cells(members, Question(ACCURACY, None, resamples=50), lambda number, split: known[number])


def test_trials_are_chosen_on_validation_and_diverged_members_are_in_no_mean():
    table = cells(
        [
            member(0, "a", 0, 0, 0.7, 0.9),
            member(1, "a", 0, 1, 0.7, 0.9),
            member(2, "a", 1, 0, 0.8, 0.6),
            member(3, "a", 1, 1, 0.8, 0.6),
            member(4, "a", 2, 0, 0.99, 0.99),
            member(5, "a", 2, 1, 0.1, 0.1, status="diverged"),
        ]
    )
    assert [cell["status"] for cell in table] == ["ok", "ok", "1 of 2 diverged"]
    assert table[2]["test"]["value"] == 0.99
    assert results.chosen(table, ACCURACY)["a"]["trial"] == 1, "best on validation without a member lost, whatever the test says"
    assert results.insensitivity(table, ACCURACY)["a"] == {"mean": pytest.approx(0.83), "worst": 0.6, "trials": 3}
    low = cells([member(0, "a", 0, 0, 2.0, 0.5), member(1, "a", 1, 0, 1.0, 0.5)])
    assert results.chosen(low, LogLoss())["a"]["trial"] == 1, "less is better"


def verdict_of(comparisons, scratch=("scratch",), seeds=5):
    values = [0.8] * seeds
    interval = {"value": 0.8, "low": 0.79, "high": 0.81}
    cell = {"validation": interval, "test": interval, "values": values, "tuned": {}, "seconds": 10.0, "live_parameters": 1000}
    worse = cell | {"validation": {"value": 0.5, "low": 0.5, "high": 0.5}, "seconds": 2.0}
    return judging.verdict({"full": cell, "probe": worse, "scratch": worse | {"seconds": 9.0}}, comparisons, ACCURACY, scratch=scratch)


def test_the_verdict_says_which_by_how_much_how_sure_and_at_what_cost():
    sure = Comparison("full", "probe", 0.05, 0.02, 0.08, 0.001, 0.002, 5, 5)
    open_one = Comparison("full", "scratch", 0.01, -0.02, 0.04, 0.4, 0.4, 5, 3)
    assert verdict_of([sure, open_one]) == (
        "full is first with 0.8000 (0.7900 to 0.8100 over seeds) test accuracy (5 seeds), better than probe by +0.0500, +0.0200 to +0.0800; "
        "not distinguishable from scratch (+0.0100, -0.0200 to +0.0400) (95% intervals over seeds and examples, Holm-corrected). "
        "It trains 1,000 parameters in 10 s a member, 5 times as long as probe, which reaches 0.8000 (0.7900 to 0.8100 over seeds). "
        "Fine-tuning is not shown to beat training from scratch."
    )
    assert "Fine-tuning beats training from scratch." in verdict_of([sure, Comparison("full", "scratch", 0.3, 0.2, 0.4, 0.001, 0.002, 5, 5)])
    assert "With 2 seeds this is an indication and no result." in verdict_of([sure], seeds=2)
    assert judging.verdict({}, [], ACCURACY) == "No arm has a result: every member diverged."


def test_a_power_law_is_found_and_one_that_is_not_there_is_not_told():
    draw = np.random.default_rng(4)
    amounts = (50, 100, 200, 400, 800)
    points = [(n, list(0.05 + 1.5 * n**-0.5 + draw.normal(0, 0.002, 5))) for n in amounts]
    law = scaling.curve(points)
    assert law is not None
    assert law["b"] == pytest.approx(0.5, abs=0.12)
    truth = 1.5 * (800**-0.5 - 1600**-0.5)
    assert law["twice"]["low"] <= truth <= law["twice"]["high"]
    assert scaling.curve(points[:3]) is None
