"""`ftjax check`: everything that can be known before training. Exit 0 when the run can start, 2 with the reason when it cannot."""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp

from ftjax import config_usage, configuration, reporting
from ftjax.commands import show
from ftjax.reporting import wording
from ftjax.training.plan import Plan
from ftjax.training.prepare import prepare
from ftjax.training.stage import Feed, Stage, shapes_of
from ftjax.training.state import TrainState

TIMED_STEPS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `check`."""
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARGUMENT]", help="configuration; --config.key=value overrides a key. This file is executed"
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
        view.table("cost", ("what", "value"), list(cost(plan, state).items()))
        view.message("ok: this run can start")
    return 0


def cost(plan: Plan, state: TrainState) -> dict[str, str]:
    """Memory and FLOPs of the compiled step as XLA counts them, and the time that a run would take; the state is used up."""
    parameters = plan.table.to_json()["parameters"]
    rows = {"parameters": f"{parameters['total']:,}, {parameters['live']:,} live, {parameters['total'] - parameters['live']:,} still"}
    training = 0.0
    for number, stage in enumerate(plan.stages, 1):
        state = plan.enter(state._replace(step=jnp.full_like(state.step, stage.phase.start)))
        title = f"phase {number}, steps {stage.phase.start} to {stage.phase.stop}: " if len(plan.stages) > 1 else ""
        state, measured, seconds = _stage_cost(plan, stage, state)
        rows |= {f"{title}{what}": value for what, value in measured.items()}
        training += seconds * (stage.phase.stop - stage.phase.start)
    return rows | {"training": f"about {wording.duration(training)} for {plan.steps} steps, compilation, evaluation and baselines apart"}


def _stage_cost(plan: Plan, stage: Stage, state: TrainState) -> tuple[TrainState, dict[str, str], float]:
    """The state a few steps later, what the stage's step costs, and its seconds."""
    began = time.perf_counter()
    feed = plan.feed(stage, state)
    built = time.perf_counter() - began
    program = max(feed.programs.values(), key=_flops)  # texts: the longest bucket
    flops = _flops(program)
    state, seconds = _timed(plan, feed, state)
    return (
        state,
        {
            "FLOPs per step": f"{flops / 1e9:.3g} GFLOP, {flops / plan.batch_size / 1e9:.3g} per example",
            "memory of the step": _memory(program.memory_analysis()),
            "compile": f"{built:.1f} s" + (", with the features of all training examples" if stage.head_only else ""),
            "step": f"{seconds * 1e3:.3g} ms, {plan.batch_size / seconds:.0f} examples/s, {flops / seconds / 1e9:.0f} GFLOP/s",
        },
        seconds,
    )


def _timed(plan: Plan, feed: Feed, state: TrainState) -> tuple[TrainState, float]:
    """The state after a few steps, and the seconds of the fastest of those after the first."""
    longest = max(feed.programs, key=lambda shapes: _flops(feed.programs[shapes]))
    batch = next(plan.put(batch) for batch in plan.batches_of_every_shape(feed) if shapes_of(batch) == longest)
    times = []
    for _ in range(1 + TIMED_STEPS):
        began = time.perf_counter()
        state, metrics = feed.advance(state, batch)
        jax.block_until_ready((state, metrics))
        times.append(time.perf_counter() - began)
    return state, min(times[1:])


def _flops(program: Any) -> float:
    return float((program.cost_analysis() or {}).get("flops", 0.0))


def _memory(memory: Any) -> str:
    if memory is None:
        return "not known on this backend"
    arguments, temporary = memory.argument_size_in_bytes / 1e6, memory.temp_size_in_bytes / 1e6
    return f"{arguments + temporary:,.0f} MB: {arguments:,.0f} MB state and batch, {temporary:,.0f} MB temporary"


def _leaves(view: reporting.Progress, plan: Plan) -> None:
    rows = plan.table.to_json()["rows"]
    columns = ("path", "shape", "group", "c at 0%", "c at 100%", "decay")
    cells = [(row["path"], row["shape"], row["group"], row["coefficient"]["0%"], row["coefficient"]["100%"], row["weight_decay"]) for row in rows]
    view.table("coefficients", columns, cells)
    if plan.load is not None:
        loaded = [(row.target, row.action, row.source or "", row.why) for row in plan.load.rows]
        view.table("load plan", ("target", "action", "source", "why"), loaded)
