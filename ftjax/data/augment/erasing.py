"""Random erasing: a rectangle of noise, so that no single part of a picture decides."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from ftjax.data.augment.draws import Images, Keys, check_between
from ftjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RandomErasing:
    """With this probability fill a random rectangle with noise, every value `~ U(0, 1)` (Zhong et al. 2020, arXiv:1708.04896, variant RE-R).

    Area `a ~ U(min_area, max_area)` of the picture and ratio of the sides `r = height / width`, log-uniform in `[min_ratio, 1 / min_ratio]` (timm; the paper's
    is uniform) as far as the rectangle then fits, so that its area is always a, but for rounding to whole pixels. The place is uniform.
    """

    probability: float
    min_area: float = 0.02
    max_area: float = 0.4
    min_ratio: float = 0.3

    def __post_init__(self) -> None:
        check_between(self, "probability", self.probability)
        if not (0 < self.min_area <= self.max_area <= 1 and 0 < self.min_ratio <= 1):
            raise ConfigError(f"{self}: areas must satisfy 0 < min_area <= max_area <= 1, and min_ratio lie above 0 and be at most 1")

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Erase a part of those whose key says so."""
        return jax.vmap(self._one)(images, keys)

    def _one(self, image: Float[Array, "h w 3"], key: Key[Array, ""]) -> Float[Array, "h w 3"]:
        of_shape, of_noise = jax.random.split(key)
        draw = jax.random.uniform(of_shape, (5,), jnp.float32)
        noise = jax.random.uniform(of_noise, image.shape, jnp.float32).astype(image.dtype)
        inside = within(self._box(draw[1:], *image.shape[:2]), *image.shape[:2])
        return jnp.where((inside & (draw[0] < self.probability))[..., None], noise, image)

    def _box(self, draw: Float[Array, " numbers"], height: int, width: int) -> Int[Array, " edges"]:
        """Top, left, bottom (after the last row) and right (after the last column)."""
        area = self.min_area + (self.max_area - self.min_area) * draw[0]
        # Sides sqrt(a r) and sqrt(a / r) of the picture's fit while a <= r <= 1 / a.
        lowest = jnp.maximum(math.log(self.min_ratio) + math.log(width / height), jnp.log(area))
        highest = jnp.minimum(-math.log(self.min_ratio) + math.log(width / height), -jnp.log(area))
        ratio = jnp.exp(lowest + (jnp.maximum(highest, lowest) - lowest) * draw[1])
        size = jnp.array([height, width])
        sides = jnp.clip(jnp.round(jnp.sqrt(area * jnp.stack([ratio, 1 / ratio])) * size).astype(jnp.int32), 1, size)
        corner = jnp.floor(draw[2:] * (size - sides + 1)).astype(jnp.int32)
        return jnp.concatenate([corner, corner + sides])


def within(box: Int[Array, " edges"], height: int, width: int) -> Array:
    """bool `[height width]`: the pixels of the rectangle (top, left, bottom, right)."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    return (rows >= box[0]) & (rows < box[2]) & (columns >= box[1]) & (columns < box[3])
