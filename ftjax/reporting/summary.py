"""The end of a run on the terminal: tables and the framed result. Gives rich renderables; printing is `terminal.py`'s."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ftjax.reporting import wording

STATUS_STYLES = {"ok": "green", "interrupted": "yellow", "failed": "red"}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return wording.number(value)
    return wording.count(value) if wording.is_number(value) else wording.printable("" if value is None else value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without vertical lines; columns whose cells are all numbers (or empty) are aligned to the right."""
    cells = [list(row) for row in rows]
    view = Table(title=Text(wording.printable(title), style="bold") if title else None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        values = [row[place] for row in cells if row[place] not in (None, "")]
        numeric = bool(values) and all(wording.is_number(value) for value in values)
        view.add_column(Text(wording.printable(column)), justify="right" if numeric else "left")
    for row in cells:
        view.add_row(*(Text(_cell(value)) for value in row))
    return view


def panel(content: RenderableType, title: str = "", style: str = "") -> Panel:
    """`content` in a rounded frame."""
    return Panel(content, title=Text(wording.printable(title), style="bold") if title else None, title_align="left", border_style=style, padding=(0, 1))


def _accuracy_rows(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, accuracy entry) of this run and of every baseline that has one, best known first."""
    test = (result.get("splits") or {}).get("test") or {}
    rows = [("this run", test["accuracy"])] if "accuracy" in test else []
    for name, found in (result.get("baselines") or {}).items():
        if isinstance(found, Mapping) and found.get("accuracy") is not None:
            rows.append((wording.title(name).lower(), found["accuracy"]))
    return rows


def _comparison(result: Mapping[str, Any]) -> Table | None:
    rows = _accuracy_rows(result)
    if not rows:
        return None
    view = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left"):
        view.add_column(justify=justify)
    view.add_row(Text("test accuracy", style="dim"), Text(""), Text("interval", style="dim"))
    for place, (name, found) in enumerate(rows):
        style = "bold" if place == 0 and name == "this run" else ""
        value = wording.metric("accuracy", wording.entry(found)["value"])
        view.add_row(Text(name, style=style), Text(value, style=style), Text(wording.bounds("accuracy", found)))
    return view


def _other_metrics(result: Mapping[str, Any]) -> Text | None:
    test = (result.get("splits") or {}).get("test") or {}
    shown = [f"{wording.title(name)} {wording.with_interval(name, found)}" for name, found in test.items() if name != "accuracy"]
    return Text("   ".join(shown), style="dim") if shown else None


def _footer(result: Mapping[str, Any], report: str | os.PathLike[str] | None) -> list[Text]:
    lines = [Text(f"warning: {wording.printable(warning)}", style="yellow") for warning in result.get("warnings") or ()]
    seconds = result.get("seconds") or {}
    if seconds:
        lines.append(Text("   ".join(f"{name} {wording.duration(value)}" for name, value in seconds.items()), style="dim"))
    if report is not None:
        lines.append(Text(f"report: {os.fspath(report)}"))
    return lines


def summary(result: Mapping[str, Any], report: str | os.PathLike[str] | None = None) -> RenderableType:
    """The final result in a frame whose colour is the status.

    Args:
      result: the content of result.json; every key may be missing.
      report: where report.html is.
    """
    status = str(result.get("status", "unknown"))
    parts: list[RenderableType | None] = []
    if result.get("error"):
        parts.append(Text(wording.printable(result["error"]), style="red"))
    parts += [_comparison(result), _other_metrics(result)]
    if result.get("verdict"):
        parts.append(Text(wording.printable(result["verdict"]), style="bold"))
    parts += _footer(result, report)
    body = [part for part in parts if part is not None]
    heading = " ".join(word for word in (status, f"after {wording.count(result['steps'])} steps" if "steps" in result else "") if word)
    return panel(Group(*body) if body else Text("no result"), heading, STATUS_STYLES.get(status, ""))
