"""A prepared tensorflow-datasets data set of format array_record by its own folder: what `ftjax data convert` writes, or any other one.

It is opened from its description alone (`tfds.builder_from_directory`): no data set's code is run, nothing is downloaded, TensorFlow is not needed.
"""

from __future__ import annotations

from pathlib import Path

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.paths import existing_path
from ftjax.data.sources.tfds import rows_of
from ftjax.errors import DataError

DESCRIPTION = "dataset_info.json"
FEATURES = "features.json"


def read_array_record(config: DataConfig) -> Rows:
    """Rows of the data set in a folder; a text feature `id` names the rows, else they are `train/000000`, ... in the order of the records.

    Raises:
      ConfigError: no path.
      DataError: no such data set, or several; not array_record; or what `read_tfds` says.
    """
    path = existing_path(config.path, "array_record", "the folder of a tensorflow-datasets data set (with dataset_info.json)")
    folder = described_folder(path)
    import tensorflow_datasets as tfds  # here because it takes half a second that other sources need not pay

    return rows_of(tfds, opened(tfds, folder), str(folder), str(folder), named=True)


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
