"""Rotary positions (Su et al. 2021) with the changes of frequency that decoders ship with: none, linear (Chen et al. 2023) and Llama 3's."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

SCALINGS = ("none", "linear", "llama3")


@dataclasses.dataclass(frozen=True)
class Rotary:
    """The frequencies of one kind of attention: `theta^(-2 i / size)`, then scaled.

    Attributes:
      theta: the base.
      scaling: "linear" divides every frequency by `factor`; "llama3" those whose wave is longer than `original / low`, leaves those shorter than
        `original / high`, and goes smoothly from one to the other between (Llama 3.1, 2024).
      original: tokens that the model was trained with before.
    """

    theta: float
    scaling: str = "none"
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    original: int = 8192

    def frequencies(self, size: int) -> Float[np.ndarray, " half"]:
        """Radians a token of each pair of a head's elements, float32."""
        plain = np.float32(1) / np.float32(self.theta) ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
        if self.scaling == "linear":
            return (plain / self.factor).astype(np.float32)
        if self.scaling == "llama3":
            waves = 2 * math.pi / plain.astype(np.float64)
            share = np.clip((self.original / waves - self.low) / (self.high - self.low), 0, 1)
            return ((1 - share) * plain / self.factor + share * plain).astype(np.float32)
        return plain

    def angles(self, positions: Int[Array, "batch length"], size: int) -> tuple[Float[Array, "batch length 1 size"], Float[Array, "batch length 1 size"]]:
        """Cosine and sine for `transformer.rotate`."""
        angles = positions[:, :, None].astype(jnp.float32) * jnp.asarray(self.frequencies(size))[None, None, :]
        angles = jnp.concatenate([angles, angles], axis=-1)[:, :, None, :]
        return jnp.cos(angles), jnp.sin(angles)
