"""What evaluation remembers of one example: a handful of numbers from which every metric, interval and error list follows.

`records` runs inside the jitted evaluation step, on the device; `Records` is the same on the host, one numpy array per field.
A row whose logits are not all finite never passes for right: see `records`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from ftjax.errors import ConfigError, DataError

FIELDS = ("id", "label", "prediction", "confidence", "label_log_probability", "label_rank", "weight")
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
class Records:
    """The records of many examples on the host, row by row in the order of evaluation. Fields as in `records`."""

    id: Int32[np.ndarray, " n"]
    label: Int32[np.ndarray, " n"]
    prediction: Int32[np.ndarray, " n"]
    confidence: Float32[np.ndarray, " n"]
    label_log_probability: Float32[np.ndarray, " n"]
    label_rank: Int32[np.ndarray, " n"]
    weight: Float32[np.ndarray, " n"]
    logits: Float32[np.ndarray, "n classes"] | None = None

    def __len__(self) -> int:
        return len(self.id)

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: the prediction is the label."""
        return (self.prediction == self.label) & (self.prediction >= 0)

    @property
    def bad(self) -> np.ndarray:
        """Bool `[n]`: the logits were not finite, so there is no prediction."""
        return self.prediction < 0

    def take(self, indices: np.ndarray) -> Records:
        """The rows at `indices` (integers or a mask), in that order."""
        picked = {name: getattr(self, name)[indices] for name in FIELDS}
        return Records(**picked, logits=None if self.logits is None else self.logits[indices])

    def drop_padding(self) -> Records:
        """Without the rows of weight 0."""
        return self if np.all(self.weight > 0) else self.take(self.weight > 0)

    @staticmethod
    def concatenate(parts: Sequence[Records]) -> Records:
        """One after the other; logits are kept where every part has them.

        Raises:
          DataError: there is no part.
        """
        if not parts:
            raise DataError("no records to concatenate: the split gave no batch")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
        logits = [part.logits for part in parts if part.logits is not None]
        return Records(**joined, logits=np.concatenate(logits) if len(logits) == len(parts) else None)

    @staticmethod
    def from_logits(logits: np.ndarray, label: np.ndarray, id: np.ndarray | None = None) -> Records:
        """Records of logits `[n classes]` that are already on the host, each example with weight 1; `id` is the row unless given."""
        rows = np.arange(len(label)) if id is None else id
        batch = {"id": jnp.asarray(rows, jnp.int32), "label": jnp.asarray(label, jnp.int32), "weight": jnp.ones(len(label), jnp.float32)}
        computed = jax.device_get(_on_device(jnp.asarray(logits, jnp.float32), batch))
        return Records(**computed, logits=np.asarray(logits, np.float32))


def write_records(path: Path, value: Records) -> None:
    """Store as `.npz` (one array per field, `logits` where there are any) through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: getattr(value, name) for name in FIELDS} | ({} if value.logits is None else {"logits": value.logits})
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_records(path: Path) -> Records:
    """What `write_records` stored; no pickle is read."""
    with np.load(path, allow_pickle=False) as stored:
        return Records(**{name: stored[name] for name in (*FIELDS, "logits") if name in stored})
