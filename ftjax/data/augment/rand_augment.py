"""RandAugment (Cubuk et al. 2020, arXiv:1909.13719): a few operations drawn at random, all of one magnitude, instead of a policy that was searched for."""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax.data.augment import pixels, warp
from ftjax.data.augment.draws import Images, Keys, uniform
from ftjax.errors import ConfigError

OPERATIONS = (
    "identity",
    "autocontrast",
    "equalize",
    "rotate",
    "solarize",
    "saturation",
    "posterize",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The paper's fourteen, each as likely as the others."""

STRONGEST = 10.0
_FILL = 128 / 255
"""What comes from outside the picture: the grey of the authors' code."""


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """`operations` of the fourteen, one after the other, drawn with replacement for each picture.

    At magnitude M of 10, m = M / 10: rotate by 30 m degrees, shear by 0.3 m, translate by 150/331 m of the side, factors 1 +- 0.9 m of saturation, contrast,
    brightness and sharpness, 8 - round(4 m) bits, pixels from 1 - m on inverted; the sign is drawn. These are the paper's ranges as torchvision has them
    (`transforms.RandAugment`, there over 30 bins, so its default 9 is 3 here), in which everything grows with M. Autocontrast and equalize have no strength;
    magnitude 0 leaves them out, too, so that it changes nothing.
    """

    operations: int = 2
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        if self.operations < 0 or not 0 <= self.magnitude <= STRONGEST:
            raise ConfigError(f"{self}: operations must be 0 or more and magnitude lie in 0..{STRONGEST:g}")

    def __call__(self, images: Images, keys: Keys) -> Images:
        """Change every image by its own operations."""
        if not self.operations or not self.magnitude:
            return images
        draw = uniform(keys, 2 * self.operations, jnp.float32)
        for number in range(self.operations):
            chosen = jnp.floor(draw[:, 2 * number] * len(OPERATIONS)).astype(jnp.int32)
            images = applied(images, chosen, jnp.where(draw[:, 2 * number + 1] < 0.5, -1, 1), self.magnitude / STRONGEST)
        return images


def applied(images: Images, chosen: Int[Array, " batch"], sign: Int[Array, " batch"], strength: float) -> Images:
    """One operation for each picture.

    Every operation is computed for the whole batch and one is taken: a batch stays one program without branches, spread over devices as it is.

    Args:
      images: in 0..1.
      chosen: index in `OPERATIONS`.
      sign: -1 or 1.
      strength: 0..1.
    """

    def of(*names: str) -> Array:
        return jnp.isin(chosen, jnp.array([OPERATIONS.index(name) for name in names])).reshape(-1, 1, 1, 1)

    placed = of("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
    factor = (1.0 + 0.9 * strength * sign).astype(images.dtype).reshape(-1, 1, 1, 1)
    base = jnp.where(of("saturation"), pixels.saturation_base(images), jnp.where(of("contrast"), pixels.contrast_base(images), 0.0))
    base = jnp.where(of("sharpness"), pixels.sharpness_base(images), base)
    changed = jnp.where(placed, warp.warp(images, _matrices(chosen, sign.astype(images.dtype) * strength, (images.shape[1], images.shape[2])), _FILL), images)
    changed = jnp.where(of("saturation", "contrast", "brightness", "sharpness"), pixels.enhanced(images, base, factor), changed)
    changed = jnp.where(of("autocontrast"), pixels.autocontrast(images), changed)
    changed = jnp.where(of("equalize"), pixels.equalize(images), changed)
    changed = jnp.where(of("posterize"), pixels.posterize(images, 8 - round(4 * strength)), changed)
    return jnp.where(of("solarize"), pixels.solarize(images, 1.0 - strength), changed)


def _matrices(chosen: Int[Array, " batch"], strength: Float[Array, " batch"], size: tuple[int, int]) -> Float[Array, "batch 2 3"]:
    """Where the pixels of each picture come from; everything that does not move stays in its place."""
    height, width = size
    made = {
        "rotate": warp.rotation(math.radians(30) * strength, size),
        "shear_x": warp.shear_x(0.3 * strength),
        "shear_y": warp.shear_y(0.3 * strength),
        "translate_x": warp.translation_x(150 / 331 * width * strength),
        "translate_y": warp.translation_y(150 / 331 * height * strength),
    }
    still = warp.translation_x(jnp.zeros_like(strength))
    return jnp.select([(chosen == OPERATIONS.index(name)).reshape(-1, 1, 1) for name in made], list(made.values()), still)
