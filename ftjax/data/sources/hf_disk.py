"""A Hugging Face data set as `save_to_disk` leaves it, a `Dataset` or a `DatasetDict`: Arrow files, memory-mapped, without the library `datasets`.

The images are read where they lie when they are asked for, so a data set may be larger than the memory.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.arrow import cell, map_arrow
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.errors import DataError

LABELS = ("label", "labels", "fine_label", "class", "target")
"""Columns that are taken for the label where none is a ClassLabel."""


@dataclasses.dataclass(frozen=True, eq=False)
class Saved:
    """One split: its columns (a pyarrow.Table) and what `dataset_info.json` says of them."""

    folder: Path
    table: Any
    features: Mapping[str, Any]


def read_hf_disk(config: DataConfig) -> Rows:
    """Rows of a saved data set; ids are `train/000000`, ... in its order.

    The image is the only `Image`, the label the only `ClassLabel` (else a column called label, of whole numbers or texts); data.json says which.

    Raises:
      ConfigError: no path.
      DataError: not such a folder, cut short, no image or label, or a label without a name; the message names file and row.
    """
    path = existing_path(config.path, "hf_disk", "a folder that datasets' save_to_disk wrote")
    saved, left_out = open_saved(path)
    features = saved["train"].features
    for one in saved.values():
        if one.table.column_names != saved["train"].table.column_names:
            first, second = (", ".join(which.table.column_names) for which in (saved["train"], one))
            raise DataError(f"{saved['train'].folder} has the columns {first}, {one.folder} has {second}; the splits must have the same")
    image, label = _image(path, features), _label(path, features)
    labels, classes = _classes(saved, label)
    names = [(split, row) for split, one in saved.items() for row in range(one.table.num_rows)]
    columns = {split: one.table.column(image) for split, one in saved.items()}
    return Rows(
        where=str(path),
        ids=tuple(f"{split}/{row:06d}" for split, row in names),
        labels=labels,
        splits=tuple(split for split, _ in names),
        classes=classes,
        read=lambda index: _bytes(cell(columns[names[index][0]], names[index][1]), image),
        ignored=tuple(left_out),
        details={"layout": "|".join(saved), "image feature": image, "label feature": label},
        schema={name: _kind(feature) for name, feature in features.items()},
    )


def is_saved(path: Path) -> bool:
    """Whether a folder is such a data set."""
    return path.is_dir() and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file())


def open_saved(path: Path) -> tuple[dict[str, Saved], list[dict[str, str]]]:
    """The splits of a saved data set by our names, and the splits that are left out.

    Raises:
      DataError: not such a folder, or cut short.
    """
    if (path / "dataset_dict.json").is_file():
        given = _json(path / "dataset_dict.json").get("splits")
        if not isinstance(given, list) or not all(isinstance(name, str) and "/" not in name and name not in ("", "..", ".") for name in given):
            raise DataError(f"{path / 'dataset_dict.json'}: 'splits' must be a list of names")
        ours = our_split(given, str(path))
        left_out = [{"file": f"split {name!r}", "why": f"not one of {', '.join(SPLIT_NAMES)}"} for name in given if name not in ours]
        return {split: _open(path / name) for name, split in ours.items()}, left_out
    if not (path / "state.json").is_file():
        raise DataError(f"{path} holds neither dataset_dict.json nor state.json: it is no folder that datasets' save_to_disk wrote")
    return {"train": _open(path)}, []


def _open(folder: Path) -> Saved:
    """One split, its files checked."""
    import pyarrow

    state, info = _json(folder / "state.json"), _json(folder / "dataset_info.json")
    if state.get("_indices_data_files"):
        raise DataError(f"{folder} was saved with a selection of rows beside the data; save it again after .flatten_indices()")
    given = state.get("_data_files")
    files = [str(entry.get("filename", "/")) if isinstance(entry, dict) else "/" for entry in given] if isinstance(given, list) else []
    if not files or any("/" in name or "\\" in name or "\0" in name for name in files):
        raise DataError(f"{folder / 'state.json'}: '_data_files' must name the files that lie beside it")
    tables = []
    for name in files:
        if not os.path.isfile(folder / name):  # a name that is too long for a file is no error here
            raise DataError(f"{folder}: {name} is missing ({len(files)} files are named in state.json); save or fetch the data set again")
        tables.append(map_arrow(folder / name))
        if tables[-1].schema.names != tables[0].schema.names:
            raise DataError(f"{folder / files[0]} and {folder / name} have different columns")
    features = info.get("features")
    if not isinstance(features, dict) or set(features) != set(tables[0].column_names):
        raise DataError(f"{folder / 'dataset_info.json'}: 'features' must name the columns of {files[0]} ({', '.join(tables[0].column_names)})")
    try:
        return Saved(folder, pyarrow.concat_tables(tables), features)
    except pyarrow.ArrowException as error:
        raise DataError(f"{folder}: the files do not fit together: {str(error).splitlines()[0]}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent} holds no {path.name}: it is no folder that datasets' save_to_disk wrote, or not all of it") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} holds no object")
    return value


def _kind(feature: Any) -> str:
    """A feature's type, as the description of the data set calls it."""
    if not isinstance(feature, dict):
        return "list"
    return f"{feature.get('dtype')}" if feature.get("_type") == "Value" else str(feature.get("_type", "struct"))


def _image(path: Path, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if _kind(feature) == "Image"]
    if len(found) != 1:
        raise DataError(f"{path} has {len(found)} Image features ({', '.join(found) or 'none'}) among {', '.join(features)}; one is needed")
    return found[0]


def _label(path: Path, features: Mapping[str, Any]) -> str:
    found = [name for name, feature in features.items() if _kind(feature) == "ClassLabel"]
    found = found if len(found) == 1 else [name for name in LABELS if name in (found or features)][:1]
    if not found:
        raise DataError(f"{path} has no label: among {', '.join(features)} none is the only ClassLabel, and none is called {', '.join(LABELS)}")
    return found[0]


def class_names(feature: Any) -> tuple[str, ...] | None:
    """The names of a ClassLabel, where they are given."""
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) and names else None


def _classes(saved: Mapping[str, Saved], label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels as indices into the class names: those of the ClassLabel, or the values themselves in order."""
    raw = {split: _values(one, label) for split, one in saved.items()}
    names = class_names(saved["train"].features[label])
    for split, one in saved.items():
        if class_names(one.features[label]) != names:
            raise DataError(f"{one.folder}: the classes of {label!r} are others than those of {saved['train'].folder}")
        for row, value in enumerate(raw[split]):
            if isinstance(value, bool) or not isinstance(value, (int, str)) or (names and not (isinstance(value, int) and 0 <= value < len(names))):
                allowed = f"{len(names)} classes allow 0 to {len(names) - 1}" if names else "allowed are whole numbers and texts"
                hint = "; -1 marks rows without a label: leave that split out" if value == -1 else ""
                raise DataError(f"{one.folder}: {label} of row {row} is {value!r}; {allowed}{hint}")
    flat = [value for values in raw.values() for value in values]
    if names:
        return np.array(flat, np.int32), names
    if len({type(value) for value in flat}) > 1:
        raise DataError(f"{saved['train'].folder.parent}: {label} holds numbers and texts")
    values = sorted(set(flat))
    index = {value: number for number, value in enumerate(values)}
    return np.array([index[value] for value in flat], np.int32), tuple(map(str, values))


def _values(saved: Saved, column: str) -> list[Any]:
    try:
        return saved.table.column(column).to_pylist()
    except (ValueError, OverflowError) as error:
        raise DataError(f"{saved.folder}: the column {column!r} is damaged: {str(error).splitlines()[0]}") from error


def _bytes(value: Any, column: str) -> bytes:
    """The encoded image of a cell.

    Raises:
      DataError: there is only a path, which means nothing on another machine, or nothing.
    """
    found = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(found, bytes):
        return found
    if isinstance(value, dict) and value.get("path"):
        raise DataError(f"its {column} is only a path ({value['path']}); save the data set again, save_to_disk puts the pictures into it")
    raise DataError(f"it has no {column}")
