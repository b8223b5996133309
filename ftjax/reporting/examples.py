"""Examples of the test set as the page shows them: thumbnails of pictures, cards of texts, sentences with their entities marked, questions with answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.reporting import figures, spans, texts, wording
from ftjax.reporting.record import listing, mapping

IMAGE = re.compile(r"data:image/(?:jpeg|png|webp);base64,[A-Za-z0-9+/]+=*")
"""The only images the page shows: bytes inside the page, never an address."""
MOST_WORDS = 120
"""Of a sentence whose words are marked."""
AROUND = 180
"""Letters of a context on either side of the expected answer."""
NAMES = {"text": "text", "text_pair": "second text", "question": "question", "context": "context", "retrieved": "found instead"}
"""The texts of an example, in the order they are shown."""


def class_name(value: Any, classes: Sequence[str]) -> str:
    """A label given as a row of `classes`, as its name, or as several names."""
    if isinstance(value, list):
        return ", ".join(class_name(item, classes) for item in value) or "none"
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(classes):
        return classes[value]
    return "none" if value is None else wording.printable(value)


def thumbnails(items: Any, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What is shown of each picture; an image that is not an embedded one is left out."""
    shown = []
    for item in (mapping(item) for item in listing(items)):
        image = item.get("image")
        label, prediction = class_name(item.get("label"), classes), class_name(item.get("prediction"), classes)
        shown.append(
            {
                "image": image if isinstance(image, str) and IMAGE.fullmatch(image) else None,
                "label": figures.short(label),
                "prediction": figures.short(prediction),
                "said": f"{item.get('id', '')}: {prediction}, true: {label}",
                "right": label == prediction,
                "confidence": wording.percent(item.get("confidence"), 0),
                "id": wording.printable(item.get("id", "")),
            }
        )
    return shown


def partners(items: Any) -> list[dict[str, Any]]:
    """What is shown of each text whose partner was not the nearest: where it stands, and what was found instead."""
    found = []
    for item, card in zip(listing(items), cards(items), strict=True):
        similarity = mapping(item).get("confidence")
        near = f"cosine of the nearest {wording.number(similarity)}" if wording.is_number(similarity) else ""
        found.append(card | {"prediction": card["note"] or card["prediction"], "label": "", "confidence": near, "note": ""})
    return found


def cards(items: Any, classes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What is shown of each text: prediction, truth, confidence, and its one or two texts side by side."""
    return [_card(item, classes) for item in (mapping(item) for item in listing(items))]


def _card(item: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """A card. Values without a class are numbers, and are never just right or wrong."""
    numeric = wording.is_number(item.get("label")) and not classes
    label, prediction = (wording.number(item.get(key)) if numeric else class_name(item.get(key), classes) for key in ("label", "prediction"))
    off = f"off by {wording.number(item['prediction'] - item['label'])}" if numeric and wording.is_number(item.get("prediction")) else ""
    parts = [{"name": NAMES[name], **found} for name in NAMES if (found := texts.excerpt(item, name))]
    return {
        "prediction": prediction,
        "label": label,
        "right": not numeric and label == prediction,
        "wrong": not numeric and label != prediction,
        "confidence": wording.percent(item.get("confidence"), 0) if wording.is_number(item.get("confidence")) else "",
        "note": wording.printable(item.get("note") or off),
        "id": wording.printable(item.get("id", "")),
        "parts": parts,
    }


def sentences(items: Any) -> list[dict[str, Any]]:
    """Sentences with their spans marked, each judged."""
    shown = []
    for item in (mapping(item) for item in listing(items)):
        words = [texts.readable(word) for word in listing(item.get("words"))]
        label, prediction = ([str(tag) for tag in listing(item.get(key))] for key in ("label", "prediction"))
        kept = words[:MOST_WORDS]
        total = max(len(words), item["words_total"] if isinstance(item.get("words_total"), int) else 0)
        cut = f"shortened, {wording.count(total)} words in all" if total > len(kept) else ""
        shown.append({"pieces": spans.marked(kept, label, prediction), "cut": cut, "id": wording.printable(item.get("id", ""))})
    return shown


def answers(items: Any) -> list[dict[str, Any]]:
    """Questions with the answer given, those expected, and the text around them."""
    shown = []
    for item in (mapping(item) for item in listing(items)):
        expected = [texts.cut(texts.readable(answer), texts.LETTERS) for answer in listing(item.get("label"))]
        given = item.get("prediction")
        shown.append(
            {
                "question": texts.excerpt(item, "question") or {"text": "", "cut": ""},
                "given": texts.cut(texts.readable(given), texts.LETTERS) if given else "",
                "expected": list(dict.fromkeys(expected)),
                "confidence": wording.percent(item["confidence"], 0) if wording.is_number(item.get("confidence")) else "",
                "context": around(item.get("context"), listing(item.get("label"))),
                "id": wording.printable(item.get("id", "")),
            }
        )
    return shown


def around(context: Any, expected: Sequence[Any]) -> list[tuple[str, bool]]:
    """The part of a context where an expected answer stands, as pieces (text, whether it is that answer); its beginning where none of them stands in it."""
    if not isinstance(context, str):
        return []
    answer = next((answer for answer in expected if isinstance(answer, str) and answer and answer in context), "")
    start = context.find(answer) if answer else 0
    first, last = max(0, start - AROUND), start + len(answer) + (AROUND if answer else 2 * AROUND)
    before, after = ("… " if first > 0 else ""), (" …" if last < len(context) else "")
    pieces = [(before + context[first:start], False), (answer, True), (context[start + len(answer) : last] + after, False)]
    return [(texts.readable(text), marked) for text, marked in pieces if text]
