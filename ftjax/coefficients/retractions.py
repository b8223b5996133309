"""Retractions: R of the law, what the whole run may do to a parameter's displacement x = theta - theta0.

    x' = R(x - lr * c * v),   R = select, then ball

`select` (SPD) shortens a step that goes on although the descent points home; `ball` (MARS-SP, TPGM) ends x at a radius. Which of them there are, the norm
and the unit are structure; radius and strength are traced. Everything is computed in at least float32, one leaf at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax.coefficients.hyper import Hyper
from ftjax.coefficients.links import widened
from ftjax.coefficients.rules import is_zero
from ftjax.coefficients.schedules import evaluate
from ftjax.coefficients.table import Row
from ftjax.config import AnchorConfig

Scalar = Float[Array, ""]
Norm = Literal["l2", "mars"]

Retraction = Callable[[Row, Array, Array, Array, Int[Array, ""], Hyper, Array], Array]
"""`R(row, moved, displacement, gradient, step, hyper, start) -> moved'` for one leaf: where the step would leave its displacement from theta0, the
displacement before the step, the gradient before clipping (its sign against the displacement is what a selective retraction asks), and theta0."""


def retraction(anchor: AnchorConfig) -> Retraction | None:
    """The configured R: `select` if there is one, then `ball` if there is one; None where there is neither.

    A row whose anchor is the number 0 is returned untouched. Elsewhere, with a = anchor(step): lambda = a * hyper.select and r = hyper.ball / a, so an
    anchor that reaches 0 on its schedule leaves the parameter free.
    """
    if anchor.ball is None and anchor.select is None:
        return None

    def retract(row: Row, moved: Array, displacement: Array, gradient: Array, step: Int[Array, ""], hyper: Hyper, start: Array) -> Array:
        if is_zero(row.anchor):
            return moved
        strength, kept = jnp.asarray(evaluate(row.anchor, step)), widened(moved)
        if anchor.select is not None:
            kept = select(kept, displacement, gradient, hyper["select"] * strength)
        if anchor.ball is not None:
            kept = ball(kept, start, _quotient(hyper["ball"], strength), anchor.ball_norm, anchor.ball_unit)
        return kept.astype(moved.dtype)

    return retract


def select(moved: Float[Array, "*shape"], displacement: Float[Array, "*shape"], gradient: Float[Array, "*shape"], strength: Scalar) -> Float[Array, "*shape"]:
    """Selective projection decay (Tian et al., NeurIPS 2024, arXiv 2411.01713), of one tensor.

    Where <g, x> > 0, that is where the descent -g points home and the step goes away all the same:
    x' <- (1 - lambda * r) x' with r = clip(1 - |x| / |x'|, 0, 1), the relative growth of the displacement. Elsewhere x' stays. As published, lambda
    above 1 goes beyond the old length. r is 0 where x' is 0.

    Args:
      moved: x', where the step would end.
      displacement: x, before the step.
      gradient: g at x; only the sign of its product with x counts.
      strength: lambda.
    """
    x, g, ended = widened(displacement), widened(gradient), widened(moved)
    length = l2_norm(ended)
    growth = jnp.where(length > 0, jnp.clip(1 - _quotient(l2_norm(x), length), 0, 1), 0)
    kept = 1 - jnp.asarray(strength, ended.dtype) * growth
    return (jnp.where(jnp.sum(g * x) > 0, kept, 1) * ended).astype(moved.dtype)


def ball(
    moved: Float[Array, "*shape"], start: Float[Array, "*shape"], radius: Scalar, norm: Norm = "l2", unit: Literal["relative", "absolute"] = "relative"
) -> Float[Array, "*shape"]:
    """Projection onto a ball around theta0: x <- min(1, r / norm(x)) x.

    - "l2": norm of the whole tensor, one factor for all of it.
    - "mars": the sum of |x| that enters one output (the last axis); the tensor's norm is the largest of these. As in TPGM and FTP (Tian et al. 2023,
      arXiv 2303.10720 and 2310.19182) every output is shortened by its own factor towards the common r: the outputs inside the ball keep their x.

    With unit "relative", r is `radius` times the same norm of theta0. A tensor whose theta0 is all zero has no such unit and stays free.

    Args:
      moved: x.
      start: theta0.
      radius: of the ball, infinity for none.
      norm: as above.
      unit: of the radius.
    """
    x = widened(moved)
    length, size = _lengths(x, norm), jnp.max(_lengths(widened(start), norm))
    scale = jnp.where(size > 0, size, 1) if unit == "relative" else jnp.ones_like(size)
    limit = jnp.asarray(radius, x.dtype) * scale
    limit = jnp.where(size > 0, limit, jnp.inf) if unit == "relative" else limit
    outside = length > limit
    return jnp.where(outside, jnp.where(outside, limit, 1) / jnp.where(outside, length, 1) * x, x).astype(moved.dtype)


def l2_norm(x: Float[Array, "*shape"]) -> Scalar:
    """|x| with gradient 0, not NaN, at x = 0."""
    squares = jnp.sum(jnp.square(x))
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def _lengths(x: Float[Array, "*inputs outputs"], norm: Norm) -> Float[Array, ...]:
    """What the ball limits, in a shape that multiplies x: one length, or one for every output."""
    if norm == "l2":
        return l2_norm(x)
    return jnp.sum(jnp.abs(x), axis=tuple(range(x.ndim - 1)), keepdims=True)


def _quotient(a: Scalar, b: Scalar) -> Scalar:
    """a / b, and infinity where b is 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), jnp.inf)
