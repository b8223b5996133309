"""Layer norm and GELU with derivatives written by hand.

Autodiff differentiates through the mean and the variance separately and keeps what each step made; the closed forms read the input once and
keep one array. `layers.py` takes these where `benchmarks/precision.py` measured them faster, and autodiff elsewhere.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float


def last_axis(vector: Float[Array, " width"], like: Array) -> Array:
    """`vector` with leading axes of size one, to meet `like` without implicit rank promotion."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def normalise(x: Float[Array, "... width"], epsilon: float) -> tuple[Array, Array]:
    """(x - mean) / sqrt(variance + epsilon) over the last axis, and 1 / sqrt(variance + epsilon)."""
    centred = x - x.mean(-1, keepdims=True)
    inverse = lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + epsilon)
    return centred * inverse, inverse


def _layer_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    return normalise(x, epsilon)[0] * last_axis(scale, x) + last_axis(bias, x)


layer_norm_by_hand = jax.custom_vjp(_layer_norm, nondiff_argnums=(3,))


def _layer_norm_forward(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, tuple[Array, ...]]:
    normal, inverse = normalise(x, epsilon)
    return normal * last_axis(scale, x) + last_axis(bias, x), (normal, inverse, scale)


def _layer_norm_backward(epsilon: float, residuals: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    """With n the normalised input and h = g * scale: dx = (h - mean(h) - n mean(h n)) / sqrt(variance + epsilon)."""
    normal, inverse, scale = residuals
    h = g * last_axis(scale, g)
    dx = (h - h.mean(-1, keepdims=True) - normal * (h * normal).mean(-1, keepdims=True)) * inverse
    rows = tuple(range(g.ndim - 1))
    return dx, (g * normal).sum(rows), g.sum(rows)


layer_norm_by_hand.defvjp(_layer_norm_forward, _layer_norm_backward)


def _gelu_and_slope(x: Array) -> tuple[Array, Array]:
    """x P(x) and its derivative P(x) + x p(x), with P and p the standard normal's distribution and density."""
    distribution = 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))
    density = jnp.exp(-0.5 * jnp.square(x)) * (1 / math.sqrt(2 * math.pi))
    return x * distribution, distribution + x * density


@jax.custom_vjp
def gelu_by_hand(x: Array) -> Array:
    """x P(x), the exact GELU (Hendrycks and Gimpel 2016), which keeps only its slope for the backward pass."""
    return _gelu_and_slope(x)[0]


gelu_by_hand.defvjp(_gelu_and_slope, lambda slope, g: (g * slope,))
