"""What a page says of a run that recommends: curves over the length of the list, popularity, users with what was recommended to them; and of its log.

Every function takes what a run directory may hold and gives plain values; the templates lay them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ftjax.reporting import ranking_figures, texts, wording
from ftjax.reporting.record import Run, listing, mapping

_SHOWN_HISTORY = 10
ROLES = {"user": "user", "item": "item", "time": "time", "rating": "rating"}


def outcome(run: Run) -> dict[str, Any]:
    """Figures, the table of all metrics beside the baselines, and users."""
    found = mapping(run.test.get("recommendation"))
    k = found.get("k") if isinstance(found.get("k"), int) else 10
    figures = [
        ("Hit rate", "hr", "How often the next item is among the first items of the list."),
        ("NDCG", "ndcg", "The same, counting for more the higher it stands."),
    ]
    shown = [
        {"title": f"{title} by the length of the list", "svg": drawn, "caption": caption}
        for title, name, caption in figures
        if (drawn := ranking_figures.curves(_lines(run, found, name), f"{title} by the length of the list"))
    ]
    bins = [mapping(entry) for entry in listing(found.get("popularity"))]
    popular = ranking_figures.by_popularity([entry for entry in bins if {"from", "to", "users", "hit_rate"} <= set(entry)], int(k or 10))
    if popular:
        caption = "Popular items are found more easily. Grey and far from blue: many users' next items are of a kind that is hardly found."
        shown.append({"title": "Popularity against hit rate", "svg": popular, "caption": caption})
    return {"title": "What was found, and for whom", "figures": shown, "tables": _table(run), "shown": _users(run)}


def _lines(run: Run, found: Mapping[str, Any], name: str) -> dict[str, list[tuple[float, float]]]:
    """This run's curve at every length, and the baselines' at those that were measured."""
    drawn = mapping(found.get("curves"))
    mine = [(float(k), float(value)) for k, value in zip(listing(drawn.get("k")), listing(drawn.get(name))) if wording.is_finite(value)]
    lines = {"This run": mine}
    for key, baseline in mapping(run.result.get("baselines")).items():
        lines[wording.baseline(key, run.task)] = _measured(mapping(baseline), name)
    return lines


def _measured(metrics: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    points = []
    for metric, entry in metrics.items():
        at = re.fullmatch(rf"{name}_at_(\d+)(_sampled_\d+)?", str(metric))
        value = wording.entry(entry)["value"]
        if at is not None and value is not None:
            points.append((float(at[1]), value))
        elif name == "ndcg" and value is not None and re.fullmatch(r"hr_at_1(_sampled_\d+)?", str(metric)):
            points.append((1.0, value))  # of one item NDCG is the hit rate, and is not said twice
    return sorted(dict(points).items())


def _table(run: Run) -> list[dict[str, Any]]:
    """Every metric of this run, with those of the baselines beside it."""
    test = mapping(mapping(run.result.get("splits")).get("test"))
    others = {wording.baseline(name, run.task): mapping(found) for name, found in mapping(run.result.get("baselines")).items()}
    rows = []
    for name in test:
        values = [test.get(name), *(found.get(name) for found in others.values())]
        rows.append([(wording.title(name), name), *((wording.with_interval(name, value), wording.entry(value)["value"] or -1) for value in values)])
    note = "ranked among a sample only: far above what all items would give" if any("_sampled_" in name for name in test) else "ranked among all items"
    return [{"title": "This run beside its baselines", "note": note, "columns": ["Metric", "This run", *others], "rows": rows}] if rows else []


def _users(run: Run) -> list[dict[str, Any]]:
    items = [_user(mapping(item)) for item in listing(run.test.get("errors"))]
    note = "from those for whom it went best to those for whom it went worst"
    return [{"title": "Users and what was recommended", "note": note, "kind": "histories", "examples": items}] if items else []


def _user(item: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a user: the newest items, the one that came next, and the list, in which that one is marked."""
    target = texts.readable(item.get("label") or item.get("target") or "")
    history = [texts.readable(name) for name in listing(item.get("history"))][-_SHOWN_HISTORY:]
    known, rank = item.get("known"), item.get("rank")
    return {
        "id": wording.printable(item.get("id", "")),
        "history": history,
        "earlier": known - len(history) if isinstance(known, int) and known > len(history) else 0,
        "target": target,
        "rank": wording.count(rank) if wording.is_finite(rank) else "–",
        "events": wording.count(item.get("target_events")) if wording.is_finite(item.get("target_events")) else "",
        "list": [(name, name == target) for name in map(texts.readable, listing(item.get("recommended")))],
    }


def log(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a page says of the log behind a run; empty where the data are no log."""
    found = mapping(data.get("interactions"))
    if not found:
        return {}
    popularity = mapping(found.get("popularity"))
    return {
        "columns": [
            (
                ROLES.get(str(role), wording.printable(role)),
                texts.readable(mapping(entry).get("column", "")),
                f"{mapping(entry).get('origin')}: {mapping(entry).get('why')}",
            )
            for role, entry in mapping(data.get("columns")).items()
        ],
        "facts": facts(data),
        "spread": [
            _spread(title, mapping(found.get(name))) for title, name in (("Events per user", "events_per_user"), ("Events per item", "events_per_item"))
        ],
        "splits": [_split(str(name), mapping(split)) for name, split in mapping(data.get("splits")).items()],
        "removed": [_removed(mapping(entry)) for entry in listing(found.get("removed"))],
        "figure": ranking_figures.concentration(listing(popularity.get("curve"))),
    }


def facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Single values of a log, in words."""
    found, split = mapping(data.get("interactions")), mapping(mapping(data.get("interactions")).get("split"))
    popularity, items = mapping(found.get("popularity")), mapping(data.get("items"))
    way = {"last": "each user's last event tests, the one before validates"}.get(str(split.get("way")))
    way = way or f"from {split.get('validation_from')} validates, from {split.get('test_from')} tests"
    told = [
        ("Users", wording.count(found.get("users"))),
        ("Items", wording.count(found.get("items"))),
        ("Events", wording.count(found.get("events"))),
        ("Sparsity", wording.percent(found.get("sparsity"), 2)),
        ("Time", f"{found.get('from')} to {found.get('to')} ({found.get('time_unit')})" if found.get("from") else "in the order of the lines"),
        ("Split", way),
        (
            "Popularity",
            f"Gini {wording.number(popularity.get('gini'))}; the top tenth of the items has {wording.percent(popularity.get('top_tenth'))} of the events",
        ),
        ("Ties in time", f"{wording.count(mapping(found.get('ties')).get('events'))} events"),
        ("Texts of items", f"{', '.join(map(str, listing(items.get('text'))))} of {items.get('where')}" if items else ""),
    ]
    return [(name, wording.printable(value)) for name, value in told if value]


def _spread(title: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"title": title, "values": [(name, wording.number(value)) for name, value in found.items()]}


def _split(name: str, split: Mapping[str, Any]) -> dict[str, str]:
    """How long histories are, how many are cut, and how many targets are cold."""
    rows = split.get("rows")

    def share(key: str) -> str:
        value = split.get(key)
        if not wording.is_finite(value) or not rows:
            return "–"
        return f"{wording.count(value)} ({wording.percent(value / rows)})"

    median = mapping(split.get("known")).get("50%")
    return {"name": name, "rows": wording.count(rows), "known": wording.number(median), "cut": share("cut"), "cold": share("cold"), "unseen": share("unseen")}


def _removed(entry: Mapping[str, Any]) -> tuple[str, str]:
    owners = [f"{wording.count(entry[name])} {name}" for name in ("users", "items") if wording.is_finite(entry.get(name))]
    return wording.printable(entry.get("policy", "")), ", ".join([*owners, f"{wording.count(entry.get('events'))} events"])


def terminal(data: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    """(title, columns, rows) of a log for the terminal."""
    found = log(data)
    splits = [tuple(split[key] for key in ("name", "rows", "known", "cut", "cold", "unseen")) for split in found["splits"]]
    tables: list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]] = [
        ("rows", ("split", "users", "known events (median)", "longer than max_length", "cold target", "target unseen in training"), splits),
        ("log", ("what", "found"), [*((f"column of the {role}", f"{column} ({why})") for role, column, why in found["columns"]), *found["facts"]]),
        (
            "spread",
            ("what", *(name for name, _ in found["spread"][0]["values"])),
            [(entry["title"], *(value for _, value in entry["values"])) for entry in found["spread"]],
        ),
    ]
    return [*tables, ("left out", ("by", "what"), [*found["removed"]])] if found["removed"] else tables
