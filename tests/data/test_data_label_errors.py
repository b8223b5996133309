"""Label errors: what confident learning finds among labels that were changed on purpose, and how rows are dealt to folds."""

from __future__ import annotations

import numpy as np
import pytest

from ftjax.data import label_errors
from ftjax.errors import ConfigError, DataError


def blobs(rows: int = 240, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features whose class is easy to tell."""
    draw = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    return (draw.normal(size=(rows, 6)) + 4 * np.eye(6)[labels]).astype(np.float32), labels.astype(np.int32)


def names(rows: int) -> list[str]:
    return [f"row{row:04d}" for row in range(rows)]


def test_changed_labels_are_found_and_the_noise_is_told_by_pair_of_classes():
    features, true = blobs()
    given = true.copy()
    changed = np.flatnonzero(true == 1)[::8]
    given[changed] = 2
    folds = label_errors.folds_of(names(240), given, np.arange(240), seed=0)
    probe = label_errors.out_of_fold(features, given, folds, 3)
    judged = label_errors.judge(given, probe.values)
    assert set(np.flatnonzero(judged.wrong)) <= set(changed)
    assert judged.wrong.sum() >= 0.6 * len(changed)
    assert (judged.suggested[changed] == 1).all()
    assert np.median(judged.score[changed]) < np.quantile(judged.score[np.setdiff1d(np.arange(240), changed)], 0.02)
    told = label_errors.noise_rows(judged.noise, ("a", "b", "c"))
    assert (told[0]["given"], told[0]["truly"]) == ("c", "b")
    assert told[0]["rows"] == pytest.approx(10, abs=3)
    assert told[0]["share"] == pytest.approx(10 / 90, abs=0.03)
    np.testing.assert_allclose(probe.values.sum(1), 1.0, rtol=1e-6)


def test_no_row_is_judged_by_a_probe_that_saw_it():
    features, labels = blobs(60)
    folds = label_errors.folds_of(names(60), labels, np.arange(60), seed=0)
    before = label_errors.out_of_fold(features, labels, folds, 3, (0.01,)).values[7]
    changed = labels.copy()
    changed[7] = (labels[7] + 1) % 3
    np.testing.assert_array_equal(label_errors.out_of_fold(features, changed, folds, 3, (0.01,)).values[7], before)


def test_folds_spread_classes_keep_groups_whole_and_ignore_the_order_of_rows():
    _, labels = blobs(100)
    groups = np.arange(100) // 2 * 2
    folds = label_errors.folds_of(names(100), labels, np.arange(100), seed=0)
    assert all(np.ptp(np.bincount(folds[labels == label], minlength=5)) <= 1 for label in range(3))
    together = label_errors.folds_of(names(100), labels, groups, seed=0)
    assert (together[0::2] == together[1::2]).all()
    order = np.random.default_rng(1).permutation(100)
    shuffled = label_errors.folds_of([names(100)[row] for row in order], labels[order], np.arange(100), seed=0)
    np.testing.assert_array_equal(shuffled, folds[order])
    assert (label_errors.folds_of(names(100), labels, np.arange(100), seed=1) != folds).any()


def test_a_class_that_folds_would_lack_is_not_judged():
    features, labels = blobs(60)
    labels[labels == 2] = 0
    labels[:4] = 2
    folds = label_errors.folds_of(names(60), labels, np.arange(60), seed=0)
    judged = label_errors.judge(labels, label_errors.out_of_fold(features, labels, folds, 3).values)
    assert not judged.wrong[:4].any()
    assert (judged.score[:4] == 1).all()


def test_what_cannot_be_judged_is_refused(monkeypatch):
    features, labels = blobs(30)
    features[3, 0] = np.nan
    with pytest.raises(DataError, match=r"features that are not finite for 1 rows \(the first is row 3\)"):
        label_errors.out_of_fold(features, labels, np.arange(30) % 5, 3)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^data.label_errors='drop' needs the package cleanlab: pip install 'ftjax\[clean\]'$"):
        label_errors.check_cleanlab("data.label_errors='drop'")
