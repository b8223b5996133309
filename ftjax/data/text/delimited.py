"""Tables in which a character separates columns: which one, whether the first line names the columns, and what quotes mean, found out and shown."""

from __future__ import annotations

import collections
import csv
import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.text.names import is_known
from ftjax.errors import ConfigError, DataError

LARGEST_FIELD = 2_000_000
"""Characters; a longer field is a quote that was left open."""
_CANDIDATES = ("\t", ",", ";", "|")
_LOOK = 200
"""Rows at which detection looks."""
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_NAME = re.compile(r"[^\W\d][\w.\-/]*(?: [\w.\-/]+){0,2}")
_SHOWN = {"\t": "tab", ",": "comma", ";": "semicolon"}

Lines = list[tuple[int, list[str]]]
"""(line where it begins, its fields) of each row."""


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file of delimited text holds."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]
    facts: Mapping[str, Any]
    warnings: tuple[str, ...]
    rejected: tuple[tuple[int, str], ...]


def read_delimited(text: str, where: str, config: TextConfig, kind: str | None) -> Found:
    """Rows and columns of a csv, tsv or other delimited text.

    A space, or several characters, as delimiter splits only as often as there are columns (two where no header says otherwise), so that the last column may
    hold more of them: `LABEL the rest is text`.

    Args:
      text: of the file.
      where: the file.
      config: delimiter, header and columns where they are not to be found out.
      kind: "csv", "tsv" or None, by the file's ending or `text.format`.

    Raises:
      ConfigError: the delimiter is a line break or a quote.
      DataError: quotes are unbalanced, or a field is too long; the message names the line.
    """
    delimiter = _delimiter(text, config, kind)
    lines, warnings = _split(text, where, delimiter, config)
    header = config.header if config.header is not None else _has_header([fields for _, fields in lines], config, delimiter)
    width = len(lines[0][1]) if header else collections.Counter(len(fields) for _, fields in lines).most_common(1)[0][0]
    columns = _columns(lines[0][1], where) if header else tuple(map(str, range(width)))
    body = lines[1:] if header else lines
    good = [(line, fields) for line, fields in body if len(fields) == width]
    expected = f"{width} ({', '.join(columns)})" if header else str(width)
    rejected = tuple((line, f"{len(fields)} fields, not {expected}") for line, fields in body if len(fields) != width)
    facts = {"format": kind or "text", "delimiter": delimiter, "header": header}
    return Found(columns, [fields for _, fields in good], [line for line, _ in good], facts, warnings, rejected)


def given_delimiter(config: TextConfig) -> str | None:
    """What `text.delimiter` says; None: nothing.

    Raises:
      ConfigError: it is a line break or a quote.
    """
    if config.delimiter is None:
        return None
    given = {"\\t": "\t", "tab": "\t", "comma": ",", "semicolon": ";", "space": " "}.get(config.delimiter, config.delimiter)
    if not given or "\n" in given or "\r" in given or '"' in given:
        raise ConfigError(f"text.delimiter={config.delimiter!r}: allowed is any text without line breaks and double quotes, such as ',' or '\\t'")
    return given


def _delimiter(text: str, config: TextConfig, kind: str | None) -> str | None:
    """What separates columns; None: there is one column."""
    given = given_delimiter(config)
    if given is not None:
        return given
    if kind == "tsv":
        return "\t"
    head = list(itertools.islice((line for line in text.split("\n") if line.strip()), _LOOK))
    found = {candidate: _regular(head, candidate) for candidate in _CANDIDATES if candidate in head[0]}
    if kind is None:
        # Prose has commas too: only a tab, or a first line that names a column, makes a table of it.
        found = {candidate: share for candidate, share in found.items() if candidate == "\t" or any(map(is_known, head[0].split(candidate)))}
    best = max(found, key=lambda candidate: found[candidate], default=None)
    if best is not None and (found[best] >= 0.9 or kind == "csv"):
        return best
    return None


def _regular(head: Sequence[str], delimiter: str) -> float:
    """Share of the first rows that have the first row's number of fields."""
    try:
        counts = [len(fields) for fields in csv.reader(head, delimiter=delimiter)]
    except csv.Error:  # A very long field, or a carriage return within one.
        counts = [len(line.split(delimiter)) for line in head]
    return sum(count == counts[0] for count in counts) / len(counts)


def _split(text: str, where: str, delimiter: str | None, config: TextConfig) -> tuple[Lines, tuple[str, ...]]:
    """The fields of every row that is not blank."""
    if delimiter is None:
        # Every line is a text, an empty one too; what follows the last line break is no line.
        whole = text.removesuffix("\n").split("\n")
        return [(number, [_short(line, where, number)]) for number, line in enumerate(whole, 1)], ()
    if delimiter == " " or len(delimiter) > 1:
        most = len(text.split("\n", 1)[0].split(delimiter)) if config.header else 2
        return list(_plain(text, where, delimiter, most - 1)), ()
    if '"' not in text:
        return list(_plain(text, where, delimiter)), ()
    try:
        lines = list(_quoted(text, where, delimiter))
    except csv.Error as error:
        return _unbalanced(text, where, delimiter, str(error))
    spans = any(after - line > 1 for (line, _), (after, _) in itertools.pairwise(lines)) and any("\n" in field for _, fields in lines for field in fields)
    if delimiter == "\t" and spans:
        return _unbalanced(text, where, delimiter, "a quoted field runs over several lines")
    return lines, ()


def _unbalanced(text: str, where: str, delimiter: str, error: str) -> tuple[Lines, tuple[str, ...]]:
    """Quotes that cannot be meant as such: ordinary characters, if the rows then have one length (with tabs: in any case)."""
    lines = list(_plain(text, where, delimiter))
    if delimiter == "\t" or len({len(fields) for _, fields in lines}) == 1:
        return lines, (f"{where}: quotes are not balanced; they were read as ordinary characters",)
    raise DataError(
        f"{where}: quotes are not balanced: {error}; put a text with quotes or {_SHOWN.get(delimiter, delimiter)}s into quotes, and write its own quotes twice"
    )


def _plain(text: str, where: str, delimiter: str, most: int = -1) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, [_short(field, where, number) for field in line.split(delimiter, most)]


def _short(field: str, where: str, line: int) -> str:
    if len(field) > LARGEST_FIELD:
        raise DataError(f"{where}: line {line} has a field of {len(field):,} characters; allowed are {LARGEST_FIELD:,}")
    return field


def _quoted(text: str, where: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """As the csv module reads it, strictly.

    Raises:
      csv.Error: quotes are unbalanced.
      DataError: a field is too long.
    """
    before = csv.field_size_limit(LARGEST_FIELD)
    reader = csv.reader(_lines(text), delimiter=delimiter, strict=True)
    line = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields) or len(fields) > 1:
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(f"{where}: line {line} has a field of more than {LARGEST_FIELD:,} characters; is a quote left open?") from None
        raise csv.Error(f"in the row that begins on line {line}, {error}") from None
    finally:
        csv.field_size_limit(before)


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        stop = text.find("\n", start) + 1 or len(text)
        yield text[start:stop]
        start = stop


def _has_header(rows: Sequence[Sequence[str]], config: TextConfig, delimiter: str | None) -> bool:
    """Whether the first row names the columns: short, different names, one of them known (or all like identifiers) and none a value of its own column.

    Names of several words count where a column below them is of another kind: numbers, or values that come again and again without the name among them.
    """
    first, wanted = [cell.strip() for cell in rows[0]], {config.text, config.text_pair, *(config.label or "").split(",")}
    if wanted & set(first):
        return True
    if delimiter == " " or not all(_NAME.fullmatch(cell) and len(cell) <= 40 for cell in first if cell):
        return False
    if any(is_known(cell) for cell in first):
        return True
    if len(set(first)) < len(first):
        return False
    body = rows[1:1001]
    again = any(row[column].strip() == cell for row in body for column, cell in enumerate(first) if column < len(row))
    if len(first) < 2 or len(rows) < 4 or not all(first) or again:
        return False
    return all(" " not in cell for cell in first) or any(
        _is_of_a_kind([row[column].strip() for row in body if column < len(row)]) for column in range(len(first))
    )


def _is_of_a_kind(values: Sequence[str]) -> bool:
    """Whether a column holds numbers, or a few values that come again and again."""
    given = [value for value in values if value]
    return bool(given) and (all(_NUMBER.fullmatch(value) for value in given) or 3 * len(set(given)) <= len(given))


def _columns(names: Sequence[str], where: str) -> tuple[str, ...]:
    columns = tuple(name.strip() or str(number) for number, name in enumerate(names))
    twice = [name for name, count in collections.Counter(columns).items() if count > 1]
    if twice:
        raise DataError(f"{where}: the header names the column {twice[0]!r} twice; give every column a name of its own, or say text.header=False if it is none")
    return columns
