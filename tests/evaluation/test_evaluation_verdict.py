"""The verdict's words, for every case a run can end in."""

from __future__ import annotations

import pytest

from ftjax.evaluation import verdict
from ftjax.evaluation.kinds.regression import RootMeanSquare
from ftjax.evaluation.kinds.tokens import EntityF1

TEST = {"accuracy": {"value": 0.93, "low": 0.9, "high": 0.95}}


def difference(value, low, high):
    return {"difference": {"value": value, "low": low, "high": high}}


BETTER, WORSE, SAME = difference(0.05, 0.02, 0.08), difference(-0.04, -0.07, -0.01), difference(0.01, -0.02, 0.04)
MAJORITY = difference(0.63, 0.58, 0.68)


@pytest.mark.parametrize(
    ("baselines", "text"),
    [
        (
            {"probe": BETTER, "scratch": difference(0.2, 0.15, 0.25)},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, 0.05 (0.02 to 0.08) above the linear probe "
            "and 0.20 (0.15 to 0.25) above the same model from scratch: it was worth it.",
        ),
        (
            {"scratch": BETTER, "probe": SAME, "majority": MAJORITY},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, 0.63 (0.58 to 0.68) above the majority class, "
            "not distinguishable from the linear probe (a difference of +0.01, -0.02 to +0.04) "
            "and 0.05 (0.02 to 0.08) above the same model from scratch: it is not shown to be worth it.",
        ),
        (
            {"probe": WORSE, "scratch": BETTER},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, 0.04 (0.01 to 0.07) below the linear probe "
            "and 0.05 (0.02 to 0.08) above the same model from scratch: it was not worth it, the linear probe did better.",
        ),
        (
            {"probe": WORSE, "scratch": WORSE},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, 0.04 (0.01 to 0.07) below the linear probe "
            "and 0.04 (0.01 to 0.07) below the same model from scratch: it was not worth it, "
            "the linear probe and the same model from scratch did better.",
        ),
        (
            {"majority": MAJORITY},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, 0.63 (0.58 to 0.68) above the majority class: it learnt something. "
            "Neither a linear probe nor the same model from scratch was measured, so whether it was worth it is not known.",
        ),
        (
            {"majority": SAME, "probe": BETTER},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy, not distinguishable from the majority class "
            "(a difference of +0.01, -0.02 to +0.04) and 0.05 (0.02 to 0.08) above the linear probe: it has not been shown to learn anything.",
        ),
        (
            {},
            "Fine-tuning reached 0.93 (0.90 to 0.95) test accuracy. No baseline was measured beside it, so whether it was worth it is not known.",
        ),
    ],
)
def test_the_words(baselines, text):
    assert verdict(TEST, baselines) == text


def test_a_baseline_that_was_not_measured_is_not_spoken_of():
    assert verdict(TEST, {"probe": BETTER, "scratch": {"why": "switched off"}}) == verdict(TEST, {"probe": BETTER})


def test_the_subject_can_be_another():
    assert verdict(TEST, {}, what="Training from scratch").startswith("Training from scratch reached 0.93")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.0, 0.1, "not distinguishable"), (-0.1, 0.0, "not distinguishable"), (1e-9, 0.1, "above"), (-0.1, -1e-9, "below")],
)
def test_an_interval_that_touches_zero_decides_nothing(low, high, words):
    text = verdict(TEST, {"probe": difference((low + high) / 2, low, high)})
    assert [word for word in ("above", "below", "not distinguishable") if word in text] == [words]


def test_numbers_near_nothing_and_near_all_are_not_rounded_away():
    test = {"accuracy": {"value": 0.998, "low": 0.9914, "high": 1.0}}
    text = verdict(test, {"probe": difference(0.012, 0.0004, 0.024)})
    assert text == "Fine-tuning reached 0.998 (0.99 to 1.00) test accuracy, 0.01 (0.0004 to 0.02) above the linear probe: it was worth it."


def test_no_difference_at_all_has_no_sign():
    assert "(a difference of 0.00, -0.06 to +0.06)" in verdict(TEST, {"probe": difference(0.0, -0.06, 0.06)})


def test_another_metric_is_named():
    test = {"entity_f1": {"value": 0.5, "low": 0.45, "high": 0.55}}
    text = verdict(test, {"majority": MAJORITY, "scratch": BETTER}, metric=EntityF1(("O", "B-x")), majority="the most frequent tag")
    assert text == (
        "Fine-tuning reached 0.50 (0.45 to 0.55) test entity F1, 0.63 (0.58 to 0.68) above the most frequent tag "
        "and 0.05 (0.02 to 0.08) above the same model from scratch: it was worth it."
    )


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        (WORSE, "0.04 (0.01 to 0.07) below the linear probe: it was worth it."),
        (BETTER, "0.05 (0.02 to 0.08) above the linear probe: it was not worth it, the linear probe did better."),
        (SAME, "not distinguishable from the linear probe (a difference of +0.01, -0.02 to +0.04): it is not shown to be worth it."),
    ],
)
def test_of_an_error_less_is_better(probe, text):
    test = {"rmse": {"value": 0.93, "low": 0.9, "high": 0.95}}
    assert verdict(test, {"probe": probe}, metric=RootMeanSquare()) == f"Fine-tuning reached 0.93 (0.90 to 0.95) test RMSE (lower is better), {text}"


def test_an_error_that_does_not_beat_the_mean_shows_nothing_learnt():
    test = {"rmse": {"value": 0.93, "low": 0.9, "high": 0.95}}
    text = verdict(test, {"majority": BETTER, "probe": WORSE}, metric=RootMeanSquare(), majority="the mean of the training targets")
    assert text.endswith("above the mean of the training targets and 0.04 (0.01 to 0.07) below the linear probe: it has not been shown to learn anything.")


def test_values_of_a_few_hundredths_keep_four_decimals():
    test = {"accuracy": {"value": 0.0488, "low": 0.0347, "high": 0.0631}}
    told = verdict(test, {"item_knn": {"difference": {"value": 0.0223, "low": 0.0101, "high": 0.0352}}})
    assert told == "Fine-tuning reached 0.0488 (0.0347 to 0.0631) test accuracy, 0.0223 (0.0101 to 0.0352) above item-kNN: it was worth it."
