"""WebDataset: tar shards in which the files of one sample follow each other under one name, `000123.jpg` and `000123.cls` (or `.json` with a label).

The shards are read in place, at random. `classes.txt` beside them may name the classes that the numbers in `.cls` stand for, one a line.
"""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.archive import Archive, open_archive
from ftjax.data.sources.image_folder import SUFFIXES
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.data.sources.shards import common_folder, is_pattern, shards
from ftjax.errors import ConfigError, DataError, did_you_mean

IMAGES = tuple(suffix[1:] for suffix in SUFFIXES)
LABELS = ("cls", "json")
IN_JSON = ("label", "class", "cls")
"""The key of the label in a `.json`, in the order in which they are believed."""
_SPLIT = re.compile(r"(?:^|[-_.])(train|validation|valid|val|test)(?=[-_.]|$)")
_SHOWN = 20
_NUMBER = re.compile(r"-?\d{1,18}")

Sample = dict[str, str]
"""Extension -> member of the shard."""


def read_webdataset(config: DataConfig) -> Rows:
    """Rows of tar shards; ids are `shard/key` in the order of shards and keys.

    A shard whose name has `train`, `val` (or `validation`, `valid`) or `test` in it belongs to that split; either all shards do or none.

    Raises:
      ConfigError: no path.
      DataError: a shard is missing or damaged, a sample has no image or no label (unless `data.bad_files="skip"`), or a label has no name.
    """
    files = _files(config)
    folder = common_folder(files)
    archives = {file.relative_to(folder).as_posix(): open_archive(file, config.cache_megabytes) for file in files}
    splits = _splits(list(archives), str(config.path))
    samples = {name: _samples(archive) for name, archive in archives.items()}
    good, bad = _checked(samples)
    if bad and (config.bad_files == "error" or not good):
        shown = "\n".join(f"  {entry['file']}: {entry['why']}" for entry in bad[:_SHOWN]) + (
            f"\n  ... and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        )
        raise DataError(f"{config.path}: {len(bad)} samples cannot be used:\n{shown}\nRepair them, or leave them out: data.bad_files='skip'.")
    raw = [_label(archives[shard], samples[shard][key], f"{shard}/{key}") for shard, key, _ in good]
    labels, classes = _classes(raw, [f"{shard}/{key}" for shard, key, _ in good], folder)
    return Rows(
        where=str(config.path),
        ids=tuple(f"{shard}/{key}" for shard, key, _ in good),
        labels=labels,
        splits=tuple(splits[shard] for shard, _, _ in good),
        classes=classes,
        read=lambda row: archives[good[row][0]].read(good[row][2]),
        ignored=(*bad, *({**entry, "file": f"{shard}/{entry['file']}"} for shard, archive in archives.items() for entry in archive.ignored)),
        details={"layout": "|".join(dict.fromkeys(splits.values())), "shards": len(files), "unused": _unused(samples)},
        schema=_schema(samples, len(classes)),
    )


def _files(config: DataConfig) -> list[Path]:
    if config.path is None:
        raise ConfigError("data.source='webdataset' needs data.path: tar shards, such as shards/train-{000000..000012}.tar or shards/*.tar")
    if is_pattern(config.path):
        return shards(config.path)
    path = existing_path(config.path, "webdataset", "tar shards")
    return shards(f"{path}/*.tar") if path.is_dir() else [path]


def _splits(names: list[str], where: str) -> dict[str, str]:
    """The split of each shard by its name."""
    named = {name: found[-1] for name in names if (found := _SPLIT.findall(name.lower()))}
    if not named:
        return dict.fromkeys(names, "train")
    if len(named) < len(names):
        other = next(name for name in names if name not in named)
        raise DataError(f"{where}: {next(iter(named))} is named for a split and {other} is not; either all shards are or none ({', '.join(SPLIT_NAMES)})")
    ours = our_split(sorted(set(named.values())), where)
    return {name: ours[split] for name, split in named.items()}


def _samples(archive: Archive) -> dict[str, Sample]:
    """Files by what stands before the first dot of their name, extensions in small letters."""
    found: dict[str, Sample] = collections.defaultdict(dict)
    for name in archive.members:
        folder, slash, last = name.rpartition("/")
        key, _, extension = last.partition(".")
        if not key:
            continue  # hidden
        sample = found[folder + slash + key]
        if extension.lower() in sample:
            raise DataError(f"{archive.where} holds {sample[extension.lower()]} and {name}, one sample with two of a kind; pack it again")
        sample[extension.lower()] = name
    return dict(sorted(found.items()))


def _checked(samples: Mapping[str, Mapping[str, Sample]]) -> tuple[list[tuple[str, str, str]], list[dict[str, str]]]:
    """(shard, key, member of the image) of every sample that has an image and a label; what the others lack."""
    good, bad = [], []
    for shard, inside in samples.items():
        for key, sample in inside.items():
            images = [sample[extension] for extension in IMAGES if extension in sample]
            labelled = any(extension in sample for extension in LABELS)
            if len(images) == 1 and labelled:
                good.append((shard, key, images[0]))
                continue
            what = (
                f"several images ({', '.join(images)})" if len(images) > 1 else f"no image ({', '.join(IMAGES)})" if not images else "no label (.cls or .json)"
            )
            bad.append({"file": f"{shard}/{key}", "why": f"it has {what}"})
    return good, bad


def _label(archive: Archive, sample: Sample, name: str) -> str | int:
    """What a sample says of its class: `.cls`, else the label in its `.json`."""
    try:
        if "cls" in sample:
            return _plain(archive.read(sample["cls"]).decode("utf-8").strip(), name)
        value = json.loads(archive.read(sample["json"]))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{archive.where}: {name}: its label cannot be read: {error}") from error
    found = next((value[key] for key in IN_JSON if key in value), None) if isinstance(value, dict) else None
    if found is None or isinstance(found, (bool, float, list, dict)):
        raise DataError(f"{archive.where}: {name}: its .json has no label that is a number or a name ({', '.join(map(repr, IN_JSON))}) and there is no .cls")
    return _plain(found, name)


def _plain(value: Any, name: str) -> str | int:
    text = str(value)
    if not text.strip():
        raise DataError(f"{name}: its label is empty")
    return int(text) if _NUMBER.fullmatch(text) else text


def _classes(raw: list[str | int], names: list[str], folder: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as indices into class names: those of classes.txt, or the values themselves in order."""
    file = folder / "classes.txt"
    given = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()] if file.is_file() else None
    if given is None:
        if len({type(label) for label in raw}) > 1:
            number, text = (next(name for name, label in zip(names, raw) if isinstance(label, kind)) for kind in (int, str))
            raise DataError(f"the label of {number} is a number, that of {text} a name; let all be of one kind, or name the numbers in {file}")
        values = sorted(set(raw))  # pyrefly: ignore
        index = {value: label for label, value in enumerate(values)}
        return np.array([index[label] for label in raw], np.int32), tuple(map(str, values))
    if len(set(given)) < len(given):
        raise DataError(f"{file} names a class twice")
    places = {name: label for label, name in enumerate(given)}
    for name, label in zip(names, raw):
        if isinstance(label, str) and label not in places:
            raise DataError(f"{name}: {file} names no class {label!r}: {did_you_mean(label, given)}")
        if isinstance(label, int) and not 0 <= label < len(given):
            raise DataError(f"{name}: label {label} is out of range; {file} names {len(given)} classes, so 0 to {len(given) - 1} are allowed")
    return np.array([places[label] if isinstance(label, str) else label for label in raw], np.int32), tuple(given)


def _extensions(samples: Mapping[str, Mapping[str, Sample]]) -> collections.Counter[str]:
    return collections.Counter(extension for inside in samples.values() for sample in inside.values() for extension in sample)


def _unused(samples: Mapping[str, Mapping[str, Sample]]) -> list[str]:
    """Extensions that nothing reads; a .json beside a .cls counts as unread."""
    found = _extensions(samples)
    read = {*IMAGES, "cls"} | (set() if found["cls"] else {"json"})
    return sorted(set(found) - read)


def _schema(samples: Mapping[str, Mapping[str, Sample]], classes: int) -> dict[str, str]:
    found = _extensions(samples)
    label = ".cls" if found["cls"] else ".json"
    return {"image": f"file ({', '.join('.' + name for name in IMAGES if found[name])})", "label": f"{label}, one of {classes}"}
