"""Exact copies: images whose decoded pixels are equal (texts: up to white space), within a split and across splits, and what is done about them.

A copy of a test image in the training data makes the test easier than the world. "drop" keeps test over validation over train, so a test set never shrinks.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from ftjax.counting import counted
from ftjax.data.dataset import SPLITS, Members, Rows
from ftjax.errors import DataError

_RANK = {split: rank for rank, split in enumerate(SPLITS)}


def clean(rows: Rows, hashes: Sequence[bytes | None], members: Members, policy: str) -> tuple[Members, dict[str, Any]]:
    """Find exact copies and treat them by `policy`.

    "report" changes nothing. "error" refuses copies across splits. "drop" removes, of copies across splits, those outside of the highest split
    (test, then validation, then train) whatever their label; training rows that are copies of each other with *different* labels are all dropped, for
    none can be trusted. Copies with one label within one split stay.

    Returns:
      The members that remain, and `{"policy", "within", "across", "conflicting", "dropped"}` for data.json.

    Raises:
      DataError: copies across splits under "error".
    """
    groups = _groups(hashes, members)
    across = [group for group in groups if len({split for split, _ in group}) > 1]
    if policy == "error" and across:
        shown = "\n".join("  " + " = ".join(f"{rows.ids[row]} ({split})" for split, row in group) for group in across)
        raise DataError(
            f"{rows.where}: {counted(len(across), f'{rows.noun} are in more than one split')}:\n{shown}\nRemove the copies, or set data.duplicates='drop'."
        )
    dropped = sorted({row for group in groups for row in _unwanted(rows, group)}) if policy == "drop" else []
    kept = {split: here[~np.isin(here, dropped)] for split, here in members.items()}
    report = {
        "policy": policy,
        "within": [entry for group in groups for entry in _within(rows, group)],
        "across": [_entry(rows, group) for group in across],
        "conflicting": [_entry(rows, group) for group in groups if len({int(rows.labels[row]) for _, row in group}) > 1],
        "dropped": [rows.ids[row] for row in dropped],
    }
    return kept, report


def _groups(hashes: Sequence[bytes | None], members: Members) -> list[list[tuple[str, int]]]:
    """(split, row) of all rows that have a copy, by content, in order of their first row."""
    found: dict[bytes | None, list[tuple[str, int]]] = collections.defaultdict(list)
    for split in SPLITS:
        for row in members.get(split, ()):
            found[hashes[row]].append((split, int(row)))
    return sorted((group for group in found.values() if len(group) > 1), key=lambda group: group[0])


def _unwanted(rows: Rows, group: list[tuple[str, int]]) -> list[int]:
    highest = max((split for split, _ in group), key=_RANK.__getitem__)
    if highest == "train" and len({int(rows.labels[row]) for _, row in group}) > 1:
        return [row for _, row in group]
    return [row for split, row in group if split != highest]


def _within(rows: Rows, group: list[tuple[str, int]]) -> list[dict[str, Any]]:
    by_split: dict[str, list[int]] = collections.defaultdict(list)
    for split, row in group:
        by_split[split].append(row)
    return [{"split": split, "ids": [rows.ids[row] for row in copies]} for split, copies in by_split.items() if len(copies) > 1]


def _entry(rows: Rows, group: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "ids": [rows.ids[row] for _, row in group],
        "splits": [split for split, _ in group],
        "labels": [rows.classes[rows.labels[row]] for _, row in group],
    }
