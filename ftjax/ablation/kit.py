"""What the populations of a group have in common: where members start, what a stage's steps and batches are, and what is compiled for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from ftjax import adapters, data
from ftjax.ablation import batches
from ftjax.ablation.batches import Chunk, Order, Pool
from ftjax.ablation.grouping import Filled, Group
from ftjax.ablation.looking import Looker, weights_of
from ftjax.ablation.memory import most_members
from ftjax.ablation.program import Program, Spread, bytes_of, stack_hyper, unseen
from ftjax.ablation.starts import Stacked, Starts, differing, own_paths, stack
from ftjax.coefficients import partition
from ftjax.coefficients.after import distance
from ftjax.data import Split
from ftjax.training.stage import Stage, on_features
from ftjax.training.step import Step, make_step
from ftjax.trees import Tree

CHUNK_STEPS = 64
"""Steps of one call: enough that the host costs nothing, few enough to stop soon."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """Where the batches of a stage come from."""

    step: Step
    split: Split
    pool: Pool | None
    on_features: bool


class Kit:
    """Compiled and computed once for a group, whatever parts its members are taken in.

    Args:
      group: the members and their plan.
      spread: the devices.
      together: members in one `vmap` on a device; None: all.
    """

    def __init__(self, group: Group, spread: Spread, together: int | None) -> None:
        self.group, self.plan, self.spread, self.together = group, group.plan, spread, together
        self.starts = Starts(group)
        self.looker = Looker(group.plan, spread, together)
        self.differ = differing([self.starts.of(one) for one in group.members])
        self.updates = group.plan.model.compute.batch_statistics == "updated"
        self._known: dict[tuple[int, str], Any] = {}
        self._claimed = 0.0

    def own(self, stage: Stage) -> frozenset[str]:
        """Paths of what each member has for itself in a stage."""
        return self._once(stage, "own", lambda: own_paths(stage, self.differ, updates_statistics=self.updates))

    def start(self, filled: list[Filled]) -> Stacked:
        """The states before step 0."""
        return self.spread.place(stack([self.starts.of(one) for one in filled], self.own(self.plan.stages[0])))

    def abstract(self, stage: Stage, slots: int) -> Tree:
        """Shapes and places of what a checkpoint of a population holds in a stage."""
        own = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype), partition(stage.abstract, self.own(stage))[0])
        tree = {"own": own, "best": weights_of(own), "seen": jax.eval_shape(lambda: unseen(slots))}
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.spread.by_member), tree)

    def program(self, stage: Stage, slots: int) -> Program:
        """The steps of a stage for so many members."""
        step, limit = self.source(stage).step, self.plan.config.train.max_bad_steps
        return self._once(stage, f"program {slots}", lambda: Program(step, self.spread, together=self.together, max_bad_steps=limit))

    def distance(self, start: Tree, params: Tree) -> float | None:
        """|theta - theta0| / |theta0| over what has a pretrained value; None: nothing has."""
        load = self.plan.load
        if load is None:
            return None
        pretrained = frozenset(row.target for row in load.rows if row.action != "initialised")
        merged = adapters.merge if self.plan.bound else lambda tree: tree
        measure = self._once(self.plan.stages[0], "distance", lambda: jax.jit(lambda before, now: distance(merged(before), merged(now), pretrained)))
        return float(measure(start, params))

    def claim(self) -> float:
        """Seconds of compilation that nobody has been told of yet."""
        spent = sum(known.compile_seconds for known in self._known.values() if isinstance(known, Program))
        new, self._claimed = spent - self._claimed, spent
        return new

    def source(self, stage: Stage) -> Source:
        """Batches and step of a stage; where only the head trains on a body that never moved, features computed once."""
        return self._once(stage, "source", lambda: self._source(stage))

    def features(self, stage: Stage, split: str) -> np.ndarray | None:
        """What the head sees of a split, while the bodies of all members are what they were; None: they are not, or a test looks at several views."""
        return self.features_of(stage, split, self.plan.dataset.splits[split])

    def features_of(self, stage: Stage, name: str, split: Split) -> np.ndarray | None:
        """`features` of any split; `name` tells it from others."""
        if not (self.source(stage).on_features and self.plan.preprocessing.views_of_one == 1):
            return None
        # The body is that of the start in every such stage.
        return self._once(self.plan.stages[0], f"features {name}", lambda: self._computed(split))

    def order(self, stage: Stage, filled: list[Filled]) -> Order:
        """The batches of these members in a stage."""
        seeds = tuple(one.config.seed for one in filled)
        return Order(self.source(stage).split, self.plan.batch_size, self.plan.config.train.batch_tokens, seeds)

    def most_members(self, allowed: int) -> int:
        """Members at once, by what the most demanding stage takes."""
        stage = max(self.plan.stages, key=lambda stage: len(stage.phase.live))
        return most_members(len(self.group.members), len(self.spread.devices), lambda slots: self._bytes(stage, slots), allowed)

    def _bytes(self, stage: Stage, slots: int) -> int | None:
        """Bytes on a device of the steps of a stage and of what lies beside them: the best weights."""
        filled = [self.group.members[slot % len(self.group.members)] for slot in range(slots)]
        tree, source = self.abstract(stage, slots), self.source(stage)
        chunk = self._longest(stage, filled)
        pool = source.pool if chunk.pool is None else chunk.pool
        rows = np.zeros((CHUNK_STEPS if chunk.pool is None else 1, *chunk.rows.shape[1:]), np.int32)
        hyper = jax.eval_shape(lambda: stack_hyper([one.hyper for one in filled]))
        shared = partition(stage.abstract, self.own(stage))[1]
        shared = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), shared)
        assert pool is not None
        program = self.program(stage, slots)
        taken = bytes_of(program.prepared((tree["own"], tree["seen"], shared, hyper, pool, rows, np.int32(1))))
        kept = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree["best"])) // len(self.spread.devices)
        return None if taken is None else taken + kept

    def _longest(self, stage: Stage, filled: list[Filled]) -> Chunk:
        """A chunk of the largest batches that the stage meets."""
        order, source = self.order(stage, filled), self.source(stage)
        if source.pool is not None:
            return next(batches.chunks(order, [[0] * len(filled)], source.pool, 1))
        config = self.plan.config
        shapes = data.batches_of_every_shape(source.split, 0, self.plan.batch_size, config.seed, config.train.batch_tokens)
        largest = max(shapes, key=lambda batch: sum(array.nbytes for array in batch.values()))
        return batches.streamed_like(order, largest)

    def _source(self, stage: Stage) -> Source:
        split = self.plan.dataset.splits["train"]
        if stage.head_only and self._body_is_shared(stage):
            split, parts = on_features(stage, self.plan.model, split, self._computed(split))  #
            return Source(make_step(parts), split, self._resident(split), on_features=True)
        return Source(stage.pure_step, split, self._resident(split), on_features=False)

    def _resident(self, split: Split) -> Pool | None:
        pool = batches.resident(split)
        return None if pool is None else jax.device_put(pool, self.spread.everywhere)

    def _body_is_shared(self, stage: Stage) -> bool:
        body = [path.partition("/")[2] for path in self.own(stage) if path.startswith(("live/", "still/"))]
        return all(self.plan.model.group_of(path) == "head" for path in body)

    def _computed(self, split: Split) -> np.ndarray:
        state = jax.device_put(self.starts.of(self.group.members[0]), self.plan.mesh.devices.flat[0])
        return self.plan.features_of(state.params, state.extra["batch_stats"], split)

    def _once(self, stage: Stage, what: str, make: Callable[[], Any]) -> Any:
        key = (self.plan.stages.index(stage), what)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]
