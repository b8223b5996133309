"""tensorflow-datasets that lie prepared on disk, read at random through `tfds.data_source` (array_record) without TensorFlow.

Nothing is downloaded and no data set's code is run that is not installed. By name: `data.path` is tfds's `data_dir`, by default the one that tfds itself uses,
`data.name` is `name[/config][:version]`. By directory: `data.path` is the folder of one data set, and there is no name.
"""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.errors import ConfigError, DataError, did_you_mean

DESCRIPTION = "dataset_info.json"
FEATURES = "features.json"


def read_tfds(config: DataConfig) -> Rows:
    """Rows of a prepared data set; ids are `train/000000`, ... in the order of its records.

    The image feature is the only `Image`, the label the only `ClassLabel` (or those of the data set's supervised keys); data.json says which.

    Raises:
      ConfigError: no name.
      DataError: not there, not array_record, no image or label feature, records missing, or a label out of range.
    """
    folder = existing_path(config.path or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"), "tfds", "tensorflow-datasets' data_dir")
    described = sorted(folder.glob(f"**/{DESCRIPTION}")) if not config.name else []
    if not config.name and len(described) != 1:
        raise ConfigError(f"data.source='tfds' needs data.name; in {folder} there is: {', '.join(map(repr, _prepared(folder))) or 'nothing'}")
    import tensorflow_datasets as tfds  # here because it takes half a second that other sources need not pay

    if not config.name:
        place = described_folder(folder)
        return rows_of(tfds, opened(tfds, place), str(place), str(place))
    return rows_of(tfds, _builder(tfds, config.name, folder), config.name, f"{folder}/{config.name}")


def rows_of(tfds: Any, builder: Any, name: str, where: str, *, named: bool = False) -> Rows:
    """Rows of a builder whose files are there.

    Args:
      tfds: the module.
      builder: of the data set.
      name: of the data set, for messages.
      where: it lies.
      named: whether a text feature `id` names the rows, where there is one.
    """
    _check_format(builder, name)
    image_key, label_key = _features(tfds, builder)
    names = our_split(list(builder.info.splits), f"tfds data set {name!r}")
    sources = {ours: _data_source(tfds, builder, theirs, image_key) for theirs, ours in names.items()}
    classes = tuple(builder.info.features[label_key].names)
    labels = {split: _labels(source, label_key, classes, f"tfds data set {name!r}, {split}") for split, source in sources.items()}
    details = {"layout": "|".join(names), "name": builder.info.full_name, "image feature": image_key, "label feature": label_key}
    left_out = [{"file": f"split {theirs!r}", "why": f"not one of {', '.join(SPLIT_NAMES)}"} for theirs in builder.info.splits if theirs not in names]
    rows = _rows(where, sources, labels, classes, image_key, details, left_out)
    schema = {key: type(feature).__name__ for key, feature in sorted(builder.info.features.items())}
    ids = _ids(sources, rows, where) if named and isinstance(dict(builder.info.features.items()).get("id"), tfds.features.Text) else rows.ids
    return dataclasses.replace(rows, schema=schema, ids=ids)


def described_folder(path: Path) -> Path:
    """The folder at or below `path` that describes a data set.

    Raises:
      DataError: there is none, or there are several.
    """
    if (path / DESCRIPTION).is_file():
        found = [path]
    else:
        found = sorted(file.parent for file in path.glob(f"**/{DESCRIPTION}")) if path.is_dir() else []
    if not found:
        raise DataError(f"data.path={path} holds no {DESCRIPTION}: it is no folder of a tensorflow-datasets data set; ftjax data convert writes one")
    if len(found) > 1:
        shown = ", ".join(str(folder.relative_to(path)) for folder in found[:12])
        raise DataError(f"data.path={path} holds {len(found)} data sets ({shown}); say which one: data.path={found[0]}")
    if not (found[0] / FEATURES).is_file():
        raise DataError(f"{found[0]} holds {DESCRIPTION} but no {FEATURES}: prepare the data set again with tensorflow-datasets, or is data.source='hf_disk'?")
    return found[0]


def opened(tfds: object, folder: Path) -> object:
    """The builder of a folder.

    Raises:
      DataError: its description is damaged, or needs a feature that is not there.
    """
    try:
        return tfds.builder_from_directory(folder)  # type: ignore[attr-defined]
    except Exception as error:  # protobuf, its JSON and the features each raise their own
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{folder} cannot be opened as a tensorflow-datasets data set: {first}") from error


def _ids(sources: dict[str, Sequence[Any]], rows: Rows, where: str) -> tuple[str, ...]:
    """What the feature `id` calls each row.

    Raises:
      DataError: two rows are called the same.
    """
    ids = tuple(_record(source, row, split)["id"].decode("utf-8", "replace") for split, source in sources.items() for row in range(len(source)))
    twice = next((name for name, count in collections.Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{where}: two rows have the id {twice!r}; every row needs one of its own")
    return ids


def _prepared(folder: Path) -> list[str]:
    """Names of the data sets below a data_dir."""
    return sorted({path.relative_to(folder).parts[0] for path in folder.glob("*/**/dataset_info.json")})


def _builder(tfds: Any, name: str, folder: Path) -> Any:
    base = name.split("/")[0].split(":")[0]
    prepared = _prepared(folder)
    if base not in prepared:
        hint = did_you_mean(base, prepared) if prepared else "the folder holds no prepared data set"
        raise DataError(f"data.name={name!r}: no such tensorflow-datasets data set in {folder}: {hint}")
    try:
        builder = tfds.builder(name, data_dir=folder, try_gcs=False)
    except (ValueError, OSError, tfds.core.DatasetNotFoundError) as error:
        raise DataError(f"data.name={name!r} cannot be opened in {folder}: {str(error).splitlines()[0]}") from error
    if not builder.data_path.exists():
        raise DataError(f"data.name={name!r}: {builder.data_path} is not there; prepare the data set first (ftjax downloads nothing)")
    return builder


def _check_format(builder: Any, name: str) -> None:
    found = builder.info.file_format.value
    if found != "array_record":
        why = (
            "tensorflow-datasets 4.9.10 loses rows in parquet files without saying so"
            if found == "parquet"
            else "only array_record can be read without TensorFlow"
        )
        raise DataError(f"data.name={name!r} is stored as {found}: {why}. Prepare it again with tfds.builder({name!r}, file_format='array_record')")


def _features(tfds: Any, builder: Any) -> tuple[str, str]:
    """Keys of the image and of the label."""
    features = builder.info.features
    given = builder.info.supervised_keys or ()
    keys = []
    for kind, what in ((tfds.features.Image, "Image"), (tfds.features.ClassLabel, "ClassLabel")):
        found = [key for key, feature in features.items() if isinstance(feature, kind)]
        preferred = [key for key in found if key in given] or found
        if len(preferred) != 1:
            raise DataError(
                f"{builder.info.full_name} has {len(found)} {what} features ({', '.join(sorted(found)) or 'none'}) "
                f"among {', '.join(sorted(features))}; one is needed"
            )
        keys.append(preferred[0])
    return keys[0], keys[1]


def _data_source(tfds: Any, builder: Any, split: str, image_key: str) -> Sequence[Any]:
    """Random access to a split, images left encoded."""
    source = builder.as_data_source(split=split, decoders={image_key: tfds.decode.SkipDecoding()})
    expected = builder.info.splits[split].num_examples
    if len(source) != expected:
        raise DataError(f"{builder.info.full_name}: split {split!r} holds {len(source)} records, but its description says {expected}; prepare it again")
    return source


def _labels(source: Sequence[Any], key: str, classes: Sequence[str], where: str) -> np.ndarray:
    labels = np.array([int(_record(source, row, where)[key]) for row in range(len(source))], np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        raise DataError(f"{where}: label {labels[wrong[0]]} at row {wrong[0]} is out of range; {len(classes)} classes allow 0 to {len(classes) - 1}")
    return labels.astype(np.int32)


def _record(source: Sequence[Any], row: int, where: str) -> Any:
    """One record. The number of records is what the description says, so lost ones show only here."""
    try:
        record = source[row]
        if any(value is None for value in record.values()):
            raise ValueError("a feature is missing")
        return record
    except (RuntimeError, ValueError, IndexError, OSError, TypeError, AttributeError) as error:
        raise DataError(f"{where}: record {row} of {len(source)} cannot be read ({error}); the files are incomplete or damaged, prepare them again") from error


def _rows(
    where: str,
    sources: dict[str, Sequence[Any]],
    labels: dict[str, np.ndarray],
    classes: tuple[str, ...],
    image_key: str,
    details: dict[str, str],
    left_out: list[dict[str, str]],
) -> Rows:
    names = [(split, row) for split, source in sources.items() for row in range(len(source))]
    return Rows(
        where=where,
        ids=tuple(f"{split}/{row:06d}" for split, row in names),
        labels=np.concatenate(list(labels.values())),
        splits=tuple(split for split, _ in names),
        classes=classes,
        read=lambda index: _record(sources[names[index][0]], names[index][1], names[index][0])[image_key],
        ignored=tuple(left_out),
        details=details,
    )
