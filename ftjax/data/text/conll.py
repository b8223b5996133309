"""CoNLL files: a word and its tag on each line, separated by tabs or spaces, and a blank line between sentences."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from ftjax.config import TextConfig
from ftjax.data.text.encodings import read_text
from ftjax.data.text.table import Table
from ftjax.errors import DataError

SUFFIXES = (".conll", ".conll2003", ".iob", ".iob2", ".bio", ".txt", ".tsv")
_DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, config: TextConfig, *, tagged: bool = True) -> Table:
    """Sentences as rows of two columns, `words` and `tags`, both lists; a row's line is that of its first word.

    The word is the first field of a line and the tag the last one (CoNLL-2003 has others between). Lines of nothing but white space end a sentence, and
    `-DOCSTART-` lines are passed over.

    Args:
      path: of the file.
      config: its encoding, where it is not to be found out.
      tagged: whether there are tags; without, a line is a word and whatever follows it is ignored.

    Raises:
      DataError: the file is empty or holds a line without a tag; the message names the line.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file")
    decoded = read_text(path, config.encoding)
    rows, lines = [], []
    for line, words, tags in _sentences(decoded.text, str(path), tagged):
        rows.append((words, tags))
        lines.append(line)
    if not rows:
        raise DataError(f"{path} holds no sentence: allowed are lines 'word<tab>tag' with a blank line between sentences")
    facts = {"format": "conll", "encoding": decoded.encoding}
    return Table(str(path), ("words", "tags"), rows, lines, facts, (decoded.warning,) if decoded.warning else ())


def _sentences(text: str, where: str, tagged: bool) -> Iterator[tuple[int, list[str], list[str] | None]]:
    numbered = enumerate(text.split("\n"), 1)
    for blank, lines in itertools.groupby(numbered, lambda item: not item[1].strip() or item[1].startswith(_DOCUMENT)):
        if not blank:
            fields = [(number, _fields(line)) for number, line in lines]
            for number, found in fields:
                if tagged and len(found) < 2:
                    raise DataError(f"{where}: line {number} has no tag: {found[0]!r}; allowed are lines 'word<tab>tag' with a blank line between sentences")
            yield fields[0][0], [found[0] for _, found in fields], [found[-1] for _, found in fields] if tagged else None


def _fields(line: str) -> list[str]:
    """The fields of a line; a word may hold other white space where tabs separate."""
    parts = [part.strip() for part in line.split("\t")] if "\t" in line.strip() else line.split()
    return [part for part in parts if part]
