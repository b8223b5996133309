"""Values over time: a coefficient's points and the learning rate's shape, both plain functions of a traced step.

In the law these are the `step` in `c(path, step)` and the `t` in `lr(t)`. Times are static (steps of the clock), the step is traced,
and amplitudes are multiplied in from `hyper`, so one compilation serves every learning rate and coefficient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ftjax.config import OptimizerConfig, Value
from ftjax.durations import Clock, Points, parse_points, to_steps
from ftjax.errors import ConfigError

Schedule = float | Points | Callable[[Any], Any] | np.ndarray | Array
"""A `config.Value` whose times are in steps; from Python also a function of the step (any optax schedule), or an array: a mask of elements, or
one number per layer of stacked blocks. An array has the leaf's rank and broadcasts to its shape; it does not change over time."""

SLANTED_RATIO = 32
"""How much lower than the peak the slanted triangle begins and ends (Howard and Ruder 2018)."""

Shape = Callable[[Int[Array, ""]], Float[Array, ""]]
"""Step -> factor of the peak learning rate, in 0..1."""


def on_clock(value: Value | Callable[[Any], Any] | np.ndarray | Array, clock: Clock, what: str) -> Schedule:
    """A value with its times in steps.

    Args:
      value: a configured value, or from Python a function of the step or an array.
      clock: what the durations mean.
      what: the key of the configuration, for messages.

    Raises:
      ConfigError: a schedule that is never above 0 during the run (the number 0 freezes by structure), a function or an array with a value that is
        negative or not finite.
    """
    if isinstance(value, (np.ndarray, jax.Array)):
        _check_values(value, f"{what}: the array")
        return value
    if not (isinstance(value, (tuple, list)) or callable(value)):
        return float(value)
    points = value if callable(value) else parse_points(value, clock, what)
    last = (clock.total_steps or (1 if callable(points) else points[-1][0] + 1)) - 1
    if callable(points):
        inside: list[int] | range = range(last + 1)
    else:
        inside = [0, last, *(near for step, _ in points for near in (step - 1, step) if 0 <= near <= last)]
    with jax.ensure_compile_time_eval():
        values = evaluate(points, jnp.array(inside))
        _check_values(values, f"{what}: the schedule {value!r}")
        ever = bool(jnp.any(values > 0))
    if not ever:
        raise ConfigError(f"{what}: the schedule {value!r} is never above 0 in the {last + 1} steps of this run; write the number 0 to freeze")
    return points


def _check_values(values: Any, where: str) -> None:
    """Finite and 0 or more; a traced array is the caller's word."""
    if isinstance(values, jax.core.Tracer):
        return
    found = np.asarray(values)
    wrong = found[~((found >= 0) & (found < np.inf))]
    if wrong.size:
        raise ConfigError(f"{where} has value {wrong.flat[0]:g}; it must be finite and 0 or more (0 freezes)")


def evaluate(schedule: Schedule, step: Int[Array, "*shape"]) -> Any:
    """Value at a step: a number or an array is itself; points are joined by straight lines and constant outside; a function is called.

    >>> evaluate(((0, 0.0), (4, 1.0)), jnp.array([0, 1, 4, 9])).tolist()
    [0.0, 0.25, 1.0, 1.0]
    >>> evaluate(((2, 0.0), (2, 1.0)), jnp.array([0, 1, 2, 3])).tolist()
    [0.0, 0.0, 1.0, 1.0]
    >>> evaluate(lambda step: 1 / (1 + step), jnp.array([0, 1, 3])).tolist()
    [1.0, 0.5, 0.25]
    """
    if callable(schedule):
        return jnp.vectorize(lambda time: jnp.asarray(schedule(time), dtype=float))(step)
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

    "slanted" is ULMFiT's triangle (Howard and Ruder 2018, arXiv 1801.06146), whose cut is the warmup: with `p = t / w` before step `w` and
    `1 - (t - w) / (T - w)` from there, `(1 + p (ratio - 1)) / ratio`, ratio 32.

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
    decay = {"cosine": lambda p: (1 + jnp.cos(jnp.pi * p)) / 2, "linear": lambda p: 1 - p, "constant": jnp.ones_like, "slanted": lambda p: 1 - p}

    def shape(step: Int[Array, ""]) -> Float[Array, ""]:
        after = decay[optimizer.schedule](jnp.clip((step - warmup) / (total - warmup), 0, 1))
        if optimizer.schedule == "slanted":
            triangle = jnp.where(step < warmup, step / max(warmup, 1), after)
            return (1 + triangle * (SLANTED_RATIO - 1)) / SLANTED_RATIO
        return jnp.where(step < warmup, (step + 1) / (warmup + 1), after)

    return shape
