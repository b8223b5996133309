"""Reports on text: every task has its page, and no text can break it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import text_run
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting_run import write_run
from rich.console import Console
from strict_page import check, parse

from ftjax.files import read_json, write_json
from ftjax.reporting import Progress, confusion, examples, figures, render, spans, text_figures, texts
from ftjax.reporting.card import card
from ftjax.reporting.record import main_metric, read_run
from ftjax.reporting.sections import headline

MAKE = {
    "classification": text_run.banking,
    "regression": text_run.similarity,
    "multi_label": text_run.labels,
    "token_classification": text_run.entities,
    "question_answering": text_run.answers,
    "sentence_embedding": text_run.embedding,
}
SAYS = {
    "classification": ["Test accuracy", "Worst errors", "How do I top up?", "77 classes", "Confused most often", "Matthews correlation"],
    "regression": ["Test Pearson correlation", "Furthest off", "Training mean", "There is no man playing a guitar.", "off by", "1,500 of 2,400 examples"],
    "multi_label": ["Test macro F1", "Every label", "anger, joy", "Label frequencies"],
    "token_classification": [
        "Test F1",
        "Every entity type",
        "Rolling Stones group missed",
        "Apple corporation, but location",
        "tea product, not there",
    ],
    "question_answering": ["Test F1", "Wrong answers", "The Norman dynasty or Norman dynasty", "medieval Europe", "nothing: the text has no answer"],
    "sentence_embedding": [
        "Test mean reciprocal rank",
        "Retrieval",
        "72.0% [70.0, 74.0]",
        "its partner is at rank 7 cosine of the nearest 0.800 test:5",
        "found instead",
    ],
}
DRAWN = {
    "classification": ["Confusion matrix", "Reliability diagram: accuracy by confidence", "Examples of every class"],
    "regression": ["Predicted against true values", "Residuals, predicted minus true"],
    "multi_label": ["Examples of every class"],
    "token_classification": ["Examples of every class"],
    "question_answering": [],
    "sentence_embedding": [],
}


def shown(path):
    """Text of a strict page and the names of its drawings."""
    _, parser = parse(path)
    return check(path), [value for tag, name, value in parser.attributes if tag == "svg" and name == "aria-label"]


@pytest.mark.parametrize("task", MAKE)
def test_every_task_has_its_page(task, tmp_path):
    text, drawings = shown(render(MAKE[task](tmp_path / "run")))
    assert "cannot be drawn" not in text
    for said in (*SAYS[task], "Columns that were not used: row_id.", "12 (0.1%)", "Every row could be used"):
        assert said in text, said
    for word in ("image", "pixel", *(["accuracy"] if task not in ("classification", "token_classification") else [])):
        assert word not in text[: text.index("Configuration what was chosen")].lower(), word
    assert drawings[-1 - len(DRAWN[task]) :] == [*DRAWN[task], "Lengths of the texts in tokens"]


def test_a_page_of_pictures_says_nothing_of_texts(tmp_path):
    text, drawings = shown(render(write_run(tmp_path / "digits")))
    assert "Lengths of the texts in tokens" not in drawings
    assert "tokens" not in text[: text.index("Configuration what was chosen")]
    assert "Every class the most frequent in the test set first" in text


def test_hostile_texts_are_only_text_and_none_is_long(tmp_path):
    path = render(text_run.banking(tmp_path / "run", text_run.HOSTILE_TEXTS))
    text, page = check(path), path.read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert not any(letter in page for letter in "\x00\x1b\x9b\u202e\u2066")
    assert r"a\x00b\x1b[31mc\x9b2J\u202edesrever\u2066" in text
    assert "مرحبا بالعالم، هذه جملة باللغة العربية" in text
    assert "می\u200cخواهم" in text
    assert text.count("shortened, 100,000 characters in all") == 2
    assert "x" * (texts.LETTERS + 1) not in page
    assert text.count("empty") == 2
    assert "{{ 7 * 7 }}" in text
    assert page.count('dir="auto"') >= len(text_run.HOSTILE_TEXTS)


@pytest.mark.parametrize("task", MAKE)
@pytest.mark.parametrize("content", [{}, {"errors": [None, {}, 3], "labels": "x", "entities": [{}, None], "confusion": [[1]]}, {"errors": {"a": 1}}])
def test_surprising_content_never_costs_the_page(task, content, tmp_path):
    run = MAKE[task](tmp_path / "run")
    write_json(run / "evaluation" / "test.json", content)
    check(render(run))
    (run / "evaluation" / "test.npz").unlink()
    data = read_json(run / "data.json") | {
        "tokens": {"histogram": {"edges": [1], "counts": {"train": [3, "x"]}}, "buckets": ["a", 4]},
        "columns": {"text": 3, "label": None},
    }
    write_json(run / "data.json", data)
    check(render(run))


def test_a_run_without_mistakes_says_so(tmp_path):
    run = text_run.entities(tmp_path / "run")
    write_json(run / "evaluation" / "test.json", {"entities": [], "errors": []})
    assert "No test example was predicted wrongly." in check(render(run))


def test_the_summary_and_the_card_follow_the_main_metric():
    result = text_run.result_of("regression")
    console = Console(file=io.StringIO(), width=90)
    Progress("plain", 5, console).summary(result)
    lines = [line.strip("│ ").rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[1].split() == ["test", "Pearson", "correlation", "interval"]
    assert lines[2].split() == ["this", "run", "0.871", "[0.851,", "0.891]"]
    assert lines[4].split()[:3] == ["training", "mean", "0.087"]
    text = card(result, text_run.data_json((), pair=True), config=text_run.config_json("regression"), spec={"family": "bert", "num_classes": 1})
    for said in (
        "pipeline_tag: text-classification",
        "| **this model** | **0.871** | [0.851, 0.891] |  |",
        "| training mean | 0.087 |",
        "Estimating the value that banking77 gives to texts. Measure it on your own texts before relying on it.",
        '.predict([("a text", "and its pair")])',
        "--input new.csv --output predictions.csv",
        "Columns: text from column `sentence`, label from column `category`, text\\_pair from column `premise`.",
        "- It reads 64 tokens of an example and nothing after them.",
        "Family `bert`, 1 outputs.",
    ):
        assert said in text, said
    for word in ("image", "pixel", "classes", "accuracy"):
        assert word not in text, word


@pytest.mark.parametrize(
    ("result", "settings", "expected"),
    [
        ({"metric": {"name": "rmse", "higher_is_better": False}}, {}, ("rmse", False)),
        ({"metric": {"name": "oddness", "higher_is_better": False}}, {}, ("oddness", False)),
        ({}, {"evaluation": {"metric": "log_loss"}}, ("log_loss", False)),
        ({"splits": {"test": {"pearson": 0.5}}}, {"evaluation": {"metric": None}}, ("pearson", True)),
        ({"metric": "x", "splits": None}, {}, ("accuracy", True)),
    ],
)
def test_the_main_metric_is_what_the_result_names(result, settings, expected):
    found = main_metric(result, settings)
    assert (found.name, found.higher_is_better) == expected


def test_a_baseline_far_off_on_the_worse_side_is_an_arrow(tmp_path):
    run = text_run.similarity(tmp_path / "run")
    result = read_json(run / "result.json")
    result |= {"metric": {"name": "rmse", "higher_is_better": False}}
    for name, value in (("probe", 0.6), ("majority", 9.0)):
        result["baselines"][name]["rmse"] = {"value": value, "low": value - 0.01, "high": value + 0.01}
    write_json(run / "result.json", result)
    rows = headline(read_run(run))["rows"]
    assert [row["beyond"] for row in rows] == ["", "", "high"]


def test_a_table_of_ones_own_is_named_in_the_title(tmp_path):
    run = text_run.banking(tmp_path / "run")
    assert "Full fine-tuning of all-MiniLM-L6-v2 on banking77" in check(render(run))
    config = read_json(run / "config.json")
    config["origins"]["coefficient.rules"] = {"origin": "recipe", "why": "the method's"}
    write_json(run / "config.json", config)
    assert "Full fine-tuning of all-MiniLM-L6-v2 on banking77" in check(render(run))
    config["origins"]["coefficient.rules"] = {"origin": "file", "why": ""}
    write_json(run / "config.json", config)
    text = check(render(run))
    assert "Fine-tuning of all-MiniLM-L6-v2 on banking77, with its own coefficients" in text
    assert "Full fine-tuning, with a table of its own" in text


def test_all_77_classes_keep_their_names_beside_the_matrix():
    drawing = confusion.draw(np.eye(77) + 1, text_run.BANKING)
    for name in text_run.BANKING:
        assert drawing.count(f">{figures.short(name, 34)}</text>") == 2
    assert 'class="grown" style="width:10' in drawing
    assert confusion.draw(np.eye(40), text_run.BANKING[:40]).startswith("<svg")
    assert confusion.draw(np.eye(121), []) == ""


def test_one_group_far_above_the_others_gets_a_broken_bar():
    rows = [("stem", 0.0, 0.0, 0.0), ("block_0", 0.5, 0.5, 0.5), ("block_1", 1.0, 1.0, 1.0)]
    assert "break" not in figures.coefficients(rows)
    drawing = figures.coefficients([*rows, ("head", 30.0, 30.0, 30.0)])
    assert drawing.count('class="break"') == 1
    assert ">30</text>" in drawing
    widths = [float(part.split('"')[0]) for part in drawing.split(' width="')[1:]]
    assert widths[2] > 0.7 * widths[3]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], []),
        (["O", "B-a", "I-a", "O"], [(1, 3, "a")]),
        (["B-a", "B-a"], [(0, 1, "a"), (1, 2, "a")]),
        (["I-a", "I-a", "I-b"], [(0, 2, "a"), (2, 3, "b")]),
        (["B-a", "I-b"], [(0, 1, "a"), (1, 2, "b")]),
        (["B-", "x", "I-a-b"], [(2, 3, "a-b")]),
    ],
)
def test_spans_are_those_of_conll(tags, expected):
    assert spans.spans(tags) == expected


tags = st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"]), max_size=12)


@settings(deadline=None)
@given(tags, tags)
def test_a_marked_sentence_keeps_every_word_in_order(label, prediction):
    words = [f"w{place}" for place in range(10)]
    pieces = spans.marked(words, label, prediction)
    assert " ".join(piece["text"] for piece in pieces).split() == words
    true, said = spans.spans(label[:10]), spans.spans(prediction[:10])
    if len(label) == len(prediction) == 10:
        assert sum(piece["kind"] == "right" for piece in pieces) == len(set(true) & set(said))


def test_a_sentence_of_one_language_is_judged_word_for_word():
    pieces = spans.marked(["New", "York", "City"], ["B-loc", "I-loc", "I-loc"], ["B-loc", "I-loc", "O"])
    assert [(piece["text"], piece["kind"], piece["note"]) for piece in pieces] == [
        ("New York", "confused", "loc, other borders"),
        ("City", "missed", "loc missed"),
    ]


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60), st.integers(1, 30))
def test_a_cut_text_is_a_beginning_that_is_not_longer(text, most):
    kept = texts.cut(text, most)
    assert len(kept) <= most
    assert text.startswith(kept)


def test_a_cut_keeps_letters_whole():
    assert texts.cut("cafe\u0301s", 4) == "caf"
    assert texts.cut("a \U0001f468\u200d\U0001f469", 3) == "a"
    assert texts.cut("several words here", 12) == "several"
    assert texts.cut("x" * 50, 40) == "x" * 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\r\nb\tc", "a\nb\tc"), ("\u3000\xa0", "\u3000\xa0"), ("\u200e\u202e\ufeff", r"\u200e\u202e\ufeff"), ("\udc80", r"\udc80"), ("می\u200c", "می\u200c")],
)
def test_what_cannot_be_seen_is_written_out(text, expected):
    assert texts.readable(text) == expected


def test_the_context_shows_where_the_answer_is():
    pieces = examples.around("a" * 500 + " Paris " + "b" * 500, ["Rome", "Paris"])
    assert [marked for _, marked in pieces] == [False, True, False]
    assert pieces[1][0] == "Paris"
    assert pieces[0][0].startswith("… a")
    assert pieces[2][0].endswith("b …")
    assert examples.around("short", ["no"]) == [("short", False)]
    assert examples.around(None, []) == []


def test_nothing_to_draw_draws_nothing():
    none = np.zeros(0)
    assert text_figures.scatter(none, none) == text_figures.residuals(none, none) == text_figures.lengths([], {}, [], None) == ""
    assert text_figures.scatter(np.array([np.nan]), np.array([1.0])) == ""
    assert "<circle" in text_figures.scatter(np.array([1.0]), np.array([1.0]))
    assert "mean 0" in text_figures.residuals(np.array([1.0]), np.array([1.0]))


def test_lengths_show_every_bucket_and_the_cut():
    drawing = text_figures.lengths([0, 10, 20], {"train": [3, 1], "test": [0, 0]}, [8, 12, 24], 24)
    assert "train, 0 to 10 tokens: 75.0%" in drawing
    assert drawing.count('class="border"') == 3
    assert "longer texts are cut at 24 tokens" in drawing
    assert "longer texts" not in text_figures.lengths([0, 10, 20], {"train": [3, 1]}, [], 512)
    assert "test," not in drawing


def test_tags_that_mark_no_entities_are_compared_word_by_word():
    pieces = spans.marked(["the", "dog", "barks", "."], ["DET", "NOUN", "VERB"], ["DET", "VERB", "VERB"])
    assert [(piece["text"], piece["kind"], piece["note"]) for piece in pieces] == [
        ("the", "", ""),
        ("dog", "confused", "VERB, but NOUN"),
        ("barks", "", ""),
        (".", "", ""),
    ]
