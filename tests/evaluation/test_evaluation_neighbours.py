"""The baselines of recommendation against dense arithmetic and a plain sort: the most popular items, item-kNN, windows of long histories as one user."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_examples import by_sorting, random_rows, split_of, train_split

from ftjax.evaluation.kinds.recommendation import RecommendationMeasures
from ftjax.evaluation.ranking import neighbours

ITEMS = 15


def splits_of(seed, targets=3):
    generator = np.random.default_rng(seed)
    train = [generator.integers(1, ITEMS - 1, generator.integers(2, 7)).tolist() for _ in range(8)]
    rows = random_rows(generator, 7, ITEMS, targets)
    return train, rows, train_split(train, ITEMS), split_of(rows, ITEMS, train=train, several=True)


def check(records, rows, scores, k, *, positive=False):
    for row, (known, targets) in enumerate(rows):
        ranks, best = by_sorting(scores[row], known, targets, ITEMS)
        best = [item for item in best if item and (not positive or scores[row][item - 1] > 0)][:k]
        assert records.ranks[row, : len(targets)].tolist() == ranks
        assert records.items[row].tolist() == best + [0] * (k - len(best))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_the_most_popular_items_are_those_with_the_most_training_events(seed):
    train, rows, first, test = splits_of(seed)
    counts = np.bincount(np.concatenate(train), minlength=ITEMS + 1)[1:]
    check(neighbours.most_popular(first, test, 4), rows, np.tile(counts.astype(float), (len(rows), 1)), 4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_neighbours_are_those_of_dense_cosines(seed):
    train, rows, first, test = splits_of(seed)
    seen = np.array([[item in history for item in range(1, ITEMS + 1)] for history in train], float)
    norms = np.sqrt(np.maximum(seen.sum(axis=0), 1))
    cosines = seen.T @ seen / norms[:, None] / norms[None, :]
    np.fill_diagonal(cosines, 0)
    known = np.array([[item in history for item in range(1, ITEMS + 1)] for history, _ in rows], float)
    check(neighbours.item_knn(first, test, 4), rows, np.round(known @ cosines, 9), 4, positive=True)


def test_chunks_of_users_and_items_change_nothing(monkeypatch):
    _, _, first, test = splits_of(3)
    whole = neighbours.item_knn(first, test, 4)
    monkeypatch.setattr(neighbours, "_USERS", 2)
    monkeypatch.setattr(neighbours, "_ITEMS", 4)
    for name, values in neighbours.item_knn(first, test, 4).arrays().items():
        np.testing.assert_allclose(values, whole.arrays()[name], err_msg=name)


def test_only_the_nearest_neighbours_and_the_newest_events_count(monkeypatch):
    _, _, first, _ = splits_of(3)
    monkeypatch.setattr(neighbours, "NEIGHBOURS", 2)
    assert np.diff(neighbours.similarities(first).indptr).max() == 2
    monkeypatch.setattr(neighbours, "NEWEST", 1)
    assert neighbours.similarities(first).nnz == 0


def test_windows_of_one_user_are_one_user_again():
    start, stop = np.array([9, 0, 3, 6, 12]), np.array([13, 4, 7, 9, 14])
    found = neighbours._spans(start, stop)
    assert [side.tolist() for side in found] == [[0, 9], [9, 14]]


@pytest.mark.parametrize("name", ["majority", "neighbours"])
def test_a_sampled_ranking_has_no_baselines(name):
    _, _, first, test = splits_of(3)
    assert getattr(RecommendationMeasures(ITEMS, sampled=99), name)(first, test) is None
    assert getattr(RecommendationMeasures(ITEMS), name)(first, test).why
