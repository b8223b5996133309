"""Areas and rank correlations: scikit-learn's and scipy's numbers, many weightings at once, and how often their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from ftjax.evaluation import rank_metrics
from ftjax.evaluation.rank_metrics import (
    area_resampler,
    auroc,
    auroc_slope,
    average_precision,
    average_precision_slope,
    mean_auroc,
    mean_average_precision,
    pearson,
    spearman,
)


def draw(seed: int, rows: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth with both sides, scores (with ties) and three integer weightings."""
    generator = np.random.default_rng(seed)
    truth = generator.random(rows) < 0.4
    truth[:2] = [True, False]
    scores = generator.normal(size=rows) + truth
    weights = generator.integers(0, 4, (3, rows)).astype(float)
    weights[:, :2] = 1
    return truth, np.round(scores) if ties else scores, weights


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([2, 7, 40, 150]), st.booleans())
def test_each_weighting_is_scikit_learn_s_of_the_repeated_examples(seed, rows, ties):
    truth, scores, weights = draw(seed, rows, ties)
    for ours, theirs in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        expected = [theirs(np.repeat(truth, each.astype(int)), np.repeat(scores, each.astype(int))) for each in weights]
        np.testing.assert_allclose(ours(truth, scores, weights), expected, rtol=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([3, 20, 90]), st.booleans())
def test_spearman_is_scipy_s_of_the_repeated_examples(seed, rows, ties):
    _, one, weights = draw(seed, rows, ties)
    other = np.round(one + np.random.default_rng(seed).normal(size=rows), 1)
    weights[:, 2] = 1
    for each, found in zip(weights, spearman(one, other, weights)):
        sides = [np.repeat(side, each.astype(int)) for side in (one, other)]
        if min(map(np.ptp, sides)) == 0:
            assert found == 0
        else:
            assert found == pytest.approx(scipy.stats.spearmanr(*sides).statistic, abs=1e-9)
            assert pearson(one, other, each[None])[0] == pytest.approx(scipy.stats.pearsonr(*sides).statistic, abs=1e-9)


def test_few_and_many_positives_are_computed_two_ways_with_one_result(monkeypatch):
    truth, scores, weights = draw(0, 60, ties=True)
    compared = auroc(truth, scores, weights)
    monkeypatch.setattr(rank_metrics, "FEW", 0)
    np.testing.assert_allclose(auroc(truth, scores, weights), compared, rtol=1e-12)


def test_a_column_that_is_not_defined_is_left_out():
    truth, scores, weights = draw(1, 30, ties=False)
    both = np.stack([truth, np.zeros(30, bool)], axis=1), np.stack([scores, scores], axis=1)
    np.testing.assert_array_equal(mean_auroc(*both, weights), auroc(truth, scores, weights))
    np.testing.assert_array_equal(mean_average_precision(*both, weights), average_precision(truth, scores, weights))
    nothing = np.zeros((30, 1), bool), scores[:, None]
    assert mean_auroc(*nothing, weights).tolist() == [0.5] * 3
    assert mean_average_precision(*nothing, weights).tolist() == [0] * 3


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([4, 30]), st.booleans())
def test_slopes_are_the_derivatives_of_the_areas(seed, rows, ties):
    truth, scores, _ = draw(seed, rows, ties)
    step = 1e-6
    for area, slope in ((auroc, auroc_slope), (average_precision, average_precision_slope)):
        nudged = [area(truth, scores, np.ones((1, rows)) + sign * step * np.eye(rows)) for sign in (1, -1)]
        np.testing.assert_allclose(slope(truth, scores), (nudged[0] - nudged[1]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize(("area", "slope"), [(mean_auroc, auroc_slope), (mean_average_precision, average_precision_slope)])
def test_many_examples_are_resampled_to_first_order_with_nearly_the_same_interval(area, slope, monkeypatch):
    generator = np.random.default_rng(5)
    truth = generator.random((1200, 10)) < np.linspace(0.05, 0.5, 10)
    scores = generator.normal(size=truth.shape) + 1.5 * truth
    counts = generator.multinomial(1200, np.full(1200, 1 / 1200), size=300).astype(float)
    close = area_resampler(area, slope, truth, scores)(counts)
    monkeypatch.setattr(rank_metrics, "CELLS", truth.size)
    exact = area_resampler(area, slope, truth, scores)(counts)
    assert np.corrcoef(close, exact)[0, 1] > 0.98
    bounds = [np.percentile(side, [2.5, 97.5]) for side in (close, exact)]
    np.testing.assert_allclose(*bounds, atol=0.15 * np.ptp(bounds[1]))
    assert not np.array_equal(close, exact)


def test_a_constant_side_has_no_correlation():
    weights = np.ones((1, 5))
    assert spearman(np.arange(5.0), np.ones(5), weights) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["auroc", "average_precision", "pearson", "spearman"])
def test_percentiles_of_resamples_hold_the_truth_nearly_as_often_as_they_say(name):
    generator, rows, hits = np.random.default_rng(0), 100, 0
    metric = getattr(rank_metrics, name)

    def sample(count):
        one = generator.normal(size=count)
        other = one + generator.normal(size=count)
        return (generator.random(count) < 1 / (1 + np.exp(-2 * one)), other) if name in ("auroc", "average_precision") else (one, other)

    truth = metric(*sample(400_000), np.ones((1, 400_000)))[0]
    for _ in range(300):
        counts = generator.multinomial(rows, np.full(rows, 1 / rows), size=400).astype(float)
        low, high = np.percentile(metric(*sample(rows), counts), [2.5, 97.5])
        hits += low <= truth <= high
    assert 0.88 <= hits / 300 <= 0.99
