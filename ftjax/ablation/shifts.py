"""Shifted copies of the test pictures: the same examples and labels, seen otherwise, so that a method's gain under shift is paired with its gain without.

Pure functions of (pixels, row): a few of the corruptions of Hendrycks & Dietterich (2019, arXiv 1903.12261) at one strength, and two changes of view. They
stand for shifts as a benchmark does; what another camera or another hospital does is another shift.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int, UInt8

from ftjax.data import Split
from ftjax.errors import ConfigError, did_you_mean

Pixels = Float[np.ndarray, "k h w 3"]
"""From 0 to 1."""


def _noise(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """Gaussian noise with deviation 0.15, drawn for each row."""
    drawn = [np.random.Generator(np.random.Philox(key=np.array([int(row), 0], np.uint64))).standard_normal(pixels.shape[1:]) for row in rows]
    return pixels + 0.15 * np.stack(drawn)


def _contrast(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """A third of the contrast, around each picture's mean."""
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (pixels - mean) / 3


def _brightness(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """Brighter by 0.3."""
    return pixels + 0.3


def _blur(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """The mean over 3 x 3 pixels."""
    padded = np.pad(pixels, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    height, width = pixels.shape[1:3]
    return sum(padded[:, top : top + height, left : left + width] for top in range(3) for left in range(3)) / 9  # type: ignore[return-value]


def _rotate(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """A quarter turn."""
    return np.rot90(pixels, axes=(1, 2))


def _invert(pixels: Pixels, rows: Int[np.ndarray, " k"]) -> Pixels:
    """The negative."""
    return 1 - pixels


NAMES: Mapping[str, Callable[[Pixels, Int[np.ndarray, " k"]], Pixels]] = {
    "noise": _noise,
    "contrast": _contrast,
    "brightness": _brightness,
    "blur": _blur,
    "rotate": _rotate,
    "invert": _invert,
}


def check(names: tuple[str, ...]) -> None:
    """Refuse what is no shift.

    Raises:
      ConfigError: with the nearest name.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"unknown shift {name!r}; {did_you_mean(name, NAMES)}")


def shifted(split: Split, name: str) -> Split:
    """A split of pictures whose every picture is changed.

    Raises:
      ConfigError: no such shift, or the split holds no pictures.
    """
    check((name,))
    if "image" not in split.fields(np.array([0])):
        raise ConfigError(f"shift {name!r} changes pictures, and these examples are texts")

    def fields(rows: Int[np.ndarray, " k"]) -> dict[str, UInt8[np.ndarray, "k h w 3"]]:
        found = split.fields(rows)
        changed = NAMES[name](found["image"].astype(np.float64) / 255, rows)
        return {**found, "image": np.clip(np.rint(255 * changed), 0, 255).astype(np.uint8)}

    # Names of their own, so that no cache takes them for the rows that they were made of.
    return dataclasses.replace(split, ids=tuple(f"{name} of {row}" for row in split.ids), fields=fields)
