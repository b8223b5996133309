"""Extractive question answering: the first and the last token of the answer, or token 0 twice where a window of the text does not hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ftjax.tasks.classification import Loss


@dataclasses.dataclass(frozen=True)
class QuestionAnswering:
    """The answer is a span of the context."""

    max_answer_length: int = 30
    """Tokens of the longest answer that is given."""
    unanswerable: bool = False
    """Whether some questions of training have no answer; otherwise an answer is always given."""

    classes: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[str] = "tokens"
    outputs: ClassVar[int] = 2
    views: ClassVar[int] = 1

    def loss(self, logits: Float[Array, "batch length 2"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum of the mean of two cross-entropies, of the first and of the last token of the answer, each over the tokens of the window.

        Args:
          logits: scores of each token as the first and as the last one.
          batch: `label` int[batch 2], `mask` bool[batch length] (True: a token) and `weight` [batch]; a row of weight 0 contributes nothing to values or
            gradients, whatever it holds.
          hyper: not read.

        Returns:
          `(loss_sum, weight_sum, {"span_accuracy": (both ends right, weight_sum)})`, all scalars.
        """
        weight = batch["weight"].astype(logits.dtype)
        counted = weight > 0
        label = jnp.where(counted[:, None], batch["label"], 0)
        scores = token_scores(logits, batch["mask"] & counted[:, None])
        log_probability = jax.nn.log_softmax(scores, axis=1)
        right = jnp.take_along_axis(log_probability, label[:, None, :], axis=1)[:, 0, :]
        losses = jnp.where(counted, -right.mean(axis=1), 0)
        hits = (jnp.argmax(scores, axis=1) == label).all(axis=1).astype(logits.dtype)
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"span_accuracy": ((hits * weight).sum(), weight_sum)}


def token_scores(logits: Float[Array, "batch length 2"], mask: Bool[Array, "batch length"]) -> Float[Array, "batch length 2"]:
    """The scores, with a very low but finite one where there is no token, so that neither a softmax nor its gradient meets an infinity."""
    return jnp.where(mask[:, :, None], logits, jnp.finfo(logits.dtype).min / 4)


def answered(labels: Int[np.ndarray, "rows 2"]) -> Bool[np.ndarray, " rows"]:
    """Which windows hold the answer: not those whose label is (0, 0)."""
    return (labels != 0).any(axis=1)
