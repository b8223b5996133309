"""Vision Transformer (Dosovitskiy et al. 2021) as in timm: pre-norm, class token, exact GELU, layer norm with epsilon 1e-6."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ftjax.errors import ConfigError
from ftjax.models import layers
from ftjax.models.family import Family
from ftjax.models.modules import Conv as Patch
from ftjax.models.modules import Dense, Drop, Encoder, LayerNorm, drop_rates, remat, truncated
from ftjax.models.spec import Compute, ModelSpec

_EPSILON = 1e-6


class Stem(nn.Module):
    """Patches to tokens, the class token in front, learned positions added."""

    patch: int
    width: int
    compute: Compute

    @nn.compact
    def __call__(self, images: Array) -> Array:
        size = (self.patch, self.patch)
        lecun = nn.initializers.lecun_normal()
        x = Patch(self.width, size, self.compute, strides=size, padding="VALID", use_bias=True, kernel_init=lecun, name="patch")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class_token", nn.initializers.normal(1e-6), (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width)), x], axis=1)
        return x + self.param("position", truncated, (1, x.shape[1], self.width))


class Attention(nn.Module):
    """Multi-head self-attention with biases on all four projections."""

    heads: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, length, width = x.shape

        def project(name: str) -> Array:
            return Dense(width, self.compute, name=name)(x).reshape(batch, length, self.heads, -1)

        mixed = layers.attention(project("query"), project("key"), project("value"), self.compute.precision)
        return Dense(width, self.compute, name="out")(mixed.reshape(batch, length, width))


class Mlp(nn.Module):
    """up, GELU, down."""

    hidden: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        hidden = layers.gelu(Dense(self.hidden, self.compute, name="up")(x), self.compute.precision)
        return Dense(x.shape[-1], self.compute, name="down")(Drop(self.compute.dropout)(hidden, train))


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x))."""

    heads: int
    hidden: int
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def join(x: Array, branch: Array) -> Array:
            return x + Drop(self.drop_path, whole=True)(Drop(self.compute.dropout)(branch, train), train)

        x = join(x, Attention(self.heads, self.compute, name="attention")(LayerNorm(_EPSILON, self.compute, name="norm1")(x)))
        return join(x, Mlp(self.hidden, self.compute, name="mlp")(LayerNorm(_EPSILON, self.compute, name="norm2")(x), train))


class VisionTransformer(nn.Module):
    """Images [batch height width 3] to the class token's final features [batch width], or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool = False, head: bool = True) -> Array:
        options, compute = self.spec.options, self.compute
        hidden = round(options["width"] * options["mlp_ratio"])
        block = remat(Block, compute)
        blocks = [functools.partial(block, options["heads"], hidden, rate, compute) for rate in drop_rates(compute, options["depth"])]
        x = Stem(options["patch"], options["width"], compute, name="stem")(images)
        x = Encoder(blocks, name="encoder")(Drop(compute.dropout)(x, train), train)
        x = LayerNorm(_EPSILON, compute, name="norm")(x)[:, 0]
        return Dense(self.spec.num_classes, compute, name="head")(x) if head else x


def _check(spec: ModelSpec) -> None:
    width, heads, patch = (spec.options[name] for name in ("width", "heads", "patch"))
    if width % heads:
        raise ConfigError(f"vit: width {width} is not a multiple of heads {heads}")
    for axis, size in zip(("height", "width"), spec.image_size):
        if size % patch:
            below = size // patch * patch
            nearest = f"{below} or {below + patch}" if below else f"{patch}"
            raise ConfigError(f"model.image_size {spec.image_size}: the {axis} {size} is not a multiple of the patch size {patch}; the nearest is {nearest}")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    return ("stem", *(f"block_{index}" for index in range(spec.options["depth"])), "norm", "head")


def _partition(path: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """Megatron's split (Shoeybi et al. 2019): outputs of query, key, value and up, inputs of out and down, so a block has two reductions."""
    module, _, name = path.rpartition("/")
    role = module.rpartition("/")[2] if module.startswith("encoder/") else ""
    if role in ("query", "key", "value", "up"):
        return {"kernel": (None, "tensor"), "bias": ("tensor",)}[name]
    if role in ("out", "down") and name == "kernel":
        return ("tensor", None)
    return (None,) * len(shape)


FAMILY = Family(
    name="vit",
    options={"patch": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4.0},
    module=VisionTransformer,
    groups=_groups,
    check=_check,
    partition_spec=_partition,
)
