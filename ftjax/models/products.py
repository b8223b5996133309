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
from jaxtyping import Float

Axes = Sequence[int]


def narrow(x: Array) -> Array:
    """`x` as a bfloat16 operand."""
    return x.astype(jnp.bfloat16)


def product(a: Array, b: Array, contract: tuple[Axes, Axes], batch: tuple[Axes, Axes] = ((), ())) -> Array:
    """`lax.dot_general` of `a` and `b` rounded to bfloat16, accumulated and answered in float32.

    On CPU the answer is sealed: XLA (0.10.2 and 0.12) folds a transpose of it back into the product after it has chosen the kernel, and then
    fails at run time with "Unsupported element type for DotThunk::Execute: BF16 x BF16 = F32".
    """
    answer = lax.dot_general(narrow(a), narrow(b), (contract, batch), preferred_element_type=jnp.float32)
    return lax.platform_dependent(answer, cpu=lax.optimization_barrier, default=lambda y: y)


@jax.custom_vjp
def matmul_bfloat16(x: Float[Array, "... n"], w: Float[Array, "n m"]) -> Float[Array, "... m"]:
    """x w with bfloat16 operands, and the same for dx = g w^T and dw = x^T g. `x` and `w` share one dtype, which is the answer's."""
    return _matmul_forward(x, w)[0]


def _matmul_forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    x16 = narrow(x)
    return product(x16, w, ((x.ndim - 1,), (0,))).astype(x.dtype), (x16, w)


def _matmul_backward(residuals: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    """With two or more row axes x^T g is fast as it stands: XLA transposes x in memory (a tenth of the product's time) to join them."""
    x16, w = residuals
    g16 = narrow(g)
    rows = tuple(range(g.ndim - 1))
    dx = product(g16, w, ((g.ndim - 1,), (1,)))
    dw = product(x16, g16, (rows, rows))
    return dx.astype(g.dtype), dw.astype(w.dtype)


matmul_bfloat16.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def attention_bfloat16(
    query: Float[Array, "batch length heads width"], key: Float[Array, "batch source heads width"], value: Float[Array, "batch source heads width"]
) -> Float[Array, "batch length heads width"]:
    """softmax(q k^T / sqrt(width)) v with bfloat16 operands in all six products of the forward and the backward pass."""
    return _attention_forward(query, key, value)[0]


def _attention_forward(query: Array, key: Array, value: Array) -> tuple[Array, tuple[Array, ...]]:
    q, k, v = narrow(query * query.shape[-1] ** -0.5), narrow(key), narrow(value)
    scores = product(q, k, ((3,), (3,)), ((0, 2), (0, 2)))
    weights = jnp.exp(scores - scores.max(-1, keepdims=True))
    weights = weights * (1 / weights.sum(-1, keepdims=True))
    mixed = product(weights, v, ((3,), (1,)), ((0, 1), (0, 2)))
    return mixed.swapaxes(1, 2).astype(query.dtype), (q, k, v, weights)


def _attention_backward(residuals: tuple[Array, ...], g: Array) -> tuple[Array, Array, Array]:
    """dv = p^T g, dp = g v^T, ds = p (dp - sum(p dp)), dq = ds k, dk = ds^T q; p is `weights` [batch heads length source]."""
    q, k, v, p = residuals
    g16 = narrow(g)
    dv = product(p, g16, ((2,), (1,)), ((0, 1), (0, 2)))
    dp = product(g16, v, ((3,), (3,)), ((0, 2), (0, 2)))
    ds = narrow(p * (dp - (p * dp).sum(-1, keepdims=True)))
    dq = product(ds, k, ((3,), (1,)), ((0, 1), (0, 2))) * q.shape[-1] ** -0.5
    dk = product(ds, q, ((2,), (1,)), ((0, 1), (0, 2)))
    return tuple(d.swapaxes(1, 2).astype(g.dtype) for d in (dq, dk, dv))


attention_bfloat16.defvjp(_attention_forward, _attention_backward)
