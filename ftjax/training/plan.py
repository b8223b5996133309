"""The plan: everything that is decided before step 1, and the pure functions that training, evaluation and ablations compose.

`prepare.py` makes it; a run whose parameters do not all train all the time has several stages (`stage.py`), and most have one.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings as warnings_module
from collections.abc import Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ftjax import adapters, coefficients, data, distribution, durations, models, recipes, trees, weights
from ftjax.config import Config
from ftjax.configuration import Resolved
from ftjax.data import Batch as HostBatch
from ftjax.data import Dataset, Split
from ftjax.errors import ConfigError
from ftjax.evaluation import Evaluator, Measures, Metric, Records
from ftjax.tasks import Task
from ftjax.training.feature_cache import FeatureCache
from ftjax.training.fingerprint import fingerprint
from ftjax.training.forgetting import Meter
from ftjax.training.history_meter import HistoryMeter
from ftjax.training.inspection import Body
from ftjax.training.recommender import candidates
from ftjax.training.select import Selection
from ftjax.training.stage import Feed, Preprocessing, Stage, compile_all, compiler, on_features
from ftjax.training.state import TrainState
from ftjax.training.step import Batch, Metrics, gradient_norms
from ftjax.training.writing import token_outputs
from ftjax.trees import Tree


@dataclasses.dataclass(frozen=True)
class Every:
    """Steps between two of the same."""

    log: int
    evaluate: int
    checkpoint: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A run, decided and not yet started."""

    resolved: Resolved
    dataset: Dataset
    model: models.Model
    selection: Selection
    task: Task
    measures: Measures
    """How the task's answers are judged."""
    preprocessing: Preprocessing
    load: weights.LoadPlan | None
    keeps_head: bool
    """Whether the pretrained head stayed: then the model has an answer before any training."""
    table: coefficients.Table
    hyper: coefficients.Hyper
    mesh: Mesh
    stages: tuple[Stage, ...]
    """What trains when; most runs have one."""
    clock: durations.Clock
    every: Every
    warnings: tuple[str, ...]
    facts: recipes.Facts
    """What the recipe looked at: a population fills the open values of every member with it."""
    bound: tuple[adapters.Bound, ...] = ()
    """The weights that are adapters or quantised."""
    meter: Meter | HistoryMeter | None = None
    """Follows what the model forgets; None: not asked for."""
    store: FeatureCache = dataclasses.field(default_factory=lambda: FeatureCache(None))
    """Where features of a frozen body are kept."""

    @property
    def config(self) -> Config:
        """The configuration, every open value filled."""
        return self.resolved.config

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.clock.total_steps or 0

    @property
    def batch_size(self) -> int:
        """Examples per optimiser step, over all devices; where a batch is of so many tokens, on average."""
        return self.clock.batch_size

    @property
    def metric(self) -> Metric:
        """What chooses on the validation split."""
        return self.measures.metric(self.config.evaluation.metric or self.measures.main)

    def stage_at(self, step: int) -> Stage:
        """The stage that trains step `step`; the last one also holds the state after the last step."""
        return next((stage for stage in self.stages if step < stage.phase.stop), self.stages[-1])

    def stage_of(self, state: TrainState) -> Stage:
        """The stage that a state is laid out for, also while it is traced.

        Raises:
          ValueError: it is no state of this plan.
        """
        structure = jax.tree.structure(state)
        for stage in self.stages:
            if stage.structure == structure:
                return stage
        raise ValueError("this state is not of this plan: its parameters, moments or averages are laid out otherwise")

    def enter(self, state: TrainState, *, donate: bool = False) -> TrainState:
        """The state laid out for the stage of its step: as it is, or with what begins made live and what rests made still.

        Args:
          state: concrete, of this plan.
          donate: use the given state up, so that nothing is held twice.

        Raises:
          ValueError: the state is a population, whose members have no one layout.
        """
        if len(self.stages) == 1:
            return state
        if state.step.ndim:
            raise ValueError('a population has one layout for all its members: plan it with coefficient.phases="arithmetic"')
        stage = self.stage_at(int(state.step))
        if stage.structure == jax.tree.structure(state):
            return state
        if not donate:
            return stage.entrance(state)
        with warnings_module.catch_warnings():
            # The moments of what rests from now on have nowhere to go.
            warnings_module.filterwarnings("ignore", message="Some donated buffers were not usable")
            return stage.one_way_entrance(state)

    @functools.cached_property
    def last_start(self) -> int:
        """The step from which on no parameter begins to train any more, to within the length of the shortest phase."""
        return coefficients.phases(self.table)[-1].start

    def pure_step(self, state: TrainState, batch: Batch, hyper: coefficients.Hyper) -> tuple[TrainState, Metrics]:
        """`step`, neither jitted nor placed: what populations and shardings of another kind compose.

        Raises:
          ConfigError: a hyperparameter that this run does not read, or a run of several stages: no one program takes a state through all of them.
        """
        coefficients.check_hyper(hyper, self.hyper)
        self._refuse_stages()
        return self.stage_of(state).pure_step(state, batch, hyper)

    def _refuse_stages(self) -> None:
        if len(self.stages) > 1:
            borders = ", ".join(str(stage.phase.start) for stage in self.stages[1:])
            raise ConfigError(
                f"this run has {len(self.stages)} stages (another one begins at step {borders}), and one traced step cannot pass from one to the next: "
                'plan with coefficient.phases="arithmetic", or compose plan.stages[i].pure_step and plan.enter'
            )

    def step(self, state: TrainState, batch: Batch, hyper: coefficients.Hyper | None = None) -> tuple[TrainState, Metrics]:
        """One optimiser step as a pure function: jit, vmap, shard and repeat it as you like; nothing is donated.

        In a run of several stages a concrete state that has reached a border enters the next stage first; a traced one cannot, its layout is static.

        Args:
          state: the parameters, moments and counters.
          batch: of `batch(step)`.
          hyper: traced hyperparameters; None: the configured ones (`plan.hyper`).

        Raises:
          ConfigError: as `pure_step`; of several stages only while the state is traced.
        """
        coefficients.check_hyper(self.hyper if hyper is None else hyper, self.hyper)
        if isinstance(state.step, jax.core.Tracer):
            self._refuse_stages()
        else:
            state = self.enter(state)
        return self.stage_of(state).jitted(state, batch, self.hyper if hyper is None else hyper)

    def feed(self, stage: Stage, state: TrainState) -> Feed:
        """Batches and compiled step of a stage that `state` has entered; a head-only stage computes its features here, once."""
        split, parts = self.dataset.splits["train"], stage.parts
        if stage.head_only:
            split, parts = on_features(stage, self.model, split, self.features(state.params, state.extra["batch_stats"], "train"))
        compile_step = compiler(parts, stage.abstract, self.hyper, self.mesh)
        feed = Feed(split, {}, compile_step, self.hyper)
        return dataclasses.replace(feed, programs=compile_all(compile_step, self.batches_of_every_shape(feed)))

    def batches_of_every_shape(self, feed: Feed) -> list[HostBatch]:
        """A batch of every shape that training meets."""
        return data.batches_of_every_shape(feed.split, 0, self.batch_size, self.config.seed, self.config.train.batch_tokens)

    @functools.cached_property
    def _body(self) -> Body:
        return Body(self.model, self.preprocessing, self.mesh, self.store, self.evaluation_batch, self._evaluation_workers)

    def features(self, params: Tree, batch_stats: Tree, split: str) -> np.ndarray:
        """What the head sees of every example of a split as it will be tested, float32 `[rows width]`; computed once for the same body and data."""
        return self.features_of(params, batch_stats, self.dataset.splits[split])

    def features_of(self, params: Tree, batch_stats: Tree, split: Split) -> np.ndarray:
        """`features` of any split of rows like those of the data set."""
        return self._body.features(params, batch_stats, split, self.dataset.report)

    def host_batch(self, step: int) -> HostBatch:
        """The batch of a step: a pure function of (seed, step)."""
        return data.batch_at(self.dataset.splits["train"], int(step), self.batch_size, self.config.seed, self.config.train.batch_tokens)

    def batch(self, step: int) -> Batch:
        """`host_batch` on the devices."""
        return self.put(self.host_batch(step))

    def train_batches(self, feed: Feed, start: int, stop: int) -> Generator[HostBatch]:
        """The host batches of steps `start` to `stop - 1`, prepared ahead by threads."""
        tokens, workers = self.config.train.batch_tokens, self.config.data.workers
        yield from data.train_batches(feed.split, self.batch_size, self.config.seed, start=start, stop=stop, workers=workers, tokens=tokens)

    def put(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """A host batch on the devices, its rows spread over them."""
        return distribution.put_batch(batch, self.mesh)

    def predict(self, params: Tree, extra: Tree, batch: Batch) -> jax.Array:
        """Logits of a batch as it will be tested: no augmentation, no dropout, running statistics."""
        return predict(self.model, self.preprocessing, params, extra, batch)

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Compiled once for every split."""
        return Evaluator(self.predict, self.measures, batch_size=self.evaluation_batch, put=self.put)

    def evaluate(self, params: Tree, batch_stats: Tree, split: str, *, logits: bool = False) -> Records:
        """Records of every example of a split, each exactly once; with the logits also where the metric that chooses reads them."""
        kept = logits or self.metric.needs_logits
        return self.evaluator.run(params, {"batch_stats": batch_stats}, self.eval_batches(split), self.dataset.splits[split], logits=kept)

    def eval_batches(self, split: str) -> Generator[HostBatch]:
        """The host batches of a split, in order, the last one padded with weight 0."""
        yield from data.eval_batches(self.dataset.splits[split], self.evaluation_batch, self._evaluation_workers)

    @property
    def _evaluation_workers(self) -> int:
        # Pixels that lie in memory are gathered faster than a thread is asked.
        return 0 if self.dataset.report.get("in_memory", True) else self.config.data.workers

    @property
    def evaluation_batch(self) -> int:
        """`evaluation.batch_size`, rounded up to a multiple of the devices that share a batch."""
        return distribution.whole_batches(self.mesh, self.config.evaluation.batch_size)

    def travel(self, state: TrainState, previous: Tree) -> dict[str, dict[str, jax.Array]]:
        """`{group: {"travel", "update", "cosine"}}` of what has trained so far.

        An adapted weight travels as the array that it stands for, |w' - w| / |w|, worked out one weight after the other: a product of its rank for each.

        Args:
          state: now.
          previous: what trained in the last step, before it; holes did not.
        """
        if not self.bound:
            return self._travel(state.moved, state.extra["anchor"], previous)
        before = jax.tree.map(lambda now, then: now if then is None else then, state.params, previous, is_leaf=lambda leaf: leaf is None)
        return self._travel_of_leaves(state.params, state.extra["anchor"], before)

    @functools.cached_property
    def _travel(self) -> Any:
        return jax.jit(lambda live, anchor, previous: coefficients.travel(live, anchor, previous, self.model.group_of))

    @functools.cached_property
    def _travel_of_leaves(self) -> Any:
        def travel(params: Tree, anchor: Tree, previous: Tree) -> dict[str, dict[str, jax.Array]]:
            start = jax.tree.map(lambda now, then: now if then is None else then, params, anchor, is_leaf=lambda leaf: leaf is None)
            trained, whole = trees.flatten(anchor), [trees.flatten(adapters.merge(tree)) for tree in (params, start, previous)]
            moved = [path for path in whole[0] if path in trained or any(f"{path}/{name}" in trained for name in adapters.TRAINED)]
            now, first, before = ({path: flat[path] for path in moved} for flat in whole)
            return coefficients.travel(now, first, before, self.model.group_of)

        return jax.jit(travel)

    def plain(self, params: Tree) -> Tree:
        """The parameters with every adapter merged; as they are where there is none."""
        return self._merged(params) if adapters.has_leaves(params) else params

    @functools.cached_property
    def _merged(self) -> Any:
        return jax.jit(adapters.merge)

    def base(self, state: TrainState) -> dict[str, str]:
        """What no checkpoint of an adapted run holds, since the pretrained file has it: paths of weights that never train, with their fingerprints."""
        return {path: fingerprint(leaf) for path, leaf in trees.flatten(state.still).items() if path in self.base_paths}

    @functools.cached_property
    def base_paths(self) -> frozenset[str]:
        """Paths of the pretrained arrays of an adapted run that never train; empty where nothing is adapted."""
        return frozenset(row.path for row in self.table.rows if not (row.live or row.new)) if self.bound else frozenset()

    def by_depth(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by group, from the stem to the head; a dict that went through `jit` comes back sorted by name."""
        return {group: values[group] for group in self.model.groups if group in values}

    def evaluated(self, state: TrainState) -> Tree:
        """The parameters that are evaluated and kept: those of the state, or the running average of a schedule-free run."""
        if not self.config.optimizer.schedule_free:
            return state.params
        return coefficients.combine(self._averaged(state.opt_state, state.live, self.hyper), state.still)

    @functools.cached_property
    def _averaged(self) -> Any:
        return jax.jit(coefficients.evaluation_params)

    @functools.cached_property
    def copy(self) -> Any:
        """A second buffer with the same content: what is donated afterwards cannot take it along."""
        return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return float(self.hyper["learning_rate"] * coefficients.learning_rate_shape(self.config.optimizer, self.clock)(jnp.asarray(step)))

    def describe_bad_step(self, state: TrainState, step: int) -> str:
        """What a run that stopped can say about the step whose loss or gradient was not finite."""
        batch = self.host_batch(step - 1)
        ids = [self.dataset.splits["train"].ids[i] for i in batch["id"][batch["weight"] > 0]]
        before = state._replace(step=jnp.asarray(step - 1, jnp.int32))
        norms = jax.device_get(jax.jit(gradient_norms(self.stage_of(state).parts, self.model.group_of))(before, self.put(batch), self.hyper))
        shown = ", ".join(f"{group} {float(norm):.3g}" for group, norm in self.by_depth(norms).items())
        rows = ", ".join(ids[:16]) + (f", ... ({len(ids)} in all)" if len(ids) > 16 else "")
        count = self.config.train.max_bad_steps
        rate = float(self.hyper["learning_rate"])
        return (
            f"{count} steps in a row had a loss or gradient that is not finite, the last of them step {step}; none was applied. "
            f"Peak learning rate {rate:g}; gradient norms by group: {shown}; examples: {rows}. Try a lower optimizer.learning_rate"
        )


def predict(model: models.Model, preprocessing: Preprocessing, params: Tree, extra: Tree, batch: Batch) -> Any:
    """Logits of a host's batch (of recommenders `Candidates`): the one function behind evaluation, prediction and the artefact's check.

    Of several views the logits are averaged. Their softmax is that of the averaged log-probabilities, which differ by a constant for each example; unlike those
    the mean is still a logit, to be calibrated and shifted like any other.
    """
    if isinstance(preprocessing, data.LanguagePreprocessing):
        return token_outputs(model, preprocessing, params, extra, batch)
    if isinstance(preprocessing, data.InteractionPreprocessing):
        return candidates(model, preprocessing, params, extra, batch)
    outputs = model.apply(params, extra, preprocessing.test_inputs(batch), train=False)[0]
    count = preprocessing.views_of_one
    return outputs if count == 1 else outputs.reshape(-1, count, *outputs.shape[1:]).mean(axis=1)
