"""Where members start, and how their states become one: what differs is stacked, what is the same is held once.

A leaf that never trains and is the same for every member (the pretrained body under a new head) is *shared*: it is an argument of the compiled step with no
population axis. All else is each member's *own*, with a leading axis of members.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import trees
from ftjax.ablation.grouping import Filled, Group
from ftjax.coefficients import combine, partition
from ftjax.config import Config
from ftjax.training import model as model_of_run
from ftjax.training.stage import Stage, enter
from ftjax.training.state import TrainState, create_state
from ftjax.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Stacked:
    """The states of members, split in two trees with holes where the other has the leaf."""

    own: TrainState
    """Leaves `[members ...]`."""
    shared: TrainState
    """Leaves of one member, the same for all."""

    def member(self, index: int) -> TrainState:
        """The state of one member."""
        return combine(jax.tree.map(lambda leaf: leaf[index], self.own), self.shared)


class Starts:
    """The states before step 0 of a group's members; each (seed, scale of adapters) is made once, the initialisation compiled once."""

    def __init__(self, group: Group) -> None:
        self.plan = group.plan
        self._known: dict[tuple[int, float], TrainState] = {}
        self._init = jax.jit(lambda seed: self.plan.model.init(jax.random.key(seed))[0])
        self._batch_stats = group.state.extra["batch_stats"]
        self._base = self._pretrained(group.state)
        stage, extra = self.plan.stages[0], {"batch_stats": self._batch_stats} if self._batch_stats else {}
        self._state = jax.jit(lambda params: create_state(params, extra, stage.phase.live, stage.parts.optimizer, stage.parts.averages))

    def of(self, filled: Filled) -> TrainState:
        """What a single run with this configuration starts from."""
        key = (filled.config.seed, filled.config.adapter.alpha)
        if key not in self._known:
            self._known[key] = self._made(filled.config)
        return self._known[key]

    def _pretrained(self, state: TrainState) -> dict[str, Any]:
        """Every parameter that comes from a file, before adapters are bound."""
        load = self.plan.load
        if load is None:
            return {}
        wanted = {row.target for row in load.rows if row.action != "initialised"}
        if not self.plan.bound:
            return {path: leaf for path, leaf in trees.flatten(state.params).items() if path in wanted}
        fresh = {path: np.asarray(leaf) for path, leaf in trees.flatten(self._init(self.plan.config.seed)).items()}
        loaded = load.apply(fresh | {path: np.asarray(leaf) for path, leaf in trees.flatten(self._batch_stats).items()})
        return {path: jnp.asarray(loaded[path], fresh[path].dtype) for path in fresh if path in wanted}

    def _made(self, config: Config) -> TrainState:
        params = trees.map_with_path(lambda path, leaf: self._base.get(path, leaf), self._init(config.seed))
        params, _ = model_of_run.bind(config, params)
        # On the host: what is stacked next would otherwise be compiled leaf by leaf.
        return jax.device_get(self._state(params))


def differing(states: Sequence[TrainState]) -> frozenset[str]:
    """Paths of the leaves that are not the same in all states of one layout."""
    distinct = list({id(state): trees.flatten(state) for state in states}.values())
    return frozenset(path for path, leaf in distinct[0].items() if not all(np.array_equal(leaf, other[path]) for other in distinct[1:]))


def own_paths(stage: Stage, differ: frozenset[str], *, updates_statistics: bool) -> frozenset[str]:
    """Which leaves of a state in this stage each member has for itself: those that training changes or has changed, and those that differ at the start.

    Args:
      stage: of the run.
      differ: paths that differ at the start, in the layout of the first stage.
      updates_statistics: whether training changes the batch statistics.
    """
    started = {path.removeprefix("extra/anchor/").removeprefix("still/") for path in differ if path.startswith(("extra/anchor/", "still/"))}

    def own(path: str) -> bool:
        if path.startswith("still/"):
            return path.removeprefix("still/") in started | stage.phase.trained
        if path.startswith("extra/anchor/"):
            return path.removeprefix("extra/anchor/") in started
        return updates_statistics or path in differ if path.startswith("extra/batch_stats/") else True

    return frozenset(path for path in trees.flatten(stage.abstract) if own(path))


def stack(states: Sequence[TrainState], own: frozenset[str]) -> Stacked:
    """The states of members as one, `own` the paths of what each has for itself; members that start alike may be one object."""
    distinct = list({id(state): state for state in states}.values())
    places = {id(state): place for place, state in enumerate(distinct)}
    which = np.array([places[id(state)] for state in states])
    return Stacked(jax.tree.map(lambda leaves: leaves[which], own_of(distinct, own)), partition(distinct[0], own)[1])


def own_of(states: Sequence[TrainState], own: frozenset[str]) -> TrainState:
    """What these states have for themselves, `[states ...]`, where `own` are the paths of what each has for itself."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *[partition(state, own)[0] for state in states])


def put(stacked: Tree, fresh: Tree, slots: Sequence[int]) -> Tree:
    """`stacked` whose members `slots` are those of `fresh`, in order: what refills the slots of a search."""
    return _set(stacked, fresh, jnp.asarray(list(slots)))


@jax.jit
def _set(stacked: Tree, fresh: Tree, index: jax.Array) -> Tree:
    return jax.tree.map(lambda old, new: old.at[index].set(new), stacked, fresh)


def entered(stacked: Stacked, stage: Stage, own: frozenset[str]) -> Stacked:
    """All members laid out for another phase: what begins to train becomes each one's own, with theta0 still shared."""
    layout = functools.partial(enter, phase=stage.phase, optimizer=stage.parts.optimizer)

    def one(mine: TrainState) -> tuple[TrainState, TrainState]:
        return partition(layout(combine(mine, stacked.shared)), own)

    return Stacked(*jax.jit(jax.vmap(one, out_axes=(0, None)))(stacked.own))
