"""Regression measures: scikit-learn's and scipy's numbers in the unit of the data."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_examples import batch_of, parts_of, split_of
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from ftjax.errors import DataError
from ftjax.evaluation import measures_of, read_records, write_records
from ftjax.evaluation.kinds import RegressionRecords
from ftjax.tasks import Regression

TASK = Regression(mean=3.0, deviation=0.5)
MEASURES = measures_of(TASK)
DRAW = np.random.default_rng(2)
TARGETS = (3 + 0.5 * DRAW.normal(size=50)).astype(np.float32)
OUTPUTS = ((TARGETS - 3) / 0.5 + 0.4 * DRAW.normal(size=50)).astype(np.float32)[:, None]
SPLIT = split_of(TARGETS)


def gathered(outputs=OUTPUTS, targets=TARGETS, cuts=(20,)):
    return MEASURES.gather(parts_of(MEASURES, outputs, batch_of(targets), cuts=cuts), SPLIT)


def records_of(targets, predictions):
    rows = len(targets)
    return RegressionRecords(
        id=np.arange(rows, dtype=np.int32), weight=np.ones(rows, np.float32), label=np.float32(targets), prediction=np.float32(predictions)
    )


def test_predictions_are_in_the_unit_of_the_data():
    np.testing.assert_allclose(gathered().prediction, OUTPUTS[:, 0] * 0.5 + 3, rtol=1e-6)
    assert MEASURES.rows(gathered(), SPLIT)[4] == {"id": "row4", "prediction": pytest.approx(float(OUTPUTS[4, 0] * 0.5 + 3))}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([2, 5, 60]), st.sampled_from([0.0, 3.0, 2000.0]))
def test_the_numbers_are_those_of_scikit_learn_and_scipy(seed, rows, centre):
    generator = np.random.default_rng(seed)
    targets = np.float32(centre + generator.normal(size=rows))
    predictions = np.float32(targets + generator.normal(size=rows))
    measures = measures_of(Regression(mean=float(centre) + 0.1, deviation=1.2))
    found, sides = measures.compute_all(records_of(targets, predictions)), (targets.astype(np.float64), predictions.astype(np.float64))
    expected = [
        scipy.stats.pearsonr(*sides).statistic,
        scipy.stats.spearmanr(*sides).statistic,
        root_mean_squared_error(*sides),
        mean_absolute_error(*sides),
        r2_score(*sides),
    ]
    assert list(found) == ["pearson", "spearman", "rmse", "mae", "r2"]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6, atol=1e-8)


def test_directions():
    assert {metric.name: metric.higher_is_better for metric in MEASURES.metrics} == {"pearson": True, "spearman": True, "rmse": False, "mae": False, "r2": True}
    assert MEASURES.main == "pearson"


def test_states_of_parts_merge_to_the_whole():
    records = gathered()
    for metric in MEASURES.metrics:
        halves = [metric.get_state(records.take(rows)) for rows in (np.arange(20), np.arange(20, 50))]
        assert metric.compute(metric.merge(*halves)) == pytest.approx(metric(records), rel=1e-12)


def test_constant_predictions_explain_nothing():
    found = MEASURES.compute_all(records_of([1, 2, 3], [2, 2, 2]))
    assert (found["pearson"], found["spearman"], found["r2"]) == (0, 0, 0)
    assert MEASURES.compute_all(records_of([2, 2], [2, 2]))["r2"] == 1


def test_a_prediction_that_is_not_finite_is_as_wrong_as_can_be_and_still_a_number():
    outputs = OUTPUTS.copy()
    outputs[7] = np.nan
    records = gathered(outputs)
    found = MEASURES.compute_all(records)
    assert found["rmse"] > 1e30
    assert all(np.isfinite(value) for value in found.values())
    assert all(np.isfinite(one["high"]) for one in MEASURES.intervals(records, resamples=20).values())
    assert MEASURES.rows(records, SPLIT)[7] == {"id": "row7", "prediction": None}
    assert MEASURES.errors(records, SPLIT, 1) == [{"id": "row7", "row": 7, "label": pytest.approx(float(TARGETS[7])), "prediction": None}]


def test_intervals_hold_their_values_and_differences_their_sign():
    found = MEASURES.intervals(gathered(), resamples=200)
    assert all(one["low"] < one["value"] < one["high"] for one in found.values())
    other = gathered(0.1 * OUTPUTS + DRAW.normal(size=OUTPUTS.shape))
    assert MEASURES.difference(gathered(), other, "pearson", resamples=200)["low"] > 0
    assert MEASURES.difference(gathered(), other, "rmse", resamples=200)["high"] < 0


def test_targets_must_be_numbers():
    targets = TARGETS.copy()
    targets[3] = np.nan
    with pytest.raises(DataError, match=r"^1 examples cannot be measured: the target of example 3 is nan$"):
        MEASURES.compute_all(gathered(targets=targets))


def test_the_records_come_back_from_the_disk(tmp_path):
    write_records(tmp_path / "test.npz", gathered())
    stored = read_records(tmp_path / "test.npz")
    assert MEASURES.compute_all(stored) == MEASURES.compute_all(gathered())


def test_the_mean_and_ridge_regression_are_baselines():
    found = MEASURES.majority(SPLIT, SPLIT)
    assert np.unique(found.records.prediction).tolist() == [3.0]
    weights = DRAW.normal(size=4)
    features = {name: DRAW.normal(size=(rows, 4)) for name, rows in (("train", 80), ("validation", 30), ("test", 50))}
    splits = {name: split_of(np.float32(3 + 0.5 * values @ weights)) for name, values in features.items()}
    probe = MEASURES.probe(features, splits)
    assert MEASURES.metric("r2")(probe.records) > 0.99
    assert probe.why == "ridge regression on the features of the model before training, l2 0.008 chosen on validation"
