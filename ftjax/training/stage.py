"""A stage: one phase of a run with the step that is built for it, and how a state passes from one stage to the next.

Parameters that rest in a phase have no gradient, no moments and no work there. Where only the head trains and nothing before it is random, the features
of all training examples are computed once and the head trains on those.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ftjax import coefficients, distribution, models, trees
from ftjax.coefficients.after import start_average
from ftjax.data import Split
from ftjax.training.state import TrainState
from ftjax.training.step import Batch, Metrics, Step, StepParts, make_step
from ftjax.trees import Tree


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """One phase, decided and not yet compiled."""

    phase: coefficients.Phase
    parts: StepParts
    abstract: TrainState
    """Shapes, dtypes and shardings of the state in this phase."""
    head_only: bool
    """Whether the phase may train on features computed once."""

    @functools.cached_property
    def pure_step(self) -> Step:
        """`step(state, batch, hyper) -> (state, metrics)` for a batch of images."""
        return make_step(self.parts)

    @functools.cached_property
    def jitted(self) -> Step:
        """`pure_step`, compiled where the state lies; nothing is donated."""
        return jax.jit(self.pure_step)

    @functools.cached_property
    def structure(self) -> Any:
        """What a state of this phase looks like: the same phase has the same."""
        return jax.tree.structure(self.abstract)

    @functools.cached_property
    def entrance(self) -> Callable[[TrainState], TrainState]:
        """`enter` for this phase, compiled; the state that is given stays."""
        return self._entrance()

    @functools.cached_property
    def one_way_entrance(self) -> Callable[[TrainState], TrainState]:
        """`entrance` that uses up the state it is given: nothing is held twice."""
        return self._entrance(donate_argnums=0)

    def _entrance(self, **options: Any) -> Callable[[TrainState], TrainState]:
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        return jax.jit(functools.partial(enter, phase=self.phase, optimizer=self.parts.optimizer), out_shardings=shardings, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """What the loop needs in a phase: where batches come from, and the compiled step."""

    split: Split
    program: jax.stages.Compiled
    hyper: coefficients.Hyper

    def advance(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step over the mesh; `state` is donated and must not be used again."""
        return self.program(state, batch, self.hyper)


class HasHead(Protocol):
    """A model whose head can be applied by itself."""

    def head(self, params: Tree, features: jax.Array) -> jax.Array:
        """Logits of features."""
        ...


@dataclasses.dataclass(frozen=True)
class HeadOfModel:
    """A model that starts at the features: what the step trains in a head-only phase."""

    model: HasHead

    def apply(self, params: Tree, extra: Tree, images: jax.Array, *, key: Any = None, train: bool = False) -> tuple[jax.Array, Tree]:
        """Logits of features `[batch width]`."""
        return self.model.head(params, images), extra


@dataclasses.dataclass(frozen=True)
class AsTheyAre:
    """Features need no preprocessing."""

    def train(self, images: jax.Array, key: jax.Array, ids: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
        """The features in the type of the parameters."""
        return images.astype(dtype)


def on_features(stage: Stage, model: HasHead, split: Split, features: np.ndarray) -> tuple[Split, StepParts]:
    """The split and the step of a head-only stage: pictures replaced by their features, float32 `[rows width]`."""
    lookup = dataclasses.replace(split, images=lambda indices: features[indices])
    return lookup, dataclasses.replace(stage.parts, model=HeadOfModel(model), preprocessing=AsTheyAre())


def compiled(parts: StepParts, abstract: TrainState, batch: Batch, hyper: coefficients.Hyper, mesh: Mesh) -> jax.stages.Compiled:
    """The step compiled over the mesh, with the state donated; knows its memory and FLOPs."""
    everywhere, spread = distribution.replicated(mesh), distribution.batch_sharding(mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    step = jax.jit(make_step(parts), donate_argnums=0, in_shardings=(shardings, spread, everywhere), out_shardings=(shardings, everywhere))
    return step.lower(abstract, jax.tree.map(jax.typeof, batch), hyper).compile()


def enter(state: TrainState, phase: coefficients.Phase, optimizer: optax.GradientTransformationExtraArgs) -> TrainState:
    """The same point of the run, laid out for another phase.

    Moments and counts of parameters that stay live carry over; those of parameters that begin start empty, with a count of their own. theta0 of what
    begins is its value now, for it has not moved before.
    """
    params = state.params
    live, still = coefficients.partition(params, phase.live)
    carried = trees.flatten(state.opt_state)
    opt_state = trees.map_with_path(lambda path, leaf: carried.get(path, leaf), optimizer.init(live))
    trained = coefficients.partition(params, phase.trained)[0]
    kept = {name: _filled(tree, start_average(trained)) for name, tree in state.extra["averages"].items()}
    extra = state.extra | {"anchor": _filled(state.extra["anchor"], trained), "averages": kept}
    return TrainState(state.step, live, still, opt_state, extra)


def _filled(tree: Tree, values: Tree) -> Tree:
    """`tree`, with a copy of the value where it has a hole and `values` has not."""
    old: Mapping[str, Any] = trees.flatten(tree)
    return trees.map_with_path(lambda path, value: old[path] if path in old else jnp.array(value, copy=True), values)


def stages(
    found: tuple[coefficients.Phase, ...], parts: list[StepParts], first: TrainState, model: models.Model, mesh: Mesh, head_only: list[bool]
) -> tuple[Stage, ...]:
    """All stages of a run, their states' layout worked out from the first one's without computing anything.

    Args:
      found: the phases.
      parts: the step's collaborators, one for each phase.
      first: the placed state before step 0.
      model: says where each parameter lies on the mesh.
      mesh: the devices.
      head_only: for each phase, whether it may train on features.
    """
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), first)
    made = [Stage(found[0], parts[0], abstract, head_only[0])]
    for phase, part, only in list(zip(found, parts, head_only, strict=True))[1:]:
        shapes = jax.eval_shape(functools.partial(enter, phase=phase, optimizer=part.optimizer), made[-1].abstract)
        shardings = distribution.state_shardings(mesh, shapes, shapes.params, model.partition_spec)
        placed = jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings)
        made.append(Stage(phase, part, placed, only))
    return tuple(made)
