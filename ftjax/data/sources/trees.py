"""Folders and files by name, whether they lie on disk or in an archive: what a source needs to see of either."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ftjax.data.sources.archive import Archive
from ftjax.errors import DataError


class Tree(Protocol):
    """Names are relative, with `/` between folders; "" is the root. Names that begin with a dot are hidden."""

    where: str
    packed: bool
    """Whether it is an archive."""

    @property
    def ignored(self) -> tuple[Mapping[str, str], ...]:
        """What can never be read, with the reason."""
        ...

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Names of the folders and of the other files in a folder, sorted, hidden ones left out."""
        ...

    def read(self, file: str) -> bytes:
        """The bytes of a file."""
        ...


def below(folder: str, name: str) -> str:
    """The name of what lies in a folder."""
    return f"{folder}/{name}" if folder else name


class Disk:
    """A folder."""

    packed = False
    ignored: tuple[Mapping[str, str], ...] = ()

    def __init__(self, root: Path) -> None:
        self.root, self.where = root, str(root)

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """What lies in a folder.

        Raises:
          DataError: a name is not valid UTF-8.
        """
        here = self.root / folder
        visible = sorted((entry for entry in os.scandir(here) if not entry.name.startswith(".")), key=lambda entry: entry.name)
        for entry in visible:
            if any("\ud800" <= character <= "\udfff" for character in entry.name):
                raise DataError(f"{here}: the name {entry.name!r} is not valid UTF-8; rename it")
        return [entry.name for entry in visible if entry.is_dir()], [entry.name for entry in visible if not entry.is_dir()]

    def read(self, file: str) -> bytes:
        """The bytes of a file."""
        return (self.root / file).read_bytes()


class Packed:
    """An archive. macOS packs notes of its own beside the files; they are counted, not listed."""

    packed = True

    def __init__(self, archive: Archive) -> None:
        self.archive, self.where = archive, archive.where
        self._children: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        for number, names in enumerate((archive.folders, archive.members)):
            for name in names:
                folder, _, last = name.rpartition("/")
                if not name.startswith(_MACOS):
                    self._children.setdefault(folder, (set(), set()))[number].add(last)

    @property
    def ignored(self) -> tuple[Mapping[str, str], ...]:
        """What is unsafe or no file, and the notes of macOS."""
        notes = sum(name.startswith(_MACOS + "/") for name in self.archive.members)
        return (*self.archive.ignored, *([{"file": f"{_MACOS}/", "why": f"{notes} notes of macOS on the files, not files"}] if notes else []))

    def entries(self, folder: str) -> tuple[list[str], list[str]]:
        """What lies in a folder of the archive."""
        folders, files = self._children.get(folder, (set(), set()))
        return sorted(name for name in folders if not name.startswith(".")), sorted(name for name in files if not name.startswith("."))

    def read(self, file: str) -> bytes:
        """The bytes of a member."""
        return self.archive.read(file)


_MACOS = "__MACOSX"
