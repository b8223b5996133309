"""Language modelling: the next token, where the data say that it is to be learnt (`learn`), by softmax cross-entropy.

What is learnt is said by place, never by token: the end of text is learnt also where it is the padding token. The loss of a batch is the sum over learnt tokens
divided by their number, so micro-batches, devices and packing change nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from ftjax.tasks.chunked import Features, token_scores
from ftjax.tasks.classification import Loss


@dataclasses.dataclass(frozen=True)
class LanguageModeling:
    """The next token of a text, or of the answers in it."""

    chunk: int = 2048
    """Tokens whose logits are held at once."""
    z_loss: bool = False
    """Whether the logits' normaliser is kept near 1."""

    classes: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[str] = "language"
    outputs: ClassVar[int] = 0
    """The head is the vocabulary's."""
    views: ClassVar[int] = 1

    def loss(self, outputs: Features, batch: Mapping[str, Array], hyper: Mapping[str, Any]) -> Loss:
        """Weighted sum over the learnt tokens of `-log p(token | those before it)`, plus `z_loss * log(Z)^2` (PaLM, Chowdhery et al. 2022, section 5).

        Args:
          outputs: of a causal model over the batch.
          batch: `tokens`, `document`, `learn` (bool: this token is to be predicted) `[batch length]`, and `weight` [batch]; a row of weight 0 contributes
            nothing to values or gradients, whatever it holds.
          hyper: `z_loss` where it is used, traced.

        Returns:
          `(loss_sum, weight_sum, {"token_accuracy": (the most likely token is right, weight_sum)})`, all scalars; `weight_sum` counts learnt tokens, each
          times its row's weight.
        """
        scores = token_scores(outputs.of_rows(batch["weight"]), batch["tokens"], batch["document"], self.chunk)
        dtype = scores.log_probability.dtype
        counted = batch["learn"] & (batch["weight"] > 0)[:, None]
        weight = jnp.where(counted, batch["weight"][:, None], 0).astype(dtype)
        losses = -scores.log_probability
        if self.z_loss:
            losses = losses + jnp.asarray(hyper["z_loss"], dtype) * scores.log_normalizer**2
        losses = jnp.where(counted, losses, 0)
        weight_sum = weight.sum()
        return (losses * weight).sum(), weight_sum, {"token_accuracy": ((scores.best * weight).sum(), weight_sum)}
