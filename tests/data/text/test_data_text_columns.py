"""Columns are bound as the configuration says, or guessed from names and content, with the reason; nothing is dropped silently."""

from __future__ import annotations

import pytest
from text_files import write

from ftjax.config import TextConfig
from ftjax.data.text.columns import bind
from ftjax.data.text.table import read_table
from ftjax.errors import ConfigError, DataError


def _bind(tmp_path, content, task="classification", like=None, labelled=True, name="a.csv", **config):
    settings = TextConfig(**config)
    return bind(read_table(write(tmp_path / name, content), settings), settings, task, like=like, labelled=labelled)


@pytest.mark.parametrize(
    ("header", "task", "text", "pair", "labels", "unused"),
    [
        ("text,category", "classification", "text", None, ("category",), ()),
        ("idx,label,sentence", "classification", "sentence", None, ("label",), ("idx",)),
        ("label,content", "classification", "content", None, ("label",), ()),
        ("sentence1,sentence2,label,idx", "classification", "sentence1", "sentence2", ("label",), ("idx",)),
        ("Premise,Hypothesis,gold_label", "classification", "Premise", "Hypothesis", ("gold_label",), ()),
        ("question,sentence,label", "classification", "question", "sentence", ("label",), ()),
        ("question1,question2,is_duplicate", "classification", "question1", "question2", ("is_duplicate",), ()),
        ("pair_ID,sentence_A,sentence_B,relatedness_score,entailment_judgment", "classification", "sentence_A", "sentence_B", ("entailment_judgment",), None),
        ("pair_ID,sentence_A,sentence_B,relatedness_score,entailment_judgment", "regression", "sentence_A", "sentence_B", ("relatedness_score",), None),
        ("anchor,positive,other", "sentence_embedding", "anchor", "positive", (), ("other",)),
    ],
)
def test_columns_are_guessed_by_their_names(tmp_path, header, task, text, pair, labels, unused):
    cells = ",".join("3.5" if name == "relatedness_score" else f"{name} 1" for name in header.split(","))
    bound = _bind(tmp_path, f"{header}\n{cells}\n", task)
    assert (bound.text, bound.pair, bound.labels) == (text, pair, labels)
    assert unused is None or bound.unused == unused


def test_columns_without_names_are_guessed_by_their_content(tmp_path):
    rows = "".join(f"{'ham' if row % 2 else 'spam'}\tthe message with the number {row} is long enough\n" for row in range(8))
    bound = _bind(tmp_path, rows, name="a.tsv")
    assert (bound.text, bound.labels) == ("1", ("0",))
    assert bound.to_json() == {
        "text": {"column": "1", "origin": "guessed", "why": "its texts are the longest"},
        "label": {"column": "0", "origin": "guessed", "why": "the only column with few short values"},
    }


def test_what_is_given_is_taken_and_told_apart_from_guesses(tmp_path):
    content = "id,text,title,stars,kind\n1,long text,short,5,a\n2,other text,short,4,b\n"
    bound = _bind(tmp_path, content, text="title", label="kind")
    assert (bound.text, bound.pair, bound.labels, bound.id, bound.unused) == ("title", None, ("kind",), "id", ("id", "text", "stars"))
    assert bound.to_json()["text"] == {"column": "title", "origin": "given", "why": "by text.text"}
    assert _bind(tmp_path, content, text="text", text_pair="title").pair == "title"


def test_a_pair_is_not_guessed_when_the_text_is_given(tmp_path):
    content = "sentence1,sentence2,label\nx y,z w,1\n"
    assert _bind(tmp_path, content, text="sentence1").pair is None
    assert _bind(tmp_path, content).pair == "sentence2"


def test_several_columns_of_flags_are_labels(tmp_path):
    bound = _bind(tmp_path, "text,toxic,rude\nx y,0,1\nz,1,0\n", "multi_label")
    assert bound.labels == ("toxic", "rude")
    assert bound.to_json()["label"] == {"column": ["toxic", "rude"], "origin": "guessed", "why": "they hold 0 and 1 only"}
    assert _bind(tmp_path, "text,a,b,c\nx y,0,1,1\n", "multi_label", label="a, c").labels == ("a", "c")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("text,label\nx,1\n", {"text": "txt"}, r"a\.csv has no column 'txt' \(text\.text\): did you mean 'text'\? allowed: 'label', 'text'$"),
        ("text,label\nx,1\n", {"label": "lable"}, r"a\.csv has no column 'lable' \(text\.label\): did you mean 'label'\?"),
        ("text,label\nx,1\n", {"text_pair": "other"}, r"a\.csv has no column 'other' \(text\.text_pair\): allowed: 'label', 'text'$"),
        (
            "text,label\nx,1\n",
            {"text": "text", "label": "text"},
            r"a\.csv: the column 'text' would be used twice; text, text_pair and label are different columns$",
        ),
        (
            "text,colour,size\n" + "x y z,red,big\n" * 4,
            {},
            r"a\.csv: which column is the label cannot be seen \('text', 'colour', 'size'\); it may be 'colour', 'size': say text\.label$",
        ),
        ("text\nx\n", {}, r"a\.csv: which column is the label cannot be seen \('text'\): say text\.label; for lines 'LABEL the text' say text\.delimiter=' '$"),
        ("label,stars\n1,2\n", {}, r"a\.csv: which column is the text cannot be seen \('label', 'stars'\): say text\.text$"),
    ],
)
def test_what_cannot_be_bound_is_refused(tmp_path, content, settings, message):
    with pytest.raises(DataError, match=message):
        _bind(tmp_path, content, **settings)


def test_an_embedding_needs_a_second_text(tmp_path):
    assert _bind(tmp_path, "text,reply\nsome text,an answer\n", "sentence_embedding").pair == "reply"
    with pytest.raises(DataError, match=r"a\.csv: which column is the second text cannot be seen \('text', 'n'\): say text\.text_pair$"):
        _bind(tmp_path, "text,n\nsome text,3\n", "sentence_embedding")


def test_prediction_takes_the_columns_of_training_where_they_are_there(tmp_path):
    content = "body,title,text\na,b,c\n"
    bound = _bind(tmp_path, content, like=("title", None), labelled=False)
    assert (bound.text, bound.pair, bound.labels) == ("title", None, ())
    assert _bind(tmp_path, content, like=("elsewhere", None), labelled=False).text == "text"
    assert _bind(tmp_path, "sentence1,sentence2\na,b\n", like=("premise", "hypothesis"), labelled=False).pair == "sentence2"
    with pytest.raises(DataError, match=r"which column is the second text cannot be seen \('body', 'title', 'text'\): say text\.text_pair$"):
        _bind(tmp_path, content, like=("text", "reply"), labelled=False)


def test_tags_have_one_text(tmp_path):
    with pytest.raises(ConfigError, match=r"^text\.text_pair='text_b': token_classification tags the words of one text; leave it open$"):
        _bind(tmp_path, "text,text_b,tags\na,b,O\n", "token_classification", text_pair="text_b", label="tags")
    assert _bind(tmp_path, "text,text_b,tags\na,b,O\n", "token_classification", label="tags").pair is None
