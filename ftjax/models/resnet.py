"""Residual networks (He et al. 2015, 2016) as one parametrised family: torchvision's v1.5 layout and the CIFAR ones of the Flax tutorials.

Where implementations differ there is an option: how strided convolutions are padded, what a shortcut that changes shape does, and whether a
pre-activation network ends in a norm.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models.family import Family
from ftjax.models.layers import Padding
from ftjax.models.modules import BatchNorm, Conv, Dense, Drop, Encoder, drop_rates, remat
from ftjax.models.spec import Compute, ModelSpec, Option

_EPSILON = 1e-5
_EXPANSION = {"basic": 1, "preact": 1, "bottleneck": 4}
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}
_CHOICES = {
    "stem": ("cifar", "imagenet"),
    "block": tuple(_EXPANSION),
    "activation": tuple(_ACTIVATIONS),
    "padding": ("same", "symmetric"),
    "shortcut": ("conv_norm", "conv_bias", "norm_conv", "subsample"),
}


def _padding(kind: str, size: int) -> Padding:
    """ "same" is XLA's and TensorFlow's (a stride of 2 pads only at the end of an even axis), "symmetric" is torch's."""
    return "SAME" if kind == "same" else ((size // 2, size // 2),) * 2


class Stem(nn.Module):
    """3x3 convolution ("cifar"), or 7x7 with stride 2 and max pooling ("imagenet"); without norm before pre-activation blocks."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool) -> Array:
        options = self.spec.options
        size, stride = (3, 1) if options["stem"] == "cifar" else (7, 2)
        padding = _padding(options["padding"], size)
        x = Conv(options["widths"][0], (size, size), self.compute, strides=(stride, stride), padding=padding, name="conv")(images)
        if options["block"] != "preact":
            x = _ACTIVATIONS[options["activation"]](BatchNorm(_EPSILON, self.compute, name="norm")(x, train))
        return x if options["stem"] == "cifar" else _max_pool(x, _padding(options["padding"], 3))


def _max_pool(x: Array, padding: Padding) -> Array:
    """3x3 windows with stride 2."""
    spatial = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), spatial)


class Shortcut(nn.Module):
    """The path around a block that changes shape."""

    kind: str
    features: int
    stride: int
    activation: Callable[[Array], Array]
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        if self.kind == "subsample":
            return _subsample(x, self.features, self.stride)
        conv = Conv(self.features, (1, 1), self.compute, strides=(self.stride,) * 2, use_bias=self.kind == "conv_bias", name="conv")
        if self.kind == "conv_bias":
            return conv(x)
        norm = BatchNorm(_EPSILON, self.compute, name="norm")
        return conv(self.activation(norm(x, train))) if self.kind == "norm_conv" else norm(conv(x), train)


def _subsample(x: Array, features: int, stride: int) -> Array:
    """Every `stride`-th pixel, channels padded with zeros on both sides (option A of He et al. 2015); no parameters."""
    missing = features - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class Block(nn.Module):
    """Basic (two 3x3), pre-activation (the same, norm first) or bottleneck (1x1, strided 3x3, 1x1) residual block."""

    options: Mapping[str, Option]
    width: int
    stride: int
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        activation = _ACTIVATIONS[self.options["activation"]]
        features = self.width * _EXPANSION[self.options["block"]]
        branch = self._branch(x, train, activation)
        if x.shape[-1] != features or self.stride != 1:
            x = Shortcut(self.options["shortcut"], features, self.stride, activation, self.compute, name="shortcut")(x, train)
        x = x + Drop(self.drop_path, whole=True)(branch, train)
        return x if self.options["block"] == "preact" else activation(x)

    def _branch(self, x: Array, train: bool, activation: Callable[[Array], Array]) -> Array:
        kind = self.options["block"]
        plan = ((1, 1, self.width), (3, self.stride, self.width), (1, 1, 4 * self.width))
        plan = plan if kind == "bottleneck" else ((3, self.stride, self.width), (3, 1, self.width))
        for number, (size, stride, features) in enumerate(plan, start=1):
            padding = _padding(self.options["padding"], size)
            conv = Conv(features, (size, size), self.compute, strides=(stride, stride), padding=padding, name=f"conv{number}")
            norm = BatchNorm(_EPSILON, self.compute, name=f"norm{number}")
            if kind == "preact":
                x = conv(activation(norm(x, train)))
            else:
                x = norm(conv(x), train)
                x = activation(x) if number < len(plan) else x
        return x


class ResNet(nn.Module):
    """Images [batch height width 3] to average-pooled features [batch width], or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool = False, head: bool = True) -> Array:
        options, compute = self.spec.options, self.compute
        block = remat(Block, compute)
        rates = drop_rates(compute, sum(options["depths"]))
        blocks = [functools.partial(block, options, width, stride, rate, compute) for (width, stride), rate in zip(_plan(options), rates)]
        x = Encoder(blocks, name="encoder")(Stem(self.spec, compute, name="stem")(images, train), train)
        if options["final_norm"]:
            x = _ACTIVATIONS[options["activation"]](BatchNorm(_EPSILON, compute, name="norm")(x, train))
        x = Drop(compute.dropout)(x.mean((1, 2)), train)
        return Dense(self.spec.num_classes, compute, name="head")(x) if head else x


def _plan(options: Mapping[str, Option]) -> list[tuple[int, int]]:
    """(width, stride) of every block: each stage but the first begins by halving the resolution."""
    stages = enumerate(zip(options["widths"], options["depths"]))
    return [(width, 2 if stage and not index else 1) for stage, (width, depth) in stages for index in range(depth)]


def _complete(options: dict[str, Option]) -> dict[str, Option]:
    """Open options follow the stem and the block: CIFAR networks as the Flax tutorials build them, ImageNet ones as torchvision does."""
    cifar, preact = options["stem"] == "cifar", options["block"] == "preact"
    shortcut = "norm_conv" if preact else "conv_bias" if cifar else "conv_norm"
    return options | {"padding": options["padding"] or ("same" if cifar else "symmetric"), "shortcut": options["shortcut"] or shortcut}


def _check(spec: ModelSpec) -> None:
    for name, allowed in _CHOICES.items():
        if spec.options[name] not in allowed:
            raise ConfigError(f"resnet: option {name} {spec.options[name]!r}: {did_you_mean(str(spec.options[name]), allowed)}")
    widths, depths = spec.options["widths"], spec.options["depths"]
    if not widths or len(widths) != len(depths):
        raise ConfigError(f"resnet: widths {list(widths)} and depths {list(depths)} need one entry for each stage")
    if spec.options["final_norm"] and spec.options["block"] != "preact":
        raise ConfigError("resnet: final_norm belongs to block 'preact'; the others end normalised")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    blocks = (f"block_{index}" for index in range(sum(spec.options["depths"])))
    return ("stem", *blocks, *(("norm",) if spec.options["final_norm"] else ()), "head")


FAMILY = Family(
    name="resnet",
    options={
        "stem": "imagenet",
        "block": "basic",
        "widths": [64, 128, 256, 512],
        "depths": [2, 2, 2, 2],
        "activation": "relu",
        "padding": "",
        "shortcut": "",
        "final_norm": False,
    },
    module=ResNet,
    groups=_groups,
    complete=_complete,
    check=_check,
)
