"""The majority class and the linear probe: right, fast, and selected on validation alone."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits

from ftjax.errors import DataError
from ftjax.evaluation import Accuracy, LogLoss, baselines, linear_probe, majority
from ftjax.evaluation.baselines import L2_GRID


def blobs(rows: int, seed: int, *, classes: int = 3, spread: float = 0.3, width: int = 5):
    generator = np.random.default_rng(seed)
    label = generator.integers(0, classes, rows)
    return np.eye(classes, width)[label] + spread * generator.normal(size=(rows, width)), label


def probe(train, validation, test, classes=3, seed=0):
    return linear_probe(*train, *validation, test[0], classes, seed)


def test_majority_predicts_the_most_frequent_training_class():
    records = majority(np.array([2, 2, 0, 1]), np.array([2, 0, 2, 1, 2]), 3)
    assert set(records.prediction.tolist()) == {2}
    assert Accuracy()(records) == pytest.approx(3 / 5)
    assert records.id.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(records.confidence, 3 / 7, rtol=1e-6)


def test_majority_takes_the_lowest_class_on_ties_and_bears_classes_without_training_examples():
    records = majority(np.array([1, 0, 1, 0]), np.array([3, 0]), 4)
    assert set(records.prediction.tolist()) == {0}
    assert LogLoss()(records) == pytest.approx(-(np.log(1 / 8) + np.log(3 / 8)) / 2, rel=1e-5)


def test_the_probe_separates_what_is_separable():
    result = probe(blobs(90, 0), blobs(60, 1), blobs(200, 2))
    assert result.logits.shape == (200, 3)
    assert result.logits.dtype == np.float32
    assert np.mean(result.logits.argmax(axis=1) == blobs(200, 2)[1]) > 0.9


def test_the_probe_takes_the_best_penalty_on_validation_and_the_strongest_of_equals():
    result = probe(blobs(60, 0, spread=0.8), blobs(80, 1, spread=0.8), blobs(10, 2))
    assert tuple(result.validation_accuracies) == L2_GRID
    best = max(result.validation_accuracies.values())
    assert result.l2 == max(l2 for l2, accuracy in result.validation_accuracies.items() if accuracy == best)
    easy = probe(blobs(60, 0, spread=0.01), blobs(80, 1, spread=0.01), blobs(10, 2))
    tied = [l2 for l2, accuracy in easy.validation_accuracies.items() if accuracy == 1.0]
    assert len(tied) > 1
    assert easy.l2 == tied[0] == max(tied)


def test_the_probe_solves_the_stated_problem():
    train, (features, _) = blobs(60, 0, spread=0.8), blobs(30, 2)
    result = probe(train, blobs(80, 1, spread=0.8), (features, None))
    mean, deviation = train[0].mean(axis=0), train[0].std(axis=0)
    standard, goal = (train[0] - mean) / deviation, np.eye(3)[train[1]]
    weights, bias = np.zeros((5, 3)), np.zeros(3)
    for _ in range(8000):
        scores = standard @ weights + bias
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = powers / powers.sum(axis=1, keepdims=True) - goal
        weights -= 0.01 * (standard.T @ error + result.l2 * weights) / (1 + result.l2 / 100)
        bias -= 0.01 * error.sum(axis=0)
    expected = (features - mean) / deviation @ weights + bias
    got = result.logits - result.logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(got, expected - expected.mean(axis=1, keepdims=True), atol=0.02 * np.abs(expected).max())


def test_the_probe_does_not_depend_on_the_scale_of_a_feature_nor_on_the_seed():
    scale = np.array([1e3, 1.0, 1e-3, 5.0, 1.0])
    parts = [blobs(80, seed, spread=0.6) for seed in range(3)]
    plain = probe(*parts)
    scaled = probe(*[(features * scale + 7, label) for features, label in parts], seed=1)
    np.testing.assert_allclose(scaled.logits, plain.logits, atol=1e-3)
    np.testing.assert_array_equal(probe(*parts, seed=2).logits, plain.logits)


def test_a_constant_feature_does_no_harm():
    parts = [(np.concatenate([features, np.full((len(features), 1), 3.7)], axis=1), label) for features, label in (blobs(60, seed) for seed in range(3))]
    assert np.isfinite(probe(*parts).logits).all()


def test_two_classes_give_two_columns_of_log_odds():
    result = probe(blobs(60, 0, classes=2), blobs(40, 1, classes=2), blobs(50, 2, classes=2), classes=2)
    assert result.logits.shape == (50, 2)
    assert np.mean(result.logits.argmax(axis=1) == blobs(50, 2, classes=2)[1]) > 0.9


def test_a_class_without_training_examples_is_finite_and_never_predicted():
    features, label = blobs(60, 0)
    kept = label != 1
    result = linear_probe(features[kept], label[kept], *blobs(40, 1), blobs(50, 2)[0], 3, 0)
    assert np.isfinite(result.logits).all()
    assert set(result.logits.argmax(axis=1).tolist()) == {0, 2}


def test_a_fit_that_stops_early_is_named_and_nothing_is_printed(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_ITERATIONS", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = probe(blobs(60, 0, spread=1.0), blobs(40, 1), blobs(50, 2))
    assert 0.001 in result.unconverged
    assert set(result.unconverged) <= set(L2_GRID)
    assert probe(blobs(60, 0), blobs(40, 1), blobs(50, 2)).l2 in L2_GRID


def test_other_warnings_of_the_solver_reach_the_caller(monkeypatch):
    from sklearn.linear_model import LogisticRegression

    fit = LogisticRegression.fit

    def loud(self, *arguments):
        warnings.warn("something else", UserWarning, stacklevel=2)
        return fit(self, *arguments)

    monkeypatch.setattr(LogisticRegression, "fit", loud)
    with pytest.warns(UserWarning, match="something else"):
        probe(blobs(60, 0), blobs(40, 1), blobs(50, 2))


def test_all_fits_converge_on_real_digits_and_take_seconds():
    features, label = load_digits(return_X_y=True)
    start = time.process_time()
    result = linear_probe(features[:900], label[:900], features[900:1200], label[900:1200], features[1200:], 10, 0)
    assert time.process_time() - start < 10  # CPU time; measured: 0.06 s
    assert result.unconverged == ()
    assert 0.89 <= np.mean(result.logits.argmax(axis=1) == label[1200:]) <= 0.95


def test_features_that_are_not_finite_are_named():
    features, label = blobs(20, 0)
    features[7, 2] = np.nan
    with pytest.raises(DataError, match=r"^a linear probe needs finite features; those of validation example 7 are not$"):
        linear_probe(*blobs(20, 1), features, label, blobs(5, 2)[0], 3, 0)


def test_one_class_alone_is_refused():
    features, _ = blobs(20, 0)
    with pytest.raises(DataError, match=r"^a linear probe needs at least 2 classes in training; there is only class \[1\]$"):
        linear_probe(features, np.ones(20, int), *blobs(5, 1), features, 3, 0)
