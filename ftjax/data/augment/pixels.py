"""The operations of RandAugment that look at values and not at places, each as Pillow defines it (`ImageOps`, `ImageEnhance`), on float pictures in 0..1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax.data.augment.draws import Images, grey

LEVELS = 256
Factors = Float[Array, "batch 1 1 1"]


def autocontrast(images: Images) -> Images:
    """Every channel stretched to 0..1; one of a single value stays."""
    low, high = images.min(axis=(1, 2), keepdims=True), images.max(axis=(1, 2), keepdims=True)
    return jnp.where(high > low, (images - low) / jnp.where(high > low, high - low, 1.0), images)


def equalize(images: Images) -> Images:
    """Every channel mapped so that its 256 levels are about equally frequent, by Pillow's table of whole numbers."""
    levels = _levels(images)
    count = jax.vmap(_equalized, in_axes=-1, out_axes=-1)
    return jax.vmap(count)(levels).astype(images.dtype) / (LEVELS - 1)


def posterize(images: Images, bits: int) -> Images:
    """Only the highest `bits` bits of each of the 256 levels."""
    step = 2 ** (8 - bits)
    return (_levels(images) // step * step).astype(images.dtype) / (LEVELS - 1)


def solarize(images: Images, threshold: float) -> Images:
    """What is at least `threshold` (0..1) to the nearest level, inverted."""
    return jnp.where(images > threshold - 0.5 / (LEVELS - 1), 1.0 - images, images)


def saturation_base(images: Images) -> Images:
    """What saturation 0 looks like."""
    return jnp.broadcast_to(grey(images), images.shape)


def contrast_base(images: Images) -> Images:
    """What contrast 0 looks like."""
    return jnp.broadcast_to(grey(images).mean(axis=(1, 2), keepdims=True), images.shape)


def sharpness_base(images: Images) -> Images:
    """What sharpness 0 looks like: the mean of 3 x 3 pixels with the middle one counted five times; pixels at the border stay (Pillow's `SMOOTH`)."""
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return images.at[:, 1:-1, 1:-1].set((box + 4.0 * images[:, 1:-1, 1:-1]) / 13.0)


def enhanced(images: Images, base: Images, factor: Factors) -> Images:
    """`base + factor * (images - base)`, clipped to 0..1 (Pillow's `Image.blend` behind `ImageEnhance`)."""
    return jnp.clip(base + factor * (images - base), 0.0, 1.0)


def _levels(images: Images) -> Int[Array, "batch h w 3"]:
    return jnp.round(images * (LEVELS - 1)).astype(jnp.int32)


def _equalized(levels: Int[Array, "h w"]) -> Int[Array, "h w"]:
    """Pillow's `ImageOps.equalize` for one channel: the table is cut at the frequency of the highest level that occurs."""
    counts = jnp.bincount(levels.ravel(), length=LEVELS)
    step = (counts.sum() - counts[levels.max()]) // (LEVELS - 1)
    table = (step // 2 + jnp.cumsum(counts) - counts) // jnp.maximum(step, 1)
    return jnp.where(step > 0, jnp.minimum(table, LEVELS - 1)[levels], levels)
