"""What the terminal shows of a plan before step 1: data, weights, coefficients, and the values that the recipe chose."""

from __future__ import annotations

import time

from ftjax import reporting
from ftjax.training.plan import Plan


class Decoding:
    """Says how far decoding is, every few seconds: large folders take minutes before anything else can be shown."""

    def __init__(self, view: reporting.Progress, every: float = 5.0) -> None:
        self.view, self.every, self.said = view, every, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Called with the number of images read and of all."""
        if time.monotonic() - self.said >= self.every:
            self.said = time.monotonic()
            self.view.message(f"read {done:,} of {total:,} images")


def plan(view: reporting.Progress, plan: Plan) -> None:
    """Print the plan: nothing trains before a person could have read what will train."""
    config = plan.config
    view.start(
        [
            f"{config.task.name}, method {config.method}: {plan.steps} steps of {plan.batch_size} examples on {plan.mesh.size} device(s)",
            f"model {plan.model.spec.family}, {plan.model.spec.image_size[0]} x {plan.model.spec.image_size[1]} pixels, {config.model.precision}",
        ]
    )
    view.table("data", ("split", "rows", "classes"), [(name, f"{len(split):,}", len(plan.dataset.classes)) for name, split in plan.dataset.splits.items()])
    if plan.load is not None:
        view.message(plan.load.summary())
    for line in plan.table.lines():
        view.message(line)
    chosen = [(key, getattr_path(config, key), why) for key, (origin, why) in plan.resolved.origins.items() if origin == "recipe"]
    view.table("chosen by the recipe", ("key", "value", "why"), chosen)
    statistics = plan.stages[0].abstract.extra["batch_stats"]
    if statistics:
        view.message(f"batch statistics: {config.model.batch_statistics}")
    for warning in plan.warnings:
        view.message(f"warning: {warning}")


def getattr_path(config: object, key: str) -> object:
    """The value of a dotted key."""
    for part in key.split("."):
        config = getattr(config, part)
    return config
