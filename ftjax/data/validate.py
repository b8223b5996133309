"""Refuses data that nothing can be learnt from, before any time is spent: settings, rows, unreadable files and finished splits."""

from __future__ import annotations

import numpy as np

from ftjax.config import TEXT_SOURCES, DataConfig
from ftjax.data.curriculum import check_curriculum
from ftjax.data.dataset import SPLITS, Members, Rows
from ftjax.data.mixture import check_mixture
from ftjax.data.reading import Inspection
from ftjax.data.split_settings import check_split_settings
from ftjax.errors import ConfigError, DataError, did_you_mean

_CHOICES = {"bad_files": ("error", "skip", "repair"), "duplicates": ("report", "drop", "error"), "near_duplicates": ("off", "report", "drop")}
_LOWEST = {"max_pixels": 1, "cache_megabytes": 0, "workers": 0}


def check_settings(config: DataConfig) -> None:
    """Values that types alone cannot rule out.

    Raises:
      ConfigError: a share outside (0, 1), a negative number, or an unknown policy.
    """
    for name in ("validation_fraction", "test_fraction"):
        if not 0.0 < getattr(config, name) < 1.0:
            raise ConfigError(f"data.{name}={getattr(config, name)}: allowed is above 0 and below 1 (every run is validated and tested)")
    check_split_settings(config)
    check_mixture(config)
    check_curriculum(config)
    for name, lowest in _LOWEST.items():
        if getattr(config, name) < lowest:
            raise ConfigError(f"data.{name}={getattr(config, name)}: allowed is {lowest} or more")
    if config.labels_per_class is not None and config.labels_per_class < 1:
        raise ConfigError(f"data.labels_per_class={config.labels_per_class}: allowed is 1 or more, or None for all")
    if config.bad_files == "repair" and config.source in TEXT_SOURCES:
        raise ConfigError("data.bad_files='repair' is for pictures; of a row of text nothing is left that could be kept; allowed: 'error', 'skip'")
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ConfigError(f"data.{name}={getattr(config, name)!r}: {did_you_mean(str(getattr(config, name)), choices)}")


def check_rows(rows: Rows) -> None:
    """There is something to tell apart.

    Raises:
      DataError: no rows, or fewer than two classes.
    """
    if not len(rows):
        raise DataError(f"{rows.where} holds no {rows.noun}")
    if len(rows.classes) < 2:
        raise DataError(f"{rows.where} has one class only ({rows.classes[0]!r}): there is nothing to tell apart")


def check_rejected(rows: Rows, inspection: Inspection, policy: str) -> None:
    """Unreadable files end the run with the full list unless the configuration skips them.

    Raises:
      DataError: there are some and the policy is "error", or none is readable.
    """
    rejected = inspection.rejected
    if rejected and (policy == "error" or len(rejected) == len(rows)):
        names = "\n".join(f"  {rows.ids[row]}: {why}" for row, why in rejected.items())
        ways = "leave them out: data.bad_files='skip' ('repair' keeps what is left of cut JPEGs; predict: --bad-files=skip)."
        hint = f"\nRepair or remove them, or {ways}" if len(rejected) < len(rows) else ""
        raise DataError(f"{rows.where}: {len(rejected)} of {len(rows)} images cannot be read:\n{names}{hint}")


def check_splits(rows: Rows, members: Members) -> None:
    """Every split has rows, every class can be learnt.

    Raises:
      DataError: an empty split, or a class without a training example; the message names class and split.
    """
    for split in SPLITS:
        if not len(members[split]):
            raise DataError(f"{rows.where}: the {split} split is empty after cleaning")
    counts = {split: np.bincount(rows.labels[members[split]], minlength=len(rows.classes)) for split in SPLITS}
    unseen = [label for label in range(len(rows.classes)) if not counts["train"][label]]
    if not unseen:
        return
    names = ", ".join(repr(rows.classes[label]) for label in unseen)
    for split in ("validation", "test"):
        if counts[split][unseen[0]]:
            first = next(rows.ids[row] for row in members[split] if rows.labels[row] == unseen[0])
            raise DataError(f"{rows.where}: class {names} is in {split} (such as {first}) but has no training example: nothing can learn it")
    raise DataError(f"{rows.where}: class {names} has no training example: add some or remove the class")
