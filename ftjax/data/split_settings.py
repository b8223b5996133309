"""Which settings of splitting and sampling go together, before anything is read."""

from __future__ import annotations

import re

from ftjax.config import IMAGE_SOURCES, DataConfig
from ftjax.errors import ConfigError


def check_split_settings(config: DataConfig) -> None:
    """Refuse settings of the splits and samples that contradict each other or say too little.

    Raises:
      ConfigError: naming the key and what would do.
    """
    if config.split == "group" and config.group is None:
        raise ConfigError(
            "data.split='group' needs data.group: the column of a table, or for pictures a regular expression with one group, such as '(patient_\\d+)_'"
        )
    if config.split == "time":
        _check_time(config)
    if config.group is not None and config.source in IMAGE_SOURCES:
        group_pattern(config.group)
    _check_folds(config)
    _check_sample(config)


def group_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression of `data.group` for pictures.

    Raises:
      ConfigError: it is none, or has not exactly one group.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"data.group={pattern!r} is no regular expression: {error}") from None
    if found.groups != 1:
        raise ConfigError(f"data.group={pattern!r} has {found.groups} groups; allowed is exactly one, around what rows have in common, as in '(patient_\\d+)_'")
    return found


def _check_time(config: DataConfig) -> None:
    if config.source in IMAGE_SOURCES:
        raise ConfigError(
            f"data.split='time': data.source={config.source!r} has no column with a time; it is for tables; for pictures use data.split='group' or folders"
        )
    if config.time is None:
        raise ConfigError("data.split='time' needs data.time, the column of a table that holds ISO dates or numbers")
    if config.folds is not None:
        raise ConfigError(f"data.folds={config.folds}: folds of data.split='time' would train on what comes later; leave data.folds open")


def _check_folds(config: DataConfig) -> None:
    if config.folds is None:
        return
    if config.folds < 2:
        raise ConfigError(f"data.folds={config.folds}: allowed is 2 or more")
    for key, value in (("fold", config.fold), ("test_fold", config.test_fold)):
        if value is not None and not 0 <= value < config.folds:
            raise ConfigError(f"data.{key}={value} is out of range: data.folds={config.folds}, so allowed is 0 to {config.folds - 1}")


def _check_sample(config: DataConfig) -> None:
    fraction, cap = config.fraction, config.max_per_class
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise ConfigError(f"data.fraction={fraction}: allowed is above 0, at most 1")
    for key, value in (("class_floor", config.class_floor), ("max_per_class", cap)):
        if value is not None and value < 1:
            raise ConfigError(f"data.{key}={value}: allowed is 1 or more")
    if config.labels_per_class is not None and (fraction is not None or cap is not None):
        other = "fraction" if fraction is not None else "max_per_class"
        raise ConfigError(f"data.labels_per_class={config.labels_per_class} and data.{other} both say how many examples of a class are kept; leave one open")
    if fraction is not None and cap is not None and config.class_floor > cap:
        raise ConfigError(f"data.class_floor={config.class_floor} is above data.max_per_class={cap}; allowed is at most {cap}")
