"""Other labelled texts as one split: every row, in the model's order of classes, labels or tags."""

from __future__ import annotations

import numpy as np
import pytest
from text_files import tiny, write

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data import labelled_texts
from ftjax.errors import DataError


def read(path, tmp_path, task, classes, source="table", **data):
    config = DataConfig(source=source, path=str(path), **data)
    return labelled_texts(config, TextConfig(), TaskConfig(name=task), tiny(tmp_path / ".tokenizer"), 16, classes)


def test_rows_of_one_class_copies_too(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nthe cat,pos\nthe cat,pos\n")
    split = read(path, tmp_path, "classification", ("neg", "pos"))
    assert (len(split), split.labels.tolist()) == (2, [1, 1])
    with pytest.raises(DataError, match=r"a\.csv has class 'pos', which the model does not know; did you mean 'post'"):
        read(path, tmp_path, "classification", ("neg", "post"))


def test_several_labels_are_flags_in_the_order_of_the_model(tmp_path):
    path = write(tmp_path / "a.csv", 'text,labels\nthe cat,"a,c"\ndog,c\n')
    assert read(path, tmp_path, "multi_label", ("c", "b", "a")).labels.tolist() == [[1, 0, 1], [1, 0, 0]]


def test_tags_need_not_all_be_there(tmp_path):
    path = write(tmp_path / "a.conll", "paris B-loc\n\nthe O\n")
    split = read(path, tmp_path, "token_classification", ("O", "B-per", "I-per", "B-loc", "I-loc"), source="conll")
    found = split.fields(np.array([0]))["token_label"]
    assert sorted(set(found[found >= 0].tolist())) == [3]
    with pytest.raises(DataError, match=r"has class 'B-loc', which the model does not know"):
        read(path, tmp_path, "token_classification", ("O", "B-per", "I-per"), source="conll")


def test_what_is_left_out_is_told(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nthe cat,pos\n,neg\n")
    split = read(path, tmp_path, "classification", ("neg", "pos"), bad_files="skip")
    assert (len(split), [entry["file"] for entry in split.rejected]) == (1, ["a.csv:3"])
