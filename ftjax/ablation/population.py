"""A population under way: states, what each member has reached, and the four things that can happen to it: steps, a look, a refill, a save.

Everything that matters for an exact resume is in `Population.tree` and `Population.info`; who decides when what happens is `running.py` (a grid) or
`halving.py` (a search that refills slots).
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax.ablation import batches, shifts
from ftjax.ablation.batches import Chunk
from ftjax.ablation.grouping import Filled
from ftjax.ablation.kit import CHUNK_STEPS, Kit, Source
from ftjax.ablation.looking import measured, weights_of
from ftjax.ablation.program import Program, Seen, stack_hyper, unseen
from ftjax.ablation.starts import Stacked, entered, own_of, put
from ftjax.training.stage import Stage
from ftjax.trees import Tree


@dataclasses.dataclass
class Progress:
    """What a member has reached; JSON."""

    member: int
    """Its number; -1: a slot that fills up the devices and counts for nothing."""
    best_step: int = -1
    best_value: float | None = None
    evaluations_since_best: int = 0
    stopped_at: int = -1
    """The step at which patience ended; -1: it did not."""
    failed_at: int = -1
    """The step after which too many in a row were not finite; -1: that did not happen."""
    skipped: int = 0
    curve: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """A line for every look: `{"step", "loss", metric: value}`."""

    @property
    def over(self) -> bool:
        """Whether a run of its own would have ended by now."""
        return self.stopped_at >= 0 or self.failed_at >= 0


@dataclasses.dataclass
class Seconds:
    """Time spent where, over all processes that worked on this population; JSON."""

    compiling: float = 0.0
    training: float = 0.0
    evaluating: float = 0.0


class Population:
    """Members of a group side by side, a slot for each; slots beyond the members repeat the last one and count for nothing.

    Args:
      kit: what the group's populations have in common.
      filled: the members, in the order of slots.
      slots: of the population, at least as many as members and a multiple of the devices.
    """

    def __init__(self, kit: Kit, filled: Sequence[Filled], slots: int) -> None:
        self.kit, self.plan, self.spread = kit, kit.plan, kit.spread
        self.filled = [*filled, *[filled[-1]] * (slots - len(filled))]
        self.progress = [Progress(one.member.number if slot < len(filled) else -1) for slot, one in enumerate(self.filled)]
        self.steps = [0] * slots
        self.seconds = Seconds(compiling=kit.claim())
        self.stage = self.plan.stages[0]
        self.stacked = kit.start(self.filled)
        self.hyper = jax.device_put(stack_hyper([one.hyper for one in self.filled]), self.spread.by_member)
        self.best: dict[str, Tree] = _copied(weights_of(self.stacked.own))
        self.seen: Seen = jax.device_put(unseen(slots), self.spread.by_member)

    def advance(self, count: int) -> None:
        """So many steps of every slot, within one stage."""
        began = time.perf_counter()
        source, program = self.kit.source(self.stage), self.kit.program(self.stage, len(self.filled))
        order = self.kit.order(self.stage, self.filled)
        steps = [[own + taken for own in self.steps] for taken in range(count)]
        for chunk in batches.chunks(order, steps, source.pool, CHUNK_STEPS):
            self._take(program, source, chunk)
        self.steps = [step + count for step in self.steps]
        self.seconds.training += time.perf_counter() - began

    def _take(self, program: Program, source: Source, chunk: Chunk) -> None:
        pool = source.pool if chunk.pool is None else jax.device_put(chunk.pool, self.spread.everywhere)
        assert pool is not None
        most = CHUNK_STEPS if chunk.pool is None else 1
        self.stacked, self.seen = program.advance(self.stacked, self.seen, self.hyper, pool, chunk, most)
        jax.block_until_ready(self.seen)
        compiled = self.kit.claim()
        self.seconds.compiling += compiled
        self.seconds.training -= compiled

    def enter(self, stage: Stage) -> None:
        """All members begin another stage of the run."""
        before = weights_of(self.stacked.shared)
        self.stacked = self.spread.place(entered(self.stacked, stage, self.kit.own(stage)))
        self.stage = stage
        # What has begun to train is in the best weights still the value that all share.
        slots = len(self.filled)

        def widened(mine: Any, best: Any, shared: Any) -> Any:
            return None if mine is None else jnp.broadcast_to(shared, (slots, *shared.shape)) if best is None else best

        self.best = jax.device_put(_with_holes(widened, weights_of(self.stacked.own), self.best, before), self.spread.by_member)

    def look(self) -> None:
        """Measure the validation split for every member; keep the weights of those that are better than before."""
        began = time.perf_counter()
        seen = {name: np.asarray(value) for name, value in self.seen.items()}
        weights = self.kit.looker.weights(self.stacked.own, self.hyper)
        records = self.records(weights, "validation", logits=self.plan.metric.needs_logits)
        values = measured(self.plan, records)
        better = np.array([self._note(slot, {name: value[slot] for name, value in seen.items()}, values[slot]) for slot in range(len(self.filled))])
        if better.any():
            self.best = _select(jax.device_put(better, self.spread.by_member), weights, self.best)
        self.seen = jax.device_put(unseen(len(self.filled)), self.spread.by_member)
        self.seconds.evaluating += time.perf_counter() - began

    def records(self, weights: dict[str, Tree], split: str, *, logits: bool = False) -> list[Any]:
        """The records of each slot on a split, with the own half of its weights given."""
        features = self.kit.features(self.stage, split)
        return self.kit.looker.records(weights, weights_of(self.stacked.shared), self.plan.dataset.splits[split], features, logits=logits)

    def shifted(self, weights: dict[str, Tree], name: str) -> list[Any]:
        """The records of each slot on a changed copy of the test pictures."""
        split = shifts.shifted(self.plan.dataset.splits["test"], name)
        return self.kit.looker.records(weights, weights_of(self.stacked.shared), split, self.kit.features_of(self.stage, name, split), logits=False)

    def _note(self, slot: int, seen: Mapping[str, Any], values: dict[str, float]) -> bool:
        """Write a member's line; whether its weights are the best so far."""
        progress, metric, step = self.progress[slot], self.plan.metric, self.steps[slot]
        if progress.over:
            return False
        progress.skipped += int(seen["skipped"])
        loss = float(seen["loss"] / seen["good"]) if seen["good"] else None
        progress.curve.append({"step": step, "loss": loss} | values)
        if seen["failed_at"] >= 0:
            progress.failed_at = int(seen["failed_at"])
            return False
        value, best = values[metric.name], progress.best_value
        better = best is None or (value > best if metric.higher_is_better else value < best)
        if better:
            progress.best_step, progress.best_value, progress.evaluations_since_best = step, value, 0
        else:
            progress.evaluations_since_best += 1
        patience = self.plan.config.train.patience
        if step <= self.plan.last_start:
            progress.evaluations_since_best = 0
        if patience is not None and progress.evaluations_since_best >= patience:
            progress.stopped_at = step
        return better

    def refill(self, slots: Sequence[int], filled: Sequence[Filled]) -> None:
        """Slots begin anew with other members."""
        fresh = own_of([self.kit.starts.of(one) for one in filled], self.kit.own(self.stage))
        self.stacked = self.spread.place(Stacked(put(self.stacked.own, fresh, slots), self.stacked.shared))
        self.best = jax.device_put(put(self.best, weights_of(fresh), slots), self.spread.by_member)
        self.hyper = jax.device_put(put(self.hyper, stack_hyper([one.hyper for one in filled]), slots), self.spread.by_member)
        for slot, one in zip(slots, filled):
            self.filled[slot], self.progress[slot], self.steps[slot] = one, Progress(one.member.number), 0

    @property
    def tree(self) -> Tree:
        """The arrays that a checkpoint holds: what members have for themselves, their best weights, and what was seen since the last look."""
        return {"own": self.stacked.own, "best": self.best, "seen": self.seen}

    @property
    def info(self) -> dict[str, Any]:
        """What a checkpoint remembers beside its arrays. Progress is a text of its own, because JSON proper has no word for what is no number."""
        progress = json.dumps([dataclasses.asdict(one) for one in self.progress])
        members = [one.member.number for one in self.filled]
        return {"progress": progress, "members": members, "steps": self.steps, "seconds": dataclasses.asdict(self.seconds)}

    def rest(self, slots: Sequence[int]) -> None:
        """Nobody is left for these slots; they go on and count for nothing."""
        for slot in slots:
            self.progress[slot] = Progress(-1)

    def restore(self, tree: Tree, info: Mapping[str, Any], by_number: Mapping[int, Filled]) -> None:
        """Go on from what `tree` and `info` were, in the same stage."""
        self.filled = [by_number[number] for number in info["members"]]
        self.hyper = jax.device_put(stack_hyper([one.hyper for one in self.filled]), self.spread.by_member)
        self.stacked, self.best, self.seen = Stacked(tree["own"], self.stacked.shared), tree["best"], tree["seen"]
        self.progress = [Progress(**one) for one in json.loads(info["progress"])]
        self.steps, self.seconds = list(info["steps"]), Seconds(**info["seconds"])


@jax.jit
def _copied(tree: Tree) -> Tree:
    """Buffers of its own: what is donated afterwards cannot take it along."""
    return jax.tree.map(jnp.copy, tree)


@jax.jit
def _select(better: jax.Array, new: Tree, old: Tree) -> Tree:
    """The new weights of the members that are better, the old ones of the others."""

    def pick(now: jax.Array, before: jax.Array) -> jax.Array:
        return jnp.where(better.reshape(-1, *[1] * (now.ndim - 1)), now, before)

    return jax.tree.map(pick, new, old)


def _with_holes(function: Any, *trees_of_one_shape: Tree) -> Tree:
    """`jax.tree.map` that hands holes over as None."""
    return jax.tree.map(function, *trees_of_one_shape, is_leaf=lambda leaf: leaf is None)
