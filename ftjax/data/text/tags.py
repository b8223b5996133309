"""Tags of words: `B-type` begins an entity, `I-type` continues it, `O` is outside (IOB2). IOB1 is turned into it; anything else is refused by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Tags = Sequence[str]
_TAG = re.compile(r"O|[BI]-.+")


def to_iob2(sentences: Sequence[Tags]) -> tuple[list[list[str]], dict[int, tuple[int, str]], bool]:
    """Tags in IOB2.

    In IOB1 entities begin with `I-`, and with `B-` only right after one of the same type. Sentences are taken for it when some `I-` begins an entity and no
    `B-` stands anywhere else.

    Returns:
      The tags; `{sentence: (word, why)}` of the sentences that are in neither form; and whether they were IOB1.
    """
    starts = [_starts(tags) for tags in sentences]
    first = any(inside for inside, _ in starts) and not any(begins for _, begins in starts)
    converted = [_begun(tags) if first else list(tags) for tags in sentences]
    problems = {number: found for number, tags in enumerate(converted) if (found := _problem(tags)) is not None}
    return converted, problems, first


def _starts(tags: Tags) -> tuple[bool, bool]:
    """Whether an entity begins with `I-`, and whether a `B-` stands where IOB1 has none."""
    inside = begins = False
    for before, tag in _pairs(tags):
        alone = before[2:] != tag[2:] or before == "O"
        inside |= tag[:2] == "I-" and alone
        begins |= tag[:2] == "B-" and alone
    return inside, begins


def _begun(tags: Tags) -> list[str]:
    return [f"B-{tag[2:]}" if tag[:2] == "I-" and (before == "O" or before[2:] != tag[2:]) else tag for before, tag in _pairs(tags)]


def _problem(tags: Tags) -> tuple[int, str] | None:
    for word, (before, tag) in enumerate(_pairs(tags)):
        if not _TAG.fullmatch(tag):
            return word, f"tag {tag!r}: allowed are 'O', 'B-type' and 'I-type'"
        if tag[:2] == "I-" and (before == "O" or before[2:] != tag[2:]):
            return word, f"tag {tag!r} continues nothing, it follows {before!r}: an entity begins with 'B-{tag[2:]}'"
    return None


def _pairs(tags: Tags) -> Iterator[tuple[str, str]]:
    """Each tag with the one before it."""
    before = "O"
    for tag in tags:
        yield before, tag
        before = tag
