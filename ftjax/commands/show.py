"""What the terminal shows of a plan before step 1: data, weights, coefficients, and the values that the recipe chose."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ftjax import reporting
from ftjax.adapters import Bound
from ftjax.commands import written
from ftjax.data import Dataset, available
from ftjax.training.plan import Plan


class Decoding:
    """Says how far reading is, every few seconds: large folders take minutes before anything else can be shown.

    With `data.cache` every file is read to know its content before what is missing is decoded; a count that begins anew is that second pass.
    """

    def __init__(self, view: reporting.Progress, every: float = 5.0) -> None:
        self.view, self.every, self.said = view, every, time.monotonic()
        self.before, self.verb = 0, "read"

    def __call__(self, done: int, total: int) -> None:
        """Called with the number of images done and of all, in ascending order within a pass."""
        if done <= self.before:
            self.verb = "decoded"
        self.before = done
        if time.monotonic() - self.said >= self.every:
            self.said = time.monotonic()
            self.view.message(f"{self.verb} {done:,} of {total:,} images")


def plan(view: reporting.Progress, plan: Plan) -> None:
    """Print the plan: nothing trains before a person could have read what will train."""
    config = plan.config
    view.start(
        [
            f"{config.task.name}, method {config.method}: {plan.steps} steps of {_batch(plan)} on {plan.mesh.size} device(s)",
            f"model {plan.model.spec.family}, {_input(plan)}, {config.model.precision}",
        ]
    )
    view.table("data", ("split", "rows", "classes"), [(name, f"{len(split):,}", len(plan.dataset.classes)) for name, split in plan.dataset.splits.items()])
    for line in curriculum(plan.dataset):
        view.message(line)
    if "ledger" in plan.dataset.report:
        view.table("ledger", ("split", *(title for _, title in written.LEDGER)), written.ledger_rows(plan.dataset.report["ledger"]))
        view.message(f"learnt: {plan.dataset.report['learn']}; template: {plan.dataset.report['template'] or 'none, plain text'}")
    for line in _columns(plan.dataset.report.get("columns", {})):
        view.message(line)
    if plan.load is not None:
        view.message(plan.load.summary())
    for line in bound(plan.bound):
        view.message(line)
    for line in plan.table.lines():
        view.message(line)
    chosen = [(key, getattr_path(config, key), why) for key, (origin, why) in plan.resolved.origins.items() if origin == "recipe"]
    view.table("chosen by the recipe", ("key", "value", "why"), chosen)
    statistics = plan.stages[0].abstract.extra["batch_stats"]
    if statistics:
        view.message(f"batch statistics: {config.model.batch_statistics}")
    for warning in plan.warnings:
        view.message(f"warning: {warning}")


def curriculum(dataset: Dataset) -> list[str]:
    """Which training rows there are when, or which were kept, by how hard they are."""
    train, about = dataset.splits["train"], dataset.report.get("sampling", {}).get("curriculum")
    if about is None:
        return []
    if train.curriculum is None:
        return [f"curriculum {about['way']}: {len(train):,} rows kept, by {about['file']}"]
    there = available(train.curriculum, 0)
    return [f"curriculum {about['way']}: {there:,} rows of {len(train):,} at step 0, all from step {train.curriculum.steps}, by {about['file']}"]


def bound(rows: Sequence[Bound]) -> list[str]:
    """Which weights became what: a line for each (target, path with its block left open, size)."""
    lines: dict[tuple[str, ...], list[Bound]] = {}
    for row in rows:
        size = f", rank {row.rank}, scale {row.scale:.3g}" if row.rank is not None and row.scale is not None else ""
        lines.setdefault((row.target, row.kind, re.sub(r"block_\d+", "block_*", row.path), size), []).append(row)
    return [
        f"{kind} by {target!r}: {len(same)} x {path} {list(same[0].shape)}{size}, {sum(row.parameters for row in same):,} parameters"
        for (target, kind, path, size), same in lines.items()
    ]


def _batch(plan: Plan) -> str:
    tokens = plan.config.train.batch_tokens
    return f"{plan.batch_size} examples" if tokens is None else f"{tokens:,} tokens (about {plan.batch_size} examples)"


def _input(plan: Plan) -> str:
    """What one example looks like to the model."""
    size, train = plan.model.spec.image_size, plan.dataset.splits["train"]
    if train.histories is not None:
        return f"histories padded to {', '.join(map(str, train.buckets))} items"
    return f"{size[0]} x {size[1]} pixels" if size else f"texts padded to {', '.join(map(str, train.buckets))} tokens"


def _columns(columns: Mapping[str, Any]) -> list[str]:
    """Which columns were taken for what, and why: a guess must be seen before it trains."""
    bound = {role: entry for role, entry in columns.items() if isinstance(entry, Mapping) and "column" in entry}
    return [f"{role}: column {entry['column']!r} ({entry['origin']}: {entry['why']})" for role, entry in bound.items()]


def getattr_path(config: object, key: str) -> object:
    """The value of a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config
