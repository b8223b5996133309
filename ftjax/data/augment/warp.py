"""Affine changes of place by one bilinear warp, with Pillow's conventions (`Image.transform`, `Image.rotate`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ftjax.data.augment.draws import Images

Matrices = Float[Array, "batch 2 3"]


def warp(images: Images, matrices: Matrices, fill: float) -> Images:
    """Pictures whose pixel at `(x, y)` is the old one at `matrix @ (x, y, 1)`, interpolated linearly; what comes from outside is `fill`.

    Coordinates are in pixels, the middle of the first one at (0.5, 0.5); half a pixel inside the border the nearest pixels count.
    """
    return jax.vmap(lambda image, matrix: _warped(image, matrix, fill))(images, matrices)


def rotation(angle: Float[Array, " batch"], size: tuple[int, int]) -> Matrices:
    """Counter-clockwise by `angle` radians about the middle of a picture of `size` (height, width)."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    middle_x, middle_y = size[1] / 2, size[0] / 2
    return _stacked(cos, -sin, middle_x - cos * middle_x + sin * middle_y, sin, cos, middle_y - sin * middle_x - cos * middle_y)


def shear_x(amount: Float[Array, " batch"]) -> Matrices:
    """Row y comes from `amount * y` further right."""
    return _moved(amount, b=1.0)


def shear_y(amount: Float[Array, " batch"]) -> Matrices:
    """Column x comes from `amount * x` further down."""
    return _moved(amount, d=1.0)


def translation_x(pixels: Float[Array, " batch"]) -> Matrices:
    """Everything comes from so many pixels further right."""
    return _moved(pixels, c=1.0)


def translation_y(pixels: Float[Array, " batch"]) -> Matrices:
    """Everything comes from so many pixels further down."""
    return _moved(pixels, f=1.0)


def _moved(amount: Float[Array, " batch"], *, b: float = 0.0, c: float = 0.0, d: float = 0.0, f: float = 0.0) -> Matrices:
    one = jnp.ones_like(amount)
    return _stacked(one, b * amount, c * amount, d * amount, one, f * amount)


def _stacked(*entries: Float[Array, " batch"]) -> Matrices:
    return jnp.stack(entries, axis=-1).reshape(-1, 2, 3)


def _warped(image: Float[Array, "h w 3"], matrix: Float[Array, "2 3"], fill: float) -> Float[Array, "h w 3"]:
    height, width, _ = image.shape
    columns, rows = (jnp.arange(width) + 0.5).astype(image.dtype), (jnp.arange(height) + 0.5).astype(image.dtype)
    x = matrix[0, 0] * columns[None, :] + matrix[0, 1] * rows[:, None] + matrix[0, 2]
    y = matrix[1, 0] * columns[None, :] + matrix[1, 1] * rows[:, None] + matrix[1, 2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
    right_share, lower_share = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
    pixels = image.reshape(-1, 3)

    def at(row: Float[Array, "h w"], column: Float[Array, "h w"]) -> Float[Array, "h w 3"]:
        place = jnp.clip(row, 0, height - 1).astype(jnp.int32) * width + jnp.clip(column, 0, width - 1).astype(jnp.int32)
        return pixels[place]

    upper = at(top, left) * (1 - right_share) + at(top, left + 1) * right_share
    lower = at(top + 1, left) * (1 - right_share) + at(top + 1, left + 1) * right_share
    return jnp.where(inside[..., None], upper * (1 - lower_share) + lower * lower_share, fill)
