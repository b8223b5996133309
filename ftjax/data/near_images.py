"""Pictures that are almost the same: found by a perceptual hash, confirmed by the correlation of small grey thumbnails.

The hash is 64 signs of low frequencies (pHash, Zauner 2010). Two hashes that differ in at most 7 bits (and most that differ in a few more) share one of four
16-bit bands up to one bit, so pairs are found by looking every band and its 16 neighbours up, not by comparing all with all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt64
from PIL import Image

from ftjax.data.near import Near, Pairs, gather, representatives

SMALL = 32
"""Pictures with a shorter side than this many pixels are not compared: at 28 pixels two different 1s of MNIST correlate by 0.99."""
SIDE = 16
"""Of the thumbnails that are correlated."""
BITS = 11
"""Hashes that differ in more bits are not compared any further."""
_FLAT = 0.25
"""Variance of grey levels (0..255) that is added before a correlation is taken: what is flat but for noise is like nothing else."""
_BAND, _BANDS = 16, 4
_CHUNK = 1 << 20
"""Pairs that are looked at together."""
_BLOCK = 1 << 12
"""Pictures whose hashes are computed together."""


@dataclasses.dataclass(frozen=True, eq=False)
class Signatures:
    """What comparing needs of every picture: a kilobyte of grey, filled while pictures are read. `seen` is False where there is none or it is too small."""

    grey: UInt8[np.ndarray, "rows 32 32"]
    seen: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> Signatures:
        """Room for so many pictures."""
        return cls(np.zeros((rows, 2 * SIDE, 2 * SIDE), np.uint8), np.zeros(rows, bool))

    def put(self, row: int, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        """Keep what is needed of a decoded picture of any size."""
        self.keep(row, thumbnail(pixels))

    def keep(self, row: int, grey: UInt8[np.ndarray, "32 32"] | None) -> None:
        """Keep the `thumbnail` of a picture, if it has one."""
        if grey is not None:
            self.grey[row], self.seen[row] = grey, True


def thumbnail(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "32 32"] | None:
    """A picture as grey levels; None where it is too small to be compared."""
    if min(pixels.shape[:2]) < SMALL:
        return None
    return np.asarray(Image.fromarray(pixels).convert("L").resize((2 * SIDE, 2 * SIDE), Image.Resampling.BICUBIC))


def find_images(signatures: Signatures, hashes: Sequence[bytes | None], least: float) -> Near:
    """Which pictures are almost the same.

    Args:
      signatures: of all pictures.
      hashes: of each picture's pixels, equal for exact copies; None for those that cannot be read.
      least: correlation from which on two pictures count as almost the same, in (0, 1].
    """
    copies = representatives(hashes)
    rows = np.array([row for row in sorted(copies) if signatures.seen[row]], np.int64)
    return gather(similar_images(signatures.grey[rows], rows, least), least, hashes, copies, too_small=len(copies) - len(rows))


def perceptual_hashes(grey: UInt8[np.ndarray, "k 32 32"]) -> UInt64[np.ndarray, " k"]:
    """Which of the 8 x 8 lowest frequencies (the mean left out) of each picture are above their median, as 64 bits."""
    low = np.einsum("uy,kyx,vx->kuv", _cosines(), grey.astype(np.float32), _cosines(), optimize=True).reshape(-1, 64)
    return np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1).view(">u8").astype(np.uint64).reshape(-1)


def similar_images(grey: UInt8[np.ndarray, "k 32 32"], rows: Int[np.ndarray, " k"], least: float) -> Pairs:
    """All pairs whose hashes differ in at most 11 bits and whose 16 x 16 thumbnails correlate by at least `least`.

    The correlation is `cov(a, b) / sqrt((var(a) + 1/4) * (var(b) + 1/4))` over the grey levels, so brightness and contrast do not matter.

    Args:
      grey: of the pictures to compare; leave exact copies out.
      rows: their numbers, in ascending order.
      least: in (0, 1].
    """
    blocks = [grey[first : first + _BLOCK] for first in range(0, len(grey), _BLOCK)]
    hashes = np.concatenate([np.zeros(0, np.uint64), *map(perceptual_hashes, blocks)])
    standard = np.concatenate([np.zeros((0, SIDE * SIDE), np.float32), *map(_standardised, blocks)])
    found = []
    for left, right in _neighbours(hashes):
        close = np.bitwise_count(hashes[left] ^ hashes[right]) <= BITS
        left, right = left[close], right[close]
        correlation = np.einsum("pk,pk->p", standard[left], standard[right])
        enough = correlation >= least
        found.append((left[enough], right[enough], correlation[enough]))
    return Pairs.joined(rows, found)


def _standardised(grey: UInt8[np.ndarray, "k 32 32"]) -> Float[np.ndarray, "k 256"]:
    """Thumbnails whose inner product is their correlation."""
    small = grey.reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4), dtype=np.float32).reshape(-1, SIDE * SIDE)
    small -= small.mean(1, keepdims=True)
    return small / np.sqrt(SIDE * SIDE * (np.square(small).mean(1, keepdims=True) + _FLAT))


def _neighbours(hashes: UInt64[np.ndarray, " rows"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions (left, right) of hashes one of whose bands is equal up to one bit, in chunks; a pair may come more than once."""
    flips = np.array([0, *(1 << bit for bit in range(_BAND))], np.uint64)
    for band in range(_BANDS):
        values = (hashes >> np.uint64(_BAND * band)) & np.uint64(0xFFFF)
        order = np.argsort(values, kind="stable")
        starts = np.searchsorted(values[order], np.arange(0x10001))
        for flip in flips:
            wanted = (values ^ flip).astype(np.int64)
            yield from _ranges(order, starts[wanted], starts[wanted + 1])


def _ranges(order: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every position with the later positions in its range of `order`, in chunks."""
    counts = ends - begins
    edges = np.concatenate([[0], np.cumsum(counts)])
    first = 0
    while first < len(counts):
        last = max(first + 1, int(np.searchsorted(edges, edges[first] + _CHUNK, side="right")) - 1)
        repeats = counts[first:last]
        left = np.repeat(np.arange(first, last), repeats)
        right = order[np.arange(repeats.sum()) + np.repeat(begins[first:last] - (edges[first:last] - edges[first]), repeats)]
        later = right > left
        yield left[later], right[later]
        first = last


@functools.cache
def _cosines() -> Float[np.ndarray, "8 32"]:
    """The 8 lowest rows but the constant one of the cosine transform (type II) of 32 values."""
    frequencies, places = np.arange(1, 9)[:, None], np.arange(2 * SIDE)[None]
    return np.cos(np.pi * frequencies * (2 * places + 1) / (4 * SIDE)).astype(np.float32)
