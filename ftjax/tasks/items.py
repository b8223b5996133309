"""What a recommender hands to its loss and to evaluation: vectors of histories and of items, never their scores."""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import Array, Float

from ftjax.models.layers import Precision


@dataclasses.dataclass(frozen=True)
class ItemFeatures:
    """What the loss gets: a vector for each place of each history, and the table of items, whose row 0 is padding."""

    hidden: Float[Array, "batch length width"]
    items: Float[Array, "rows width"]
    precision: Precision = "float32"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """What evaluation gets: the score of item i for user u is `users[u] . items[i] + bias[i]`.

    Attributes:
      users: `[batch width]`.
      items: `[1 + items width]`; row i is item i, row 0 is padding and is never recommended.
      bias: `[1 + items]`; None: there is none.
    """

    users: Float[Array, "batch width"]
    items: Float[Array, "rows width"]
    bias: Float[Array, " rows"] | None = None
