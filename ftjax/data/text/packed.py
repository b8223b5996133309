"""Files that are compressed as a whole, `.gz` and `.zst`: their name without that ending, and their bytes, never more than asked for."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftjax.errors import DataError

ENDINGS = (".gz", ".zst")
_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def plain_name(path: Path) -> Path:
    """The path as it is called unpacked: `a.csv` of `a.csv.gz`."""
    return path.with_suffix("") if path.suffix.lower() in ENDINGS else path


def read_unpacked(path: Path, most: int) -> bytes:
    """The bytes of a file, unpacked where it begins as such a file does, whatever it is called.

    Raises:
      DataError: it is damaged, or there are more than `most` bytes.
    """
    if not _start_of(path).startswith((_GZIP, _ZSTANDARD)) and path.suffix.lower() not in ENDINGS:
        return path.read_bytes()
    data = bytearray()
    for piece in unpacked_pieces(path):
        data += piece
        if len(data) > most:
            raise DataError(f"{path} unpacks to more than {most:,} bytes; cut it into smaller files")
    return bytes(data)


def unpacked_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file, unpacked where it begins as such a file does, a mebibyte at a time.

    Raises:
      DataError: it is damaged.
    """
    start = _start_of(path)
    packed = start.startswith((_GZIP, _ZSTANDARD))
    if not packed and path.suffix.lower() in ENDINGS:
        raise DataError(f"{path} is not compressed as its name says (it begins with {start!r}); rename it")
    try:
        with _opened(path, start) if packed else path.open("rb") as file:
            while piece := file.read(2**20):
                yield piece
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if not packed:
            raise
        raise DataError(f"{path} cannot be unpacked: is it cut short or damaged? ({str(error).splitlines()[0]})") from error


def _start_of(path: Path) -> bytes:
    with path.open("rb") as raw:
        return raw.read(4)


def _opened(path: Path, start: bytes) -> Any:
    """The file, unpacked while it is read. Python's own library has no Zstandard before 3.14; pyarrow has."""
    if start.startswith(_GZIP):
        return gzip.open(path)
    import pyarrow

    return pyarrow.CompressedInputStream(str(path), "zstd")
