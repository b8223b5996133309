"""Outliers: rows far from all others are far whatever the scale of the features, and rows of other splits are compared with training rows alone."""

from __future__ import annotations

import numpy as np

from ftjax.data.outliers import find_outliers


def test_the_far_row_is_found_in_any_units_and_named_with_its_nearest():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 16)) * 0.3 + np.repeat(np.eye(16)[:2], 100, axis=0) * 4
    features[17] = -4 * np.eye(16)[5]
    found, _ = find_outliers(features)
    assert found.far[17]
    assert found.far.sum() <= 3
    assert found.values.argmax() == 17
    assert found.values[17] > found.threshold > found.median
    scaled, _ = find_outliers(features * np.linspace(0.1, 100, 16))
    np.testing.assert_allclose(scaled.values, found.values, rtol=1e-4)
    assert found.neighbours == 10
    assert 17 not in found.nearest[:17]


def test_rows_of_other_splits_do_not_change_the_threshold():
    draw = np.random.default_rng(1)
    features = draw.normal(size=(100, 8)) * 0.3 + np.eye(8)[0] * 4
    other = np.concatenate([features[:3], -6 * np.eye(8)[[3]]])
    own, others = find_outliers(features, other)
    alone, nothing = find_outliers(features)
    assert nothing is None
    assert others is not None
    assert own.threshold == alone.threshold == others.threshold
    assert others.far.tolist() == [False, False, False, True]
    assert others.nearest[:3].tolist() == [0, 1, 2]


def test_few_rows_have_fewer_neighbours_and_equal_rows_are_not_far():
    assert find_outliers(np.arange(8.0).reshape(4, 2))[0].neighbours == 3
    assert not find_outliers(np.ones((12, 4)))[0].far.any()
