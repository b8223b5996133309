"""Two towers: items from what is written about them, users from the items of their history; an item that nobody has touched yet has a vector too.

What a frozen sentence encoder makes of the texts is computed once and kept beside the batch statistics (`item/text`, which never trains). A layer norm, two
dense layers and, with `ids`, a learned vector of the item's own make the item's vector. The user's tower is SASRec's body over those vectors.
Scores are cosines over a temperature.
"""

from __future__ import annotations

from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from ftjax.errors import ConfigError
from ftjax.models import catalogue, layers, sequence
from ftjax.models.catalogue import Inputs
from ftjax.models.family import Family
from ftjax.models.modules import Dense, Embed, LayerNorm
from ftjax.models.spec import Compute, ModelSpec
from ftjax.models.transformer import partition_spec
from ftjax.trees import Tree


class ItemTower(nn.Module):
    """The vectors of all items, [rows width], each of length 1 (padding: 0)."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self) -> Array:
        options, rows = self.spec.options, catalogue.rows_of(self.spec)
        x = jnp.zeros((rows, options["width"]))
        if options["text_width"]:
            text = self.variable("batch_stats", "text", jnp.zeros, (rows, options["text_width"])).value
            hidden = Dense(options["tower"], self.compute, name="up")(LayerNorm(1e-6, self.compute, name="norm")(text))
            x = x + Dense(options["width"], self.compute, name="down")(layers.gelu(hidden, self.compute.precision))
        if options["ids"]:
            x = x + Embed(rows, options["width"], name="ids")(jnp.arange(rows))
        return normalised(x) * (jnp.arange(rows) > 0)[:, None]


def normalised(x: Float[Array, "... width"]) -> Float[Array, "... width"]:
    """x / |x|, and 0 where there is nothing."""
    return x * lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-12))


class TwoTower(nn.Module):
    """Histories to a vector for each place, [batch length width], of length 1 / temperature."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False, head: bool = True) -> Array:
        vectors = jnp.take(ItemTower(self.spec, self.compute, name="item")(), inputs["items"], axis=0, mode="clip")
        users = sequence.body(self.spec, self.compute, vectors, inputs["items"], train)
        return normalised(users) / self.spec.options["temperature"]


def _items(spec: ModelSpec, compute: Compute, params: Tree, extra: Tree) -> Array:
    statistics = {"batch_stats": extra["batch_stats"]["item"]} if extra.get("batch_stats") else {}
    return cast(Array, ItemTower(spec, compute).apply({"params": params["item"], **statistics}))


def _check(spec: ModelSpec) -> None:
    sequence.check(spec)
    catalogue.check_options(spec, {}, ("tower",))
    if not spec.options["temperature"] > 0:
        raise ConfigError(f"two_tower: temperature {spec.options['temperature']} must be positive")
    if not (spec.options["text_width"] or spec.options["ids"]):
        raise ConfigError("two_tower: neither texts nor ids: an item would have no vector; give recommendation.text_encoder, or ids")


FAMILY = Family(
    name="two_tower",
    options={**sequence.DEFAULTS, "text_width": 384, "tower": 256, "ids": False, "temperature": 0.07},
    module=TwoTower,
    groups=sequence.groups,
    check=_check,
    partition_spec=partition_spec,
    example=catalogue.example,
    reads="items",
    head=lambda spec, compute: None,
    alike=True,
    longest=lambda spec: spec.options["positions"],
    items=_items,
)
