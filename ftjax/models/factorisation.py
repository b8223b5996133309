"""Matrix factorisation whose user is the sum of what they liked (FISM, Kabbur et al. 2013): new users need nothing but a history.

A user embedding of one's own would know no user who came after training. u_t = t^-alpha sum_{s <= t} p_s, and item j scores u_t . q_j, with a table p for
what was liked and a table q for what is scored.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ftjax.models import catalogue
from ftjax.models.catalogue import Inputs
from ftjax.models.family import Family
from ftjax.models.modules import Drop, Embed, truncated
from ftjax.models.spec import Compute, ModelSpec


class Context(nn.Module):
    """The table p, of what was liked."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, items: Array) -> Array:
        return Embed(catalogue.rows_of(self.spec), self.spec.options["width"], name="context")(items) * catalogue.there(items)


class Scored(nn.Module):
    """The table q, of what is scored; nothing of a history reads it."""

    spec: ModelSpec

    @nn.compact
    def __call__(self) -> Array:
        return self.param("embedding", truncated, (catalogue.rows_of(self.spec), self.spec.options["width"]))


class Factorisation(nn.Module):
    """Histories to a vector for each place, [batch length width]."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        items, options = inputs["items"], self.spec.options
        if self.is_initializing():
            Scored(self.spec, name="item")()
        liked = Drop(self.compute.dropout)(Context(self.spec, name="stem")(items), train)
        count = jnp.maximum(jnp.cumsum(items > 0, axis=1), 1)[:, :, None].astype(liked.dtype)
        return jnp.cumsum(liked, axis=1) * count ** -options["alpha"]


FAMILY = Family(
    name="matrix_factorisation",
    options={"width": 64, "alpha": 0.5, "special": 0},
    module=Factorisation,
    groups=lambda spec: ("stem", "item"),
    check=functools.partial(catalogue.check_options, choices={}, naturals=("width",)),
    example=catalogue.example,
    reads="items",
    head=lambda spec, compute: None,
    items=catalogue.table_of,
)
