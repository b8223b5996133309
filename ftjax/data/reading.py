"""Reads and decodes rows: once for all of them when the data are collected, and again row by row where they do not fit into memory.

The first pass keeps of every image only its hash, and its pixels while they fit into the cache.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
from jaxtyping import Int, UInt8

from ftjax.data.dataset import InMemory, Progress, Rows
from ftjax.data.examine import Examined, examine, fitted
from ftjax.data.image_format import ImageFormat
from ftjax.data.near_images import Signatures
from ftjax.data.order import pixel_hash
from ftjax.data.parallel import Stalled, completed
from ftjax.data.processes import Processes, WorkerDied
from ftjax.errors import DataError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

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
    contents: tuple[bytes | None, ...] = ()
    """`content_hash` of what was read of each row."""

    def good(self) -> Int[np.ndarray, " good"]:
        """The rows that can be read."""
        return np.array([row for row, digest in enumerate(self.hashes) if digest is not None], np.int64)


@dataclasses.dataclass(eq=False)
class Found:
    """What a pass over rows fills in, row by row, from several threads; `outcomes[row]` is what was converted, or why the row cannot be read."""

    pixels: UInt8[np.ndarray, "rows h w 3"] | None
    sizes: Int[np.ndarray, "rows 2"]
    hashes: list[bytes | None]
    outcomes: list[tuple[str, ...] | str]
    contents: list[bytes | None]
    signatures: Signatures | None = None

    @classmethod
    def empty(cls, rows: int, pixels: UInt8[np.ndarray, "rows h w 3"] | None, near: bool = False) -> Found:
        """Nothing found yet."""
        sizes = np.zeros((rows, 2), np.int32)
        return cls(pixels, sizes, [None] * rows, [()] * rows, [None] * rows, Signatures.empty(rows) if near else None)

    def keep(self, row: int, examined: Examined) -> None:
        """What became of a row that can be decoded."""
        if self.pixels is not None:
            self.pixels[row] = examined.pixels
        if self.signatures is not None:
            self.signatures.keep(row, examined.thumbnail)
        self.sizes[row], self.outcomes[row], self.hashes[row] = examined.size, examined.conversions, examined.pixel_hash

    def facts(self, rows: Sequence[int]) -> list[Any]:
        """Everything but the arrays of these rows, as JSON: the reason, or hash, height, width and conversions; None where nothing was read."""
        return [self._fact(row) for row in rows]

    def _fact(self, row: int) -> Any:
        outcome, digest = self.outcomes[row], self.hashes[row]
        if self.contents[row] is None:
            return None
        return outcome if isinstance(outcome, str) or digest is None else [digest.hex(), *map(int, self.sizes[row]), *outcome]

    def restore(self, rows: Sequence[int], facts: Sequence[Any]) -> None:
        """Take over what `facts` gave."""
        for row, fact in zip(rows, facts, strict=True):
            if isinstance(fact, str):
                self.outcomes[row] = fact
            elif fact is not None:
                self.hashes[row], self.sizes[row], self.outcomes[row] = bytes.fromhex(fact[0]), fact[1:3], tuple(fact[3:])

    def inspection(self) -> Inspection:
        """The pass is over."""
        rejected = {row: outcome for row, outcome in enumerate(self.outcomes) if isinstance(outcome, str)}
        conversions = collections.Counter(note for outcome in self.outcomes if not isinstance(outcome, str) for note in outcome)
        return Inspection(tuple(self.hashes), rejected, dict(sorted(conversions.items())), self.pixels, self.signatures, self.sizes, tuple(self.contents))


@dataclasses.dataclass(frozen=True, eq=False)
class OnDemand:
    """Pixels that are decoded whenever they are asked for; `rows[i]` is the source's row of row i of the split.

    `contents[row]` is what a row's bytes hashed to when they were collected: other bytes are an error, for a batch is a function of the step.
    """

    source: Rows
    image: ImageFormat
    max_pixels: int
    rows: Int[np.ndarray, " rows"]
    patience: float = PATIENCE
    contents: Sequence[bytes | None] = ()
    processes: Processes | None = None
    """Who decodes; None: the thread that asks."""

    def __call__(self, indices: Int[np.ndarray, " k"]) -> UInt8[np.ndarray, "k h w 3"]:
        """Decode these rows.

        Raises:
          DataError: a file has changed since it was collected, or does not answer, or the process that decoded it died.
        """
        wanted = self.rows[indices]
        pixels = np.empty((len(wanted), *self.image.size, 3), np.uint8)

        def read(position: int) -> None:
            row = int(wanted[position])
            try:
                data = self.source.read(row)
                pixels[position] = _call(self.processes, fitted, data, self.image, self.max_pixels)
                if self.contents and content_hash(data) != self.contents[row]:
                    raise DataError("its content has changed since the data were collected; put the old file back, or begin a new run")
            except (DataError, OSError) as error:
                raise DataError(f"{self.source.where}: {self.source.ids[row]}: {error}") from error

        named = _naming(self.source, read, lambda position: int(wanted[position]))
        try:
            for _ in completed(named, range(len(wanted)), workers=1, patience=self.patience):
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
    processes: Processes | None = None,
) -> Inspection:
    """Decode every row once, in parallel. Unreadable rows are collected, not raised; `near` asks for signatures, `processes` decode instead of the threads.

    Raises:
      DataError: a file does not answer, or what `decode_rows` says.
    """
    fits = len(source) * image.size[0] * image.size[1] * 3 <= cache_megabytes * 2**20
    found = Found.empty(len(source), np.empty((len(source), *image.size, 3), np.uint8) if fits else None, near)
    decode_rows(source, range(len(source)), found, image, max_pixels=max_pixels, workers=workers, progress=progress, patience=patience, processes=processes)
    return found.inspection()


def decode_rows(
    source: Rows,
    rows: Sequence[int],
    found: Found,
    image: ImageFormat,
    *,
    max_pixels: int,
    workers: int,
    progress: Progress | None = None,
    patience: float = PATIENCE,
    finished: Callable[[int], None] = lambda row: None,
    processes: Processes | None = None,
) -> None:
    """Read and decode these rows into `found`, in parallel; `finished(row)` is called in this thread, in no particular order.

    Raises:
      DataError: a file does not answer, has other bytes than `found.contents` says, cannot be decoded for want of memory, or its process died.
    """

    def read(row: int) -> None:
        try:
            data = source.read(row)
        except (DataError, OSError) as error:
            found.outcomes[row] = str(error)
            if found.contents[row] is not None:
                raise DataError(f"{source.where}: {source.ids[row]}: it could be read a moment ago and cannot any more: {error}") from error
            return
        content = content_hash(data)
        if found.contents[row] not in (None, content):
            raise DataError(f"{source.where}: {source.ids[row]}: its content has changed while the data were collected; begin again")
        found.contents[row] = content
        try:
            found.keep(row, _call(processes, examine, data, None if found.pixels is None else image, max_pixels, found.signatures is not None))
        except DataError as error:
            found.outcomes[row] = str(error)

    try:
        for done, (row, _) in enumerate(completed(_naming(source, read), rows, workers=workers, patience=patience), 1):
            finished(row)
            if progress is not None:
                progress(done, len(rows))
    except Stalled as stalled:
        raise _stalled(source, stalled.items, stalled.seconds) from None


def content_hash(data: bytes | np.ndarray) -> bytes:
    """BLAKE2b (128 bits) of what a source gives for a row: the bytes of a file, or the shape and values of pixels."""
    return pixel_hash(data) if isinstance(data, np.ndarray) else hashlib.blake2b(data, digest_size=16).digest()


def contents_of(source: Rows, *, workers: int, progress: Progress | None = None, patience: float = PATIENCE) -> tuple[list[bytes | None], dict[int, str]]:
    """`content_hash` of every row, read in parallel and not decoded, None where it cannot be read; and why it cannot, by row.

    Raises:
      DataError: a file does not answer, or cannot be read for want of memory.
    """
    found: list[bytes | None] = [None] * len(source)
    unreadable: dict[int, str] = {}

    def read(row: int) -> None:
        try:
            found[row] = content_hash(source.read(row))
        except (DataError, OSError) as error:
            unreadable[row] = str(error)

    try:
        for done, _ in enumerate(completed(_naming(source, read), range(len(source)), workers=workers, patience=patience), 1):
            if progress is not None:
                progress(done, len(source))
    except Stalled as stalled:
        raise _stalled(source, stalled.items, stalled.seconds) from None
    return found, unreadable


def images_of(
    source: Rows, inspection: Inspection, rows: Int[np.ndarray, " rows"], image: ImageFormat, max_pixels: int, processes: Processes | None = None
) -> InMemory | OnDemand:
    """The `images` of a split that holds these rows."""
    if inspection.pixels is not None:
        return InMemory(inspection.pixels, rows)
    return OnDemand(source, image, max_pixels, rows, contents=inspection.contents, processes=processes)


def _call(processes: Processes | None, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
    """The function's result, from another process where there are some."""
    return function(*arguments, **named) if processes is None else processes.call(function, *arguments, **named)


def _naming(source: Rows, read: Callable[[int], None], row_of: Callable[[int], int] = lambda item: item) -> Callable[[int], None]:
    """`read`, which ends the pass with the row's name where memory is short or a process died: the file may be whole, so its row is not left out."""

    def reading(item: int) -> None:
        try:
            read(item)
        except MemoryError as error:
            raise DataError(f"{name(item)}: there is not enough memory to read it; free some, or lower data.workers") from error
        except WorkerDied as error:
            raise DataError(f"{name(item)}: {error} while it decoded this file; if memory is short, lower data.workers") from error

    def name(item: int) -> str:
        return f"{source.where}: {source.ids[row_of(item)]}"

    return reading


def _stalled(source: Rows, rows: Sequence[int], seconds: float) -> DataError:
    names = ", ".join(source.ids[row] for row in rows)
    return DataError(f"{source.where}: no image could be read for {seconds:g} s; waiting for {names}. Is the disk or network mount alive?")
