"""Decoded pictures on disk, memory-mapped: what one pass over all rows found, kept under a hash of everything that it depends on.

An entry is a folder `pictures/<key>/`: `pixels.bin`, allocated at once, and `rows.jsonl`, which gets a line with check sums whenever a block of rows is
done. So a killed run goes on where it was, what is damaged is decoded again, and nothing stale is ever read: other bytes in a file, another size or another
version of a decoder make another key. A row that cannot be read now is no content: it is never taken from an entry. One process fills an entry, others that
want it wait; an entry that is complete is only read, so it may lie on a disk that cannot be written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from ftjax import files
from ftjax.data.dataset import Progress, Rows
from ftjax.data.decode import decoders
from ftjax.data.image_format import ImageFormat
from ftjax.data.near_images import SIDE, Signatures
from ftjax.data.processes import Processes
from ftjax.data.reading import PATIENCE, Found, Inspection, contents_of, decode_rows, inspect

FOLDER = "pictures"
BLOCK = 256
"""Rows that have one check sum."""
_FORM = 2
_GREY = 4 * SIDE * SIDE


def inspect_cached(
    source: Rows,
    image: ImageFormat,
    cache: Path,
    *,
    max_pixels: int,
    cache_megabytes: int,
    workers: int,
    progress: Progress | None = None,
    near: bool = False,
    patience: float = PATIENCE,
    processes: Processes | None = None,
) -> tuple[Inspection, dict[str, Any]]:
    """`inspect`, with the pixels in a file below `cache`; rows that lie there already are not decoded.

    `progress` is called through two passes: reading every file to know its content, then decoding what is missing, if anything is.

    Returns:
      What `inspect` returns, bit for bit, and what data.json says of the cache; where the disk does not take it, why, and the pass as without a cache.

    Raises:
      DataError: a file does not answer, or changes while it is read.
    """
    options: dict[str, Any] = {"max_pixels": max_pixels, "workers": workers, "progress": progress, "patience": patience, "processes": processes}
    contents, unreadable = contents_of(source, workers=workers, progress=progress, patience=patience)
    parts = _parts(contents, image, max_pixels, near)
    folder = cache.expanduser() / FOLDER / _digest(parts)
    needed = len(source) * _row_bytes(image, near)
    with contextlib.ExitStack() as stack:
        try:
            entry = _complete(folder, contents, image, near) or stack.enter_context(_opened(folder, parts, contents, image, near))
        except OSError as error:
            facts = {"folder": str(folder), "warnings": [_refused(folder, needed, error)]}
            return inspect(source, image, cache_megabytes=cache_megabytes, near=near, **options), facts
        found = entry.found
        for row, why in unreadable.items():
            found.outcomes[row] = why
        missing = entry.missing()
        decode_rows(source, missing, found, image, finished=entry.finished, **options)
        facts = {"folder": str(folder), "bytes": needed, "rows": len(source), "decoded": len(missing), "damaged": entry.damaged, "warnings": entry.warnings}
        if found.pixels is not None:
            found.pixels.flags.writeable = False
    return found.inspection(), facts


def _parts(contents: Sequence[bytes | None], image: ImageFormat, max_pixels: int, near: bool) -> dict[str, Any]:
    """Everything that the entry depends on. Ids and labels are no part of it: they are not in it."""
    digest = hashlib.sha256(b"".join(content or bytes(16) for content in contents)).hexdigest()
    return {"form": _FORM, "rows": len(contents), "contents": digest, "image": dataclasses.asdict(image), "max_pixels": max_pixels, "near": near, **decoders()}


def _refused(folder: Path, needed: int, error: OSError) -> str:
    """Why the cache is not used: there is no room, or another thing that the operating system said."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        what = f"cannot take the {needed:,} bytes that are needed ({error.strerror})"
    else:
        what = f"holds no complete entry and cannot be written ({error.strerror or error})"
    return f"data.cache: decoded pictures are not kept, {folder} {what}; the run goes on without the cache"


def _digest(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _row_bytes(image: ImageFormat, near: bool) -> int:
    return image.size[0] * image.size[1] * 3 + (_GREY + 1 if near else 0)


@dataclasses.dataclass(eq=False)
class _Entry:
    """An entry: its arrays lie in the mapped file, `found` holds what is known of each row."""

    folder: Path
    found: Found
    journal: BinaryIO | None
    """None: the entry is only read."""
    done: list[bool]
    """Blocks that are complete."""
    left: list[int]
    """Rows of each block that are not decoded yet."""
    damaged: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    full: bool = False
    """Whether the journal takes no more."""

    def missing(self) -> list[int]:
        """Rows that have to be decoded; those that could not be read when the content was asked for are not: the key knows no content of theirs."""
        return [row for row, content in enumerate(self.found.contents) if content is not None and not self.done[row // BLOCK]]

    def finished(self, row: int) -> None:
        """A row is decoded; with the last one of a block the block is noted, and so kept."""
        block = row // BLOCK
        self.left[block] -= 1
        if self.left[block] or self.full or self.journal is None:
            return
        try:
            self.journal.write(_line(block, self.found))
            self.journal.flush()
        except OSError as error:
            self.full = True
            self.warnings.append(f"data.cache: {self.folder} takes no more ({error.strerror or error}); what is missing there is decoded again by the next run")


def _complete(folder: Path, contents: list[bytes | None], image: ImageFormat, near: bool) -> _Entry | None:
    """An entry in which nothing is missing or damaged, opened without writing anything; None where there is none."""
    path = folder / "pixels.bin"
    try:
        if path.stat().st_size != len(contents) * _row_bytes(image, near):
            return None
        found = _mapped(path, contents, image, near, "r")
        done, _ = _restore(folder / "rows.jsonl", found, damaged := [])
    except OSError:
        return None  # whoever opens it for writing meets the same and says so
    entry = _Entry(folder, found, None, done, [])
    return None if damaged or entry.missing() else entry


@contextlib.contextmanager
def _opened(folder: Path, parts: dict[str, Any], contents: list[bytes | None], image: ImageFormat, near: bool) -> Iterator[_Entry]:
    """The entry, for this process alone while it may be written.

    Raises:
      OSError: the folder cannot be written, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        _lock(lock)
        files.write_json(folder / "about.json", parts)
        damaged = _allocate(folder, len(contents) * _row_bytes(image, near))
        found = _mapped(folder / "pixels.bin", contents, image, near, "r+")
        done, kept = _restore(folder / "rows.jsonl", found, damaged)
        if not all(done) and (folder / "rows.jsonl").exists():
            files.write_text(folder / "rows.jsonl", b"".join(kept).decode())
        left = [sum(content is not None for content in contents[slice(*_range(block, len(contents)))]) for block in range(len(done))]
        with (folder / "rows.jsonl").open("ab") as journal:
            yield _Entry(folder, found, journal, done, left, damaged, [f"data.cache: {text}; decoded again" for text in damaged])


def _lock(file: BinaryIO) -> None:
    """Wait until no other process fills the entry; the operating system takes the lock from one that is killed."""
    import fcntl  # not everywhere, and only a cache needs it

    fcntl.flock(file, fcntl.LOCK_EX)


def _allocate(folder: Path, size: int) -> list[str]:
    """`pixels.bin` of this size, its bytes reserved, so that a full disk is met here and not by a page of the mapping."""
    path, damaged = folder / "pixels.bin", []
    if path.exists() and path.stat().st_size == size:
        return damaged
    if path.exists():
        damaged.append(f"{path} has {path.stat().st_size:,} bytes, not {size:,}")
    (folder / "rows.jsonl").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return damaged


def _mapped(path: Path, contents: list[bytes | None], image: ImageFormat, near: bool, mode: Literal["r", "r+"]) -> Found:
    """The arrays of the file: all pixels, then all thumbnails, then which of them count."""
    raw, rows = np.asarray(np.memmap(path, np.uint8, mode)), len(contents)
    end = rows * image.size[0] * image.size[1] * 3
    found = dataclasses.replace(Found.empty(rows, raw[:end].reshape(rows, *image.size, 3)), contents=contents)
    if near:
        grey = raw[end : end + rows * _GREY].reshape(rows, 2 * SIDE, 2 * SIDE)
        found.signatures = Signatures(grey, raw[end + rows * _GREY :].view(bool))
    return found


def _restore(path: Path, found: Found, damaged: list[str]) -> tuple[list[bool], list[bytes]]:
    """Take over every block whose line and bytes are whole; whether each block was, and the lines that were."""
    rows = len(found.hashes)
    done = [False] * -(-rows // BLOCK)
    if not path.exists():
        return done, []
    kept = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        value = _parsed(line)
        if value is None:
            if line.endswith(b"\n"):  # an unfinished last line is what a kill leaves, no damage
                damaged.append(f"{path} line {number} is damaged")
            continue
        block = value["block"]
        if _sum(block, found) != value["sum"]:
            first, stop = _range(block, rows)
            damaged.append(f"{path.with_name('pixels.bin')} is damaged in rows {first} to {stop - 1}")
            continue
        found.restore(range(*_range(block, rows)), value["rows"])
        done[block] = True
        kept.append(line)
    return done, kept


def _range(block: int, rows: int) -> tuple[int, int]:
    return block * BLOCK, min(rows, (block + 1) * BLOCK)


def _sum(block: int, found: Found) -> int:
    """CRC-32 of the bytes of a block."""
    rows = slice(*_range(block, len(found.hashes)))
    arrays = [found.pixels, *([found.signatures.grey, found.signatures.seen] if found.signatures is not None else [])]
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array[rows]).data, total)  # pyrefly: ignore
    return total


def _line(block: int, found: Found) -> bytes:
    """What the journal says of a block."""
    value = {"block": block, "sum": _sum(block, found), "rows": found.facts(range(*_range(block, len(found.hashes))))}
    text = json.dumps(value).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The value of a line, or None where it is damaged."""
    check, _, text = line.rstrip(b"\n").partition(b" ")
    return json.loads(text) if check == b"%08x" % zlib.crc32(text) else None
