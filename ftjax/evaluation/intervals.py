"""How sure a number measured on a finite test set is.

Proportions (accuracy, top-k) get Wilson's score interval: unlike the bootstrap it is not of width zero when every example is right. All other metrics get the
bootstrap over examples. Differences of two models on the same examples are paired. All of this is about the choice of test examples only:
another training seed may move the result further.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
from scipy import sparse

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation.metric import Metric, Proportion, SumMetric, measurable
from ftjax.evaluation.metrics import all_metrics
from ftjax.evaluation.rank_metrics import RankMetric
from ftjax.evaluation.records import Records, check_labels
from ftjax.evaluation.table import RecordTable

Interval = dict[str, float]
"""`{"value", "low", "high"}`, with low <= value <= high."""

CHUNK_CELLS = 2_000_000
"""Counts drawn at a time: bounds the memory of a bootstrap at some tens of megabytes."""


def intervals(records: Records, num_classes: int, top_k: int, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Every metric with its interval, `{name: {"value", "low", "high"}}`; a pure function of its arguments.

    The rules are those of `metric_intervals`.

    Raises:
      ConfigError: `resamples` or `confidence` out of range.
      DataError: no example, or a label outside `0..num_classes-1`.
    """
    check_labels(records, num_classes)
    return metric_intervals(records, all_metrics(top_k), resamples=resamples, confidence=confidence, seed=seed)


def metric_intervals(records: RecordTable, metrics: Sequence[Metric], *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Each metric with its interval by the rule that it names, those that need logits only where the records have them; a pure function of its arguments.

    - "wilson", of proportions (accuracy, recall at k): Wilson (1927).
    - "percentile": percentile bootstrap over examples (Efron 1979). A class that a resample misses is absent from its averages. So also for metrics of an
      order: simulated with 30, 100 and 500 examples it covered the true AUROC, Pearson and Spearman in 93 to 96 %, average precision in 89 to 93 %.
      Areas of many examples and classes are resampled to first order (`rank_metrics.area_resampler`).
    - "bias_corrected", of macro-F1: bias-corrected percentile bootstrap (Efron 1981), as F1 of few examples is biased downwards: simulated with 50 classes and
      500 examples plain percentiles covered the truth in 82 %, these in 93 %; with rare classes (1 to 20 examples each) in 70 and 86 %.
    - "gap", of ece: from `max(0, 2 value - h)` to `h`, the upper percentile. A resample of a binned gap is biased upwards a second time, and plain percentiles
      miss: simulated with 100 to 2000 examples they covered a true ECE of 0.05 in 5 to 91 %, this in 94 to 96 %; a true ECE of exactly 0 in about 55 %.
    - A value at an end of its metric's range is the same in every resample; Wilson's interval over `metric.trials` stands in, stretched to that range.

    Raises:
      ConfigError: `resamples` or `confidence` out of range.
      DataError: no example, or one that cannot be measured.
    """
    records.check()
    rows = records.drop_padding()
    metrics = measurable(metrics, rows)
    samples = bootstrap(rows, metrics, resamples=resamples, seed=seed)
    found = {}
    for metric in metrics:
        value = metric(rows)
        found[metric.name] = _around(value, _bounds(metric, value, samples[metric.name], metric.trials(rows), confidence))
    return found


def _bounds(metric: Metric, value: float, sample: np.ndarray, trials: int, confidence: float) -> tuple[float, float]:
    """Low and high of one metric, by its rule."""
    if metric.rule == "wilson":
        return wilson(value, trials, confidence)
    if metric.lowest is not None and value in (metric.lowest, 1.0) and np.all(sample == value):
        low, high = wilson(float(value == 1.0), trials, confidence)
        return metric.lowest + (1 - metric.lowest) * low, metric.lowest + (1 - metric.lowest) * high
    if metric.rule == "bias_corrected":
        return bias_corrected(sample, value, confidence)
    low, high = _percentiles(sample, confidence)
    return (max(0.0, 2 * value - high), high) if metric.rule == "gap" else (low, high)


def paired_difference(one: RecordTable, other: RecordTable, metric: Metric, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0) -> Interval:
    """`metric(one) - metric(other)` on the same examples, aligned by id.

    Proportions: the adjusted Wald interval for paired proportions of Bonett and Price (2012, doi:10.3102/1076998611411915), which is honest where few
    examples differ; the bootstrap calls four against none of thirty a difference. Others: percentile bootstrap, both models on the same resamples.

    Raises:
      ConfigError: `resamples` or `confidence` out of range.
      DataError: the two do not hold the same examples with the same labels, each once.
    """
    one, other = _aligned(one, other)
    value = metric(one) - metric(other)
    if isinstance(metric, Proportion):
        hit, other_hit = metric.per_example(one).astype(bool), metric.per_example(other).astype(bool)
        return _around(value, bonett_price(int(np.sum(hit & ~other_hit)), int(np.sum(other_hit & ~hit)), len(one), confidence))
    # The same seed over the same number of rows draws the same resamples on both sides.
    sample, other_sample = (bootstrap(side, [metric], resamples=resamples, seed=seed)[metric.name] for side in (one, other))
    return _around(value, _percentiles(sample - other_sample, confidence))


def wilson(share: float, count: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion `share` of `count` independent trials."""
    z = _quantile(confidence)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def bonett_price(only_one: int, only_other: int, count: int, confidence: float) -> tuple[float, float]:
    """Interval of the difference of two paired proportions, from how often only the one or only the other was right: one is added to each."""
    first, second = (only_one + 1) / (count + 2), (only_other + 1) / (count + 2)
    half = _quantile(confidence) * math.sqrt((first + second - (first - second) ** 2) / (count + 2))
    return max(-1.0, first - second - half), min(1.0, first - second + half)


def bias_corrected(sample: np.ndarray, value: float, confidence: float) -> tuple[float, float]:
    """Percentiles of a bootstrap sample at `Phi(2 z0 -+ z)`, where `Phi(z0)` is the share of the sample below the value: 1/2 without bias."""
    z, normal = _quantile(confidence), statistics.NormalDist()
    share = float(np.mean(sample < value) + np.mean(sample == value) / 2)
    edge = 1 / (2 * len(sample))
    shift = 2 * normal.inv_cdf(min(max(share, edge), 1 - edge))
    low, high = np.percentile(sample, [100 * normal.cdf(shift - z), 100 * normal.cdf(shift + z)])
    return float(low), float(high)


def bootstrap(records: RecordTable, metrics: Sequence[Metric], *, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Each metric, by name, of `resamples` sets of examples drawn with replacement: arrays `[resamples]`.

    A resample is a vector of counts, so the states of all metrics are one product `counts [m n] @ contributions [n state]`, in chunks of bounded size.

    Raises:
      ConfigError: `resamples` is below 1.
      DataError: there is no example.
    """
    if resamples < 1:
        raise ConfigError(f"evaluation.bootstrap is {resamples}; allowed: 1 or more (1000 is usual)")
    rows = records.drop_padding()
    if not len(rows):
        raise DataError("there is no example to resample")
    weight = rows.weight.astype(np.float64)
    sums = [metric for metric in metrics if isinstance(metric, SumMetric)]
    ranks = {metric: metric.resampler(metric.columns(rows)) for metric in metrics if isinstance(metric, RankMetric)}
    parts = [metric.contributions(rows) for metric in sums]
    stacked = sparse.diags_array(weight) @ sparse.hstack(parts, format="csr") if parts else None
    borders = np.cumsum([cast(tuple[int, int], part.shape)[1] for part in parts])[:-1]
    drawn: dict[str, list[np.ndarray]] = {metric.name: [] for metric in metrics}
    for counts in _counts(len(rows), resamples, seed):
        if stacked is not None:
            for metric, states in zip(sums, np.split(counts @ stacked, borders, axis=1)):
                drawn[metric.name].append(metric.compute_many(states))
        for metric, resampled in ranks.items():
            drawn[metric.name].append(resampled(counts * weight))
    return {name: np.concatenate(chunks) for name, chunks in drawn.items()}


def _counts(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of `rows` examples is in each resample, float64 `[chunk rows]` until `resamples` are drawn."""
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK_CELLS // rows)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(0, rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _aligned(one: RecordTable, other: RecordTable) -> tuple[RecordTable, RecordTable]:
    """Both without padding and in the order of ids."""
    one, other = (side.drop_padding() for side in (one, other))
    one, other = (side.take(np.argsort(side.id, kind="stable")) for side in (one, other))
    if any(len(np.unique(side.id)) < len(side) for side in (one, other)):
        raise DataError("a paired difference needs every example once on each side; an id is there twice")
    if not np.array_equal(one.id, other.id):
        differing = np.setxor1d(one.id, other.id)
        raise DataError(
            f"a paired difference needs the same examples on both sides: {len(one)} and {len(other)} given, {len(differing)} of them on one side only"
        )
    if one.truth is not None and other.truth is not None:
        _check_same(one.id, one.truth, other.truth)
    return one, other


def _check_same(ids: np.ndarray, labels: np.ndarray, others: np.ndarray) -> None:
    if labels.shape != others.shape:
        raise DataError(f"a paired difference needs the same labels on both sides; they are {list(labels.shape)} and {list(others.shape)}")
    wrong = np.flatnonzero((labels != others).reshape(len(ids), -1).any(axis=1))
    if len(wrong):
        row = wrong[0]
        raise DataError(f"a paired difference needs the same labels on both sides: example {ids[row]} has {labels[row]} and {others[row]}")


def _percentiles(sample: np.ndarray, confidence: float) -> tuple[float, float]:
    """The central `confidence` of a bootstrap sample."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(sample, [tail, 100 - tail])
    return float(low), float(high)


def _quantile(confidence: float) -> float:
    """The two-sided normal quantile: 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise ConfigError(f"evaluation.confidence is {confidence}; allowed: above 0 and below 1 (0.95 is usual)")
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)


def _around(value: float, bounds: tuple[float, float]) -> Interval:
    """The bounds, widened where needed so that they hold the value: percentiles of a biased metric may leave it out."""
    return {"value": value, "low": min(value, bounds[0]), "high": max(value, bounds[1])}
