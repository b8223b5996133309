"""Recommendation: the next item of a history, or the hidden ones, told from all other items or from a few that are drawn.

Which items are to be found (`target`), and which were drawn against them, is in the batch (`InteractionPreprocessing.training_batch`); here they are scored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ftjax.tasks.classification import Loss
from ftjax.tasks.item_softmax import item_cross_entropy
from ftjax.tasks.items import ItemFeatures

LOSSES = ("cross_entropy", "sampled_softmax", "bce", "gbce", "bpr")


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The next item of a history; `classes` are the ids of the items, item i (from 1) being `classes[i - 1]`."""

    classes: tuple[str, ...]
    learnt_by: str = "cross_entropy"
    """One of `LOSSES`."""
    negatives: int = 1
    """Of each target, or shared by the batch."""
    gbce_t: float = 0.75
    k: tuple[int, ...] = (1, 5, 10, 20)
    """Lengths of the lists that are measured."""
    cold_below: int = 5
    sampled_negatives: int | None = None
    item_chunk: int = 8192
    several: bool = False
    """Whether rows have several items that came next."""

    output: ClassVar[str] = "items"
    views: ClassVar[int] = 1

    @property
    def outputs(self) -> int:
        """The number of items."""
        return len(self.classes)

    def loss(self, outputs: ItemFeatures, batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum over the targets of -log p(target), or of what stands for it; s_i is hidden . item_i.

        cross_entropy: -s_+ + log sum_i exp s_i over all items. sampled_softmax: the same over the target and the drawn items, every score less log q, the
        logarithm of how often its item is drawn (Yi et al. 2019). bce: -log sigma(s_+) - sum_j log sigma(-s_j). gbce: the same with beta log sigma(s_+),
        beta = a (t (1 - 1/a) + 1/a) for a = k / (items - 1) (Petrov and Macdonald 2023). bpr: -mean_j log sigma(s_+ - s_j).

        Args:
          outputs: of a recommender over the batch.
          batch: `target` int `[batch length]`, 0 where nothing is learnt; `weight` [batch]; by loss `negative` int `[batch length k]`, 0: none, or
            `drawn` int `[batch share]` for the whole batch with `drawn_log_q`, `target_log_q` `[batch length]`, and `history` int `[batch events]`.
          hyper: unused.

        Returns:
          `(loss_sum, weight_sum, {})`; `weight_sum` counts targets, each times its row's weight.
        """
        target = batch["target"]
        weight = jnp.where(target > 0, batch["weight"][:, None], 0).astype(outputs.hidden.dtype)
        counted = (weight > 0)[:, :, None]
        hidden = jnp.where(counted, outputs.hidden, 0)
        if self.learnt_by == "cross_entropy":
            table = outputs.items[1 : 1 + len(self.classes)]
            flat = hidden.reshape(-1, hidden.shape[-1])
            return item_cross_entropy(flat, table, target.reshape(-1) - 1, weight.reshape(-1), outputs.precision), weight.sum(), {}
        own = (hidden * jnp.take(outputs.items, target, axis=0)).sum(-1)
        losses = self._sampled(hidden, outputs.items, own, batch) if self.learnt_by == "sampled_softmax" else self._against(hidden, outputs.items, own, batch)
        return jnp.where(counted[:, :, 0], losses * weight, 0).sum(), weight.sum(), {}

    def _against(
        self, hidden: Float[Array, "batch length width"], items: Array, own: Float[Array, "batch length"], batch: Mapping[str, Array]
    ) -> Float[Array, "batch length"]:
        """Each target against negatives of its own."""
        negative = batch["negative"]
        there = negative > 0
        scores = jnp.einsum("blw,blkw->blk", hidden, jnp.take(items, negative, axis=0))
        if self.learnt_by == "bpr":
            count = jnp.maximum(there.sum(-1), 1)
            return jnp.where(there, jax.nn.softplus(scores - own[:, :, None]), 0).sum(-1) / count
        return self._beta() * jax.nn.softplus(-own) + jnp.where(there, jax.nn.softplus(scores), 0).sum(-1)

    def _beta(self) -> float:
        if self.learnt_by != "gbce":
            return 1.0
        share = min(1.0, self.negatives / max(len(self.classes) - 1, 1))
        return share * (self.gbce_t * (1 - 1 / share) + 1 / share)

    def _sampled(
        self, hidden: Float[Array, "batch length width"], items: Array, own: Float[Array, "batch length"], batch: Mapping[str, Array]
    ) -> Float[Array, "batch length"]:
        """Each target against what was drawn for the whole batch, but for what is in the row's own history."""
        counted = jnp.repeat(batch["weight"] > 0, batch["drawn"].shape[1])
        drawn, log_q = batch["drawn"].reshape(-1), batch["drawn_log_q"].reshape(-1)
        allowed = (counted & (drawn > 0))[None, :] & ~_within(drawn, batch["history"])
        scores = jnp.einsum("blw,mw->blm", hidden, jnp.take(items, drawn, axis=0)) - log_q[None, None, :]
        scores = jnp.where(allowed[:, None, :], scores, -jnp.inf)
        own = own - batch["target_log_q"]
        return jax.nn.logsumexp(jnp.concatenate([own[:, :, None], scores], axis=-1), axis=-1) - own


def _within(drawn: Int[Array, " drawn"], history: Int[Array, "batch events"]) -> Bool[Array, "batch drawn"]:
    return (drawn[None, :, None] == history[:, None, :]).any(-1)
