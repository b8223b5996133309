"""Measures of sentence embeddings: how well an anchor finds its positive among those of the whole split.

Similarity is the cosine, rounded to six digits so that equal texts tie whatever the order of a sum; ties count against the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from ftjax.errors import DataError
from ftjax.evaluation.measures import Measures, Parts
from ftjax.evaluation.metric import Mean, Metric, Proportion
from ftjax.evaluation.table import RecordTable
from ftjax.tasks.sentence_embedding import normalised

if TYPE_CHECKING:
    from ftjax.data import Split

DEPTH = 10
"""Places of the list that nDCG looks at."""
NO_RANK = -1
_CELLS = 4_000_000
"""Similarities that are held at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingRecords(RecordTable):
    """Per anchor: how many wrong texts are at least as near as its nearest right one, nDCG, the nearest text of all (a row), its cosine, and the vector.

    `label` is the group: rows of one number are right for each other. Without positives `rank` is -1.
    """

    label: Int32[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    ndcg: Float32[np.ndarray, " n"]
    nearest: Int32[np.ndarray, " n"]
    similarity: Float32[np.ndarray, " n"]
    vector: Float32[np.ndarray, "n width"]

    kind: ClassVar[str] = "sentence_embedding"

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: a right text is nearer than every wrong one."""
        return self.rank == 0

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: the rank."""
        return self.rank.astype(np.float64)

    def check(self) -> None:
        """Refuse vectors that had nothing to be compared with."""
        if np.any(self.rank < 0):
            raise DataError(f"{int(np.sum(self.rank < 0))} examples cannot be measured: they have no positive")


@dataclasses.dataclass(frozen=True)
class RecallAt(Proportion):
    """Share of anchors with a right text among the `k` nearest."""

    k: int
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: EmbeddingRecords) -> np.ndarray:
        """1 where there is one."""
        return records.rank < self.k


@dataclasses.dataclass(frozen=True)
class RecallAt1(RecallAt):
    """Recall among the nearest."""

    k: int = 1
    name: ClassVar[str] = "recall_at_1"


@dataclasses.dataclass(frozen=True)
class RecallAt5(RecallAt):
    """Recall among the five nearest."""

    k: int = 5
    name: ClassVar[str] = "recall_at_5"


@dataclasses.dataclass(frozen=True)
class RecallAt10(RecallAt):
    """Recall among the ten nearest."""

    k: int = 10
    name: ClassVar[str] = "recall_at_10"


@dataclasses.dataclass(frozen=True)
class MeanReciprocalRank(Mean):
    """Mean over anchors of 1 / (place of the nearest right text, from 1)."""

    name: ClassVar[str] = "mrr"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def per_example(self, records: EmbeddingRecords) -> np.ndarray:
        """1 / place."""
        return 1 / (records.rank + 1.0)


@dataclasses.dataclass(frozen=True)
class NormalisedGain(Mean):
    """nDCG at 10: `sum 1 / log2(place + 1)` over the right texts among the ten nearest, divided by what the best order would have."""

    name: ClassVar[str] = "ndcg_at_10"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def per_example(self, records: EmbeddingRecords) -> np.ndarray:
        """Each anchor's."""
        return records.ndcg


@dataclasses.dataclass(frozen=True)
class EmbeddingMeasures(Measures):
    """A vector per text."""

    table: ClassVar[type[RecordTable]] = EmbeddingRecords

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Recall at 1 first."""
        return (RecallAt1(), RecallAt5(), RecallAt10(), MeanReciprocalRank(), NormalisedGain())

    def records(self, outputs: Float[Array, "_ width"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Vectors of length 1 of the anchors and, where the batch has them, of their positives; a vector that is not finite is zero, and near to nothing."""
        outputs = outputs.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(outputs), axis=1, keepdims=True)
        vectors = normalised(jnp.where(finite, outputs, 0.0))
        rows = batch["id"].shape[0]
        found = {"id": batch["id"].astype(jnp.int32), "weight": batch["weight"].astype(jnp.float32), "label": batch["label"].astype(jnp.int32)}
        return found | {"vector": vectors[:rows]} | ({"positive": vectors[rows:]} if len(vectors) > rows else {})

    def gather(self, parts: Parts, split: Split) -> EmbeddingRecords:
        """Every anchor among the positives of all parts."""
        if not parts:
            raise DataError("no records to concatenate: the split gave no batch")
        names = ("id", "weight", "label", "vector", *(("positive",) if "positive" in parts[0] else ()))
        joined = {name: np.concatenate([part[name][part["weight"] > 0] for part in parts]) for name in names}
        order = np.argsort(joined["id"], kind="stable")
        joined = {name: values[order] for name, values in joined.items()}
        positives = joined.pop("positive", None)
        return EmbeddingRecords(**joined, **_retrieved(joined["vector"], positives, joined["label"], joined["id"])).by_id()

    def rows(self, records: EmbeddingRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "vector"}`, the vector of length 1."""
        return [{"id": split.ids[index], "vector": vector.tolist()} for index, vector in zip(records.id, records.vector)]

    def describe(self, records: EmbeddingRecords, row: int, split: Split) -> dict[str, Any]:
        """Where the right text stands, and the text that was nearest."""
        index, place = int(records.id[row]), int(records.rank[row]) + 1
        retrieved = split.show(int(records.nearest[row])).get("text_pair")
        told = {"label": "rank 1", "prediction": f"rank {place}", "note": f"its partner is at rank {place}", "confidence": float(records.similarity[row])}
        return {"id": split.ids[index], "row": index} | told | ({} if retrieved is None else {"retrieved": retrieved})


def _retrieved(anchors: np.ndarray, positives: np.ndarray | None, group: np.ndarray, ids: np.ndarray) -> dict[str, np.ndarray]:
    """rank, ndcg, nearest and similarity of every anchor among all positives."""
    count = len(anchors)
    if positives is None:
        alone = {"rank": np.full(count, NO_RANK, np.int32), "nearest": np.full(count, -1, np.int32)}
        return alone | {name: np.zeros(count, np.float32) for name in ("ndcg", "similarity")}
    chunk = max(1, _CELLS // max(1, count))
    found = [_ranked(anchors[start : start + chunk], positives, group[start : start + chunk], group) for start in range(0, count, chunk)]
    rank, ndcg, nearest, similarity = (np.concatenate(side) for side in zip(*found))
    return {"rank": rank.astype(np.int32), "ndcg": ndcg.astype(np.float32), "nearest": ids[nearest], "similarity": similarity.astype(np.float32)}


def _ranked(anchors: np.ndarray, positives: np.ndarray, own: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, ...]:
    """As `_retrieved`, of some anchors.

    The place of the m-th best right text is m plus the wrong ones that are at least as near, so nothing has to be sorted but the best right ones.
    """
    scores = np.round(anchors.astype(np.float64) @ positives.astype(np.float64).T, 6)
    right = own[:, None] == group[None, :]
    hits = right.sum(axis=1)
    most = min(int(hits.max()), DEPTH)
    best = -np.sort(-np.where(right, scores, -np.inf), axis=1)[:, :most] if most > 1 else np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    wrong = np.where(right, -np.inf, scores)
    gain, ideal, rank = np.zeros(len(anchors)), np.zeros(len(anchors)), np.zeros(len(anchors), np.int64)
    for m in range(most):
        there = hits > m
        place = m + (wrong >= best[:, m : m + 1]).sum(axis=1)
        rank = place if m == 0 else rank
        gain += np.where(there & (place < DEPTH), 1 / np.log2(place + 2), 0.0)
        ideal += np.where(there, 1 / np.log2(m + 2), 0.0)
    nearest = np.where(scores >= scores.max(axis=1, keepdims=True), ~right + 1, 0).argmax(axis=1)
    return rank, gain / ideal, nearest, scores[np.arange(len(anchors)), nearest]
