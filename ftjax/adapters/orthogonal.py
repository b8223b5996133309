"""The orthogonal shape of x: the inputs of a weight are turned, block by block (OFT), starting from no turn at all."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from ftjax.adapters.leaf import Leaf, Product, dense


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OFT(Leaf):
    """R w with R block-diagonal and orthogonal, R = (I - Q) (I + Q)^-1 for a skew-symmetric Q (Cayley; Qiu et al. 2023, arXiv 2306.07280).

    `rotation` holds the upper triangles of Q, row by row, as peft's `oft_R` with `use_cayley_neumann=False` (its series of five terms turns the other way).
    """

    w: Array
    rotation: Float[Array, "blocks elements"]

    def turns(self) -> Float[Array, "blocks size size"]:
        """R, block by block; exactly the identity where Q is 0."""
        size = block_size(self.rotation.shape[1])
        rows, columns = np.triu_indices(size, 1)
        upper = jnp.zeros((self.rotation.shape[0], size, size), self.rotation.dtype).at[:, rows, columns].set(self.rotation)
        q, one = upper - upper.swapaxes(1, 2), jnp.eye(size, dtype=self.rotation.dtype)[None]
        return jnp.linalg.solve(one - q, one + q).swapaxes(1, 2)

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """(x R) w."""
        blocks = x.reshape(*x.shape[:-1], self.rotation.shape[0], -1)
        turned = jnp.einsum("...kr,krc->...kc", blocks, self.turns().astype(x.dtype), precision=lax.Precision.HIGHEST)
        return product(turned.reshape(x.shape), self.w)

    def merged(self) -> Array:
        """R w."""
        w = dense(self.w)
        blocks = w.reshape(self.rotation.shape[0], -1, w.shape[1])
        return jnp.einsum("krc,kco->kro", self.turns(), blocks, precision=lax.Precision.HIGHEST).reshape(w.shape)


def block_size(elements: int) -> int:
    """The size of a block whose upper triangle has so many elements.

    >>> block_size(6)
    4
    """
    return (1 + math.isqrt(1 + 8 * elements)) // 2
