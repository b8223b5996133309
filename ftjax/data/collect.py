"""The story of the data: collect -> validate -> clean -> split -> sample, and the report of all that happened on the way (data.json)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.clean import clean
from ftjax.data.dataset import SPLITS, Dataset, Members, Progress, Rows, Split, image_split
from ftjax.data.image_format import ImageFormat
from ftjax.data.order import fingerprint
from ftjax.data.reading import Inspection, images_of, inspect
from ftjax.data.sample import sample
from ftjax.data.sources import read_source
from ftjax.data.split import complete_splits
from ftjax.data.validate import check_rejected, check_rows, check_settings, check_splits

_IMBALANCED = 10.0


def collect(config: DataConfig, image: ImageFormat, seed: int, *, progress: Progress | None = None) -> Dataset:
    """Read, check, clean, split and sample a data set; every image is decoded once, so that nothing unreadable is met later.

    Args:
      config: where the data are and how they are treated.
      image: size and cut of the pixels that the splits hand out.
      seed: decides splits and sampling, together with the ids.
      progress: called with (done, total) while images are decoded.

    Raises:
      ConfigError: a setting is out of range.
      DataError: the data cannot be used; the message says what, where and what would do.
    """
    check_settings(config)
    rows = read_source(config)
    check_rows(rows)
    inspection = inspect(rows, image, max_pixels=config.max_pixels, cache_megabytes=config.cache_megabytes, workers=config.workers, progress=progress)
    check_rejected(rows, inspection, config.bad_files)
    members, duplicates = clean(rows, inspection.hashes, _given(rows, inspection), config.duplicates)
    members, origins = complete_splits(rows, inspection.hashes, members, config, seed)
    check_splits(rows, members)
    members, sampling = sample(rows, members, config.labels_per_class, seed)
    splits = {name: _split(rows, inspection, members[name], image, config.max_pixels) for name in SPLITS}
    report = {
        **_facts(config, rows, inspection, image, seed),
        "splits": {name: {"rows": len(members[name]), "per_class": _per_class(rows, members[name]), "origin": origins[name]} for name in SPLITS},
        "duplicates": duplicates,
        "sampling": sampling,
        **_balance(rows, members["train"]),
    }
    return Dataset(splits, rows.classes, {**report, "warnings": _warnings(report)})


def _given(rows: Rows, inspection: Inspection) -> Members:
    """Readable rows by the split that the data name, in order of id."""
    order = sorted(inspection.good(), key=lambda row: rows.ids[row])
    return {split: np.array([row for row in order if rows.splits[row] == split], np.int64) for split in SPLITS}


def _split(rows: Rows, inspection: Inspection, members: np.ndarray, image: ImageFormat, max_pixels: int) -> Split:
    return image_split(tuple(rows.ids[row] for row in members), rows.labels[members], images_of(rows, inspection, members, image, max_pixels))


def _facts(config: DataConfig, rows: Rows, inspection: Inspection, image: ImageFormat, seed: int) -> dict[str, Any]:
    """What was there before anything was changed. The fingerprint covers every readable row: its id, its label and its decoded pixels."""
    content = ((rows.ids[row], rows.classes[rows.labels[row]], inspection.hashes[row] or b"") for row in inspection.good())
    return {
        "source": f"{config.source}: {rows.where}" if rows.where != config.source else config.source,
        "details": dict(rows.details),
        "seed": seed,
        "fingerprint": fingerprint(content),
        "classes": list(rows.classes),
        "image_size": list(image.size),
        "in_memory": inspection.pixels is not None,
        "rejected": [{"file": rows.ids[row], "why": why} for row, why in inspection.rejected.items()],
        "ignored": [dict(entry) for entry in rows.ignored],
        "conversions": dict(inspection.conversions),
    }


def _per_class(rows: Rows, members: np.ndarray) -> dict[str, int]:
    counts = np.bincount(rows.labels[members], minlength=len(rows.classes))
    return {name: int(count) for name, count in zip(rows.classes, counts)}


def _balance(rows: Rows, train: np.ndarray) -> dict[str, Any]:
    """The most frequent training class, and how much more frequent it is than the rarest."""
    counts = np.bincount(rows.labels[train], minlength=len(rows.classes))
    largest = int(counts.argmax())
    return {
        "majority": {"class": rows.classes[largest], "share": float(counts[largest] / counts.sum())},
        "imbalance_ratio": float(counts[largest] / counts.min()),
    }


def _warnings(report: dict[str, Any]) -> list[str]:
    """What a person should know before believing any figure."""
    duplicates, found = report["duplicates"], []
    if report["imbalance_ratio"] > _IMBALANCED:
        majority = report["majority"]
        found.append(
            f"classes are imbalanced {report['imbalance_ratio']:.1f} to 1: always saying {majority['class']!r} is right for {majority['share']:.1%} of the "
            f"training rows; look at balanced accuracy"
        )
    if duplicates["across"]:
        done = "the copies outside of the higher split were dropped" if duplicates["policy"] == "drop" else "they were left in, so the test is too easy"
        found.append(f"{len(duplicates['across'])} images are in more than one split; {done}")
    if duplicates["conflicting"]:
        done = "those in train were dropped" if duplicates["policy"] == "drop" else "they were left in"
        found.append(f"{len(duplicates['conflicting'])} images are there with different labels; {done}")
    if report["rejected"]:
        found.append(f"{len(report['rejected'])} unreadable images were skipped")
    if report["ignored"]:
        found.append(f"{len(report['ignored'])} other files were ignored")
    if report["conversions"].get("16-bit"):
        found.append(f"{report['conversions']['16-bit']} images have 16 bits a channel; only the upper 8 are used")
    for split in ("validation", "test"):
        missing = [name for name, count in report["splits"][split]["per_class"].items() if not count]
        if missing:
            found.append(f"{split} has no example of {', '.join(map(repr, missing))}")
    if report["sampling"]["short"]:
        wanted = report["sampling"]["labels_per_class"]
        found.append(f"fewer than {wanted} training examples (all were kept) of {', '.join(map(repr, report['sampling']['short']))}")
    return found
