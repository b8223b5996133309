"""The training loop with edges that say nothing, for tests that stop runs and go on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ftjax.training.checkpoint import Checkpoints
from ftjax.training.loop import fit


class Silence:
    """A log and a view that remember what they were told."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict]] = []

    def write(self, step: int, split: str, values: dict) -> None:
        self.lines.append((step, split, values))

    def update(self, step: int, values: dict) -> None:
        pass

    def message(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


def train(plan: Any, state: Any, folder: Path, stop_after: int | None = None, base: Any = None) -> tuple[Any, Silence]:
    """Fit, asking to stop after some steps."""
    log, stop = Silence(), threading.Event()

    class View(Silence):
        def update(self, step: int, values: dict) -> None:
            if stop_after is not None and step >= stop_after:
                stop.set()

    store = Checkpoints(folder, base=base)
    fitted = fit(plan, state, store, lambda resumed: log, View(), stop)
    store.close()
    return fitted, log
