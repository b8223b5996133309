"""What the text encoders share: the options of their ends, noise on embeddings, pooling and the head.

What comes out is the option `output`: "sequence", one vector of logits for a text; "tokens", one for each token; "embedding", the pooled vector.
A text may be padded on either side: positions are counted from the mask, and the first token is the first that the mask allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models import layers
from ftjax.models.modules import Dense, Drop, LayerNorm, affine
from ftjax.models.spec import Compute, ModelSpec, Option

OUTPUTS = ("sequence", "tokens", "embedding")
POOLS = ("pooler", "first", "mean")
"""What stands for a whole text: BERT's pooler (a dense layer and tanh on the first token), the first token itself, or the mean over tokens."""
HEADS = ("linear", "tanh", "relu")
"""A linear head, or one with a dense layer of the model's width and an activation before it: tanh is RoBERTa's, relu DistilBERT's."""


class Head(nn.Module):
    """Features to logits: perhaps a dense layer with activation (and norm), then a linear one; dropout before each linear map."""

    classes: int
    compute: Compute
    activation: str = "linear"
    use_bias: bool = True
    """Of the dense layer."""
    epsilon: float | None = None
    """Of a norm without bias after the activation; None: no norm."""
    linear_bias: bool = True
    """Of the linear layer."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        drop = Drop(self.compute.dropout)
        if self.activation != "linear":
            x = Dense(x.shape[-1], self.compute, use_bias=self.use_bias, name="dense")(drop(x, train))
            x = layers.ACTIVATIONS[self.activation](x, self.compute.precision)
        if self.epsilon is not None:
            x = LayerNorm(self.epsilon, self.compute, use_bias=False, name="norm")(x)
        return affine(self, Drop(self.compute.dropout)(x, train), self.classes, self.compute, use_bias=self.linear_bias)


class Pooler(nn.Module):
    """tanh(x kernel + bias) on the first token's vector (Devlin et al. 2019)."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return jnp.tanh(affine(self, x, x.shape[-1], self.compute))


def first(x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]) -> Float[Array, "batch width"]:
    """The vector of each text's first token, which stands behind the padding where that is on the left."""
    return jnp.take_along_axis(x, jnp.argmax(mask, axis=1)[:, None, None], axis=1)[:, 0]


def mean(x: Float[Array, "batch length width"], mask: Bool[Array, "batch length"]) -> Float[Array, "batch width"]:
    """The mean over each text's tokens; 0 for a text without any."""
    weights = mask.astype(x.dtype) / jnp.maximum(mask.sum(1, keepdims=True), 1).astype(x.dtype)
    return (x * weights[:, :, None]).sum(1)


def noise(key: Array, words: Float[Array, "batch length width"], text: Bool[Array, "batch length"] | Int[Array, "batch length"], alpha: float) -> Array:
    """NEFTune (Jain et al. 2023): uniform between plus and minus alpha / sqrt(tokens * width), with the tokens of the text that each token is of.

    Args:
      key: of what is drawn.
      words: the embeddings, for their shape.
      text: which text of its row a token is of, 1, 2, ..., 0 where there is none; a mask, where rows hold one.
      alpha: how loud.
    """
    sizes = jax.vmap(lambda row: jnp.bincount(row, length=row.shape[0] + 1)[row])(text.astype(jnp.int32))
    tokens = jnp.maximum(sizes, 1).astype(words.dtype)[:, :, None]
    return jax.random.uniform(key, words.shape, words.dtype, -1, 1) * (alpha * jax.lax.rsqrt(tokens * words.shape[-1]))


def example(_: ModelSpec) -> dict[str, Array]:
    """One text of two tokens."""
    return {"tokens": jnp.zeros((1, 2), jnp.int32), "mask": jnp.ones((1, 2), bool), "segments": jnp.zeros((1, 2), jnp.int32)}


def check_length(tokens: Array, most: int) -> None:
    """Refuse texts that are longer than the model has positions; a larger position would silently be the last one.

    Raises:
      ConfigError: there are too many tokens.
    """
    if tokens.shape[1] > most:
        raise ConfigError(f"text.max_length: a batch of {tokens.shape[1]} tokens, the model has positions for {most}; allowed: at most {most}")


def check_options(spec: ModelSpec, choices: Mapping[str, tuple[Any, ...]], naturals: tuple[str, ...]) -> None:
    """Values of options that every text encoder has.

    Raises:
      ConfigError: a choice that there is not, a size that is not positive, heads that do not divide the width, or an embedding of another width.
    """
    options: Mapping[str, Option] = spec.options
    for name, allowed in {**choices, "output": OUTPUTS, "activation": tuple(layers.ACTIVATIONS)}.items():
        if options[name] not in allowed:
            raise ConfigError(f"{spec.family}: {name} {options[name]!r}: {did_you_mean(str(options[name]), allowed)}")
    for name in naturals:
        if options[name] < 1:
            raise ConfigError(f"{spec.family}: {name} {options[name]} must be positive")
    if options["width"] % options["heads"]:
        raise ConfigError(f"{spec.family}: width {options['width']} is not a multiple of heads {options['heads']}")
    if not 0 < options["epsilon"] < math.inf:
        raise ConfigError(f"{spec.family}: epsilon {options['epsilon']} must be positive")
    if options["output"] == "embedding" and spec.num_classes != options["width"]:
        raise ConfigError(f"{spec.family}: an embedding has the model's width {options['width']}; num_classes is {spec.num_classes}")
