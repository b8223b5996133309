"""An ablation's results as files: ablation.json (everything), ablation.csv (a line for each cell), ablation.md (what a person reads first)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax import files
from ftjax.ablation.grid import label
from ftjax.ablation.spec import short

JSON, CSV, MARKDOWN = "ablation.json", "ablation.csv", "ablation.md"


def write(folder: Path, found: Mapping[str, Any]) -> None:
    """All three files."""
    files.write_json(folder / JSON, found)
    files.write_text(folder / CSV, table(found["cells"]))
    files.write_text(folder / MARKDOWN, page(found))


def table(cells: Sequence[Mapping[str, Any]]) -> str:
    """Comma-separated values, a line for each cell; an interval is three columns."""
    rows = [_flat(cell) for cell in cells]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(cell: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in cell.items():
        if key in ("members", "seeds", "values"):
            flat[key] = " ".join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value)
        elif key == "settings":
            flat |= dict(value)
        elif isinstance(value, Mapping) and "low" in value:
            flat |= {key: value["value"], f"{key} low": value["low"], f"{key} high": value["high"]}
        elif key != "tuned":
            flat[key] = value
    return flat


def page(found: Mapping[str, Any]) -> str:
    """Markdown: the verdict, the arms with their chosen trials, comparisons, and every cell."""
    metric = found["metric"]["name"]
    lines = ["# Ablation", "", found["verdict"], "", *_arms(found), *_comparisons(found), *_scaling(found), *_cells(found)]
    examples = ", ".join(f"{count:,} {name}" for name, count in found["examples"].items())
    lines += [
        f"Metric: {metric}{'' if found['metric']['higher_is_better'] else ' (lower is better)'}. Examples: {examples}.",
        "Trials are chosen on validation, tests are of the best checkpoint of each member. Intervals: 95%.",
        "",
        f"{found['devices']}, {found['seconds']:.0f} s. " + ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def _arms(found: Mapping[str, Any]) -> list[str]:
    shifted = bool(found["shifts"])
    spread = found["insensitivity"]
    head = [
        "arm",
        "chosen",
        "test, over seeds",
        "over seeds and examples",
        *(["shifted test"] if shifted else []),
        *(["mean / worst over trials"] if spread else []),
    ]
    head += ["distance", "live parameters", "s a member"]
    lines = ["## Arms", "", _row(head), _row(["---"] * 2 + ["--:"] * (len(head) - 2))]
    for name, trial in found["chosen"].items():
        cell = next(cell for cell in found["cells"] if cell["arm"] == name and cell["trial"] == trial)
        cells = [name, label(cell["tuned"]), _span(cell["test"]), _span(cell["test_over_both"])]
        cells += [_span(cell["test shifted"])] if shifted else []
        over = spread.get(name)
        cells += [f"{over['mean']:.4f} / {over['worst']:.4f}" if over else ""] if spread else []
        cells += [_number(cell["distance"]), f"{cell['live_parameters']:,}", f"{cell['seconds']:.3g}"]
        lines.append(_row(cells))
    return [*lines, ""]


def _comparisons(found: Mapping[str, Any]) -> list[str]:
    if not found["comparisons"]:
        return []
    lines = [f"## Against {found['reference']}", "", _row(["arm", "difference", "p", "p, Holm", "better on"]), _row(["---", "--:", "--:", "--:", "--:"])]
    for one in found["comparisons"]:
        span = f"{one['difference']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
        lines.append(_row([one["one"], span, f"{one['p']:.2g}", f"{one['adjusted']:.2g}", f"{one['wins']} of {one['seeds']} seeds"]))
    return [*lines, "", "Paired bootstrap over seeds and test examples.", ""]


def _scaling(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for curve in found["scaling"]:
        points = "; ".join(f"{point['examples']:,} examples: {point['value']:.4f}" for point in curve["points"])
        lines += [f"## Data and {found['metric']['name']}: {curve['family']}", "", points + ".", ""]
        law = curve["law"]
        if law is None:
            lines += ["Too few amounts, or no power law through them.", ""]
        elif law["twice"] is not None:
            gain = law["twice"]
            bought = f"Twice the data would lower the error by {gain['value']:.4f} ({gain['low']:.4f} to {gain['high']:.4f})."
            lines += [f"error = {law['a']:.3g} n^-{law['b']:.3g} + {law['c']:.3g}. {bought}", ""]
    return lines


def _cells(found: Mapping[str, Any]) -> list[str]:
    keys = list(dict.fromkeys(key for cell in found["cells"] for key in cell["settings"]))
    head = ["arm", *map(short, keys), "validation", "test", "status"]
    lines = ["## All cells", "", _row(head), _row(["---"] * (1 + len(keys)) + ["--:", "--:", "---"])]
    for cell in found["cells"]:
        settings = [str(cell["settings"].get(key, "")) for key in keys]
        lines.append(_row([cell["arm"], *settings, _span(cell.get("validation")), _span(cell.get("test")), cell["status"]]))
    return [*lines, ""]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _span(interval: Mapping[str, float] | None) -> str:
    return "" if interval is None else f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
