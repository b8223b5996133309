"""What an adapter is: a weight that is a small pytree, stands for one array, and knows how to multiply itself.

The law's x(phi) has a shape, and a leaf type is that shape: low rank, diagonal, orthogonal. Every leaf keeps the pretrained array first, as `w` (Linen
checks the shape of a leaf's first array), so `trees.flatten` gives `.../kernel/w`, `.../kernel/a`, ...; `models/layers.py` calls `matmul`, `conv` or
`lookup` with the input and the plain product, and knows no type. At its start a leaf answers bit for bit as `w` alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

Product = Callable[[Any, Any], Array]
"""`product(x, weight)`: the plain operation of the layer that meets the leaf, with that layer's precision, strides and padding."""


class Leaf:
    """A weight that is not an array. Subclasses are frozen dataclasses registered as pytrees."""

    def merged(self) -> Array:
        """The one array that it stands for, in at least float32."""
        raise NotImplementedError


class Drop(NamedTuple):
    """Dropout of an adapter's input for one step (`with_dropout`); both are traced."""

    key: Array
    rate: Float[Array, ""]

    def of(self, x: Array) -> Array:
        """x with a share `rate` of its elements zero and the others divided by 1 - rate."""
        kept = jax.random.bernoulli(self.key, 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate).astype(x.dtype), jnp.zeros((), x.dtype))


def is_leaf(value: Any) -> bool:
    """Whether a value is an adapter or a quantised weight: for `is_leaf` of `jax.tree` functions."""
    return isinstance(value, Leaf)


def dense(w: Any) -> Array:
    """The array that a weight stands for, at least float32."""
    return w.merged() if isinstance(w, Leaf) else jnp.asarray(w, jnp.promote_types(jnp.float32, w.dtype))


def times(x: Array, w: Any) -> Array:
    """x w in full precision, whatever the layer's: for norms, merged weights and the second factor of a convolution."""
    if isinstance(w, Leaf):
        return w.matmul(x, times)  # type: ignore[attr-defined]
    return jnp.matmul(x, w, precision=lax.Precision.HIGHEST)


def last_axis(vector: Float[Array, " width"], like: Array) -> Array:
    """`vector` with leading axes of size one, to meet `like` without implicit rank promotion."""
    return vector.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))
