"""Diagonal shapes of x: a gain for every output or input of a weight (IA3, SSF), which starts at 1."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax
from jax import Array
from jaxtyping import Float

from ftjax.adapters.leaf import Leaf, Product, dense, last_axis


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class IA3(Leaf):
    """A gain on the outputs (keys, values) or on the inputs (of the second layer of an MLP) of a frozen layer (Liu et al. 2022, arXiv 2205.05638).

    The paper's model has no biases; peft scales x w + bias, and so does this: the layer adds its bias afterwards, so bias (gain - 1) is added here.
    """

    w: Array
    gain: Float[Array, " width"]
    bias: Float[Array, " out"] | None = None
    """A still copy of the layer's bias, where the gain is on outputs and there is one."""
    side: Literal["output", "input"] = dataclasses.field(default="output", metadata={"static": True})

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """(x w) gain + bias (gain - 1), or (x gain) w."""
        if self.side == "input":
            return product(x * last_axis(self.gain, x), self.w)
        y = product(x, self.w)
        y = y * last_axis(self.gain, y)
        return y if self.bias is None else y + last_axis(self.offset(), y)

    conv = matmul

    def offset(self) -> Float[Array, " out"]:
        """What merging adds to the layer's bias: bias (gain - 1)."""
        assert self.bias is not None
        return self.bias * (self.gain - 1)

    def merged(self) -> Array:
        """w gain, along the axis of the outputs or the inputs; the bias is not in it (`offset`)."""
        w = dense(self.w)
        if self.side == "output":
            return w * last_axis(self.gain, w)
        return w * self.gain.reshape((1,) * (w.ndim - 2) + (-1, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SSF(Leaf):
    """A gain on the outputs of a layer whose bias trains beside it (Lian et al. 2022, arXiv 2210.08823): gain (x w) + bias.

    The paper's gain (x w + bias0) + shift is the same with bias = gain bias0 + shift, and after a norm its gain and shift are the norm's own scale and bias.
    """

    w: Array
    gain: Float[Array, " out"]

    def matmul(self, x: Float[Array, "... in"], product: Product) -> Float[Array, "... out"]:
        """(x w) gain."""
        y = product(x, self.w)
        return y * last_axis(self.gain, y)

    conv = matmul

    def merged(self) -> Array:
        """w gain."""
        w = dense(self.w)
        return w * last_axis(self.gain, w)
