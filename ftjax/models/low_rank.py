"""x w + scale (x a) b with bfloat16 operands: what a low-rank adapter computes, with one large product instead of two in each direction.

Written as two products, each answer is an array of the layer's size that is written, read and added; the gradient of x is two such arrays once more.
[x h] [w; b] is the same sum in one product of n + r terms, which moves less memory unless x is much wider than the answer. It is done on the CPU. Where w
may be cut over devices, or is shared by a `vmap` over adapters, there would be copies of it, so there the products stay two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from ftjax.models.products import narrow, product, weight_gradient

Sum = Callable[[Array, Array, Array, Array], Array]


@jax.custom_vjp
def low_rank_bfloat16(
    x: Float[Array, "... n"], w: Float[Array, "n m"], a: Float[Array, "n r"], b: Float[Array, "r m"], scale: Float[Array, ""]
) -> Float[Array, "... m"]:
    """x w + scale (x a) b, and the same for dx = g w^T + scale (g b^T) a^T. All share one dtype, which is the answer's.

    Where nobody differentiates it is two products, so that an adapter whose b is 0 answers bit for bit as w alone.
    """
    hidden = product(x, a, _rows_by(x, 0)) * scale
    return apart(0)(x, w, hidden, b).astype(x.dtype)


def _forward(x: Array, w: Array, a: Array, b: Array, scale: Array) -> tuple[Array, tuple[Array, ...]]:
    x16 = narrow(x)
    hidden = product(x16, a, _rows_by(x, 0))
    return _sum(0, x16, w, hidden * scale, b).astype(x.dtype), (x16, w, a, b, scale, hidden)


def _backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
    """With h = x a and k = g b^T: da = scale x^T k, db = scale h^T g, dscale = sum(h k), dw = x^T g. Nobody pays for those that nobody wants."""
    x16, w, a, b, scale, hidden = residuals
    g16 = narrow(g)
    through = product(g16, b, _rows_by(g, 1))
    dx = _sum(1, g16, w, through * scale, a)
    # (k^T x)^T rather than x^T k: of the two the one that is transposed in memory is the small one.
    da = weight_gradient(narrow(through * scale), x16).T
    db, dw = weight_gradient(narrow(hidden * scale), g16), weight_gradient(x16, g16)
    dscale = (through * hidden).sum()
    return dx.astype(g.dtype), dw.astype(w.dtype), da.astype(a.dtype), db.astype(b.dtype), dscale.astype(scale.dtype)


low_rank_bfloat16.defvjp(_forward, _backward)


def _rows_by(x: Array, axis: int) -> tuple[tuple[int], tuple[int]]:
    """The last axis of x meets `axis` of a matrix."""
    return (x.ndim - 1,), (axis,)


@functools.cache
def apart(axis: int) -> Sum:
    """x w + h b as two products; x and h meet `axis` of w and b."""

    def add(x: Array, w: Array, h: Array, b: Array) -> Array:
        return product(x, w, _rows_by(x, axis)) + product(h, b, _rows_by(h, axis))

    return add


@functools.cache
def joined(axis: int) -> Sum:
    """The same as one product, [x h] [w; b]; under a `vmap` two, which leave a shared w what it is."""

    @jax.custom_batching.custom_vmap
    def add(x: Array, w: Array, h: Array, b: Array) -> Array:
        return product(beside(x, h, -1), beside(w, b, axis), _rows_by(x, axis))

    @add.def_vmap
    def _(size: int, batched: list[bool], *arrays: Array) -> tuple[Array, bool]:
        axes = tuple(0 if one else None for one in batched)
        return jax.vmap(apart(axis), in_axes=axes, axis_size=size)(*arrays), True

    differentiable = jax.custom_vjp(add)  # once more, for second derivatives
    differentiable.defvjp(lambda *arrays: (add(*arrays), arrays), lambda arrays, g: jax.vjp(apart(axis), *arrays)[1](g))
    return differentiable


def beside(one: Array, other: Array, axis: int) -> Array:
    """Both as bfloat16 operands, side by side along `axis`. As whole numbers, for XLA:CPU copies bfloat16 by way of float32: two arrays more."""
    bits = [lax.bitcast_convert_type(narrow(array), jnp.uint16) for array in (one, other)]
    return lax.bitcast_convert_type(jnp.concatenate(bits, axis=axis), jnp.bfloat16)


def _sum(axis: int, x: Array, w: Array, h: Array, b: Array) -> Array:
    """The way that moves less memory: x and h side by side are a copy of x in bfloat16, and spare an answer in float32 that is written and read."""
    outputs, terms = w.shape[1 - axis], w.shape[axis]
    return lax.platform_dependent(x, w, h, b, cpu=joined(axis) if terms <= 2 * outputs else apart(axis), default=apart(axis))
