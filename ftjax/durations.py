"""How long is "3 epochs"? The one place that turns a unit of duration into optimiser steps.

`"3 epochs" | "500 steps" | "2000 examples" | "10%"` are all counted by a `Clock`; every schedule, warmup, interval and run length goes through `to_steps`.
Arithmetic is exact (rationals), and there is one rounding rule: up, so that a duration never covers less than it says.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from fractions import Fraction

from ftjax.config import Duration
from ftjax.errors import ConfigError, did_you_mean

UNITS = ("epochs", "steps", "examples", "%")
FORMS = "'3 epochs', '500 steps', '2000 examples' or '10%'"
LONGEST = 2**31 - 1
"""Steps are counted in int32 on the device."""

Points = tuple[tuple[int, float], ...]
"""A schedule on the clock: `((step, value), ...)`."""

_DURATION = re.compile(r"\s*(?P<amount>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?)\s*(?P<unit>\D*?)\s*")


@dataclasses.dataclass(frozen=True)
class Clock:
    """What one step, one epoch and the whole run are."""

    batch_size: int
    """Examples per optimiser step, over all devices."""
    examples_per_epoch: int
    total_steps: int | None = None
    """Steps of the whole run; None while the run's own length is being decided."""
    steps_per_epoch: Fraction | None = None
    """Batches that hold every example once, where it is not examples / batch size: texts in batches of one length, or of so many tokens."""

    @property
    def epoch(self) -> Fraction:
        """Exact steps of an epoch."""
        return self.steps_per_epoch or Fraction(self.examples_per_epoch, self.batch_size)


def to_steps(duration: Duration, clock: Clock, what: str = "duration", *, minimum: int = 0) -> int:
    """Steps of a duration, rounded up.

    Args:
      duration: an amount and a unit; epochs and percent may be fractions, steps and examples are whole.
      clock: what the units mean in this run.
      what: the key of the configuration, for messages.
      minimum: fewest steps that make sense here (1 for an interval).

    Raises:
      ConfigError: not a duration, an unknown unit, a part of a step, more than 100 %, or fewer than `minimum` steps.

    >>> clock = Clock(batch_size=32, examples_per_epoch=100, total_steps=500)
    >>> [to_steps(text, clock) for text in ("500 steps", "2 epochs", "1.5 epochs", "2000 examples", "10%", "0.1%")]
    [500, 7, 5, 63, 50, 1]
    """
    amount, unit = _parse(duration, what)
    steps = math.ceil(amount * _steps_per_unit(unit, clock, what))
    if not minimum <= steps <= LONGEST:
        raise ConfigError(f"{what}: {duration!r} is {steps} steps; it must be from {minimum} to {LONGEST} steps")
    return steps


def parse_points(points: Sequence[tuple[Duration, float]], clock: Clock, what: str = "schedule") -> Points:
    """A schedule `((when, value), ...)` with its times in steps.

    Two points at one time make a jump: the later value holds from that step on.

    Raises:
      ConfigError: no points, a point that is not `(when, value)`, or times that go back.

    >>> parse_points((("0%", 0.0), ("20%", 0.0), ("20%", 1.0)), Clock(32, 100, total_steps=300))
    ((0, 0.0), (60, 0.0), (60, 1.0))
    """
    if not points:
        raise ConfigError(f"{what}: a schedule needs at least one point ('when', value)")
    for point in points:
        if isinstance(point, str) or not isinstance(point, Sequence) or len(point) != 2:
            raise ConfigError(f"{what}: {point!r} is not a point ('when', value), such as ('10%', 1.0)")
    resolved = tuple((to_steps(when, clock, what), float(value)) for when, value in points)
    for (before, _), (after, _), (when, _) in zip(resolved, resolved[1:], points[1:], strict=False):
        if after < before:
            raise ConfigError(f"{what}: {when!r} is step {after}, before the point at step {before}; points go forward in time")
    return resolved


def add(first: Duration, second: Duration, what: str = "duration") -> Duration:
    """The sum of two durations of one unit; a sum of two units would need a clock.

    Raises:
      ConfigError: not durations, or of different units.

    >>> add("33%", "5%"), add("1 epoch", "0.5 epochs"), add("1 epoch", "0 steps")
    ('38%', '1.5 epochs', '1 epochs')
    """
    (left, unit), (right, other) = _parse(first, what), _parse(second, what)
    if unit != other and left and right:
        raise ConfigError(f"{what}: {first!r} and {second!r} have different units; write both in {unit!r} or both in {other!r}")
    amount, unit = f"{float(left + right):.12g}", unit if left else other
    return f"{amount}%" if unit == "%" else f"{amount} {unit}"


def _parse(duration: Duration, what: str) -> tuple[Fraction, str]:
    """`"1.5 epochs"` -> `(3/2, "epochs")`."""
    match = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if match is None:
        raise ConfigError(f"{what}: {duration!r} is not a duration; write {FORMS}")
    amount, unit = Fraction(match["amount"]), match["unit"]
    if not unit:
        raise ConfigError(f"{what}: {duration!r} has no unit; write {FORMS}")
    plural = unit if unit in UNITS else f"{unit}s"
    if plural not in UNITS:
        raise ConfigError(f"{what}: unknown unit {unit!r} in {duration!r}; {did_you_mean(unit, UNITS)}")
    if amount < 0:
        raise ConfigError(f"{what}: {duration!r} is negative; a duration is 0 or more")
    if plural in ("steps", "examples") and amount.denominator != 1:
        raise ConfigError(f"{what}: {duration!r} splits a {plural[:-1]}; only epochs and % take fractions")
    if plural == "%" and amount > 100:
        raise ConfigError(f"{what}: {duration!r} is longer than the run; a share is 0% to 100%")
    return amount, plural


def _steps_per_unit(unit: str, clock: Clock, what: str) -> Fraction:
    """Exact steps in one epoch, step, example or percent."""
    if unit == "%":
        if clock.total_steps is None:
            raise ConfigError(f"{what}: a share of the run cannot say how long the run is; write '3 epochs', '500 steps' or '2000 examples'")
        return Fraction(clock.total_steps, 100)
    return {"epochs": clock.epoch, "steps": Fraction(1), "examples": clock.epoch / clock.examples_per_epoch}[unit]
