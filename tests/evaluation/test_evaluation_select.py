"""The examples that a person is shown are the right ones, in an order that does not depend on the evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_examples import records_of

from ftjax.evaluation import Records, least_certain, worst_errors

RECORDS = records_of(
    label=[0, 0, 1, 1, 0, 1], prediction=[1, 0, 0, 1, -1, 0], confidence=[0.9, 0.99, 0.95, 0.51, 1.0, 0.9], weight=[1, 1, 1, 1, 1, 1], id=[5, 4, 3, 2, 1, 0]
)


def test_the_surest_mistakes_come_first_and_ties_go_by_id():
    assert RECORDS.id[worst_errors(RECORDS, 10)].tolist() == [1, 3, 0, 5]


def test_the_least_certain_come_first_and_have_a_prediction():
    assert RECORDS.id[least_certain(RECORDS, 10)].tolist() == [2, 0, 5, 3, 4]


def test_no_more_than_asked_for():
    assert RECORDS.id[worst_errors(RECORDS, 2)].tolist() == [1, 3]
    assert RECORDS.id[least_certain(RECORDS, 1)].tolist() == [2]
    assert worst_errors(RECORDS, 0).tolist() == []


def test_no_mistakes_no_errors():
    assert worst_errors(records_of([0, 1], [0, 1]), 5).tolist() == []


@pytest.mark.parametrize("select", [worst_errors, least_certain])
def test_the_order_of_evaluation_does_not_matter(select):
    shuffled = RECORDS.take(np.random.default_rng(0).permutation(6))
    assert shuffled.id[select(shuffled, 4)].tolist() == RECORDS.id[select(RECORDS, 4)].tolist()


@pytest.mark.parametrize("select", [worst_errors, least_certain])
def test_padding_is_never_shown(select):
    padded = Records.concatenate([records_of([0], [1], confidence=[0.0], weight=[0], id=[9]), RECORDS])
    assert padded.id[select(padded, 10)].tolist() == RECORDS.id[select(RECORDS, 10)].tolist()
