"""Multi-label measures: scikit-learn's numbers, whatever the padding, and what people read."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
from kind_examples import batch_of, parts_of, split_of
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score

from ftjax.errors import DataError
from ftjax.evaluation import measures_of, read_records, write_records
from ftjax.tasks import MultiLabel

CLASSES = ("anger", "joy", "fear")
MEASURES = measures_of(MultiLabel(CLASSES))
DRAW = np.random.default_rng(0)
LABELS = (DRAW.random((60, 3)) < [0.2, 0.5, 0.4]).astype(np.float32)
SCORES = (DRAW.normal(size=(60, 3)) + 2 * LABELS - 1).astype(np.float32)
SPLIT = split_of(LABELS)


def gathered(scores=SCORES, labels=LABELS, cuts=(25, 40)):
    return MEASURES.gather(parts_of(MEASURES, scores, batch_of(labels), cuts=cuts), SPLIT)


def test_the_numbers_are_scikit_learn_s():
    found, said, shares = MEASURES.compute_all(gathered()), SCORES > 0, 1 / (1 + np.exp(-SCORES.astype(np.float64)))
    assert list(found) == ["micro_f1", "macro_f1", "subset_accuracy", "macro_auroc", "mean_average_precision", "log_loss"]
    assert MEASURES.main == "micro_f1"
    expected = [
        f1_score(LABELS, said, average="micro"),
        f1_score(LABELS, said, average="macro"),
        accuracy_score(LABELS, said),
        roc_auc_score(LABELS, SCORES, average="macro"),
        average_precision_score(LABELS, SCORES, average="macro"),
        np.mean([log_loss(LABELS[:, label], shares[:, label]) for label in range(3)]),
    ]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-6)


def test_states_of_parts_merge_to_the_whole():
    records = gathered()
    for metric in MEASURES.metrics:
        halves = [metric.get_state(records.take(rows)) for rows in (np.arange(20), np.arange(20, 60))]
        assert metric.compute(metric.merge(*halves)) == pytest.approx(metric(records), rel=1e-12)


def test_every_interval_holds_its_value():
    found = MEASURES.intervals(gathered(), resamples=100, seed=1)
    assert all(one["low"] <= one["value"] <= one["high"] for one in found.values())
    assert all(one["low"] < one["high"] for one in found.values())
    assert {name: one["value"] for name, one in found.items()} == MEASURES.compute_all(gathered())


def test_a_perfect_value_has_an_interval_of_the_rarest_label_s_examples():
    with warnings.catch_warnings():
        found = MEASURES.intervals(gathered(100 * LABELS - 50), resamples=50)
    rare = int(LABELS.sum(axis=0).min())
    assert found["macro_auroc"]["value"] == found["macro_f1"]["value"] == 1
    assert found["macro_auroc"]["low"] == pytest.approx(rare / (rare + 1.96**2), rel=1e-3)
    assert found["micro_f1"]["low"] == pytest.approx(60 / (60 + 1.96**2), rel=1e-3)


def test_outputs_that_are_not_finite_are_wrong_in_every_label():
    scores = SCORES.copy()
    scores[3] = [np.nan, 5, -5]
    records = gathered(scores)
    assert not np.any(records.said[3] == (LABELS[3] > 0.5))
    assert all(np.isfinite(value) for value in MEASURES.compute_all(records).values())
    assert MEASURES.rows(records, SPLIT, probabilities=True)[3] == {"id": "row3", "label": None, "probability": None, "probabilities": None}


def test_rows_name_the_labels_above_one_half_with_the_likeliest_first():
    rows = MEASURES.rows(gathered(np.tile(np.float32([0.1, 2, -1]), (60, 1))), SPLIT, probabilities=True)
    assert rows[7]["id"] == "row7"
    assert rows[7]["label"] == ["joy", "anger"]
    assert rows[7]["probability"] == pytest.approx([0.8808, 0.52498], abs=1e-4)
    assert list(rows[7]["probabilities"]) == list(CLASSES)
    assert "probabilities" not in MEASURES.rows(gathered(), SPLIT)[0]
    assert MEASURES.rows(gathered(np.full((60, 3), -1)), SPLIT)[0] == {"id": "row0", "label": [], "probability": []}


def test_predictions_need_no_labels_and_measures_do():
    records = MEASURES.gather(parts_of(MEASURES, SCORES, batch_of(np.full(60, -1, np.int32))), SPLIT)
    assert MEASURES.rows(records, SPLIT) == MEASURES.rows(gathered(), SPLIT)
    with pytest.raises(DataError, match=r"^60 examples cannot be measured: example 0 has no labels$"):
        MEASURES.compute_all(records)


def test_the_table_counts_every_label():
    found = MEASURES.tables(gathered())["labels"]
    assert [row["name"] for row in found] == list(CLASSES)
    assert [row["support"] for row in found] == LABELS.sum(axis=0).astype(int).tolist()
    assert [row["predicted"] for row in found] == (SCORES > 0).sum(axis=0).tolist()
    assert [row["right"] for row in found] == ((SCORES > 0) & (LABELS > 0)).sum(axis=0).tolist()


def test_the_worst_answers_come_first_and_say_what_they_are():
    scores = 100 * LABELS - 50
    scores[5, 0] *= -1
    scores[9, 1:] *= -1
    found = MEASURES.errors(gathered(scores), SPLIT, 5)
    assert [row["id"] for row in found] == ["row9", "row5"]
    assert found[1]["row"] == 5
    assert set(found[1]["label"]) ^ set(found[1]["prediction"]) == {"anger"}
    assert found[1]["confidence"] == pytest.approx(1)


def test_two_models_are_compared_on_the_same_examples():
    better, worse = gathered(), gathered(-SCORES)
    for name in ("macro_f1", "subset_accuracy", "macro_auroc", "log_loss"):
        found = MEASURES.difference(better, worse, name, resamples=100)
        sign = -1 if name == "log_loss" else 1
        assert min(sign * found["low"], sign * found["high"]) > 0, name
    with pytest.raises(DataError, match=re.escape("a paired difference needs the same labels on both sides: example 4 has ")):
        MEASURES.difference(better, dataclasses.replace(worse, label=np.where(np.arange(60)[:, None] == 4, 1 - LABELS, LABELS)), "macro_f1")


def test_the_records_come_back_from_the_disk(tmp_path):
    write_records(tmp_path / "test.npz", gathered())
    stored = read_records(tmp_path / "test.npz")
    assert type(stored) is type(gathered())
    assert all(np.array_equal(values, stored.arrays()[name]) for name, values in gathered().arrays().items())


def test_an_example_that_came_twice_is_refused():
    parts = parts_of(MEASURES, SCORES, batch_of(LABELS))
    with pytest.raises(DataError, match=r"^example 0 was evaluated 2 times; every example must count once$"):
        MEASURES.gather(parts * 2, SPLIT)


def test_the_frequencies_and_a_linear_probe_are_baselines():
    train = split_of(np.tile(np.float32([1, 0, 1]), (8, 1)))
    found = MEASURES.majority(train, SPLIT)
    assert found.records.said.tolist() == [[True, False, True]] * 60
    np.testing.assert_allclose(MEASURES.rows(found.records, SPLIT, probabilities=True)[0]["probabilities"]["joy"], 0.1, rtol=1e-6)
    features = {"train": SCORES, "validation": SCORES, "test": SCORES}
    probe = MEASURES.probe(features, dict.fromkeys(("train", "validation", "test"), SPLIT))
    assert MEASURES.metric("macro_auroc")(probe.records) > 0.8
    assert probe.why.startswith("a logistic regression for each label on the features of the model before training, l2 ")
    lost = MEASURES.probe(features, {"train": split_of(LABELS * [1, 0, 1]), "validation": SPLIT, "test": SPLIT})
    assert not np.any(lost.records.said[:, 1])
