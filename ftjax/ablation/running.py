"""From groups to results: micro-populations one after the other, each killed and continued at will.

A micro-population has a folder; once its `members.json` is there it is done and never trained again. Before that its newest checkpoint holds everything, so
the same call ends with the same numbers, bit for bit, however often it was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ftjax import evaluation, files
from ftjax.ablation.grouping import Filled
from ftjax.ablation.kit import Kit
from ftjax.ablation.looking import weights_of
from ftjax.ablation.population import Population, Progress
from ftjax.ablation.program import Spread
from ftjax.ablation.spec import Search
from ftjax.coefficients import combine
from ftjax.errors import CheckpointError
from ftjax.training.checkpoint import Checkpoints
from ftjax.training.plan import Plan
from ftjax.training.stage import Stage

Tell = Callable[[str], None]


class Stopped(Exception):
    """Asked to stop; what was reached is saved."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How populations run; none of it changes a number beyond rounding."""

    memory: int | None = None
    """Bytes on a device; None: most of what there is."""
    together: int | None = None
    """Members in one `vmap` on a device; None: all of them."""
    devices: tuple[jax.Device, ...] = ()
    """None given: all."""

    @property
    def spread(self) -> Spread:
        """The devices."""
        return Spread(self.devices or tuple(jax.devices()))


@dataclasses.dataclass(frozen=True, eq=False)
class Edges:
    """Where a population meets the world."""

    folder: Path
    """Of the ablation."""
    tell: Tell
    stop: threading.Event
    shifts: tuple[str, ...] = ()
    search: Search = dataclasses.field(default_factory=Search)


def run_part(kit: Kit, filled: Sequence[Filled], slots: int, folder: Path, edges: Edges) -> list[dict[str, Any]]:
    """One micro-population from step 0, or from its newest checkpoint, to its results."""
    population = Population(kit, filled, slots)
    by_number = {one.member.number: one for one in filled}
    with opened(kit, population, folder, edges, by_number) as (store, _):
        plan, every = kit.plan, kit.plan.every
        while population.steps[0] < plan.steps and not all(one.over for one in population.progress):
            step = population.steps[0]
            border = population.stage.phase.stop
            stop = min(border, plan.steps, *(step - step % interval + interval for interval in (every.evaluate, every.checkpoint)))
            population.advance(stop - step)
            if stop == border < plan.steps:
                population.enter(plan.stage_at(stop))
            last = stop == plan.steps
            if last or stop % every.evaluate == 0:
                population.look()
                edges.tell(said(population))
            if stop % every.checkpoint == 0 or edges.stop.is_set():
                store.save(stop, population.tree, population.info)
            if edges.stop.is_set() and not last:
                raise Stopped
    return results(population, folder, edges)


@contextlib.contextmanager
def opened(
    kit: Kit, population: Population, folder: Path, edges: Edges, by_number: Mapping[int, Filled]
) -> Iterator[tuple[Checkpoints, Mapping[str, Any] | None]]:
    """The checkpoints of a population, which goes on from the newest, and what that one remembers; they belong to these members and no others."""
    identity = {"members": [*by_number], "pretrained": _origin(kit.plan), "data": kit.plan.dataset.report["fingerprint"]}
    _check_same(folder / "identity.json", identity)
    store = Checkpoints(folder / "checkpoints")
    with contextlib.closing(store):
        slots = len(population.filled)
        restored = store.restore(lambda step: kit.abstract(kit.plan.stage_at(step), slots))
        if restored is not None:
            for stage in _passed(kit.plan, restored.step):
                population.enter(stage)
            population.restore(restored.tree, restored.info, by_number)
            edges.tell(f"resumed from step {max(population.steps)}")
        yield store, None if restored is None else restored.info


def _passed(plan: Plan, step: int) -> list[Stage]:
    """The stages that a state of this step has entered after the first."""
    return [stage for stage in plan.stages[1:] if stage.phase.start <= step]


def _origin(plan: Plan) -> str | None:
    return None if plan.load is None else plan.load.to_json()["sha256"]


def _check_same(path: Path, identity: dict[str, Any]) -> None:
    """A population is continued on the data and weights that it began with.

    Raises:
      CheckpointError: it is another one.
    """
    if path.exists():
        before = files.read_json(path)
        differing = [name for name in identity if before.get(name) != identity[name]]
        if differing:
            raise CheckpointError(f"{path.parent} holds a population with other {' and '.join(differing)}; use another --workdir")
        return
    files.write_json(path, identity)


def said(population: Population) -> str:
    """A line for a person: how far, and how good the members are."""
    metric = population.plan.metric
    real = [one for one in population.progress if one.member >= 0]
    best = [one.best_value for one in real if one.best_value is not None]
    span = f"{metric.name} {min(best):.4g} to {max(best):.4g}" if best else "no value yet"
    lost = sum(one.failed_at >= 0 for one in real)
    failed = f", {lost} diverged" if lost else ""
    return f"step {max(population.steps)} of {population.plan.steps}: best validation {span} over {len(real)} members{failed}"


def results(population: Population, folder: Path, edges: Edges, slots: Sequence[int] | None = None) -> list[dict[str, Any]]:
    """Every member, or those in these slots, tested once with its best weights; its records are kept beside the results."""
    plan = population.plan
    found = {name: population.records(population.best, name, logits=name == "test") for name in ("validation", "test")}
    moved = {name: population.shifted(population.best, name) for name in edges.shifts}
    lines = []
    for slot, (one, progress) in enumerate(zip(population.filled, population.progress)):
        if progress.member < 0 or (slots is not None and slot not in slots):
            continue
        record = found["test"][slot]
        evaluation.write_records(folder / "records" / f"{one.member.number:04d}.npz", record)
        for name, records in moved.items():
            evaluation.write_records(folder / "records" / f"{one.member.number:04d}-{name}.npz", records[slot])
        values = {name: plan.measures.compute_all(records[slot]) for name, records in found.items()}
        values |= {f"test {name}": plan.measures.compute_all(records[slot]) for name, records in moved.items()}
        lines.append(result(population, slot, one, progress, values))
    return lines


def result(population: Population, slot: int, one: Filled, progress: Progress, splits: dict[str, dict[str, float]]) -> dict[str, Any]:
    """A member's line of members.json."""
    plan, state = population.plan, population.stacked.member(slot)
    weights = combine(jax.tree.map(lambda leaf: leaf[slot], population.best), weights_of(population.stacked.shared))
    travel = plan.by_depth(jax.device_get(plan.travel(state, state.live)))
    real = sum(other.member >= 0 for other in population.progress)
    return {
        "member": one.member.number,
        "arm": one.member.arm,
        "trial": one.member.trial,
        "seed": one.member.seed,
        "settings": {key: _plain(value) for key, value in one.member.settings.items()},
        "tuned": {key: _plain(value) for key, value in one.member.tuned.items()},
        "learning_rate": one.config.optimizer.learning_rate,
        "status": "diverged" if progress.failed_at >= 0 else "ok",
        "failed_at": progress.failed_at if progress.failed_at >= 0 else None,
        "steps": progress.stopped_at if progress.stopped_at >= 0 else population.steps[slot],
        "best_step": progress.best_step,
        "skipped_steps": progress.skipped,
        "splits": splits,
        "travel": {group: float(values["travel"]) for group, values in travel.items()},
        "distance": population.kit.distance(population.kit.starts.of(one).params, weights["params"]),
        "examples": plan.steps * plan.batch_size,
        "train_examples": len(plan.dataset.splits["train"]),
        "live_parameters": plan.table.to_json()["parameters"]["live"],
        "seconds": {name: value / real for name, value in dataclasses.asdict(population.seconds).items()},
        "curve": progress.curve,
    }


def _plain(value: Any) -> Any:
    """A setting for JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
