"""Holds, refuted, inconclusive: on numbers made up for each."""

import math

import numpy as np
import pytest

from benchmarks.claims import verdicts


def test_an_effect_is_the_mean_and_its_standard_error():
    found = verdicts.effect([1.0, 2.0, 3.0, 6.0])
    assert found.mean == 3.0
    assert found.se == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert found.t == pytest.approx(found.mean / found.se)
    assert (found.n, found.positive) == (4, 4)


def test_seeds_that_agree_exactly_are_sure():
    assert verdicts.effect([2.0, 2.0]).t == math.inf
    assert verdicts.effect([-2.0, -2.0]).t == -math.inf
    assert verdicts.effect([0.0, 0.0]).t == 0.0


def test_one_seed_has_no_error():
    with pytest.raises(ValueError, match=r"an effect needs one value of each of at least 2 seeds; got shape \(1,\)"):
        verdicts.effect([1.0])


@pytest.mark.parametrize(
    ("mean", "se", "expected"),
    [
        (3.0, 0.5, "holds"),
        (2.0, 0.5, "holds"),
        (3.0, 1.0, "inconclusive"),  # enough, not sure
        (1.5, 0.2, "inconclusive"),  # sure to be there, too small, and the promise is within reach
        (1.5, 0.1, "refuted"),  # sure to be there, and sure to be less than promised
        (0.0, 0.1, "refuted"),
        (-3.0, 0.5, "refuted"),
        (-3.0, 2.0, "inconclusive"),
        (0.0, 3.0, "inconclusive"),
    ],
)
def test_a_gain_of_two_points(mean, se, expected):
    assert verdicts.gain(verdicts.Effect(mean, se, 8, 8), at_least=2.0, t=4.0) == expected


@pytest.mark.parametrize(
    ("mean", "se", "expected"), [(0.1, 0.05, "holds"), (-0.1, 0.05, "holds"), (0.1, 0.2, "inconclusive"), (1.0, 0.1, "refuted"), (-1.0, 0.1, "refuted")]
)
def test_nothing_within_half_a_point(mean, se, expected):
    assert verdicts.nothing(verdicts.Effect(mean, se, 8, 4), within=0.5, t=4.0) == expected


def test_two_arms_that_differ_by_chance_are_inconclusive_nearly_always():
    draws = np.random.default_rng(0).normal(0, 1, (2000, 8))
    words = [verdicts.gain(verdicts.effect(list(row)), at_least=0.0, t=4.0) for row in draws]
    assert words.count("inconclusive") >= 1980
