"""One data set in several files: `part-{000..012}.jsonl`, `{a,b}.csv` or `part-*.parquet` as files in the order of their names.

A shard that is missing from a sequence of numbers is an error: half a data set trains without a word.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from pathlib import Path

from ftjax.data.sources.paths import existing_path
from ftjax.errors import DataError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_NUMBER = re.compile(r"(\d+)(?!.*\d)")
"""The last number in a name: the shard's, where all else in the names is the same."""
_COUNTED = re.compile(r"(\d+)-of-(\d+)")
MOST = 100_000
"""Files that one pattern may stand for."""


def is_pattern(path: str) -> bool:
    """Whether a path stands for several files; one that exists stands for itself, whatever is in its name."""
    return any(character in path for character in "*?[{") and not Path(path).expanduser().exists()


def shards(path: str, name: str = "data.path") -> list[Path]:
    """The files that a pattern stands for, in the order of their names.

    `{000..012}` counts with that many digits, `{a,b}` lists (`{0..3,7}` does both); `*`, `?` and `[...]` are a glob.

    Raises:
      DataError: nothing is there, a file that braces name is not there, or a number is missing in a sequence that a glob found.
    """
    given = _expanded(str(Path(path).expanduser()), name)
    missing = [one for one in given if not _globbed(one) and not Path(one).exists()]
    if missing:
        if len(missing) == len(given):
            existing_path(missing[0], "", "", name)
        shown = ", ".join(Path(one).name for one in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{name}={path}: {len(missing)} of {len(given)} shards are not there: {shown}; fetch them, or name the ones that count by braces")
    found = sorted({Path(file) for one in given for file in (glob.glob(one) if _globbed(one) else [one])}, key=_natural)
    found = [file for file in found if file.is_file()]
    if not found:
        raise DataError(f"{name}={path}: no file is called so{_beside(Path(given[0]), name)}")
    if any(_globbed(one) for one in given):
        _check_sequence(found, f"{name}={path}")
    return found


def _beside(pattern: Path, name: str) -> str:
    """What lies in the folder that a pattern names.

    Raises:
      DataError: it is not there.
    """
    folder = next(parent for parent in pattern.parents if not _globbed(str(parent)))
    held = sorted(entry.name for entry in existing_path(str(folder), "", "", name).iterdir())
    return f"; {folder} holds {', '.join(held[:6]) or 'nothing'}{', ...' if len(held) > 6 else ''}"


def common_folder(files: list[Path]) -> Path:
    """The deepest folder that holds all of them; what lies below it names a shard."""
    return Path(os.path.commonpath([file.parent for file in files]))


def _globbed(path: str) -> bool:
    return any(character in path for character in "*?[")


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Names in order, numbers in them as numbers: `part-2` before `part-10`."""
    return [(0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in re.split(r"(\d+)", str(path))]


def _expanded(path: str, name: str) -> list[str]:
    """Braces written out."""
    given = [path]
    while any(_BRACES.search(one) for one in given):
        given = list(itertools.islice((written for one in given for written in _once(one, f"{name}={path}")), MOST + 1))
        if len(given) > MOST:
            raise DataError(f"{name}={path} stands for more than {MOST:,} files; is a number wrong?")
    return list(dict.fromkeys(given))


def _once(path: str, where: str) -> list[str]:
    """The first braces of a path written out."""
    found = _BRACES.search(path)
    if found is None:
        return [path]
    parts: list[str] = []
    for part in found[1].split(","):
        ends = _RANGE.fullmatch(part)
        if ends is None:
            parts.append(part)
            continue
        first, last = int(ends[1]), int(ends[2])
        if first > last or last - first >= MOST:
            raise DataError(f"{where}: {{{part}}} must count upwards, to at most {MOST:,} numbers")
        parts += [f"{number:0{len(ends[1])}d}" for number in range(first, last + 1)]
    return [path[: found.start()] + part + path[found.end() :] for part in parts]


def _check_sequence(files: list[Path], where: str) -> None:
    """Files whose names differ in their last number only are a sequence, and `-of-00004` says how long it is.

    Raises:
      DataError: a number is missing.
    """
    sequences: dict[tuple[str, str], dict[int, str]] = {}
    for file in files:
        counted = _COUNTED.search(file.name)
        number = counted or _NUMBER.search(file.name)
        if number is not None:
            around = (str(file.parent / file.name[: number.start(1)]), file.name[number.end(1) :])
            sequences.setdefault(around, {})[int(number[1])] = number[1]
    for (before, after), numbers in sequences.items():
        total = re.match(r"-of-(\d+)", after)
        last = int(total[1]) - 1 if total else max(numbers)
        wanted = range(0 if total else min(numbers), last + 1)
        missing = next((number for number in wanted if number not in numbers), None) if len(numbers) > 1 or total else None
        if missing is not None:
            digits = len(next(iter(numbers.values())))
            shown = f"{Path(before).name if before[-1] != '/' else ''}{missing:0{digits}d}{after}"
            raise DataError(f"{where}: the shard {shown} is missing; fetch it, or name the ones that count by braces ({{0..3,5}})")
