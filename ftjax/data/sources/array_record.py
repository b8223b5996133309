"""A prepared tensorflow-datasets data set of format array_record by its own folder: what `ftjax data convert` writes, or any other one.

It is opened from its description alone (`tfds.builder_from_directory`): no data set's code is run, nothing is downloaded, TensorFlow is not needed.
"""

from __future__ import annotations

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.paths import existing_path
from ftjax.data.sources.tfds import described_folder, opened, rows_of


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
