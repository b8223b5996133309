"""What evaluation remembers of one example of classification: a handful of numbers from which every metric, interval and error list follows.

`records` runs inside the jitted evaluation step, on the device; `Records` is the same on the host, one numpy array per field.
A row whose logits are not all finite never passes for right: see `records`. What all tasks' records share is `table.py`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from ftjax.errors import ConfigError, DataError
from ftjax.evaluation.table import RecordTable

NO_PREDICTION = -1
BAD_LOG_PROBABILITY = math.log(float(np.finfo(np.float32).tiny))
"""What a row without a prediction gives its label: the smallest normal float32. Finite, so that a failed run can still be written as JSON."""


def records(logits: Float[Array, "batch classes"], batch: Mapping[str, Array], top_k: int = 1) -> dict[str, Array]:
    """One example's numbers from its logits; pure and jittable.

    - `prediction` int32: argmax, the lowest class on ties. `confidence` f32: its softmax probability.
    - `label_log_probability` f32: log softmax at the label, in nats.
    - `label_rank` int32: how many *other* classes score at least as high as the label. Ties count against the label, so constant logits
      never look like a hit, and top-1 accuracy is at most accuracy.
    - A row with a NaN or an infinity among its logits is flagged by `prediction` -1 and counts as wrong everywhere: `label_rank` is the number of
      classes, `confidence` 1 (sure and wrong, so that neither ECE nor the list of worst errors overlooks it), `label_log_probability` about -87.3.
    - A label outside `0..classes-1` (an example without a label) has `label_log_probability` NaN and `label_rank` the number of classes; metrics refuse it.

    Args:
      logits: scores before the softmax; computed in float32 whatever their type.
      batch: `id`, `label` and `weight`, each `[batch]`; a weight of 0 marks padding.
      top_k: the k that will be asked for; ranks are complete, so it is only checked here, before the evaluation and not after it.

    Raises:
      ConfigError: `top_k` is below 1.
    """
    check_top_k(top_k)
    logits = logits.astype(jnp.float32)
    classes = logits.shape[-1]
    finite = jnp.all(jnp.isfinite(logits), axis=-1)
    scores = jnp.where(finite[:, None], logits, 0.0)
    log_probability = jax.nn.log_softmax(scores, axis=-1)
    label = batch["label"].astype(jnp.int32)
    known = (label >= 0) & (label < classes)
    own = jnp.where(known, label, 0)[:, None]
    own_log_probability = jnp.maximum(jnp.take_along_axis(log_probability, own, axis=-1)[:, 0], jnp.finfo(jnp.float32).min)
    rank = jnp.sum(scores >= jnp.take_along_axis(scores, own, axis=-1), axis=-1, dtype=jnp.int32) - 1
    return {
        "id": batch["id"].astype(jnp.int32),
        "label": label,
        "prediction": jnp.where(finite, jnp.argmax(scores, axis=-1), NO_PREDICTION).astype(jnp.int32),
        "confidence": jnp.where(finite, jnp.exp(jnp.max(log_probability, axis=-1)), 1.0),
        "label_log_probability": jnp.where(known, jnp.where(finite, own_log_probability, BAD_LOG_PROBABILITY), jnp.nan),
        "label_rank": jnp.where(finite & known, rank, classes),
        "weight": batch["weight"].astype(jnp.float32),
    }


_on_device = jax.jit(records)


def check_top_k(top_k: int) -> None:
    """Refuse a `k` that no example could satisfy.

    Raises:
      ConfigError: `top_k` is below 1.
    """
    if top_k < 1:
        raise ConfigError(f"evaluation.top_k is {top_k}; allowed: 1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Records(RecordTable):
    """The records of many examples on the host, row by row in the order of evaluation. Fields as in `records`."""

    label: Int32[np.ndarray, " n"]
    prediction: Int32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    label_log_probability: Float32[np.ndarray, " n"]
    label_rank: Int32[np.ndarray, " n"]

    kind: ClassVar[str] = "classification"

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: the prediction is the label."""
        return (self.prediction == self.label) & (self.prediction >= 0)

    @property
    def bad(self) -> np.ndarray:
        """Bool `[n]`: the logits were not finite, so there is no prediction."""
        return self.prediction < 0

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: -log p(label)."""
        return -self.label_log_probability

    def check(self) -> None:
        """Refuse examples without a label."""
        check_labels(self)

    @staticmethod
    def from_logits(logits: np.ndarray, label: np.ndarray, id: np.ndarray | None = None) -> Records:
        """Records of logits `[n classes]` that are already on the host, each example with weight 1; `id` is the row unless given."""
        rows = np.arange(len(label)) if id is None else id
        batch = {"id": jnp.asarray(rows, jnp.int32), "label": jnp.asarray(label, jnp.int32), "weight": jnp.ones(len(label), jnp.float32)}
        computed = jax.device_get(_on_device(jnp.asarray(logits, jnp.float32), batch))
        return Records(**computed, logits=np.asarray(logits, np.float32))


def check_labels(records: Records, num_classes: int | None = None) -> None:
    """Refuse examples without a label, or with one that the model has no class for; padding is not looked at.

    Raises:
      DataError: naming the first such example.
    """
    limit = np.iinfo(np.int32).max if num_classes is None else num_classes
    wrong = np.flatnonzero((records.weight > 0) & ((records.label < 0) | (records.label >= limit)))
    if len(wrong):
        allowed = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        first = wrong[0]
        raise DataError(f"{len(wrong)} examples cannot be measured: label {records.label[first]} of example {records.id[first]}; allowed: {allowed}")
