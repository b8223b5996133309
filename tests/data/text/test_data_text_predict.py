"""Prediction: every row of a file comes out again, in its order, cut as in training; what lies between texts and model travels with it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from text_files import jsonl, tiny, write

from ftjax.config import TextConfig
from ftjax.data import TextPreprocessing, eval_batches, read_texts, texts_split
from ftjax.data.text.predict import check_columns
from ftjax.errors import DataError


def _preprocessing(tmp_path, task="classification", columns=None, max_length=16):
    return TextPreprocessing(tiny(tmp_path / ".tokenizer"), max_length, task, columns, 4)


def test_every_row_comes_out_with_its_columns_in_its_order(tmp_path):
    path = write(tmp_path / "a.csv", "text,other\nthe cat,1\n,2\nthe cat,3\n" + "dog " * 40 + ",4\n")
    rows, split = read_texts(path, _preprocessing(tmp_path))
    assert rows == [{"text": "the cat", "other": "1"}, {"text": "", "other": "2"}, {"text": "the cat", "other": "3"}, {"text": "dog " * 40, "other": "4"}]
    assert split.ids == ("1", "2", "3", "4")
    assert split.lengths.tolist() == [4, 2, 4, 16]
    assert split.labels.tolist() == [-1] * 4
    assert [split.show(row)["text"] for row in range(4)] == [row["text"] for row in rows]
    assert sum(int((batch["id"] >= 0).sum()) for batch in eval_batches(split, 3)) == 4


def test_an_id_column_names_the_rows(tmp_path):
    assert read_texts(write(tmp_path / "a.jsonl", jsonl({"id": 7, "text": "x"}, {"id": 5, "text": None})), _preprocessing(tmp_path))[1].ids == ("7", "5")
    assert read_texts(write(tmp_path / "b.jsonl", jsonl({"id": 7, "text": "x"}, {"id": 7, "text": "y"})), _preprocessing(tmp_path))[1].ids == ("1", "2")


def test_a_file_of_one_text_a_line_keeps_empty_lines(tmp_path):
    rows, split = read_texts(write(tmp_path / "a.txt", "a cat, a dog\n\nthe end\n"), _preprocessing(tmp_path))
    assert [row["0"] for row in rows] == ["a cat, a dog", "", "the end"]
    assert len(split) == 3


def test_the_columns_of_training_are_taken(tmp_path):
    path = write(tmp_path / "a.csv", "text,title\nthe cat,dog\n")
    assert read_texts(path, _preprocessing(tmp_path, columns=("title", None)))[1].show(0) == {"text": "dog"}
    assert read_texts(path, _preprocessing(tmp_path, columns=("text", "title")))[1].show(0) == {"text": "the cat", "text_pair": "dog"}
    assert read_texts(path, _preprocessing(tmp_path, columns=("title", None)), TextConfig(text="text"))[1].show(0) == {"text": "the cat"}


def test_rows_that_are_not_in_the_form_are_refused_by_line(tmp_path):
    path = write(tmp_path / "a.csv", "text,other\nx,1\ny\n")
    message = r"a\.csv: 1 rows are not in the table's form, and every row must come out again:\n  line 3: 1 fields, not 2 \(text, other\)$"
    with pytest.raises(DataError, match=message):
        read_texts(path, _preprocessing(tmp_path))
    with pytest.raises(DataError, match=r"b\.csv holds no rows$"):
        read_texts(write(tmp_path / "b.csv", "text,label\n"), _preprocessing(tmp_path))
    with pytest.raises(DataError, match=r"c\.jsonl: line 2: its text cannot be read: it is \{\}, not a text$"):
        read_texts(write(tmp_path / "c.jsonl", jsonl({"text": "x"}, {"text": {}})), _preprocessing(tmp_path))
    with pytest.raises(DataError, match=r"input=.*d\.csv does not exist"):
        read_texts(tmp_path / "d.csv", _preprocessing(tmp_path))


def test_words_are_tagged_from_conll_lists_or_plain_texts(tmp_path):
    preprocessing = _preprocessing(tmp_path, "token_classification")
    for name, content in (
        ("a.conll", "mr\nsmith\n\nparis O\n"),
        ("a.jsonl", jsonl({"tokens": ["mr", "smith"]}, {"tokens": ["paris"]})),
        ("a.txt", "mr  smith\nparis\n"),
    ):
        _, split = read_texts(write(tmp_path / name, content), preprocessing)
        fields = split.fields(np.array([0, 1]))
        assert [split.show(row)["words"] for row in range(2)] == [["mr", "smith"], ["paris"]]
        assert fields["word"][:, :4].tolist() == [[-1, 0, 1, -1], [-1, 0, -1, -1]]
        assert (fields["token_label"] == -100).all()


def test_questions_without_answers_become_windows(tmp_path):
    paragraph = {"context": "the cat sat on the mat . " * 3, "qas": [{"id": "q", "question": "who ?"}]}
    path = write(tmp_path / "a.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))
    rows, split = read_texts(path, _preprocessing(tmp_path, "question_answering"))
    assert len(rows) == 1
    assert len(split) > 1
    assert split.ids[:2] == ("q", "q#1")
    assert split.show(1)["answers"] == []


def test_texts_in_memory_are_taken_in_one_form(tmp_path):
    single, paired = _preprocessing(tmp_path, columns=("text", None)), _preprocessing(tmp_path, "sentence_embedding")
    assert texts_split(["a cat", ""], single).ids == ("0", "1")
    assert texts_split([("a cat", "a dog")], paired).show(0) == {"text": "a cat", "text_pair": "a dog"}
    alone, beside = (texts_split(texts, paired).fields(np.array([0]))["tokens"].tolist() for texts in (["a cat"], [("a cat", "a")]))
    assert alone == beside
    assert texts_split(["mr smith", "paris"], _preprocessing(tmp_path, "token_classification")).show(0)["words"] == ["mr", "smith"]
    for texts, preprocessing, message in (
        ([], single, r"^there are no texts to predict$"),
        (["a", 3], single, r"^example 1 is of type int, the first one a text; give all in one form$"),
        ([("a", "b")], single, r"^example 0 is a tuple of 2; the model reads texts$"),
        (["a"], _preprocessing(tmp_path, "question_answering"), r"^example 0 is a text; the model reads pairs of texts$"),
        ([["a", "b", "c"]], _preprocessing(tmp_path), r"^example 0 is a list of 3; the model reads texts or pairs of texts$"),
    ):
        with pytest.raises(DataError, match=message):
            texts_split(texts, preprocessing)


def test_the_model_reads_tokens_mask_and_segments_and_anchors_before_positives(tmp_path):
    single = texts_split(["a cat", "dog"], _preprocessing(tmp_path))
    batch = next(eval_batches(single, 2))
    inputs = _preprocessing(tmp_path).inputs(batch)
    assert set(inputs) == {"tokens", "mask", "segments"}
    paired = _preprocessing(tmp_path, "sentence_embedding")
    batch = next(eval_batches(texts_split([("a cat", "dog"), ("x", "no")], paired), 2))
    both = paired.training_inputs(batch, None)
    assert both["tokens"].shape[0] == 4
    np.testing.assert_array_equal(both["tokens"][2:], batch["pair_tokens"])


def test_preprocessing_survives_json_with_its_tokenizer_beside(tmp_path):
    preprocessing = _preprocessing(tmp_path, columns=("title", None))
    preprocessing.tokenizer.save(tmp_path / "model" / "tokenizer.json")
    described = json.loads(json.dumps(preprocessing.to_json()))
    again = TextPreprocessing.from_json(described, tmp_path / "model")
    assert (again.to_json(), again.columns, again.stride) == (preprocessing.to_json(), ("title", None), 4)
    with pytest.raises(DataError, match=r"^preprocessing: unknown field 'max_lenght': did you mean 'max_length'\?"):
        TextPreprocessing.from_json({**described, "max_lenght": 3}, tmp_path / "model")
    with pytest.raises(DataError, match=r"^preprocessing: the field 'task' is missing$"):
        TextPreprocessing.from_json({key: value for key, value in described.items() if key != "task"}, tmp_path / "model")
    with pytest.raises(DataError, match=r"tokenizer\.json is not the tokenizer that the model was trained with: its content has changed$"):
        TextPreprocessing.from_json({**described, "tokenizer": "0"}, tmp_path / "model")


@pytest.mark.parametrize(
    ("columns", "trained", "text"),
    [
        (["sentence", "x"], ("sentence", None), TextConfig()),
        (["anything"], ("sentence", None), TextConfig()),
        (["0", "1", "2"], ("0", "1"), TextConfig()),
        (["0"], ("sentence", None), TextConfig()),
        (["a", "b"], None, TextConfig()),
        (["a", "b"], ("sentence", "premise"), TextConfig(text="a", text_pair="b")),
    ],
)
def test_columns_that_leave_no_doubt_are_taken(columns, trained, text):
    check_columns("new.csv", columns, trained, text)


def test_a_missing_second_column_is_named():
    with pytest.raises(DataError, match=r"new\.csv has no column 'premise', .* name another one with --config\.text\.text_pair=COLUMN"):
        check_columns("new.csv", ["sentence", "x"], ("sentence", "premise"), TextConfig())


def test_a_line_of_names_that_was_not_seen_as_one_is_no_row():
    with pytest.raises(
        DataError, match=r"allowed: '0', '1'; name another one with --config\.text\.text=COLUMN \(the file has no line of names: a number from 0\)"
    ):
        check_columns("new.csv", ["0", "1"], ("sentence", None), TextConfig())


def test_a_table_without_the_trained_column_is_an_error_that_names_the_flag(tmp_path):
    path, trained = write(tmp_path / "new.csv", "sentense,other\nthe cat,1\na dog,2\nanother cat,3\n"), _preprocessing(tmp_path, columns=("sentence", None))
    message = (
        f"{path} has no column 'sentence', which the model was trained on: did you mean 'sentense'? allowed: 'other', 'sentense'; "
        "name another one with --config.text.text=COLUMN"
    )
    with pytest.raises(DataError) as refused:
        read_texts(path, trained)
    assert str(refused.value) == message
    assert read_texts(path, trained, TextConfig(text="sentense"))[1].show(0) == {"text": "the cat"}


def test_a_line_with_the_trained_name_is_the_header_whatever_it_looks_like(tmp_path):
    path = write(tmp_path / "q.csv", "meine Frage\nwhere is the cat\n")
    rows, split = read_texts(path, _preprocessing(tmp_path, columns=("meine Frage", None)))
    assert (rows, len(split)) == ([{"meine Frage": "where is the cat"}], 1)
