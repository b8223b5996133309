"""Intervals cover what they promise, are never of width zero where that would be a lie, and do not depend on chance beyond their seed."""

from __future__ import annotations

import sys
import time
import tracemalloc

import numpy as np
import pytest
from evaluation_examples import logits_and_labels, records_of
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation import NAMES, Accuracy, LogLoss, MacroF1, Records, TopKAccuracy, all_metrics, compute_all, intervals, paired_difference
from ftjax.evaluation.intervals import bonett_price, bootstrap, wilson

MODULE = sys.modules["ftjax.evaluation.intervals"]
CLASSES = 4


def simulated(rows: int, generator: np.random.Generator) -> Records:
    """Uneven classes, recall from 0.95 down to 0.6, a log probability of known mean -1/2."""
    label = generator.choice(CLASSES, size=rows, p=[0.4, 0.3, 0.2, 0.1])
    right = generator.random(rows) < np.linspace(0.95, 0.6, CLASSES)[label]
    prediction = np.where(right, label, (label + 1 + generator.integers(0, CLASSES - 1, rows)) % CLASSES)
    confidence = 1 - 0.7 * generator.beta(1, 3, rows)
    return records_of(label, prediction, log_probability=-generator.exponential(0.5, rows), confidence=confidence)


def test_intervals_cover_the_truth_as_often_as_they_say():
    truth = compute_all(simulated(400_000, np.random.default_rng(1)), CLASSES, 1)
    generator, covered = np.random.default_rng(2), dict.fromkeys(truth, 0)
    for simulation in range(300):
        found = intervals(simulated(200, generator), CLASSES, 1, resamples=300, seed=simulation)
        for name, interval in found.items():
            covered[name] += interval["low"] <= truth[name] <= interval["high"]
    # 300 trials at 0.95 have a standard deviation of 0.0126; an interval at 0.90 or at 0.99 falls outside these bounds.
    for name, count in covered.items():
        assert 0.915 <= count / 300 <= 0.985, (name, count / 300)


def test_a_lower_confidence_covers_less_often():
    truth = compute_all(simulated(400_000, np.random.default_rng(1)), CLASSES, 1)["log_loss"]
    generator, covered = np.random.default_rng(3), 0
    for simulation in range(300):
        interval = intervals(simulated(200, generator), CLASSES, 1, resamples=200, confidence=0.5, seed=simulation)["log_loss"]
        covered += interval["low"] <= truth <= interval["high"]
    assert 0.4 <= covered / 300 <= 0.6


def test_macro_f1_of_many_small_classes_is_covered_where_plain_percentiles_are_not():
    def many(rows, generator):
        label = generator.integers(0, 50, rows)
        right = generator.random(rows) < np.linspace(0.95, 0.6, 50)[label]
        return records_of(label, np.where(right, label, (label + 1 + generator.integers(0, 49, rows)) % 50))

    truth = MacroF1()(many(1_000_000, np.random.default_rng(1)))
    generator, corrected, plain = np.random.default_rng(2), 0, 0
    for simulation in range(200):
        records = many(500, generator)
        sample = bootstrap(records, [MacroF1()], resamples=300, seed=simulation)["macro_f1"]
        interval = intervals(records, 50, 1, resamples=300, seed=simulation)["macro_f1"]
        corrected += interval["low"] <= truth <= interval["high"]
        low, high = np.percentile(sample, [2.5, 97.5])
        plain += low <= truth <= high
    assert corrected / 200 >= 0.88
    assert plain / 200 <= 0.87


@settings(deadline=None, max_examples=40)
@given(logits_and_labels(), st.integers(0, 5))
def test_every_interval_holds_its_value_and_stays_in_range(example, seed):
    records = Records.from_logits(*example)
    found = intervals(records, example[0].shape[1], 2, resamples=50, seed=seed)
    assert list(found) == list(NAMES)
    assert {name: interval["value"] for name, interval in found.items()} == compute_all(records, example[0].shape[1], 2)
    for name, interval in found.items():
        assert (-1 if name == "mcc" else 0) <= interval["low"] <= interval["value"] <= interval["high"], name
        assert name == "log_loss" or interval["high"] <= 1 + 1e-12, name


@pytest.mark.parametrize(("prediction", "value"), [([0, 1] * 10, 1.0), ([1, 0] * 10, 0.0)])
def test_all_right_or_all_wrong_is_not_certainty(prediction, value):
    found = intervals(records_of([0, 1] * 10, prediction), 2, 1)
    for name in ("accuracy", "top_k_accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name]["value"] == value
        assert found[name]["high"] - found[name]["low"] == pytest.approx(0.161, abs=1e-3), name


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    records = simulated(100, np.random.default_rng(0))
    assert intervals(records, CLASSES, 1, seed=3) == intervals(records, CLASSES, 1, seed=3)
    assert intervals(records, CLASSES, 1, seed=3)["log_loss"] != intervals(records, CLASSES, 1, seed=4)["log_loss"]


def test_padding_changes_no_interval():
    records = simulated(60, np.random.default_rng(0))
    padded = Records.concatenate([records, records_of([0, 0], [0, 1], weight=[0, 0])])
    assert intervals(padded, CLASSES, 1) == intervals(records, CLASSES, 1)


def test_the_size_of_chunks_changes_nothing(monkeypatch):
    records = simulated(37, np.random.default_rng(0))
    whole = bootstrap(records, all_metrics(1), resamples=41, seed=5)
    monkeypatch.setattr(MODULE, "CHUNK_CELLS", 37 * 7)
    for name, sample in bootstrap(records, all_metrics(1), resamples=41, seed=5).items():
        np.testing.assert_allclose(sample, whole[name], rtol=1e-12)


def test_a_resample_is_the_metric_of_the_examples_drawn():
    records = simulated(25, np.random.default_rng(0))
    counts = next(MODULE._counts(25, 8, 11))
    assert np.all(counts.sum(axis=1) == 25)
    sample = bootstrap(records, all_metrics(1), resamples=8, seed=11)
    for row in range(8):
        drawn = records.take(np.repeat(np.arange(25), counts[row].astype(int)))
        for metric in all_metrics(1):
            assert sample[metric.name][row] == pytest.approx(metric(drawn), rel=1e-9)


def test_a_thousand_resamples_of_a_thousand_examples_take_about_a_second_at_most():
    records = simulated(1000, np.random.default_rng(0))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        intervals(records, CLASSES, 1, resamples=1000)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 1.0  # CPU time, so that a busy machine does not matter; measured: 0.07 s


def test_memory_is_bounded_for_large_test_sets():
    records = simulated(50_000, np.random.default_rng(0))
    tracemalloc.start()
    bootstrap(records, [LogLoss()], resamples=200, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6  # all counts at once would be 80 MB each in three copies


def test_wilson_agrees_with_published_values():
    assert wilson(1.0, 10, 0.95) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.5, 100, 0.95) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert wilson(81 / 263, 263, 0.95) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I


def test_bonett_price_agrees_with_the_authors_example():
    # statpsych::ci.prop.ps(.05, 12, 4, 26, 6)
    assert bonett_price(26, 4, 48, 0.95) == pytest.approx((0.2548067, 0.6251933), abs=1e-6)


def test_a_paired_difference_covers_the_truth():
    generator, covered, drawn = np.random.default_rng(0), 0, 400
    for _ in range(drawn):
        kind = generator.random(60)
        label = np.zeros(60, int)
        one, other = np.where(kind < 0.05, 0, np.where(kind < 0.3, 1, 0)), np.where(kind < 0.07, 1, np.where(kind < 0.28, 1, 0))
        interval = paired_difference(records_of(label, one), records_of(label, other), Accuracy())
        # Right only in the one: below 0.05. Right only in the other: 0.28 to 0.30.
        covered += interval["low"] <= 0.05 - 0.02 <= interval["high"]
    assert 0.93 <= covered / drawn <= 1.0


def test_a_paired_difference_is_tighter_than_two_intervals_and_pairs_by_id():
    generator = np.random.default_rng(0)
    other = simulated(500, generator)
    better = np.where((generator.random(500) < 0.3) & ~other.correct, other.label, other.prediction)
    one = records_of(other.label, better, id=other.id, log_probability=other.label_log_probability + 0.1)
    shuffled = one.take(generator.permutation(500))
    for metric in (Accuracy(), MacroF1(), LogLoss()):
        interval = paired_difference(one, other, metric)
        assert interval == paired_difference(shuffled, other, metric)
        assert interval["value"] == pytest.approx(metric(one) - metric(other))
        assert interval["low"] > 0 or interval["high"] < 0
    assert paired_difference(one, other, LogLoss())["value"] == pytest.approx(-0.1, abs=1e-6)


@pytest.mark.parametrize("metric", [Accuracy(), TopKAccuracy(1), MacroF1(), LogLoss()], ids=lambda metric: metric.name)
def test_a_paired_difference_changes_sign_with_the_sides(metric):
    generator = np.random.default_rng(4)
    one, other = simulated(80, generator), simulated(80, generator)
    other = records_of(one.label, other.prediction, log_probability=other.label_log_probability)
    forth, back = paired_difference(one, other, metric), paired_difference(other, one, metric)
    assert [back["value"], back["low"], back["high"]] == pytest.approx([-forth["value"], -forth["high"], -forth["low"]])


def test_equal_predictions_do_not_differ_and_few_differing_examples_prove_nothing():
    same = records_of([0] * 30, [0] * 26 + [1] * 4)
    interval = paired_difference(same, same, Accuracy())
    assert interval["value"] == 0
    assert interval["low"] < 0 < interval["high"]
    four_better = paired_difference(records_of([0] * 30, [0] * 30), same, Accuracy())
    assert four_better["value"] == pytest.approx(4 / 30)
    assert four_better["low"] < 0


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (records_of([0, 1], [0, 1], id=[0, 2]), "a paired difference needs the same examples on both sides: 2 and 2 given, 2 of them on one side only"),
        (records_of([0], [0]), "a paired difference needs the same examples on both sides: 2 and 1 given, 1 of them on one side only"),
        (records_of([0, 0], [0, 1]), "a paired difference needs the same labels on both sides: example 1 has 1 and 0"),
        (records_of([0, 0], [0, 1], id=[0, 0]), "a paired difference needs every example once on each side; an id is there twice"),
    ],
)
def test_only_the_same_examples_can_be_paired(other, message):
    with pytest.raises(DataError) as caught:
        paired_difference(records_of([0, 1], [0, 1]), other, Accuracy())
    assert str(caught.value) == message


def test_impossible_settings_are_refused():
    records = records_of([0, 1], [0, 1])
    with pytest.raises(ConfigError, match=r"^evaluation\.bootstrap is 0; allowed: 1 or more \(1000 is usual\)$"):
        intervals(records, 2, 1, resamples=0)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(ConfigError, match=rf"^evaluation\.confidence is {confidence}; allowed: above 0 and below 1 \(0\.95 is usual\)$"):
            intervals(records, 2, 1, confidence=confidence)
    with pytest.raises(DataError, match=r"^there is no example to resample$"):
        bootstrap(records_of([0], [0], weight=[0]), [Accuracy()], resamples=1, seed=0)
    with pytest.raises(DataError, match=r"^1 examples cannot be measured: label 1 of example 1; allowed: 0 to 0$"):
        intervals(records, 1, 1)
