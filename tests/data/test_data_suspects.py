"""Suspicious rows: what is dropped, what the report says then, and that no label of a test decides what is trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from test_data_label_errors import blobs, names

from ftjax.config import DataConfig
from ftjax.data import suspects, suspects_policy
from ftjax.data.dataset import Dataset, Split
from ftjax.data.report import left_out
from ftjax.data.sample import draw_by_class
from ftjax.data.suspects_policy import applied
from ftjax.errors import DataError

CLASSES = ("a", "b", "c")


def a_split(ids: list[str], labels: np.ndarray) -> Split:
    return Split(tuple(ids), labels, lambda rows: {"row": np.asarray(rows)}, lambda row: {"text": ids[row]}, lengths=np.arange(len(ids), dtype=np.int32))


@pytest.fixture(scope="module")
def given() -> tuple[Dataset, dict[str, suspects.Part], set[str]]:
    """A data set, its features, and the training rows whose label was changed; one test label is wrong too, and one training row is far away."""
    features, labels = blobs(300)
    ids = names(300)
    changed = np.arange(0, 240, 12)
    labels[changed] = 1
    labels[270] = 1
    features[50] = -8
    parts = {
        "train": suspects.Part(ids[:240], labels[:240], features[:240]),
        "validation": suspects.Part(ids[240:255], labels[240:255], features[240:255]),
        "test": suspects.Part(ids[255:], labels[255:], features[255:]),
    }
    splits = {name: a_split(list(part.ids), np.asarray(part.labels)) for name, part in parts.items()}
    of_train = dict(zip(CLASSES, np.bincount(labels[:240]).tolist()))
    report = {
        "fingerprint": "f",
        "warnings": [],
        "rejected": [],
        "ignored": [],
        "sampling": {},
        "splits": {"train": {"rows": 240, "per_class": of_train, "origin": "drawn"}},
        "duplicates": {"within": [], "across": [], "conflicting": [], "dropped": []},
    }
    return Dataset(splits, CLASSES, report), parts, {ids[row] for row in changed}


def found_in(parts: dict[str, suspects.Part]) -> dict:
    return {"label_errors": suspects.find_label_errors(parts, CLASSES, (), 0), "outliers": suspects.find_outliers(parts, CLASSES)}


def test_report_names_rows_of_every_split_and_leaves_them_in(given):
    dataset, parts, wrong = given
    found = found_in(parts)
    kept = applied(dataset, DataConfig(label_errors="report", outliers="report"), found, {"row0000": {"text": "seen"}})
    one = kept.report["label_errors"]
    assert len({row["id"] for row in one["rows"] if row["split"] == "train"} & wrong) >= 12
    assert next(row for row in one["rows"] if row["id"] == "row0270")["suggested"] == "a"
    assert one["policy"] == "report"
    assert one["dropped"] == []
    assert kept.report["outliers"]["rows"][0]["id"] == "row0050"
    assert kept.splits is dataset.splits
    assert kept.report["fingerprint"] == "f"
    assert kept.examples == {"row0000": {"text": "seen"}}
    assert "of 240 in train, 1 in test; the probe is right for 88% of them" in kept.report["warnings"][0]
    assert kept.report["warnings"][0].endswith("they were left in; label_errors in data.json names them")
    assert left_out(kept.report) == []


def test_drop_takes_training_rows_alone_and_every_count_follows(given):
    dataset, parts, wrong = given
    found = found_in(parts)
    drawn = draw_by_class(dataset, "balanced", "data.sampling")
    config = DataConfig(label_errors="drop", outliers="drop", sampling="balanced")
    cleaned = applied(drawn, config, found, {})
    train, gone = cleaned.splits["train"], set(dataset.splits["train"].ids) - set(cleaned.splits["train"].ids)
    assert len(wrong & gone) >= 12
    assert "row0050" in gone
    assert cleaned.splits["test"] is dataset.splits["test"]
    assert cleaned.report["splits"]["train"]["rows"] == len(train) == 240 - len(gone)
    assert cleaned.report["splits"]["train"]["per_class"] == dict(zip(CLASSES, np.bincount(train.labels).tolist()))
    np.testing.assert_allclose(train.sampling, 1 / np.bincount(train.labels)[train.labels])
    assert [train.ids[row] for row in (0, 7)] == [train.show(row)["text"] for row in (0, 7)]
    assert dataset.splits["train"].ids[int(train.fields(np.array([5]))["row"][0])] == train.ids[5]
    assert dataset.splits["train"].ids[int(train.lengths[30])] == train.ids[30]
    assert cleaned.report["fingerprint"] != "f"
    assert cleaned.report["collected"] == "f"
    lines = {line["id"]: line for line in left_out(cleaned.report)}
    assert set(lines) == gone
    assert lines["row0000"]["policy"] == "data.label_errors=drop"
    assert lines["row0000"]["why"].startswith("the label 'b' is probably wrong; a probe that has not seen the row says 'a' (quality of the label 0.")
    assert lines["row0050"]["why"].startswith("far from all other rows (distance ") or lines["row0050"]["policy"] == "data.label_errors=drop"
    assert applied(drawn, config, found, {}).report["fingerprint"] == cleaned.report["fingerprint"]


def test_test_labels_change_nothing_about_the_rows_of_other_splits(given):
    _, parts, _ = given
    other = {**parts, "test": dataclasses.replace(parts["test"], labels=(parts["test"].labels + 1) % 3)}
    first, second = (suspects.find_label_errors(one, CLASSES, (), 0) for one in (parts, other))
    assert [row for row in first["rows"] if row["split"] != "test"] == [row for row in second["rows"] if row["split"] != "test"]
    assert first["found"]["test"] < second["found"]["test"]


def test_copies_share_a_fold_and_no_class_is_emptied(given, monkeypatch):
    dataset, parts, _ = given
    assert suspects.groups_of(["a", "b", "c", "d"], [["a", "c"], ["c", "d", "x"]]).tolist() == [0, 1, 0, 0]
    third = [name for name, label in zip(parts["train"].ids, parts["train"].labels) if label == 2]
    every = [{"id": name, "split": "train", "label": "c", "suggested": "a", "score": 0.1} for name in third]
    found = {"label_errors": {"rows": every, "found": {"train": len(every)}, "probe": {"accuracy": 0.5, "majority": 0.4}}}
    monkeypatch.setattr(suspects_policy, "MOST", 0.5)
    with pytest.raises(DataError, match=r"would drop every training row of class 'c'; use 'report', and data.drop for single rows"):
        applied(dataset, DataConfig(label_errors="drop"), found, {})


def test_a_probe_that_disagrees_with_too_many_labels_drops_none(given):
    dataset, parts, _ = given
    many = [{"id": name, "split": "train", "label": "a", "suggested": "b", "score": 0.1} for name in parts["train"].ids[:81]]
    found = {"label_errors": {"rows": many, "found": {"train": 81}, "probe": {"accuracy": 0.44, "majority": 0.1}}}
    message = r"would leave out 81 of 240 training rows \(34%\); the probe is right for 44% of them \(always the largest class: 10%\).*use 'report'"
    with pytest.raises(DataError, match=message):
        applied(dataset, DataConfig(label_errors="drop"), found, {})
    kept = applied(dataset, DataConfig(label_errors="report"), found, {})
    assert "the probe is right for 44% of them" in kept.report["warnings"][0]


def test_a_class_of_nothing_but_copies_is_not_judged(given):
    _, parts, _ = given
    copies = [name for name, label in zip(parts["train"].ids, parts["train"].labels) if label == 2]
    found = suspects.find_label_errors(parts, CLASSES, [copies], 0)
    assert found["not_judged"] == ["c"]
    assert not [row for row in found["rows"] if row["label"] == "c"]


def test_copies_count_once_where_rows_are_far_from_others():
    draw = np.random.default_rng(0)
    once = draw.normal(size=(80, 8))
    features = np.concatenate([once, np.repeat(once[:10], 12, axis=0)])
    ids = names(len(features))
    together = [[ids[row], *ids[80 + 12 * row : 92 + 12 * row]] for row in range(10)]
    part = suspects.Part(ids, np.zeros(len(ids), int), features)
    alone = suspects.find_outliers({"train": suspects.Part(ids[:80], np.zeros(80, int), once)}, CLASSES)
    found = suspects.find_outliers({"train": part}, CLASSES, together)
    assert found["threshold"] == pytest.approx(alone["threshold"])
    assert {row["id"] for row in found["rows"]} >= {row["id"] for row in alone["rows"]}
    assert suspects.find_outliers({"train": part}, CLASSES)["rows"] == []  # copies that nobody knows of: half of the rows are at no distance


def test_features_that_are_not_finite_are_an_error(given):
    _, parts, _ = given
    broken = dataclasses.replace(parts["test"], features=np.full_like(parts["test"].features, np.nan))
    with pytest.raises(DataError, match="features that are not finite"):
        suspects.find_outliers({**parts, "test": broken}, CLASSES)


def test_outliers_of_a_single_row_are_one_line(given):
    _, parts, _ = given
    one = {"train": suspects.Part(parts["train"].ids[:3], parts["train"].labels[:3], parts["train"].features[[0, 0, 0]])}
    with pytest.raises(DataError, match=r"there is 1 training row that is no copy; use data.outliers='off'"):
        suspects.find_outliers(one, CLASSES, [parts["train"].ids[:3]])
