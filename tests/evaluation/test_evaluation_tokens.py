"""Token measures: seqeval's numbers per word however words are cut, and cut-off words as misses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kind_examples import batch_of, parts_of, split_of

from ftjax.errors import DataError
from ftjax.evaluation import measures_of, read_records, write_records
from ftjax.tasks import TokenClassification

TAGS = ("O", "B-per", "I-per", "B-loc", "I-loc")
MEASURES = measures_of(TokenClassification(TAGS))
PLAIN = measures_of(TokenClassification(("NOUN", "VERB", "ADJ")))
DRAW = np.random.default_rng(0)
ROWS = 40


def drawn(rows: int = ROWS, classes: tuple[str, ...] = TAGS, mistakes: float = 0.25):
    """Sentences whose words have one to three pieces: outputs, batch and split, true and predicted tags."""
    generator = np.random.default_rng(4)
    lengths = generator.integers(1, 7, rows)
    true = [generator.integers(0, len(classes), n).tolist() for n in lengths]
    said = [[tag if generator.random() > mistakes else int(generator.integers(0, len(classes))) for tag in row] for row in true]
    pieces = [generator.integers(1, 4, n) for n in lengths]
    width = max(sum(row) for row in pieces) + 2
    label, word = np.full((rows, width), -100, np.int32), np.full((rows, width), -1, np.int32)
    outputs = generator.normal(size=(rows, width, len(classes))).astype(np.float32)
    for row, cut in enumerate(pieces):
        places = 1 + np.concatenate([[0], np.cumsum(cut)[:-1]])
        label[row, places], word[row, places] = true[row], np.arange(len(cut))
        outputs[row, places, said[row]] += 20
    words = [[f"w{k}" for k in range(n)] for n in lengths]
    split = split_of(np.zeros(rows, np.int32), lambda row: {"text": " ".join(words[row]), "words": words[row], "tags": [classes[tag] for tag in true[row]]})
    return outputs, batch_of(np.zeros(rows, np.int32), token_label=label, word=word), split, true, said


OUTPUTS, BATCH, SPLIT, TRUE, SAID = drawn()


def gathered(outputs=OUTPUTS, batch=BATCH, split=SPLIT, measures=MEASURES, cuts=(7, 30)):
    return measures.gather(parts_of(measures, outputs, batch, cuts=cuts), split)


def named(rows, classes=TAGS):
    return [[classes[tag] for tag in row] for row in rows]


def test_the_numbers_are_seqeval_s():
    metrics = pytest.importorskip("seqeval.metrics")
    found = MEASURES.compute_all(gathered())
    assert list(found) == ["entity_f1", "entity_precision", "entity_recall", "token_accuracy", "log_loss"]
    expected = [measure(named(TRUE), named(SAID)) for measure in (metrics.f1_score, metrics.precision_score, metrics.recall_score, metrics.accuracy_score)]
    np.testing.assert_allclose(list(found.values())[:4], expected, rtol=1e-12)
    report = metrics.classification_report(named(TRUE), named(SAID), output_dict=True)
    for row in MEASURES.tables(gathered())["entities"]:
        assert row["support"] == report[row["name"]]["support"]
        assert row["right"] / row["predicted"] == pytest.approx(report[row["name"]]["precision"])


def test_the_numbers_by_hand():
    label = np.array([[-100, 1, -100, 2, 0, 3, -100]], np.int32)
    word = np.array([[-1, 0, -1, 1, 2, 3, -1]], np.int32)
    outputs = np.full((1, 7, 5), -10, np.float32)
    for place, tag in ((1, 1), (3, 2), (4, 3), (5, 3)):
        outputs[0, place, tag] = 10
    split = split_of(np.zeros(1), lambda row: {"words": ["Ada", "Lovelace", "in", "London"], "tags": ["B-per", "I-per", "O", "B-loc"]})
    records = gathered(outputs, batch_of(np.zeros(1, np.int32), token_label=label, word=word), split, cuts=())
    found = MEASURES.compute_all(records)
    assert (found["entity_precision"], found["entity_recall"], found["token_accuracy"]) == (2 / 3, 1, 3 / 4)
    assert found["log_loss"] == pytest.approx(20 / 4, rel=1e-4)
    row = MEASURES.rows(records, split, probabilities=True)[0]
    assert row["tags"] == ["B-per", "I-per", "B-loc", "B-loc"]
    assert row["entities"] == [
        {"type": "per", "start": 0, "end": 2, "text": "Ada Lovelace", "probability": pytest.approx(1)},
        {"type": "loc", "start": 2, "end": 3, "text": "in", "probability": pytest.approx(1)},
        {"type": "loc", "start": 3, "end": 4, "text": "London", "probability": pytest.approx(1)},
    ]
    assert len(row["probabilities"]) == 4
    assert MEASURES.tables(records) == {
        "entities": [{"name": "per", "support": 1, "predicted": 1, "right": 1}, {"name": "loc", "support": 1, "predicted": 2, "right": 1}]
    }
    assert MEASURES.errors(records, split, 3) == [
        {"id": "row0", "row": 0, "label": ["B-per", "I-per", "O", "B-loc"], "prediction": ["B-per", "I-per", "B-loc", "B-loc"]}
    ]


def test_words_that_were_cut_off_are_misses():
    records = gathered()
    longer = split_of(np.zeros(ROWS), lambda row: SPLIT.show(row) | {"words": [*SPLIT.show(row)["words"], "cut"], "tags": [*SPLIT.show(row)["tags"], "B-per"]})
    cut = gathered(split=longer)
    words = sum(map(len, TRUE))
    before, after = MEASURES.compute_all(records), MEASURES.compute_all(cut)
    assert after["token_accuracy"] == pytest.approx(before["token_accuracy"] * words / (words + ROWS))
    assert after["entity_recall"] < before["entity_recall"]
    assert after["entity_precision"] == pytest.approx(before["entity_precision"])
    assert MEASURES.rows(cut, longer)[0]["tags"][-1] is None
    assert len(MEASURES.rows(cut, longer)[0]["words"]) == len(TRUE[0]) + 1


def test_batches_of_other_lengths_change_nothing():
    wide = np.pad(OUTPUTS, ((0, 0), (0, 5), (0, 0)))
    batch = BATCH | {name: np.pad(BATCH[name], ((0, 0), (0, 5)), constant_values=fill) for name, fill in (("token_label", -100), ("word", -1))}
    rows = [np.arange(20), np.arange(20, ROWS)]
    parts = [
        *parts_of(MEASURES, OUTPUTS[rows[0]], {name: values[rows[0]] for name, values in BATCH.items()}),
        *parts_of(MEASURES, wide[rows[1]], {name: values[rows[1]] for name, values in batch.items()}),
    ]
    assert MEASURES.compute_all(MEASURES.gather(parts[::-1], SPLIT)) == MEASURES.compute_all(gathered())


def test_tags_without_entities_are_judged_by_the_word():
    outputs, batch, split, true, said = drawn(classes=("NOUN", "VERB", "ADJ"))
    records = gathered(outputs, batch, split, PLAIN)
    assert PLAIN.main == "token_accuracy"
    assert MEASURES.main == "entity_f1"
    assert [metric.name for metric in PLAIN.metrics] == ["token_accuracy", "log_loss"]
    pairs = [pair for rows in zip(true, said) for pair in zip(*rows)]
    assert PLAIN.compute_all(records)["token_accuracy"] == np.mean([one == other for one, other in pairs])
    assert "entities" not in PLAIN.rows(records, split)[0]
    table = PLAIN.tables(records)["labels"]
    assert [row["support"] for row in table] == [sum(one == tag for one, _ in pairs) for tag in range(3)]
    assert [row["predicted"] for row in table] == [sum(other == tag for _, other in pairs) for tag in range(3)]
    assert [row["right"] for row in table] == [sum(one == other == tag for one, other in pairs) for tag in range(3)]


def test_outputs_that_are_not_finite_are_wrong():
    outputs = OUTPUTS.copy()
    outputs[2] = np.nan
    records = gathered(outputs)
    assert np.all(records.prediction[2] == -1)
    assert all(np.isfinite(value) for value in MEASURES.compute_all(records).values())
    assert MEASURES.rows(records, SPLIT)[2]["tags"] == [None] * len(TRUE[2])


def test_intervals_hold_their_values_and_parts_merge():
    records = gathered()
    found = MEASURES.intervals(records, resamples=200)
    assert all(one["low"] < one["value"] < one["high"] for one in found.values())
    for metric in MEASURES.metrics:
        halves = [metric.get_state(records.take(rows)) for rows in (np.arange(20), np.arange(20, ROWS))]
        assert metric.compute(metric.merge(*halves)) == pytest.approx(metric(records), rel=1e-12)


def test_a_perfect_value_has_an_interval_of_the_entities_there_are():
    outputs, batch, split, _, _ = drawn(mistakes=0.0)
    records = gathered(outputs, batch, split)
    entities = sum(row["support"] for row in MEASURES.tables(records)["entities"])
    found = MEASURES.intervals(records, resamples=20)["entity_f1"]
    assert found["value"] == found["high"] == 1
    assert found["low"] == pytest.approx(entities / (entities + 1.96**2), rel=1e-3)


def test_nothing_to_find_and_nothing_found_is_no_error():
    label = np.where(BATCH["token_label"] >= 0, 0, -100).astype(np.int32)
    split = split_of(np.zeros(ROWS), lambda row: SPLIT.show(row) | {"tags": ["O"] * len(TRUE[row])})
    records = gathered(np.zeros_like(OUTPUTS) + np.eye(5, dtype=np.float32)[0], BATCH | {"token_label": label}, split)
    assert MEASURES.compute_all(records)["entity_f1"] == 0
    assert MEASURES.compute_all(records)["token_accuracy"] == 1


def test_prediction_needs_no_tags_and_measures_do():
    label = np.full_like(BATCH["token_label"], -100)
    split = split_of(np.zeros(ROWS), lambda row: {name: value for name, value in SPLIT.show(row).items() if name != "tags"})
    records = gathered(batch=BATCH | {"token_label": label}, split=split)
    assert MEASURES.rows(records, split) == MEASURES.rows(gathered(), SPLIT)
    with pytest.raises(DataError, match=r"^40 examples cannot be measured: no word has a label$"):
        MEASURES.compute_all(records)


def test_a_tag_that_the_model_does_not_know_is_named():
    split = split_of(np.zeros(ROWS), lambda row: SPLIT.show(row) | {"tags": ["B-pers"] * len(TRUE[row])})
    message = "example row0 has tag 'B-pers', which the model does not know; did you mean 'B-per' or 'I-per'? allowed: 'B-loc', 'B-per', 'I-loc', 'I-per', 'O'"
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        gathered(split=split)


def test_the_records_come_back_from_the_disk(tmp_path):
    write_records(tmp_path / "test.npz", gathered())
    assert MEASURES.compute_all(read_records(tmp_path / "test.npz")) == MEASURES.compute_all(gathered())


def test_the_most_frequent_tag_is_the_baseline_on_the_same_examples():
    fields = {"token_label": BATCH["token_label"], "word": BATCH["word"]}
    split = split_of(np.zeros(ROWS, np.int32), SPLIT.show, fields)
    found = MEASURES.majority(split, split)
    common = np.bincount([tag for row in TRUE for tag in row]).argmax()
    assert found.why == f"always the most frequent tag of training, {TAGS[common]!r}"
    assert set(np.unique(found.records.prediction)) == {-1, common}
    assert MEASURES.difference(gathered(), found.records, "token_accuracy", resamples=100)["low"] > 0
    assert MEASURES.probe({}, {}) is None
