"""Reads and decodes rows: once for all of them when the data are collected, and again row by row where they do not fit into memory.

The first pass keeps of every image only its hash, and its pixels while they fit into the cache.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int, UInt8

from ftjax.data.dataset import InMemory, Progress, Rows
from ftjax.data.decode import decode
from ftjax.data.image_format import ImageFormat
from ftjax.data.near_images import Signatures
from ftjax.data.order import pixel_hash
from ftjax.data.parallel import Stalled, completed
from ftjax.errors import DataError

PATIENCE = 60.0
"""Seconds without one finished image after which reading is given up."""


@dataclasses.dataclass(frozen=True, eq=False)
class Inspection:
    """What one pass over all rows found. Rows in `rejected` cannot be read; `hashes[row]` is None for them."""

    hashes: tuple[bytes | None, ...]
    rejected: Mapping[int, str]
    conversions: Mapping[str, int]
    pixels: UInt8[np.ndarray, "rows h w 3"] | None
    """All images in the model's format, or None where they do not fit into the cache."""
    signatures: Signatures | None = None
    """What finding near duplicates needs, where they are wanted."""
    sizes: Int[np.ndarray, "rows 2"] | None = None
    """Height and width of each image as it lies in its file."""

    def good(self) -> Int[np.ndarray, " good"]:
        """The rows that can be read."""
        return np.array([row for row, digest in enumerate(self.hashes) if digest is not None], np.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class OnDemand:
    """Pixels that are decoded whenever they are asked for; `rows[i]` is the source's row of row i of the split."""

    source: Rows
    image: ImageFormat
    max_pixels: int
    rows: Int[np.ndarray, " rows"]
    patience: float = PATIENCE

    def __call__(self, indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        """Decode these rows.

        Raises:
          DataError: a file has changed since it was collected, or does not answer.
        """
        wanted = self.rows[indices]
        pixels = np.empty((len(wanted), *self.image.size, 3), np.uint8)

        def read(position: int) -> None:
            row = int(wanted[position])
            try:
                pixels[position] = self.image.fit(_decode_row(self.source, row, self.max_pixels)[0])
            except (DataError, OSError) as error:
                raise DataError(f"{self.source.where}: {self.source.ids[row]}: {error}") from error

        try:
            for _ in completed(read, range(len(wanted)), workers=1, patience=self.patience):
                pass
        except Stalled as stalled:
            raise _stalled(self.source, [int(wanted[position]) for position in stalled.items], stalled.seconds) from None
        return pixels


def inspect(
    source: Rows,
    image: ImageFormat,
    *,
    max_pixels: int,
    cache_megabytes: int,
    workers: int,
    progress: Progress | None = None,
    patience: float = PATIENCE,
    near: bool = False,
) -> Inspection:
    """Decode every row once, in parallel. Unreadable rows are collected, not raised; `near` asks for signatures.

    Raises:
      DataError: a file does not answer.
    """
    fits = len(source) * image.size[0] * image.size[1] * 3 <= cache_megabytes * 2**20
    pixels = np.empty((len(source), *image.size, 3), np.uint8) if fits else None
    hashes: list[bytes | None] = [None] * len(source)
    rejected: dict[int, str] = {}
    conversions: collections.Counter[str] = collections.Counter()
    signatures = Signatures.empty(len(source)) if near else None
    sizes = np.zeros((len(source), 2), np.int32)

    def read(row: int) -> tuple[str, ...] | str:
        """What was converted, or why the row cannot be read."""
        try:
            decoded, notes = _decode_row(source, row, max_pixels)
        except (DataError, OSError) as error:
            return str(error)
        if pixels is not None:
            pixels[row] = image.fit(decoded)
        if signatures is not None:
            signatures.put(row, decoded)
        sizes[row] = decoded.shape[:2]
        hashes[row] = pixel_hash(decoded)
        return notes

    try:
        for done, (row, outcome) in enumerate(completed(read, range(len(source)), workers=workers, patience=patience), 1):
            if isinstance(outcome, str):
                rejected[row] = outcome
            else:
                conversions.update(outcome)
            if progress is not None:
                progress(done, len(source))
    except Stalled as stalled:
        raise _stalled(source, stalled.items, stalled.seconds) from None
    return Inspection(tuple(hashes), dict(sorted(rejected.items())), dict(sorted(conversions.items())), pixels, signatures, sizes)


def images_of(source: Rows, inspection: Inspection, rows: Int[np.ndarray, " rows"], image: ImageFormat, max_pixels: int) -> InMemory | OnDemand:
    """The `images` of a split that holds these rows."""
    if inspection.pixels is not None:
        return InMemory(inspection.pixels, rows)
    return OnDemand(source, image, max_pixels, rows)


def _decode_row(source: Rows, row: int, max_pixels: int) -> tuple[np.ndarray, tuple[str, ...]]:
    decoded = decode(source.read(row), max_pixels)
    return decoded.pixels, decoded.conversions


def _stalled(source: Rows, rows: Sequence[int], seconds: float) -> DataError:
    names = ", ".join(source.ids[row] for row in rows)
    return DataError(f"{source.where}: no image could be read for {seconds:g} s; waiting for {names}. Is the disk or network mount alive?")
