"""SQuAD's JSON, versions 1 and 2: articles of paragraphs, each with questions whose answers are spans of the paragraph's text, or none."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.text.encodings import read_text
from ftjax.data.text.table import Rejected, Table
from ftjax.errors import DataError

SUFFIXES = (".json", ".jsonl")
_FORM = '{"data": [{"paragraphs": [{"context": ..., "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}'


@dataclasses.dataclass(frozen=True)
class Answer:
    """A span of the context: its text, and the character at which it begins."""

    text: str
    start: int


def read_squad(path: Path, config: TextConfig, *, answered: bool = True) -> Table:
    """Questions as rows of `id`, `question`, `context` and `answers` (a tuple of `Answer`, empty where there is none); a row's line is its number.

    Questions whose answer does not stand in the context where it should are rejected by name.

    Args:
      path: of the file: SQuAD's own form, or one flat object for each question (a list of them, or one a line).
      config: its encoding, where it is not to be found out.
      answered: whether the answers are read.

    Raises:
      DataError: the file is not in one of these forms; the message says where.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file")
    decoded = read_text(path, config.encoding)
    rows, lines, rejected = [], [], []
    for number, (name, question, context, given) in enumerate(_questions(_value(decoded.text, str(path)), str(path)), 1):
        answers = tuple(_answers(given, f"{path}: question {name or number}")) if answered else ()
        wrong = next((answer for answer in answers if context[answer.start : answer.start + len(answer.text)] != answer.text or not answer.text), None)
        if wrong is not None:
            found = context[max(wrong.start, 0) : max(wrong.start, 0) + len(wrong.text)]
            where = f"does not stand at character {wrong.start} of the context, which has {_cut(found)}"
            rejected.append((number, f"question {name or number}: its answer {_cut(wrong.text)} {where}"))
            continue
        rows.append((name, question, context, answers))
        lines.append(number)
    if not rows and not rejected:
        raise DataError(f"{path} holds no question; its form is {_FORM}")
    facts = {"format": "squad", "encoding": decoded.encoding}
    bad: Rejected = tuple(rejected)
    return Table(str(path), ("id", "question", "context", "answers"), rows, lines, facts, (decoded.warning,) if decoded.warning else (), bad)


def _value(text: str, where: str) -> list[Any]:
    """The list of articles or of flat questions."""
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        try:
            return [json.loads(line) for line in text.split("\n") if line.strip()]
        except (json.JSONDecodeError, RecursionError):
            raise DataError(f"{where} is no JSON: {error}") from None
    value = value.get("data", value) if isinstance(value, dict) else value
    return value if isinstance(value, list) else [value]


def _questions(entries: list[Any], where: str) -> Iterator[tuple[str | None, str, str, Any]]:
    """(id, question, context, answers as given) of every question."""
    for number, entry in enumerate(entries, 1):
        place = f"{where}: entry {number}"
        if isinstance(entry, dict) and "paragraphs" in entry:
            for paragraph in _field(entry, "paragraphs", list, place):
                context = _field(paragraph, "context", str, place)
                for asked in _field(paragraph, "qas", list, place):
                    yield _name(asked), _field(asked, "question", str, place), context, _given(asked)
        else:
            yield _name(entry), _field(entry, "question", str, place), _field(entry, "context", str, place), _given(entry)


def _field(value: Any, key: str, kind: type, place: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        what = "a text" if kind is str else "a list"
        raise DataError(f"{place} has no {key!r} that is {what}; the form is {_FORM}, or flat objects with 'question', 'context' and 'answers'")
    return found


def _name(asked: Any) -> str | None:
    name = asked.get("id") if isinstance(asked, dict) else None
    return None if name is None or name == "" else str(name)


def _given(asked: Mapping[str, Any]) -> Any:
    return [] if asked.get("is_impossible") else asked.get("answers", [])


def _answers(given: Any, place: str) -> Iterator[Answer]:
    """Answers as a list of objects, or as an object of lists (the form of flat files)."""
    if isinstance(given, dict):
        given = [{"text": text, "answer_start": start} for text, start in zip(given.get("text", []), given.get("answer_start", []))]
    for answer in given or []:
        start = answer.get("answer_start") if isinstance(answer, dict) else None
        if not isinstance(start, int) or not isinstance(answer.get("text"), str):
            raise DataError(f'{place} has an answer that is {json.dumps(answer)[:60]}; allowed is {{"text": ..., "answer_start": number}}')
        yield Answer(answer["text"], start)


def _cut(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
