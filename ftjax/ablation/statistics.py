"""How sure a comparison of arms is: over seeds, over test examples, over both, and over how many comparisons were made.

A member's metric moves with its seed and with the choice of test examples. An interval over seeds (Student) says what another training would give on these
examples; one over examples (bootstrap) what other examples would say of these trainings; the paired bootstrap over both is what a verdict rests on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats

from ftjax.errors import ConfigError
from ftjax.evaluation import Metric
from ftjax.evaluation.intervals import Interval, bootstrap

Sample = Float[np.ndarray, "seeds resamples"]
"""A metric for each seed (trained once) and each resample of the test examples; resample r is the same examples for everyone."""


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """An arm, measured: a value for each seed, and what resampling the examples makes of it."""

    seeds: tuple[int, ...]
    values: Float[np.ndarray, " seeds"]
    resampled: Sample

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(np.mean(self.values))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One arm against another on the same seeds and examples."""

    one: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    """Of no difference, two-sided, by the bootstrap over seeds and examples."""
    adjusted: float
    """The same after Holm's correction for all comparisons that were made together."""
    seeds: int
    wins: int
    """Seeds on which `one` is better."""

    def to_json(self) -> dict[str, Any]:
        """A value for JSON."""
        return dataclasses.asdict(self)


def measure(records: Mapping[int, Any], metric: Metric, *, resamples: int = 2000, seed: int = 0) -> Measured:
    """A metric of one arm: `records` of the test split by seed. Every arm of one seed of the bootstrap sees the same resamples.

    Raises:
      DataError: there is no example.
    """
    seeds = tuple(sorted(records))
    values = np.array([metric(records[one]) for one in seeds])
    resampled = np.stack([bootstrap(records[one].by_id(), [metric], resamples=resamples, seed=seed)[metric.name] for one in seeds])
    return Measured(seeds, values, resampled)


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean over seeds with Student's interval: mean -+ t(n - 1) s / sqrt(n); one seed has no width that anybody knows, and gets none.

    >>> {key: round(value, 3) for key, value in over_seeds([0.90, 0.92, 0.94]).items()}
    {'value': 0.92, 'low': 0.87, 'high': 0.97}
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"value": mean, "low": mean, "high": mean}
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"value": mean, "low": mean - half, "high": mean + half}


def over_examples(measured: Measured, confidence: float = 0.95) -> Interval:
    """Mean over seeds with the percentile bootstrap over test examples, the seeds as they are."""
    return _percentiles(measured.mean, measured.resampled.mean(axis=0), confidence)


def over_both(measured: Measured, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean over seeds with the bootstrap over seeds and examples."""
    return _percentiles(measured.mean, resampled_mean(measured.values, measured.resampled, seed), confidence)


def resampled_mean(values: Float[np.ndarray, " seeds"], resampled: Sample, seed: int = 0) -> Float[np.ndarray, " resamples"]:
    """The mean over seeds of a crossed bootstrap: resample r draws examples (already done) and, independently, seeds with replacement.

    Seeds are few, and n seeds drawn with replacement vary by (n - 1) / n of what they should (Efron 1982); their deviations from the mean are stretched by
    sqrt(n / (n - 1)).
    """
    count, resamples = resampled.shape
    if count < 2:
        return resampled.mean(axis=0)
    drawn = np.random.default_rng([seed, count]).integers(0, count, (resamples, count))
    mean = resampled.mean(axis=0)
    seeded = np.take_along_axis(resampled.T, drawn, axis=1).mean(axis=1)
    return mean + math.sqrt(count / (count - 1)) * (seeded - mean)


def compare(arms: Mapping[str, Measured], metric: Metric, reference: str, *, confidence: float = 0.95, seed: int = 0) -> list[Comparison]:
    """Every arm against the reference, paired by seed and example, with Holm's correction over all of them.

    Raises:
      ConfigError: no such arm, or an arm without a seed of the reference.
    """
    if reference not in arms:
        raise ConfigError(f"the reference {reference!r} is no arm with a result; there are {', '.join(map(repr, arms))}")
    found = [paired(name, arms[name], reference, arms[reference], metric, confidence=confidence, seed=seed) for name in arms if name != reference]
    adjusted = holm([one.p for one in found])
    return [dataclasses.replace(one, adjusted=p) for one, p in zip(found, adjusted)]


def paired(name: str, one: Measured, other_name: str, other: Measured, metric: Metric, *, confidence: float = 0.95, seed: int = 0) -> Comparison:
    """`one - other` over the seeds that both have.

    Raises:
      ConfigError: they have none in common.
    """
    common = [s for s in one.seeds if s in other.seeds]
    if not common:
        raise ConfigError(f"arms {name!r} and {other_name!r} have no seed in common, so nothing is paired")
    first, second = ([arm.seeds.index(s) for s in common] for arm in (one, other))
    differences = one.values[first] - other.values[second]
    sample = resampled_mean(differences, one.resampled[first] - other.resampled[second], seed)
    value = float(np.mean(differences))
    interval = _percentiles(value, sample, confidence)
    p = p_value(sample)
    wins = int(np.sum(differences > 0 if metric.higher_is_better else differences < 0))
    return Comparison(name, other_name, value, interval["low"], interval["high"], p, p, len(common), wins)


def p_value(sample: Float[np.ndarray, " resamples"]) -> float:
    """Two-sided: twice the smaller share of the sample on one side of zero, with one added to both counts (Davison & Hinkley 1997), so never 0."""
    below, above = int(np.sum(sample <= 0)), int(np.sum(sample >= 0))
    return min(1.0, 2 * (min(below, above) + 1) / (len(sample) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the k-th smallest of m times m - k + 1, made monotone, at most 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _percentiles(value: float, sample: np.ndarray, confidence: float) -> Interval:
    tail = 50 * (1 - confidence)
    low, high = np.percentile(sample, [tail, 100 - tail])
    return {"value": value, "low": min(value, float(low)), "high": max(value, float(high))}
