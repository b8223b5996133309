"""Low-rank shapes of x: LoRA, DoRA, and LoRA that starts at the principal singular vectors (PiSSA).

The product is always factored, x w + scale (x a) b: W + a b is formed by `merged` alone. rsLoRA is another scale, LoRA+ a rule of the coefficient table.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from ftjax.adapters.leaf import Drop, Leaf, Product, dense, last_axis, times
from ftjax.errors import ConfigError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoRA(Leaf):
    """w + scale a b (Hu et al. 2021, arXiv 2106.09685); b (of an embedding: a) starts at 0.

    For a kernel `[kh kw in out]` a is `[kh kw in r]`, a convolution to r channels that b mixes, as in peft.
    """

    w: Array
    a: Float[Array, "*k in r"]
    b: Float[Array, "r out"]
    scale: Float[Array, ""]
    """alpha / r, or alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732)."""
    drop: Drop | None = None

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """x w + scale (drop(x) a) b."""
        return _added(product, x, self.w, self.a, self.b, self.scale, self.drop)

    def conv(self, x: Array, product: Product) -> Array:
        """x * w + scale (drop(x) * a) b, where * is the layer's convolution."""
        refuse_groups(product, "LoRA")
        hidden = product(_dropped(self.drop, x), self.a)
        return product(x, self.w) + times(hidden * self.scale.astype(hidden.dtype), self.b)

    def lookup(self, indices: Array, product: Product) -> Array:
        """w[i] + scale a[i] b; a row number has no dropout."""
        hidden = product(indices, self.a)
        return product(indices, self.w) + times(hidden * self.scale.astype(hidden.dtype), self.b)

    def unembed(self, x: Float[Array, "*k out"], product: Product) -> Float[Array, "*k in"]:
        """x (w + scale a b)^T, for a head that is tied to this table: both move together."""
        return product(x, self.w) + product(product(x, self.b) * self.scale.astype(x.dtype), self.a)

    def merged(self) -> Array:
        """w + scale a b."""
        return dense(self.w) + self.scale * times(self.a, self.b)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PiSSA(Leaf):
    """w + scale (a b - a0 b0), where scale a0 b0 is the best rank-r approximation of w (Meng et al. 2024, arXiv 2404.02948).

    The paper stores w - scale a0 b0, whose sum with scale a0 b0 is w only up to rounding, and whose frozen part is no pretrained weight. Here w stays as
    it was pretrained, and a b - a0 b0 = (a - a0) b + a0 (b - b0) is computed as one product of rank 2 r whose terms all start at 0: bit for bit w.
    It costs the products of rank 2 r instead of r, and a second, still copy of a and b.
    """

    w: Array
    a: Float[Array, "in r"]
    b: Float[Array, "r out"]
    scale: Float[Array, ""]
    a0: Float[Array, "in r"]
    b0: Float[Array, "r out"]
    drop: Drop | None = None

    def factors(self) -> tuple[Float[Array, "in k"], Float[Array, "k out"]]:
        """Two matrices, k = 2 r, whose product is a b - a0 b0."""
        return jnp.concatenate([self.a - self.a0, self.a0], axis=1), jnp.concatenate([self.b, self.b - self.b0], axis=0)

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """x w + scale drop(x) (a b - a0 b0)."""
        return _added(product, x, self.w, *self.factors(), self.scale, self.drop)

    def merged(self) -> Array:
        """w + scale (a b - a0 b0)."""
        return dense(self.w) + self.scale * times(*self.factors())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DoRA(Leaf):
    """magnitude (w + scale a b) / |w + scale a b|, the norm over each column (Liu et al. 2024, arXiv 2402.09353).

    |w + s a b|^2 = |w|^2 + 2 s (a^T w) . b + s^2 (a^T a b) . b column by column, so a b is never formed. The norm is a constant of the gradient (section 4.3
    of the paper, and peft). `norm` is the still |w|: at the start magnitude / (norm sqrt(1 + 0)) is exactly 1.
    """

    w: Array
    a: Float[Array, "in r"]
    b: Float[Array, "r out"]
    scale: Float[Array, ""]
    magnitude: Float[Array, " out"]
    norm: Float[Array, " out"]
    drop: Drop | None = None

    def factor(self) -> Float[Array, " out"]:
        """magnitude / |w + scale a b|."""
        cross = (times(self.a.T, self.w) * self.b).sum(0)
        square = (times(times(self.a.T, self.a), self.b) * self.b).sum(0)
        share = (2 * self.scale * cross + jnp.square(self.scale) * square) / jnp.square(self.norm)
        # A column that a b cancels has no direction left; rounding must not make its square negative.
        growth = jnp.sqrt(jnp.maximum(1 + share, jnp.finfo(share.dtype).eps))
        return self.magnitude / lax.stop_gradient(self.norm * growth)

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """(x w + scale (drop(x) a) b) magnitude / |w + scale a b|."""
        y = _added(product, x, self.w, self.a, self.b, self.scale, self.drop)
        return y * last_axis(self.factor(), y)

    def merged(self) -> Array:
        """magnitude (w + scale a b) / |w + scale a b|."""
        w = dense(self.w) + self.scale * times(self.a, self.b)
        return w * last_axis(self.factor(), w)


def column_norm(w: Float[Array, "in out"]) -> Float[Array, " out"]:
    """Euclidean norm of each column."""
    return jnp.sqrt(jnp.square(w).sum(0))


def principal(w: Float[Array, "in out"], rank: int, scale: float) -> tuple[Array, Array]:
    """a `[in r]` and b `[r out]` with scale a b = the best rank-r approximation of `w`, its singular values shared evenly."""
    u, s, v = jnp.linalg.svd(w, full_matrices=False)
    root = jnp.sqrt(s[:rank] / scale)
    return u[:, :rank] * root[None, :], root[:, None] * v[:rank]


def refuse_groups(product: Product, kind: str) -> None:
    """A grouped convolution has no one matrix that a low rank could be added to.

    Raises:
      ConfigError: the layer's convolution is grouped.
    """
    groups = product.keywords.get("groups", 1) if isinstance(product, functools.partial) else 1
    if groups != 1:
        raise ConfigError(f"adapter.targets: a {kind} adapter on a convolution of {groups} groups; allowed: convolutions of one group and matrices")


def _added(product: Product, x: Array, w: Any, a: Array, b: Array, scale: Array, drop: Drop | None) -> Array:
    """x w + scale (drop(x) a) b, in the layer's own way where it has one."""
    if drop is None and hasattr(product, "low_rank"):
        return product.low_rank(x, w, a, b, scale)  # type: ignore[attr-defined]
    return product(x, w) + product(product(_dropped(drop, x), a) * scale.astype(x.dtype), b)


def _dropped(drop: Drop | None, x: Array) -> Array:
    return x if drop is None else drop.of(x)
