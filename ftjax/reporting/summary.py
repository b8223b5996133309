"""The end of a run on the terminal: tables and the framed result. Gives rich renderables; printing is `terminal.py`'s."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ftjax.reporting import findings, wording
from ftjax.reporting.record import main_metric, mapping

NUMERIC = re.compile(r"[-+]?[\d,.]+(?:e[-+]?\d+)?\s?%?|nan|-?inf")
STATUS_STYLES = {"ok": "green", "interrupted": "yellow", "failed": "red"}


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return wording.setting(value)
    return wording.count(value) if wording.is_number(value) else wording.printable("" if value is None else value)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table without vertical lines; columns whose cells all read as numbers (or are empty) are aligned to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    heading = Text(wording.printable(title), style="bold") if title else None
    view = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        filled = [row[place] for row in cells if row[place] not in ("", "–")]
        numeric = bool(filled) and all(NUMERIC.fullmatch(text) for text in filled)
        view.add_column(Text(wording.printable(column)), justify="right" if numeric else "left")
    for row in cells:
        view.add_row(*(Text(text) for text in row))
    return view


def panel(content: RenderableType, title: str = "", style: str = "") -> Panel:
    """`content` in a rounded frame."""
    return Panel(content, title=Text(wording.printable(title), style="bold") if title else None, title_align="left", border_style=style, padding=(0, 1))


def _rows(result: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    """(name, entry of the main metric) of this run and of every baseline that has one."""
    test = mapping(mapping(result.get("splits")).get("test"))
    rows = [("this run", test[name])] if name in test else []
    for baseline, found in mapping(result.get("baselines")).items():
        if mapping(found).get(name) is not None:
            rows.append((wording.in_sentence(wording.baseline(baseline, str(result.get("task")))), found[name]))
    return rows


def _metrics(result: Mapping[str, Any]) -> Table | None:
    """The main metric of this run beside the baselines', then every other test metric."""
    main = main_metric(result).name
    rows = [(name, main, found) for name, found in _rows(result, main)]
    test = mapping(mapping(result.get("splits")).get("test"))
    others = [(wording.title(name), name, found) for name, found in test.items() if name != main]
    if not (rows or others):
        return None
    view = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "left"):
        view.add_column(justify=justify)
    for heading, part in ((f"test {wording.in_sentence(wording.title(main))}", rows), ("other test metrics", others)):
        if part and view.row_count:
            view.add_row()
        if part:
            view.add_row(*(Text(text, style="dim") for text in (heading, "", "interval")))
        for name, kind, found in part:
            style = "bold" if name == "this run" else ""
            view.add_row(Text(name, style=style), Text(wording.metric(kind, wording.entry(found)["value"]), style=style), Text(wording.bounds(kind, found)))
    return view


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
    parts.append(_metrics(result))
    if result.get("verdict"):
        parts.append(Text(f"\n{wording.printable(result['verdict'])}\n", style="bold"))
    told = [findings.chosen(mapping(result.get("after")), main_metric(result).name), findings.forgetting(mapping(result.get("forgetting")))]
    parts += [Text(wording.printable(line)) for line in told if line]
    parts += _footer(result, report)
    body = [part for part in parts if part is not None]
    heading = " ".join(word for word in (status, f"after {wording.count(result['steps'])} steps" if "steps" in result else "") if word)
    return panel(Group(*body) if body else Text("no result"), heading, STATUS_STYLES.get(status, ""))
