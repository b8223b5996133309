"""The confusion matrix and the table of classes equal scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from evaluation_examples import logits_and_labels, records_of
from hypothesis import given, settings
from sklearn import metrics as reference

from ftjax.errors import DataError
from ftjax.evaluation import ClassRow, Records, confusion_matrix, per_class


@settings(deadline=None, max_examples=60)
@given(logits_and_labels())
def test_tables_equal_scikit_learn(example):
    logits, label = example
    classes = logits.shape[1]
    records, prediction = Records.from_logits(logits, label), logits.argmax(axis=1)
    np.testing.assert_array_equal(confusion_matrix(records, classes), reference.confusion_matrix(label, prediction, labels=range(classes)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.precision_recall_fscore_support(label, prediction, labels=range(classes), zero_division=np.nan)
    rows = per_class(records, [str(index) for index in range(classes)])
    got = [[np.nan if value is None else value for value in (row.precision, row.recall, row.f1, row.support)] for row in rows]
    np.testing.assert_allclose(got, np.array(expected).T, rtol=1e-12)


def test_undefined_values_of_a_class_are_none_and_not_zero():
    rows = per_class(records_of([0, 0, 1], [0, 0, 0]), ["cat", "dog", "fox"])
    assert rows == (
        ClassRow("cat", support=2, precision=2 / 3, recall=1.0, f1=0.8),
        ClassRow("dog", support=1, precision=None, recall=0.0, f1=0.0),
        ClassRow("fox", support=0, precision=None, recall=None, f1=None),
    )


def test_a_row_without_a_prediction_is_in_no_column_and_lowers_recall():
    records = records_of([0, 0, 1], [0, -1, 1])
    np.testing.assert_array_equal(confusion_matrix(records, 2), [[1, 0], [0, 1]])
    assert per_class(records, ["a", "b"])[0] == ClassRow("a", support=2, precision=1.0, recall=0.5, f1=2 / 3)


def test_padding_is_in_no_cell():
    np.testing.assert_array_equal(confusion_matrix(records_of([0, 1, 1], [0, 1, 0], weight=[1, 1, 0]), 2), [[1, 0], [0, 1]])


def test_without_a_size_the_matrix_holds_every_class_seen():
    assert confusion_matrix(records_of([0, 1], [3, 1])).shape == (4, 4)


def test_a_label_beyond_the_classes_is_named():
    with pytest.raises(DataError, match=r"^1 examples cannot be measured: label 2 of example 1; allowed: 0 to 1$"):
        confusion_matrix(records_of([0, 2], [0, 1]), 2)
