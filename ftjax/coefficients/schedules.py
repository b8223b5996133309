"""Values over time: a coefficient's points and the learning rate's shape, both plain functions of a traced step.

In the law these are the `step` in `c(path, step)` and the `t` in `lr(t)`. Times are static (steps of the clock), the step is traced,
and amplitudes are multiplied in from `hyper`, so one compilation serves every learning rate and coefficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax.config import OptimizerConfig, Value
from ftjax.durations import Clock, Points, parse_points, to_steps
from ftjax.errors import ConfigError

Schedule = float | Points
"""A `config.Value` whose times are in steps."""

Shape = Callable[[Int[Array, ""]], Float[Array, ""]]
"""Step -> factor of the peak learning rate, in 0..1."""


def on_clock(value: Value, clock: Clock, what: str) -> Schedule:
    """A configured value with its times in steps.

    Raises:
      ConfigError: a schedule that is never above 0 during the run (the number 0 freezes by structure).
    """
    if not isinstance(value, (tuple, list)):
        return float(value)
    points = parse_points(value, clock, what)
    last = (clock.total_steps or points[-1][0] + 1) - 1
    inside = [0, last, *(near for step, _ in points for near in (step - 1, step) if 0 <= near <= last)]
    with jax.ensure_compile_time_eval():
        ever = bool(jnp.any(evaluate(points, jnp.array(inside)) > 0))
    if not ever:
        raise ConfigError(f"{what}: the schedule {value!r} is never above 0 in the {last + 1} steps of this run; write the number 0 to freeze")
    return points


def evaluate(schedule: Schedule, step: Int[Array, "*shape"]) -> Float[Array, "*shape"] | float:
    """Value at a step: a number is itself; points are joined by straight lines and constant outside.

    >>> evaluate(((0, 0.0), (4, 1.0)), jnp.array([0, 1, 4, 9])).tolist()
    [0.0, 0.25, 1.0, 1.0]
    >>> evaluate(((2, 0.0), (2, 1.0)), jnp.array([0, 1, 2, 3])).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if not isinstance(schedule, tuple):
        return schedule
    value = jnp.full_like(step, schedule[0][1], dtype=float)
    for (start, left), (stop, right) in itertools.pairwise(schedule):
        between = left + (right - left) * ((step - start) / max(stop - start, 1))
        value = jnp.where(step >= stop, right, jnp.where(step >= start, between, value))
    return value


def learning_rate_shape(optimizer: OptimizerConfig, clock: Clock) -> Shape:
    """Factor of the peak learning rate at every step: a linear warmup, then `optimizer.schedule`.

    With `w` warmup steps of `T`, the factor is `(t + 1) / (w + 1)` before step `w` and then, with `p = (t - w) / (T - w)`,
    `(1 + cos(pi p)) / 2`, `1 - p` or `1`. It peaks at step `w` and reaches 0 when the run is over, so every step moves.

    Raises:
      ConfigError: a warmup longer than the run.
    """
    total = clock.total_steps
    if total is None:
        raise ValueError("a learning rate needs the length of the run: Clock.total_steps")
    warmup = to_steps(optimizer.warmup, clock, "optimizer.warmup")
    if warmup > total:
        raise ConfigError(f"optimizer.warmup: {optimizer.warmup!r} is {warmup} steps of a run of {total}; it cannot be longer than the run")
    warmup = min(warmup, total - 1)  # The peak is a step of the run, also of a run of one step.
    decay = {"cosine": lambda p: (1 + jnp.cos(jnp.pi * p)) / 2, "linear": lambda p: 1 - p, "constant": jnp.ones_like}[optimizer.schedule]

    def shape(step: Int[Array, ""]) -> Float[Array, ""]:
        progress = jnp.clip((step - warmup) / (total - warmup), 0, 1)
        return jnp.where(step < warmup, (step + 1) / (warmup + 1), decay(progress))

    return shape
