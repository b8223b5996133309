"""Other labelled data to measure a finished model on: every row that can be read, as one split, in the model's order of classes.

Nothing is cleaned, split or sampled: what is asked for is how the model does on these rows, however few they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data.dataset import Split, image_split
from ftjax.data.image_format import ImageFormat
from ftjax.data.processes import processes_of
from ftjax.data.reading import images_of, inspect
from ftjax.data.sources import read_source
from ftjax.data.text.bucketed import choose_buckets
from ftjax.data.text.collect import read_found
from ftjax.data.text.splits import encode_rows
from ftjax.data.text.tokenizer import Tokenizer
from ftjax.data.validate import check_rejected, check_settings
from ftjax.errors import DataError, did_you_mean


def labelled_images(config: DataConfig, image: ImageFormat, classes: Sequence[str]) -> Split:
    """All readable pictures of a source, in order of id.

    Args:
      config: where the pictures are.
      image: size and cut of the model.
      classes: of the model, by label.

    Raises:
      DataError: there are none, some cannot be read, or one is of a class that the model does not know.
    """
    check_settings(config)
    rows = read_source(config)
    if not len(rows):
        raise DataError(f"{rows.where} holds no {rows.noun}")
    check_known(rows.where, rows.classes, classes)
    processes = processes_of(config)
    limits = {"max_pixels": config.max_pixels, "cache_megabytes": config.cache_megabytes, "workers": config.workers}
    inspection = inspect(rows, image, processes=processes, **limits)
    check_rejected(rows, inspection, config.bad_files)
    members = np.array(sorted(inspection.good(), key=lambda row: rows.ids[row]), np.int64)
    order = np.array([classes.index(name) for name in rows.classes], np.int32)
    rejected = tuple({"file": rows.ids[row], "why": why} for row, why in inspection.rejected.items())
    images = images_of(rows, inspection, members, image, config.max_pixels, processes)
    return image_split(tuple(rows.ids[row] for row in members), order[rows.labels[members]], images, rejected)


def labelled_texts(data: DataConfig, text: TextConfig, task: TaskConfig, tokenizer: Tokenizer, max_length: int, classes: Sequence[str]) -> Split:
    """All usable rows of the files, in their order.

    Args:
      data: where the files are.
      text: columns and format.
      task: of the model.
      tokenizer: of the model.
      max_length: tokens of an example, special ones included.
      classes: of the model, by label.

    Raises:
      DataError: there are none, some cannot be used, or one has a class, label or tag that the model does not know.
    """
    found = read_found(data, text, task)
    examples = found.examples
    if not len(examples):
        raise DataError(f"{examples.where} holds no rows that can be used")
    # Tags are named by their type: a file without an `I-type` is no other task.
    check_known(examples.where, found.classes if task.name != "token_classification" else sorted({tag for tags in examples.labels for tag in tags}), classes)
    encoded = encode_rows(examples, np.arange(len(examples)), task.name, classes, tokenizer, max_length=max_length, stride=text.stride)
    split = encoded.split(choose_buckets(encoded.lengths, text.buckets), tokenizer.pad)
    return Split(split.ids, split.labels, split.fields, split.show, split.lengths, split.buckets, rejected=tuple(examples.rejected))


def check_known(where: str, found: Sequence[str], classes: Sequence[str]) -> None:
    """Refuse a class that the model does not know.

    Raises:
      DataError: naming it and the nearest one.
    """
    for name in found:
        if name not in classes:
            raise DataError(f"{where} has class {name!r}, which the model does not know; {did_you_mean(name, classes)}")
