"""Which files hold the training, validation and test rows, and reading them by the source that the configuration names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from ftjax.config import DataConfig, TextConfig
from ftjax.data.language import plain
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path
from ftjax.data.sources.shards import is_pattern, shards
from ftjax.data.text import conll, saved, squad, table
from ftjax.data.text.joined import read_joined
from ftjax.data.text.packed import plain_name
from ftjax.data.text.table import Table
from ftjax.errors import ConfigError, DataError, did_you_mean

_NAMES = {**SPLIT_NAMES, "dev": "validation"}
_SHARD = re.compile(r"([A-Za-z]+)[-_.]\d+(?:-of-\d+)?")


@dataclasses.dataclass(frozen=True)
class Source:
    """One way in which texts come: how a file is read, and what such files are called."""

    read: Callable[[Path, TextConfig], Table]
    suffixes: tuple[str, ...]


SOURCES = {
    "table": Source(table.read_table, table.SUFFIXES),
    "conll": Source(conll.read_conll, conll.SUFFIXES),
    "plain_text": Source(plain.read_plain, plain.SUFFIXES),
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
    if data.source == "table" and (tables := _saved(data)) is not None:
        return tables
    read = SOURCES[data.source].read
    return {split: _read(path, text, read) for split, path in find_files(data).items()}


def _read(path: Path, text: TextConfig, read: Callable[[Path, TextConfig], Table]) -> Table:
    return read_joined(shards(str(path)), str(path), text, read) if is_pattern(str(path)) else read(path, text)


def _saved(data: DataConfig) -> dict[str, Table] | None:
    """The tables of a folder that is a data set as a library saved it, or None."""
    path = Path(data.path).expanduser() if data.path is not None else None
    if path is None or not path.is_dir() or not saved.is_saved(path):
        return None
    if data.validation_path is not None or data.test_path is not None:
        raise DataError(f"{path} is a saved data set with splits of its own; leave data.validation_path and data.test_path out")
    return saved.read_saved(path)


def find_files(data: DataConfig) -> dict[str, Path]:
    """The file of each split: of a folder `train.*`, `validation.*` (or `val`, `valid`, `dev`) and `test.*`; else the paths of the configuration.

    A path may be a pattern of several files (`part-{000..012}.jsonl`, `part-*.csv`), and so are shards in a folder (`train-00000-of-00002.parquet`).

    Raises:
      ConfigError: `data.path` is not set.
      DataError: a file is not there, two mean the same split, or one is named for two.
    """
    path = _existing(data.path, data.source, "a file, or a folder with train.* and perhaps validation.* and test.*", "data.path")
    found = _in_folder(path, SOURCES[data.source].suffixes, data.source) if path.is_dir() else {"train": path}
    for split, given in (("validation", data.validation_path), ("test", data.test_path)):
        if given is not None:
            if split in found:
                raise DataError(f"data.{split}_path={given}: {path} holds {found[split].name} for that already; leave one out")
            found[split] = _existing(given, data.source, "a file", f"data.{split}_path")
    files = {split: _files(file) for split, file in found.items()}
    for split, mine in files.items():
        for name, others in files.items():
            both = next((file for file in mine if name != split and any(file.samefile(other) for other in others)), None)
            if both is not None:
                raise DataError(f"{both} is named for {split} and for {name}; rows that are trained on test nothing")
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def _existing(path: str | None, source: str, what: str, name: str) -> Path:
    """A file that exists, or a pattern of which every file does."""
    if path is not None and source == "table" and is_pattern(path):
        shards(path, name)
        return Path(path).expanduser()
    return existing_path(path, source, what, name)


def _files(path: Path) -> list[Path]:
    return shards(str(path)) if is_pattern(str(path)) else [path]


def _in_folder(folder: Path, suffixes: tuple[str, ...], source: str) -> dict[str, Path]:
    """The file, or the pattern of the shards, of each split in a folder."""
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        plain = plain_name(file)
        if not file.is_file() or file.name.startswith(".") or plain.suffix.lower() not in suffixes:
            continue
        numbered = _SHARD.fullmatch(plain.stem) if source == "table" else None
        split = _NAMES.get((numbered[1] if numbered else plain.stem).lower())
        path = folder / f"{numbered[1]}[-_.][0-9]*{file.name[len(plain.stem) :]}" if numbered else file
        if split in found and found[split] != path:
            raise DataError(f"{folder} holds {found[split].name} and {path.name}, which both mean the {split} split; keep one")
        if split is not None:
            found[split] = path
    if "train" not in found:
        held = ", ".join(sorted(file.name for file in folder.iterdir())[:12]) or "nothing"
        raise DataError(
            f"{folder} has no train file ({', '.join('train' + suffix for suffix in suffixes[:4])}, ...); it holds {held}; or name one file: data.path"
        )
    return found
