"""`predict` for texts: every row and column comes out again, in order, and nothing is overwritten."""

from __future__ import annotations

import csv
import datetime
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax import data, evaluation
from ftjax.commands import answered, predict
from ftjax.data import Split
from ftjax.main import main


def answer(row, **more):
    return {"id": str(row), "label": "joy", "probability": 0.75, **more}


def read(path):
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_columns_of_the_same_name_are_not_overwritten():
    rows = [{"text": "a", "label": "old", "label_predicted": "older", "probability of joy": 3}]
    [out] = answered.beside(rows, [answer(0, probabilities={"joy": 0.75, "anger": 0.25})])
    assert out == {
        "text": "a",
        "label": "old",
        "label_predicted": "older",
        "probability of joy": 3,
        "label_predicted_2": "joy",
        "probability": 0.75,
        "probability of joy_predicted": 0.75,
        "probability of anger": 0.25,
    }
    assert list(out)[:4] == list(rows[0])


def test_a_row_without_an_answer_is_a_bug():
    with pytest.raises(ValueError, match="shorter"):
        answered.beside([{"text": "a"}, {"text": "b"}], [answer(0)])


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)
cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_every_row_and_column_comes_out_again(tmp_path_factory, data):
    columns = data.draw(st.lists(names | st.sampled_from(["label", "probability", "id"]), min_size=1, max_size=4, unique=True))
    rows = data.draw(st.lists(st.tuples(*[cells] * len(columns)).map(lambda row: dict(zip(columns, row, strict=True))), min_size=1, max_size=5))
    out = answered.beside(rows, [answer(place) for place in range(len(rows))])
    path = tmp_path_factory.mktemp("out") / "out.csv"
    evaluation.write_predictions(path, out)
    header, *body = read(path)
    assert header[: len(columns)] == columns
    assert [row[: len(columns)] for row in body] == [[row[name] for name in columns] for row in rows]
    assert [row[len(columns) :] for row in body] == [["joy", "0.75"]] * len(rows)
    evaluation.write_predictions(path.with_suffix(".jsonl"), out)
    assert [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()] == out


def test_lists_nothing_and_halves_of_surrogates_have_a_cell(tmp_path):
    evaluation.write_predictions(tmp_path / "out.csv", [{"words": ["a", "ü"], "n": None, "bad": "x\udc80", "score": 1.5}])
    assert read(tmp_path / "out.csv") == [["words", "n", "bad", "score"], ['["a", "ü"]', "", r"x\udc80", "1.5"]]


def test_what_json_has_no_word_for_is_written_in_one_it_has(tmp_path):
    row = {"score": math.nan, "day": datetime.date(2026, 1, 2), "list": [np.float32(0.5), math.inf], "probabilities": None}
    [out] = answered.beside([row], [answer(0, probabilities={"joy": 1.0})])
    assert out == {
        "score": None,
        "day": "2026-01-02",
        "list": [0.5, None],
        "probabilities": "null",
        "label": "joy",
        "probability": 0.75,
        "probability of joy": 1.0,
    }
    evaluation.write_predictions(tmp_path / "out.csv", [out])
    assert read(tmp_path / "out.csv")[0] == list(out)


class Reader:
    """Stands for a predictor of texts: answers with the number of letters."""

    reads_text = True
    writes = recommends = False

    def __init__(self, columns=("sentence", None)):
        self.preprocessing = SimpleNamespace(columns=columns, task="classification")

    def rows(self, split, *, probabilities):
        labels = [str(len(split.show(row)["text"])) for row in range(len(split))]
        return [answer(row) | {"label": label} | ({"probabilities": {"joy": 0.75}} if probabilities else {}) for row, label in enumerate(labels)]


def texts_of(path, preprocessing, text):
    """Stands for `data.read_texts`: a table with a header, or one text a line."""
    lines = read(path) if Path(path).suffix == ".csv" else [["text"], *([line] for line in Path(path).read_text().splitlines())]
    header, *body = lines
    rows = [dict(zip(header, row)) for row in body]
    column = text.text or (preprocessing.columns[0] if preprocessing.columns[0] in header else header[0])
    ids = tuple(str(row) for row in range(len(rows)))
    return rows, Split(ids, np.full(len(rows), -1, np.int32), lambda rows: {}, lambda row: {"text": rows[row][column]})


@pytest.fixture
def text_run(monkeypatch):
    monkeypatch.setattr(predict, "load", lambda workdir: Reader())
    monkeypatch.setattr(data, "read_texts", texts_of)

    def call(source, output, *flags):
        return main(["predict", "--workdir", "run", "--input", str(source), "--output", str(output), *flags])

    return call


@pytest.mark.parametrize("flags", [("--temperature", "0.5"), ("--max-tokens", "3"), ("--seed", "0"), ("--bad-files", "error")], ids=str)
def test_flags_of_other_models_are_refused(text_run, tmp_path, capsys, flags):
    (tmp_path / "new.csv").write_text("sentence\na\n")
    assert text_run(tmp_path / "new.csv", tmp_path / "out.csv", *flags) == 2
    assert f"{flags[0]} says nothing to a model that reads texts; leave it out" in capsys.readouterr().err


def test_a_table_comes_out_with_its_answers(text_run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text('id,sentence,label\n7,"one, two",old\n3,"line\nbreak",old\n7,,old\n')
    assert text_run(tmp_path / "new.csv", tmp_path / "out.csv", "--probabilities") == 0
    assert read(tmp_path / "out.csv") == [
        ["id", "sentence", "label", "label_predicted", "probability", "probability of joy"],
        ["7", "one, two", "old", "8", "0.75", "0.75"],
        ["3", "line\nbreak", "old", "10", "0.75", "0.75"],
        ["7", "", "old", "0", "0.75", "0.75"],
    ]
    said = capsys.readouterr()
    assert said.err == "warning: 1 of 3 rows have no text; they were answered as the model answers an empty one\n"
    assert said.out == f"3 predictions written to {tmp_path / 'out.csv'}\n"


def test_a_file_of_lines_comes_out_as_a_table(text_run, tmp_path):
    (tmp_path / "new.txt").write_text("one\n\ntwo\n")
    assert text_run(tmp_path / "new.txt", tmp_path / "out.jsonl") == 0
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["text"], row["label"]) for row in found] == [("one", "3"), ("", "0"), ("two", "3")]


def test_only_flags_about_texts_have_a_meaning(text_run, tmp_path, capsys):
    (tmp_path / "new.csv").write_text("sentence\na\n")
    assert text_run(tmp_path / "new.csv", tmp_path / "out.csv", "--config.seed=1") == 2
    assert "only --config.text.* says how a file is read, not --config.seed" in capsys.readouterr().err


def test_what_an_answer_only_repeats_is_not_there_twice():
    rows = [{"words": ["a", "b"], "tags": ["O", "O"]}]
    [out] = answered.beside(rows, [{"id": "1", "words": ["a", "b"], "tags": ["O", "B-x"], "probabilities": [0.5, 0.75]}])
    assert out == {"words": ["a", "b"], "tags": ["O", "O"], "tags_predicted": ["O", "B-x"], "probabilities": [0.5, 0.75]}


def test_columns_that_only_the_reader_knows_do_not_come_out():
    assert predict.named([{"0": "a"}, {"0": ""}]) == [{"text": "a"}, {"text": ""}]
    assert predict.named([{"words": ["a"], "tags": None}]) == [{"words": ["a"]}]
    assert predict.named([{"id": "1", "answers": ()}, {"id": "2", "answers": ("x",)}]) == [{"id": "1", "answers": ()}, {"id": "2", "answers": ("x",)}]
    assert predict.named([{"0": "a", "1": "b"}]) == [{"0": "a", "1": "b"}]


def test_answers_that_are_all_right_are_written_too():
    rows = [{"text": "a", "label": "joy"}, {"text": "b", "label": "joy"}]
    found = answered.beside(rows, [{"id": "1", "label": "joy", "probability": 0.5}, {"id": "2", "label": "joy", "probability": 0.75}])
    assert [row["label_predicted"] for row in found] == ["joy", "joy"]
