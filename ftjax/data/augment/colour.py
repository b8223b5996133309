"""Saturation and hue, as the colour jitter of torchvision and timm defines them; brightness and contrast are in `basic`."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from ftjax.data.augment.draws import Images, Keys, check_between, factors, grey, uniform


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Stretch the distance to each pixel's luminance by a factor `~ U(1 - amount, 1 + amount)`, clipped to 0..1 (torchvision's `adjust_saturation`)."""

    amount: float

    def __post_init__(self) -> None:
        check_between(self, "amount", self.amount)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Make the colours of every image stronger or paler by its own factor."""
        plain = grey(images)
        return jnp.clip(plain + (images - plain) * factors(keys, self.amount, images.dtype), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Hue:
    """Turn the hue of all pixels by one share `~ U(-amount, amount)` of the colour circle, at most half of it (torchvision's `adjust_hue`)."""

    amount: float

    def __post_init__(self) -> None:
        check_between(self, "amount", self.amount, 0.5)

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Turn the colours of every image by its own angle."""
        draw = uniform(keys, 1, images.dtype).reshape(-1, 1, 1)
        return turned(images, self.amount * (2.0 * draw - 1.0))


def turned(images: Images, share: jnp.ndarray) -> Images:
    """Every pixel with its hue `share` further, `[batch 1 1]`, its saturation and value kept (HSV, as Python's colorsys)."""
    red, green, blue = (images[..., channel] for channel in range(3))
    value, low = images.max(axis=-1), images.min(axis=-1)
    span = value - low
    safe = jnp.where(span > 0, span, 1.0)
    of_red, of_green, of_blue = (green - blue) / safe, 2.0 + (blue - red) / safe, 4.0 + (red - green) / safe
    sixths = jnp.where(value == red, of_red, jnp.where(value == green, of_green, of_blue)) + 6.0 * share
    places = (sixths[..., None] + jnp.asarray((5.0, 3.0, 1.0), images.dtype).reshape(1, 1, 1, 3)) % 6.0
    return value[..., None] - span[..., None] * jnp.clip(jnp.minimum(places, 4.0 - places), 0.0, 1.0)
