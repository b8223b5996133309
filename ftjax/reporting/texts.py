"""Texts as a page may show them: what cannot be seen made visible, long ones shortened with the cut said, columns named as they were bound.

A text is other people's: it may hold markup, control characters, a script that runs from right to left, or a hundred thousand letters. Escaping is the
template's; here its letters are made harmless and few.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from ftjax.reporting import figures, text_figures, wording
from ftjax.reporting.record import Run, listing, mapping

LETTERS = 420
"""Of a text that is shown; about six lines of a card."""
JOINERS = "\u200c\u200d"
"""Invisible, but part of the spelling of Persian and of emoji."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode categories that nobody can see, or that turn the direction of what follows."""
ROLES = {"text": "text", "text_pair": "second text", "label": "label"}


def _shown(letter: str) -> str:
    if letter in "\n\t" or letter in JOINERS or unicodedata.category(letter) not in HIDDEN:
        return letter
    return repr(letter)[1:-1]


def readable(text: object) -> str:
    """`text` with what cannot be seen written out: `"a\\x00b"` -> `"a\\\\x00b"`; line breaks, tabs and all spaces stay."""
    return "".join(_shown(letter) for letter in str(text).replace("\r\n", "\n"))


def cut(text: str, most: int) -> str:
    """The first `most` letters, or a few less: no accent, joiner or half of a word of at most twenty letters is cut off."""
    if len(text) <= most:
        return text
    end = most
    while end > 0 and (unicodedata.combining(text[end]) or text[end] in JOINERS or text[end - 1] in JOINERS):
        end -= 1
    space = max(text.rfind(letter, max(0, end - 20), end) for letter in " \n")
    return text[: space if space > 0 else end].rstrip()


def excerpt(item: Mapping[str, Any], name: str, most: int = LETTERS) -> dict[str, str] | None:
    """The text called `name` of an example as it is shown, and how much of it is not; None where there is none.

    Args:
      item: an example of test.json; `<name>_characters` there is the length of a text that the file holds shortened.
      name: "text", "text_pair", ...
      most: letters.
    """
    if not isinstance(item.get(name), str):
        return None
    whole = item[name]
    stated = item.get(f"{name}_characters")
    total = max(len(whole), stated if isinstance(stated, int) else 0)
    # What is written out takes more room than a letter: a text of NUL bytes is shortened by what is shown.
    kept = cut(readable(cut(whole, most)), most)
    shortened = total > len(whole) or len(whole) > most or len(kept) < len(readable(whole))
    return {"text": kept, "cut": f"shortened, {wording.count(total)} characters in all" if shortened else ""}


def bound(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(role, name of the column) of data.json, those that have a column."""
    return [(str(role), column_name(column)) for role, column in mapping(data.get("columns")).items() if column_name(column)]


def column_name(column: Any) -> str:
    """The name, or the names, of a bound column."""
    named = mapping(column).get("column") if isinstance(column, Mapping) else column
    return ", ".join(str(name) for name in named) if isinstance(named, list) else "" if named is None else str(named)


def max_length(run: Run) -> int | None:
    """Tokens at which longer texts are cut, as the data or the configuration say; None for pictures."""
    stated = mapping(run.data.get("tokens")).get("max_length") or mapping(run.settings.get("text")).get("max_length")
    return stated if run.of_text and isinstance(stated, int) else None


def tokens(run: Run) -> dict[str, Any]:
    """What data.json says of texts: columns, lengths, how many are cut, how much of them the tokenizer does not know."""
    found = mapping(run.data.get("tokens"))
    histogram, longest = mapping(found.get("histogram")), max_length(run)
    counts = {str(split): listing(rows) for split, rows in mapping(histogram.get("counts")).items()}
    buckets = [size for size in listing(found.get("buckets")) if wording.is_finite(size)]
    figure = text_figures.lengths(listing(histogram.get("edges")), counts, buckets, longest)
    caption = f"Dotted: the {len(buckets)} lengths that batches are padded to." if buckets else ""
    padding = found.get("padding_share")
    facts = [
        ("Cut at", f"{wording.count(longest)} tokens, special ones included" if longest else None),
        ("Padded to", ", ".join(wording.count(size) for size in buckets) or None),
        ("Padding", f"{wording.percent(padding)} of what is computed" if wording.is_number(padding) else None),
    ]
    return {
        "columns": _columns(run.data),
        "unused": [readable(name) for name in listing(run.data.get("unused_columns"))],
        "tokens": _splits(run.data, found),
        "ledger": _ledger(run.data),
        "figure": figure,
        "legend": [(split, colour) for split, colour in figures.SPLITS.items() if counts.get(split)],
        "caption": f"{caption} Red: where longer texts are cut.".strip() if 'class="cut"' in figure else caption,
        "facts": [(label, value) for label, value in facts if value],
    }


_LEDGER = {
    "rows": "Rows",
    "documents": "Documents",
    "sequences": "Sequences",
    "tokens": "Tokens",
    "supervised_tokens": "Learnt tokens",
    "truncated": "Cut documents",
    "supervised_tokens_lost": "Learnt tokens lost",
    "dropped": "Rows left out",
}


def _ledger(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a model that writes learns from; empty for other tasks."""
    found = mapping(data.get("ledger"))
    rows = [(str(split), [wording.count(mapping(line).get(key)) for key in _LEDGER]) for split, line in found.items()]
    return {"titles": list(_LEDGER.values()), "rows": rows} if rows else {}


def _columns(data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(role, column, how it was found)."""
    rows = []
    for role, column in mapping(data.get("columns")).items():
        how = mapping(column)
        told = " ".join(str(how[key]) for key in ("origin", "why") if how.get(key))
        rows.append((ROLES.get(str(role), wording.printable(role)), readable(column_name(column)) or "none", readable(told)))
    return rows


def _splits(data: Mapping[str, Any], found: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row per split that was cut into tokens."""
    cut, unknown = mapping(found.get("truncated")), mapping(found.get("unknown_share"))
    rows = []
    for split in dict.fromkeys([*cut, *unknown]):
        total, number = mapping(found.get("inputs")).get(split) or mapping(mapping(data.get("splits")).get(split)).get("rows"), cut.get(split)
        share = f" ({wording.percent(number / total)})" if wording.is_finite(number) and wording.is_finite(total) and total and number else ""
        rows.append(
            {
                "split": str(split),
                "median": wording.count(mapping(found.get("median")).get(split)),
                "longest": wording.count(mapping(found.get("longest")).get(split)),
                "truncated": f"{wording.count(number)}{share}",
                "unknown": wording.percent(unknown.get(split), 2),
            }
        )
    return rows
