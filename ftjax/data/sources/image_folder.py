"""Folders of photos, or archives of one: `class/x.jpg`, or `train|validation|test/class/x.jpg` (`val` is `validation`).

Nothing is passed over in silence: what is not an image is listed in data.json with the reason, and a folder that could be read in two ways is an error.
Only names that begin with a dot are hidden by rule.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.archive import SUFFIXES as ARCHIVES
from ftjax.data.sources.archive import is_archive, open_archive
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.data.sources.trees import Disk, Packed, Tree, below
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
    """Rows of a folder of photos or of an archive of one; the class is the folder's name, the id is the path below `data.path` or the member's name.

    Raises:
      DataError: no such folder, both layouts at once, images outside of a class, or a class without images.
    """
    tree = _open(config)
    top = _top(tree)
    split_folders = _split_folders(tree, top)
    if not split_folders:
        found = [("train", _list_classes(tree, top))]
        details = {"layout": "class/image"}
    else:
        names = our_split(split_folders, _shown(tree, top))
        found = [(names[folder], _list_classes(tree, below(top, folder))) for folder in split_folders]
        details = {"layout": f"{'|'.join(split_folders)}/class/image"}
    _check_empty(tree, found)
    stray = [_ignored(below(top, name), "outside of the split folders") for name in tree.entries(top)[1]] if split_folders else []
    return _rows(tree, found, details | ({"folder": top} if top else {}), [*map(dict, tree.ignored), *stray])


def _open(config: DataConfig) -> Tree:
    root = existing_path(config.path, "image_folder", "a folder with one folder of photos per class")
    if root.is_dir():
        return Disk(root)
    if not is_archive(root):
        raise DataError(
            f"data.path={config.path} is a file; data.source='image_folder' needs a folder with one folder of photos per class, "
            f"or an archive of one ({', '.join(ARCHIVES)})"
        )
    return Packed(open_archive(root, config.cache_megabytes))


def _top(tree: Tree) -> str:
    """The one folder that everything in an archive lies in, for people pack the folder itself; "" where its classes lie on top."""
    folders, files = tree.entries("")
    if tree.packed and len(folders) == 1 and not files and folders[0] not in SPLIT_NAMES and tree.entries(folders[0])[0]:
        return folders[0]
    return ""


def is_image(name: str) -> bool:
    """Whether the suffix is one that we read."""
    return Path(name).suffix.lower() in SUFFIXES


def _shown(tree: Tree, folder: str) -> str:
    return below(tree.where, folder) if folder else tree.where


def _split_folders(tree: Tree, top: str) -> list[str]:
    """Folders that are splits: named as one and holding folders. Others beside them would be a second layout."""
    folders, _ = tree.entries(top)
    splits = [name for name in folders if name in SPLIT_NAMES and tree.entries(below(top, name))[0]]
    others = [name for name in folders if name not in splits]
    if splits and others:
        raise DataError(
            f"{_shown(tree, top)} holds split folders ({', '.join(splits)}) and other folders ({', '.join(others[:5])}{', ...' if len(others) > 5 else ''}): "
            f"either every folder is a class, or every folder is a split that holds classes"
        )
    return splits


def _list_classes(tree: Tree, folder: str) -> _Listing:
    classes, files = tree.entries(folder)
    if not classes:
        raise _no_classes(tree, folder, files)
    ignored = [_ignored(below(folder, name), "outside of the class folders") for name in files]
    images, empty = [], []
    for name in classes:
        here = below(folder, name)
        nested, inside = tree.entries(here)
        if nested:
            raise _nested(tree, here, nested)
        kept = [below(here, file) for file in inside if is_image(file)]
        ignored += [_ignored(below(here, file), NOT_AN_IMAGE) for file in inside if not is_image(file)]
        images += kept
        empty += [name] if not kept else []
    return _Listing(tuple(images), tuple(classes), tuple(empty), tuple(ignored))


def _ignored(name: str, why: str) -> dict[str, str]:
    return {"file": name, "why": why}


def _no_classes(tree: Tree, folder: str, files: list[str]) -> DataError:
    images = [name for name in files if is_image(name)]
    shown = _shown(tree, folder)
    if images:
        example = f"{Path(shown).name}/CLASS/{images[0]}"
        return DataError(f"{shown} holds {len(images)} images ({images[0]}, ...) but no class folders; sort them into one folder per class: {example}")
    unread = f" (ignored: {tree.ignored[0]['file']}: {tree.ignored[0]['why']})" if tree.ignored else ""
    return DataError(f"{shown} is empty; it needs one folder of photos per class{unread}")


def _nested(tree: Tree, folder: str, nested: list[str]) -> DataError:
    shown = _shown(tree, folder)
    so = f"pack {shown} by itself" if tree.packed else f"set data.path={shown}"
    hint = f"If the classes are the folders in {shown}, {so}" if len(nested) > 1 else "Move the images up"
    return DataError(f"class folder {shown} holds folders ({', '.join(nested[:5])}); images must lie directly in it. {hint}")


def _check_empty(tree: Tree, found: list[tuple[str, _Listing]]) -> None:
    """Every class needs training images; a class may be missing from validation or test."""
    root = tree.where
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


def _rows(tree: Tree, found: list[tuple[str, _Listing]], details: dict[str, str], stray: list[dict[str, str]]) -> Rows:
    classes = tuple(sorted({name for split, listing in found for name in listing.classes}))
    index = {name: label for label, name in enumerate(classes)}
    rows = sorted((file, split) for split, listing in found for file in listing.files)
    return Rows(
        where=tree.where,
        ids=tuple(file for file, _ in rows),
        labels=np.array([index[file.split("/")[-2]] for file, _ in rows], np.int32),
        splits=tuple(split for _, split in rows),
        classes=classes,
        read=lambda row: tree.read(rows[row][0]),
        ignored=(*stray, *(entry for _, listing in found for entry in listing.ignored)),
        details=details,
        schema={"image": f"file ({', '.join(SUFFIXES)})", "label": f"name of its folder, one of {len(classes)}"},
    )
