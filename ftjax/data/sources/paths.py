"""What the sources on disk share: paths that must exist, and the names that data sets give their splits."""

from __future__ import annotations

from pathlib import Path

from ftjax.errors import ConfigError, DataError, did_you_mean

SPLIT_NAMES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
"""Names of splits that data sets use, and ours."""


def existing_path(path: str | None, source: str, what: str, name: str = "data.path") -> Path:
    """`data.path` (or what `name` says) as a path that exists.

    Raises:
      ConfigError: it is not set.
      DataError: it does not exist; the message names the deepest folder that does, and what there is called alike.
    """
    if path is None:
        raise ConfigError(f"data.source={source!r} needs {name}: {what}")
    wanted = Path(path).expanduser()
    if wanted.exists():
        return wanted
    missing = wanted
    while not missing.parent.exists():
        missing = missing.parent
    if not missing.parent.is_dir():
        raise DataError(f"{name}={path}: {missing.parent} is a file, not a folder")
    siblings = [entry.name for entry in missing.parent.iterdir() if not entry.name.startswith(".")]
    hint = did_you_mean(missing.name, siblings) if siblings else "the folder is empty"
    raise DataError(f"{name}={path} does not exist; in {missing.parent.resolve()} there is no {missing.name!r}: {hint}")


def our_split(names: list[str], where: str) -> dict[str, str]:
    """The data's split names -> ours; names that are no split are left out.

    Raises:
      DataError: two of the names mean the same split, or none is the training split.
    """
    known = {name: SPLIT_NAMES[name] for name in names if name in SPLIT_NAMES}
    for ours in sorted(set(known.values())):
        same = [name for name, split in known.items() if split == ours]
        if len(same) > 1:
            raise DataError(f"{where} holds {' and '.join(map(repr, sorted(same)))}, which both mean the {ours} split; keep one")
    if "train" not in known.values():
        found = ", ".join(map(repr, sorted(names))) or "nothing"
        raise DataError(f"{where} has no 'train' split; it holds {found}. Allowed: 'train' and optionally 'validation' (or 'val') and 'test'")
    return known
