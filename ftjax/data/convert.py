"""Writes a collected data set as ArrayRecord, through tensorflow-datasets: its splits, ids and labels, and of each row the bytes that were there.

It is written beside its place and moved there at the end, so a folder with that name is whole or not there.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ftjax.config import DataConfig, TextConfig
from ftjax.data.dataset import Dataset
from ftjax.data.sources import read_source
from ftjax.data.text.examples import file_names
from ftjax.data.text.saved import ROW
from ftjax.data.text.sources import read_tables
from ftjax.data.text.table import row_name
from ftjax.errors import ConfigError, DataError
from ftjax.files import write_json

Content = Callable[[str], dict[str, Any]]
"""What is written of the row with this id, beside the id."""


def convert(dataset: Dataset, data: DataConfig, text: TextConfig | None, output: Path) -> dict[str, int]:
    """Write the rows of all splits to the new folder `output`, and the report of how they were collected beside them (data.json).

    Args:
      dataset: collected from `data`.
      data: where its rows come from; they are read again, as they are there.
      text: how the tables were read; None: pictures. Pictures become features `image` (the file as it was; arrays as PNG, without loss) and `label`,
        a row of a table becomes a JSON object of all its columns.
      output: is not there yet.

    Returns:
      Rows of each split.

    Raises:
      ConfigError: `output` is there already.
      DataError: a row cannot be found or read again, or not everything that was written can be read.
    """
    if output.exists():
        raise ConfigError(f"--output={output} is there already; name a new folder, nothing is overwritten")
    content = _pictures(data, dataset.classes) if text is None else _rows_of_tables(data, text)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as scratch:
        folder = _write(dataset, content, None if text is not None else dataset.classes, Path(scratch))
        written = {name: len(split) for name, split in dataset.splits.items()}
        write_json(folder / "data.json", dataset.report)
        os.chmod(folder, 0o755)
        shutil.move(folder, output)
    return written


def _write(dataset: Dataset, content: Content, classes: tuple[str, ...] | None, scratch: Path) -> Path:
    """The folder of the written data set."""
    import tensorflow_datasets as tfds  # here because it takes half a second that other commands need not pay

    builder = _builder_class()(dataset=dataset, content=content, classes=classes, data_dir=scratch, file_format="array_record")
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()):  # it speaks of downloads; there are none
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    if classes is not None and tuple(builder.info.features["label"].names) != classes:
        raise DataError(f"the class names {', '.join(map(repr, classes[:5]))}, ... cannot be written line by line; rename those with line breaks")
    for name, split in dataset.splits.items():
        stored = len(builder.as_data_source(split=name))
        if stored != len(split):
            raise DataError(f"{name}: {len(split)} rows were written but {stored} can be read; is the disk full?")
    return Path(builder.data_dir)


@functools.cache
def _builder_class() -> Any:
    """The builder; its class cannot be made before tensorflow-datasets is imported, and no two may have one name."""
    import tensorflow_datasets as tfds

    class FtjaxData(tfds.core.GeneratorBasedBuilder):
        """Rows that ftjax collected."""

        VERSION = tfds.core.Version("1.0.0")
        code_path = None  # where check sums of downloads would lie; finding it out needs a package that is not there

        def __init__(self, *, dataset: Dataset, content: Content, classes: tuple[str, ...] | None, **options: Any) -> None:
            self._dataset, self._content, self._classes = dataset, content, classes
            super().__init__(**options)

        def _info(self) -> tfds.core.DatasetInfo:
            features: dict[str, Any] = {"id": tfds.features.Text()}
            if self._classes is None:
                features[ROW] = tfds.features.Text()
            else:
                features |= {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=list(self._classes))}
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"Collected by ftjax from {self._dataset.report['source']}.",
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,  # the order of texts is that of their file
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            del dl_manager  # nothing is downloaded
            return {split: self._generate_examples(split) for split in self._dataset.splits}

        def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
            for name in self._dataset.splits[split].ids:
                yield name, {"id": name, **self._content(name)}

    return FtjaxData


def _pictures(data: DataConfig, classes: tuple[str, ...]) -> Content:
    rows = read_source(data)
    places = {name: row for row, name in enumerate(rows.ids)}

    def content(name: str) -> dict[str, Any]:
        row = _found(places, name, rows.where)
        try:
            image = rows.read(row)
        except OSError as error:
            raise DataError(f"{rows.where}: {name}: {error}") from error
        return {"image": io.BytesIO(image if isinstance(image, bytes) else _png(image)), "label": rows.classes[rows.labels[row]]}

    if rows.classes != classes:
        raise DataError(f"{rows.where} has changed while it was converted: its classes are others; convert it again")
    return content


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(file, "PNG")
    return file.getvalue()


def _rows_of_tables(data: DataConfig, text: TextConfig) -> Content:
    tables = read_tables(data, text)
    names = file_names(tables)
    places = {row_name(names[split], line): (table, row) for split, table in tables.items() for row, line in enumerate(table.lines)}

    def content(name: str) -> dict[str, Any]:
        table, row = _found(places, name, str(data.path))
        return {ROW: json.dumps(dict(zip(table.columns, table.rows[row])), default=str)}

    return content


def _found(places: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in places:
        raise DataError(f"{where} has changed while it was converted: there is no row {name!r} any more; convert it again")
    return places[name]
