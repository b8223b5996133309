"""Tags of words: `B-type` begins an entity, `I-type` continues it, `O` is outside (IOB2). Other schemes of entities are turned into it: IOB1, and those
that also mark last words and entities of one word (IOBES, BILOU, BMES). Tags without prefixes, such as parts of speech, are classes as they are.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

Tags = Sequence[str]
_MARKED = re.compile(r"[BIESLUM]-.+")
_TAG = re.compile(r"O|[BIESLUM]-.+")
_AS_IOB2 = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_CLOSING = ("O", "E", "S", "L", "U")


@dataclasses.dataclass(frozen=True)
class Scheme:
    """The tags of all sentences in one scheme.

    Attributes:
      tags: of each sentence, in IOB2 where they mark entities.
      problems: `{sentence: (word, why)}` of the sentences that are in no scheme.
      note: what was turned into what, for a person; None: nothing.
    """

    tags: list[list[str]]
    problems: Mapping[int, tuple[int, str]]
    note: str | None = None


def to_iob2(sentences: Sequence[Tags]) -> Scheme:
    """Tags in IOB2, or as they are where none has the prefix of an entity.

    In IOB1 entities begin with `I-`, and with `B-` only right after one of the same type. Sentences are taken for it when some `I-` begins an entity and no
    `B-` stands anywhere else. `S-`, `E-`, `U-`, `L-` or `M-` anywhere means IOBES, BILOU or BMES.
    """
    found = {tag for tags in sentences for tag in tags}
    if found - {"O"} and not any(_MARKED.fullmatch(tag) for tag in found):
        return Scheme([list(tags) for tags in sentences], {}, "tags have no prefixes (B-, I-): every word is a class by itself, and entities are not counted")
    if any(tag[:2] in ("E-", "S-", "L-", "U-", "M-") for tag in found):
        problems = _problems(sentences)
        return Scheme([[_rewritten(tag) for tag in tags] for tags in sentences], problems, "last or single words are marked (IOBES, BILOU); turned into IOB2")
    starts = [_starts(tags) for tags in sentences]
    first = any(inside for inside, _ in starts) and not any(begins for _, begins in starts)
    converted = [_begun(tags) if first else list(tags) for tags in sentences]
    note = "it is in IOB1 (entities begin with I-); it was turned into IOB2 (they begin with B-)" if first else None
    return Scheme(converted, _problems(converted), note)


def marks_entities(classes: Iterable[str]) -> bool:
    """Whether tags mark entities: "O" and prefixed ones."""
    return all(_TAG.fullmatch(name) for name in classes)


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


def _rewritten(tag: str) -> str:
    return f"{_AS_IOB2.get(tag[0], tag[0])}{tag[1:]}" if _MARKED.fullmatch(tag) else tag


def _problems(sentences: Sequence[Tags]) -> dict[int, tuple[int, str]]:
    return {number: found for number, tags in enumerate(sentences) if (found := _problem(tags)) is not None}


def _problem(tags: Tags) -> tuple[int, str] | None:
    for word, (before, tag) in enumerate(_pairs(tags)):
        if not _TAG.fullmatch(tag):
            return word, f"tag {tag!r}: allowed are 'O', 'B-type' and 'I-type' (or IOBES, BILOU)"
        if tag[0] in "IELM" and (before[0] in _CLOSING or before[2:] != tag[2:]):
            return word, f"tag {tag!r} continues nothing, it follows {before!r}: an entity begins with 'B-{tag[2:]}'"
    return None


def _pairs(tags: Tags) -> Iterator[tuple[str, str]]:
    """Each tag with the one before it."""
    before = "O"
    for tag in tags:
        yield before, tag
        before = tag
