"""Vision Transformer (Dosovitskiy et al. 2021) as in timm: pre-norm, class token, exact GELU, layer norm with epsilon 1e-6.

Its relatives are variants: another epsilon (Hugging Face's ViT has 1e-12), DeiT's distillation token (Touvron et al. 2021), and DINOv2's layer
scale and head over class token and mean patch (Oquab et al. 2023).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from ftjax.errors import ConfigError, did_you_mean
from ftjax.models.family import Family
from ftjax.models.modules import Conv as Patch
from ftjax.models.modules import Dense, Drop, Encoder, LayerNorm, LayerScale, drop_rates, followed_by, prompt_of, remat, truncated
from ftjax.models.spec import Compute, ModelSpec, Option
from ftjax.models.transformer import Attention, Mlp, partition_spec

_VARIANTS: Mapping[str, Option] = {"epsilon": 1e-6, "layer_scale": False, "distillation": False, "pool": "token"}
_POOLS = ("token", "token_mean")
"""What the head sees: the class token, or that beside the mean over the patches."""


class Stem(nn.Module):
    """Patches to tokens, the class token (and DeiT's for distillation) in front, learned positions added."""

    patch: int
    width: int
    distillation: bool
    compute: Compute

    @nn.compact
    def __call__(self, images: Array) -> Array:
        size = (self.patch, self.patch)
        lecun = nn.initializers.lecun_normal()
        x = Patch(self.width, size, self.compute, strides=size, padding="VALID", use_bias=True, kernel_init=lecun, name="patch")(images)
        x = x.reshape(x.shape[0], -1, self.width)
        names = ("class_token", "distillation_token") if self.distillation else ("class_token",)
        tokens = [self.param(name, nn.initializers.normal(1e-6), (1, 1, self.width)) for name in names]
        x = jnp.concatenate([*(jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, self.width)) for token in tokens), x], axis=1)
        return x + self.param("position", truncated, (1, x.shape[1], self.width))


class Block(nn.Module):
    """x + attention(norm1(x)), then x + mlp(norm2(x)); with `layer_scale` each branch is multiplied by a learned vector first."""

    heads: int
    hidden: int
    epsilon: float
    layer_scale: bool
    drop_path: float
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        def join(x: Array, branch: Array, number: int) -> Array:
            branch = LayerScale(1.0, name=f"layer_scale{number}")(branch) if self.layer_scale else branch
            return x + Drop(self.drop_path, whole=True)(Drop(self.compute.dropout)(branch, train), train)

        mlp = Mlp(self.hidden, self.compute, dropout=self.compute.dropout, name="mlp")
        norm1, prompt = LayerNorm(self.epsilon, self.compute, name="norm1"), prompt_of(self)
        attention = Attention(self.heads, self.compute, name="attention")
        x = join(x, attention(norm1(x), prompt=None if prompt is None else norm1(prompt)), 1)
        return join(x, mlp(LayerNorm(self.epsilon, self.compute, name="norm2")(x), train), 2)


class VisionTransformer(nn.Module):
    """Images [batch height width 3] to what the head sees (`pool`; [batch width] or [batch 2*width]), or with `head` to logits."""

    spec: ModelSpec
    compute: Compute

    @nn.compact
    def __call__(self, images: Array, train: bool = False, head: bool = True) -> Array:
        options, compute = {**_VARIANTS, **self.spec.options}, self.compute
        hidden = round(options["width"] * options["mlp_ratio"])
        block = functools.partial(remat(Block, compute), options["heads"], hidden, options["epsilon"], options["layer_scale"])
        blocks = [functools.partial(block, rate, compute) for rate in drop_rates(compute, options["depth"])]
        x = Stem(options["patch"], options["width"], options["distillation"], compute, name="stem")(images)
        length = x.shape[1]
        x = followed_by(Drop(compute.dropout)(x, train), prompt_of(self, "stem"))
        x = Encoder(blocks, compute.scan, name="encoder")(x, train)[:, :length]
        x = LayerNorm(options["epsilon"], compute, name="norm")(x)
        x = jnp.concatenate([x[:, 0], x[:, 1:].mean(1)], axis=-1) if options["pool"] == "token_mean" else x[:, 0]
        return Dense(self.spec.num_classes, compute, name="head")(x) if head else x


def _check(spec: ModelSpec) -> None:
    width, heads, patch = (spec.options[name] for name in ("width", "heads", "patch"))
    if width % heads:
        raise ConfigError(f"vit: width {width} is not a multiple of heads {heads}")
    pool = spec.options.get("pool", _POOLS[0])
    if pool not in _POOLS or (pool == "token_mean" and spec.options.get("distillation")):
        raise ConfigError(f"vit: pool {pool!r}: {did_you_mean(pool, _POOLS)}; 'token_mean' goes without distillation")
    for axis, size in zip(("height", "width"), spec.image_size or ()):
        if size % patch:
            below = size // patch * patch
            nearest = f"{below} or {below + patch}" if below else f"{patch}"
            raise ConfigError(f"model.image_size {spec.image_size}: the {axis} {size} is not a multiple of the patch size {patch}; the nearest is {nearest}")


def _groups(spec: ModelSpec) -> tuple[str, ...]:
    return ("stem", *(f"block_{index}" for index in range(spec.options["depth"])), "norm", "head")


FAMILY = Family(
    name="vit",
    options={"patch": 16, "width": 192, "depth": 12, "heads": 3, "mlp_ratio": 4.0},
    module=VisionTransformer,
    groups=_groups,
    check=_check,
    partition_spec=partition_spec,
    variants=_VARIANTS,
    alike=True,
)
