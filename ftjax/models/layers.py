"""The only places where a model meets a weight: matrix product, convolution, table of embeddings, layer norm, activations and attention.

Weights are values. A weight is an array, or a small pytree that stands for one and knows how to multiply itself: a leaf with a `matmul`
(`conv`, `lookup`) method is given the input and the plain product, and answers. So adapters and quantised weights are new leaf types, and no layer knows them.
`precision` is the type of the operands; accumulation and answers are float32, or float64 where the inputs are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float, Int

from ftjax.models.depthwise import Pads, depthwise
from ftjax.models.low_rank import low_rank_bfloat16
from ftjax.models.pointwise import gelu_by_hand, last_axis, layer_norm_by_hand, normalise
from ftjax.models.products import attention_bfloat16, masked, matmul_bfloat16

Precision = Literal["float32", "bfloat16"]
Padding = str | Sequence[tuple[int, int]]
Weight = Any
"""An array, or a pytree with `matmul`, `conv` or `lookup`, called with `(x, product)`, where `product(x, array)` is the plain operation of this layer; or
with `branch`, called with `(x, entered, product)`, which wants to know what entered the branch of the block that the layer ends."""


def matmul(x: Float[Array, "... n"], w: Weight, precision: Precision = "float32", entered: Array | None = None) -> Float[Array, "... m"]:
    """x w over the last axis of `x`.

    In bfloat16 both operands are rounded, in the forward product and in the two of the backward pass (`products.matmul_bfloat16`).
    In float32 XLA's own product and derivative are as fast as anything we found, so they are what runs.

    Args:
      x: activations.
      w: matrix `[n m]`, or a leaf with `matmul(x, product)`.
      precision: of the operands.
      entered: where this product ends a branch of a block, what entered the branch.
    """
    if hasattr(w, "branch"):
        return w.branch(x, entered, MatrixProduct(precision))
    if hasattr(w, "matmul"):
        return w.matmul(x, MatrixProduct(precision))
    x, w = _same_type(x, w)
    if precision == "bfloat16":
        return matmul_bfloat16(x, w)
    return jnp.matmul(x, w, precision=lax.Precision.HIGHEST)


@dataclasses.dataclass(frozen=True)
class MatrixProduct:
    """The plain product of a layer as a leaf is given it, and the sum of two that a low rank needs."""

    precision: Precision

    def __call__(self, x: Float[Array, "... n"], w: Weight) -> Float[Array, "... m"]:
        """x w."""
        return matmul(x, w, self.precision)

    def low_rank(self, x: Float[Array, "... n"], w: Weight, a: Float[Array, "n r"], b: Float[Array, "r m"], scale: Float[Array, ""]) -> Float[Array, "... m"]:
        """x w + scale (x a) b; in bfloat16, unless w is a leaf itself, with fewer products (`low_rank.low_rank_bfloat16`)."""
        if self.precision == "bfloat16" and not hasattr(w, "matmul"):
            dtype = jnp.promote_types(jnp.float32, jnp.result_type(x, w, a, b))
            return low_rank_bfloat16(*(jnp.asarray(array, dtype) for array in (x, w, a, b, scale)))
        return self(x, w) + self(self(x, a) * scale.astype(x.dtype), b)


def conv(
    x: Float[Array, "batch height width n"],
    w: Weight,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    groups: int = 1,
    precision: Precision = "float32",
) -> Float[Array, "batch rows columns m"]:
    """Convolution (NHWC) with the kernel `w` `[kh kw n/groups m]`; `groups == n` is the depthwise one.

    Kernels that see each pixel once (1x1, or patches whose size is the stride) are matrix products and go through `matmul`.
    The others stay in float32 whatever the precision: bfloat16 convolutions are 5 to 15 % slower in XLA:CPU, forward and backward.

    Args:
      x: feature maps.
      w: kernel, or a leaf with `conv(x, product)`.
      strides: in pixels.
      padding: "SAME", "VALID" or (before, after) for each axis.
      groups: number of independent groups of channels.
      precision: of the operands.
    """
    if hasattr(w, "conv"):
        return w.conv(x, functools.partial(conv, strides=strides, padding=padding, groups=groups, precision=precision))
    x, w = _same_type(x, w)
    if groups == 1 and w.shape[:2] == (1, 1):
        return matmul(x[:, :: strides[0], :: strides[1]], w[0, 0], precision)
    if groups == 1 and w.shape[:2] == strides and padding == "VALID":
        return matmul(patches(x, strides), w.reshape(-1, w.shape[-1]), precision)
    if groups == x.shape[-1] == w.shape[-1]:
        return depthwise(x, w, strides, _explicit(padding, x, w, strides))
    return _convolve(x, w, strides, padding, groups)


def lookup(indices: Int[Array, "*batch"], table: Weight) -> Float[Array, "*batch width"]:
    """The rows of `table` `[rows width]` at `indices`; an index beyond the table reads its nearest row."""
    if hasattr(table, "lookup"):
        return table.lookup(indices, lookup)
    return jnp.take(jnp.asarray(table, jnp.promote_types(jnp.float32, table.dtype)), indices, axis=0, mode="clip")


def unembed(x: Float[Array, "... width"], table: Weight, precision: Precision = "float32") -> Float[Array, "... rows"]:
    """x table^T: how much each row of `table` [rows width] is meant, for heads that are tied to the embedding.

    A leaf may have an `unembed(x, product)` of its own; one that has none is merged for it, which costs a table in memory.
    """
    if hasattr(table, "unembed"):
        return table.unembed(x, functools.partial(unembed, precision=precision))
    table = table.merged() if hasattr(table, "merged") else table
    return matmul(x, table.T, precision)


def patches(x: Float[Array, "batch height width n"], size: tuple[int, int]) -> Float[Array, "batch rows columns patch"]:
    """Non-overlapping patches, each flattened in the order of a kernel's axes (row, column, channel)."""
    batch, height, width, channels = x.shape
    rows, columns = height // size[0], width // size[1]
    x = x[:, : rows * size[0], : columns * size[1]].reshape(batch, rows, size[0], columns, size[1], channels)
    return x.swapaxes(2, 3).reshape(batch, rows, columns, -1)


def add_bias(x: Float[Array, "... m"], bias: Float[Array, " m"]) -> Float[Array, "... m"]:
    """x + bias over the last axis."""
    return x + last_axis(bias, x)


def layer_norm(
    x: Float[Array, "... width"], scale: Float[Array, " width"], bias: Float[Array, " width"] | None, epsilon: float, precision: Precision = "float32"
) -> Float[Array, "... width"]:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis (Ba et al. 2016), never in less than float32."""
    if precision == "bfloat16":
        return layer_norm_by_hand(x, scale, jnp.zeros_like(scale) if bias is None else bias, epsilon)
    y = normalise(x, epsilon)[0] * last_axis(scale, x)
    return y if bias is None else add_bias(y, bias)


def rms_norm(x: Float[Array, "... width"], scale: Float[Array, " width"], epsilon: float) -> Float[Array, "... width"]:
    """x / sqrt(mean(x^2) + epsilon) * scale over the last axis (Zhang and Sennrich 2019), never in less than float32."""
    return x * lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon) * last_axis(scale, x)


def gelu(x: Array, precision: Precision = "float32") -> Array:
    """x P(X <= x) for a standard normal X: the exact GELU with erf, not the tanh approximation."""
    return gelu_by_hand(x) if precision == "bfloat16" else jax.nn.gelu(x, approximate=False)


def _gelu_tanh(x: Array, precision: Precision) -> Array:
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: Mapping[str, Callable[[Array, Precision], Array]] = MappingProxyType(
    {
        "gelu": gelu,
        "gelu_tanh": _gelu_tanh,
        "relu": lambda x, precision: jax.nn.relu(x),
        "silu": lambda x, precision: jax.nn.silu(x),
        "tanh": lambda x, precision: jnp.tanh(x),
    }
)
"""Activations of the text encoders by name; "gelu_tanh" is the approximation that GPT-2 and the first BERTs' releases use."""


def attention(
    query: Float[Array, "batch length heads width"],
    key: Float[Array, "batch source heads width"],
    value: Float[Array, "batch source heads width"],
    precision: Precision = "float32",
    mask: Bool[Array, "batch 1 #length source"] | None = None,
) -> Float[Array, "batch length heads width"]:
    """softmax(q k^T / sqrt(width)) v for every head (Vaswani et al. 2017), over the keys that `mask` allows; None: all of them.

    A key that is masked has a weight of exactly 0; a query without any key gets their plain mean, which is finite and belongs to padding.
    `jax.nn.dot_product_attention` computes the same, and slower on CPU: forward and backward of 16 masked texts of 32, 64 and 128 tokens with 12
    heads of 32 took it 1.03 to 1.45 times as long in float32 and 1.2 to 2.5 times in bfloat16 (medians, interleaved, JAX 0.10.2 and 0.12 on two cores).
    """
    if precision == "bfloat16":
        return attention_bfloat16(query, key, value, mask)
    einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    scores = masked(einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key), mask)
    return einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)


def capped_attention(
    query: Float[Array, "batch length heads width"],
    key: Float[Array, "batch source heads width"],
    value: Float[Array, "batch source heads width"],
    cap: float,
    mask: Bool[Array, "batch 1 #length source"] | None = None,
) -> Float[Array, "batch length heads width"]:
    """softmax(cap tanh(q k^T / sqrt(width) / cap)) v (Gemma 2, 2024): no score is beyond `cap`. Always in float32, for tanh would be the coarse part."""
    einsum = functools.partial(jnp.einsum, precision=lax.Precision.HIGHEST)
    scores = soft_cap(einsum("bqhd,bkhd->bhqk", query * query.shape[-1] ** -0.5, key), cap)
    return einsum("bhqk,bkhd->bqhd", jax.nn.softmax(masked(scores, mask), axis=-1), value)


def soft_cap(x: Array, cap: float) -> Array:
    """cap tanh(x / cap); 0: x as it is."""
    return cap * jnp.tanh(x / cap) if cap else x


def _same_type(x: Array, w: Array) -> tuple[Array, Array]:
    dtype = jnp.promote_types(jnp.float32, jnp.result_type(x, w))
    return x.astype(dtype), jnp.asarray(w, dtype)


def _explicit(padding: Padding, x: Array, w: Array, strides: tuple[int, int]) -> Pads:
    """(before, after) of the height and the width."""
    height, width = lax.padtype_to_pads(x.shape[1:3], w.shape[:2], strides, padding) if isinstance(padding, str) else padding
    return (height[0], height[1]), (width[0], width[1])


def _convolve(x: Array, w: Array, strides: tuple[int, int], padding: Padding, groups: int) -> Array:
    return lax.conv_general_dilated(
        x, w, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups, precision=lax.Precision.HIGHEST
    )
