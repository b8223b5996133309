"""The next token's log-probability over a large vocabulary, a piece of the text at a time: `[tokens vocabulary]` is never held.

Each piece's logits are made from the body's features, reduced to one number a token, and made again in the backward pass (`jax.checkpoint`). Pieces are cut
along the length, so a batch that is spread over devices stays spread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

Head = Callable[[Float[Array, "batch length width"]], Float[Array, "batch length vocabulary"]]


@dataclasses.dataclass(frozen=True)
class Features:
    """What a task gets of a model whose logits are too many to hold: the last features, and the function that makes logits of a piece of them."""

    hidden: Float[Array, "batch length width"]
    head: Head

    def of_rows(self, weight: Float[Array, " batch"]) -> Features:
        """The same with zeros in the rows of weight 0, which may hold anything; `weight` is repeated where there are several texts a row."""
        counted = jnp.tile(weight > 0, self.hidden.shape[0] // weight.shape[0])
        return Features(jnp.where(counted[:, None, None], self.hidden, 0), self.head)


class Scores(NamedTuple):
    """Of every place of a batch, float32 or wider, `[batch length]`; zeros where there is nothing to predict."""

    log_probability: Float[Array, "batch length"]
    """Of the token at this place, given those before it in its document."""
    best: Float[Array, "batch length"]
    """1 where no other token is more likely."""
    log_normalizer: Float[Array, "batch length"]
    """log sum exp of the logits that predict this place."""


def predicted(document: Int[Array, "batch length"]) -> Bool[Array, "batch length"]:
    """The places whose token is predicted from the one before: not the first of a document, not padding."""
    before = jnp.pad(document[:, :-1], ((0, 0), (1, 0)))
    return (document > 0) & (document == before)


def token_scores(features: Features, tokens: Int[Array, "batch length"], document: Int[Array, "batch length"], chunk: int) -> Scores:
    """How likely every token is, given those before it.

    Args:
      features: of a causal model over `tokens`; the logits of place t predict place t + 1.
      tokens: ids.
      document: 0 for padding, else the number of the document in its row.
      chunk: tokens whose logits are held at once, at least one for each row of the batch. Static.
    """
    rows, length = tokens.shape
    size = min(max(1, chunk // rows), length)
    pieces = -(-length // size)
    # The logits of place t - 1 belong to place t: features move one to the right, so that scores lie where their token does.
    hidden = jnp.pad(features.hidden[:, :-1], ((0, 0), (1, 0), (0, 0)))

    @jax.checkpoint
    def of_piece(piece: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        here, ids = piece
        logits = features.head(here)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        normalizer = jax.nn.logsumexp(logits, axis=-1)
        own = jnp.take_along_axis(logits, ids[:, :, None], axis=2)[:, :, 0]
        return own - normalizer, (own >= logits.max(axis=-1)).astype(normalizer.dtype), normalizer

    if pieces == 1:
        found = of_piece((hidden, tokens))
    else:
        found = jax.lax.map(of_piece, (_cut(hidden, pieces, size), _cut(tokens, pieces, size)))
        found = tuple(jnp.moveaxis(part, 0, 1).reshape(rows, pieces * size)[:, :length] for part in found)
    counted = predicted(document)
    return Scores(*(jnp.where(counted, part, 0) for part in found))


def _cut(array: Array, pieces: int, size: int) -> Array:
    """`[batch length ...] -> [pieces batch size ...]`, filled up with zeros."""
    filled = jnp.pad(array, [(0, 0), (0, pieces * size - array.shape[1])] + [(0, 0)] * (array.ndim - 2))
    return jnp.moveaxis(filled.reshape(array.shape[0], pieces, size, *array.shape[2:]), 1, 0)
