"""`ftjax check`: everything that can be known before training. Exit 0 when the run can start, 2 with the reason when it cannot."""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ftjax import config_usage, configuration, data, reporting
from ftjax.commands import fitting, show
from ftjax.errors import ConfigError
from ftjax.reporting import wording
from ftjax.training.plan import Plan
from ftjax.training.prepare import prepare
from ftjax.training.stage import Feed, Stage, shapes_of
from ftjax.training.state import TrainState
from ftjax.training.step import Batch

TIMED_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `check`."""
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARGUMENT]", help="configuration; --config.key=value overrides a key. This file is executed"
    )
    parser.add_argument("--memory", metavar="SIZE", help="memory of a device, such as 16GiB; default: what it says itself, or this machine's")
    parser.add_argument(
        "--alternatives", type=float, default=30.0, metavar="SECONDS", help="compile other ways to compute the step for at most this long; 0: none"
    )
    parser.add_argument("--leaves", action="store_true", help="list every parameter with its coefficient and every line of the load plan")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Prepare, compile, measure three steps on a throw-away state, and print what a run would do."""
    resolved = configuration.resolve(arguments.config, flags)
    config_usage.check_used(resolved.config)
    with reporting.Progress("plain") as view:
        plan, state = prepare(resolved, progress=show.Decoding(view))
        show.plan(view, plan)
        if arguments.leaves:
            _leaves(view, plan)
        limit = fitting.limit_of(arguments.memory)
        rows, widest = cost(plan, state, limit)
        view.table("cost", ("what", "value"), list(rows.items()))
        _alternatives(view, plan, widest, limit, arguments.alternatives)
        view.message("ok: this run can start")
    return 0


@dataclasses.dataclass(frozen=True)
class Widest:
    """The program of a run that needs most memory: its stage, a batch for it, and what it needs; None: the backend does not say."""

    stage: Stage
    batch: Mapping[str, Any]
    cost: fitting.Cost | None


def _alternatives(view: reporting.Progress, plan: Plan, widest: Widest, limit: fitting.Limit, seconds: float) -> None:
    """Show what the step would need if it were computed otherwise.

    Raises:
      ConfigError: it does not fit as it is; the message says what would.
    """
    here = widest.cost
    if here is None:
        return
    fits = here.bytes <= limit.bytes
    wanted = [] if widest.stage.head_only or seconds <= 0 else fitting.alternatives(plan, fits)
    if wanted:
        names = ", ".join(map(fitting.named, wanted))
        view.message(f"compiling other ways to compute the step, for at most {seconds:g} s (--alternatives 0: none): {names}")
    found = fitting.compared(plan, widest.stage, widest.batch, wanted, limit, seconds)
    if found:
        columns = ("step", "memory", "of it temporary", "FLOPs", f"fits {fitting.gigabytes(limit.bytes)}")
        view.table("memory of a device", columns, fitting.rows_of(here, found, limit))
    if not fits:
        advice = fitting.proposal(found, limit)
        raise ConfigError(f"a step needs {fitting.gigabytes(here.bytes)} and a device has {fitting.gigabytes(limit.bytes)} ({limit.why}): {advice}")
    view.message(f"memory: a step needs {fitting.gigabytes(here.bytes)} of a device's {fitting.gigabytes(limit.bytes)} ({limit.why})")


def cost(plan: Plan, state: TrainState, limit: fitting.Limit) -> tuple[dict[str, str], Widest]:
    """Memory and FLOPs of the compiled step as XLA counts them, and the time that a run would take; the state is used up.

    A step that does not fit is not run, and then nothing is said of time.
    """
    parameters = plan.table.to_json()["parameters"]
    rows = {"parameters": f"{parameters['total']:,}, {parameters['live']:,} live, {parameters['total'] - parameters['live']:,} still"}
    training, widest = 0.0, None
    for number, stage in enumerate(plan.stages, 1):
        state = plan.enter(state._replace(step=jnp.full_like(state.step, stage.phase.start)))
        title = f"phase {number}, steps {stage.phase.start} to {stage.phase.stop}: " if len(plan.stages) > 1 else ""
        state, measured, seconds, found = _stage_cost(plan, stage, state, limit)
        rows |= {f"{title}{what}": value for what, value in measured.items()}
        training += seconds * (stage.phase.stop - stage.phase.start)
        widest = found if widest is None or _bytes(found) > _bytes(widest) else widest
    assert widest is not None
    if math.isfinite(training):
        rows |= {"training": f"about {wording.duration(training)} for {plan.steps} steps, compilation, evaluation and baselines apart"}
    return rows, widest


def _bytes(widest: Widest) -> int:
    return widest.cost.bytes if widest.cost else 0


def _stage_cost(plan: Plan, stage: Stage, state: TrainState, limit: fitting.Limit) -> tuple[TrainState, dict[str, str], float, Widest]:
    """The state a few steps later, what the stage's step costs, the seconds of an average one (infinite: it does not fit), and the largest program."""
    began = time.perf_counter()
    feed = plan.feed(stage, state)
    built = time.perf_counter() - began
    program = max(feed.programs.values(), key=_flops)  # texts: the longest bucket
    flops, found = _flops(program), fitting.cost_of(program)
    widest = Widest(stage, next(batch for batch in plan.batches_of_every_shape(feed) if feed.programs[shapes_of(batch)] is program), found)
    rows = {
        "FLOPs per step": f"{flops / 1e9:.3g} GFLOP, {flops / plan.batch_size / 1e9:.3g} per example{_uncounted(plan)}",
        "memory of the step": _memory(found),
        "compile": f"{built:.1f} s" + (", with the features of all training examples" if stage.head_only else ""),
    }
    if found is not None and found.bytes > limit.bytes:
        return state, rows | {"step": "not measured: it does not fit"}, math.inf, widest
    state, seconds = _timed(feed, state, plan.put(widest.batch))
    rows |= {"step": f"{seconds * 1e3:.3g} ms, {plan.batch_size / seconds:.0f} examples/s, {flops / seconds / 1e9:.0f} GFLOP/s"}
    return state, rows, seconds * _average(plan, feed) / max(flops, 1.0), widest


def _average(plan: Plan, feed: Feed) -> float:
    """FLOPs of a step, averaged over an epoch: batches of short texts cost less than those of long ones."""
    shares = data.shares_of_every_shape(feed.split, plan.batch_size, plan.config.train.batch_tokens)
    return sum(share * _flops(feed.programs[shapes_of(batch)]) for share, batch in zip(shares, plan.batches_of_every_shape(feed), strict=True))


def _uncounted(plan: Plan) -> str:
    """XLA counts what is inside a loop once."""
    loops = [name for name, is_one in (("train.microbatches", plan.config.train.microbatches > 1), ("model.scan", plan.config.model.scan)) if is_one]
    return f" (of the loops of {' and '.join(loops)} one turn)" if loops else ""


def _timed(feed: Feed, state: TrainState, batch: Batch) -> tuple[TrainState, float]:
    """The state after a few steps, and the seconds of the fastest of those after the first."""
    times = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        state, metrics = feed.advance(state, batch)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - began)
    return state, min(times[1:])


def _flops(program: Any) -> float:
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def _memory(cost: fitting.Cost | None) -> str:
    if cost is None:
        return "not known on this backend"
    arguments, temporary = cost.arguments / 1e6, cost.temporary / 1e6
    return f"{arguments + temporary:,.0f} MB: {arguments:,.0f} MB state and batch, {temporary:,.0f} MB temporary"


def _leaves(view: reporting.Progress, plan: Plan) -> None:
    rows = plan.table.to_json()["rows"]
    columns = ("path", "shape", "group", "c at 0%", "c at 100%", "decay")
    cells = [(row["path"], row["shape"], row["group"], row["coefficient"]["0%"], row["coefficient"]["100%"], row["weight_decay"]) for row in rows]
    view.table("coefficients", columns, cells)
    if plan.load is not None:
        loaded = [(row.target, row.action, row.source or "", row.why) for row in plan.load.rows]
        view.table("load plan", ("target", "action", "source", "why"), loaded)
