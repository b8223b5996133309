"""The tables of report.html: the data, the coefficients, the loaded weights and the resolved configuration.

Values in, rows of text out; the template only lays them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftjax.reporting import figures, recommendation, suspects, texts, wording
from ftjax.reporting.mistakes import class_counts, class_names
from ftjax.reporting.record import Run, listing, mapping

MOST_LISTED = 200
OUTSIDE = "O"
CLASSES = {"multi_label": "label", "token_classification": "tag"}
"""What the classes of a task are, where they are no classes of its examples."""
COPIES = {"within": "within a split", "across": "across splits", "conflicting": "with different labels"}
ORIGINS = ("flag", "file", "recipe", "default")
"""From the most to the least deliberate."""


def describe(item: Any) -> str:
    """A rejected file, a set of duplicates or a sampling choice as one line."""
    if isinstance(item, Mapping):
        return ", ".join(f"{key}: {describe(value)}" for key, value in item.items())
    if isinstance(item, list):
        return " = ".join(describe(value) for value in item)
    return wording.printable(wording.value(item))


def data(run: Run) -> dict[str, Any]:
    """Splits, classes, rejected files, duplicates and sampling."""
    found = run.data
    splits = {str(name): mapping(split) for name, split in mapping(found.get("splits")).items()}
    classes = class_names(run)
    duplicates = mapping(found.get("duplicates"))
    rejected = [(describe(mapping(item).get("file", "")), describe(mapping(item).get("why", ""))) for item in listing(found.get("rejected"))]
    per_class = {name: class_counts(split) for name, split in splits.items()}
    if run.task == "token_classification":
        # Outside of every entity is where nine words of ten are: its bar would leave none of the others any height.
        classes = [name for name in classes if name != OUTSIDE]
        per_class = {split: {name: times for name, times in counts.items() if name != OUTSIDE} for split, counts in per_class.items()}
    return {
        "splits": [
            {"name": name, "rows": wording.count(split.get("rows")), "origin": describe(split.get("origin") or ""), **_range(per_class[name])}
            for name, split in splits.items()
        ],
        "figure": figures.class_counts(per_class, classes),
        "legend": [(name, colour) for name, colour in figures.SPLITS.items() if per_class.get(name)],
        "classes": len(classes),
        "rejected": rejected[:MOST_LISTED],
        "rejected_total": len(rejected),
        "duplicates": [
            (text, len(items), [describe(item) for item in items[:20]]) for kind, text in COPIES.items() if (items := listing(duplicates.get(kind)))
        ],
        "near": _near(mapping(found.get("near_duplicates"))),
        "suspects": suspects.suspects_of(found, mapping(run.settings.get("model")).get("pretrained")),
        "ignored": [describe(item) for item in listing(found.get("ignored"))][:MOST_LISTED],
        "facts": _data_facts(found),
        "text": texts.tokens(run) if run.of_text else {},
        "log": recommendation.log(found),
        "class": CLASSES.get(run.task, "class"),
        "thing": "event" if found.get("interactions") else "row" if run.of_text else "file",
        "reason": run.notes.get("data.json", ""),
    }


def _near(found: Mapping[str, Any]) -> dict[str, Any]:
    """Groups that are almost the same, those across splits first; empty where nobody looked for them."""
    groups = [mapping(group) for group in listing(found.get("groups"))]
    if "groups" not in found:
        return {}
    shown = [
        f"{', '.join(map(str, listing(group.get('ids'))[:8]))} ({', '.join(dict.fromkeys(map(str, listing(group.get('splits')))))})" for group in groups[:20]
    ]
    counts = {name: sum(bool(group.get(name)) for group in groups) for name in ("across", "conflicting")}
    return {"total": len(groups), "shown": [describe(text) for text in shown], **counts}


def _range(per_class: Mapping[str, Any]) -> dict[str, str]:
    """Rows of the smallest and the largest class of a split."""
    counts = [value for value in per_class.values() if wording.is_finite(value)]
    return {"smallest": wording.count(min(counts)), "largest": wording.count(max(counts))} if counts else {"smallest": "–", "largest": "–"}


def _data_facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the report of the data says in single values."""
    ratio = found.get("imbalance_ratio")
    duplicates = mapping(found.get("duplicates"))
    dropped = (
        f"{duplicates.get('policy', 'report')}: {wording.count(len(listing(duplicates.get('dropped'))))} rows dropped"
        if "dropped" in duplicates and not found.get("interactions")
        else None
    )
    facts = [
        ("Source", found.get("source")),
        ("Encoding", found.get("encoding")),
        ("Delimiter", repr(found["delimiter"]) if isinstance(found.get("delimiter"), str) else None),
        ("Image size", wording.shape(found.get("image_size")) if found.get("image_size") else None),
        ("Split", _split(mapping(found.get("split")))),
        ("Sampling", _sampling(mapping(found.get("sampling")))),
        ("Mixture", "; ".join(_drawn(mapping(entry)) for entry in listing(mapping(found.get("mixture")).get("sets")))),
        ("Imbalance", f"the largest training class has {ratio:.2g} times the rows of the smallest" if wording.is_finite(ratio) else None),
        ("Conversions", found.get("conversions")),
        ("Copies", dropped),
        ("Fingerprint", found.get("fingerprint")),
    ]
    return [(label, describe(value)) for label, value in facts if value not in (None, {}, [], "")]


def _split(split: Mapping[str, Any]) -> dict[str, Any]:
    """How rows were split, with the number of groups that are torn."""
    torn = mapping(split.get("torn"))
    found = {**split, "torn": f"{len(torn)} groups" if torn else None}
    return {name: value for name, value in found.items() if value not in (None, {}, [])}


def _sampling(sampling: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was asked for and how many rows stayed; the shares of many classes are for data.json."""
    asked = any(sampling.get(name) is not None for name in ("labels_per_class", "fraction", "max_per_class", "drawn", "curriculum"))
    return {name: value for name, value in sampling.items() if name != "shares" and value not in (None, {}, [])} if asked else None


def _drawn(entry: Mapping[str, Any]) -> str:
    """A data set of a mixture: how much of the rows it is, and of what is drawn."""
    before, drawn = (f"{share:.1%}" if wording.is_finite(share := entry.get(name)) else "?" for name in ("share_before", "share_drawn"))
    return f"{wording.printable(str(entry.get('name')))} ({before} of the rows, {drawn} of the draws)"


def coefficients(run: Run) -> dict[str, Any]:
    """One row per parameter, and one per group."""
    rows = [mapping(row) for row in listing(run.coefficients.get("rows"))]
    leaves = [_leaf(row) for row in rows]
    groups: dict[str, dict[str, Any]] = {str(group): {"parameters": 0, "live": 0, "leaves": []} for group in listing(run.coefficients.get("groups"))}
    for row in rows:
        group = groups.setdefault(str(row.get("group")), {"parameters": 0, "live": 0, "leaves": []})
        size = row.get("parameters") if wording.is_finite(row.get("parameters")) else 0
        group["parameters"] += size
        group["live"] += size if row.get("live") else 0
        group["leaves"].append(row)
    summary = [{"name": name, **_group(group)} for name, group in groups.items() if group["leaves"]]
    parameters = mapping(run.coefficients.get("parameters"))
    return {
        "groups": summary,
        "rows": leaves,
        "parameters": {name: wording.count(value) for name, value in parameters.items()},
        "anchors": anchors(run.settings),
        "reason": run.notes.get("coefficients.json", ""),
    }


def anchors(settings: Mapping[str, Any]) -> list[str]:
    """What holds the parameters to their pretrained values, each with its strength; empty where nothing does."""
    found = mapping(settings.get("anchor"))
    unit, norm = found.get("ball_unit", "relative"), found.get("ball_norm", "l2")
    told = {
        "pull": "pull {} (L2-SP)",
        "ball": f"ball of radius {{}}{' × |θ₀|' if unit == 'relative' else ''} ({norm} norm)",
        "select": "selection {} (SPD)",
        "mixout": "mixout {}",
    }
    return [text.format(wording.setting(found[name])) for name, text in told.items() if wording.is_finite(found.get(name)) and found[name] != 0]


def _leaf(row: Mapping[str, Any]) -> dict[str, Any]:
    moments = mapping(row.get("coefficient"))
    return {
        "path": str(row.get("path", "")),
        "shape": wording.shape(row.get("shape")),
        "group": str(row.get("group", "")),
        "live": bool(row.get("live")),
        "moments": [wording.setting(moments.get(moment)) for moment in ("0%", "50%", "100%")],
        "weight_decay": wording.setting(row.get("weight_decay")),
        "anchor": wording.setting(row.get("anchor")),
    }


def _span(values: list[Any]) -> str:
    """`"0.1"`, or `"0.1 – 0.3"` where a group's parameters differ."""
    finite = [value for value in values if wording.is_finite(value)]
    if not finite:
        return "–"
    low, high = wording.setting(min(finite)), wording.setting(max(finite))
    return low if low == high else f"{low} – {high}"


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    leaves = group["leaves"]
    return {
        "parameters": wording.count(group["parameters"]),
        "live": "all" if group["live"] == group["parameters"] else wording.count(group["live"]) if group["live"] else "frozen",
        "moments": [_span([mapping(row.get("coefficient")).get(moment) for row in leaves]) for moment in ("0%", "50%", "100%")],
        "weight_decay": _span([row.get("weight_decay") for row in leaves]),
        "anchor": _span([row.get("anchor") for row in leaves]),
    }


def load(run: Run) -> dict[str, Any]:
    """What became of every weight of the model and of the file."""
    rows = [
        {
            "target": str(row.get("target", "")),
            "shape": wording.shape(row.get("shape")),
            "source": wording.printable(row.get("source") or "–"),
            "source_shape": wording.shape(row.get("source_shape")),
            "action": str(row.get("action", "")),
            "why": wording.printable(row.get("why") or ""),
        }
        for row in (mapping(row) for row in listing(run.load.get("rows")))
    ]
    facts = [("Source", run.load.get("source")), ("Format", run.load.get("format")), ("SHA-256", run.load.get("sha256"))]
    return {
        "rows": rows,
        "unusual": [row for row in rows if row["action"] not in ("loaded", "converted")],
        "ignored": [
            (wording.printable(mapping(item).get("source", "")), wording.printable(mapping(item).get("why", ""))) for item in listing(run.load.get("ignored"))
        ],
        "summary": [(str(name), wording.count(value)) for name, value in mapping(run.load.get("summary")).items()],
        "facts": [(label, wording.printable(value)) for label, value in facts if value],
        "reason": run.notes.get("load.json", ""),
    }


def flat_settings(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`("optimizer.learning_rate", 3e-4)` and so on, in the order of the schema."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flat_settings(value, f"{name}.")
        else:
            yield name, value


def settings(run: Run) -> dict[str, Any]:
    """Every setting with its origin; those someone or something chose come apart from the defaults."""
    origins = mapping(run.config.get("origins"))
    rows = []
    for name, value in flat_settings(run.settings):
        origin = mapping(origins.get(name))
        rows.append(
            {
                "name": name,
                "value": wording.printable(wording.value(value)),
                "origin": str(origin["origin"]) if origin.get("origin") else ORIGINS[-1],
                "why": wording.printable(origin.get("why") or ""),
            }
        )
    rank = {origin: place for place, origin in enumerate(ORIGINS)}
    chosen = sorted((row for row in rows if row["origin"] != "default"), key=lambda row: rank.get(row["origin"], len(ORIGINS)))
    return {"rows": rows, "chosen": chosen, "reason": run.notes.get("config.json", "")}
