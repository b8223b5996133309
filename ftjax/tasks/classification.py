"""Classification: one label per example, softmax cross-entropy with optional label smoothing.

The task gives the gradient of the law its loss, as exact sums: the trainer adds them over micro-batches and devices and divides once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ftjax.errors import DataError

Sums = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]
"""Metrics of a batch as `{name: (sum, weight)}`; sums over batches and devices stay exact."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Exactly one of `classes`; label i means `classes[i]`."""

    classes: tuple[str, ...]
    views: int = 1
    """How often the step shows the model each example; with 2 (R-Drop) the logits of the second dropout mask follow those of the first."""

    output: ClassVar[str] = "sequence"

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"classification needs at least two classes; the data have {len(self.classes)}: {', '.join(self.classes) or 'none'}")

    def loss(self, logits: Float[Array, "batch classes"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> tuple[Array, Array, Sums]:
        """Weighted sum of the examples' losses.

        With smoothing e over K classes (Szegedy et al. 2016, arXiv 1512.00567):
        loss = -sum_k q_k log softmax(logits)_k, q = (1 - e) * onehot(label) + e / K.

        Args:
          logits: scores of every class.
          batch: `label` int[batch] and `weight` float[batch]; a row of weight 0 contributes nothing to values or gradients, whatever it holds.
          hyper: `label_smoothing`, traced.

        Returns:
          `(loss_sum, weight_sum, {"accuracy": (correct_sum, weight_sum)})`, all scalars.
        """
        weight = batch["weight"].astype(logits.dtype)
        counted = weight > 0
        # Clean the inputs, not the result: 0 * NaN would still poison the gradient.
        logits = jnp.where(counted[:, None], logits, 0)
        label = jnp.where(counted, batch["label"], 0)
        log_probability = jax.nn.log_softmax(logits)
        right = jnp.take_along_axis(log_probability, label[:, None], axis=1)[:, 0]
        smoothing = jnp.asarray(hyper["label_smoothing"], logits.dtype)
        losses = -(1 - smoothing) * right - smoothing * log_probability.mean(axis=1)
        correct = (jnp.argmax(logits, axis=1) == label).astype(logits.dtype)
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"accuracy": ((correct * weight).sum(), weight_sum)}


def check_labels(labels: np.ndarray, classes: tuple[str, ...], where: str) -> None:
    """Refuse labels that no class stands for, on the host, before they become a silent NaN on the device.

    Raises:
      DataError: the first rows whose label is not an integer from 0 to the number of classes - 1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{where}: labels must be one integer per example; got {labels.dtype} of shape {labels.shape}")
    bad = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if bad.size:
        rows = ", ".join(f"row {row} has {labels[row]}" for row in bad[:5]) + (f" and {bad.size - 5} more" if bad.size > 5 else "")
        raise DataError(f"{where}: labels must be 0 to {len(classes) - 1} (the classes are {', '.join(classes[:8])}); {rows}")
