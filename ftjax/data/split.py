"""Makes the splits that the data do not bring: by class, by a hash of each id alone, in whole groups, or by time.

Everything is decided by ids and the seed, so the order of files does not matter. By class, exact copies stay on one side and every class
keeps examples on both.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from ftjax.config import DataConfig
from ftjax.data.dataset import Members, Rows
from ftjax.data.folds import check_folds, folded, grouped
from ftjax.data.moments import Moment, newest
from ftjax.data.order import rank, uniform
from ftjax.errors import DataError


def complete_splits(rows: Rows, hashes: Sequence[bytes | None], members: Members, config: DataConfig, seed: int) -> tuple[Members, dict[str, str]]:
    """Split test and then validation off the training rows where the data bring none, in the way of `config.split`.

    Test gets `test_fraction` of the rows that are there, validation `validation_fraction` of what then remains for training, or with `config.folds` one
    fold of it.

    Args:
      rows: all of them; `groups` and `moments` where the way of splitting looks at them.
      hashes: equal values mark exact copies; "stratified" and "group" keep them together.
      members: rows by the split that the data name.
      config: how to split.
      seed: of the run.

    Returns:
      All three splits, and where each comes from, in words.

    Raises:
      DataError: a class has too few different images, or there are too few groups, moments or rows; folds where the data bring the split already.
    """
    missing = [split for split in ("test", "validation") if split not in rows.splits]
    origins = dict.fromkeys(("train", "test", "validation"), "given by the data")
    members = dict(members)
    if missing:
        origins["train"] = "what remains of the data's training rows"
    if config.folds is not None:
        check_folds(rows, config, missing)
    make = [split for split in missing if config.folds is None or (split == "test" and config.test_fold is None)]
    for split in make:
        origins[split] = f"{getattr(config, f'{split}_fraction'):.1%} of the training rows, {WAYS[config.split]}"
    if config.split == "group" and make:
        members |= grouped(rows, hashes, members["train"], _shares(config, make), seed)
        make = []
    for position, split in enumerate(make):
        pool = members["train"]
        taken = _taken(rows, hashes, pool, config, seed, split, config.folds or len(make) - position)
        members[split], members["train"] = pool[taken], pool[~taken]
    if config.folds is not None:
        members, found = folded(rows, hashes, members, config, seed)
        origins |= found
    return members, origins


def _shares(config: DataConfig, splits: Sequence[str]) -> dict[str, float]:
    """Share of all rows that each split gets."""
    shares = {split: getattr(config, f"{split}_fraction") for split in splits}
    return shares if len(shares) < 2 else {**shares, "validation": shares["validation"] * (1 - shares["test"])}


WAYS = {
    "stratified": "by class and a hash of the id",
    "hash": "by a hash of the id alone",
    "group": "whole groups, by class and a hash of their ids",
    "time": "the newest",
}
"""How rows are chosen, in words."""


def _taken(
    rows: Rows, hashes: Sequence[bytes | None], pool: Int[np.ndarray, " rows"], config: DataConfig, seed: int, split: str, leave: int
) -> Bool[np.ndarray, " rows"]:
    """Which rows of the pool go to a new split."""
    ids, fraction = [rows.ids[row] for row in pool], getattr(config, f"{split}_fraction")
    if config.split == "hash":
        return np.array([uniform(split, seed, rows.key(row)) < fraction for row in pool], bool)
    if config.split == "time":
        return newest(ids, [_moment(rows, row) for row in pool], fraction, purpose=split, leave=leave)
    classes = [rows.classes[rows.labels[row]] for row in pool]
    return take(ids, classes, [hashes[row] for row in pool], fraction, seed=seed, purpose=split, leave=leave, noun=rows.noun)


def _moment(rows: Rows, row: int) -> Moment:
    if rows.moments is None:
        raise ValueError("data.split='time' needs the moments of the rows")
    return rows.moments[row]


def take(
    ids: Sequence[str],
    classes: Sequence[str],
    copies: Sequence[bytes | None],
    fraction: float,
    *,
    seed: int,
    purpose: str,
    leave: int = 1,
    noun: str = "images",
) -> Bool[np.ndarray, " rows"]:
    """Which rows go to the new split: of a class with n rows, `fraction * n` rounded, at least 1, while `leave` different images stay.

    Args:
      ids: unique names; they and the seed decide, not the order.
      classes: class of each row.
      copies: equal values mark exact copies, which go together (so a class full of copies may miss the count).
      fraction: of each class, in (0, 1).
      seed: of the run.
      purpose: the split's name; other purposes choose independently.
      leave: different images of each class that must stay.
      noun: what the rows are called in messages.

    Raises:
      DataError: a class has fewer than `leave + 1` different images.
    """
    # Copies go together also where their classes differ: all of them with the class of the first.
    owners: dict[bytes | None, str] = {}
    for row in sorted(range(len(ids)), key=lambda row: ids[row]):
        owners.setdefault(copies[row], classes[row])
    by_class: dict[str, list[int]] = collections.defaultdict(list)
    for row in range(len(ids)):
        by_class[owners[copies[row]]].append(row)
    taken = np.zeros(len(ids), bool)
    for name in sorted(by_class):
        groups = _groups(by_class[name], ids, copies, seed, purpose)
        if len(groups) <= leave:
            raise DataError(
                f"class {name!r} has {len(groups)} different {noun}, too few to split {purpose} off ({leave + 1} are needed); "
                f"add {noun} or bring the splits as {'folders' if noun == 'images' else 'files'}"
            )
        taken[_choose(groups, fraction, leave)] = True
    return taken


def _groups(rows: Sequence[int], ids: Sequence[str], copies: Sequence[bytes | None], seed: int, purpose: str) -> list[list[int]]:
    """Rows of one class, copies together, in the order that the seed gives."""
    groups: dict[bytes | None, list[int]] = collections.defaultdict(list)
    for row in rows:
        groups[copies[row]].append(row)
    return sorted(groups.values(), key=lambda group: rank(purpose, seed, min(ids[row] for row in group)))


def _choose(groups: list[list[int]], fraction: float, leave: int) -> Int[np.ndarray, " taken"]:
    """Whole groups, in order, while they fit; at least the smallest one."""
    total = sum(map(len, groups))
    target = int(np.clip(round(fraction * total), 1, total - leave))
    chosen: list[int] = []
    left = len(groups)
    for group in groups:
        if left > leave and len(chosen) + len(group) <= target:
            chosen += group
            left -= 1
    return np.array(chosen or min(groups, key=len), np.int64)
