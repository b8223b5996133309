"""What the operations on pictures share: their types, and random numbers that belong to an example rather than to its place in the batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ftjax.errors import ConfigError

Images = Float[Array, "batch h w 3"]
Keys = Key[Array, " batch"]

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in brightness (ITU-R BT.601), as in Pillow and torchvision."""


def uniform(keys: Keys, count: int, dtype: Any) -> Float[Array, "batch count"]:
    """`count` numbers in 0..1 for each key, drawn in float32 whatever `dtype` is."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,), jnp.float32))(keys).astype(dtype)


def factors(keys: Keys, amount: float, dtype: Any) -> Float[Array, "batch 1 1 1"]:
    """One factor `~ U(1 - amount, 1 + amount)` for each key."""
    draw = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32, 1.0 - amount, 1.0 + amount))(keys)
    return draw.astype(dtype).reshape(-1, 1, 1, 1)


def grey(images: Images) -> Float[Array, "batch h w 1"]:
    """The luminance of every pixel."""
    return (images * jnp.asarray(LUMINANCE, images.dtype).reshape(1, 1, 1, 3)).sum(axis=-1, keepdims=True)


def check_between(operation: Any, name: str, value: float, highest: float = 1) -> None:
    """Refuse a number out of `0..highest`.

    Raises:
      ConfigError: naming the operation with its values.
    """
    if not 0 <= value <= highest:
        raise ConfigError(f"{operation}: {name} must lie in 0..{highest:g}")
