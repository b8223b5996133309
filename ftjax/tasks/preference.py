"""Preference: of two answers to one prompt the better one, learnt without a reward model (DPO, Rafailov et al. 2023, arXiv 2305.18290).

The reference is the model as it came. Its log-probabilities never change, so they are worked out once before training and come with the batch
(`reference`): there is no second model in the step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ftjax.tasks.chunked import Features, token_scores
from ftjax.tasks.classification import Loss


@dataclasses.dataclass(frozen=True)
class Preference:
    """Chosen over rejected."""

    chunk: int = 2048
    """Tokens whose logits are held at once."""
    length_normalised: bool = False
    """Log-probabilities of answers are means over their tokens, not sums: longer answers weigh no more."""
    beta: float = 0.1
    """At which answers are judged; training reads the traced one."""

    classes: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[str] = "language"
    outputs: ClassVar[int] = 0
    """The head is the vocabulary's."""
    views: ClassVar[int] = 1

    def loss(self, outputs: Features, batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum of `-(1 - e) log sigmoid(m) - e log sigmoid(-m)`, e the label smoothing (Mitchell 2023), with the margin of implicit rewards

        m = beta * ((log p(chosen) - log p0(chosen)) - (log p(rejected) - log p0(rejected))).

        Args:
          outputs: of a causal model over the chosen answers of the batch and then the rejected ones, `[2*batch length]`.
          batch: `tokens`, `document`, `learn` and the same with `pair_` of the rejected answers `[batch length]`; `reference` float32 [batch 2], log p0;
            `weight` [batch]: a row of weight 0 contributes nothing to values or gradients, whatever it holds.
          hyper: `beta` and `label_smoothing`, traced.

        Returns:
          `(loss_sum, weight_sum, {"reward_accuracy": ..., "reward_margin": ...})`, all scalars.
        """
        answers = self.answers(outputs, batch)
        weight = batch["weight"].astype(answers.dtype)
        counted = weight > 0
        margin = jnp.where(counted, reward_margin(answers, batch["reference"], hyper["beta"]), 0)
        smoothing = jnp.asarray(hyper["label_smoothing"], answers.dtype)
        losses = -(1 - smoothing) * jax.nn.log_sigmoid(margin) - smoothing * jax.nn.log_sigmoid(-margin)
        weight_sum = weight.sum()
        hits = (margin > 0).astype(answers.dtype)
        sums = {"reward_accuracy": ((hits * weight).sum(), weight_sum), "reward_margin": ((margin * weight).sum(), weight_sum)}
        return (losses * weight).sum(), weight_sum, sums

    def answers(self, outputs: Features, batch: Mapping[str, Array]) -> Float[Array, "batch 2"]:
        """Log-probability of the chosen and of the rejected answer: sums over the learnt tokens, or means."""
        both = {name: jnp.concatenate([batch[name], batch[f"pair_{name}"]]) for name in ("tokens", "document", "learn")}
        scores = token_scores(outputs.of_rows(batch["weight"]), both["tokens"], both["document"], self.chunk)
        return self.of_scores(scores.log_probability, both["learn"])

    def of_scores(self, log_probability: Float[Array, "2*batch length"], learn: Array) -> Float[Array, "batch 2"]:
        """The same from the log-probability of every token."""
        total = jnp.where(learn, log_probability, 0).sum(axis=1)
        if self.length_normalised:
            total = total / jnp.maximum(learn.sum(axis=1), 1).astype(total.dtype)
        return total.reshape(2, -1).T


def reward_margin(answers: Float[Array, "batch 2"], reference: Float[Array, "batch 2"], beta: Any) -> Float[Array, " batch"]:
    """How much more the model prefers the chosen answer than the reference did, times beta."""
    gained = answers - reference.astype(answers.dtype)
    return jnp.asarray(beta, answers.dtype) * (gained[:, 0] - gained[:, 1])
