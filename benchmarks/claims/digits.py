"""Two real sets of handwritten digits as grey pictures of 8 x 8 pixels, and shifts of them: MNIST (pretraining) and scikit-learn's (the task).

From one set to the other is a natural shift: other writers, another scanner, another way to shrink. The made shifts are plain functions of pixels.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIDE = 8
PATCH = 4
"""Of the model; `scrambled` moves pixels within a patch, so that a first layer can undo it."""
CLASSES = 10


class Digits(NamedTuple):
    """Rows of one set, or of a part of it."""

    images: np.ndarray
    """uint8 `[rows 8 8]`."""
    labels: np.ndarray
    """int32 `[rows]`."""

    def rows(self, index: np.ndarray) -> Digits:
        return Digits(self.images[index], self.labels[index])


def shared_data() -> Path:
    """The folder of real data, `FTJAX_SHARED_DATA`; by default beside the repository."""
    return Path(os.environ.get("FTJAX_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@functools.cache
def mnist() -> Digits:
    """The 10,000 digits of MNIST's test set, the 20 x 20 pixels that hold the digit averaged down to 8 x 8."""
    folder = shared_data() / "images" / "mnist_t10k"
    pixels = np.frombuffer(gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    labels = np.frombuffer(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BOX, box=(4, 4, 24, 24)) for one in pixels]
    return Digits(np.stack([np.asarray(one) for one in small]), labels.astype(np.int32))


@functools.cache
def sklearn_digits() -> Digits:
    """scikit-learn's 1,797 digits (UCI), counts 0..16 scaled to 0..255."""
    import sklearn.datasets

    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    return Digits(np.round(np.reshape(images, (-1, SIDE, SIDE)) * (255 / 16)).astype(np.uint8), np.asarray(labels, np.int32))


def fingerprint() -> str:
    """SHA-256 of all pixels and labels."""
    arrays = (*mnist(), *sklearn_digits())
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def _clean(images: np.ndarray) -> np.ndarray:
    return images


def _inverted(images: np.ndarray) -> np.ndarray:
    return 255 - images


def _pale(images: np.ndarray) -> np.ndarray:
    """Contrast down to 30 %."""
    return (images * 0.3 + 80).astype(np.uint8)


def _turned(images: np.ndarray) -> np.ndarray:
    """A quarter turn."""
    return np.rot90(images, axes=(1, 2))


def _moved(images: np.ndarray) -> np.ndarray:
    """Two pixels to the right and one down."""
    moved = np.zeros_like(images)
    moved[:, 1:, 2:] = images[:, :-1, :-2]
    return moved


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def _noisy(images: np.ndarray) -> np.ndarray:
    """Gaussian noise of standard deviation 80, the same for the same pictures."""
    noise = np.random.default_rng(0).normal(0, 80, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def _scrambled(images: np.ndarray) -> np.ndarray:
    """One fixed permutation of the pixels of every patch."""
    order = np.random.default_rng(1).permutation(PATCH * PATCH)
    patches = images.reshape(-1, SIDE // PATCH, PATCH, SIDE // PATCH, PATCH).swapaxes(2, 3)
    shuffled = patches.reshape(*patches.shape[:3], -1)[..., order].reshape(patches.shape)
    return shuffled.swapaxes(2, 3).reshape(images.shape)


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clean": _clean,
    "inverted": _inverted,
    "pale": _pale,
    "turned": _turned,
    "moved": _moved,
    "mirrored": _mirrored,
    "noisy": _noisy,
    "scrambled": _scrambled,
}
KNOWN = ("clean", "inverted", "pale", "turned", "moved", "mirrored")
"""What pretraining saw; the others are new to the model."""


def shifted(digits: Digits, shift: str) -> Digits:
    """The same digits under a shift."""
    return Digits(np.ascontiguousarray(SHIFTS[shift](digits.images)), digits.labels)


class Parts(NamedTuple):
    """One seed's own division of the two sets; no picture is in two parts."""

    pretraining: Digits
    mnist: dict[str, Digits]
    """`train` (a pool that subsets are drawn from), `validation`, `test`."""
    sklearn: dict[str, Digits]
    """As `mnist`."""


POOL, VALIDATION, TEST = 600, 300, 500


@functools.cache
def divide(seed: int) -> Parts:
    """Seed `seed`'s division: MNIST into 8,600 to pretrain on and 1,400 kept out, scikit-learn's as the kept part."""
    first = np.random.default_rng([seed, 1]).permutation(len(mnist().labels))
    second = np.random.default_rng([seed, 2]).permutation(len(sklearn_digits().labels))
    kept = POOL + VALIDATION + TEST
    return Parts(mnist().rows(first[kept:]), _three(mnist().rows(first[:kept])), _three(sklearn_digits().rows(second[:kept])))


def _three(digits: Digits) -> dict[str, Digits]:
    cuts = {"train": (0, POOL), "validation": (POOL, POOL + VALIDATION), "test": (POOL + VALIDATION, POOL + VALIDATION + TEST)}
    return {name: Digits(digits.images[start:stop], digits.labels[start:stop]) for name, (start, stop) in cuts.items()}


def few(digits: Digits, count: int, seed: int) -> Digits:
    """`count` rows, the same number of every class (the nearest that the pool can give)."""
    order = np.random.default_rng([seed, 3]).permutation(len(digits.labels))
    rank = np.zeros(len(order), int)
    for label in range(CLASSES):
        of_class = order[digits.labels[order] == label]
        rank[of_class] = np.arange(len(of_class))
    return digits.rows(order[np.argsort(rank[order], kind="stable")][:count])
