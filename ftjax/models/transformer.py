"""What the transformers share, of pictures and of text: attention, the two-layer MLP, and how both are cut for tensor parallelism."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from ftjax.models import layers
from ftjax.models.modules import Dense, Drop
from ftjax.models.spec import Compute


class Attention(nn.Module):
    """Multi-head self-attention; `mask` (batch, 1, length or 1, source) allows keys, `rotation` turns queries and keys by their position.

    A `prompt` [n width] gives further keys and values, which all see and no mask hides. With `source` keys and values are made of it, and queries of `x`.
    """

    heads: int
    compute: Compute
    use_bias: bool = True

    @nn.compact
    def __call__(
        self,
        x: Array,
        mask: Array | None = None,
        rotation: tuple[Array, Array] | None = None,
        prompt: Float[Array, "n width"] | None = None,
        source: Array | None = None,
    ) -> Array:
        batch, length, width = x.shape
        source = x if source is None else source
        dense = {name: Dense(width, self.compute, use_bias=self.use_bias, name=name) for name in ("query", "key", "value", "out")}

        def project(name: str, x: Array) -> Array:
            return dense[name](x).reshape(*x.shape[:2], self.heads, width // self.heads)

        query, key, value = project("query", x), project("key", source), project("value", source)
        if rotation is not None:
            query, key = rotate(query, *rotation), rotate(key, *rotation)
        if prompt is not None:
            key, value, mask = preceded(key, value, mask, project("key", prompt[None]), project("value", prompt[None]))
        mixed = layers.attention(query, key, value, self.compute.precision, mask)
        return dense["out"](mixed.reshape(batch, length, width), entered=x)


class Mlp(nn.Module):
    """up, activation, down."""

    hidden: int
    compute: Compute
    activation: str = "gelu"
    dropout: float = 0.0
    """Of the hidden activations."""

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        hidden = layers.ACTIVATIONS[self.activation](Dense(self.hidden, self.compute, name="up")(x), self.compute.precision)
        return Dense(x.shape[-1], self.compute, name="down")(Drop(self.dropout)(hidden, train), entered=x)


def preceded(key: Array, value: Array, mask: Array | None, first_key: Array, first_value: Array) -> tuple[Array, Array, Array | None]:
    """Keys and values `[batch source heads size]` with those of a prompt `[1 n heads size]` before them, and the mask, which hides none of these.

    A prompt that every block has anew needs no more than this: what it would become in the block is thrown away at its end, so its queries and its MLP
    are work for nothing, and its keys and values are the same for every row.
    """
    count = first_key.shape[1]
    first_key, first_value = (jnp.broadcast_to(array, (key.shape[0], *array.shape[1:])) for array in (first_key, first_value))
    seen = None if mask is None else jnp.pad(mask, ((0, 0), (0, 0), (0, 0), (count, 0)), constant_values=True)
    return jnp.concatenate([first_key, key], axis=1), jnp.concatenate([first_value, value], axis=1), seen


def rotate(
    x: Float[Array, "batch length heads width"], cosine: Float[Array, "batch length 1 width"], sine: Float[Array, "batch length 1 width"]
) -> Float[Array, "batch length heads width"]:
    """Rotary positions (Su et al. 2021): the pairs (x[i], x[i + width / 2]) turned by their angle, so that q k depends on the distance alone."""
    one, two = jnp.split(x, 2, axis=-1)
    return x * cosine + jnp.concatenate([-two, one], axis=-1) * sine


def own_positions(mask: Bool[Array, "batch length"]) -> Array:
    """0, 1, 2, ... for the tokens of each text, wherever its padding is; padding has the position of the token before it."""
    return jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)


def partition_spec(path: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """Megatron's split (Shoeybi et al. 2019): outputs of query, key, value and up, inputs of out and down, so a block has two reductions."""
    module, _, name = path.rpartition("/")
    role = module.rpartition("/")[2] if module.startswith("encoder/") else ""
    if role in ("query", "key", "value", "up", "gate"):
        return {"kernel": (None, "tensor"), "bias": ("tensor",)}[name]
    if role in ("out", "down") and name == "kernel":
        return ("tensor", None)
    return (None,) * len(shape)
