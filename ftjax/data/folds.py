"""Whole groups split off, and k-fold: the rows that are not for test in k parts, each of which validates once; nested, the test split is an outer fold too."""

from __future__ import annotations

import collections
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from jaxtyping import Int

from ftjax.config import DataConfig
from ftjax.data.apportion import apportion, units_of
from ftjax.data.dataset import Members, Rows
from ftjax.data.order import uniform
from ftjax.errors import DataError

Pool = Int[np.ndarray, " pool"]
"""Indices of the rows that are to be divided."""


def grouped(rows: Rows, hashes: Sequence[bytes | None], pool: Pool, shares: Mapping[str, float], seed: int) -> Members:
    """Whole groups of the pool to new splits, each class as near to the shares as they allow; every class stays in train.

    Args:
      rows: with their groups.
      hashes: of content; copies tie their groups together.
      pool: the rows to divide.
      shares: of all rows of the pool that each new split gets.
      seed: of the run.

    Raises:
      DataError: there are too few groups, or what they tie together leaves a split empty.
    """
    units = _units(rows, hashes, pool)
    names = ("train", *shares)
    if len(set(units)) < len(names):
        raise DataError(
            f"{rows.where}: data.group makes {len(set(units))} groups that share no copies, too few for {', '.join(names)}; give more, or bring splits"
        )
    ids, labels = [rows.ids[row] for row in pool], [int(rows.labels[row]) for row in pool]
    bins = apportion(ids, labels, units, (1 - sum(shares.values()), *shares.values()), seed=seed, purpose="group")
    found = {name: pool[bins == number] for number, name in enumerate(names)}
    for name, members in found.items():
        if not len(members):
            raise DataError(f"{rows.where}: the groups of data.group leave nothing for {name}: classes that one group alone holds are trained; bring splits")
    return found


def _units(rows: Rows, hashes: Sequence[bytes | None], pool: Pool) -> Sequence[Hashable]:
    copies = [hashes[row] for row in pool]
    return units_of(copies) if rows.groups is None else units_of(copies, [rows.groups[row] for row in pool])


def check_folds(rows: Rows, config: DataConfig, missing: Sequence[str]) -> None:
    """The data leave to the folds what the folds make.

    Raises:
      DataError: the data bring a validation split, or with `test_fold` a test split.
    """
    for split, key in (("validation", "folds"), ("test", "test_fold")):
        if split not in missing and getattr(config, key) is not None:
            count = rows.splits.count(split)
            raise DataError(
                f"data.{key}={getattr(config, key)} makes the {split} split, but {rows.where} brings one ({count} {rows.noun}); leave data.{key} open"
            )


def folded(rows: Rows, hashes: Sequence[bytes | None], members: Members, config: DataConfig, seed: int) -> tuple[Members, dict[str, str]]:
    """The validation split as one of `config.folds` folds of the training rows; before that, with `config.test_fold`, the test split likewise.

    The folds do not depend on which of them is asked for: every row is in exactly one. Inner folds are made anew of the rows that the outer fold leaves.

    Returns:
      The members, and where the new splits come from, in words.

    Raises:
      DataError: a class or the data have too few rows or groups for so many folds.
    """
    members, origins = dict(members), {}
    count = config.folds or 1
    kind = {"stratified": "by class", "hash": "by a hash of the id alone", "group": "whole groups, by class"}[config.split]
    for split, number, purpose in (("test", config.test_fold, "outer fold"), ("validation", config.fold, "fold")):
        if number is None:
            continue
        pool = members["train"]
        here = fold_of(rows, hashes, pool, count, config.split, seed, purpose) == number
        members[split], members["train"] = pool[here], pool[~here]
        origins[split] = f"{purpose} {number} of {count} (from 0), {kind}"
    return members, origins


def fold_of(rows: Rows, hashes: Sequence[bytes | None], pool: Pool, count: int, way: str, seed: int, purpose: str) -> Int[np.ndarray, " pool"]:
    """The fold of every row of the pool, from 0.

    Raises:
      DataError: a class or the data have too few rows or groups for so many folds.
    """
    if way == "hash":
        return np.array([int(count * uniform(purpose, seed, rows.key(row))) for row in pool], np.int64)
    units = _units(rows, hashes, pool) if way == "group" else units_of([hashes[row] for row in pool])
    labels = [int(rows.labels[row]) for row in pool]
    _check_enough(rows, units, labels, count, way, purpose)
    return apportion([rows.ids[row] for row in pool], labels, units, (1 / count,) * count, seed=seed, purpose=purpose)


def _check_enough(rows: Rows, units: Sequence[Hashable], labels: Sequence[int], count: int, way: str, purpose: str) -> None:
    """Every fold can have a row of each class; of groups, enough of them, and each class in two, so that it is trained whichever fold validates."""
    if len(set(units)) < count:
        raise DataError(
            f"{rows.where}: data.folds={count} needs as many {'groups' if way == 'group' else rows.noun} for the {purpose}s; there are {len(set(units))}"
        )
    found = collections.Counter(label for _, label in set(zip(units, labels)))
    needed = 2 if way == "group" else count
    for label in sorted(found):
        if found[label] < needed:
            has = f"is in {found[label]} group" if way == "group" else f"has {found[label]} different {rows.noun}"
            why = "one to train it while the other validates" if way == "group" else f"one in each {purpose}"
            raise DataError(f"class {rows.classes[label]!r} {has}, and data.folds={count} needs {needed}: {why}; ask for fewer folds or add {rows.noun}")
