"""Prediction files read back to what was predicted, whatever the names hold."""

from __future__ import annotations

import csv
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.errors import ConfigError
from ftjax.evaluation import prediction_rows, write_predictions

NASTY = ["a,b", 'say "hi"', "two\nlines", "carriage\rreturn", "Ünïcödé 猫 🐈", "", "=SUM(A1)", " x ", "line\u2028separator", "probability"]
LOGITS = np.array([[0.0, np.log(3.0)], [5.0, -5.0]], np.float32)


def read_csv(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_rows_hold_the_likeliest_class_and_its_softmax():
    rows = prediction_rows(LOGITS, ["x.jpg", "y.jpg"], ["cat", "dog"], probabilities=True)
    assert [list(row) for row in rows] == [["id", "label", "probability", "probabilities"]] * 2
    assert rows[0]["id"] == "x.jpg"
    assert rows[0]["label"] == "dog"
    assert rows[0]["probability"] == pytest.approx(0.75)
    assert rows[0]["probabilities"] == pytest.approx({"cat": 0.25, "dog": 0.75})
    assert [row["label"] for row in rows] == ["dog", "cat"]


def test_probabilities_come_only_on_request():
    assert list(prediction_rows(LOGITS, [1, 2], ["cat", "dog"])[0]) == ["id", "label", "probability"]


def test_a_row_that_is_not_finite_has_no_prediction(tmp_path):
    rows = prediction_rows(np.array([[np.nan, 1.0], [0.0, 1.0]]), ["bad", "good"], ["cat", "dog"], probabilities=True)
    assert rows[0] == {"id": "bad", "label": None, "probability": None, "probabilities": None}
    write_predictions(tmp_path / "p.csv", rows)
    assert read_csv(tmp_path / "p.csv")[:2] == [["id", "label", "probability", "probability of cat", "probability of dog"], ["bad", "", "", "", ""]]
    write_predictions(tmp_path / "p.jsonl", rows)
    assert json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])["label"] is None


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".CSV"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_names_read_back_unchanged(tmp_path_factory, suffix, data):
    names = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8))
    classes = data.draw(st.lists(names, min_size=2, max_size=5, unique=True))
    ids = data.draw(st.lists(names, max_size=4))
    logits = np.random.default_rng(0).normal(size=(len(ids), len(classes)))
    path = tmp_path_factory.mktemp("predictions") / f"out{suffix}"
    rows = prediction_rows(logits, ids, classes, probabilities=True)
    write_predictions(path, rows)
    if suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == rows
        return
    header, *body = read_csv(path)
    assert header == ["id", "label", "probability", *(f"probability of {name}" for name in classes)][: len(header)]
    assert len(header) == (3 + len(classes) if ids else 3)
    for cells, row in zip(body, rows, strict=True):
        assert cells[:2] == [row["id"], row["label"]]
        assert [float(cell) for cell in cells[2:]] == [row["probability"], *row["probabilities"].values()]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_name_that_is_no_text_does_not_end_the_run(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    write_predictions(path, prediction_rows(LOGITS[:1], ["caf\udce9.jpg"], ["cat", "dog"]))
    if suffix == ".jsonl":
        assert json.loads(path.read_text(encoding="utf-8"))["id"] == "caf\udce9.jpg"
    else:
        assert read_csv(path)[1][0] == "caf\\udce9.jpg"


@pytest.mark.parametrize(("name", "ending"), [("out.txt", ".txt"), ("out", "")])
def test_an_unknown_ending_is_refused_and_nothing_is_written(tmp_path, name, ending):
    with pytest.raises(ConfigError) as caught:
        write_predictions(tmp_path / name, [])
    assert str(caught.value) == f"predictions cannot be written to {tmp_path / name}: unknown ending {ending!r}; allowed: '.jsonl', '.csv'"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.jsonl"
    write_predictions(path, prediction_rows(LOGITS, ["a", "b"], ["cat", "dog"]))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_predictions(path, [])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_arguments_that_do_not_fit_are_a_bug():
    with pytest.raises(ValueError, match=r"^logits of shape \(2, 2\) for 1 ids and 2 classes$"):
        prediction_rows(LOGITS, ["a"], ["cat", "dog"])


def test_whatever_rows_hold_is_a_column(tmp_path):
    rows = [
        {"id": "a", "label": ["x, y", "z"], "probability": [0.9, 0.6]},
        {"id": "b", "label": [], "probability": []},
        {"id": "c", "label": None, "probability": None, "note": {"k": 1}},
    ]
    write_predictions(tmp_path / "p.csv", rows)
    assert read_csv(tmp_path / "p.csv") == [
        ["id", "label", "probability", "note"],
        ["a", '["x, y", "z"]', "[0.9, 0.6]", ""],
        ["b", "[]", "[]", ""],
        ["c", "", "", '{"k": 1}'],
    ]
    write_predictions(tmp_path / "p.jsonl", rows)
    assert [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()] == rows
