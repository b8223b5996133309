"""NumPy archives: `images` and `labels`, or `train_images`, `train_labels` and the same for `validation_` (`val_`) and `test_`.

Images are `[n h w]`, `[n h w 1]` or `[n h w 3]`, uint8 or float in 0..1; labels are whole numbers or text. `classes` may name the numbers.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int32, UInt8

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources.archive import HARMLESS, LARGEST_RATIO
from ftjax.data.sources.paths import SPLIT_NAMES, existing_path, our_split
from ftjax.errors import DataError, did_you_mean

_KINDS = ("images", "labels")
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
)
"""What NumPy and zipfile raise on damaged files."""


def read_npz(config: DataConfig) -> Rows:
    """Rows of a NumPy archive; ids are `train/0000`, ... in the archive's order. No pickled object is ever opened.

    Raises:
      DataError: not such an archive, wrong keys, shapes, types or values; the message names key and row.
    """
    path = existing_path(config.path, "npz", "a NumPy archive with 'images' and 'labels'")
    arrays = _open(path)
    pairs = _pairs(arrays, path)
    images = {split: _pixels(arrays[f"{prefix}images"], f"{path}: {prefix}images") for prefix, split in pairs.items()}
    shapes = {array.shape[1:] for array in images.values()}
    if len(shapes) > 1:
        raise DataError(f"{path}: the splits hold images of different shapes: {', '.join(map(str, sorted(shapes)))}")
    raw = {split: arrays[f"{prefix}labels"] for prefix, split in pairs.items()}
    for prefix, split in pairs.items():
        _check_labels(raw[split], len(images[split]), f"{path}: {prefix}labels")
    labels, classes = _classes(raw, arrays.get("classes"), path)
    return _rows(path, images, labels, classes, "no splits" if "" in pairs else "|".join(prefix.rstrip("_") for prefix in pairs))


def _open(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the archive. The file is opened here because `np.load` leaves it open when the archive is damaged."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
            if start == b"\x93NUMPY":
                raise DataError(f"{path} is a single array; save both with np.savez({path.stem!r}, images=..., labels=...)")
            if not start.startswith(b"PK"):
                raise DataError(f"{path} is not a NumPy archive (it begins with {start!r})")
            _check_unpacked(file, path)
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except _DAMAGE as error:
        hint = "object arrays are refused: use text or numbers" if "allow_pickle" in str(error) else "is it cut short or damaged?"
        raise DataError(f"{path} cannot be read as a NumPy archive: {hint} ({type(error).__name__})") from error


def _check_unpacked(file: BinaryIO, path: Path) -> None:
    """Refuse what unpacks to far more than it weighs, and an array that says it is larger than its member, before any of it is unpacked."""
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        total, weight = sum(info.file_size for info in infos), path.stat().st_size
        if total > max(HARMLESS, LARGEST_RATIO * weight):
            raise DataError(f"{path} has {weight:,} bytes and unpacks to {total:,}: that is a decompression bomb, not pictures")
        for info in infos:
            with archive.open(info) as member:
                if member.read(6) != b"\x93NUMPY":
                    raise DataError(f"{path}: {info.filename} is no array; allowed: what numpy.savez writes")
                member.seek(0)
                form = np.lib.format.read_magic(member)
                shape, _, kind = (np.lib.format.read_array_header_1_0 if form == (1, 0) else np.lib.format.read_array_header_2_0)(member)
            said = math.prod(shape) * kind.itemsize
            if said > info.file_size:
                raise DataError(f"{path}: {info.filename} says that it holds {said:,} bytes and has {info.file_size:,}; is it cut short or damaged?")


def _pairs(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, str]:
    """Prefix of the keys ("", "train_", "val_", ...) -> split; every key must be understood and have its partner."""
    allowed = {*_KINDS, "classes", *(f"{name}_{kind}" for name in ("train", "validation", "val", "test") for kind in _KINDS)}
    prefixes: dict[str, None] = {}
    for key in arrays:
        if key == "classes":
            continue
        prefix, _, kind = key.rpartition("_")
        if kind not in _KINDS or (prefix and prefix not in SPLIT_NAMES):
            raise DataError(f"{path} holds an array {key!r}: {did_you_mean(key, allowed)}")
        prefixes[f"{prefix}_" if prefix else ""] = None
    if not prefixes:
        raise DataError(f"{path} holds no images; save them with np.savez({path.stem!r}, images=..., labels=...)")
    for prefix in prefixes:
        for kind in _KINDS:
            if f"{prefix}{kind}" not in arrays:
                raise DataError(f"{path} holds {', '.join(map(repr, sorted(arrays)))} but no {prefix + kind!r}")
    if "" in prefixes:
        if len(prefixes) > 1:
            raise DataError(
                f"{path} holds 'images' and also {', '.join(repr(p + 'images') for p in prefixes if p)}: either the splits are named, or they are not"
            )
        return {"": "train"}
    ours = our_split([prefix.rstrip("_") for prefix in prefixes], str(path))
    return {f"{name}_": split for name, split in ours.items()}


def _pixels(images: np.ndarray, where: str) -> UInt8[np.ndarray, "n h w c"]:
    """Images as uint8 `[n h w 1]` or `[n h w 3]`."""
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        hint = "; that looks like channels first: images.transpose(0, 2, 3, 1)" if images.ndim == 4 and images.shape[1] in (1, 3) else ""
        raise DataError(f"{where} has shape {images.shape}; allowed are [n h w], [n h w 1] and [n h w 3]{hint}")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise DataError(f"{where} is {images.dtype}; allowed are uint8 (0..255) and float (0..1)")
    _check_floats(images, where)
    return np.round(images * images.dtype.type(255)).astype(np.uint8)


def _check_floats(images: np.ndarray, where: str) -> None:
    finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise DataError(f"{where} holds NaN or infinity in {len(rows)} rows: {_some(rows)}")
    low, high = (float(images.min()), float(images.max())) if images.size else (0.0, 0.0)
    if low < 0 or high > 1:
        raise DataError(f"{where} is {images.dtype} between {low:g} and {high:g}; float images must lie in 0..1 (values up to 255 belong in uint8)")


def _check_labels(labels: np.ndarray, images: int, where: str) -> None:
    """Labels are one whole number or text per image, and no number is negative."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuUS":
        raise DataError(f"{where} is {labels.dtype} of shape {labels.shape}; allowed are whole numbers or text of shape [n]")
    if len(labels) != images:
        raise DataError(f"{where} has {len(labels)} rows but there are {images} images")
    if labels.dtype.kind == "i" and (labels < 0).any():
        rows = np.flatnonzero(labels < 0)
        raise DataError(f"{where} is negative in {len(rows)} rows: {_some(rows)} (first: {labels[rows[0]]}); leave unlabelled rows out")


def _classes(raw: Mapping[str, np.ndarray], names: np.ndarray | None, path: Path) -> tuple[dict[str, Int32[np.ndarray, " n"]], tuple[str, ...]]:
    """Labels as indices into class names: those in `classes`, or the sorted values themselves."""
    if len({"text" if labels.dtype.kind in "US" else "numbers" for labels in raw.values()}) > 1:
        raise DataError(f"{path}: the labels of some splits are numbers, of others text")
    if names is not None:
        return _named(raw, names, path)
    values = np.unique(np.concatenate(list(raw.values())))
    labels = {split: np.searchsorted(values, given).astype(np.int32) for split, given in raw.items()}
    return labels, tuple(_text(value) for value in values)


def _named(raw: Mapping[str, np.ndarray], names: np.ndarray, path: Path) -> tuple[dict[str, Int32[np.ndarray, " n"]], tuple[str, ...]]:
    classes = tuple(_text(name) for name in np.atleast_1d(names))
    if len(set(classes)) < len(classes):
        raise DataError(f"{path}: classes names a class twice")
    for split, labels in raw.items():
        if labels.dtype.kind not in "iu":
            raise DataError(f"{path}: the labels are text; leave 'classes' out or give numbers that index it")
        if len(labels) and labels.max() >= len(classes):
            row = int(np.argmax(labels))
            raise DataError(
                f"{path}: label {labels[row]} at row {row} of {split} is out of range; 'classes' names {len(classes)}, so 0 to {len(classes) - 1} are allowed"
            )
    return {split: labels.astype(np.int32) for split, labels in raw.items()}, classes


def _rows(path: Path, images: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], classes: tuple[str, ...], layout: str) -> Rows:
    names = [(split, row) for split, array in images.items() for row in range(len(array))]
    width = max(4, len(str(max((len(array) for array in images.values()), default=0))))
    return Rows(
        where=str(path),
        ids=tuple(f"{split}/{row:0{width}d}" for split, row in names),
        labels=np.concatenate(list(labels.values())),
        splits=tuple(split for split, _ in names),
        classes=classes,
        read=lambda index: images[names[index][0]][names[index][1]],
        details={"layout": layout},
    )


def _text(value: np.generic) -> str:
    plain = value.item()
    return plain.decode("utf-8", "replace") if isinstance(plain, bytes) else str(plain)


def _some(rows: np.ndarray) -> str:
    return ", ".join(str(row) for row in rows[:5]) + (", ..." if len(rows) > 5 else "")
