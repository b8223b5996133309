"""Token classification: one of `classes` for the first piece of every word, softmax cross-entropy."""

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
from ftjax.tasks.imbalance import focal_factor

NO_LABEL = -100
"""`token_label` of what is not judged: special tokens, padding, and the later pieces of a word."""


@dataclasses.dataclass(frozen=True)
class TokenClassification:
    """One of `classes` (usually BIO tags) per word."""

    classes: tuple[str, ...]
    class_weights: tuple[float, ...] = ()
    """Weight of each class in the loss; none: all 1."""
    log_prior: tuple[float, ...] = ()
    """What is added to the logits in the loss, and only there; none: nothing."""
    focal: bool = False

    output: ClassVar[str] = "tokens"
    views: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise DataError(f"token_classification needs at least two tags; the data have {len(self.classes)}: {', '.join(self.classes) or 'none'}")

    @property
    def outputs(self) -> int:
        """Width of the head."""
        return len(self.classes)

    def loss(self, logits: Float[Array, "batch length classes"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Sum over labelled tokens of `-w_label * f * log softmax(logits + log_prior)_label`, each times the weight of its row.

        Args:
          logits: scores of every class for every token.
          batch: `token_label` int[batch length], -100 where there is none, and `weight` [batch]; other tokens contribute nothing to values or gradients.
          hyper: `focal_gamma` where it is used, traced.

        Returns:
          `(loss_sum, weight_sum, {"token_accuracy": (right, weight_sum)})`, all scalars; `weight_sum` counts labelled tokens, each times its row's weight.
        """
        labelled = (batch["token_label"] != NO_LABEL) & (batch["weight"] > 0)[:, None]
        weight = jnp.where(labelled, batch["weight"][:, None], 0).astype(logits.dtype)
        logits = jnp.where(labelled[:, :, None], logits, 0)
        label = jnp.where(labelled, batch["token_label"], 0)
        shifted = logits + jnp.asarray(self.log_prior, logits.dtype)[None, None, :] if self.log_prior else logits
        right = jnp.take_along_axis(jax.nn.log_softmax(shifted), label[:, :, None], axis=2)[:, :, 0]
        losses = -right
        if self.focal:
            losses = losses * focal_factor(right, hyper["focal_gamma"])
        if self.class_weights:
            losses = losses * jnp.asarray(self.class_weights, logits.dtype)[label]
        hits = (jnp.argmax(logits, axis=2) == label).astype(logits.dtype)
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"token_accuracy": ((hits * weight).sum(), weight_sum)}


def count_tags(token_label: np.ndarray, classes: int, times: np.ndarray | None = None) -> np.ndarray:
    """How many labelled tokens have each class, `[classes]`; with `times`, how often each row is met."""
    labelled = token_label != NO_LABEL
    weights = None if times is None else np.broadcast_to(times[:, None], token_label.shape)[labelled]
    return np.bincount(token_label[labelled], weights, minlength=classes)
