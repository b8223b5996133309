"""Suspicious rows as the pages show them: labels that are probably wrong, and rows far from all others, each with its picture or text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftjax.reporting import examples, texts, wording
from ftjax.reporting.record import listing, mapping

SHOWN = 24
"""Rows of a kind that are shown; all are in the report of the data."""
SUSPECTS = {"label_errors": "labels that are probably wrong", "outliers": "rows far from all others"}
"""What only a pretrained body finds."""
SUSPECTED = {"label_errors": "labels are probably wrong", "outliers": "rows are far from all others"}
"""The same as a clause."""


def suspects_of(found: Mapping[str, Any], pretrained: Any) -> list[dict[str, Any]]:
    """The same of a run's data.json, whose rows bring their examples."""
    told = {**found, "pretrained": pretrained}
    kinds = [kind for kind in SUSPECTS if mapping(found.get(kind)).get("rows")]
    return [suspicious(kind, told, {str(entry["id"]): mapping(entry.get("example")) for entry in found[kind]["rows"][:SHOWN]}) for kind in kinds]


def suspicious(kind: str, report: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The most suspicious rows of a kind, how they were chosen, and for labels which class is given for which."""
    one = report[kind]
    if kind == "label_errors":
        how = f"a linear probe on the features of {report['pretrained']} judges rows that it was not fitted on, and is right for {judge_of(one['probe'])}"
        notes = [f"{entry['label']} → {entry['suggested']}" for entry in one["rows"]]
    else:
        beyond = (
            f"above {one['threshold']:.3g} ({one['deviations']:g} robust deviations of the log) here"
            if one["threshold"] is not None
            else "and the same for half of the rows, so none is called far"
        )
        how = (
            f"mean distance to the {one['neighbours']} nearest rows in the features of {report['pretrained']}: {one['median']:.3g} for the median row, {beyond}"
        )
        notes = [f"{entry['label']}, distance {entry['distance']:.3g}" for entry in one["rows"]]
    rows = [{**row_of(entry["id"], seen), "note": wording.printable(note)} for entry, note in list(zip(one["rows"], notes))[:SHOWN]]
    noise = [f"{entry['given']} where it is {entry['truly']}: about {entry['rows']:.0f} rows ({entry['share']:.1%})" for entry in listing(one.get("noise"))]
    shown = {"kind": kind, "title": SUSPECTS[kind], "how": wording.printable(how), "noise": [wording.printable(line) for line in noise]}
    return {**shown, "total": len(one["rows"]), "rows": rows}


def judge_of(probe: Mapping[str, Any]) -> str:
    """How often the probe that judges labels is right, beside an answer that looks at nothing."""
    known = wording.is_number(probe.get("majority"))
    beside = f" (the most frequent class alone: {probe['majority']:.1%})" if known else ""
    return f"{probe['accuracy']:.1%} of them{beside}"


def row_of(name: str, seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is shown of a row: its id, its picture if it has one, its texts."""
    item = mapping(seen.get(name))
    image = item.get("image")
    parts = [found["text"] for key in ("text", "text_pair") if (found := texts.excerpt(item, key))]
    return {"id": wording.printable(name), "image": image if isinstance(image, str) and examples.IMAGE.fullmatch(image) else None, "parts": parts}
