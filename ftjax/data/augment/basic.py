"""Crop, mirror, brightness, contrast: the changes that fine-tuning on photos usually needs."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ftjax.data.augment.draws import Images, Keys, check_between, factors, grey
from ftjax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """Cut out a random rectangle and resize it to the whole picture (Szegedy et al. 2014, arXiv:1409.4842).

    Area `a ~ U(min_area, 1)` of the picture and ratio of the sides `r`, log-uniform in `[min_ratio, max_ratio]`, give width `sqrt(a r)` and height
    `sqrt(a / r)` of the picture's sides, cut to 1 where they exceed it (torchvision draws again instead). The place is uniform. Interpolation is linear; as the
    rectangle only grows, antialiasing would change nothing.
    """

    min_area: float
    min_ratio: float = 3 / 4
    max_ratio: float = 4 / 3

    def __post_init__(self) -> None:
        if not (0 < self.min_area <= 1 and 0 < self.min_ratio <= self.max_ratio):
            raise ConfigError(f"{self}: min_area must be above 0 and at most 1, and min_ratio above 0 and at most max_ratio")

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Crop every image by its own key; shapes stay."""
        return jax.vmap(self._one)(images, keys)

    def _one(self, image: Float[Array, "h w 3"], key: Key[Array, ""]) -> Float[Array, "h w 3"]:
        draw = jax.random.uniform(key, (4,), jnp.float32).astype(image.dtype)
        area = self.min_area + (1.0 - self.min_area) * draw[0]
        low, high = jnp.log(jnp.asarray([self.min_ratio, self.max_ratio], image.dtype))
        ratio = jnp.exp(low + (high - low) * draw[1])
        share = jnp.minimum(1.0, jnp.sqrt(jnp.stack([area / ratio, area * ratio])))
        size = jnp.asarray(image.shape[:2], image.dtype)
        corner = draw[2:] * (1.0 - share) * size
        scale = 1.0 / share
        crop = jax.image.scale_and_translate(image, image.shape, (0, 1), scale, -corner * scale, method="linear", antialias=False)
        return jnp.clip(crop, 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Mirror left and right with this probability."""

    probability: float = 0.5

    def __post_init__(self) -> None:
        check_between(self, "probability", self.probability)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Mirror those whose key says so."""
        flip = jax.vmap(lambda key: jax.random.uniform(key, (), jnp.float32) < self.probability)(keys)
        return jnp.where(flip.reshape(-1, 1, 1, 1), images[:, :, ::-1, :], images)


@dataclasses.dataclass(frozen=True)
class Brightness:
    """Multiply by a factor `~ U(1 - amount, 1 + amount)`, clipped to 0..1."""

    amount: float

    def __post_init__(self) -> None:
        check_between(self, "amount", self.amount)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Brighten or darken every image by its own factor."""
        return jnp.clip(images * factors(keys, self.amount, images.dtype), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Contrast:
    """Stretch the distance to the picture's mean luminance by a factor `~ U(1 - amount, 1 + amount)`, clipped to 0..1."""

    amount: float

    def __post_init__(self) -> None:
        check_between(self, "amount", self.amount)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Stretch or flatten every image by its own factor."""
        mean = grey(images).mean(axis=(1, 2), keepdims=True)
        return jnp.clip(mean + (images - mean) * factors(keys, self.amount, images.dtype), 0.0, 1.0)
