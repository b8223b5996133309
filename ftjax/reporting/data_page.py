"""The page of `ftjax data report`, and its tables for the terminal: what a data set holds, and what is wrong with it, with examples.

Like report.html it is complete in itself, follows light and dark, and escapes whatever came from the data.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ftjax.counting import counted, singular
from ftjax.reporting import figures, html, recommendation, text_figures, texts, wording
from ftjax.reporting.record import listing, mapping
from ftjax.reporting.suspects import SUSPECTED, SUSPECTS, row_of, suspicious

GROUPS = 24
"""Groups of copies that are shown of each kind; all are in findings.json."""
MEMBERS = 6
"""Rows of a group that are shown."""
CLASSES = 60
"""Classes whose samples are shown."""
LISTED = 200
"""Rejected rows that are listed."""
NAMED = 10
"""Rows that cannot be used and ignored files that the terminal names; the page lists more."""
SAME, DIFFERENT = False, True


def shown(report: Mapping[str, Any]) -> list[str]:
    """Ids of the rows that the page shows, each once."""
    names = [name for _, group in _groups(report) for name in group["ids"][:MEMBERS]]
    names += [name for _, some in list(report["samples"].items())[:CLASSES] for name in (some if report["kind"] == "images" else some[:2])]
    names += [row["id"] for kind in SUSPECTS for row in mapping(report.get(kind)).get("rows", ())[:GROUPS]]
    return list(dict.fromkeys(names))


def _groups(report: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """("exact" or "near", group) of all that are shown."""
    exact, near = report["duplicates"], report["near_duplicates"]
    seen = [*exact["across"], *(entry for entry in exact["conflicting"] if entry not in exact["across"])]
    inside = {name for entry in seen for name in entry["ids"]}
    seen += [{**entry, "splits": [entry["split"]] * len(entry["ids"])} for entry in exact["within"] if not inside & set(entry["ids"])]
    yield from (("exact", entry) for entry in seen[:GROUPS])
    yield from (("near", entry) for entry in listing(near.get("groups"))[:GROUPS])


Table = tuple[str, tuple[str, ...], Sequence[tuple[Any, ...]]]
"""Title, columns, rows."""


def tables(report: Mapping[str, Any]) -> list[Table]:
    """What the terminal shows."""
    if "interactions" in report:
        return list(recommendation.terminal(report))
    splits = report["splits"]
    found: list[Table] = [
        ("rows", ("split", "rows", "classes", "smallest class", "largest class"), [_split_row(name, split) for name, split in splits.items()])
    ]
    if 0 < len(report["classes"]) <= CLASSES and any(split["per_class"] for split in splits.values()):
        rows = [(name, *(split["per_class"].get(name, 0) for split in splits.values())) for name in report["classes"]]
        found.append(("classes", ("class", *splits), rows))
    facts = [*_facts(report), *_checks(report), *_probe(report)]
    return [*found, ("findings", ("what", "found"), facts), *_left_out(report)]


def _left_out(report: Mapping[str, Any]) -> list[Table]:
    """The first rows that cannot be used and files that were ignored, for the terminal."""
    found: list[Table] = []
    for what, entries in (("cannot be used", report["rejected"]), ("ignored", report["ignored"])):
        rows = [(wording.printable(entry.get("file", "")), wording.printable(entry.get("why", ""))) for entry in entries[:NAMED]]
        more = f" (the first {NAMED} of {wording.count(len(entries))})" if len(entries) > NAMED else ""
        found += [(what + more, ("row", "why"), rows)] if rows else []
    return found


def _split_row(name: str, split: Mapping[str, Any]) -> tuple[Any, ...]:
    counts = [count for count in split["per_class"].values() if count]
    return (name, split["rows"], len(counts), min(counts, default="–"), max(counts, default="–"))


def _split_cells(name: str, split: Mapping[str, Any]) -> dict[str, str]:
    cells = (wording.printable(cell) if isinstance(cell, str) else wording.count(cell) for cell in _split_row(name, split))
    return dict(zip(("name", "rows", "classes", "smallest", "largest"), cells, strict=True))


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Sizes, lengths, columns and encoding, in words."""
    facts: list[tuple[str, Any]] = []
    if sizes := mapping(report.get("sizes")):
        smallest, median, largest = (wording.shape(sizes[name]) for name in ("smallest", "median", "largest"))
        told = f"all {median}" if sizes["different"] == 1 else f"{smallest} to {largest}, median {median}; {wording.count(sizes['different'])} different"
        facts.append(("sizes (height × width)", told))
    for name, side in mapping(report.get("lengths")).items():
        for unit in ("characters", "words"):
            if unit in side:
                one = side[unit]
                said = f"median {wording.count(one['median'])}, 99 % have at most {wording.count(one['most'])}, longest {wording.count(one['longest'])}"
                facts.append((f"{unit} of {texts.ROLES.get(name, name)}", said))
    for role, entry in mapping(report.get("columns")).items():
        facts.append((f"column of the {texts.ROLES.get(role, role)}", f"{wording.value(entry.get('column'))} ({entry.get('origin')}: {entry.get('why')})"))
    facts += [(name, report.get(name)) for name in ("encoding", "format") if report.get(name)]
    if isinstance(report.get("delimiter"), str):
        facts.append(("delimiter", repr(report["delimiter"])))
    if report.get("unused_columns"):
        facts.append(("unused columns", ", ".join(report["unused_columns"])))
    facts += [(f"converted: {name}", count) for name, count in mapping(report.get("conversions")).items()]
    return [(name, wording.printable(value)) for name, value in facts]


def _checks(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong, counted."""
    exact, near = report["duplicates"], report["near_duplicates"]
    leaking = mapping(near.get("leaking"))
    counted = [
        ("rows that cannot be used", len(report["rejected"])),
        ("files ignored", len(report["ignored"])),
        ("sets of exact copies within a split", len(exact["within"])),
        ("sets of exact copies across splits", len(exact["across"])),
        ("sets of exact copies with different labels", len(exact["conflicting"])),
    ]
    if near.get("policy") != "off":
        counted += [
            ("groups of near duplicates", len(near["groups"])),
            ("groups of near duplicates across splits", near["across"]),
            ("groups of near duplicates with different labels", near["conflicting"]),
            *((f"rows of {split} nearly like one of train", count) for split, count in leaking.items() if split in report["splits"]),
        ]
        counted += [("pictures too small to compare", near["too_small"])] if near["too_small"] else []
    counted += [(what, len(report[kind]["rows"])) for kind, what in SUSPECTS.items() if kind in report]
    return [(name, wording.count(count)) for name, count in counted]


def _probe(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How good the judge of the labels is, for the terminal; the page says it above the rows."""
    probe = mapping(mapping(report.get("label_errors")).get("probe"))
    told = {"rows that the probe of labels gets right": "accuracy", "rows of the most frequent class": "majority"}
    return [(what, wording.percent(probe[name])) for what, name in told.items() if name in probe]


def page(report: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page; the same findings give the same bytes.

    Args:
      report: content of findings.json.
      seen: id -> what a person sees of the row, as test.json keeps examples.
    """
    values = {"exact": [], "near": []}
    for kind, group in _groups(report):
        values[kind].append(_group(group, report, seen))
    return html.fill("data_page.html.j2", **_content(report, seen), **values)


def _content(report: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    per_class = {name: split["per_class"] for name, split in report["splits"].items() if split["per_class"]}
    total = sum(split["rows"] for split in report["splits"].values())
    near = report["near_duplicates"]
    return {
        "title": f"Data in {wording.printable(PurePath(report['path']).name or report['path'])}",
        "path": wording.printable(report["path"]),
        "chips": [
            ("source", report["source"]),
            *_chips(report, total),
            *((split, wording.count(found["rows"])) for split, found in report["splits"].items()),
        ],
        "verdict": _verdict(report),
        "warnings": [wording.printable(line) for line in report["warnings"]],
        "facts_shown": [("source", f"{report['source']} ({report['why']})"), *_facts(report)],
        "checks": [(singular(name) if count == "1" else name, count) for name, count in _checks(report)],
        "splits": [_split_cells(name, split) for name, split in report["splits"].items()],
        "class_figure": figures.class_counts(per_class, report["classes"]),
        "size_figures": _size_figures(report),
        "legend": [(name, colour) for name, colour in figures.SPLITS.items() if name in report["splits"]],
        "of_text": report["kind"] == "texts",
        "samples": _sample_rows(report, seen),
        "classes_left": max(0, len(report["samples"]) - CLASSES),
        "exact_total": len({tuple(entry["ids"]) for key in ("across", "conflicting") for entry in report["duplicates"][key]}) + _only_within(report),
        "near_total": len(listing(near.get("groups"))),
        "near_policy": near.get("policy"),
        "threshold": near.get("threshold"),
        "suspects": [suspicious(kind, report, seen) for kind in SUSPECTS if mapping(report.get(kind)).get("rows")],
        "rejected": [(wording.printable(entry.get("file", "")), wording.printable(entry.get("why", ""))) for entry in report["rejected"][:LISTED]],
        "rejected_total": len(report["rejected"]),
        "ignored": [(wording.printable(entry.get("file", "")), wording.printable(entry.get("why", ""))) for entry in report["ignored"][:LISTED]],
        "log_found": recommendation.log(report),
        "sure": sum(entry["sure"] for entry in report["advice"]),
        "unsure": sum(not entry["sure"] for entry in report["advice"]),
        "seconds": wording.duration(report["seconds"]),
    }


def _chips(report: Mapping[str, Any], total: int) -> list[tuple[str, str]]:
    """How much there is: rows and classes, or the parts of a log."""
    log = mapping(report.get("interactions"))
    if log:
        return [(name, wording.count(log.get(name))) for name in ("users", "items", "events")]
    return [("rows", wording.count(total)), ("classes", wording.count(len(report["classes"])))]


def _only_within(report: Mapping[str, Any]) -> int:
    exact = report["duplicates"]
    inside = {name for key in ("across", "conflicting") for entry in exact[key] for name in entry["ids"]}
    return sum(not inside & set(entry["ids"]) for entry in exact["within"])


def _verdict(report: Mapping[str, Any]) -> str:
    """One sentence: whether a person has to do something before training."""
    if "interactions" in report:
        return _verdict_of_log(report)
    exact, leaking = report["duplicates"], mapping(report["near_duplicates"].get("leaking"))
    found = []
    if exact["across"] or any(leaking.values()):
        found.append("rows of one split are in another, or almost")
    if exact["conflicting"] or report["near_duplicates"].get("conflicting"):
        found.append("rows that are the same, or almost, have different labels")
    if report["rejected"]:
        found.append("some rows cannot be used")
    suspects = [counted(len(report[kind]["rows"]), what) for kind, what in SUSPECTED.items() if mapping(report.get(kind)).get("rows")]
    good = "every row can be used, and nothing in one split was found again in another"
    if not found and not suspects:
        return f"{good[0].upper()}{good[1:]}."
    told = "; ".join([*(found or [good]), *suspects])
    return f"{told[0].upper()}{told[1:]}. The examples are below."


def _verdict_of_log(report: Mapping[str, Any]) -> str:
    """One sentence: how much there is to learn from, and what cannot be found."""
    found, test = report["interactions"], report["splits"]["test"]
    told = f"{counted(found['users'], 'users')}, {counted(found['items'], 'items')} and {counted(found['events'], 'events')}"
    cold = f"{wording.percent(test['cold_share'], 0)} of the test users wait for a cold item"
    return f"{told}; {cold}."


def _size_figures(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Histograms of sizes or lengths."""
    found = []
    if (drawn := mapping(mapping(report.get("sizes")).get("histogram"))) and report["sizes"]["different"] > 1:
        found.append(("Shorter side of the pictures in pixels", text_figures.lengths(drawn["edges"], drawn["counts"], (), None, "pixels")))
    for name, side in mapping(report.get("lengths")).items():
        if drawn := mapping(side.get("histogram")):
            what = {"text": "texts", "text_pair": "second texts"}.get(name, name)
            found.append((f"Lengths of the {what} in {drawn['unit']}", text_figures.lengths(drawn["edges"], drawn["counts"], (), None, drawn["unit"])))
    return found


def _sample_rows(report: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for name, ids in list(report["samples"].items())[:CLASSES]:
        found = [row_of(one, seen) for one in ids if one in seen]
        if found:
            rows.append({"name": wording.printable(name), "rows": found})
    return rows


def _group(group: Mapping[str, Any], report: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What is shown of a group: its rows, those after the first with the words marked that differ from it."""
    labels = group.get("labels") or [""] * len(group["ids"])
    rows = []
    for name, split, label in list(zip(group["ids"], group["splits"], labels, strict=True))[:MEMBERS]:
        rows.append({**row_of(name, seen), "split": split, "label": wording.printable(label)})
    first = rows[0]["parts"] if rows else []
    for number, row in enumerate(rows):
        other = rows[1]["parts"] if number == 0 and len(rows) > 1 else first
        row["parts"] = [marked(part, other[place] if place < len(other) else "") for place, part in enumerate(row["parts"])]
    similarity = group.get("similarity")
    told = "" if not similarity else wording.number(similarity[0], 3) if similarity[0] == similarity[1] else f"{similarity[0]:.3f} to {similarity[1]:.3f}"
    return {
        "rows": rows,
        "more": max(0, len(group["ids"]) - MEMBERS),
        "across": len(set(group["splits"])) > 1,
        "conflicting": len(set(labels)) > 1,
        "similarity": told,
    }


def marked(text: str, other: str) -> list[tuple[str, bool]]:
    """`text` as pieces (words, whether they differ from what `other` has in their place)."""
    mine, theirs = text.split(), other.split()
    pieces: list[tuple[str, bool]] = []
    for tag, begin, end, _, _ in difflib.SequenceMatcher(None, mine, theirs, autojunk=False).get_opcodes():
        if end > begin:
            pieces.append((" ".join(mine[begin:end]), SAME if tag == "equal" else DIFFERENT))
    return pieces
