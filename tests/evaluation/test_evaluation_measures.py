"""What training sees of evaluation: the measures of every task, and those of classification, whose numbers are the ones they always were."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kind_examples import batch_of, parts_of, split_of
from sklearn.metrics import matthews_corrcoef, roc_auc_score

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation import Records, compute_all, intervals, linear_probe, majority, measures_of, prediction_rows
from ftjax.evaluation.kinds import (
    AnswerMeasures,
    ClassificationMeasures,
    EmbeddingMeasures,
    MultiLabelMeasures,
    RegressionMeasures,
    TokenMeasures,
)
from ftjax.evaluation.metrics import MacroAUROC, MatthewsCorrelation
from ftjax.evaluation.select import worst
from ftjax.tasks import Classification, MultiLabel, QuestionAnswering, Regression, SentenceEmbedding, TokenClassification

CLASSES = ("ant", "bee", "cat")
MEASURES = measures_of(Classification(CLASSES), 2)
DRAW = np.random.default_rng(1)
LABELS = DRAW.integers(0, 3, 50).astype(np.int32)
LOGITS = (DRAW.normal(size=(50, 3)) + 1.5 * np.eye(3)[LABELS]).astype(np.float32)
SPLIT = split_of(LABELS)
RECORDS = Records.from_logits(LOGITS, LABELS)

KINDS = {
    Classification(CLASSES): (ClassificationMeasures, "accuracy"),
    MultiLabel(CLASSES): (MultiLabelMeasures, "micro_f1"),
    Regression(): (RegressionMeasures, "pearson"),
    TokenClassification(("O", "B-x", "I-x")): (TokenMeasures, "entity_f1"),
    QuestionAnswering(): (AnswerMeasures, "exact_match"),
    SentenceEmbedding(): (EmbeddingMeasures, "recall_at_1"),
}


@pytest.mark.parametrize("task", KINDS, ids=lambda task: type(task).__name__)
def test_every_task_has_measures_whose_main_metric_comes_first(task):
    measures = measures_of(task)
    assert (type(measures), measures.main) == KINDS[task]
    assert measures.metrics[0] == measures.metric(measures.main)
    names = [metric.name for metric in measures.metrics]
    assert len(set(names)) == len(names)


def test_a_metric_that_the_task_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"^unknown metric 'accuracy': allowed: 'mae', 'pearson', 'r2', 'rmse', 'spearman'$"):
        measures_of(Regression()).metric("accuracy")
    with pytest.raises(ConfigError, match=r"^evaluation\.top_k is 0; allowed: 1 or more$"):
        measures_of(Classification(CLASSES), 0)


def test_classification_is_what_it_was_and_two_metrics_more():
    outputs = parts_of(MEASURES, LOGITS, batch_of(LABELS), cuts=(20, 30))
    records = MEASURES.gather(outputs[::-1], SPLIT)
    before, found = compute_all(records, 3, 2), MEASURES.compute_all(records)
    assert found == before
    assert list(found) == ["accuracy", "top_k_accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece", "mcc"]
    assert MEASURES.intervals(records, resamples=50, seed=3) == intervals(records, 3, 2, resamples=50, seed=3)
    with_logits = MEASURES.compute_all(RECORDS)
    assert {name: with_logits[name] for name in found} == found
    assert list(with_logits)[-1] == "macro_auroc"


def test_the_outputs_that_were_asked_for_stay_with_the_records():
    parts = [part | {"logits": np.concatenate([LOGITS, LOGITS[:1]])} for part in parts_of(MEASURES, LOGITS, batch_of(LABELS))]
    records = MEASURES.gather(parts, SPLIT)
    np.testing.assert_array_equal(records.logits, LOGITS)
    assert MEASURES.rows(records, SPLIT, probabilities=True) == prediction_rows(LOGITS, SPLIT.ids, CLASSES, probabilities=True)
    with pytest.raises(ValueError, match=r"^predictions need records with logits$"):
        MEASURES.rows(MEASURES.gather(parts_of(MEASURES, LOGITS, batch_of(LABELS)), SPLIT), SPLIT)


def test_labels_that_the_model_does_not_know_are_refused():
    records = Records.from_logits(LOGITS, np.where(np.arange(50) == 4, 3, LABELS))
    for measure in (MEASURES.compute_all, MEASURES.intervals):
        with pytest.raises(DataError, match=re.escape("1 examples cannot be measured: label 3 of example 4; allowed: 0 to 2")):
            measure(records)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 5]), st.sampled_from([4, 60]))
def test_mcc_and_macro_auroc_are_scikit_learn_s(seed, classes, rows):
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, rows)])
    logits = (generator.normal(size=(len(labels), classes)) + np.eye(classes)[labels]).astype(np.float32)
    records = Records.from_logits(logits, labels)
    shares = np.exp(logits.astype(np.float64)) / np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)
    assert MatthewsCorrelation()(records) == pytest.approx(matthews_corrcoef(labels, records.prediction), abs=1e-9)
    expected = roc_auc_score(labels, shares[:, 1]) if classes == 2 else roc_auc_score(labels, shares, multi_class="ovr")
    assert MacroAUROC()(records) == pytest.approx(expected, abs=1e-9)


def test_mcc_of_one_answer_for_all_is_0_and_of_all_right_is_1_with_room_below():
    constant = Records.from_logits(np.tile(np.float32([1, 0, 0]), (50, 1)), LABELS)
    assert MEASURES.metric("mcc")(constant) == 0
    found = MEASURES.intervals(Records.from_logits(10 * np.eye(3, dtype=np.float32)[LABELS], LABELS), resamples=20)["mcc"]
    accuracy = 50 / (50 + 1.96**2)
    assert (found["value"], found["high"]) == (1, 1)
    assert found["low"] == pytest.approx(2 * accuracy - 1, rel=1e-3)


def test_logits_that_are_not_finite_count_against_the_model():
    logits = LOGITS.copy()
    logits[:5] = np.nan
    records = Records.from_logits(logits, LABELS)
    predicted = np.where(np.arange(50) < 5, -1, LOGITS.argmax(axis=1))
    assert MEASURES.metric("mcc")(records) == pytest.approx(matthews_corrcoef(LABELS, predicted), abs=1e-9)
    assert MEASURES.metric("macro_auroc")(records) < MEASURES.metric("macro_auroc")(RECORDS)


def test_a_metric_of_logits_says_so_and_is_left_out_without_them():
    assert MEASURES.metric("macro_auroc").needs_logits
    assert not MEASURES.metric("accuracy").needs_logits
    assert "macro_auroc" in MEASURES.intervals(RECORDS, resamples=20)


def test_the_tables_and_the_worst_for_people():
    assert np.sum(MEASURES.tables(RECORDS)["confusion"]) == 50
    found = MEASURES.errors(RECORDS, SPLIT, 3)
    sure = np.flatnonzero(~RECORDS.correct)
    first = int(sure[np.argmax(RECORDS.confidence[sure])])
    assert found[0] == {
        "id": f"row{first}",
        "row": first,
        "label": CLASSES[LABELS[first]],
        "prediction": CLASSES[RECORDS.prediction[first]],
        "confidence": float(RECORDS.confidence[first]),
    }
    assert len(found) == 3


def test_worst_goes_by_the_loss_among_what_is_not_right():
    chosen = worst(RECORDS, 100)
    assert set(chosen) == set(np.flatnonzero(~RECORDS.correct))
    assert np.all(np.diff(RECORDS.losses[chosen]) <= 0)
    assert worst(RECORDS, 2).tolist() == chosen[:2].tolist()


def test_the_baselines_are_the_ones_they_were():
    found = MEASURES.majority(SPLIT, SPLIT)
    np.testing.assert_array_equal(found.records.logits, majority(LABELS, LABELS, 3).logits)
    assert found.why == "always the most frequent training class"
    splits = dict.fromkeys(("train", "validation", "test"), SPLIT)
    probe = MEASURES.probe(dict.fromkeys(splits, LOGITS), splits, 7)
    expected = linear_probe(LOGITS, LABELS, LOGITS, LABELS, LOGITS, 3, 7)
    np.testing.assert_array_equal(probe.records.logits, expected.logits)
    assert probe.why == f"logistic regression on the features of the model before training, l2 {expected.l2:g} chosen on validation"
    assert MEASURES.probes


def test_difference_takes_a_metric_or_its_name():
    other = Records.from_logits(-LOGITS, LABELS)
    assert MEASURES.difference(RECORDS, other, "accuracy") == MEASURES.difference(RECORDS, other, MEASURES.metric("accuracy"))
    assert MEASURES.difference(RECORDS, other, "macro_auroc", resamples=50)["low"] > 0


def test_records_are_made_inside_a_trace():
    found = MEASURES.records(jnp.asarray(LOGITS), {name: jnp.asarray(values) for name, values in batch_of(LABELS).items()})
    np.testing.assert_array_equal(found["prediction"], RECORDS.prediction)
