"""Sentence embedding: texts that belong together come to lie close, those of other rows of the batch far (InfoNCE).

The other rows of the batch are the negatives, so a batch is one whole: computed in parts it would be another loss.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ftjax.tasks.classification import Loss


@dataclasses.dataclass(frozen=True)
class SentenceEmbedding:
    """Vectors whose cosine says how close two texts are."""

    classes: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[str] = "embedding"
    outputs: ClassVar[int] = 0
    """There is no head: vectors are as wide as the model."""
    views: ClassVar[int] = 1

    def loss(self, vectors: Float[Array, "2*batch width"], batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum of the mean of both directions' cross-entropies (van den Oord et al. 2018, arXiv 1807.03748; symmetric as in Radford et al. 2021).

        With s_ij = cos(anchor_i, positive_j) / temperature:
        loss_i = -(s_ii - log sum_j exp s_ij) / 2 - (s_ii - log sum_j exp s_ji) / 2, where j runs over i and all rows of another group.

        Args:
          vectors: of the anchors, then of their positives.
          batch: `label` int[batch], the group: rows of one number are no negatives of each other; `weight` [batch]: a row of weight 0 contributes nothing to
            values or gradients, whatever it holds, and is nobody's negative.
          hyper: `temperature`, traced.

        Returns:
          `(loss_sum, weight_sum, {"in_batch_accuracy": (anchors whose own positive is the nearest, summed, weight_sum)})`, all scalars.
        """
        weight = batch["weight"].astype(vectors.dtype)
        counted = weight > 0
        # Ones, not zeros: the norm has no gradient at the origin.
        cleaned = jnp.where(counted[None, :, None], vectors.reshape(2, len(weight), -1), 1)
        anchors, positives = (normalised(side) for side in cleaned)
        scores = anchors @ positives.T / jnp.asarray(hyper["temperature"], vectors.dtype)
        same = batch["label"][:, None] == batch["label"][None, :]
        itself = jnp.eye(len(weight), dtype=bool)
        allowed = itself | (~same & counted[None, :] & counted[:, None])
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min / 4)
        own = jnp.diagonal(scores)
        losses = (jax.nn.logsumexp(scores, axis=1) + jax.nn.logsumexp(scores, axis=0)) / 2 - own
        nearest = (own >= scores.max(axis=1)).astype(vectors.dtype)
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"in_batch_accuracy": ((nearest * weight).sum(), weight_sum)}


def normalised(vectors: Float[Array, "batch width"]) -> Float[Array, "batch width"]:
    """Each vector over its length, or over 1e-12 where it is shorter, as torch does."""
    squares = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, 1e-24))
