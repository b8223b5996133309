"""Cleaning and splitting in the order that the way of splitting wants, what groups and times say of the finished splits, and the groups of pictures.

"stratified" and "group" keep copies together, so copies are judged first; "hash" and "time" look at each row alone, so copies are judged in the splits they
fell into: with `duplicates="drop"` a training row that is a copy of a test row goes, whatever decided where it lies.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ftjax.config import DataConfig
from ftjax.counting import counted
from ftjax.data.dataset import SPLITS, Members, Rows
from ftjax.data.mixture import Mixture
from ftjax.data.moments import check_comparable
from ftjax.data.split import complete_splits
from ftjax.data.split_settings import group_pattern
from ftjax.errors import DataError

_SHOWN = 20
"""Rows or groups that a message lists."""

Found = tuple[dict[str, Any], list[int]]
"""What was found of exact copies, and the rows that were left out for being like others."""

Cleaned = tuple[Members, Sequence[bytes | None], Found]
"""What remains; for every row a value that those share that a split by class or group does not tear apart; what was found."""


def divide(
    rows: Rows, given: Members, clean: Callable[[Members], Cleaned], config: DataConfig, seed: int, mixture: Mixture | None = None
) -> tuple[Members, dict[str, str], Found]:
    """Clean and split.

    Args:
      rows: all of them; their class is what a split keeps in proportion.
      given: readable rows by the split that the data name.
      clean: finds copies and treats them.
      config: how to split.
      seed: of the run.
      mixture: where there are several data sets: all but the first one only train, and what is split is the first one as if it were alone.

    Returns:
      The members, where each split comes from, and what `clean` found.

    Raises:
      DataError: groups that given splits tear apart, times that cannot be compared, and whatever `complete_splits` refuses.
    """
    if config.torn_groups == "error":
        check_torn(rows, given)
    if rows.moments is not None:
        check_comparable(rows.ids, rows.moments, rows.where)
    if mixture is not None:
        further = mixture.further(rows.ids)
        alone = {**given, "train": given["train"][~further[given["train"]]]}
        members, origins, before = divide(rows, alone, clean, dataclasses.replace(config, torn_groups="warn"), seed)
        members, _, after = clean({**members, "train": np.concatenate([members["train"], given["train"][further[given["train"]]]])})
        return members, origins, _both(before, after)
    if config.split in ("hash", "time"):
        members, origins = complete_splits(rows, [None] * len(rows), given, config, seed)
        members, _, found = clean(members)
        return members, origins, found
    members, together, found = clean(given)
    members, origins = complete_splits(rows, together, members, config, seed)
    return members, origins, found


def _both(before: Found, after: Found) -> Found:
    """What two rounds of cleaning found; copies that were dropped in the first are not met in the second."""
    exact = {key: [*before[0][key], *(entry for entry in after[0][key] if entry not in before[0][key])] for key in ("across", "conflicting", "dropped")}
    return {**after[0], **exact}, [*before[1], *after[1]]


def with_picture_groups(rows: Rows, config: DataConfig, mixture: Mixture | None = None) -> Rows:
    """The rows with what the group of `data.group` matches in their ids; groups of a further data set are its own.

    Raises:
      DataError: an id does not match, or its group is empty; the message lists them.
    """
    if config.group is None:
        return rows
    pattern = group_pattern(config.group)
    own = [name if mixture is None else mixture.own(name) for name in rows.ids]
    matches = [pattern.search(name) for name in own]
    wrong = [name for name, match in zip(rows.ids, matches) if match is None or not match[1]]
    if wrong:
        shown = ", ".join(wrong[:_SHOWN]) + (f", ... and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
        raise DataError(f"{rows.where}: data.group={config.group!r} finds no group in {len(wrong)} of {len(rows)} ids: {shown}")
    prefixes = [name.removesuffix(bare) for name, bare in zip(rows.ids, own)]
    return dataclasses.replace(rows, groups=tuple(f"{prefix}{match[1]}" for prefix, match in zip(prefixes, matches) if match))


def torn(rows: Rows, members: Members) -> dict[str, list[str]]:
    """Groups with rows in several splits, with those splits; by name."""
    if rows.groups is None:
        return {}
    where: dict[str, list[str]] = collections.defaultdict(list)
    for split in SPLITS:
        for group in {rows.groups[row] for row in members[split]}:
            where[group].append(split)
    return {group: where[group] for group in sorted(where) if len(where[group]) > 1}


def check_torn(rows: Rows, members: Members) -> None:
    """No group lies on both sides of the splits that the data name.

    Raises:
      DataError: some do; the message names them.
    """
    found = torn(rows, members)
    if found:
        shown = "\n".join(f"  {group!r}: {', '.join(splits)}" for group, splits in list(found.items())[:_SHOWN])
        more = f"\n  ... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise DataError(
            f"{rows.where}: {len(found)} groups of data.group are in more than one of the splits that the data bring:\n{shown}{more}\n"
            "Move their rows to one split, or set data.torn_groups='warn'."
        )


def split_facts(rows: Rows, members: Members, config: DataConfig) -> tuple[dict[str, Any], list[str]]:
    """What groups and times say of the finished splits: `{"split": {...}}` for data.json, nothing for a plain split by class, and warnings."""
    facts: dict[str, Any] = {"way": config.split}
    warnings: list[str] = []
    if config.folds is not None:
        facts |= {"folds": config.folds, "fold": config.fold, "test_fold": config.test_fold}
    elif config.split != "stratified" and {"validation", "test"} <= set(rows.splits):
        warnings.append(f"data.split={config.split!r} decided nothing: the data bring validation and test")
    if rows.groups is not None:
        crossing = torn(rows, members)
        facts |= {"group": config.group, "groups": {split: len({rows.groups[row] for row in members[split]}) for split in SPLITS}, "torn": crossing}
        if crossing:
            first = next(iter(crossing))
            warnings.append(
                f"{counted(len(crossing), 'groups are in more than one split')} (such as {first!r}: {', '.join(crossing[first])}): what is measured is too good"
            )
    if rows.moments is not None:
        facts |= _times(rows, members, config, warnings)
    return ({"split": facts} if len(facts) > 1 or config.split != "stratified" else {}), warnings


def _times(rows: Rows, members: Members, config: DataConfig, warnings: list[str]) -> dict[str, Any]:
    """From when to when each split is; given splits that overlap are a warning."""
    moments, spans = rows.moments or (), {}
    for split in SPLITS:
        found = sorted((moments[row].order, rows.ids[row], row) for row in members[split])
        if found:
            spans[split] = (moments[found[0][2]], moments[found[-1][2]])
    for earlier, later in (("train", "validation"), ("validation", "test"), ("train", "test")):
        if earlier in spans and later in spans and spans[later][0].order <= spans[earlier][1].order:
            warnings.append(f"{later} begins ({spans[later][0].text}) before {earlier} ends ({spans[earlier][1].text}): it tests nothing that is to come")
    return {"time": config.time, "from_to": {split: [first.text, last.text] for split, (first, last) in spans.items()}}
