"""Products with bfloat16 operands and float32 accumulation, forward and backward.

XLA:CPU has a fast bfloat16 kernel, but takes it only when both operands are bfloat16 and the answer is float32; anything else is silently
widened. Plain autodiff leaves that path twice: bfloat16 answers are computed in float32, and a float32 cotangent meets a bfloat16 operand.
The derivatives here round the cotangent once and keep every product on the fast path; `benchmarks/precision.py` measures what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

Axes = Sequence[int]


def narrow(x: Array) -> Array:
    """`x` as a bfloat16 operand."""
    return x.astype(jnp.bfloat16)


def product(a: Array, b: Array, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes] = ((), ())) -> Array:
    """`lax.dot_general` of `a` and `b` rounded to bfloat16, accumulated and answered in float32.

    `a` should contract its last axis. On CPU the answer is sealed: XLA (0.10.2 and 0.12) folds a transpose of it back into the product after it
    has chosen the kernel, and then fails at run time with "Unsupported element type for DotThunk::Execute: BF16 x BF16 = F32".
    """
    answer = lax.dot_general(narrow(a), narrow(b), (contract, batch), preferred_element_type=jnp.float32)
    return lax.platform_dependent(answer, cpu=lax.optimization_barrier, default=lambda y: y)


def widened_product(a: Array, b: Array, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes] = ((), ())) -> Array:
    """The same numbers as `product` in float32 arithmetic: for a transposed `a`, where the fast kernel is not to be had and XLA's choice of it fails."""
    return lax.dot_general(narrow(a).astype(jnp.float32), narrow(b).astype(jnp.float32), (contract, batch))


def weight_gradient(x: Float[Array, "... n"], g: Float[Array, "... m"]) -> Float[Array, "n m"]:
    """x^T g over all row axes.

    With two or more row axes XLA transposes x in memory to join them (a tenth of the product's time), and the fast kernel applies.
    With one it would not, and the product is small: a head on pooled features.
    """
    rows = tuple(size for size in x.shape[:-1] if size > 1)
    x, g = x.reshape(*rows, x.shape[-1]), g.reshape(*rows, g.shape[-1])
    axes = tuple(range(len(rows)))
    return (product if len(rows) > 1 else widened_product)(x, g, (axes, axes))


@jax.custom_vjp
def matmul_bfloat16(x: Float[Array, "... n"], w: Float[Array, "n m"]) -> Float[Array, "... m"]:
    """x w with bfloat16 operands, and the same for dx = g w^T and dw = x^T g. `x` and `w` share one dtype, which is the answer's."""
    return _matmul_forward(x, w)[0]


def _matmul_forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    x16 = narrow(x)
    return product(x16, w, ((x.ndim - 1,), (0,))).astype(x.dtype), (x16, w)


def _matmul_backward(residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x16, w = residuals
    g16 = narrow(g)
    dx = product(g16, w, ((g.ndim - 1,), (1,)))
    return dx.astype(g.dtype), weight_gradient(x16, g16).astype(w.dtype)


matmul_bfloat16.defvjp(_matmul_forward, _matmul_backward)


def masked(scores: Float[Array, "batch heads length source"], mask: Bool[Array, "batch 1 #length source"] | None) -> Array:
    """Scores as low as a number can be where the mask says no: their exponentials, less the largest score's, are exactly 0."""
    return scores if mask is None else jnp.where(mask, scores, jnp.finfo(scores.dtype).min)


@jax.custom_vjp
def attention_bfloat16(
    query: Float[Array, "batch length heads width"],
    key: Float[Array, "batch source heads width"],
    value: Float[Array, "batch source heads width"],
    mask: Bool[Array, "batch 1 #length source"] | None = None,
) -> Float[Array, "batch length heads width"]:
    """softmax(q k^T / sqrt(width)) v with bfloat16 operands in all six products of the forward and the backward pass; `mask` as in `layers.attention`."""
    return _attention_forward(query, key, value, mask)[0]


def _attention_forward(query: Array, key: Array, value: Array, mask: Array | None = None) -> tuple[Array, tuple[Array, ...]]:
    q, k, v = narrow(query * query.shape[-1] ** -0.5), narrow(key), narrow(value)
    scores = masked(product(q, k, ((3,), (3,)), ((0, 2), (0, 2))), mask)
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = narrow(weights * (1 / weights.sum(-1, keepdims=True)))
    mixed = product(weights, v, ((3,), (1,)), ((0, 1), (0, 2)))
    return mixed.swapaxes(1, 2).astype(query.dtype), (q, k, v, weights)


def _attention_backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array, None]:
    """dv = p^T g, dp = g v^T, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q; p is `weights` [batch heads length source], kept in bfloat16.

    A masked key has p = 0, so nothing flows through it and the mask is not needed again.
    """
    q, k, v, p = residuals
    g16 = narrow(g)
    dv = _over_length(p, g16)
    dp = product(g16, v, ((3,), (3,)), ((0, 2), (0, 2)))
    ds = narrow(p * (dp - (p * dp).sum(-1, keepdims=True)))
    dq = product(ds, k, ((3,), (1,)), ((0, 1), (0, 2))) * q.shape[-1] ** -0.5
    dq, dk, dv = (d.swapaxes(1, 2).astype(g.dtype) for d in (dq, _over_length(ds, q), dv))
    return dq, dk, dv, None


attention_bfloat16.defvjp(_attention_forward, _attention_backward)


def _over_length(a: Float[Array, "batch heads length source"], b: Float[Array, "batch length heads width"]) -> Float[Array, "batch heads source width"]:
    """a^T b for every head.

    XLA folds a transposed `a` back into the product and loses the fast kernel; with the length split into two axes it transposes in memory
    to join them, and the kernel applies. An odd length (a class token beside an even grid) cannot be split evenly and is computed in float32.
    """
    length = a.shape[2]
    b = b.swapaxes(1, 2)
    if length % 2 or length < 4:
        return widened_product(a, b, ((2,), (2,)), ((0, 1), (0, 1)))
    a, b = (x.reshape(*x.shape[:2], 2, length // 2, x.shape[3]) for x in (a, b))
    return product(a, b, ((2, 3), (2, 3)), ((0, 1), (0, 1)))
