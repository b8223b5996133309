"""Where examples come from: one file per source, each a function from the configuration to `Rows`.

A new source is one such function and one line in `_SOURCES`; everything after it (cleaning, splitting, batches) is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.array_record import read_array_record
from ftjax.data.sources.digits import read_digits
from ftjax.data.sources.hf_disk import read_hf_disk
from ftjax.data.sources.image_folder import read_image_folder
from ftjax.data.sources.npz import read_npz
from ftjax.data.sources.tfds import read_tfds
from ftjax.data.sources.webdataset import read_webdataset
from ftjax.errors import ConfigError, did_you_mean

_SOURCES: dict[str, Callable[[DataConfig], Rows]] = {
    "digits": read_digits,
    "image_folder": read_image_folder,
    "npz": read_npz,
    "tfds": read_tfds,
    "webdataset": read_webdataset,
    "array_record": read_array_record,
    "hf_disk": read_hf_disk,
}


def read_source(config: DataConfig) -> Rows:
    """The rows of the source that the configuration names.

    Raises:
      ConfigError: no such source.
      DataError: the source is not there or not in its form.
    """
    if config.source not in _SOURCES:
        raise ConfigError(f"data.source={config.source!r}: {did_you_mean(config.source, _SOURCES)}")
    return _SOURCES[config.source](config)
