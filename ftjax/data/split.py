"""Makes the splits that the data do not bring: stratified by class, decided by a hash of each example's id and the seed.

The order of files does not matter, exact copies stay on one side, and every class keeps examples on both.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from ftjax.config import DataConfig
from ftjax.data.dataset import Members, Rows
from ftjax.data.order import rank
from ftjax.errors import DataError


def complete_splits(rows: Rows, hashes: Sequence[bytes | None], members: Members, config: DataConfig, seed: int) -> tuple[Members, dict[str, str]]:
    """Split test and then validation off the training rows where the data bring none.

    Test gets `test_fraction` of the rows that are there, validation `validation_fraction` of what then remains for training.

    Returns:
      All three splits, and where each comes from, in words.

    Raises:
      DataError: a class has too few different images.
    """
    fractions = {"test": config.test_fraction, "validation": config.validation_fraction}
    missing = [split for split in fractions if split not in rows.splits]
    origins = dict.fromkeys(("train", *fractions), "given by the data")
    members = dict(members)
    for position, split in enumerate(missing):
        pool = members["train"]
        taken = take(
            [rows.ids[row] for row in pool],
            [rows.classes[rows.labels[row]] for row in pool],
            [hashes[row] for row in pool],
            fractions[split],
            seed=seed,
            purpose=split,
            leave=len(missing) - position,
            noun=rows.noun,
        )
        members[split], members["train"] = pool[taken], pool[~taken]
        origins[split] = f"{fractions[split]:.1%} of the training rows, by class and a hash of the id"
    if missing:
        origins["train"] = "what remains of the data's training rows"
    return members, origins


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
