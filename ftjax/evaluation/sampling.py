"""How the next token is chosen of its logits: the best, or at random at a temperature, among the `top_k` best or those that make up `top_p`."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How texts are continued.

    Raises:
      ConfigError: a value is out of bounds.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    """Logits are divided by it; 0: always the best token (the first of equals)."""
    top_k: int = 0
    """Only so many of the best tokens; 0: all."""
    top_p: float = 1.0
    """Only the best tokens that together have this probability (Holtzman et al. 2019); the best one always."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """Texts that end an answer; they are not part of it."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end an answer."""

    def __post_init__(self) -> None:
        for name, fits, allowed in (
            ("max_tokens", self.max_tokens >= 1, "at least 1"),
            ("temperature", 0 <= self.temperature < math.inf, "at least 0"),
            ("top_k", self.top_k >= 0, "at least 0"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("seed", 0 <= self.seed < 2**32, "0 to 4294967295"),
            ("stop", isinstance(self.stop, tuple) and all(self.stop), "texts that are not empty"),
        ):
            if not fits:
                raise ConfigError(f"sampling: {name}={getattr(self, name)!r}; allowed: {allowed}")


class Choice(NamedTuple):
    """The numbers of a `Sampling`, traced."""

    temperature: Float[Array, ""]
    top_k: Int[Array, ""]
    top_p: Float[Array, ""]

    @classmethod
    def of(cls, sampling: Sampling) -> Choice:
        """As arrays."""
        return cls(jnp.float32(sampling.temperature), jnp.int32(sampling.top_k), jnp.float32(sampling.top_p))


def best(logits: Float[Array, "batch vocabulary"]) -> Int[Array, " batch"]:
    """The most likely token; of equals the first."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def drawn(logits: Float[Array, "batch vocabulary"], keys: Array, choice: Choice) -> Int[Array, " batch"]:
    """A token of each row at random: temperature first, then `top_k`, then `top_p` of what is left.

    Args:
      logits: float32.
      keys: one random key for each row, which alone decides about it.
      choice: the numbers; the temperature is positive.
    """
    order = jnp.argsort(-logits, axis=-1, stable=True)
    ranked = jnp.take_along_axis(logits, order, axis=-1) / choice.temperature
    rank = jnp.arange(logits.shape[-1])[None, :]
    ranked = jnp.where((choice.top_k == 0) | (rank < choice.top_k), ranked, -jnp.inf)
    probability = jax.nn.softmax(ranked, axis=-1)
    above = jnp.cumsum(probability, axis=-1) - probability
    ranked = jnp.where((above < choice.top_p) | (choice.top_p >= 1) | (rank == 0), ranked, -jnp.inf)
    chosen = jax.vmap(jax.random.categorical)(keys, ranked)
    return jnp.take_along_axis(order, chosen[:, None], axis=-1)[:, 0].astype(jnp.int32)
