"""Near duplicates: rows that are almost the same and lie in different splits, or have different labels, and what is done about them.

`near_images` and `near_texts` find the pairs; here they become groups, a report, and the rows that "drop" leaves out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ftjax.counting import counted
from ftjax.data.components import components
from ftjax.data.dataset import SPLITS, Members, Rows

_RANK = {split: rank for rank, split in enumerate(SPLITS)}


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Rows `left[k] < right[k]` that are alike by `similarity[k]`; every pair once, in order of rows."""

    left: Int[np.ndarray, " pairs"]
    right: Int[np.ndarray, " pairs"]
    similarity: Float[np.ndarray, " pairs"]

    @classmethod
    def joined(cls, rows: Int[np.ndarray, " some"], parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Pairs:
        """From parts (left, right, similarity) that hold positions in `rows`, and perhaps a pair twice."""
        if not parts:
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        left, right, similarity = (np.concatenate(column) for column in zip(*parts))
        _, first = np.unique(left.astype(np.int64) * len(rows) + right, return_index=True)
        return cls(rows[left[first]], rows[right[first]], similarity[first].astype(np.float64))

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.left)


@dataclasses.dataclass(frozen=True, eq=False)
class Near:
    """Which rows are almost the same: pairs of one row for each content, and the copies of each content.

    `keys[row]` is equal for all rows that hang together, exact copies among them; None for rows that cannot be read.
    """

    pairs: Pairs
    threshold: float
    copies: dict[int, list[int]]
    keys: tuple[bytes | None, ...]
    missed: int = 0
    """Pairs that were not compared because too many rows are alike."""
    too_small: int = 0
    """Pictures that were not compared because they have too few pixels."""

    def across(self, place: dict[int, str]) -> list[tuple[int, int]]:
        """Pairs (row, row) of different contents in different splits; the first is in the lower split."""
        found = []
        for left, right in zip(self.pairs.left.tolist(), self.pairs.right.tolist(), strict=True):
            here, there = ([row for row in self.copies[one] if row in place] for one in (left, right))
            found += [(a, b) if _RANK[place[a]] < _RANK[place[b]] else (b, a) for a in here for b in there if place[a] != place[b]]
        return found


def representatives(hashes: Sequence[bytes | None]) -> dict[int, list[int]]:
    """First row of every content -> all rows that have it."""
    first: dict[bytes, int] = {}
    copies: dict[int, list[int]] = {}
    for row, digest in enumerate(hashes):
        if digest is not None:
            copies.setdefault(first.setdefault(digest, row), []).append(row)
    return copies


def gather(pairs: Pairs, threshold: float, hashes: Sequence[bytes | None], copies: dict[int, list[int]], *, missed: int = 0, too_small: int = 0) -> Near:
    """What hangs together by these pairs of representatives."""
    component = components(len(hashes), pairs.left, pairs.right)
    first: dict[int, int] = {}
    keys: list[bytes | None] = [None] * len(hashes)
    for row in copies:
        head = first.setdefault(int(component[row]), row)
        for copy in copies[row]:
            keys[copy] = hashes[head]
    return Near(pairs, threshold, copies, tuple(keys), missed, too_small)


def drop_near(near: Near | None, members: Members, hashes: Sequence[bytes | None], policy: str) -> tuple[Members, Sequence[bytes | None], list[int]]:
    """Under "drop", leave out rows that are almost the same as a row of a higher split (test over validation over train), so a test set never shrinks.

    Only pairs count, not chains of them, and a training row that is like a validation row which is left out itself may stay.

    Args:
      near: what was found; None: not looked for.
      members: rows by the split that the data name.
      hashes: equal for exact copies.
      policy: `data.near_duplicates`.

    Returns:
      The members that remain; for each row what must not be torn apart by a split (copies; under "drop" also what is alike); and the rows left out.
    """
    if near is None or policy != "drop":
        return members, hashes, []
    place, out = _places(members), set[int]()
    pairs = near.across(place)
    for split in ("validation", "train"):
        out |= {low for low, high in pairs if place[low] == split and high not in out}
    return {split: here[~np.isin(here, sorted(out))] for split, here in members.items()}, _joined(near.keys, hashes), sorted(out)


def _joined(*keys: Sequence[bytes | None]) -> list[bytes | None]:
    """Equal for rows that are equal in any of the keys, directly or through others."""
    rows, total = len(keys[0]), sum(len(set(column)) for column in keys)
    numbers: dict[tuple[int, bytes | None], int] = {}
    ends = [numbers.setdefault((place, key), len(numbers)) + rows for place, column in enumerate(keys) for key in column]
    component = components(rows + total, np.tile(np.arange(rows), len(keys)), np.array(ends, np.int64))
    return [None if key is None else int(number).to_bytes(8, "big") for key, number in zip(keys[0], component)]


def describe(near: Near | None, rows: Rows, members: Members, labels: Sequence[str], policy: str, dropped: Sequence[int]) -> dict[str, Any]:
    """`near_duplicates` of data.json.

    Args:
      near: what was found; None: not looked for.
      rows: all of them.
      members: the finished splits.
      labels: of every row, as a person reads them; equal ones do not contradict each other.
      policy: of the configuration.
      dropped: rows that were left out by it; they are shown in the split that the data gave them.

    Returns:
      `groups` (those across splits first, then those with different labels, then by similarity), how many rows of validation and test are like a row of
      training (`leaking`), and what was dropped.
    """
    if near is None:
        return {"policy": policy}
    place = _places(members)
    leaking = near.across(place)
    counts = {split: len({high for low, high in leaking if place[high] == split and place[low] == "train"}) for split in ("validation", "test")}
    shown = place | {row: rows.splits[row] for row in dropped}
    groups = list(_groups(near, rows, shown, labels))
    return {
        "policy": policy,
        "threshold": near.threshold,
        "pairs": len(near.pairs),
        "not_compared": near.missed,
        "too_small": near.too_small,
        "groups": sorted(groups, key=lambda entry: (not entry["across"], not entry["conflicting"], -entry["similarity"][1], entry["ids"])),
        "across": sum(entry["across"] for entry in groups),
        "conflicting": sum(entry["conflicting"] for entry in groups),
        "leaking": counts,
        "dropped": [rows.ids[row] for row in dropped],
    }


def warnings_of_near(report: dict[str, Any], noun: str = "images") -> list[str]:
    """What a person should know of near duplicates before believing a figure."""
    found: list[str] = []
    if report["policy"] == "off":
        return found
    for split, count in report["leaking"].items():
        if count:
            found.append(
                f"{counted(count, f'{noun} of {split} are almost the same as one of train')}, so {split} is easier than the world; "
                f"look at near_duplicates in data.json, and leave the training rows out with data.near_duplicates='drop'"
            )
    if report["not_compared"]:
        found.append(
            f"so many {noun} follow one pattern that {counted(report['not_compared'], 'pairs of them were not compared')}; near duplicates may be missing"
        )
    if report["dropped"]:
        found.append(counted(len(report["dropped"]), f"{noun} were dropped because they are almost the same as one of a higher split"))
    if report["conflicting"]:
        found.append(
            f"{counted(report['conflicting'], f'groups of {noun} are almost the same and have different labels')}; look at near_duplicates in data.json"
        )
    return found


def _places(members: Members) -> dict[int, str]:
    return {int(row): split for split in SPLITS for row in members.get(split, ())}


def _groups(near: Near, rows: Rows, place: dict[int, str], labels: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Entries of the groups that hold more than one content among the rows that are there."""
    gathered: dict[bytes, list[int]] = {}
    for row, copies in near.copies.items():
        gathered.setdefault(near.keys[row] or b"", []).extend(copy for copy in copies if copy in place)
    similarity: dict[bytes, list[float]] = {}
    for left, value in zip(near.pairs.left.tolist(), near.pairs.similarity.tolist(), strict=True):
        similarity.setdefault(near.keys[left] or b"", []).append(value)
    for key, values in similarity.items():
        here = sorted(gathered[key], key=lambda row: (_RANK[place[row]], rows.ids[row]))
        if len(here) > 1:
            splits, said = [place[row] for row in here], [labels[row] for row in here]
            yield {
                "ids": [rows.ids[row] for row in here],
                "splits": splits,
                "labels": said,
                "similarity": [round(min(values), 4), round(max(values), 4)],
                "across": len(set(splits)) > 1,
                "conflicting": len(set(said)) > 1,
            }
