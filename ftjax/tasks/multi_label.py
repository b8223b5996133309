"""Multi-label classification: any number of `classes` per example, one sigmoid cross-entropy for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax.errors import DataError
from ftjax.tasks.classification import Loss
from ftjax.tasks.imbalance import class_weights, focal_factor, log_prior


@dataclasses.dataclass(frozen=True)
class MultiLabel:
    """Each of `classes` is true or not."""

    classes: tuple[str, ...]
    label_weights: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    """Weight in the loss of every class's examples without it, and of those with it; none: all 1."""
    log_odds: tuple[float, ...] = ()
    """What is added to the logits in the loss, and only there; none: nothing."""
    focal: bool = False

    output: ClassVar[str] = "sequence"
    views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.classes:
            raise DataError("multi_label needs at least one label; the data have none")

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)

    def loss(self, logits: Float[Array, "batch classes"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum over examples of the mean over labels of `-w * f * log sigmoid(s * (logit + log_odds))`.

        s is 1 for a label that is true and -1 otherwise, w the label's weight and f the focal factor (1 where off).

        Args:
          logits: log odds of every label.
          batch: `label` [batch classes] of 0 and 1, and `weight` [batch]; a row of weight 0 contributes nothing to values or gradients, whatever it holds.
          hyper: `focal_gamma` where it is used, traced.

        Returns:
          `(loss_sum, weight_sum, {"label_accuracy": (share of right labels, summed, weight_sum)})`, all scalars.
        """
        weight = batch["weight"].astype(logits.dtype)
        counted = weight[:, None] > 0
        logits = jnp.where(counted, logits, 0)
        true = jnp.where(counted, batch["label"], 0) > 0.5
        shifted = logits + jnp.asarray(self.log_odds, logits.dtype)[None, :] if self.log_odds else logits
        log_probability = jax.nn.log_sigmoid(jnp.where(true, shifted, -shifted))
        losses = -log_probability
        if self.focal:
            losses = losses * focal_factor(log_probability, hyper["focal_gamma"])
        if self.label_weights[0]:
            without, having = (jnp.asarray(row, logits.dtype)[None, :] for row in self.label_weights)
            losses = losses * jnp.where(true, having, without)
        right = ((logits > 0) == true).astype(logits.dtype).mean(axis=1)
        weight_sum = weight.sum()
        return (losses.mean(axis=1) * weight).sum(), weight_sum, {"label_accuracy": ((right * weight).sum(), weight_sum)}


def label_weights(imbalance: str, labels: np.ndarray, sampling: np.ndarray | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights of every label's negatives and positives, each label a problem of two classes whose mean weight over the training examples is 1.

    "balanced" is torch's `pos_weight = negatives / positives`, scaled; "sqrt" its root, scaled.

    Args:
      imbalance: "balanced" or "sqrt".
      labels: of training, `[examples classes]` of 0 and 1.
      sampling: how often each example is drawn, relative to the others.
    """
    pairs = [class_weights(imbalance, counts) for counts in _counts(labels, sampling)]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def log_odds(labels: np.ndarray, sampling: np.ndarray | None = None) -> tuple[float, ...]:
    """Log of positives over negatives of every label in training: the two-class form of Menon et al.'s logit adjustment."""
    return tuple(having - without for without, having in (log_prior(counts) for counts in _counts(labels, sampling)))


def _counts(labels: np.ndarray, sampling: np.ndarray | None) -> np.ndarray:
    """Examples without and with each label that an epoch meets, `[classes 2]`."""
    true = np.asarray(labels) > 0.5
    having = np.sum(true, axis=0) if sampling is None else sampling @ true * (len(labels) / np.sum(sampling))
    return np.stack([len(labels) - having, having], axis=1)
