"""Images without labels, for prediction: files and folders, decoded and cut exactly as the evaluation images were."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ftjax.data.dataset import UNLABELLED, Progress, Rows, Split, image_split
from ftjax.data.image_format import ImageFormat
from ftjax.data.reading import images_of, inspect
from ftjax.data.sources.image_folder import SUFFIXES, is_image
from ftjax.data.sources.paths import existing_path
from ftjax.data.validate import check_rejected
from ftjax.errors import DataError


def read_images(
    paths: str | Path | Sequence[str | Path],
    image: ImageFormat,
    *,
    bad_files: Literal["error", "skip"] = "error",
    max_pixels: int = 50_000_000,
    cache_megabytes: int = 4096,
    workers: int = 4,
    progress: Progress | None = None,
) -> tuple[tuple[str, ...], Split]:
    """All images of a folder (and the folders in it), of one file, or of several of these.

    The id of a file in a folder is its path below that folder; of a file given by name, the name as given. Ids are sorted. Labels are -1.
    Hidden files and files that are not images by their suffix are passed over in folders; a file given by name is always read.

    Returns:
      The ids, and a split without labels whose `rejected` names what "skip" left out.

    Raises:
      DataError: a path is not there, there is no image, two images have one id, or (with "error") some cannot be read: all are listed.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = sorted((pair for path in given for pair in _files(path)), key=lambda pair: pair[0])
    names = tuple(name for name, _ in files)
    _check_names(names, given)
    where = ", ".join(map(str, given[:3])) + (", ..." if len(given) > 3 else "")
    labels = np.full(len(files), UNLABELLED, np.int32)
    rows = Rows(where, names, labels, ("test",) * len(files), (), lambda row: files[row][1].read_bytes())
    inspection = inspect(rows, image, max_pixels=max_pixels, cache_megabytes=cache_megabytes, workers=workers, progress=progress)
    check_rejected(rows, inspection, bad_files)
    good = inspection.good()
    ids = tuple(names[row] for row in good)
    rejected = tuple({"file": names[row], "why": why} for row, why in inspection.rejected.items())
    return ids, image_split(ids, labels[good], images_of(rows, inspection, good, image, max_pixels), rejected)


def _files(path: str | Path) -> list[tuple[str, Path]]:
    """(id, file) of every image that `path` stands for."""
    root = existing_path(str(path), "image_folder", "a file or folder", "input")
    if not root.is_dir():
        return [(str(path), root)]
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if is_image(name) and not name.startswith(".")]
    return [(file.relative_to(root).as_posix(), file) for file in found]


def _check_names(names: Sequence[str], given: Sequence[str | Path]) -> None:
    if not names:
        raise DataError(f"there is no image ({', '.join(SUFFIXES)}) in {', '.join(map(str, given)) or 'an empty list of paths'}")
    twice = sorted({name for name, after in itertools.pairwise(names) if name == after})
    if twice:
        raise DataError(f"two images have the same id {twice[0]!r}; give the folder that holds both, or predict them apart")
