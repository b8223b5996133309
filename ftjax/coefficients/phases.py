"""Phases: stretches of a run in which the same parameters train, and the program is built for those alone.

The law's coefficient may be 0 for a while (a linear probe before fine-tuning, gradual unfreezing). A parameter whose coefficient is 0 for a whole
phase is still in that phase by structure: no gradient, no moments, no work. Borders come from the table's schedules; nobody writes them down.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from ftjax.coefficients.schedules import Schedule, evaluate
from ftjax.coefficients.table import Table

SHORTEST = 0.05
"""Share of the run below which a phase is not worth a compilation: a parameter that starts inside it trains with coefficient 0 until then."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps `start` to `stop - 1`, and who trains in them."""

    start: int
    stop: int
    live: frozenset[str]
    """Paths that train."""
    trained: frozenset[str]
    """Paths that train now or trained before: those that may differ from theta0."""
    cohorts: Mapping[str, int]
    """For each live path, the step at which it last became live: its moments and their bias correction begin there."""

    def to_json(self, table: Table) -> dict[str, Any]:
        """What `coefficients.json` says of it: its steps, how many parameters train in it, and the groups that hold them."""
        rows = [row for row in table.rows if row.path in self.live]
        groups = {row.group for row in rows}
        return {
            "start": self.start,
            "stop": self.stop,
            "live_parameters": sum(row.parameters for row in rows),
            "groups": [group for group in table.groups if group in groups],
        }


def phases(table: Table, how: str = "structure") -> tuple[Phase, ...]:
    """The phases of a run, from step 0 to the last.

    Args:
      table: the resolved coefficients.
      how: "structure" cuts the run wherever a parameter starts or stops to train (no phase shorter than `SHORTEST`); "arithmetic" keeps it whole.
    """
    total = table.total_steps
    active = _active_by_path(table)
    borders = [0, total] if how == "arithmetic" else _borders(active, total)
    spans = [(start, stop, frozenset(path for path, steps in active.items() if steps[start:stop].any())) for start, stop in itertools.pairwise(borders)]
    found: list[Phase] = []
    for start, stop, live in _merged(spans):
        before = found[-1] if found else None
        cohorts = {path: before.cohorts[path] if before and path in before.live else start for path in sorted(live)}
        found.append(Phase(start, stop, live, live | (before.trained if before else frozenset()), cohorts))
    return tuple(found)


def _active_by_path(table: Table) -> dict[str, Bool[np.ndarray, " steps"]]:
    """For each parameter that ever trains the steps at which it does; rows with the same schedule share one array."""
    known: dict[Any, np.ndarray] = {}
    active = {}
    for row in table.rows:
        if row.live:
            key = row.value if isinstance(row.value, tuple) else id(row.value)
            if key not in known:
                known[key] = _active(row.value, table.total_steps)
            active[row.path] = known[key]
    return active


def _active(schedule: Schedule, total: int) -> Bool[np.ndarray, " steps"]:
    """At which steps a value is above 0 anywhere."""
    if not (isinstance(schedule, tuple) or callable(schedule)):
        return np.ones(total, bool)
    with jax.ensure_compile_time_eval():
        values = np.asarray(evaluate(schedule, jnp.arange(total)))
    return np.broadcast_to(values, (total,)) > 0


def _borders(active: Mapping[str, np.ndarray], total: int) -> list[int]:
    """Where somebody starts or stops, no two of them closer than the shortest phase."""
    distinct = {steps.tobytes(): steps for steps in active.values()}.values()
    changes = sorted({int(step) + 1 for steps in distinct for step in np.flatnonzero(steps[1:] != steps[:-1])})
    shortest = max(2, math.ceil(SHORTEST * total))
    borders = [0]
    for step in changes:
        if step - borders[-1] >= shortest and total - step >= shortest:
            borders.append(step)
    return [*borders, total]


def _merged(spans: list[tuple[int, int, frozenset[str]]]) -> list[tuple[int, int, frozenset[str]]]:
    """Neighbours in which the same parameters train are one phase; one in which nobody does (all rest) trains with the next one's parameters."""
    filled: list[tuple[int, int, frozenset[str]]] = []
    following: frozenset[str] = frozenset()
    for start, stop, live in reversed(spans):
        following = live or following
        filled.append((start, stop, following))
    merged: list[tuple[int, int, frozenset[str]]] = []
    for start, stop, live in reversed(filled):
        live = live or (merged[-1][2] if merged else live)
        if merged and merged[-1][2] == live:
            merged[-1] = (merged[-1][0], stop, live)
        else:
            merged.append((start, stop, live))
    return merged
