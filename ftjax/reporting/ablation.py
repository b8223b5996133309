"""ablation.html: one self-contained page of an ablation, its charts drawn in the browser from the numbers inside it. Reads ablation.json and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ftjax.errors import CheckpointError
from ftjax.files import read_json, write_text
from ftjax.reporting import wording
from ftjax.reporting.html import fill

FILE = "ablation.html"
JSON = "ablation.json"

Cell = Mapping[str, Any]


def render_ablation(folder: Path) -> Path:
    """Write `ablation.html` beside `ablation.json`.

    Raises:
      CheckpointError: there is none.
    """
    source = folder / JSON
    if not source.exists():
        raise CheckpointError(f"{folder} holds no {JSON}; ftjax ablate writes it when everything is trained")
    path = folder / FILE
    write_text(path, page(read_json(source), folder.name) + "\n")
    return path


def page(found: Mapping[str, Any], name: str) -> str:
    """The whole page; the same results give the same bytes."""
    metric = found["metric"]["name"].replace("_", " ")
    lost = len(found["diverged"])
    return fill(
        "ablation.html.j2",
        ("report.js", "ablation.js"),
        title=f"Ablation of {len(found['chosen']) or len(found['arms'])} arm{'s' if len(found['arms']) != 1 else ''}",
        path=name,
        verdict=found["verdict"],
        metric=metric,
        chips=_chips(found),
        diverged=f"{lost} of {len(found['members'])} members diverged; they are in no mean" if lost else "",
        arms=_arms(found),
        comparisons=_comparisons(found),
        cells=_cells(found),
        how=_how(found),
        footer=f"{found['devices']}, {wording.duration(found['seconds'])}. " + ", ".join(f"{key} {value}" for key, value in found["versions"].items()),
        data=_embedded(chart_data(found)),
    )


def _embedded(value: Any) -> Markup:
    """JSON that can end no element and begin none."""
    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026"))


def chart_data(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the browser draws: arms, the settings that differ between cells, and each cell with its numbers and its mean curve."""
    keys = _keys(found)
    by_number = {one["member"]: one for one in found["members"]}
    made = []
    for index, cell in enumerate(found["cells"]):
        test = cell.get("test")
        line = {"index": index, "arm": cell["arm"], "name": _named(cell), "settings": [_setting(cell, key) for key in keys]}
        line |= {name: None if test is None else test[key] for name, key in (("test", "value"), ("low", "low"), ("high", "high"))}
        line |= {"distance": cell.get("distance"), "seconds": cell.get("seconds"), "chosen": found["chosen"].get(cell["arm"]) == cell["trial"]}
        made.append(line | {"curve": mean_curve([by_number[number] for number in cell["members"]], found["metric"]["name"]) if line["chosen"] else []})
    return {"metric": found["metric"]["name"].replace("_", " "), "arms": [arm["name"] for arm in found["arms"]], "keys": list(map(_short, keys)), "cells": made}


def mean_curve(members: Sequence[Mapping[str, Any]], metric: str) -> list[list[float]]:
    """`[step, mean, lowest, highest]` of a validation metric over the members that did not diverge, where all of them have a value."""
    curves = [{line["step"]: line[metric] for line in one["curve"] if line.get(metric) is not None} for one in members if one["status"] != "diverged"]
    common = set.intersection(*(set(curve) for curve in curves)) if curves else set()
    return [[step, sum(c[step] for c in curves) / len(curves), min(c[step] for c in curves), max(c[step] for c in curves)] for step in sorted(common)]


def _keys(found: Mapping[str, Any]) -> list[str]:
    """Settings that are not the same in all cells."""
    keys = dict.fromkeys(key for cell in found["cells"] for key in cell["settings"])
    return [key for key in keys if len({json.dumps(_setting(cell, key)) for cell in found["cells"]}) > 1]


def _setting(cell: Cell, key: str) -> Any:
    """A setting as a number where it stands for one: a multiple of the recipe's learning rate as the rate that it was."""
    value = cell["settings"].get(key)
    if key == "optimizer.learning_rate" and isinstance(value, str):
        return cell["learning_rate"]
    return value


def _named(cell: Cell) -> str:
    tuned = ", ".join(f"{_short(key)}={value}" for key, value in cell["tuned"].items())
    return f"{cell['arm']}, {tuned}" if tuned else cell["arm"]


def _short(key: str) -> str:
    return key if ":" in key else key.rpartition(".")[2]


def _chips(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    examples = ", ".join(f"{count:,} {name}" for name, count in found["examples"].items())
    chips = [("fine-tunings", str(len(found["members"]))), ("compiled programs", str(len(found["groups"]))), ("seeds", str(len(found["seeds"])))]
    return [*chips, ("metric", found["metric"]["name"]), ("examples", examples), ("data", found["data"]["source"])]


def _span(interval: Mapping[str, float] | None) -> tuple[str, Any]:
    if interval is None:
        return "–", -1
    return f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})", interval["value"]


def _arms(found: Mapping[str, Any]) -> dict[str, Any]:
    shifts = ["test shifted"] if found["shifts"] else []
    columns = [
        "arm",
        "chosen",
        "test, over seeds",
        "over seeds and examples",
        *shifts,
        "mean over trials",
        "worst trial",
        "distance",
        "live parameters",
        "s a member",
    ]
    rows = []
    for name, trial in found["chosen"].items():
        cell = next(cell for cell in found["cells"] if cell["arm"] == name and cell["trial"] == trial)
        over = found["insensitivity"].get(name, {})
        numbers = [(_number(over.get(key)), over.get(key, -1)) for key in ("mean", "worst")]
        row = [(name, name), (_named(cell).removeprefix(name).strip(", ") or "–", ""), _span(cell["test"]), _span(cell["test_over_both"])]
        row += [_span(cell["test shifted"])] if shifts else []
        row += [*numbers, (_number(cell["distance"]), cell["distance"]), (f"{cell['live_parameters']:,}", cell["live_parameters"])]
        rows.append([*row, (_number(cell["seconds"]), cell["seconds"])])
    for name, interval in found["untrained"].items():
        rows.append([(name, name), ("no training", ""), _span(interval), *[("–", -1)] * (len(columns) - 3)])
    return {"columns": columns, "rows": rows}


def _comparisons(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for one in found["comparisons"]:
        span = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        wins = f"{one['wins']} of {one['seeds']} seeds"
        rows.append(
            [(one["one"], ""), (span, one["difference"]), (f"{one['p']:.2g}", one["p"]), (f"{one['adjusted']:.2g}", one["adjusted"]), (wins, one["wins"])]
        )
    return {"reference": found["reference"], "columns": ["arm", "difference", "p", "p, Holm", "better on"], "rows": rows}


def _cells(found: Mapping[str, Any]) -> dict[str, Any]:
    keys = _keys(found)
    shifts = [f"test {name}" for name in found["shifts"]]
    numbers = ["validation", "test", "over examples", *shifts, "distance", "best step"]
    rows = []
    for cell in found["cells"]:
        settings = [(str("–" if (value := _setting(cell, key)) is None else value), value, isinstance(value, int | float)) for key in keys]
        spans = [(*_span(cell.get(name)), True) for name in ("validation", "test", "test_over_examples", *shifts)]
        others = [(_number(cell.get(name)), cell.get(name) if cell.get(name) is not None else -1, True) for name in ("distance", "best_step")]
        rows.append([(cell["arm"], "", False), *settings, *spans, *others, (cell["status"], "", False)])
    return {"columns": ["arm", *map(_short, keys), *numbers, "status"], "numbers": numbers, "rows": rows}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _how(found: Mapping[str, Any]) -> list[str]:
    budgets = [f"{name}: {b['trials']} trials, {b['seeds']} seeds, {b['examples']:,} examples each" for name, b in found["budget"]["arms"].items()]
    lines = [
        "Trials are chosen on validation, tests are of the best checkpoint of each member; the arm that is told first is the best on validation.",
        "Intervals over seeds: Student. Over seeds and examples: bootstrap of both, paired where arms are compared. p: Holm over all comparisons.",
        f"Search: {found['search']['kind']}. Budget: {found['budget']['rule']}.",
        *budgets,
    ]
    return [*lines, *(f"{arm['name']} may differ: {arm['extra_budget']}" for arm in found["arms"] if arm["extra_budget"])]
