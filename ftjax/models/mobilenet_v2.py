"""MobileNetV2 (Sandler et al. 2018) in Keras' layout: inverted residuals with linear bottlenecks, ReLU6, batch norm with epsilon 1e-3.

Keras pads strided convolutions by hand (`correct_pad`): nothing before and one pixel after on an even axis, one on both sides of an odd one.
That is what XLA's "SAME" does for a 3x3 kernel with stride 2.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
from jax import Array

from ftjax.errors import ConfigError
from ftjax.models.family import Family
from ftjax.models.modules import BatchNorm, Conv, Dense, Drop, Encoder, drop_rates, remat
from ftjax.models.spec import Compute, ModelSpec

_EPSILON = 1e-3
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels at alpha 1, blocks, stride of the first block): table 2 of the paper."""


def make_divisible(channels: float, divisor: int = 8) -> int:
    """`channels` rounded to a multiple of `divisor`, never down by more than a tenth.

    >>> [make_divisible(c * 0.35) for c in (32, 16, 24, 320)]
    [16, 8, 8, 112]
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNorm(nn.Module):
    """The first and the last convolution, each with norm and ReLU6."""

    features: int
    size: int
    stride: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = Conv(self.features, (self.size,) * 2, self.compute, strides=(self.stride,) * 2, name="conv")(x)
        return jax.nn.relu6(BatchNorm(_EPSILON, self.compute, name="norm")(x, train))


class Block(nn.Module):
    """Expand (1x1), filter each channel (3x3 depthwise), project (1x1) without activation; added to the input where shapes agree."""

    expansion: int
    features: int
    stride: int
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def norm(name: str, y: Array) -> Array:
            return BatchNorm(_EPSILON, self.compute, name=name)(y, train)

        y, hidden = x, x.shape[-1] * self.expansion
        if self.expansion > 1:
            y = jax.nn.relu6(norm("expand_norm", Conv(hidden, (1, 1), self.compute, name="expand")(y)))
        depthwise = Conv(hidden, (3, 3), self.compute, strides=(self.stride,) * 2, groups=hidden, name="depthwise")
        y = jax.nn.relu6(norm("depthwise_norm", depthwise(y)))
        y = norm("project_norm", Conv(self.features, (1, 1), self.compute, name="project")(y))
        return x + Drop(self.drop_path, whole=True)(y, train) if x.shape == y.shape else y


class MobileNetV2(nn.Module):
    """Images [batch height width 3] to average-pooled features [batch width], or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool = False, head: bool = True) -> Array:
        alpha, compute = self.spec.options["alpha"], self.compute
        block = remat(Block, compute)
        plan = _plan(alpha)
        blocks = [functools.partial(block, *shape, rate, compute) for shape, rate in zip(plan, drop_rates(compute, len(plan)))]
        x = ConvNorm(make_divisible(32 * alpha), 3, 2, compute, name="stem")(images, train)
        x = Encoder(blocks, name="encoder")(x, train)
        x = ConvNorm(make_divisible(1280 * max(alpha, 1.0)), 1, 1, compute, name="top")(x, train)
        x = Drop(compute.dropout)(x.mean((1, 2)), train)
        return Dense(self.spec.num_classes, compute, name="head")(x) if head else x


def _plan(alpha: float) -> list[tuple[int, int, int]]:
    """(expansion, features, stride) of every block."""
    return [
        (expansion, make_divisible(int(channels * alpha)), stride if index == 0 else 1)
        for expansion, channels, blocks, stride in _STAGES
        for index in range(blocks)
    ]


def _check(spec: ModelSpec) -> None:
    if not spec.options["alpha"] > 0:
        raise ConfigError(f"mobilenet_v2: alpha {spec.options['alpha']!r}: the width multiplier must be positive")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    return ("stem", *(f"block_{index}" for index in range(len(_plan(spec.options["alpha"])))), "top", "head")


FAMILY = Family(name="mobilenet_v2", options={"alpha": 1.0}, module=MobileNetV2, groups=_groups, check=_check)
