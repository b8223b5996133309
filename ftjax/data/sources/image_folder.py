"""Folders of photos: `class/x.jpg`, or `train|validation|test/class/x.jpg` (`val` is `validation`).

Nothing is passed over in silence: what is not an image is listed in data.json with the reason, and a folder that could be read in two ways is an error.
Only names that begin with a dot are hidden by rule.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.errors import DataError, did_you_mean

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NOT_AN_IMAGE = f"not an image by its suffix (allowed: {', '.join(SUFFIXES)}, in any case)"


@dataclasses.dataclass(frozen=True)
class _Listing:
    """Image files (relative to the root), their classes, and what was ignored."""

    files: tuple[str, ...]
    classes: tuple[str, ...]
    empty: tuple[str, ...]
    ignored: tuple[dict[str, str], ...]


def read_image_folder(config: DataConfig) -> Rows:
    """Rows of a folder of photos; the class is the folder's name, the id is the path below `data.path`.

    Raises:
      DataError: no such folder, both layouts at once, images outside of a class, or a class without images.
    """
    root = existing_path(config.path, "image_folder", "a folder with one folder of photos per class")
    if not root.is_dir():
        raise DataError(f"data.path={config.path} is a file; data.source='image_folder' needs a folder with one folder of photos per class")
    split_folders = _split_folders(root)
    if not split_folders:
        found = [("train", _list_classes(root, root))]
        details = {"layout": "class/image"}
    else:
        names = our_split(split_folders, str(root))
        found = [(names[folder], _list_classes(root, root / folder)) for folder in split_folders]
        details = {"layout": f"{'|'.join(split_folders)}/class/image"}
    _check_empty(root, found)
    stray = [_ignored(root, root / name, "outside of the split folders") for name in _entries(root)[1]] if split_folders else []
    return _rows(root, found, details, stray)


def is_image(name: str) -> bool:
    """Whether the suffix is one that we read."""
    return Path(name).suffix.lower() in SUFFIXES


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the other files in a folder, sorted, hidden ones left out."""
    visible = sorted((entry for entry in os.scandir(folder) if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in visible:
        if any("\ud800" <= character <= "\udfff" for character in entry.name):
            raise DataError(f"{folder}: the name {entry.name!r} is not valid UTF-8; rename it")
    return [entry.name for entry in visible if entry.is_dir()], [entry.name for entry in visible if not entry.is_dir()]


def _split_folders(root: Path) -> list[str]:
    """Folders that are splits: named as one and holding folders. Others beside them would be a second layout."""
    folders, _ = _entries(root)
    splits = [name for name in folders if name in SPLIT_NAMES and _entries(root / name)[0]]
    others = [name for name in folders if name not in splits]
    if splits and others:
        raise DataError(
            f"{root} holds split folders ({', '.join(splits)}) and other folders ({', '.join(others[:5])}{', ...' if len(others) > 5 else ''}): "
            f"either every folder is a class, or every folder is a split that holds classes"
        )
    return splits


def _list_classes(root: Path, folder: Path) -> _Listing:
    classes, files = _entries(folder)
    if not classes:
        raise _no_classes(folder, files)
    ignored = [_ignored(root, folder / name, "outside of the class folders") for name in files]
    images, empty = [], []
    for name in classes:
        nested, inside = _entries(folder / name)
        if nested:
            raise _nested(folder / name, nested)
        kept = [folder / name / file for file in inside if is_image(file)]
        ignored += [_ignored(root, folder / name / file, NOT_AN_IMAGE) for file in inside if not is_image(file)]
        images += kept
        empty += [name] if not kept else []
    return _Listing(tuple(path.relative_to(root).as_posix() for path in images), tuple(classes), tuple(empty), tuple(ignored))


def _ignored(root: Path, path: Path, why: str) -> dict[str, str]:
    return {"file": path.relative_to(root).as_posix(), "why": why}


def _no_classes(folder: Path, files: list[str]) -> DataError:
    images = [name for name in files if is_image(name)]
    if images:
        return DataError(
            f"{folder} holds {len(images)} images ({images[0]}, ...) but no class folders; sort them into one folder per class: {folder.name}/CLASS/{images[0]}"
        )
    return DataError(f"{folder} is empty; it needs one folder of photos per class")


def _nested(folder: Path, nested: list[str]) -> DataError:
    hint = f"If the classes are the folders in {folder}, set data.path={folder}" if len(nested) > 1 else "Move the images up"
    return DataError(f"class folder {folder} holds folders ({', '.join(nested[:5])}); images must lie directly in it. {hint}")


def _check_empty(root: Path, found: list[tuple[str, _Listing]]) -> None:
    """Every class needs training images; a class may be missing from validation or test."""
    empty = [name for split, listing in found if split == "train" for name in listing.empty]
    if empty:
        raise DataError(f"{root}: class folder {', '.join(map(repr, empty))} holds no image ({', '.join(SUFFIXES)}); fill or remove it")
    known = {name for split, listing in found if split == "train" for name in listing.classes}
    for split, listing in found:
        if not listing.files:
            raise DataError(f"{root}: the {split} folder holds no image ({', '.join(SUFFIXES)}); fill or remove it")
        for name in listing.classes:
            if name not in known:
                raise DataError(f"{root}: class {name!r} is in {split} but not in train: nothing can learn it ({did_you_mean(name, known)})")


def _rows(root: Path, found: list[tuple[str, _Listing]], details: dict[str, str], stray: list[dict[str, str]]) -> Rows:
    classes = tuple(sorted({name for split, listing in found for name in listing.classes}))
    index = {name: label for label, name in enumerate(classes)}
    rows = sorted((file, split) for split, listing in found for file in listing.files)
    return Rows(
        where=str(root),
        ids=tuple(file for file, _ in rows),
        labels=np.array([index[file.split("/")[-2]] for file, _ in rows], np.int32),
        splits=tuple(split for _, split in rows),
        classes=classes,
        read=lambda row: (root / rows[row][0]).read_bytes(),
        ignored=(*stray, *(entry for _, listing in found for entry in listing.ignored)),
        details=details,
    )
