"""Attention that looks back: grouped queries, soft caps, norms of queries and keys, and the cache that generation fills."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Int

from ftjax.models import layers
from ftjax.models.modules import Dense, RmsNorm
from ftjax.models.spec import Compute
from ftjax.models.transformer import preceded, rotate

Rotation = tuple[Array, Array] | None
"""Cosine and sine by position; None: positions are learned."""


class CausalAttention(nn.Module):
    """Each of `kv_heads` keys and values serves `heads / kv_heads` queries (Ainslie et al. 2023).

    Where the variables have a collection "cache", keys and values are written into it from place `start` on, and all that it holds are read.
    `prompt` is (tokens [1 n width], their rotation) of what stands before every text.
    """

    options: Any
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, mask: Array | None, rotation: Rotation, start: Array | None = None, prompt: tuple[Array, Rotation] | None = None) -> Array:
        options, (batch, length, width) = self.options, x.shape
        size, heads = options["head_size"], {"query": options["heads"], "key": options["kv_heads"], "value": options["kv_heads"]}
        dense = {name: Dense(count * size, self.compute, use_bias=options["qkv_bias"], name=name) for name, count in heads.items()}
        norms = {name: RmsNorm(options["epsilon"], _offset(options), name=f"{name}_norm") for name in ("query", "key")} if options["qk_norm"] else {}

        def project(name: str, x: Array, rotation: Rotation) -> Array:
            y = dense[name](x).reshape(*x.shape[:2], heads[name], size)
            y = norms[name](y) if name in norms else y
            return y if rotation is None or name == "value" else rotate(y, *rotation)

        query, key, value = (project(name, x, rotation) for name in heads)
        if start is not None:
            key, value = self._remember("keys", key, start), self._remember("values", value, start)
        if prompt is not None:
            key, value, mask = preceded(key, value, mask, project("key", *prompt), project("value", *prompt))
        mixed = self._mix(query, key, value, mask)
        return Dense(width, self.compute, use_bias=options["out_bias"], name="out")(mixed.reshape(batch, length, -1), entered=x)

    def _remember(self, name: str, new: Array, start: Array) -> Array:
        """Write into the cache, and give all of it."""
        cache = self.variable("cache", name, lambda: new)
        cache.value = lax.dynamic_update_slice(cache.value, new, (0, start, 0, 0))
        return cache.value

    def _mix(self, query: Array, key: Array, value: Array, mask: Array | None) -> Array:
        options = self.options
        if options["query_scale"]:  # Attention divides by the square root of the size: what is wanted instead comes before it.
            query = query * (options["query_scale"] * options["head_size"] ** 0.5)
        groups = options["heads"] // options["kv_heads"]
        if groups > 1:
            key, value = jnp.repeat(key, groups, axis=2), jnp.repeat(value, groups, axis=2)
        if options["attention_cap"]:
            return layers.capped_attention(query, key, value, options["attention_cap"], mask)
        return layers.attention(query, key, value, self.compute.precision, mask)


def _offset(options: Any) -> float:
    return 1.0 if options["norm"] == "rms_one" else 0.0


def places(document: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """0, 1, 2, ... for the tokens of each document, wherever in its row it begins; padding (document 0) counts for itself."""
    index = jnp.broadcast_to(jnp.arange(document.shape[1], dtype=jnp.int32)[None, :], document.shape)
    before = jnp.pad(document[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    return index - lax.cummax(jnp.where(document != before, index, 0), axis=1)


def looks_back(document: Int[Array, "batch source"], start: Array | int, length: int, window: int) -> Bool[Array, "batch 1 length source"]:
    """Which of all keys the `length` queries from place `start` on see: those of their own document that are not ahead and fewer than `window` behind.

    Padding is a document like the others, so no query is without a key and nothing of padding is seen by a text. `window` 0: there is none.
    """
    keys = jnp.arange(document.shape[1], dtype=jnp.int32)[None, :]
    queries = jnp.arange(length, dtype=jnp.int32)[:, None] + start
    behind = queries - keys
    near = (behind >= 0) & (behind < window) if window else behind >= 0
    own = lax.dynamic_slice_in_dim(document, start, length, axis=1)
    return ((own[:, :, None] == document[:, None, :]) & near[None])[:, None]
