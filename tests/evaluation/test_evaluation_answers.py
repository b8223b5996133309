"""Answers: SQuAD's normalisation and scores, the exact best span over joined windows, and no answer where that is allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_examples import batch_of, parts_of, split_of

from ftjax.errors import DataError
from ftjax.evaluation import measures_of, read_records, write_records
from ftjax.evaluation.kinds.answers import best_spans, exact_match, normalised, word_f1
from ftjax.tasks import QuestionAnswering

MEASURES = measures_of(QuestionAnswering(max_answer_length=3))
OPEN = measures_of(QuestionAnswering(max_answer_length=3, unanswerable=True))
CONTEXT = "The Normans came from Denmark in 911."
STARTS = [0, 4, 12, 17, 22, 30, 33]
WORDS = [(start, start + len(word)) for start, word in zip(STARTS, CONTEXT.split())]
# [CLS] q [SEP] window [SEP]: question 0 in two windows that share "from", question 1 in one.
OFFSETS = [
    np.array([(-1, -1)] * 3 + WORDS[:4] + [(-1, -1)], np.int32),
    np.array([(-1, -1)] * 3 + WORDS[3:] + [(-1, -1)], np.int32),
    np.array([(-1, -1)] * 3 + WORDS[:4] + [(-1, -1)], np.int32),
]
MASK = np.ones((3, 8), bool)


def split(answers=(["Denmark"], ["the Normans"])):
    question = [0, 0, 1]
    return split_of(
        np.zeros((3, 2), np.int32),
        lambda row: {"id": f"q{question[row]}", "question": "?", "context": CONTEXT, "answers": answers[question[row]], "offsets": OFFSETS[row]},
    )


def scores(*best, none=0.0):
    """Outputs whose best span of each window is `(score, first token, last token)`; all else is below zero but no answer."""
    outputs = np.full((3, 8, 2), -20, np.float32)
    outputs[:, 0] = none / 2
    for row, (score, first, last) in enumerate(best):
        outputs[row, first, 0] = outputs[row, last, 1] = score / 2
    return outputs


def gathered(outputs, measures=MEASURES, cuts=(2,), **changed):
    return measures.gather(parts_of(measures, outputs, batch_of(np.zeros((3, 2), np.int32), mask=MASK), cuts=cuts), split(**changed))


GOOD = scores((4, 6, 6), (8, 4, 4), (6, 3, 4))


def test_windows_are_joined_and_the_best_span_is_the_answer():
    records = gathered(GOOD)
    assert MEASURES.rows(records, split()) == [
        {"id": "q0", "answer": "Denmark", "probability": pytest.approx(0.0, abs=1), "start": 22, "end": 29},
        {"id": "q1", "answer": "The Normans", "probability": pytest.approx(0.0, abs=1), "start": 0, "end": 11},
    ]
    assert records.id.tolist() == [0, 2]
    assert records.row.tolist() == [1, 2]
    assert MEASURES.compute_all(records) == {"f1": 1, "exact_match": 1}
    assert MEASURES.main == "exact_match"


def test_the_probability_is_the_span_s_among_all_of_its_window():
    expected = np.prod([np.exp(4) / (np.exp(4) + 1 + 6 * np.exp(-20))] * 2)
    assert gathered(GOOD).probability[0] == pytest.approx(expected, rel=1e-5)


def test_answers_are_never_empty_where_every_question_has_one():
    records = gathered(scores((4, 6, 6), (8, 4, 4), (6, 3, 4), none=50))
    assert np.all(records.end > records.start)


def test_no_answer_is_given_where_it_scores_higher_in_every_window():
    outputs = scores((4, 6, 6), (8, 4, 4), (6, 3, 4), none=7)
    records = gathered(outputs, OPEN, answers=(["Denmark"], []))
    assert [row["answer"] for row in OPEN.rows(records, split())] == ["Denmark", ""]
    assert OPEN.compute_all(records) == {"f1": 1, "exact_match": 1}
    outputs[0, 0] = 10
    assert [row["answer"] for row in OPEN.rows(gathered(outputs, OPEN), split())] == ["Denmark", ""]
    outputs[1, 0] = 10
    assert [row["answer"] for row in OPEN.rows(gathered(outputs, OPEN), split())] == ["", ""]


def test_spans_are_in_the_context_in_order_and_not_too_long():
    outputs = np.full((3, 8, 2), -5, np.float32)
    outputs[:, 1] = 50
    outputs[0, 6, 0], outputs[0, 3, 1] = 30, 30
    outputs[1, 3, 0], outputs[1, 6, 1] = 20, 20
    records = gathered(outputs)
    assert np.all(records.end > records.start)
    assert records.end[0] - records.start[0] < WORDS[6][1] - WORDS[3][0]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 4))
def test_the_best_span_is_the_best_of_all(seed, length, longest):
    generator = np.random.default_rng(seed)
    start, end = generator.integers(0, 5, (2, 4, length)).astype(float)
    inside = generator.random((4, length)) < 0.7
    score, first, last = best_spans(start, end, inside, longest)
    for row in range(4):
        allowed = [(i, j) for i in range(length) for j in range(i, min(length, i + longest)) if inside[row, i] and inside[row, j]]
        assert score[row] == max([start[row, i] + end[row, j] for i, j in allowed], default=-np.inf)
        assert not allowed or (int(first[row]), int(last[row])) in allowed
        assert not allowed or start[row, first[row]] + end[row, last[row]] == score[row]


@pytest.mark.parametrize(
    ("answer", "accepted", "exact", "f1"),
    [
        ("The Normans!", "normans", 1, 1),
        ("in 911", "911", 0, 2 / 3),
        ("Denmark", "Norway", 0, 0),
        ("", "", 1, 1),
        ("", "x", 0, 0),
        ("the", "", 1, 1),
        ("a cat a cat", "cat", 0, 2 / 3),
    ],
)
def test_scores_are_squad_s(answer, accepted, exact, f1):
    assert exact_match(answer, accepted) == exact
    assert word_f1(answer, accepted) == pytest.approx(f1)


def test_normalised():
    assert normalised("  The  U.S. of a  \tTheatre, an ant ") == "us of theatre ant"


def test_the_nearest_accepted_answer_counts():
    records = gathered(GOOD, answers=(["Norway", "Denmark in 911"], ["Normans"]))
    np.testing.assert_allclose(records.f1, [0.5, 1])
    assert records.exact.tolist() == [0, 1]


def test_outputs_that_are_not_finite_give_no_answer():
    outputs = GOOD.copy()
    outputs[2] = np.nan
    records = gathered(outputs)
    assert MEASURES.rows(records, split())[1] == {"id": "q1", "answer": "", "probability": 0.0, "start": 0, "end": 0}
    assert all(np.isfinite(value) for value in MEASURES.compute_all(records).values())


def test_the_worst_answers_say_what_was_accepted():
    found = MEASURES.errors(gathered(GOOD, answers=(["Norway"], ["Normans"])), split((["Norway"], ["Normans"])), 5)
    assert [row["id"] for row in found] == ["q0"]
    assert found[0] | {"confidence": 0} == {"id": "q0", "row": 1, "label": ["Norway"], "prediction": "Denmark", "confidence": 0, "note": "F1 0.00"}


def test_intervals_differences_and_the_disk(tmp_path):
    one, other = gathered(GOOD), gathered(scores((4, 3, 3), (2, 4, 4), (6, 6, 6)))
    assert MEASURES.difference(one, other, "exact_match")["value"] == 1
    assert MEASURES.intervals(one, resamples=20)["f1"]["low"] == pytest.approx(2 / (2 + 1.96**2), rel=1e-3)
    write_records(tmp_path / "test.npz", one)
    assert MEASURES.compute_all(read_records(tmp_path / "test.npz")) == MEASURES.compute_all(one)


def test_a_window_that_came_twice_is_refused():
    parts = parts_of(MEASURES, GOOD, batch_of(np.zeros((3, 2), np.int32), mask=MASK))
    with pytest.raises(DataError, match=r"^example 0 was evaluated several times; every example must count once$"):
        MEASURES.gather(parts * 2, split())
    with pytest.raises(DataError, match=r"^no records to concatenate: the split gave no batch$"):
        MEASURES.gather([], split())


def test_never_answering_is_a_baseline_only_where_that_is_an_answer():
    assert MEASURES.majority(split(), split()) is None
    found = OPEN.majority(split(), split((["Denmark"], [])))
    assert found.records.exact.tolist() == [0, 1]
    assert OPEN.difference(gathered(GOOD, OPEN, answers=(["Denmark"], [])), found.records, "f1", resamples=20)["value"] == 0
