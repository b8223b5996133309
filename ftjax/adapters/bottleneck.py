"""New hidden units: a small two-layer network beside a branch of a block (AdaptFormer), or behind it (Houlsby, Pfeiffer).

A branch ends in a product h w. A bottleneck is r further units that it ends in too, [h, z] [w; scale b], of which b starts at 0: theta0 is a point of the
larger space, and x(phi) moves in it. The units bend, so no array of the old shape stands for the leaf, and it is never merged. The layer that ends a branch
gives a leaf with `branch` also what entered the branch (`models/layers.py`).
"""

from __future__ import annotations

import dataclasses

import jax
from jax import Array
from jaxtyping import Float

from ftjax.adapters.leaf import Drop, Leaf, Product, last_axis
from ftjax.errors import ConfigError

BRANCH_ENDS = ("attention/out/kernel", "mlp/down/kernel")
"""Where a path must end for a bottleneck to stand there: the last products of a block's branches."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class AdaptFormer(Leaf):
    """h w + scale (relu(x a + a_bias) b + b_bias), x what entered the branch (Chen et al. 2022, arXiv 2205.13535: of the MLP, scale 0.1)."""

    w: Array
    a: Float[Array, "in r"]
    b: Float[Array, "r out"]
    a_bias: Float[Array, " r"]
    b_bias: Float[Array, " out"]
    scale: Float[Array, ""]
    drop: Drop | None = None

    def branch(self, h: Float[Array, "... hidden"], x: Float[Array, "... in"] | None, product: Product) -> Float[Array, "... out"]:
        """The branch's end, with the units beside it."""
        return product(h, self.w) + _units(self, _entered(x), product)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Houlsby(Leaf):
    """y + scale (relu(y a + a_bias) b + b_bias) with y = h w + bias, behind the branch (Houlsby et al. 2019, arXiv 1902.00751).

    The layer adds its bias afterwards, so y w's bias is read from a still copy of it, as in IA3.
    """

    w: Array
    a: Float[Array, "out r"]
    b: Float[Array, "r out"]
    a_bias: Float[Array, " r"]
    b_bias: Float[Array, " out"]
    scale: Float[Array, ""]
    bias: Float[Array, " out"] | None = None
    """A still copy of the layer's bias, where it has one."""
    drop: Drop | None = None

    def branch(self, h: Float[Array, "... hidden"], x: Array | None, product: Product) -> Float[Array, "... out"]:
        """The branch's end without its bias, and what the units make of it."""
        y = product(h, self.w)
        return y + _units(self, y if self.bias is None else y + last_axis(self.bias, y), product)


BOTTLENECKS = (AdaptFormer, Houlsby)


def _units(leaf: AdaptFormer | Houlsby, x: Array, product: Product) -> Array:
    """scale (drop(relu(x a + a_bias)) b + b_bias); exactly 0 while b and its bias are."""
    z = product(x, leaf.a)
    z = jax.nn.relu(z + last_axis(leaf.a_bias, z))
    y = product(z if leaf.drop is None else leaf.drop.of(z), leaf.b)
    return (y + last_axis(leaf.b_bias, y)) * leaf.scale.astype(y.dtype)


def _entered(x: Array | None) -> Array:
    if x is None:
        raise ConfigError(f"adapter.targets: an adaptformer on a layer that ends no branch of a block; allowed: paths that end in {', '.join(BRANCH_ENDS)}")
    return x
