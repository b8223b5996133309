"""Some examples of another data set, with what their source calls their classes: the pictures behind the forgetting meter.

Unlike `collect` it splits, cleans and samples nothing, and it decodes only the examples that are asked for.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Literal

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import UNLABELLED, Rows, Split, image_split
from ftjax.data.image_format import ImageFormat
from ftjax.data.reading import images_of, inspect
from ftjax.data.sources.image_folder import SUFFIXES, is_image
from ftjax.data.sources.npz import read_npz
from ftjax.data.sources.paths import existing_path
from ftjax.data.validate import check_rejected
from ftjax.errors import DataError

_NUMBERED = re.compile(r"(\d+)_")
"""`0281_tabby.jpg`: a file that lies in no class folder and begins with the number of its class."""


def read_held_out(
    path: str,
    image: ImageFormat,
    examples: int,
    *,
    name: str,
    bad_files: Literal["error", "skip"] = "error",
    max_pixels: int = 50_000_000,
    workers: int = 4,
) -> tuple[Split, tuple[str | None, ...]]:
    """At most `examples` pictures, evenly spaced in the order of their ids: the same ones whenever they are asked for, and of every class its share.

    Args:
      path: a folder of photos, flat or with one folder per class, or an `.npz` file (`ftjax.data.sources.npz` says what is in one).
      image: size and cut of the pixels.
      examples: at most this many.
      name: of the setting that `path` comes from, for messages.
      bad_files: what an unreadable picture does.
      max_pixels: pictures with more are refused.
      workers: threads that decode.

    Returns:
      A split without labels, and for each row what its source calls its class: the folder it lies in, the number its file name begins with
      (`0281_tabby.jpg`, where there are no class folders), the label in the archive; None where there is none of these.

    Raises:
      DataError: nothing is there, it holds no picture, or one cannot be read.
    """
    root = existing_path(path, "", "a folder of photos or an .npz file", name)
    if not root.is_dir() and root.suffix.lower() != ".npz":
        raise DataError(f"{name}={path} is a file that is no .npz archive; allowed are a folder of photos and an .npz file")
    rows = _folder_rows(root) if root.is_dir() else read_npz(DataConfig(source="npz", path=path))
    if not len(rows):
        raise DataError(f"{name}={path} holds no image ({', '.join(SUFFIXES)})")
    rows = _evenly(rows, examples)
    # They are few, and measured again and again: they stay in memory whatever the cache for the training data is.
    inspection = inspect(rows, image, max_pixels=max_pixels, cache_megabytes=2**20, workers=workers)
    check_rejected(rows, inspection, bad_files)
    good = inspection.good()
    ids = tuple(rows.ids[row] for row in good)
    split = image_split(ids, np.full(len(good), UNLABELLED, np.int32), images_of(rows, inspection, good, image, max_pixels))
    return split, tuple(rows.classes[rows.labels[row]] or None for row in good)


def _folder_rows(root: Path) -> Rows:
    """Every image below `root`; its class is the folder it lies in, or the number its name begins with, or "" where it has neither."""
    files = []
    for folder, subfolders, found in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files += [Path(folder, name).relative_to(root) for name in found if is_image(name) and not name.startswith(".")]
    files.sort()
    named = [_class_of(file) for file in files]
    classes = tuple(sorted(set(named)))
    labels = np.array([classes.index(name) for name in named], np.int32)
    ids = tuple(file.as_posix() for file in files)
    return Rows(str(root), ids, labels, ("test",) * len(ids), classes, lambda row: (root / files[row]).read_bytes())


def _class_of(file: Path) -> str:
    if len(file.parts) > 1:
        return file.parts[-2]
    numbered = _NUMBERED.match(file.name)
    return numbered[1] if numbered else ""


def _evenly(rows: Rows, examples: int) -> Rows:
    """The middle row of each of `examples` equal stretches: classes of equal size that divide it have equal shares."""
    if len(rows) <= examples:
        return rows
    chosen = (2 * np.arange(examples) + 1) * len(rows) // (2 * examples)
    ids, splits = (tuple(values[row] for row in chosen) for values in (rows.ids, rows.splits))
    return dataclasses.replace(rows, ids=ids, splits=splits, labels=rows.labels[chosen], read=lambda row: rows.read(int(chosen[row])))
