"""The plan: everything that is decided before step 1, and the pure functions that training, evaluation and ablations compose.

`prepare(config)` tells the story: select a model, collect the data, fill the recipe, load the weights, lay out the coefficients, place the state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ftjax import coefficients, configuration, data, distribution, durations, models, recipes, trees, weights
from ftjax.config import Config
from ftjax.configuration import Resolved
from ftjax.data import Batch as HostBatch
from ftjax.data import Dataset, ImageFormat, Preprocessing
from ftjax.errors import ConfigError
from ftjax.evaluation import Evaluator, Records, metric_named
from ftjax.tasks import Classification, check_labels, make_task
from ftjax.training.select import Selection, select
from ftjax.training.state import TrainState, create_state
from ftjax.training.step import Batch, Metrics, Step, StepParts, gradient_norms, make_step
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
    task: Classification
    preprocessing: Preprocessing
    load: weights.LoadPlan | None
    keeps_head: bool
    """Whether the pretrained head stayed: then the model has an answer before any training."""
    table: coefficients.Table
    hyper: coefficients.Hyper
    mesh: Mesh
    parts: StepParts
    clock: durations.Clock
    every: Every
    abstract: TrainState
    """The state's shapes, dtypes and shardings."""
    warnings: tuple[str, ...]

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
        """Examples per optimiser step, over all devices."""
        return self.clock.batch_size

    @functools.cached_property
    def pure_step(self) -> Step:
        """`step(state, batch, hyper) -> (state, metrics)`, neither jitted nor placed: what populations and shardings of another kind compose."""
        return make_step(self.parts)

    @functools.cached_property
    def _jitted(self) -> Step:
        return jax.jit(self.pure_step)

    def step(self, state: TrainState, batch: Batch, hyper: coefficients.Hyper | None = None) -> tuple[TrainState, Metrics]:
        """One optimiser step as a pure function: jit, vmap, shard and repeat it as you like; nothing is donated.

        Args:
          state: the parameters, moments and counters.
          batch: of `batch(step)`.
          hyper: traced hyperparameters; None: the configured ones (`plan.hyper`).
        """
        return self._jitted(state, batch, self.hyper if hyper is None else hyper)

    @functools.cached_property
    def program(self) -> jax.stages.Compiled:
        """The step compiled over the mesh, with the state donated; knows its memory and FLOPs."""
        everywhere, batch = distribution.replicated(self.mesh), distribution.batch_sharding(self.mesh)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract)
        step = jax.jit(self.pure_step, donate_argnums=0, in_shardings=(shardings, batch, everywhere), out_shardings=(shardings, everywhere))
        return step.lower(self.abstract, jax.tree.map(jax.typeof, self.batch(0)), self.hyper).compile()

    def advance(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """`step` as training runs it: compiled ahead, over the mesh; `state` is donated and must not be used again."""
        return self.program(state, batch, self.hyper)

    def batch(self, step: int) -> Batch:
        """The batch of a step, on the devices: a pure function of (seed, step)."""
        return self.put(data.batch_at(self.dataset.splits["train"], int(step), self.batch_size, self.config.seed))

    def train_batches(self, start: int) -> Generator[HostBatch]:
        """The host batches of steps `start` to the last, prepared ahead by threads."""
        train, workers = self.dataset.splits["train"], self.config.data.workers
        yield from data.train_batches(train, self.batch_size, self.config.seed, start=start, stop=self.steps, workers=workers)

    def put(self, batch: Mapping[str, np.ndarray]) -> Batch:
        """A host batch on the devices, its rows spread over them."""
        return distribution.put_batch(batch, self.mesh)

    def predict(self, params: Tree, extra: Tree, batch: Batch) -> jax.Array:
        """Logits `[batch classes]` of a batch as it will be tested: no augmentation, no dropout, running statistics."""
        return predict(self.model, self.preprocessing, params, extra, batch)

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """Compiled once for every split."""
        return Evaluator(self.predict, batch_size=self.evaluation_batch, put=self.put)

    def evaluate(self, params: Tree, batch_stats: Tree, split: str, *, logits: bool = False) -> Records:
        """Records of every example of a split, each exactly once."""
        return self.evaluator.run(params, {"batch_stats": batch_stats}, self.eval_batches(split), logits=logits)

    def eval_batches(self, split: str) -> Generator[HostBatch]:
        """The host batches of a split, in order, the last one padded with weight 0."""
        # Pixels that lie in memory are gathered faster than a thread is asked.
        workers = 0 if self.dataset.report["in_memory"] else self.config.data.workers
        yield from data.eval_batches(self.dataset.splits[split], self.evaluation_batch, workers)

    @property
    def evaluation_batch(self) -> int:
        """`evaluation.batch_size`, rounded up to a multiple of the devices that share a batch."""
        parts = distribution.batch_devices(self.mesh)
        return -(-self.config.evaluation.batch_size // parts) * parts

    @functools.cached_property
    def travel(self) -> Any:
        """`travel(live, anchor, previous) -> {group: {"travel", "update"}}`, compiled."""
        return jax.jit(lambda live, anchor, previous: coefficients.travel(live, anchor, previous, self.model.group_of))

    def by_depth(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by group, from the stem to the head; a dict that went through `jit` comes back sorted by name."""
        return {group: values[group] for group in self.model.groups if group in values}

    @functools.cached_property
    def copy(self) -> Any:
        """A second buffer with the same content: what is donated afterwards cannot take it along."""
        return jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return float(self.hyper["learning_rate"] * coefficients.learning_rate_shape(self.config.optimizer, self.clock)(jnp.asarray(step)))

    def describe_bad_step(self, state: TrainState, step: int) -> str:
        """What a run that stopped can say about the step whose loss or gradient was not finite."""
        batch = data.batch_at(self.dataset.splits["train"], step - 1, self.batch_size, self.config.seed)
        ids = [self.dataset.splits["train"].ids[i] for i in np.asarray(batch["id"])]
        before = state._replace(step=jnp.asarray(step - 1, jnp.int32))
        norms = jax.device_get(jax.jit(gradient_norms(self.parts, self.model.group_of))(before, self.put(batch), self.hyper))
        shown = ", ".join(f"{group} {float(norm):.3g}" for group, norm in self.by_depth(norms).items())
        rows = ", ".join(ids[:16]) + (f", ... ({len(ids)} in all)" if len(ids) > 16 else "")
        count = self.config.train.max_bad_steps
        rate = float(self.hyper["learning_rate"])
        return (
            f"{count} steps in a row had a loss or gradient that is not finite, the last of them step {step}; none was applied. "
            f"Peak learning rate {rate:g}; gradient norms by group: {shown}; examples: {rows}. Try a lower optimizer.learning_rate"
        )


def predict(model: models.Model, preprocessing: Preprocessing, params: Tree, extra: Tree, batch: Batch) -> jax.Array:
    """Logits of uint8 images: the one function behind evaluation, prediction and the artefact's check."""
    return model.apply(params, extra, preprocessing.evaluate(batch["image"]), train=False)[0]


def prepare_config(config: Config) -> tuple[Plan, TrainState]:
    """`ftjax.prepare(config)`: the plan and the state before step 0, for stepping through a run by hand."""
    return prepare(configuration.resolve(None, {}, config))


def prepare(resolved: Resolved, *, dataset: Dataset | None = None, progress: data.Progress | None = None) -> tuple[Plan, TrainState]:
    """Decide everything and place the state before step 0.

    Args:
      resolved: the configuration with origins; open values are filled here.
      dataset: the data set, when the caller has collected it already.
      progress: called with (done, total) while images are decoded.

    Raises:
      FtjaxError: whatever cannot be used, before anything is trained.
    """
    config = resolved.config
    selection = select(config)
    image = ImageFormat(size=selection.image_size, interpolation=selection.input.interpolation, crop_fraction=selection.input.crop_fraction)
    dataset = dataset or data.collect(config.data, image, config.seed, progress=progress)
    mesh = distribution.make_mesh(config.mesh)
    keeps_head = _keeps_head(config, selection, dataset)
    spec = selection.spec(len(dataset.classes))
    train = dataset.splits["train"]
    facts = recipes.Facts(
        examples=len(train),
        groups=models.build(spec).groups,
        photos=config.data.source in ("image_folder", "tfds"),
        keeps_head=keeps_head,
        batch_devices=distribution.batch_devices(mesh),
    )
    resolved = recipes.fill(resolved, facts)
    config = resolved.config
    model = _build(config, spec)
    batch_size = _batch_size(config, len(train), mesh)
    clock = durations.Clock(batch_size=batch_size, examples_per_epoch=len(train))
    clock = dataclasses.replace(clock, total_steps=durations.to_steps(config.train.duration or "1 epochs", clock, "train.duration", minimum=1))
    load, params, extra = _load(config, selection, model, keeps_head)
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    table = coefficients.build_table(config, shapes, model.groups, model.group_of, clock)
    task = make_task(config.task, dataset.classes)
    metric_named(config.evaluation.metric, config.evaluation.top_k)  # refused now rather than after the first evaluation
    for name, split in dataset.splits.items():
        check_labels(split.labels, dataset.classes, f"split {name}")
    preprocessing = _preprocessing(config, selection, image)
    optimizer = coefficients.chain(table, config, clock)
    parts = StepParts(model=model, task=task, preprocessing=preprocessing, optimizer=optimizer, microbatches=config.train.microbatches)
    state = create_state(params, extra, table.live_paths, optimizer)
    state = distribution.shard_tree(state, distribution.state_shardings(mesh, state, params, model.partition_spec))
    plan = Plan(
        resolved=resolved,
        dataset=dataset,
        model=model,
        selection=selection,
        task=task,
        preprocessing=preprocessing,
        load=load,
        keeps_head=keeps_head,
        table=table,
        hyper=jax.device_put(coefficients.default_hyper(config), distribution.replicated(mesh)),
        mesh=mesh,
        parts=parts,
        clock=clock,
        every=_every(config, clock),
        abstract=jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state),
        warnings=tuple(dataset.report.get("warnings", ())),
    )
    return plan, state


def _build(config: Config, spec: models.ModelSpec) -> models.Model:
    """The model, computed as the configuration says."""
    settings = config.model
    return models.build(
        spec,
        precision=settings.precision,
        batch_statistics=settings.batch_statistics or "frozen",
        remat=settings.remat,
        drop_path=settings.drop_path,
        dropout=settings.dropout,
    )


def _load(config: Config, selection: Selection, model: models.Model, keeps_head: bool) -> tuple[weights.LoadPlan | None, Tree, dict[str, Any]]:
    """Initial variables, with the pretrained values put in."""
    params, extra = jax.jit(model.init)(jax.random.key(config.seed))
    if selection.source is None or selection.recognised is None:
        return None, params, extra
    initial = trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))
    target = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in initial.items()}
    fresh = () if keeps_head else ("head",)
    plan = weights.plan(selection.source, selection.recognised, target, reinitialise=(), fresh=fresh, image_size=selection.image_size)
    loaded = plan.apply({path: np.asarray(leaf) for path, leaf in initial.items()})
    fill = functools.partial(trees.map_with_path, lambda path, leaf: jnp.asarray(loaded[path], leaf.dtype))
    return plan, fill(params), {"batch_stats": fill(extra["batch_stats"])} if extra.get("batch_stats") else {}


def _keeps_head(config: Config, selection: Selection, dataset: Dataset) -> bool:
    """Whether the pretrained head stays: asked for, or the file names these very classes."""
    if selection.source is None or config.model.head != "auto":
        return selection.source is not None and config.model.head == "keep"
    return selection.classes == tuple(dataset.classes)


def _batch_size(config: Config, examples: int, mesh: Mesh) -> int:
    wanted = config.train.batch_size
    size = examples if wanted == "all" else int(wanted or 1)
    if size % config.train.microbatches:
        raise ConfigError(f"train.batch_size={size} cannot be cut into train.microbatches={config.train.microbatches} equal parts")
    distribution.check_batch_size(mesh, size // config.train.microbatches, "train.batch_size / train.microbatches")
    return size


def _preprocessing(config: Config, selection: Selection, image: ImageFormat) -> Preprocessing:
    """How images enter the model; it travels with the artefact."""
    normalize = data.Normalize(selection.input.mean, selection.input.std)
    return Preprocessing(image=image, normalize=normalize, augment=data.augmentations(config.augment))


def _every(config: Config, clock: durations.Clock) -> Every:
    def steps(key: str, duration: str | None) -> int:
        return durations.to_steps(duration or "100%", clock, f"train.{key}", minimum=1)

    return Every(
        log=steps("log_every", config.train.log_every),
        evaluate=steps("evaluate_every", config.train.evaluate_every),
        checkpoint=steps("checkpoint_every", config.train.checkpoint_every),
    )
