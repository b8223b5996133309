"""Measures of recommendation: where the item that came next stands among all items, and what is recommended.

`records` ranks on the device, chunk by chunk; how popular items are and what users know comes from the split afterwards.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax.errors import DataError
from ftjax.evaluation.measures import Baseline, Measures, Parts
from ftjax.evaluation.metric import Metric
from ftjax.evaluation.ranking import RecommendationRecords, main_k, metrics_of, of_histories, ranked, ranked_among
from ftjax.evaluation.ranking.metrics import hits, ndcg
from ftjax.evaluation.ranking.neighbours import item_knn, most_popular
from ftjax.evaluation.table import RecordTable

if TYPE_CHECKING:
    from ftjax.data import Split

POPULARITY = (0, 1, 5, 20, 100, 500)
"""Borders of the bins in which the hit rate is shown: training events of the target."""
_SHOWN = 5


class Candidates(Protocol):
    """What a model gives for a batch of users: their vectors, and the table of all items that they are multiplied with; row i is item i."""

    users: Float[Array, "batch width"]
    items: Float[Array, "rows width"]
    bias: Float[Array, " rows"] | None


@dataclasses.dataclass(frozen=True)
class RecommendationMeasures(Measures):
    """The next item of a user, among all."""

    items: int
    k: tuple[int, ...] = (1, 5, 10, 20)
    cold_below: int = 5
    sampled: int | None = None
    chunk: int = 8192
    several: bool = False

    table: ClassVar[type[RecordTable]] = RecommendationRecords
    majority_name: ClassVar[str] = "the most popular items"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """NDCG first."""
        return metrics_of(self.k, items=self.items, cold_below=self.cold_below, sampled=self.sampled, several=self.several)

    def records(self, outputs: Candidates, batch: Mapping[str, Array]) -> dict[str, Array]:
        """Places of the targets and the best items."""
        targets = batch.get("targets", batch["label"][:, None])
        if self.sampled is None:
            found = ranked(outputs.users, outputs.items, batch["seen"], targets, items=self.items, k=self.k[-1], chunk=self.chunk, bias=outputs.bias)
        else:
            found = ranked_among(outputs.users, outputs.items, targets, batch["negatives"], k=self.k[-1], bias=outputs.bias)
        kept = {"id": batch["id"].astype(jnp.int32), "weight": batch["weight"].astype(jnp.float32), "label": batch["label"].astype(jnp.int32)}
        return {**kept, "ranks": found.ranks, "items": found.items, "scores": found.scores.astype(jnp.float32)}

    def gather(self, parts: Parts, split: Split) -> RecommendationRecords:
        """The records of all users, with what the split knows of their items."""
        if not parts:
            raise DataError("no records to concatenate: the split gave no batch")
        real = {name: np.concatenate([part[name][part["weight"] > 0] for part in parts]) for name in parts[0]}
        return RecommendationRecords(**real, **of_histories(real, split)).by_id()

    def rows(self, records: RecommendationRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "items": [{"item", "score"}, ...]}`, the best first."""
        ids = _catalogue(split).ids
        lists = zip(records.id, records.items, records.scores)
        return [
            {"id": split.ids[row], "items": [{"item": ids[item - 1], "score": float(score)} for item, score in zip(items, scores) if item > 0]}
            for row, items, scores in lists
        ]

    def describe(self, records: RecommendationRecords, row: int, split: Split) -> dict[str, Any]:
        """Where the next item stood, and what was recommended."""
        name, index, place = _catalogue(split).name, int(records.id[row]), int(records.best[row])
        listed = [name(int(item)) for item in records.items[row][:_SHOWN] if item > 0]
        target = name(int(records.label[row]))
        told = {"label": target, "prediction": listed[0] if listed else None, "rank": place, "recommended": listed}
        return {"id": split.ids[index], "row": index, **told, "target_events": int(records.label_count[row])}

    def errors(self, records: RecommendationRecords, split: Split, count: int) -> list[dict[str, Any]]:
        """Users of all kinds, those for whom it went best first: the same share of each part of the order by rank."""
        order = np.lexsort((records.id, records.best))
        chosen = order[np.unique(np.linspace(0, len(order) - 1, min(count, len(order))).astype(int))] if len(order) else order
        return [self.describe(records, int(row), split) for row in chosen]

    def tables(self, records: RecommendationRecords) -> dict[str, Any]:
        """Curves over the length of the list, and hits by the popularity of what was to be found."""
        longest, main = self.k[-1], main_k(self.k)
        lengths = list(range(1, longest + 1))
        curves = {"k": lengths, "hr": [float(hits(records.ranks, k).mean()) for k in lengths], "ndcg": [float(ndcg(records.ranks, k).mean()) for k in lengths]}
        found, edges = hits(records.ranks, main), (*POPULARITY, np.inf)
        bins = []
        for low, high in itertools.pairwise(edges):
            here = (records.label_count >= low) & (records.label_count < high)
            share = float(found[here].mean()) if here.any() else None
            bins.append({"from": low, "to": None if high == np.inf else high - 1, "users": int(here.sum()), "hit_rate": share})
        return {"recommendation": {"k": main, "sampled": self.sampled, "curves": curves, "popularity": bins, "items": self.items}}

    def majority(self, train: Split, test: Split) -> Baseline | None:
        """The items with the most training events."""
        return None if self.sampled is not None else Baseline(most_popular(train, test, self.k[-1]), "the same for everybody: the items with the most events")

    def neighbours(self, train: Split, test: Split) -> Baseline | None:
        """Items that go together."""
        return None if self.sampled is not None else Baseline(item_knn(train, test, self.k[-1]), "items that the same users had: cosine of their users")


def _catalogue(split: Split) -> Any:
    assert split.histories is not None, "rows of interactions have histories"
    return split.histories.catalogue
