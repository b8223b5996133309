"""Exact copies: found within and across splits, and treated as each policy says."""

from __future__ import annotations

import numpy as np
import pytest

from ftjax.data.clean import clean
from ftjax.data.dataset import SPLITS, Rows
from ftjax.errors import DataError

LAYOUT = [  # id, split, label, content
    ("train/0", "train", 0, b"only"),
    ("train/1", "train", 0, b"in train and test"),
    ("train/2", "train", 0, b"twice in train"),
    ("train/3", "train", 0, b"twice in train"),
    ("train/4", "train", 0, b"two labels"),
    ("train/5", "train", 1, b"two labels"),
    ("validation/0", "validation", 1, b"everywhere"),
    ("train/6", "train", 1, b"everywhere"),
    ("test/0", "test", 1, b"in train and test"),
    ("test/1", "test", 1, b"everywhere"),
    ("train/7", "train", 1, b"in train and validation"),
    ("validation/1", "validation", 1, b"in train and validation"),
]
IDS, LABELS = tuple(row[0] for row in LAYOUT), np.array([row[2] for row in LAYOUT], np.int32)
ROWS = Rows("here", IDS, LABELS, tuple(row[1] for row in LAYOUT), ("a", "b"), lambda row: b"")
MEMBERS = {split: np.flatnonzero([row[1] == split for row in LAYOUT]) for split in SPLITS}
HASHES = [row[3] for row in LAYOUT]


def names(members):
    return {split: [ROWS.ids[row] for row in members[split]] for split in SPLITS}


def test_report_changes_nothing_and_names_everything():
    members, report = clean(ROWS, HASHES, MEMBERS, "report")
    assert names(members) == names(MEMBERS)
    assert report["within"] == [{"split": "train", "ids": ["train/2", "train/3"]}, {"split": "train", "ids": ["train/4", "train/5"]}]
    assert report["across"] == [
        {"ids": ["train/1", "test/0"], "splits": ["train", "test"], "labels": ["a", "b"]},
        {"ids": ["train/6", "validation/0", "test/1"], "splits": ["train", "validation", "test"], "labels": ["b", "b", "b"]},
        {"ids": ["train/7", "validation/1"], "splits": ["train", "validation"], "labels": ["b", "b"]},
    ]
    assert [entry["ids"] for entry in report["conflicting"]] == [["train/1", "test/0"], ["train/4", "train/5"]]
    assert report["dropped"] == []


def test_drop_keeps_test_over_validation_over_train_and_no_contradiction_in_train():
    members, report = clean(ROWS, HASHES, MEMBERS, "drop")
    assert names(members) == {"train": ["train/0", "train/2", "train/3"], "validation": ["validation/1"], "test": ["test/0", "test/1"]}
    assert report["dropped"] == ["train/1", "train/4", "train/5", "validation/0", "train/6", "train/7"]


def test_contradictions_within_test_stay_so_that_test_never_shrinks():
    rows = Rows("here", ("x", "y"), np.array([0, 1], np.int32), ("test", "test"), ("a", "b"), lambda row: b"")
    members, report = clean(rows, [b"same", b"same"], {"train": np.arange(0), "validation": np.arange(0), "test": np.arange(2)}, "drop")
    assert members["test"].tolist() == [0, 1]
    assert len(report["conflicting"]) == 1


def test_error_names_all_copies_across_splits():
    with pytest.raises(DataError) as error:
        clean(ROWS, HASHES, MEMBERS, "error")
    assert str(error.value) == (
        "here: 3 images are in more than one split:\n"
        "  train/1 (train) = test/0 (test)\n"
        "  train/6 (train) = validation/0 (validation) = test/1 (test)\n"
        "  train/7 (train) = validation/1 (validation)\n"
        "Remove the copies, or set data.duplicates='drop'."
    )


def test_error_lets_copies_within_a_split_pass():
    members, report = clean(ROWS, HASHES, {"train": MEMBERS["train"], "validation": np.arange(0), "test": np.arange(0)}, "error")
    assert len(members["train"]) == len(MEMBERS["train"])
    assert len(report["within"]) == 2
