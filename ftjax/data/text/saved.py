"""Folders that are a data set of texts as a library saved it: Hugging Face's `save_to_disk`, and what `ftjax data convert` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftjax.data.sources import hf_disk
from ftjax.data.sources.paths import our_split
from ftjax.data.sources.tfds import FEATURES, described_folder, opened
from ftjax.data.text.columnar import columns_of
from ftjax.data.text.table import Table
from ftjax.errors import DataError

ROW = "row"
"""The feature that holds a row of a converted table: a JSON object, column -> value."""


def is_saved(path: Path) -> bool:
    """Whether a folder is one of these; what else lies in it does not matter."""
    return hf_disk.is_saved(path) or bool(_described(path))


def read_saved(path: Path) -> dict[str, Table]:
    """The table of each split.

    Raises:
      DataError: the folder is not whole, or holds no table of texts.
    """
    if hf_disk.is_saved(path):
        splits, left_out = hf_disk.open_saved(path)
        warnings = tuple(f"{path}: {entry['file']} is left out: {entry['why']}" for entry in left_out)
        return {split: _of_arrow(one, warnings) for split, one in splits.items()}
    return _of_records(described_folder(path))


def _described(path: Path) -> list[Path]:
    return [*path.glob(FEATURES), *path.glob(f"*/{FEATURES}"), *path.glob(f"*/*/{FEATURES}")]


def _of_arrow(saved: hf_disk.Saved, warnings: tuple[str, ...]) -> Table:
    """Columns as they are; the numbers of a ClassLabel become its names."""
    columns, rows = columns_of(saved.table, str(saved.folder))
    names = [hf_disk.class_names(saved.features[column]) for column in columns]

    def named(cell: Any, of: tuple[str, ...] | None) -> Any:
        if isinstance(cell, list):
            return [named(part, of) for part in cell]
        return of[cell] if of and isinstance(cell, int) and 0 <= cell < len(of) else None if of else cell

    rows = [tuple(named(cell, of) for cell, of in zip(row, names)) for row in rows] if any(names) else rows
    return Table(str(saved.folder), columns, rows, list(range(1, len(rows) + 1)), {"format": "hf_disk"}, warnings)


def _of_records(folder: Path) -> dict[str, Table]:
    import tensorflow_datasets as tfds

    builder: Any = opened(tfds, folder)
    features = dict(builder.info.features.items())
    if any(not isinstance(features.get(key), tfds.features.Text) for key in ("id", ROW)):
        raise DataError(f"{folder} has the features {', '.join(sorted(features))}; a table that ftjax data convert wrote has 'id' and {ROW!r}")
    ours = our_split(list(builder.info.splits), str(folder))
    return {split: _table(builder, name, f"{folder}/{name}") for name, split in ours.items()}


def _table(builder: Any, split: str, where: str) -> Table:
    """One split; the rows have names of their own."""
    names, objects = [], []
    try:
        for record in builder.as_data_source(split=split):
            names.append(record["id"].decode("utf-8"))
            objects.append(json.loads(record[ROW]))
    except (RuntimeError, ValueError, IndexError, OSError, RecursionError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: record {len(objects)} cannot be read ({error}); convert the data set again") from error
    expected = builder.info.splits[split].num_examples
    if len(objects) != expected or not all(isinstance(row, dict) for row in objects):
        raise DataError(f"{where} holds {len(objects)} rows, its description says {expected}; convert the data set again")
    columns = tuple(dict.fromkeys(key for row in objects for key in row))
    return Table(where, columns, [[row.get(column) for column in columns] for row in objects], names, {"format": "array_record"})
