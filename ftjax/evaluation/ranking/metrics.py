"""Metrics of recommended lists. With r_t the place of target t of a user among all items that the user does not know, from 1:

    HR@k     = 1 where some r_t <= k                                 (recall@k, where there is one target)
    recall@k = #{t: r_t <= k} / #targets
    NDCG@k   = sum_{r_t <= k} 1 / log2(r_t + 1)  /  sum_{i <= min(k, #targets)} 1 / log2(i + 1)
    MAP@k    = sum_{r_t <= k} #{s: r_s <= r_t} / r_t  /  min(k, #targets)
    MRR      = 1 / min_t r_t, without a cut

Each is a mean over users. What is said of lists (coverage, novelty, popularity) depends on what is recommended alone.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from ftjax.evaluation.metric import Mean, Metric, Proportion, SumMetric, ratio
from ftjax.evaluation.rank_metrics import RankMetric, Resampler
from ftjax.evaluation.ranking.records import RecommendationRecords


def hits(ranks: np.ndarray, k: int) -> np.ndarray:
    """1 where a target is among the first k, `[n targets] -> [n]`."""
    return ((ranks > 0) & (ranks <= k)).any(axis=1)


def recall(ranks: np.ndarray, k: int) -> np.ndarray:
    """Share of each user's targets among the first k."""
    return ((ranks > 0) & (ranks <= k)).sum(axis=1) / np.maximum((ranks > 0).sum(axis=1), 1)


def ndcg(ranks: np.ndarray, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain (Järvelin & Kekäläinen 2002) with gains of 0 and 1."""
    found = (ranks > 0) & (ranks <= k)
    gain = np.where(found, 1 / np.log2(np.where(found, ranks, 1) + 1.0), 0.0).sum(axis=1)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2.0))])
    return gain / ideal[np.clip((ranks > 0).sum(axis=1), 1, k)]


def average_precision(ranks: np.ndarray, k: int) -> np.ndarray:
    """Mean over the targets of the precision at their place, 0 for those behind k; over min(k, targets), as in the Million Song Dataset Challenge."""
    found = (ranks > 0) & (ranks <= k)
    places = np.sort(np.where(found, ranks, np.iinfo(np.int32).max), axis=1)
    precision = np.where(np.sort(~found, axis=1), 0.0, np.arange(1, ranks.shape[1] + 1) / places)
    return precision.sum(axis=1) / np.clip((ranks > 0).sum(axis=1), 1, k)


@dataclasses.dataclass(frozen=True)
class _Named:
    """A metric that is called after its k, and after what makes it another metric than the one everybody means: a sample, a slice."""

    k: int
    after: str = ""
    """`_sampled_99`, of a ranking among a sample."""

    base: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    @property
    def name(self) -> str:
        """`ndcg_at_10`."""
        return f"{self.base}_at_{self.k}{self.after}"


class HitRate(_Named, Proportion):  # pyrefly: ignore
    """Share of users with a target among the first k."""

    base = "hr"

    def per_example(self, records: RecommendationRecords) -> np.ndarray:
        """1 where there is one."""
        return hits(records.ranks, self.k)


class Recall(_Named, Mean):  # pyrefly: ignore
    """Share of the targets among the first k."""

    base = "recall"

    def per_example(self, records: RecommendationRecords) -> np.ndarray:
        """Each user's."""
        return recall(records.ranks, self.k)


class Gain(_Named, Mean):  # pyrefly: ignore
    """NDCG."""

    base = "ndcg"

    def per_example(self, records: RecommendationRecords) -> np.ndarray:
        """Each user's."""
        return ndcg(records.ranks, self.k)


class AveragePrecision(_Named, Mean):  # pyrefly: ignore
    """MAP."""

    base = "map"

    def per_example(self, records: RecommendationRecords) -> np.ndarray:
        """Each user's."""
        return average_precision(records.ranks, self.k)


@dataclasses.dataclass(frozen=True)
class ReciprocalRank(Mean):
    """Mean of 1 / (place of the first target), whatever the place."""

    after: str = ""
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    @property
    def name(self) -> str:  # pyrefly: ignore
        """`mrr`."""
        return f"mrr{self.after}"

    def per_example(self, records: RecommendationRecords) -> np.ndarray:
        """1 / place."""
        return 1.0 / records.best


@dataclasses.dataclass(frozen=True)
class _Quotient(SumMetric):
    """A sum over another, of users of whom perhaps none has a part in either; state (users, denominator, numerator). 0 where the denominator is."""

    @abc.abstractmethod
    def per_example(self, records: RecommendationRecords) -> tuple[np.ndarray, np.ndarray]:
        """Denominators and numerators, `[n]` each."""

    def contributions(self, records: RecommendationRecords) -> sparse.csr_array:
        """(1, denominator, numerator)."""
        return sparse.csr_array(np.stack([np.ones(len(records)), *self.per_example(records)], axis=1).astype(np.float64))

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Numerator over denominator."""
        return ratio(states[:, 2], states[:, 1], 0.0)


@dataclasses.dataclass(frozen=True)
class _Slice(_Quotient):
    """A metric of the users whose next item is cold: it has fewer than `cold_below` training events. 0 where there is no such user."""

    k: int
    cold_below: int
    after: str = ""
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0
    base: ClassVar[str]

    @property
    def name(self) -> str:  # pyrefly: ignore
        """`cold_hr_at_10`."""
        return f"cold_{self.base}_at_{self.k}{self.after}"

    def per_example(self, records: RecommendationRecords) -> tuple[np.ndarray, np.ndarray]:
        """Whether the user is of the slice, and the metric there."""
        cold = records.label_count < self.cold_below
        return cold.astype(np.float64), np.where(cold, self.of_ranks(records.ranks), 0.0)

    def of_ranks(self, ranks: np.ndarray) -> np.ndarray:
        """The metric of each user."""
        raise NotImplementedError

    def trials(self, records: RecommendationRecords) -> int:
        """Users of the slice."""
        return max(1, int(np.sum(records.label_count < self.cold_below)))


class ColdHitRate(_Slice):
    """HR of the cold slice."""

    base = "hr"

    def of_ranks(self, ranks: np.ndarray) -> np.ndarray:
        """1 where a target is among the first k."""
        return hits(ranks, self.k)


class ColdGain(_Slice):
    """NDCG of the cold slice."""

    base = "ndcg"

    def of_ranks(self, ranks: np.ndarray) -> np.ndarray:
        """Each user's."""
        return ndcg(ranks, self.k)


@dataclasses.dataclass(frozen=True)
class Coverage(_Named, RankMetric):  # pyrefly: ignore
    """Share of all items that are among the first k of some user.

    It is a property of these users and no average over them: a resample has fewer different users and so always fewer items, so there is no interval.
    """

    total: int = 1
    base: ClassVar[str] = "coverage"

    def columns(self, records: RecommendationRecords) -> np.ndarray:
        """The recommended items."""
        return records.items[:, : self.k].astype(np.float64)

    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Different items over all."""
        return np.array([len(np.unique(columns[row > 0][columns[row > 0] > 0])) / self.total for row in weights])

    def resampler(self, columns: np.ndarray) -> Resampler:
        """Its value, whatever the weights."""
        value = self.compute_many(columns, np.ones((1, len(columns))))
        return lambda weights: np.broadcast_to(value, len(weights))


@dataclasses.dataclass(frozen=True)
class Novelty(_Named, _Quotient):  # pyrefly: ignore
    """Mean self-information of what is recommended, -log2 p(item) bits with p = (training events of the item + 1) / (all + items) (Zhou et al. 2010)."""

    base: ClassVar[str] = "novelty"
    lowest: ClassVar[float | None] = None

    def per_example(self, records: RecommendationRecords) -> tuple[np.ndarray, np.ndarray]:
        """Length of the list, and its bits."""
        there = records.items[:, : self.k] > 0
        return there.sum(axis=1).astype(np.float64), np.where(there, records.bits[:, : self.k], 0.0).sum(axis=1)


@dataclasses.dataclass(frozen=True)
class PopularityRatio(_Named, _Quotient):  # pyrefly: ignore
    """Mean popularity (training events) of what is recommended over that of what the users had: above 1 popular items are pushed (Abdollahpouri 2019)."""

    base: ClassVar[str] = "popularity_ratio"
    higher_is_better: ClassVar[bool] = False
    lowest: ClassVar[float | None] = None

    def per_example(self, records: RecommendationRecords) -> tuple[np.ndarray, np.ndarray]:
        """Popularity of the history and of the list, each the mean over its items."""
        there = records.items[:, : self.k] > 0
        listed = np.where(there, records.counts[:, : self.k], 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        return records.known_count.astype(np.float64), listed.astype(np.float64)


def main_k(k: tuple[int, ...]) -> int:
    """The length that stands for all: the largest up to 10."""
    return max((one for one in k if one <= 10), default=k[0])


def metrics_of(k: tuple[int, ...], *, items: int, cold_below: int, sampled: int | None, several: bool) -> tuple[Metric, ...]:
    """The metrics of a run, the main one first: NDCG at 10, or at the largest k up to 10.

    Args:
      k: lengths of lists, ascending.
      items: how many there are.
      cold_below: training events from which on an item is not cold.
      sampled: how many negatives each target is ranked among; None: all items.
      several: whether users have several targets.
    """
    main = main_k(k)
    after = "" if sampled is None else f"_sampled_{sampled}"
    found: list[Any] = [Gain(main, after), *(HitRate(one, after) for one in k)]
    found += [Gain(one, after) for one in k if one not in (1, main)]
    found += [Recall(one, after) for one in k] if several else []
    found += [AveragePrecision(main, after), ReciprocalRank(after), ColdHitRate(main, cold_below, after), ColdGain(main, cold_below, after)]
    if sampled is None:
        # Lists made of a sample say nothing of what would be recommended.
        found += [Coverage(main, total=items), Novelty(main), PopularityRatio(main)]
    return tuple(found)
