"""Which files hold the training, validation and test rows, and reading them by the source that the configuration names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ftjax.config import DataConfig, TextConfig
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path
from ftjax.data.text import conll, squad, table
from ftjax.data.text.table import Table
from ftjax.errors import ConfigError, DataError, did_you_mean

_NAMES = {**SPLIT_NAMES, "dev": "validation"}


@dataclasses.dataclass(frozen=True)
class Source:
    """One way in which texts come: how a file is read, and what such files are called."""

    read: Callable[[Path, TextConfig], Table]
    suffixes: tuple[str, ...]


SOURCES = {
    "table": Source(table.read_table, table.SUFFIXES),
    "conll": Source(conll.read_conll, conll.SUFFIXES),
    "squad": Source(squad.read_squad, squad.SUFFIXES),
}


def read_tables(data: DataConfig, text: TextConfig) -> dict[str, Table]:
    """The table of each split that the data bring.

    Raises:
      ConfigError: a path is not set.
      DataError: a file is not there or cannot be read.
    """
    if data.source not in SOURCES:
        raise ConfigError(f"data.source={data.source!r}: {did_you_mean(data.source, SOURCES)}")
    return {split: SOURCES[data.source].read(path, text) for split, path in find_files(data).items()}


def find_files(data: DataConfig) -> dict[str, Path]:
    """The file of each split: of a folder `train.*`, `validation.*` (or `val`, `valid`, `dev`) and `test.*`; else the paths of the configuration.

    Raises:
      ConfigError: `data.path` is not set.
      DataError: a file is not there, two mean the same split, or one is named for two.
    """
    path = existing_path(data.path, data.source, "a file, or a folder with train.* and perhaps validation.* and test.*")
    found = _in_folder(path, SOURCES[data.source].suffixes) if path.is_dir() else {"train": path}
    for split, given in (("validation", data.validation_path), ("test", data.test_path)):
        if given is not None:
            if split in found:
                raise DataError(f"data.{split}_path={given}: {path} holds {found[split].name} for that already; leave one out")
            found[split] = existing_path(given, data.source, "a file", f"data.{split}_path")
    for split, file in found.items():
        other = next((name for name, second in found.items() if name != split and second.samefile(file)), None)
        if other is not None:
            raise DataError(f"{file} is named for {split} and for {other}; rows that are trained on test nothing")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".") and file.suffix.lower() in suffixes]
    found: dict[str, Path] = {}
    for file in files:
        split = _NAMES.get(file.stem.lower())
        if split in found:
            raise DataError(f"{folder} holds {found[split].name} and {file.name}, which both mean the {split} split; keep one")
        if split is not None:
            found[split] = file
    if "train" not in found:
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
        raise DataError(
            f"{folder} has no train file ({', '.join('train' + suffix for suffix in suffixes[:4])}, ...); it holds {held}; or name one file: data.path"
        )
    return found
