"""Zip and tar archives read in place: the members are indexed once, each is read where it lies, and nothing is ever unpacked to disk.

An archive may come from anywhere. Names that lead out of it, links, devices and sparse files are ignored by name; a member is measured before it is read, and
an archive that unpacks to far more than it weighs is refused. Reading is safe from several threads: every read opens the file and looks whether it changed.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from ftjax.errors import DataError

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
LARGEST_MEMBER = 256 * 2**20
"""Bytes of one member, unpacked."""
LARGEST_RATIO = 100
"""Unpacked bytes for each byte of the archive, above `HARMLESS`; photos hardly shrink."""
HARMLESS = 2**30
"""Unpacked bytes of an archive whose ratio does not matter."""
_BLOCK = 512
_LOCAL_HEADER = b"PK\x03\x04"
_DAMAGE = (OSError, EOFError, ValueError, OverflowError, RecursionError, KeyError, IndexError, TypeError, struct.error, zlib.error, tarfile.TarError)
_ZIP_DAMAGE = (*_DAMAGE, zipfile.BadZipFile, NotImplementedError)

ReadAt = Callable[[int, int], bytes]
"""`read_at(offset, size)`: bytes of the archive; fewer where it ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """Where a file lies in its archive.

    Attributes:
      offset: of the bytes (zip: of the member's header).
      size: bytes, unpacked.
      packed: bytes as they lie there.
      form: as they are (tar), or behind a header of zip's.
      check: CRC-32 of the unpacked bytes (zip).
      refused: why it cannot be read.
    """

    offset: int
    size: int
    packed: int
    form: Literal["plain", "stored", "deflated"] = "plain"
    check: int = 0
    refused: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Archive:
    """The files of an archive by their names (`/` between folders, no `./` in front), its folders, and what was ignored."""

    where: str
    members: Mapping[str, Member]
    folders: tuple[str, ...]
    ignored: tuple[dict[str, str], ...]
    read_at: ReadAt

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
          DataError: it is too large, damaged, encrypted or packed in another way; the message does not know its name.
        """
        member = self.members[name]
        if member.refused is not None:
            raise DataError(member.refused)
        if max(member.size, member.packed) > LARGEST_MEMBER:
            raise DataError(f"{member.size:,} bytes, more than the {LARGEST_MEMBER:,} that a member of an archive may have")
        data = self.read_at(member.offset, member.size) if member.form == "plain" else _unzipped(self.read_at, member)
        if len(data) != member.size:
            raise DataError(f"damaged in the archive: {len(data):,} of {member.size:,} bytes are there")
        return data


def is_archive(path: Path) -> bool:
    """Whether the name is one of an archive that we read."""
    return path.name.lower().endswith(SUFFIXES)


def open_archive(path: Path, cache_megabytes: int) -> Archive:
    """Index an archive; what its bytes say counts, not its suffix.

    Args:
      path: of the archive.
      cache_megabytes: into how much memory a compressed tar may be unpacked; it has no index, so there is no other way to read its members at random.

    Raises:
      DataError: it is damaged, cut short, a bomb, in another format, or holds one name twice.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start[:2] == b"PK":
        return _open_zip(path)
    if start[:2] == b"\x1f\x8b":
        data = _in_memory(path, cache_megabytes)
        view = data.getbuffer()
        return _index(path, _index_tar(path, data, len(view)), lambda offset, size: bytes(view[offset : offset + size]))
    other = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), None)
    if other is not None:
        raise DataError(f"{path} is packed with {other}; allowed are {', '.join(SUFFIXES)}: unpack it to a .tar")
    read_at = _reader(path)
    with path.open("rb") as file:
        return _index(path, _index_tar(path, file, path.stat().st_size), read_at)


_OTHERS = {b"BZh": "bzip2", b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstandard", b"7z\xbc\xaf": "7-zip", b"Rar!": "rar"}


def _reader(path: Path) -> ReadAt:
    """Read a file at any place, as long as it is the one that was opened first."""
    seen = _stamp(path.stat())

    def read_at(offset: int, size: int) -> bytes:
        with path.open("rb") as file:
            if _stamp(os.fstat(file.fileno())) != seen:
                raise DataError(f"{path} has changed since it was opened")
            file.seek(offset)
            return file.read(size)

    return read_at


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _in_memory(path: Path, cache_megabytes: int) -> io.BytesIO:
    """A gzip-compressed archive unpacked into memory."""
    data = io.BytesIO()
    try:
        with gzip.open(path) as file:
            while chunk := file.read(2**20):
                data.write(chunk)
                if data.tell() > cache_megabytes * 2**20:
                    raise DataError(
                        f"{path} unpacks to more than data.cache_megabytes={cache_megabytes} allows, and a compressed tar can only be read from memory; "
                        f"unpack it to a .tar (gzip -dk {path.name}), which is read in place, or allow more"
                    )
    except DataError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be unpacked: is it cut short or damaged? ({error})") from error
    data.seek(0)
    return data


Found = tuple[str, str, Member | None, str | None]
"""(name, "file" or "folder", where a file lies, why it is ignored)."""


def _index(path: Path, found: list[Found], read_at: ReadAt) -> Archive:
    """Sort what an archive holds into files, folders and what is ignored."""
    members: dict[str, Member] = {}
    folders: set[str] = set()
    ignored: list[dict[str, str]] = []
    for name, kind, member, why in found:
        why = why or _unsafe(name)
        if why is not None:
            ignored.append({"file": _shown(name), "why": why})
            continue
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"{path}: the name {name!r} is not valid UTF-8; rename it")
        plain = "/".join(parts)
        folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts) + (kind == "folder"))}
        if kind == "file" and member is not None:
            if plain in members:
                raise DataError(f"{path} holds {plain!r} twice; which one counts cannot be seen: pack it again")
            members[plain] = member
    both = sorted(folders & set(members))
    if both:
        raise DataError(f"{path}: {both[0]!r} is a file and a folder; pack it again")
    return Archive(str(path), members, tuple(sorted(folders)), tuple(ignored), read_at)


def _unsafe(name: str) -> str | None:
    """Why a name may not be used, or None."""
    if name.startswith("/") or re.match(r"[A-Za-z]:[\\/]", name):
        return "an absolute name; names in an archive must lie below it"
    if ".." in re.split(r"[\\/]", name):
        return "its name leads out of the archive (..)"
    if "\\" in name or "\0" in name:
        return "its name has a backslash or NUL; allowed is / between folders"
    return None


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")


def _open_zip(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
    except _ZIP_DAMAGE as error:
        raise DataError(f"{path} cannot be read as a zip archive: is it cut short or damaged? ({error})") from error
    total, weight = sum(info.file_size for info in infos), path.stat().st_size
    if total > max(HARMLESS, LARGEST_RATIO * weight):
        raise DataError(f"{path} has {weight:,} bytes and unpacks to {total:,}: that is a decompression bomb, not photos")
    return _index(path, [_zip_entry(info) for info in infos], _reader(path))


def _zip_entry(info: zipfile.ZipInfo) -> Found:
    """A member of a zip archive; Unix keeps the kind of file in the upper half of `external_attr`."""
    name = info.orig_filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind and not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        return name, "file", None, "a link" if stat.S_ISLNK(kind) else "a device"
    if name.endswith("/"):
        return name, "folder", None, None
    refused = None
    if info.flag_bits & 1:
        refused = "encrypted in the archive; pack it without a password"
    elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        refused = f"packed by zip's method {info.compress_type}; allowed are stored and deflated"
    elif info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        refused = "damaged in the archive: its two sizes differ"
    form = "deflated" if info.compress_type == zipfile.ZIP_DEFLATED else "stored"
    return name, "file", Member(info.header_offset, info.file_size, info.compress_size, form, info.CRC, refused), None


def _unzipped(read_at: ReadAt, member: Member) -> bytes:
    """A member of a zip archive, its length and check sum proven."""
    header = read_at(member.offset, 30) if member.offset >= 0 else b""
    if len(header) < 30 or not header.startswith(_LOCAL_HEADER):
        raise DataError("damaged in the archive: its header is not where the index says")
    name, extra = struct.unpack("<HH", header[26:30])
    raw = read_at(member.offset + 30 + name + extra, member.packed)
    if member.form == "deflated":
        try:
            raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, member.size + 1)
        except zlib.error as error:
            raise DataError(f"damaged in the archive: {error}") from error
    if len(raw) == member.size and zlib.crc32(raw) != member.check:
        raise DataError("damaged in the archive: its check sum is another")
    return raw


def _index_tar(path: Path, raw: BinaryIO, size: int) -> list[Found]:
    """What a tar archive holds, up to its end, which must be there."""
    try:
        with tarfile.open(fileobj=raw, mode="r:") as file:
            found = [_tar_entry(member, size, path) for member in _members(file, path)]
            end = file.offset
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path} cannot be read as a tar archive: is it cut short or damaged? ({error})") from error
    _check_end(path, raw, end, size)
    return found


def _members(file: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members in their order. A negative size would lead back to where we were, for ever."""
    before = -1
    while (member := file.next()) is not None:
        if member.offset <= before or member.size < 0:
            raise DataError(f"{path}: the header at byte {member.offset:,} is damaged: its size leads backwards")
        before = member.offset
        yield member


def _tar_entry(member: tarfile.TarInfo, size: int, path: Path) -> Found:
    if member.isdir():
        return member.name, "folder", None, None
    if member.issym() or member.islnk():
        return member.name, "file", None, "a link"
    if not member.isreg() or member.issparse():
        return member.name, "file", None, "a sparse file" if member.issparse() else "a device"
    if member.offset_data + member.size > size:
        raise DataError(f"{path} is cut short: {member.name} ends at byte {member.offset_data + member.size:,}, the file at {size:,}")
    return member.name, "file", Member(member.offset_data, member.size, member.size), None


def _check_end(path: Path, raw: BinaryIO, end: int, size: int) -> None:
    """tarfile takes anything but a header for the end, so members behind a damaged one would vanish."""
    if size - end < _BLOCK:
        raise DataError(f"{path} is cut short: there is no end mark after byte {end:,}")
    raw.seek(end)
    while chunk := raw.read(2**20):
        if chunk.strip(b"\0"):
            raise DataError(f"{path} is damaged after byte {end:,}, or holds several archives one after another; pack it again")
