"""Step times of all methods in one process, interleaved: in every round each method does a few steps, and a ratio is of two methods in one round.

Processor seconds are measured beside the clock: where other work shares the cores they say more of what a step costs.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from benchmarks.adapters.arms import Arm
from benchmarks.adapters.cell import Cell

WARM, STEPS = 2, 3
"""Steps before the first round, and in each."""


def measure(data_set: str, methods: Sequence[Arm], folder: Path, rounds: int, steps: int, say: Callable[[str], None], **settings: Any) -> dict[str, Any]:
    """Seconds and processor seconds of a step in every round, `{"seconds": {method: [...]}, "processor": {...}}`, and the machine's load meanwhile."""
    cells: dict[str, Cell] = {}
    for arm in methods:
        dataset = next(iter(cells.values())).plan.dataset if cells else None
        cells[arm.name] = Cell(data_set, arm, folder, dataset, **settings)
        say(f"{data_set}, {arm.name}: compiled")
    states = {name: cell.start(0) for name, cell in cells.items()}
    seconds: dict[str, list[float]] = {name: [] for name in cells}
    processor: dict[str, list[float]] = {name: [] for name in cells}

    def advance(name: str, count: int) -> None:
        cell = cells[name]
        for step in range(count):
            states[name], _ = cell.feed.advance(states[name], cell.plan.put(cell.batch(step, 0)))
        jax.block_until_ready(states[name])

    for name in cells:
        advance(name, WARM)
    loads = []
    for number in range(rounds):
        loads.append(os.getloadavg()[0])
        for name in list(cells)[:: 1 if number % 2 else -1]:
            began, used = time.perf_counter(), time.process_time()
            advance(name, steps)
            seconds[name].append((time.perf_counter() - began) / steps)
            processor[name].append((time.process_time() - used) / steps)
    return {"set": data_set, "rounds": rounds, "steps": steps, "load": loads, "seconds": seconds, "processor": processor}


def ratio(values: dict[str, list[float]], one: str, other: str) -> tuple[float, float, float]:
    """Median, smallest and largest over rounds of `one` over `other`."""
    ratios = [x / y for x, y in zip(values[one], values[other], strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)
