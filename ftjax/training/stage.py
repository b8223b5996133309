"""A stage: one phase of a run with the step that is built for it, and how a state passes from one stage to the next.

Parameters that rest in a phase have no gradient, no moments and no work there. Where only the head trains and nothing before it is random, the features
of all training examples are computed once and the head trains on those.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from ftjax import coefficients, distribution, trees
from ftjax.coefficients.after import start_average
from ftjax.data import Split
from ftjax.training.state import TrainState
from ftjax.training.step import Batch, Metrics, Step, StepParts, TrainingInputs, make_step
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


Shapes = tuple[tuple[str, tuple[int, ...]], ...]
CompileStep = Callable[[Mapping[str, Any]], jax.stages.Compiled]
"""From a batch, on the host or on the devices, to the step for batches of its shape."""


def shapes_of(batch: Mapping[str, Any]) -> Shapes:
    """What tells one compiled step from another: the shape of every field."""
    return tuple(sorted((name, tuple(value.shape)) for name, value in batch.items()))


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """What the loop needs in a phase: where batches come from, and the compiled step for each of their shapes."""

    split: Split
    programs: dict[Shapes, jax.stages.Compiled]
    compile: CompileStep
    hyper: coefficients.Hyper

    def advance(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """One step over the mesh; `state` is donated and must not be used again."""
        shapes = shapes_of(batch)
        if shapes not in self.programs:
            self.programs[shapes] = self.compile(batch)
        return self.programs[shapes](state, batch, self.hyper)


class Preprocessing(TrainingInputs, Protocol):
    """Everything between a row and the model; it is saved with the model."""

    @property
    def is_random(self) -> bool:
        """Whether training sees an example differently each time."""
        ...

    @property
    def views_of_one(self) -> int:
        """How often a test looks at each example."""
        ...

    def test_inputs(self, batch: Batch) -> Any:
        """What the model reads of a batch when it is tested: all views of the first example, then all of the second, ..."""
        ...

    def inputs(self, batch: Batch) -> Any:
        """What the model reads of a batch in evaluation."""
        ...

    def to_json(self) -> dict[str, Any]:
        """A value for JSON."""
        ...


class HasHead(Protocol):
    """A model whose head can be applied by itself."""

    def head(self, params: Tree, features: jax.Array) -> jax.Array:
        """Logits of features."""
        ...


@dataclasses.dataclass(frozen=True)
class HeadOfModel:
    """A model that starts at the features: what the step trains in a head-only phase."""

    model: HasHead

    def apply(self, params: Tree, extra: Tree, inputs: jax.Array, *, key: Any = None, train: bool = False) -> tuple[jax.Array, Tree]:
        """Logits of features `[batch width]`."""
        return self.model.head(params, inputs), extra


@dataclasses.dataclass(frozen=True)
class AsTheyAre:
    """Features need no preprocessing."""

    def training_batch(self, batch: Batch, key: jax.Array) -> Batch:
        """The batch as it is."""
        return batch

    def training_inputs(self, batch: Batch, key: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
        """The features in the type of the parameters."""
        return batch["features"].astype(dtype)


def on_features(stage: Stage, model: HasHead, split: Split, features: np.ndarray) -> tuple[Split, StepParts]:
    """The split and the step of a head-only stage: examples replaced by their features, float32 `[rows width]`, in the same batches."""
    lookup = dataclasses.replace(split, fields=lambda indices: {"features": features[indices]})
    return lookup, dataclasses.replace(stage.parts, model=HeadOfModel(model), preprocessing=AsTheyAre())


def compiler(parts: StepParts, abstract: TrainState, hyper: coefficients.Hyper, mesh: Mesh) -> CompileStep:
    """Compiles the step over the mesh for batches like the one given, with the state donated; a compiled step knows its memory and FLOPs."""
    everywhere, spread = distribution.replicated(mesh), distribution.batch_sharding(mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    step = jax.jit(make_step(parts), donate_argnums=0, in_shardings=(shardings, spread, everywhere), out_shardings=(shardings, everywhere))
    return lambda batch: step.lower(abstract, jax.tree.map(lambda value: jax.ShapeDtypeStruct(value.shape, value.dtype), batch), hyper).compile()


def compile_all(compile_step: CompileStep, batches: Sequence[Mapping[str, np.ndarray]]) -> dict[Shapes, jax.stages.Compiled]:
    """The compiled step for each of these batches, side by side: XLA compiles one program on one thread for much of its time."""
    wanted = {shapes_of(batch): batch for batch in batches}
    if len(wanted) == 1:  # in this thread, whose settings of JAX hold
        return {shapes: compile_step(batch) for shapes, batch in wanted.items()}
    with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
        return dict(zip(wanted, pool.map(compile_step, wanted.values()), strict=True))


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
    found: tuple[coefficients.Phase, ...], parts: list[StepParts], first: TrainState, rule: distribution.Rule, mesh: Mesh, head_only: list[bool]
) -> tuple[Stage, ...]:
    """All stages of a run, their states' layout worked out from the first one's without computing anything.

    Args:
      found: the phases.
      parts: the step's collaborators, one for each phase.
      first: the placed state before step 0.
      rule: says along which dimensions a parameter is cut.
      mesh: the devices.
      head_only: for each phase, whether it may train on features.
    """
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), first)
    made = [Stage(found[0], parts[0], abstract, head_only[0])]
    for phase, part, only in list(zip(found, parts, head_only, strict=True))[1:]:
        shapes = jax.eval_shape(functools.partial(enter, phase=phase, optimizer=part.optimizer), made[-1].abstract)
        shardings = distribution.state_shardings(mesh, shapes, shapes.params, rule)
        placed = jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings)
        made.append(Stage(phase, part, placed, only))
    return tuple(made)
