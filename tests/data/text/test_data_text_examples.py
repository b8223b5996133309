"""Labels of every task, sentences with tags, and questions: what cannot be used is named with its line."""

from __future__ import annotations

import json
import re

import pytest
from text_files import jsonl, write

from ftjax.config import DataConfig, TextConfig
from ftjax.data.text.conll import read_conll
from ftjax.data.text.examples import read_examples
from ftjax.data.text.sources import find_files, read_tables
from ftjax.data.text.squad import Answer, read_squad
from ftjax.data.text.tags import Scheme, to_iob2
from ftjax.errors import ConfigError, DataError


def _examples(path, task="classification", source="table", bad_files="error", validation_path=None, test_path=None, **config):
    data = DataConfig(source=source, path=str(path), bad_files=bad_files, validation_path=validation_path, test_path=test_path)
    text = TextConfig(**config)
    return read_examples(read_tables(data, text), data, text, task)


def _refused(message, *arguments, **settings):
    with pytest.raises(DataError) as raised:
        _examples(*arguments, **settings)
    assert re.search(message, str(raised.value)), str(raised.value)


def test_labels_are_strings_whatever_they_were(tmp_path):
    rows = [{"text": f"t{number}", "label": label} for number, label in enumerate([1, "1", 2.0, True, " pos "])]
    examples = _examples(write(tmp_path / "a.jsonl", jsonl(*rows)))
    assert list(examples.labels) == ["1", "1", "2", "true", "pos"]
    assert list(examples.ids) == [f"a.jsonl:{number}" for number in range(1, 6)]


def test_rows_that_cannot_be_used_are_listed_or_skipped(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\ngood,1\n  ,0\nbad,\nx,1,2\nfine,0\n")
    message = (
        rf"^{re.escape(str(path))}: 3 of 5 rows cannot be used:\n  a\.csv:5: 3 fields, not 2 \(text, label\)\n  a\.csv:3: its text is empty\n"
        r"  a\.csv:4: it has no label\nRepair or remove them, or leave them out: data\.bad_files='skip'\.$"
    )
    _refused(message, path)
    examples = _examples(path, bad_files="skip")
    assert list(examples.texts) == ["good", "fine"]
    assert {"file": "a.csv:3", "why": "its text is empty"} in examples.rejected


def test_long_lists_of_bad_rows_are_cut(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nfine,1\n" + "x,\n" * 30)
    _refused(r": 30 of 31 rows cannot be used:\n(  .*\n){20}  \.\.\. and 10 more\nRepair", path)
    _refused(r"b\.csv: no row has a label \(column 'label'\): say text\.label$", write(tmp_path / "b.csv", "text,label\nx,\ny,\n"), bad_files="skip")


def test_a_text_that_is_none_is_named(tmp_path):
    path = write(tmp_path / "a.jsonl", jsonl({"text": {"a": 1}, "label": 1}, {"text": "half \ud800", "label": 1}))
    _refused(r"a\.jsonl:1: its text cannot be read: it is \{\"a\": 1\}, not a text\n  a\.jsonl:2: .*it holds half of a surrogate pair, which is no char", path)


def test_a_test_file_without_labels_is_refused(tmp_path):
    write(tmp_path / "train.csv", "text,label\nx,1\n")
    test = write(tmp_path / "test.csv", "text,label\ny,\n")
    hint = "leave the file out, then rows of the training file are kept for it$"
    _refused(rf"^{re.escape(str(test))}: no row has a label \(column 'label'\): {hint}", tmp_path)
    write(test, "text\ny\n")
    _refused(r"which column is the label cannot be seen .*; a test file without labels tests nothing: leave it out, then rows of the training file", tmp_path)


def test_columns_may_be_called_differently_in_each_file_and_the_report_says_so(tmp_path):
    write(tmp_path / "train.tsv", "label\tsentence\n1\tx\n")
    write(tmp_path / "dev.tsv", "label\tcontent\textra\n1\ty\tz\n")
    examples = _examples(tmp_path)
    assert examples.facts["columns"]["text"]["by_split"] == {"train": "sentence", "validation": "content"}
    assert examples.facts["unused_columns"] == ["extra"]
    assert list(examples.splits) == ["train", "validation"]


def test_files_of_one_name_have_ids_of_their_own(tmp_path):
    first, second = (write(tmp_path / folder / "a.csv", "text,label\nx,1\n") for folder in "ab")
    assert list(_examples(first, test_path=str(second)).ids) == [f"{first}:2", f"{second}:2"]


def test_a_second_text_in_some_files_only_is_refused(tmp_path):
    write(tmp_path / "train.csv", "sentence1,sentence2,label\nx,y,1\n")
    write(tmp_path / "test.csv", "sentence1,label\nx,1\n")
    _refused(r"^some files have a second text and others none \(.*train\.csv: 'sentence2', .*test\.csv: none\); say text\.text and text\.text_pair$", tmp_path)


@pytest.mark.parametrize(
    ("label", "why"),
    [
        ("abc", "its label 'abc' is no number"),
        ("nan", "its label is nan; allowed are finite numbers"),
        ("-inf", "its label is -inf; allowed are finite numbers"),
        ("", "it has no label"),
    ],
)
def test_a_target_that_is_no_finite_number_is_named(tmp_path, label, why):
    _refused(rf"a\.csv:3: {why}\n", write(tmp_path / "a.csv", f"text,score\nx,1.5\ny,{label}\n"), "regression", label="score")
    assert _examples(tmp_path / "a.csv", "regression", bad_files="skip", label="score").labels == [1.5]


def test_several_labels_in_one_column_a_list_or_columns_of_flags(tmp_path):
    one = write(tmp_path / "a.csv", 'text,labels\nx,"b, a"\ny,\nz,a\n')
    assert list(_examples(one, "multi_label").labels) == [("a", "b"), (), ("a",)]
    other = write(tmp_path / "b.csv", "text,labels\nx,b|a\n")
    assert list(_examples(other, "multi_label", label_separator="|").labels) == [("a", "b")]
    lists = write(tmp_path / "c.jsonl", jsonl({"text": "x", "labels": ["b", 1]}, {"text": "y", "labels": []}))
    assert list(_examples(lists, "multi_label").labels) == [("1", "b"), ()]
    flags = write(tmp_path / "d.csv", "text,a,b\nx,1,0\ny,1,1\n")
    assert list(_examples(flags, "multi_label").labels) == [("a",), ("a", "b")]
    _refused(r"e\.csv:2: column 'b' holds '2'; allowed are 0 and 1", write(tmp_path / "e.csv", "text,a,b\nx,1,2\n"), "multi_label", label="a,b")


def test_sentences_come_with_their_words_and_tags(tmp_path):
    path = write(tmp_path / "a.conll", "-DOCSTART- O\n\nMr NNP I-NP B-per\nSmith NNP I-NP I-per\n\t\n \nin IN O O\nParis\tO\n\n\n")
    table = read_conll(path, TextConfig())
    assert list(table.rows) == [(["Mr", "Smith"], ["B-per", "I-per"]), (["in", "Paris"], ["O", "O"])]
    assert list(table.lines) == [3, 7]
    examples = _examples(path, "token_classification", "conll")
    assert (examples.ids[1], examples.labels[0]) == ("a.conll:7", ("B-per", "I-per"))


def test_lines_without_a_tag_and_empty_files_are_refused(tmp_path):
    message = r"a\.conll: line 2 has no tag: 'Smith'; allowed are lines 'word<tab>tag' with a blank line between sentences$"
    with pytest.raises(DataError, match=message):
        read_conll(write(tmp_path / "a.conll", "Mr O\nSmith\n"), TextConfig())
    with pytest.raises(DataError, match=r"holds no sentence: allowed are lines 'word<tab>tag' with a blank line between sentences$"):
        read_conll(write(tmp_path / "b.conll", "\n\n"), TextConfig())
    assert list(read_conll(tmp_path / "a.conll", TextConfig(), tagged=False).rows) == [(["Mr", "Smith"], None)]


def test_invalid_tags_are_refused_with_their_line(tmp_path):
    path = write(tmp_path / "a.conll", "in O\nParis B-loc\n\nMr X-per\n\nthe O\ncat O\nParis I-loc\n")
    _refused(
        r"a\.conll:4: line 4 \('Mr'\): tag 'X-per': allowed are 'O', 'B-type' and 'I-type' \(or IOBES, BILOU\)\n"
        r"  a\.conll:6: line 8 \('Paris'\): tag 'I-loc' continues nothing, it follows 'O': an entity begins with 'B-loc'\n",
        path,
        "token_classification",
        "conll",
    )
    assert len(_examples(path, "token_classification", "conll", bad_files="skip")) == 1


def test_iob1_is_turned_into_iob2_with_a_note(tmp_path):
    given = [["I-per", "I-per", "O", "I-loc", "B-loc", "I-loc", "I-org"]]
    assert to_iob2(given).tags == [["B-per", "I-per", "O", "B-loc", "B-loc", "I-loc", "B-org"]]
    assert to_iob2([["B-per", "I-per", "O", "B-loc"]]) == Scheme([["B-per", "I-per", "O", "B-loc"]], {})
    path = write(tmp_path / "a.conll", "Mr I-per\nSmith I-per\n")
    examples = _examples(path, "token_classification", "conll")
    assert examples.labels == [("B-per", "I-per")]
    assert list(examples.warnings) == [f"{path}: it is in IOB1 (entities begin with I-); it was turned into IOB2 (they begin with B-)"]


@pytest.mark.parametrize(
    "given",
    [
        ["B-per", "I-per", "E-per", "O", "S-loc", "S-loc", "B-org", "E-org"],
        ["B-per", "I-per", "L-per", "O", "U-loc", "U-loc", "B-org", "L-org"],
        ["B-per", "M-per", "E-per", "O", "S-loc", "S-loc", "B-org", "E-org"],
    ],
)
def test_schemes_with_last_and_single_words_are_turned_into_iob2(given):
    found = to_iob2([given])
    assert found.tags == [["B-per", "I-per", "I-per", "O", "B-loc", "B-loc", "B-org", "I-org"]]
    assert (dict(found.problems), found.note) == ({}, "last or single words are marked (IOBES, BILOU); turned into IOB2")


def test_what_continues_a_closed_entity_is_a_problem():
    found = to_iob2([["B-per", "E-per", "E-per"], ["S-per", "I-per"], ["B-per", "E-per"]])
    assert dict(found.problems) == {
        0: (2, "tag 'E-per' continues nothing, it follows 'E-per': an entity begins with 'B-per'"),
        1: (1, "tag 'I-per' continues nothing, it follows 'S-per': an entity begins with 'B-per'"),
    }


def test_tags_without_prefixes_are_classes(tmp_path):
    path = write(tmp_path / "a.conll", "the DET\ncat NOUN\n\nis VERB\n")
    examples = _examples(path, "token_classification", "conll")
    assert examples.labels == [("DET", "NOUN"), ("VERB",)]
    assert list(examples.warnings) == [f"{path}: tags have no prefixes (B-, I-): every word is a class by itself, and entities are not counted"]


def test_words_and_tags_may_be_lists_of_a_table(tmp_path):
    rows = [{"tokens": ["Mr", "Smith"], "ner_tags": ["B-per", "I-per"]}, {"tokens": ["a"], "ner_tags": ["O", "O"]}, {"tokens": [], "ner_tags": []}]
    path = write(tmp_path / "a.jsonl", jsonl(*rows))
    _refused(r"a\.jsonl:2: it has 1 words and 2 tags\n  a\.jsonl:3: its words are no list of texts\n", path, "token_classification")
    assert _examples(path, "token_classification", bad_files="skip").labels == [("B-per", "I-per")]


def _squad(*questions, context="the cat sat on the mat"):
    return json.dumps({"version": "2", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]})


def test_questions_with_and_without_answers(tmp_path):
    asked = {"id": "q1", "question": "who ?", "answers": [{"text": "the cat", "answer_start": 0}, {"text": "cat", "answer_start": 4}]}
    nothing = {"id": "q2", "question": "where ?", "is_impossible": True, "answers": [], "plausible_answers": [{"text": "mat", "answer_start": 19}]}
    path = write(tmp_path / "train.json", _squad(asked, nothing))
    examples = _examples(path, "question_answering", "squad")
    assert list(examples.ids) == ["q1", "q2"]
    assert list(examples.labels) == [(Answer("the cat", 0), Answer("cat", 4)), ()]
    assert examples.pairs == ["the cat sat on the mat"] * 2
    flat = {"id": "q", "question": "who ?", "context": "a cat", "answers": {"text": ["cat"], "answer_start": [2]}}
    assert read_squad(write(tmp_path / "b.jsonl", jsonl(flat)), TextConfig()).rows == [("q", "who ?", "a cat", (Answer("cat", 2),))]


def test_answers_that_do_not_stand_in_the_context_are_named(tmp_path):
    path = write(tmp_path / "a.json", _squad({"id": "q1", "question": "who ?", "answers": [{"text": "cat", "answer_start": 5}]}))
    _refused(r"a\.json:1: question q1: its answer 'cat' does not stand at character 5 of the context, which has 'at '$", path, "question_answering", "squad")
    with pytest.raises(DataError, match=r"a\.json: question q has an answer that is \"cat\"; allowed is \{\"text\": \.\.\., \"answer_start\": number\}$"):
        read_squad(write(tmp_path / "a.json", _squad({"id": "q", "question": "who ?", "answers": ["cat"]})), TextConfig())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r" is no JSON: "),
        ('{"data": []}', r" holds no question; its form is "),
        ('{"data": [{"paragraphs": [{"context": 3, "qas": []}]}]}', r": entry 1 has no 'context' that is a text; the form is "),
        ("[3]", r": entry 1 has no 'question' that is a text; the form is "),
    ],
)
def test_json_in_another_form_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_squad(write(tmp_path / "a.json", content), TextConfig())


def test_the_files_of_a_folder_are_found_by_their_names(tmp_path):
    for name in ("train.csv", "dev.jsonl", "test.tsv", "readme.md", ".train.csv"):
        write(tmp_path / name, "x")
    found = find_files(DataConfig(source="table", path=str(tmp_path)))
    assert {split: file.name for split, file in found.items()} == {"train": "train.csv", "validation": "dev.jsonl", "test": "test.tsv"}


def test_files_that_contradict_each_other_are_refused(tmp_path):
    def find(**settings):
        return find_files(DataConfig(source="table", path=str(tmp_path), **settings))

    where = re.escape(str(tmp_path))
    with pytest.raises(DataError, match=rf"^{where} has no train file \(train\.csv, train\.tsv, .*\.\.\.\); it holds nothing; or name one file: data\.path$"):
        find()
    train = write(tmp_path / "train.csv", "x")
    other = write(tmp_path / "other.csv", "x")
    write(tmp_path / "val.csv", "x")
    with pytest.raises(DataError, match=rf"^data\.validation_path={re.escape(str(other))}: {where} holds val\.csv for that already; leave one out$"):
        find(validation_path=str(other))
    write(tmp_path / "dev.tsv", "x")
    with pytest.raises(DataError, match=rf"^{where} holds dev\.tsv and val\.csv, which both mean the validation split; keep one$"):
        find()
    with pytest.raises(DataError, match=r"train\.csv is named for train and for test; rows that are trained on test nothing$"):
        find_files(DataConfig(source="table", path=str(train), test_path=str(train)))
    with pytest.raises(ConfigError, match=r"^data\.source='table' needs data\.path: a file, or a folder with train\.\* and perhaps"):
        find_files(DataConfig(source="table"))
