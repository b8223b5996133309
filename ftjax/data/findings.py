"""The inspection of a data set without a model: what it holds, what is wrong with it, and which rows a person may want to leave out.

The same reading, hashing and comparing as before a training, but nothing is refused, dropped, split or sampled.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.data.clean import clean
from ftjax.data.dataset import SPLITS, Members, Progress, Rows
from ftjax.data.decode import decode
from ftjax.data.drop import without
from ftjax.data.image_format import ImageFormat
from ftjax.data.near import Near, describe, drop_near
from ftjax.data.near_images import find_images
from ftjax.data.order import rank
from ftjax.data.processes import processes_of
from ftjax.data.reading import Inspection, inspect
from ftjax.data.report import per_class, warnings_of
from ftjax.data.sources import read_source
from ftjax.errors import DataError

SAMPLES = 6
"""Rows of each class that are shown."""
_BINS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What was found (`report` becomes findings.json), and what a person sees of a row: `show(id)` gives `{"image": uint8 [h w 3]}` or `{"text": ...}`."""

    report: dict[str, Any]
    show: Callable[[str], dict[str, Any]]


def inspect_images(config: DataConfig, progress: Progress | None = None) -> Findings:
    """Read and decode every picture once.

    Raises:
      ConfigError: a setting is out of range.
      DataError: the source is not there or not in its form.
    """
    rows, left_out = without(read_source(config), config.drop)
    check_any(rows, rows.ignored)
    near_wanted = config.near_duplicates != "off"
    limits = {"max_pixels": config.max_pixels, "cache_megabytes": 0, "workers": config.workers}
    inspection = inspect(rows, ImageFormat((1, 1)), progress=progress, near=near_wanted, processes=processes_of(config), **limits)
    near = None if inspection.signatures is None else find_images(inspection.signatures, inspection.hashes, config.near_image_similarity)
    good = sorted(inspection.good(), key=lambda row: rows.ids[row])
    members = {split: np.array([row for row in good if rows.splits[row] == split], np.int64) for split in SPLITS}
    counts = {split: per_class(rows, members[split]) for split in SPLITS}
    report = {
        "kind": "images",
        "details": dict(rows.details),
        "conversions": dict(inspection.conversions),
        "rejected": [{"file": rows.ids[row], "why": why} for row, why in inspection.rejected.items()],
        "ignored": [dict(entry) for entry in rows.ignored],
        "left_out": left_out,
        "sizes": _sizes(inspection, members),
        **common(rows, rows, inspection.hashes, members, near, counts),
    }
    row_of = {name: row for row, name in enumerate(rows.ids)}
    return Findings(
        {**report, "warnings": findings_warnings(report, rows.noun)}, lambda name: {"image": decode(rows.read(row_of[name]), config.max_pixels).pixels}
    )


def check_any(rows: Rows, bad: Sequence[Any]) -> None:
    """There is something to look at, if only rows that cannot be used.

    Raises:
      DataError: there is nothing.
    """
    if not len(rows) and not bad:
        raise DataError(f"{rows.where} holds no {rows.noun}")


def common(
    rows: Rows, labelled: Rows, hashes: Sequence[bytes | None], members: Members, near: Near | None, counts: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """What is said of pictures and texts alike.

    Args:
      rows: all of them.
      labelled: the same rows with the labels by which copies contradict each other.
      hashes: equal for exact copies.
      members: rows by the split that the data name.
      near: what is almost the same.
      counts: split -> class -> rows.
    """
    labels = [labelled.classes[label] for label in labelled.labels]
    exact = clean(labelled, hashes, members, "report")[1]
    sampled = {"labels_per_class": None, "short": []}
    return {
        "where": rows.where,
        "classes": list(rows.classes),
        "splits": {split: {"rows": len(members[split]), "per_class": counts[split]} for split in SPLITS if len(members[split])},
        "duplicates": exact,
        "near_duplicates": describe(near, labelled, members, labels, "off" if near is None else "report", []),
        "advice": _advice(labelled, hashes, members, near, exact),
        "samples": _samples(rows, members),
        "sampling": sampled,
    }


def findings_warnings(report: dict[str, Any], noun: str) -> list[str]:
    """What a person should know, as a training would say it; splits that are not there have nothing missing."""
    splits = {split: report["splits"].get(split, {"per_class": {}}) for split in SPLITS}
    sizes = [count for count in report["splits"].get("train", {}).get("per_class", {}).values() if count]
    ratio = {}
    if len(sizes) > 1:
        most = max(report["splits"]["train"]["per_class"].items(), key=lambda item: item[1])
        ratio = {"imbalance_ratio": max(sizes) / min(sizes), "majority": {"class": most[0], "share": most[1] / sum(sizes)}}
    found = warnings_of({**report, **ratio, "splits": splits}, noun)
    said = {
        "were skipped": "cannot be used",
        "was skipped": "cannot be used",
        "the copies were left in": "nothing was changed",
        "near_duplicates in data.json": "the near duplicates",
    }
    for before, now in said.items():
        found = [line.replace(before, now) for line in found]
    return found


def _advice(rows: Rows, hashes: Sequence[bytes | None], members: Members, near: Near | None, exact: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that a person may want to leave out. `sure`: those that `duplicates` and `near_duplicates` would drop; the others are for a person to judge."""
    kept, dropped = clean(rows, hashes, members, "drop")
    alike = drop_near(near, kept, hashes, "drop")[2]
    found = {name: {"id": name, "why": _copied(name, exact), "sure": True} for name in dropped["dropped"]}
    found |= {rows.ids[row]: {"id": rows.ids[row], "why": "almost the same as a row of a higher split", "sure": True} for row in alike}
    for entry in exact["within"]:
        first, *others = sorted(entry["ids"])
        for name in others if entry["split"] == "train" else ():
            found.setdefault(name, {"id": name, "why": f"an exact copy of {first} within train", "sure": False})
    return [found[name] for name in sorted(found)]


def _copied(name: str, exact: dict[str, Any]) -> str:
    """Which row a row that would be dropped is a copy of: one of the highest split, or one of its own with another label."""
    group = next(entry for entry in [*exact["across"], *exact["conflicting"]] if name in entry["ids"])
    members = list(zip(group["ids"], group["splits"], group["labels"], strict=True))
    _, here, mine = next(member for member in members if member[0] == name)
    highest = max(group["splits"], key=SPLITS.index)
    others = [member for member in members if member[1] == highest and (here != highest or member[2] != mine)]
    other, split, theirs = min(others, key=lambda member: member[2] != mine)
    return f"an exact copy of {other} ({split})" + (f", labelled {theirs!r} there and {mine!r} here" if theirs != mine else "")


def _samples(rows: Rows, members: Members) -> dict[str, list[str]]:
    """Class -> ids of a few rows that chance picked, training rows before others."""
    place = {int(row): number for number, split in enumerate(SPLITS) for row in members[split]}
    by_class: dict[str, list[int]] = collections.defaultdict(list)
    for row in place:
        by_class[rows.classes[rows.labels[row]]].append(row)
    picked = {name: sorted(by_class[name], key=lambda row: (place[row], rank("show", 0, rows.ids[row])))[:SAMPLES] for name in rows.classes}
    return {name: [rows.ids[row] for row in chosen] for name, chosen in picked.items()}


def _sizes(inspection: Inspection, members: Members) -> dict[str, Any]:
    """Sizes of the pictures as they lie in their files: the histogram is of the shorter side."""
    good = inspection.good()
    if inspection.sizes is None or not len(good):
        return {}
    sizes = inspection.sizes[good]
    order = np.argsort(sizes.prod(1, dtype=np.int64), kind="stable")
    shapes = collections.Counter(map(tuple, sizes.tolist()))
    (height, width), most = max(shapes.items(), key=lambda item: (item[1], item[0]))
    return {
        "smallest": sizes[order[0]].tolist(),
        "median": sizes[order[len(order) // 2]].tolist(),
        "largest": sizes[order[-1]].tolist(),
        "different": len(shapes),
        "most_frequent": {"size": [height, width], "rows": most},
        "histogram": histogram({split: inspection.sizes[rows].min(1) for split, rows in members.items() if len(rows)}),
    }


def histogram(values: dict[str, np.ndarray]) -> dict[str, Any]:
    """Counts of whole numbers by split, in at most 32 bins of one width."""
    every = np.concatenate(list(values.values()))
    lowest, highest = int(every.min()), int(every.max())
    width = max(1, -(-(highest + 1 - lowest) // _BINS))
    edges = np.arange(lowest, highest + width + 1, width)
    return {"edges": edges.tolist(), "counts": {split: np.histogram(some, edges)[0].tolist() for split, some in values.items()}}
