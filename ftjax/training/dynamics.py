"""Training dynamics: what the model gave the label of each training example whenever it was trained on it (Swayamdipta et al. 2020, arXiv 2009.10795).

The probabilities are those of the step's own forward pass, before its update, as in the paper's code: augmented, with dropout, at a cost of a few
scatters. Their mean and variance per example are in the state, so checkpoints, meshes and resumed runs know them without another word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ftjax.config import Config
from ftjax.errors import ConfigError

Dynamics = dict[str, Array]
"""`seen` and `right` int32, `mean` and `squares` float32 (sum of squared deviations from the mean), each `[rows]` of the training split."""


def check_dynamics(config: Config) -> None:
    """Refuse to follow examples that training never shows by themselves.

    Raises:
      ConfigError: pictures are mixed; the probability of one of two labels says nothing of either picture.
    """
    mixed = next((name for name in ("mixup", "cutmix") if getattr(config.augment, name)), None)
    if config.train.cartography and mixed is not None:
        raise ConfigError(
            f"train.cartography=True reads off each example's own answers, and augment.{mixed}={getattr(config.augment, mixed)} trains on blends of two; "
            f"allowed: augment.{mixed}=0, or train.cartography=False"
        )


def start_dynamics(rows: int) -> Dynamics:
    """Nothing seen yet."""
    counts = {name: jnp.zeros(rows, jnp.int32) for name in ("seen", "right")}
    return counts | {name: jnp.zeros(rows, jnp.float32) for name in ("mean", "squares")}


def observe(logits: Float[Array, "views*batch classes"], batch: Mapping[str, Array], views: int) -> dict[str, Array]:
    """What the model says of the examples of a batch, or of a part of one.

    Returns:
      `id`, `probability` of the label (softmax of the logits as they are, without class priors; of two views the mean) and `right` (the highest mean
      probability is the label's), each `[batch]`; padding and answers that are not finite have the id -1.
    """
    label, weight = batch["label"], batch["weight"]
    shares = jax.nn.softmax(jax.lax.stop_gradient(logits).astype(jnp.float32)).reshape(views, len(weight), -1).mean(axis=0)
    own = jnp.take_along_axis(shares, jnp.where(weight > 0, label, 0)[:, None], axis=1)[:, 0]
    counted = (weight > 0) & jnp.isfinite(own)
    return {
        "id": jnp.where(counted, batch["id"], -1),
        "probability": jnp.where(counted, own, 0),
        "right": (counted & (shares.argmax(axis=1) == label)).astype(jnp.int32),
    }


def follow(dynamics: Dynamics, seen: Mapping[str, Array]) -> Dynamics:
    """The dynamics after a batch, whose examples may come several times in it.

    Mean and squares of the batch are merged into those before by the exact formula of Chan et al. (1979), so nothing is lost where probabilities are near 1:
    with n times before, k now and the difference d of the means, mean' = mean + d k / (n + k) and squares' = squares + squares_k + d^2 n k / (n + k).
    """
    rows = dynamics["seen"].shape[0]
    # What is out of range is dropped.
    where = jnp.where(seen["id"] < 0, rows, seen["id"]).reshape(-1)
    probability, right = seen["probability"].reshape(-1), seen["right"].reshape(-1)

    def summed(values: Array) -> Array:
        return jnp.zeros(rows, values.dtype).at[where].add(values, mode="drop")

    now = summed(jnp.ones_like(probability))
    mean = summed(probability) / jnp.maximum(now, 1)
    squares = summed((probability - mean.at[where].get(mode="fill", fill_value=0)) ** 2)
    before = dynamics["seen"].astype(jnp.float32)
    share, apart = now / jnp.maximum(before + now, 1), mean - dynamics["mean"]
    return {
        "seen": dynamics["seen"] + now.astype(jnp.int32),
        "right": dynamics["right"] + summed(right),
        "mean": dynamics["mean"] + apart * share,
        "squares": dynamics["squares"] + squares + apart**2 * before * share,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Cartography:
    """The map of a training split: one number of each kind for each row, NaN where a row was never seen.

    Attributes:
      seen: times that it was trained on.
      confidence: mean probability of its label.
      variability: standard deviation of that probability (over the times seen, divided by their number).
      correctness: share of the times at which its label was the answer.
    """

    seen: Int[np.ndarray, " rows"]
    confidence: Float[np.ndarray, " rows"]
    variability: Float[np.ndarray, " rows"]
    correctness: Float[np.ndarray, " rows"]

    def hardest(self, count: int) -> list[int]:
        """The rows with the lowest confidence, the lowest first."""
        return self._first(self.confidence, count)

    def ambiguous(self, count: int) -> list[int]:
        """The rows with the highest variability, the highest first."""
        return self._first(-self.variability, count)

    def _first(self, values: np.ndarray, count: int) -> list[int]:
        order = np.argsort(values, kind="stable")
        return [int(row) for row in order if self.seen[row]][:count]

    def of(self, row: int) -> dict[str, Any]:
        """The numbers of a row for JSON; None where it was never seen."""
        known = bool(self.seen[row])
        values = {name: float(getattr(self, name)[row]) if known else None for name in ("confidence", "variability", "correctness")}
        return {"seen": int(self.seen[row]), **values}


def cartography(dynamics: Mapping[str, Any]) -> Cartography:
    """What the state's `extra["dynamics"]` says, on the host."""
    found = {name: np.asarray(values, np.float64) for name, values in jax.device_get(dict(dynamics)).items()}
    seen = found["seen"]
    times = np.where(seen > 0, seen, np.nan)
    confidence = np.where(seen > 0, found["mean"], np.nan)
    return Cartography(seen.astype(np.int64), confidence, np.sqrt(np.maximum(found["squares"], 0) / times), found["right"] / times)
