"""What a run says of its training examples: the lines of cartography.jsonl, and the examples of cartography.json that a person should look at."""

from __future__ import annotations

from typing import Any

from ftjax.commands.shown import encodable, example
from ftjax.training.dynamics import Cartography
from ftjax.training.plan import Plan

SHOWN = 12
"""Hardest and most ambiguous examples, of each so many; fewer where report.thumbnails says so."""
ENOUGH = 3
"""Times that an example should be seen before its deviation means something."""


def told(plan: Plan, found: Cartography) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Lines of cartography.jsonl, content of cartography.json, and warnings.

    Args:
      plan: of the run.
      found: numbers of each training row.
    """
    split, count = plan.dataset.splits["train"], min(SHOWN, plan.config.report.thumbnails)
    lines = [{"id": name, "label": plan.dataset.classes[split.labels[row]], **found.of(row)} for row, name in enumerate(split.ids)]
    never = [name for row, name in enumerate(split.ids) if not found.seen[row]]

    def shown(rows: list[int]) -> list[dict[str, Any]]:
        return [example({"id": encodable(split.ids[row]), "label": int(split.labels[row]), **found.of(row)}, split.show(row)) for row in rows]

    content = {
        "rows": len(split),
        "times_seen": {"least": int(found.seen.min()), "mean": float(found.seen.mean()), "most": int(found.seen.max())},
        "never_seen": {"rows": len(never), "ids": [encodable(name) for name in never[:20]]},
        "hardest": shown(found.hardest(count)),
        "ambiguous": shown(found.ambiguous(count)),
    }
    return lines, content, _warnings(never, len(split), float(found.seen.mean()))


def _warnings(never: list[str], rows: int, mean: float) -> list[str]:
    """What makes a map say less than it seems to."""
    warnings = []
    if never:
        names = ", ".join(map(repr, never[:3])) + (", ..." if len(never) > 3 else "")
        warnings.append(f"train.cartography: {len(never)} of {rows} training examples were never trained on ({names}); they are not on the map")
    if mean < ENOUGH:
        warnings.append(f"train.cartography: an example was trained on {mean:.1f} times on average; its deviation says little below {ENOUGH} epochs")
    return warnings
