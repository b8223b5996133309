"""Entities are those that seqeval finds, also in tags that are no clean IOB2."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.evaluation.entities import entities, marks_entities, read_tags

CLEAN = ("O", "B-per", "I-per", "B-loc-city", "I-loc-city")
ALL = ("O", "B-per", "I-per", "E-per", "S-per", "B-loc", "I-loc", "E-loc", "S-loc")


def found(labels: list[list[int]], classes: tuple[str, ...]) -> list[tuple[int, str, int, int]]:
    """(row, type, first word, last word) of padded rows."""
    width = max(map(len, labels))
    padded = np.array([row + [-1] * (width - len(row)) for row in labels])
    tags = read_tags(classes)
    spans = entities(padded, tags)
    return [
        (row, tags.types[kind], start, stop - 1)
        for row, kind, start, stop in zip(*(side.tolist() for side in (spans.row, spans.kind, spans.start, spans.stop)))
    ]


def test_a_begin_and_what_follows_of_its_type_is_an_entity():
    assert found([[0, 1, 2, 2, 0, 3], [1, 1, 4, 2]], CLEAN) == [
        (0, "per", 1, 3),
        (0, "loc-city", 5, 5),
        (1, "per", 0, 0),
        (1, "per", 1, 1),
        (1, "loc-city", 2, 2),
        (1, "per", 3, 3),
    ]


def test_an_entity_ends_with_its_row():
    assert found([[0, 1], [2, 0]], CLEAN) == [(0, "per", 1, 1), (1, "per", 0, 0)]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([CLEAN, ALL]), st.lists(st.lists(st.integers(0, 8), min_size=1, max_size=7), min_size=1, max_size=4))
def test_any_tags_are_read_as_seqeval_reads_them(classes, drawn):
    labelling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    labels = [[label % len(classes) for label in row] for row in drawn]
    expected = [(row, *entity) for row, tags in enumerate(labels) for entity in labelling.get_entities([classes[label] for label in tags])]
    assert found(labels, classes) == expected


@pytest.mark.parametrize(
    ("classes", "marked"),
    [(CLEAN, True), (ALL, True), (("B-x", "I-x"), True), (("NOUN", "VERB", "O"), False), (("O",), False), (("O", "B-"), False), (("O", "Big"), False)],
)
def test_tags_of_entities_are_told_from_others(classes, marked):
    assert marks_entities(classes) is marked
