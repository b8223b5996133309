"""Retrieval measures against a plain loop: recall, reciprocal rank and nDCG, with groups of equal positives and ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_examples import batch_of, parts_of, split_of

from ftjax.errors import DataError
from ftjax.evaluation import measures_of, read_records, write_records
from ftjax.evaluation.kinds import embeddings
from ftjax.tasks import SentenceEmbedding

MEASURES = measures_of(SentenceEmbedding())
DRAW = np.random.default_rng(0)
ROWS, WIDTH = 30, 6
GROUPS = (np.arange(ROWS) // 2 % 11).astype(np.int32)
ANCHORS = DRAW.normal(size=(ROWS, WIDTH)).astype(np.float32)
POSITIVES = (ANCHORS + DRAW.normal(size=(ROWS, WIDTH))).astype(np.float32)
SPLIT = split_of(GROUPS, lambda row: {"text": f"anchor {row}", "text_pair": f"positive {row}"})


def gathered(anchors=ANCHORS, positives=POSITIVES, groups=GROUPS, cuts=(9, 20)):
    outputs = np.concatenate([anchors, positives])
    return MEASURES.gather(parts_of(MEASURES, outputs, batch_of(groups), cuts=cuts, views=2), split_of(groups, SPLIT.show))


def by_loop(anchors, positives, groups):
    """Recall at 1, 5, 10, MRR and nDCG at 10; among equally near texts wrong ones come first."""
    unit = [side / np.linalg.norm(side.astype(np.float64), axis=1, keepdims=True) for side in (anchors, positives)]
    rows = []
    for anchor, group in zip(unit[0], groups):
        near = np.round(unit[1] @ anchor, 6)
        order = sorted(range(len(near)), key=lambda other: (-near[other], groups[other] == group))
        hits = [groups[other] == group for other in order]
        first = hits.index(True)
        gain = sum(hit / np.log2(place + 2) for place, hit in enumerate(hits[:10]))
        ideal = sum(1 / np.log2(place + 2) for place in range(min(10, sum(hits))))
        rows.append([first < 1, first < 5, first < 10, 1 / (first + 1), gain / ideal])
    return np.mean(rows, axis=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 2, 12]))
def test_the_numbers_are_those_of_a_plain_loop(seed, groups):
    generator = np.random.default_rng(seed)
    anchors = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    positives = np.round(anchors + generator.normal(size=(ROWS, WIDTH)), 1).astype(np.float32)
    positives[::5] = positives[0]
    group = generator.integers(0, ROWS // groups, ROWS).astype(np.int32)
    found = MEASURES.compute_all(gathered(anchors, positives, group))
    assert list(found) == ["recall_at_1", "recall_at_5", "recall_at_10", "mrr", "ndcg_at_10"]
    np.testing.assert_allclose(list(found.values()), by_loop(anchors, positives, group), rtol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    whole = gathered()
    monkeypatch.setattr(embeddings, "_CELLS", 4 * ROWS)
    assert MEASURES.compute_all(gathered()) == MEASURES.compute_all(whole)


def test_vectors_have_length_1_and_are_rows_for_people():
    rows = MEASURES.rows(gathered(), SPLIT)
    assert rows[3]["id"] == "row3"
    np.testing.assert_allclose(rows[3]["vector"], ANCHORS[3] / np.linalg.norm(ANCHORS[3]), rtol=1e-5)


def test_texts_without_a_partner_have_vectors_and_no_measures():
    records = MEASURES.gather(parts_of(MEASURES, ANCHORS, batch_of(GROUPS), cuts=(9,)), SPLIT)
    assert MEASURES.rows(records, SPLIT) == MEASURES.rows(gathered(), SPLIT)
    with pytest.raises(DataError, match=r"^30 examples cannot be measured: they have no positive$"):
        MEASURES.compute_all(records)


def test_the_worst_say_what_was_found_instead():
    records = gathered()
    found = MEASURES.errors(records, SPLIT, 100)
    ranks = [int(row["prediction"].removeprefix("rank ")) for row in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len(found) == int(np.sum(records.rank > 0))
    first = found[0]["row"]
    unit = POSITIVES / np.linalg.norm(POSITIVES, axis=1, keepdims=True)
    assert found[0]["retrieved"] == f"positive {int(np.argmax(unit @ ANCHORS[first]))}"
    assert found[0]["note"] == f"its partner is at rank {ranks[0]}"
    assert found[0]["label"] == "rank 1"


def test_a_vector_that_is_not_finite_finds_nothing_and_is_not_found():
    anchors = ANCHORS.copy()
    anchors[4] = np.nan
    records = gathered(anchors, groups=np.arange(ROWS, dtype=np.int32))
    assert records.rank[4] == ROWS - 1
    assert all(np.isfinite(value) for value in MEASURES.compute_all(records).values())


def test_intervals_differences_and_the_disk(tmp_path):
    one, other = gathered(groups=np.arange(ROWS, dtype=np.int32)), gathered(-ANCHORS, groups=np.arange(ROWS, dtype=np.int32))
    found = MEASURES.intervals(one, resamples=100)
    assert all(row["low"] < row["high"] for row in found.values())
    assert MEASURES.difference(one, other, "mrr", resamples=100)["low"] > 0
    assert MEASURES.difference(one, other, "recall_at_5")["low"] > 0
    write_records(tmp_path / "test.npz", one)
    assert MEASURES.compute_all(read_records(tmp_path / "test.npz")) == MEASURES.compute_all(one)
    assert MEASURES.majority(SPLIT, SPLIT) is None


def test_the_order_of_batches_does_not_matter():
    outputs = np.concatenate([ANCHORS, POSITIVES])
    parts = parts_of(MEASURES, outputs, batch_of(GROUPS), cuts=(9, 20), views=2)
    shuffled = MEASURES.gather([parts[2], parts[0], parts[1]], SPLIT)
    assert all(np.array_equal(values, gathered().arrays()[name]) for name, values in shuffled.arrays().items())
