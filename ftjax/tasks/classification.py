"""Classification: one label per example, softmax cross-entropy with optional label smoothing, remedies for rare classes and R-Drop.

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
from ftjax.tasks.imbalance import focal_factor

Sums = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]
"""Metrics of a batch as `{name: (sum, weight)}`; sums over batches and devices stay exact."""

Loss = tuple[Array, Array, Sums]
"""`(loss_sum, weight_sum, sums)`, all scalars."""


@dataclasses.dataclass(frozen=True)
class Classification:
    """Exactly one of `classes`; label i means `classes[i]`."""

    classes: tuple[str, ...]
    views: int = 1
    """How often the step shows the model each example; with 2 (R-Drop) the logits of the second dropout mask follow those of the first."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the loss; none: all 1."""
    log_prior: tuple[float, ...] = ()
    """What is added to the logits in the loss, and only there; none: nothing."""
    focal: bool = False

    output: ClassVar[str] = "sequence"

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"classification needs at least two classes; the data have {len(self.classes)}: {', '.join(self.classes) or 'none'}")

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)

    def loss(self, logits: Float[Array, "views*batch classes"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum of the examples' losses.

        With smoothing e over K classes (Szegedy et al. 2016, arXiv 1512.00567), class weight w, log prior p and focal factor f (1, 0 and 1 where off):
        cross_entropy = -w_label * f * sum_k q_k log softmax(logits + p)_k, q = (1 - e) * onehot(label) + e / K.

        With two views (R-Drop, Liang et al. 2021, arXiv 2106.14448) it is the mean of both views' cross-entropies plus
        r_drop / 2 * (KL(P1 || P2) + KL(P2 || P1)), P the softmax of the logits as they are.

        Where pictures were mixed, each counts as `mix` of its label and `1 - mix` of label_b: the cross-entropies are mixed so, and accuracy counts the label
        with the larger share.

        Args:
          logits: scores of every class, view after view.
          batch: `label` int[batch] and `weight` float[batch]; a row of weight 0 contributes nothing to values or gradients, whatever it holds. With mixing
            also `label_b` and `mix` float[batch] in 0..1.
          hyper: `label_smoothing`, and where they are used `focal_gamma` and `r_drop`, all traced.

        Returns:
          `(loss_sum, weight_sum, {"accuracy": (correct_sum, weight_sum)})`, all scalars; class weights are not in `weight_sum`, as their mean is 1.
        """
        weight = batch["weight"].astype(logits.dtype)
        counted = weight > 0
        # Clean the inputs, not the result: 0 * NaN would still poison the gradient.
        views = jnp.where(counted[None, :, None], logits.reshape(self.views, len(weight), -1), 0)
        of_views = [self._mixed(view, batch, counted, hyper) for view in views]
        losses = sum(loss for loss, _ in of_views) / self.views
        correct = sum(hit for _, hit in of_views) / self.views
        if self.views == 2:
            losses = losses + jnp.asarray(hyper["r_drop"], logits.dtype) / 2 * _divergence(views[0], views[1])
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"accuracy": ((correct * weight).sum(), weight_sum)}

    def _mixed(self, logits: Float[Array, "batch classes"], batch: Mapping[str, Array], counted: Array, hyper: Mapping[str, Any]) -> tuple[Array, Array]:
        """Each example's loss and hit, of both labels where there are two."""
        loss, hit = self._cross_entropy(logits, jnp.where(counted, batch["label"], 0), hyper)
        if "mix" not in batch:
            return loss, hit
        other_loss, other_hit = self._cross_entropy(logits, jnp.where(counted, batch["label_b"], 0), hyper)
        share = jnp.where(counted, batch["mix"], 1).astype(logits.dtype)
        return share * loss + (1 - share) * other_loss, jnp.where(share >= 0.5, hit, other_hit)

    def _cross_entropy(self, logits: Float[Array, "batch classes"], label: Array, hyper: Mapping[str, Any]) -> tuple[Array, Array]:
        """Each example's loss, and 1 where the highest logit is the label's."""
        shifted = logits + jnp.asarray(self.log_prior, logits.dtype)[None, :] if self.log_prior else logits
        log_probability = jax.nn.log_softmax(shifted)
        right = jnp.take_along_axis(log_probability, label[:, None], axis=1)[:, 0]
        smoothing = jnp.asarray(hyper["label_smoothing"], logits.dtype)
        losses = -(1 - smoothing) * right - smoothing * log_probability.mean(axis=1)
        if self.focal:
            losses = losses * focal_factor(right, hyper["focal_gamma"])
        if self.class_weights:
            losses = losses * jnp.asarray(self.class_weights, logits.dtype)[label]
        return losses, (jnp.argmax(logits, axis=1) == label).astype(logits.dtype)


def _divergence(one: Float[Array, "batch classes"], other: Float[Array, "batch classes"]) -> Float[Array, " batch"]:
    """KL(one || other) + KL(other || one) of the softmaxes."""
    first, second = jax.nn.log_softmax(one), jax.nn.log_softmax(other)
    return ((jnp.exp(first) - jnp.exp(second)) * (first - second)).sum(axis=1)


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
