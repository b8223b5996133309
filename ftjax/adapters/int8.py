"""A frozen weight in 8 bits: whole numbers and one step size for each output; what adapters stand on when memory is short (QLoRA with 8 bits)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float
from jaxtyping import Int8 as Int8Array

from ftjax.adapters.leaf import Leaf, Product, last_axis


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Int8(Leaf):
    """q s, symmetric: |w - q s| <= s / 2 element by element. With it theta0 is the rounded weight; activations stay as they are (weight-only)."""

    q: Int8Array[Array, "... out"]
    s: Float[Array, " out"]

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """(x q) s: whole numbers up to 127 are exact in bfloat16 too."""
        y = product(x, self.q.astype(jnp.float32))
        return y * last_axis(self.s, y)

    conv = matmul
    lookup = matmul

    def unembed(self, x: Float[Array, "*k out"], product: Product) -> Float[Array, "*k in"]:
        """x (q s)^T."""
        return product(x * last_axis(self.s, x), self.q.astype(jnp.float32))

    def merged(self) -> Array:
        """q s."""
        return self.q.astype(self.s.dtype) * last_axis(self.s, self.q.astype(self.s.dtype))


def quantise(w: Float[Array, "... out"]) -> Int8:
    """The nearest `Int8`: s = max |w| / 127 over each output, 1 where all are 0."""
    largest = jnp.abs(w).max(axis=tuple(range(w.ndim - 1)))
    s = jnp.where(largest > 0, largest / 127, jnp.ones_like(largest))
    return Int8(jnp.round(w / last_axis(s, w)).astype(jnp.int8), s)
