"""Texts that are almost the same across splits, and rows that a file names: reported, or left out."""

from __future__ import annotations

import pytest
from text_files import collected, reviews, write

from ftjax.config import Config, DataConfig
from ftjax.config_usage import check_used
from ftjax.configuration import replace
from ftjax.data.report import left_out
from ftjax.errors import ConfigError, DataError

LONG = "the cat who lives in paris sat on a mat in a nice place"


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "set/train.csv", reviews(f"{LONG} .,pos\n{LONG} now,neg\n"))
    write(tmp_path / "set/validation.csv", reviews())
    write(tmp_path / "set/test.csv", f"text,label\n{LONG.upper()},pos\nthe actor is bad,neg\n")
    return tmp_path / "set"


def test_leaks_and_contradictions_are_named_and_left_in(folder):
    dataset = collected(folder, duplicates="report")
    near = dataset.report["near_duplicates"]
    assert near["groups"] == [
        {
            "ids": ["train.csv:22", "train.csv:23", "test.csv:2"],
            "splits": ["train", "train", "test"],
            "labels": ["pos", "neg", "pos"],
            "similarity": [pytest.approx(53 / 57, abs=1e-4), 1.0],
            "across": True,
            "conflicting": True,
        }
    ]
    assert near["leaking"] == {"validation": 0, "test": 1}
    assert any(line.startswith("1 text of test is almost the same as one of train") for line in dataset.report["warnings"])
    assert "train.csv:22" in dataset.splits["train"].ids


def test_what_is_like_a_test_row_is_dropped_from_train_and_told(folder):
    dataset = collected(folder, duplicates="report", near_duplicates="drop")
    assert dataset.report["near_duplicates"]["dropped"] == ["train.csv:22", "train.csv:23"]
    assert len(dataset.splits["train"]) == 20
    assert len(dataset.splits["test"]) == 2
    assert left_out(dataset.report)[0] == {
        "id": "train.csv:22",
        "row": 22,
        "why": "almost the same: train.csv:23 (train), test.csv:2 (test)",
        "policy": "data.near_duplicates=drop",
    }


def test_a_stricter_threshold_finds_less(folder):
    groups = collected(folder, duplicates="report", near_text_similarity=0.95).report["near_duplicates"]["groups"]
    assert [group["ids"] for group in groups] == [["train.csv:22", "test.csv:2"]]


def test_without_given_splits_dropping_keeps_what_is_alike_on_one_side(tmp_path):
    rows = "".join(f"{LONG} {number} {mark},pos\n" for number in ("good", "bad", "great", "dull") for mark in ".!")
    path = write(tmp_path / "one.csv", reviews(rows))
    dataset = collected(path, near_duplicates="drop", near_text_similarity=1.0, validation_fraction=0.3, test_fraction=0.3)
    where = {name: split for split, part in dataset.splits.items() for name in part.ids}
    lines = [where[f"one.csv:{line}"] for line in range(22, 30)]
    assert lines[::2] == lines[1::2]
    assert dataset.report["near_duplicates"]["leaking"] == {"validation": 0, "test": 0}


def test_rows_that_a_file_names_are_left_out_before_splitting(folder, tmp_path):
    file = write(tmp_path / "drop.txt", "train.csv:23  # says nothing\n")
    dataset = collected(folder, duplicates="report", drop=str(file))
    assert "train.csv:23" not in dataset.splits["train"].ids
    assert dataset.report["drop"]["rows"] == 1
    assert left_out(dataset.report)[0] == {"id": "train.csv:23", "row": 23, "why": f"named in {file}", "policy": "data.drop"}
    write(file, "train.csv:230\n")
    with pytest.raises(DataError, match=r"drop.txt line 1: .*set has no row 'train.csv:230'; the nearest id is 'train.csv:23'"):
        collected(folder, duplicates="report", drop=str(file))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"near_text_similarity": 0.7}, "data.near_text_similarity=0.7 is set and nothing reads it: data.near_duplicates is 'report of pictures'"),
        ({"near_image_similarity": 0.7, "near_duplicates": "off"}, "data.near_image_similarity=0.7 is set and nothing reads it: data.near_duplicates is 'off'"),
    ],
)
def test_a_threshold_that_nothing_reads_is_refused(data, message):
    with pytest.raises(ConfigError) as error:
        check_used(Config(data=DataConfig(**data)))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("key", ["data.near_image_similarity", "data.near_text_similarity"])
def test_thresholds_are_shares(key):
    with pytest.raises(ConfigError, match=rf"{key}=1.5 is out of range; allowed: greater than 0, at most 1"):
        replace(Config(), {key: 1.5})
