"""Metrics equal scikit-learn's, merge like sums, and do not see padding."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from evaluation_examples import logits_and_labels, records_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation import (
    NAMES,
    Accuracy,
    BalancedAccuracy,
    ExpectedCalibrationError,
    LogLoss,
    MacroF1,
    Records,
    TopKAccuracy,
    all_metrics,
    compute_all,
    metric_named,
)


def softmax(logits):
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def naive_ece(confidence, correct, bins):
    total, edges = 0.0, np.arange(bins + 1) / bins
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@settings(deadline=None, max_examples=150)
@given(logits_and_labels(), st.integers(1, 8))
def test_every_metric_equals_scikit_learn(example, k):
    logits, label = example
    classes = logits.shape[1]
    prediction = logits.argmax(axis=1)
    got = compute_all(Records.from_logits(logits, label), classes, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # absent classes and k >= classes, which ours must bear in silence
        expected = {
            "accuracy": reference.accuracy_score(label, prediction),
            "balanced_accuracy": reference.balanced_accuracy_score(label, prediction),
            "macro_f1": reference.f1_score(label, prediction, average="macro"),
            "log_loss": reference.log_loss(label, softmax(logits), labels=range(classes)),
            # Of two classes scikit-learn wants the second's probability.
            "top_k_accuracy": reference.top_k_accuracy_score(label, logits if classes > 2 else softmax(logits)[:, 1], k=k, labels=range(classes)),
        }
    assert list(got) == list(NAMES)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


@settings(deadline=None, max_examples=60)
@given(logits_and_labels(), st.data())
def test_weighted_metrics_equal_scikit_learn(example, data):
    logits, label = example
    weight = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(label), max_size=len(label))), np.float32)
    assume(weight.sum() > 0)
    plain = Records.from_logits(logits, label)
    records = Records(**{**vars(plain), "weight": weight})
    prediction = logits.argmax(axis=1)
    seen = sorted(set(label[weight > 0]) | set(prediction[weight > 0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Accuracy()(records) == pytest.approx(reference.accuracy_score(label, prediction, sample_weight=weight))
        kept = weight > 0
        assert BalancedAccuracy()(records) == pytest.approx(reference.balanced_accuracy_score(label[kept], prediction[kept], sample_weight=weight[kept]))
        assert MacroF1()(records) == pytest.approx(reference.f1_score(label, prediction, average="macro", sample_weight=weight, labels=seen))
        expected = reference.log_loss(label, softmax(logits), labels=range(logits.shape[1]), sample_weight=weight)
        assert LogLoss()(records) == pytest.approx(expected, rel=1e-5, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(logits_and_labels(), st.sampled_from([1, 2, 10, 15]))
def test_calibration_error_equals_the_definition(example, bins):
    records = Records.from_logits(*example)
    expected = naive_ece(records.confidence.astype(np.float64), records.correct, bins)
    assert ExpectedCalibrationError(bins=bins)(records) == pytest.approx(expected, abs=1e-9)


def test_calibration_error_of_a_hand_made_example():
    # Bin (0.8, 0.9]: confidence 0.85, half right; bin (0.5, 0.6]: confidence 0.55, all right.
    records = records_of([0, 0, 0, 0], [0, 1, 0, 0], confidence=[0.85, 0.85, 0.55, 0.55])
    assert ExpectedCalibrationError(bins=10)(records) == pytest.approx(0.5 * 0.35 + 0.5 * 0.45, abs=1e-6)


def test_a_class_without_labels_or_predictions_counts_in_no_average():
    records = records_of([0, 0, 4], [0, 4, 4])
    assert BalancedAccuracy()(records) == pytest.approx((0.5 + 1.0) / 2)
    assert MacroF1()(records) == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_class_that_is_only_predicted_lowers_macro_f1_and_not_balanced_accuracy():
    records = records_of([0, 0], [0, 1])
    assert BalancedAccuracy()(records) == 0.5
    assert MacroF1()(records) == pytest.approx((2 / 3 + 0.0) / 2)


def test_a_class_that_is_never_right_has_f1_zero_without_a_warning():
    assert MacroF1()(records_of([0, 1], [1, 0])) == 0.0


@pytest.mark.parametrize("metric", all_metrics(top_k=2), ids=lambda metric: metric.name)
def test_a_row_without_a_prediction_makes_every_metric_worse(metric):
    good = Records.from_logits(np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [4.0, 0.0, 0.0]]), np.array([0, 1, 0]))
    poisoned = Records.from_logits(np.array([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [np.nan, 0.0, 0.0]]), np.array([0, 1, 0]))
    direction = 1 if metric.higher_is_better else -1
    assert direction * metric(poisoned) < direction * metric(good)
    assert np.isfinite(metric(poisoned))


def test_a_row_without_a_prediction_is_no_hit_even_where_k_covers_all_classes():
    assert TopKAccuracy(5)(Records.from_logits(np.array([[np.nan, 0.0], [0.0, 1.0]]), np.array([0, 0]))) == 0.5


@settings(deadline=None, max_examples=60)
@given(logits_and_labels(), st.data())
def test_merging_is_associative_and_equals_measuring_at_once(example, data):
    records = Records.from_logits(*example)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), min_size=2, max_size=2)))
    parts = [records.take(np.arange(*bounds)) for bounds in zip([0, *cuts], [*cuts, len(records)])]
    for metric in all_metrics(top_k=2):
        one, two, three = (metric.get_state(part) for part in parts)
        left, right = metric.merge(metric.merge(one, two), three), metric.merge(one, metric.merge(two, three))
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(left, metric.merge(three, metric.merge(two, one)), rtol=1e-12, atol=1e-12)
        assert metric.compute(left) == pytest.approx(metric(records), rel=1e-12, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(logits_and_labels(), st.integers(1, 5), st.integers(-1, 50))
def test_padding_changes_nothing(example, rows, label):
    records = Records.from_logits(*example)
    padding = records_of([label] * rows, [rows % 3] * rows, weight=[0] * rows, log_probability=[np.nan] * rows)
    padded = Records.concatenate([padding, records, padding])
    assert compute_all(padded, example[0].shape[1], 2) == compute_all(records, example[0].shape[1], 2)


@pytest.mark.parametrize("metric", all_metrics(), ids=lambda metric: metric.name)
def test_nothing_to_measure_is_an_error(metric):
    with pytest.raises(DataError, match=f"^{metric.name} needs at least one example; there is none$"):
        metric(records_of([0], [0], weight=[0]))


def test_a_label_without_a_class_is_named():
    with pytest.raises(DataError, match=r"^2 examples cannot be measured: label 7 of example 11; allowed: 0 to 2$"):
        compute_all(records_of([0, 7, -1], [0, 1, 1], id=[10, 11, 12]), 3, 1)
    with pytest.raises(DataError, match=r"^1 examples cannot be measured: label -1 of example 0; allowed: 0 or more$"):
        Accuracy()(records_of([-1], [0]))


def test_names_tell_the_direction():
    assert NAMES == {"accuracy": True, "top_k_accuracy": True, "balanced_accuracy": True, "macro_f1": True, "log_loss": False, "ece": False, "mcc": True}


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_is_found_by_its_name(name):
    assert metric_named(name).name == name


def test_top_k_reaches_the_metric():
    assert metric_named("top_k_accuracy", top_k=3) == TopKAccuracy(3)


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        metric_named("acuracy")
    assert str(caught.value) == (
        "unknown metric 'acuracy': did you mean 'accuracy' or 'top_k_accuracy'? "
        "allowed: 'accuracy', 'balanced_accuracy', 'ece', 'log_loss', 'macro_f1', 'mcc', 'top_k_accuracy'"
    )


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match=r"^evaluation\.top_k is 0; allowed: 1 or more$"):
        TopKAccuracy(0)
    with pytest.raises(ConfigError, match=r"^expected calibration error over 0 bins; allowed: 1 or more$"):
        ExpectedCalibrationError(bins=0)
