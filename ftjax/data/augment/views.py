"""Several looks at a picture when it is tested: itself, mirrored, and its corners enlarged."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp

from ftjax.data.augment.draws import Images

VIEWS = {"one": 1, "flip": 2, "crops": 5, "crops_flip": 10}
"""How many views each choice has."""

_WINDOW = 7 / 8
"""Sides of a corner: 224 of 256 pixels, as in Krizhevsky et al. 2012."""


def looks(images: Images, views: str) -> list[Images]:
    """The views of each picture, itself first: "flip" and its mirror image, "crops" and its four corners, enlarged, "crops_flip" all that mirrored, too."""
    found = [images]
    if views.startswith("crops"):
        found += [_corner(images, bottom, right) for bottom, right in itertools.product((0, 1), repeat=2)]
    return found + ([view[:, :, ::-1] for view in found] if views.endswith("flip") else [])


def _corner(images: Images, bottom: int, right: int) -> Images:
    scale = jnp.full(2, 1 / _WINDOW, images.dtype)
    shift = -jnp.asarray([bottom * images.shape[1], right * images.shape[2]], images.dtype) * (1 - _WINDOW) * scale
    return jnp.clip(jax.image.scale_and_translate(images, images.shape, (1, 2), scale, shift, method="linear", antialias=False), 0.0, 1.0)
