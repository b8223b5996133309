"""Files of plain text, cut into blocks of whole paragraphs: a block is what splits and copies are judged by. Together they are the file, letter for letter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.text.encodings import read_text
from ftjax.data.text.table import Table
from ftjax.errors import DataError

SUFFIXES = (".txt", ".text", ".md")
BLOCK = 4000
"""Characters of a block, at least, but for the last one of a file."""
COLUMNS = ("text", "position", "begins", "ends")


def read_plain(path: Path, config: TextConfig) -> Table:
    """One document; its rows are blocks, whose `position` counts them from 0 (`data.split="time"` with `data.time="position"` keeps the end for test).

    Raises:
      DataError: the file cannot be read, or is empty.
    """
    decoded = read_text(path, config.encoding)
    if not decoded.text.strip():
        raise DataError(f"{path} is empty")
    parts = blocks(decoded.text)
    rows: list[tuple[Any, ...]] = [(part, place, place == 0, place == len(parts) - 1) for place, part in enumerate(parts)]
    lines, line = [], 1
    for part in parts:
        lines.append(line)
        line += part.count("\n")
    facts = {"format": "plain text", "encoding": decoded.encoding}
    return Table(str(path), COLUMNS, rows, lines, facts, (decoded.warning,) if decoded.warning else ())


def blocks(text: str) -> list[str]:
    """The text in pieces of at least `BLOCK` characters that end after an empty line, or where there is none for as long again, after a line."""
    found, start = [], 0
    while len(text) - start > BLOCK:
        stop = text.find("\n\n", start + BLOCK, start + 2 * BLOCK)
        stop = stop + 2 if stop >= 0 else text.find("\n", start + BLOCK) + 1
        if not stop or stop >= len(text) or not text[stop:].strip():
            break
        found.append(text[start:stop])
        start = stop
    return [*found, text[start:]]
