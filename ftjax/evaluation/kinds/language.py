"""Measures of models that write: how likely they find the text that was to be learnt, token by token, and which of two answers they prefer.

Records are per example, with its number of learnt tokens: sums over tokens stay exact, and intervals resample examples, as tokens of one are alike. Windows of
one text are one example.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32
from scipy import sparse

from ftjax.evaluation.measures import Measures, Parts
from ftjax.evaluation.metric import Mean, Metric, Proportion, Ratio, SumMetric, ratio
from ftjax.evaluation.records import BAD_LOG_PROBABILITY
from ftjax.evaluation.table import RecordTable
from ftjax.tasks import Preference, reward_margin

if TYPE_CHECKING:
    from ftjax.data import Split

_HIGHEST = 700.0
"""Nats a token whose exponential is still a number."""


_ROUNDING = 1e-5
"""Margins up to this are those of a model that has not moved."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WritingRecords(RecordTable):
    """Per example: learnt tokens, the sum of their `-log p`, how many were the most likely ones, and the bytes that they write.

    `origin` is the number of the text that a window is of; None: they are joined.
    """

    tokens: Float32[np.ndarray, " n"]
    loss: Float32[np.ndarray, " n"]
    right: Float32[np.ndarray, " n"]
    bytes: Float32[np.ndarray, " n"]
    origin: Int32[np.ndarray, " n"] | None = None

    kind: ClassVar[str] = "language_modeling"

    def joined(self) -> WritingRecords:
        """One record of each text, in the order of ids: its windows' sums, under the id of the first of them."""
        if self.origin is None:
            return self
        _, first, text = np.unique(self.origin, return_index=True, return_inverse=True)
        sums = {name: np.bincount(text, getattr(self, name)).astype(np.float32) for name in ("tokens", "loss", "right", "bytes")}
        return WritingRecords(id=self.id[first], weight=self.weight[first], **sums).by_id()

    @property
    def losses(self) -> np.ndarray:
        """Nats a token."""
        return self.loss / np.maximum(self.tokens, 1)

    @property
    def correct(self) -> np.ndarray:
        """Every token was the most likely one."""
        return self.right == self.tokens


@dataclasses.dataclass(frozen=True)
class TextLoss(Ratio):
    """Mean over learnt tokens of `-log p(token)`, in nats."""

    name: ClassVar[str] = "log_loss"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: WritingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Tokens, and the sum over them."""
        return records.tokens, records.loss


@dataclasses.dataclass(frozen=True)
class Perplexity(TextLoss):
    """`exp` of the mean loss: among how many equally likely tokens the model would have had to guess."""

    name: ClassVar[str] = "perplexity"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Of the mean loss, which is kept where a number can hold it."""
        return np.exp(np.minimum(super().compute_many(states), _HIGHEST))


@dataclasses.dataclass(frozen=True)
class NextTokenAccuracy(Ratio):
    """Share of the learnt tokens that were the most likely ones."""

    name: ClassVar[str] = "token_accuracy"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def per_example(self, records: WritingRecords) -> tuple[np.ndarray, np.ndarray]:
        """Tokens, and those that are right."""
        return records.tokens, records.right

    def trials(self, records: WritingRecords) -> int:
        """The tokens."""
        return max(1, int(records.tokens.sum()))


@dataclasses.dataclass(frozen=True)
class BitsPerByte(SumMetric):
    """Loss in bits over the bytes of the learnt text: the one number here that may be compared between tokenizers."""

    name: ClassVar[str] = "bits_per_byte"
    higher_is_better: ClassVar[bool] = False

    def contributions(self, records: WritingRecords) -> sparse.csr_array:
        """(1, bytes, nats)."""
        return sparse.csr_array(np.stack([np.ones(len(records)), records.bytes, records.loss], axis=1).astype(np.float64))

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Nats over ln 2 and bytes."""
        return ratio(states[:, 2], states[:, 1] * math.log(2), 0.0)


@dataclasses.dataclass(frozen=True)
class WritingMeasures(Measures):
    """The next token."""

    table: ClassVar[type[RecordTable]] = WritingRecords
    majority_name: ClassVar[str] = "nothing"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Perplexity first."""
        return (Perplexity(), TextLoss(), NextTokenAccuracy(), BitsPerByte())

    def records(self, outputs: Float[Array, "batch length 2"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Sums over the learnt tokens of each row; a log-probability that is not finite counts as a very bad one."""
        learn = batch["learn"]
        log_probability = jnp.where(jnp.isfinite(outputs[:, :, 0]), jnp.maximum(outputs[:, :, 0], BAD_LOG_PROBABILITY), BAD_LOG_PROBABILITY)
        return {
            "id": batch["id"].astype(jnp.int32),
            "weight": batch["weight"].astype(jnp.float32),
            "tokens": learn.sum(axis=1).astype(jnp.float32),
            "loss": jnp.where(learn, -log_probability, 0).sum(axis=1),
            "right": jnp.where(learn, outputs[:, :, 1] > 0, False).sum(axis=1).astype(jnp.float32),
            "bytes": batch["bytes"].astype(jnp.float32),
            "origin": batch["origin"].astype(jnp.int32),
        }

    def gather(self, parts: Parts, split: Split) -> WritingRecords:
        """Without the outputs, as the sums say all, and with the windows of each text as one."""
        return super().gather([_without_outputs(part) for part in parts], split).joined()

    def rows(self, records: WritingRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "tokens", "perplexity"}`."""
        values = np.exp(np.minimum(records.losses, _HIGHEST))
        return [{"id": split.ids[i], "tokens": int(count), "perplexity": float(value)} for i, count, value in zip(records.id, records.tokens, values)]

    def describe(self, records: WritingRecords, row: int, split: Split) -> dict[str, Any]:
        """How surprised the model was."""
        index, count = int(records.id[row]), int(records.tokens[row])
        note = f"{records.losses[row]:.3g} nats a token, {int(records.right[row])} of {count} tokens right"
        return {"id": split.ids[index], "row": index, "label": f"{count} tokens", "prediction": f"{int(records.right[row])} right", "note": note}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PreferenceRecords(RecordTable):
    """Per pair: the margin of the implicit rewards."""

    margin: Float32[np.ndarray, " n"]

    kind: ClassVar[str] = "preference"

    @property
    def losses(self) -> np.ndarray:
        """The DPO loss without smoothing."""
        return np.logaddexp(0.0, -self.margin.astype(np.float64))

    @property
    def correct(self) -> np.ndarray:
        """The chosen answer gained more than the rejected one, beyond rounding."""
        return self.margin > _ROUNDING


@dataclasses.dataclass(frozen=True)
class RewardAccuracy(Proportion):
    """Share of pairs whose chosen answer gained more, against the model as it came, than the rejected one. Without any training it is 0: nothing gained."""

    name: ClassVar[str] = "reward_accuracy"
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: PreferenceRecords) -> np.ndarray:
        """1 where it did."""
        return records.correct.astype(np.float64)


@dataclasses.dataclass(frozen=True)
class RewardMargin(Mean):
    """Mean margin of the implicit rewards, in nats times beta."""

    name: ClassVar[str] = "reward_margin"
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: PreferenceRecords) -> np.ndarray:
        """The margins."""
        return records.margin


@dataclasses.dataclass(frozen=True)
class PreferenceLoss(Mean):
    """Mean of `-log sigmoid(margin)`; log 2 for the model as it came."""

    name: ClassVar[str] = "log_loss"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: PreferenceRecords) -> np.ndarray:
        """The losses."""
        return records.losses


@dataclasses.dataclass(frozen=True)
class PreferenceMeasures(Measures):
    """The better of two answers."""

    task: Preference

    table: ClassVar[type[RecordTable]] = PreferenceRecords
    majority_name: ClassVar[str] = "nothing"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Accuracy first."""
        return (RewardAccuracy(), RewardMargin(), PreferenceLoss())

    def records(self, outputs: Float[Array, "2*batch length 2"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """The margin of each pair; one that is not finite is as bad as can be."""
        answers = self.task.of_scores(outputs[:, :, 0], jnp.concatenate([batch["learn"], batch["pair_learn"]]))
        margin = reward_margin(answers, batch["reference"], self.task.beta)
        return {
            "id": batch["id"].astype(jnp.int32),
            "weight": batch["weight"].astype(jnp.float32),
            "margin": jnp.where(jnp.isfinite(margin), margin, BAD_LOG_PROBABILITY).astype(jnp.float32),
        }

    def gather(self, parts: Parts, split: Split) -> PreferenceRecords:
        """Without the outputs."""
        return super().gather([_without_outputs(part) for part in parts], split)

    def rows(self, records: PreferenceRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "margin"}`."""
        return [{"id": split.ids[i], "margin": float(margin)} for i, margin in zip(records.id, records.margin)]

    def describe(self, records: PreferenceRecords, row: int, split: Split) -> dict[str, Any]:
        """The margin."""
        index, margin = int(records.id[row]), float(records.margin[row])
        told = "chosen" if margin > _ROUNDING else "rejected"
        return {"id": split.ids[index], "row": index, "label": "chosen", "prediction": told, "note": f"margin {margin:.3g}"}


def _without_outputs(part: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values for name, values in part.items() if name != "logits"}
