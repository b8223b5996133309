"""The story of the data: collect -> validate -> clean -> split -> sample, and the report of all that happened on the way (data.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.clean import clean
from ftjax.data.dataset import SPLITS, Dataset, Images, Members, Progress, Rows, Split, image_split
from ftjax.data.divide import Cleaned, divide, split_facts, with_picture_groups
from ftjax.data.drop import without
from ftjax.data.image_format import ImageFormat
from ftjax.data.mixture import draw_sets, mixed_rows
from ftjax.data.near import describe, drop_near
from ftjax.data.near_images import find_images
from ftjax.data.order import fingerprint
from ftjax.data.picture_cache import inspect_cached
from ftjax.data.processes import Processes, processes_of
from ftjax.data.reading import Inspection, images_of, inspect
from ftjax.data.repair import repairing
from ftjax.data.report import balance, per_class, warnings_of
from ftjax.data.sample import draw_by_class, sample
from ftjax.data.sources import read_source
from ftjax.data.validate import check_rejected, check_rows, check_settings, check_splits


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
    rows, mixture = mixed_rows(read_source(config), config, read_source)
    rows, left_out = without(rows, config.drop)
    rows = with_picture_groups(rows, config, mixture)
    check_rows(rows)
    rows, repaired = repairing(rows, config.max_pixels) if config.bad_files == "repair" else (rows, {})
    processes = processes_of(config)
    inspection, kept_on_disk = _inspected(rows, image, config, processes, progress)
    check_rejected(rows, inspection, config.bad_files)
    near = None if inspection.signatures is None else find_images(inspection.signatures, inspection.hashes, config.near_image_similarity)

    def cleaned(members: Members) -> Cleaned:
        kept, duplicates = clean(rows, inspection.hashes, members, config.duplicates)
        kept, together, alike = drop_near(near, kept, inspection.hashes, config.near_duplicates)
        return kept, together, (duplicates, alike)

    members, origins, (duplicates, alike) = divide(rows, _given(rows, inspection), cleaned, config, seed, mixture)
    check_splits(rows, members)
    about_split, warnings = split_facts(rows, members, config)
    members, sampling = sample(rows, members, config, seed)
    splits = {name: _split(rows, members[name], images_of(rows, inspection, members[name], image, config.max_pixels, processes)) for name in SPLITS}
    report = {
        **_facts(config, rows, inspection, image, seed),
        "splits": {name: {"rows": len(members[name]), "per_class": per_class(rows, members[name]), "origin": origins[name]} for name in SPLITS},
        "duplicates": duplicates,
        "near_duplicates": describe(near, rows, members, [rows.classes[label] for label in rows.labels], config.near_duplicates, alike),
        "drop": left_out,
        "sampling": sampling,
        **about_split,
        **balance(rows, members["train"]),
        **({"repaired": [{"file": name, "what": repaired[name]} for name in sorted(repaired)]} if config.bad_files == "repair" else {}),
        **({"cache": kept_on_disk} if kept_on_disk else {}),
    }
    dataset = Dataset(splits, rows.classes, {**report, "warnings": [*warnings_of(report), *warnings, *kept_on_disk.get("warnings", ())]})
    return draw_sets(draw_by_class(dataset, config.sampling), mixture)


def _inspected(rows: Rows, image: ImageFormat, config: DataConfig, processes: Processes | None, progress: Progress | None) -> tuple[Inspection, dict[str, Any]]:
    """The pass over all rows, through the cache where there is one, and what data.json says of that."""
    limits: dict[str, Any] = {"max_pixels": config.max_pixels, "cache_megabytes": config.cache_megabytes, "workers": config.workers}
    reading: dict[str, Any] = {**limits, "progress": progress, "near": config.near_duplicates != "off", "processes": processes}
    if config.cache is None or not len(rows):
        return inspect(rows, image, **reading), {}
    return inspect_cached(rows, image, Path(config.cache), **reading)


def _given(rows: Rows, inspection: Inspection) -> Members:
    """Readable rows by the split that the data name, in order of id."""
    order = sorted(inspection.good(), key=lambda row: rows.ids[row])
    return {split: np.array([row for row in order if rows.splits[row] == split], np.int64) for split in SPLITS}


def _split(rows: Rows, members: np.ndarray, images: Images) -> Split:
    return image_split(tuple(rows.ids[row] for row in members), rows.labels[members], images)


def _facts(config: DataConfig, rows: Rows, inspection: Inspection, image: ImageFormat, seed: int) -> dict[str, Any]:
    """What was there before anything was changed. The fingerprint covers every readable row: its id, its label and its decoded pixels."""
    content = ((rows.ids[row], rows.classes[rows.labels[row]], inspection.hashes[row] or b"") for row in inspection.good())
    return {
        "source": f"{config.source}: {rows.where}" if rows.where != config.source else config.source,
        "details": {**rows.details, **({"schema": dict(rows.schema)} if rows.schema else {})},
        "seed": seed,
        "fingerprint": fingerprint(content),
        "classes": list(rows.classes),
        "image_size": list(image.size),
        "in_memory": inspection.pixels is not None,
        "rejected": [{"file": rows.ids[row], "why": why} for row, why in inspection.rejected.items()],
        "ignored": [dict(entry) for entry in rows.ignored],
        "conversions": dict(inspection.conversions),
    }
