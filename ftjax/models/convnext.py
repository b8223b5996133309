"""ConvNeXt (Liu et al. 2022): stages of blocks with a 7x7 depthwise convolution, layer norm, exact GELU and layer scale.

A stage but the first begins with norm and a 2x2 convolution of stride 2, which belong to its first block.
"""

from __future__ import annotations

import functools

import flax.linen as nn
from jax import Array

from ftjax.errors import ConfigError
from ftjax.models import layers
from ftjax.models.family import Family
from ftjax.models.modules import Conv, Dense, Drop, Encoder, LayerNorm, LayerScale, drop_rates, remat, truncated
from ftjax.models.spec import Compute, ModelSpec

_EPSILON = 1e-6
_SAME = ((3, 3), (3, 3))


class Stem(nn.Module):
    """Patches of `patch` pixels, normalised."""

    patch: int
    width: int
    compute: Compute

    @nn.compact
    def __call__(self, images: Array) -> Array:
        size = (self.patch, self.patch)
        conv = Conv(self.width, size, self.compute, strides=size, padding="VALID", use_bias=True, kernel_init=truncated, name="patch")
        return LayerNorm(_EPSILON, self.compute, name="norm")(conv(images))


class Downsample(nn.Module):
    """Norm, then a 2x2 convolution with stride 2."""

    width: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = Conv(self.width, (2, 2), self.compute, strides=(2, 2), padding="VALID", use_bias=True, kernel_init=truncated, name="conv")
        return conv(LayerNorm(_EPSILON, self.compute, name="norm")(x))


class Mlp(nn.Module):
    """up (to four times the width), GELU, down."""

    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        hidden = layers.gelu(Dense(4 * x.shape[-1], self.compute, name="up")(x), self.compute.precision)
        return Dense(x.shape[-1], self.compute, name="down")(Drop(self.compute.dropout)(hidden, train), entered=x)


class Block(nn.Module):
    """x + layer_scale mlp(norm(depthwise(x))), after the downsampling where a stage begins."""

    width: int
    downsample: bool
    layer_scale: float
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if self.downsample:
            x = Downsample(self.width, self.compute, name="downsample")(x)
        depthwise = Conv(self.width, (7, 7), self.compute, padding=_SAME, groups=self.width, use_bias=True, kernel_init=truncated, name="depthwise")
        branch = Mlp(self.compute, name="mlp")(LayerNorm(_EPSILON, self.compute, name="norm")(depthwise(x)), train)
        branch = LayerScale(self.layer_scale, name="layer_scale")(branch) if self.layer_scale > 0 else branch
        return x + Drop(self.drop_path, whole=True)(branch, train)


class ConvNeXt(nn.Module):
    """Images [batch height width 3] to normalised average-pooled features [batch width], or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool = False, head: bool = True) -> Array:
        options, compute = self.spec.options, self.compute
        block = remat(Block, compute)
        rates = drop_rates(compute, sum(options["depths"]))
        blocks = [functools.partial(block, *shape, options["layer_scale"], rate, compute) for shape, rate in zip(_plan(self.spec), rates)]
        x = Stem(options["patch"], options["widths"][0], compute, name="stem")(images)
        x = Encoder(blocks, name="encoder")(x, train)
        x = Drop(compute.dropout)(LayerNorm(options["epsilon"], compute, name="norm")(x.mean((1, 2))), train)
        return Dense(self.spec.num_classes, compute, name="head")(x) if head else x


def _plan(spec: ModelSpec) -> list[tuple[int, bool]]:
    """(width, whether it begins by halving the resolution) of every block."""
    stages = enumerate(zip(spec.options["widths"], spec.options["depths"]))
    return [(width, stage > 0 and index == 0) for stage, (width, depth) in stages for index in range(depth)]


def _check(spec: ModelSpec) -> None:
    widths, depths, patch = (spec.options[name] for name in ("widths", "depths", "patch"))
    if not widths or len(widths) != len(depths) or min(*widths, *depths, patch) < 1:
        raise ConfigError(f"convnext: widths {list(widths)} and depths {list(depths)} need one positive entry for each stage, patch {patch} must be positive")
    least = patch * 2 ** (len(depths) - 1)
    if min(spec.image_size or ()) < least:
        raise ConfigError(f"model.image_size {spec.image_size}: patches of {patch} and {len(depths)} stages need at least {least} pixels on each side")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    return ("stem", *(f"block_{index}" for index in range(sum(spec.options["depths"]))), "norm", "head")


FAMILY = Family(
    name="convnext",
    options={"patch": 4, "widths": [96, 192, 384, 768], "depths": [3, 3, 9, 3], "layer_scale": 1e-6, "epsilon": 1e-6},
    module=ConvNeXt,
    groups=_groups,
    check=_check,
)
