"""Marked words: the spans that two sequences of BIO tags name, and a sentence cut where either begins or ends.

`B-X` begins a span of type X; `I-X` goes on with it, or begins one where no span of X is open (as CoNLL's evaluation reads it); anything else is outside.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Span = tuple[int, int, str]
"""First word, word after the last, type."""


def spans(tags: Sequence[str]) -> list[Span]:
    """The spans of a sequence of tags, in order."""
    found: list[Span] = []
    for place, tag in enumerate(tags):
        kind, _, name = tag.partition("-")
        if kind not in ("B", "I") or not name:
            continue
        if kind == "I" and found and found[-1][1] == place and found[-1][2] == name:
            found[-1] = (found[-1][0], place + 1, name)
        else:
            found.append((place, place + 1, name))
    return found


def _covering(found: Sequence[Span], words: int) -> list[Span | None]:
    """For each word the span it is in."""
    cover: list[Span | None] = [None] * words
    for span in found:
        for place in range(span[0], min(span[1], words)):
            cover[place] = span
    return cover


def marked(words: Sequence[str], label: Sequence[str], prediction: Sequence[str]) -> list[dict[str, Any]]:
    """The sentence as pieces `{"text", "kind", "note"}`; `kind` is "" outside of every span, else "right", "missed", "invented" or "confused".

    Args:
      words: of the sentence.
      label: its true tags.
      prediction: the model's.
    """
    if not spans([*label, *prediction]):
        return [_by_word(*found) for found in itertools.zip_longest(words, label[: len(words)], prediction[: len(words)], fillvalue="")]
    true, said = _covering(spans(label), len(words)), _covering(spans(prediction), len(words))
    pieces = []
    for (here, there), group in itertools.groupby(range(len(words)), key=lambda place: (true[place], said[place])):
        text = " ".join(words[place] for place in group)
        pieces.append({"text": text, **_judged(here, there)})
    return pieces


def _by_word(word: str, true: str, said: str) -> dict[str, Any]:
    """A word whose tags mark no spans, parts of speech for instance: pointed out where they differ."""
    return {"text": word, "kind": "", "note": ""} if true == said else {"text": word, "kind": "confused", "note": f"{said}, but {true}"}


def _judged(true: Span | None, said: Span | None) -> dict[str, str]:
    if true is None:
        return {"kind": "", "note": ""} if said is None else {"kind": "invented", "note": f"{said[2]}, not there"}
    if said is None:
        return {"kind": "missed", "note": f"{true[2]} missed"}
    if said == true:
        return {"kind": "right", "note": true[2]}
    return {"kind": "confused", "note": f"{said[2]}, but {true[2]}" if true[2] != said[2] else f"{true[2]}, other borders"}
