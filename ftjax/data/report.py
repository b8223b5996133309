"""What data.json says of every data set, pictures or texts: rows per class, balance, and what a person should know before believing any figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ftjax.counting import counted
from ftjax.data.dataset import Rows
from ftjax.data.near import warnings_of_near

_IMBALANCED = 10.0


def per_class(rows: Rows, members: np.ndarray) -> dict[str, int]:
    """How many of these rows each class has."""
    counts = np.bincount(rows.labels[members], minlength=len(rows.classes))
    return {name: int(count) for name, count in zip(rows.classes, counts)}


def balance(rows: Rows, train: np.ndarray) -> dict[str, Any]:
    """The most frequent training class, and how much more frequent it is than the rarest."""
    counts = np.bincount(rows.labels[train], minlength=len(rows.classes))
    largest = int(counts.argmax())
    return {
        "majority": {"class": rows.classes[largest], "share": float(counts[largest] / counts.sum())},
        "imbalance_ratio": float(counts[largest] / counts.min()),
    }


def warnings_of(report: dict[str, Any], noun: str = "images") -> list[str]:
    """What a person should know before believing any figure."""
    duplicates, found = report["duplicates"], []
    if report.get("imbalance_ratio", 1.0) > _IMBALANCED:
        majority = report["majority"]
        found.append(
            f"classes are imbalanced {report['imbalance_ratio']:.1f} to 1: always saying {majority['class']!r} is right for {majority['share']:.1%} of the "
            f"training rows; look at balanced accuracy"
        )
    if duplicates["across"]:
        done = "the copies outside of the higher split were dropped" if duplicates["policy"] == "drop" else "the copies were left in, so the test is too easy"
        found.append(f"{counted(len(duplicates['across']), f'{noun} are in more than one split')}; {done}")
    if duplicates["conflicting"]:
        done = "those in train were dropped" if duplicates["policy"] == "drop" else "the copies were left in"
        found.append(f"{counted(len(duplicates['conflicting']), f'{noun} are there with different labels')}; {done}")
    if len(duplicates["dropped"]) > len(duplicates["across"]) + len(duplicates["conflicting"]):
        found.append(f"{counted(len(duplicates['dropped']), 'rows in all were dropped as copies')}; rejected.jsonl names them")
    found += warnings_of_near(report["near_duplicates"], noun) if "near_duplicates" in report else []
    if report.get("repaired"):
        found.append(f"{counted(len(report['repaired']), f'{noun} were cut short and kept in part')}; see repaired in data.json")
    if report["rejected"]:
        found.append(counted(len(report["rejected"]), f"unreadable {noun} were skipped"))
    if report["ignored"]:
        found.append(counted(len(report["ignored"]), "other files were ignored"))
    if report.get("conversions", {}).get("16-bit"):
        found.append(f"{counted(report['conversions']['16-bit'], 'images have 16 bits a channel')}; only the upper 8 are used")
    for split in ("validation", "test"):
        missing = [name for name, count in report["splits"][split]["per_class"].items() if not count]
        if missing:
            found.append(f"{split} has no example of {', '.join(map(repr, missing))}")
    if report["sampling"]["short"]:
        wanted = report["sampling"]["labels_per_class"]
        found.append(f"fewer than {wanted} training examples (all were kept) of {', '.join(map(repr, report['sampling']['short']))}")
    return found


def left_out(report: dict[str, Any], bad_files: str = "skip") -> list[dict[str, Any]]:
    """rejected.jsonl: one object for each row or file that is not in any split, with the reason and the setting that decided it.

    Args:
      report: data.json.
      bad_files: `data.bad_files`.
    """
    rows = [(entry["file"], entry["why"], f"data.bad_files={bad_files}") for entry in report["rejected"]]
    rows += [(entry["file"], entry["why"], "not of this data set") for entry in report["ignored"]]
    rows += [(name, f"named in {report['drop']['file']}", "data.drop") for name in report.get("drop", {}).get("ids", ())]
    exact, near = report["duplicates"], report.get("near_duplicates", {})
    rows += [(name, _reason(name, [*exact["across"], *exact["conflicting"]], "an exact copy"), "data.duplicates=drop") for name in exact["dropped"]]
    rows += [(name, _reason(name, near["groups"], "almost the same"), "data.near_duplicates=drop") for name in near.get("dropped", ())]
    rows += [(name, why, f"data.{kind}=drop") for kind, name, why in _suspects(report)]
    return [{"id": name, "row": _line(name), "why": why, "policy": policy} for name, why, policy in rows]


def _suspects(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(kind, id, why) of training rows that the features of the pretrained body spoke against; a row of both kinds is told once."""
    found = []
    for kind in ("label_errors", "outliers"):
        one = report.get(kind, {"rows": [], "dropped": []})
        dropped = set(one["dropped"]) - {name for _, name, _ in found}
        found += [(kind, row["id"], suspicion(kind, row)) for row in one["rows"] if row["id"] in dropped and row["split"] == "train"]
    return found


def suspicion(kind: str, row: Mapping[str, Any]) -> str:
    """Why a row is suspicious, in words."""
    if kind == "label_errors":
        told = f"the label {row['label']!r} is probably wrong; a probe that has not seen the row says {row['suggested']!r}"
        return f"{told} (quality of the label {row['score']:.3f})"
    return f"far from all other rows (distance {row['distance']:.3f}; the nearest is {row['nearest']})"


def _reason(name: str, groups: list[dict[str, Any]], what: str) -> str:
    """Like which other rows it is."""
    group = next((entry for entry in groups if name in entry["ids"]), {"ids": [], "splits": []})
    others = [f"{other} ({split})" for other, split in zip(group["ids"], group["splits"]) if other != name]
    return f"{what}: {', '.join(others[:5])}{', ...' if len(others) > 5 else ''}"


def _line(name: str) -> int | None:
    """The line of `file:line`."""
    _, _, line = name.rpartition(":")
    return int(line) if line.isdecimal() else None
