"""Prepare a run: select a model, collect the data, fill the recipe, load the weights, lay out the coefficients, place the state."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from ftjax import adapters, coefficients, config_usage, configuration, data, distribution, durations, models, recipes, trees, weights
from ftjax.coefficients.after import check_after
from ftjax.config import APART, Config
from ftjax.configuration import Resolved
from ftjax.data import Dataset, Split
from ftjax.errors import ConfigError
from ftjax.evaluation import Measures, measures_of
from ftjax.tasks import LANGUAGE, Classification, Preference, Task, check_labels, check_task, make_task
from ftjax.training import inspection, starting
from ftjax.training import model as model_of_run
from ftjax.training.dynamics import check_dynamics
from ftjax.training.feature_cache import FeatureCache
from ftjax.training.forgetting import Meter, prepare_meter
from ftjax.training.history_meter import HistoryMeter, prepare_history_meter
from ftjax.training.plan import Every, Plan
from ftjax.training.reading import Reader, reader
from ftjax.training.select import Selection, select
from ftjax.training.stage import Preprocessing, stages
from ftjax.training.state import TrainState, create_state
from ftjax.training.step import StepParts
from ftjax.training.writing import with_reference
from ftjax.trees import Tree


def prepare_config(config: Config, *, coefficients: Mapping[str, Any] | None = None) -> tuple[Plan, TrainState]:
    """`ftjax.prepare(config)`: the plan and the state before step 0, for stepping through a run by hand.

    Args:
      config: what `--config` would load; a field that is None is filled by the recipe.
      coefficients: by pattern what a configuration cannot hold as data: `{"group:stem": optax.cosine_decay_schedule(1.0, 500), ".*/kernel": mask}`.

    Raises:
      FtjaxError: whatever cannot be used, before anything is trained.
    """
    config_usage.check_used(config)
    return prepare(configuration.resolve(None, {}, config), values=coefficients)


def prepare(
    resolved: Resolved,
    *,
    dataset: Dataset | None = None,
    progress: data.Progress | None = None,
    values: Mapping[str, Any] | None = None,
    cache: Path | None = None,
    mesh: Mesh | None = None,
) -> tuple[Plan, TrainState]:
    """Decide everything and place the state before step 0.

    Args:
      resolved: the configuration with origins; open values are filled here.
      dataset: the data set, when the caller has collected it already.
      progress: called with (done, total) while images are decoded.
      values: see `prepare_config`.
      cache: folder for features where `data.cache` names none; None: nothing is kept.
      mesh: the devices; None: those of `config.mesh`.

    Raises:
      FtjaxError: whatever cannot be used, before anything is trained.
    """
    config = resolved.config
    check_task(config)
    check_dynamics(config)
    selection = select(config)
    reading, mesh = reader(config, selection), mesh or distribution.make_mesh(config.mesh)
    store = FeatureCache(Path(config.data.cache) if config.data.cache else cache)
    dataset = _gathered(config, dataset, selection, reading, progress, mesh, store)
    keeps_head = _keeps_head(config, selection, dataset)
    task = _task(config, dataset)
    measures = measures_of(task, config.evaluation.top_k)
    spec = selection.spec(task.outputs or selection.own_outputs)
    bare = models.build(spec)
    begins = starting.read_adapter(config, selection, _shapes(bare))
    has_head = keeps_head or starting.brings_head(begins)
    facts = _facts(config, bare, dataset, has_head, mesh, measures, begins)
    resolved = recipes.fill(resolved, facts)
    config = resolved.config
    check_task(config)  # once more: the recipe may have left it without the noise that R-Drop compares
    measures.metric(config.evaluation.metric or measures.main)  # refused now rather than after the first evaluation
    model = model_of_run.build(config, spec)
    clock = _clock(config, dataset.splits["train"], mesh)
    dataset = _paced(config, dataset, clock)
    load, params, extra = model_of_run.load(config, selection, model, keeps_head and not starting.brings_head(begins), dataset.catalogue)
    check_after(config.after, pretrained=load is not None, apart=config.adapter.kind if config.adapter.kind in APART else None)
    params, bound, load = _adapted(config, params, load, begins)
    rule = adapters.partition_spec(bound, model.partition_spec)
    table = _table(config, model, params, load, clock, values, bound)
    preprocessing = reading.preprocessing(config, dataset)
    found = coefficients.phases(table, config.coefficient.phases)
    coefficients.check_composes(config, len(found), batch_statistics=bool(extra.get("batch_stats")))
    parts = [_parts(config, table, clock, phase, len(found) > 1, model, task, preprocessing) for phase in found]
    head_only = [_head_only(model, task, preprocessing, phase, clock) for phase in found]
    state = _state(config, dataset, params, extra, found[0], parts[0], rule, mesh)
    dataset = _referenced(config, dataset, task, model, preprocessing, adapters.without_prompts(state.params), mesh)
    meter = _meter(config, selection, model, preprocessing, dataset, state, mesh)
    plan = Plan(
        resolved=resolved,
        dataset=dataset,
        model=model,
        selection=selection,
        task=task,
        measures=measures,
        preprocessing=preprocessing,
        load=load,
        keeps_head=has_head,
        table=table,
        hyper=jax.device_put(coefficients.default_hyper(config), distribution.replicated(mesh)),
        mesh=mesh,
        stages=stages(found, parts, state, rule, mesh, head_only),
        clock=clock,
        every=_every(config, clock),
        warnings=(*dataset.report.get("warnings", ()), *(meter.warnings if meter else ())),
        facts=facts,
        meter=meter,
        store=store,
        bound=bound,
    )
    return plan, state


def _meter(
    config: Config, selection: Selection, model: models.Model, preprocessing: Preprocessing, dataset: Dataset, state: TrainState, mesh: Mesh
) -> Meter | HistoryMeter | None:
    """What follows forgetting, of pictures and of histories."""
    if isinstance(preprocessing, data.InteractionPreprocessing):
        return prepare_history_meter(config, selection, model, preprocessing, dataset.catalogue, state)
    return prepare_meter(config, selection, preprocessing, state, mesh) if isinstance(preprocessing, data.Preprocessing) else None


def _gathered(
    config: Config, dataset: Dataset | None, selection: Selection, reading: Reader, progress: data.Progress | None, mesh: Mesh, store: FeatureCache
) -> Dataset:
    """The data set that is given, or collected, inspected by the pretrained body and sampled."""
    kinds = inspection.asked(config, dataset)
    dataset = dataset or reading.collect(config, progress)
    if kinds:
        dataset = _inspected(config, dataset, kinds, selection, reading.preprocessing(config, dataset), mesh, store)
    return _sampled(config, dataset)


def _state(
    config: Config,
    dataset: Dataset,
    params: Tree,
    extra: dict[str, Any],
    phase: coefficients.Phase,
    parts: StepParts,
    rule: distribution.Rule,
    mesh: Mesh,
) -> TrainState:
    """The state before step 0, on the mesh."""
    followed = len(dataset.splits["train"]) if config.train.cartography else 0
    state = create_state(params, extra, phase.live, parts.optimizer, parts.averages, followed=followed)
    return distribution.shard_tree(state, distribution.state_shardings(mesh, state, params, rule))


def _inspected(
    config: Config, dataset: Dataset, kinds: Sequence[str], selection: Selection, preprocessing: Preprocessing, mesh: Mesh, store: FeatureCache
) -> Dataset:
    """The data set as the pretrained body sees it: with findings, and without the training rows that are dropped for them."""
    body, params, batch_stats = model_of_run.pretrained_body(
        config, selection, len(dataset.classes), preprocessing, mesh, store, in_memory=dataset.report.get("in_memory", True)
    )
    report = dataset.report
    dataset, values = inspection.inspected(config, dataset, kinds, lambda split: body.features(params, batch_stats, split, report))
    if "collected" in dataset.report:
        body.keep(params, batch_stats, dataset.splits["train"], dataset.report, values["train"])
    return dataset


def _referenced(config: Config, dataset: Dataset, task: Task, model: models.Model, preprocessing: Preprocessing, params: Tree, mesh: Mesh) -> Dataset:
    """The data set with what the model as it came gives each answer, where preferences are learnt."""
    if not isinstance(task, Preference) or not isinstance(preprocessing, data.LanguagePreprocessing):
        return dataset
    size = distribution.whole_batches(mesh, config.evaluation.batch_size)
    return with_reference(dataset, task, model, preprocessing, params, functools.partial(distribution.put_batch, mesh=mesh), size)


def _shapes(model: models.Model) -> dict[str, tuple[int, ...]]:
    return {path: tuple(leaf.shape) for path, leaf in trees.flatten(jax.eval_shape(model.init, jax.random.key(0))[0]).items()}


def _facts(
    config: Config, model: models.Model, dataset: Dataset, keeps_head: bool, mesh: Mesh, measures: Measures, begins: weights.AdapterFile | None
) -> recipes.Facts:
    """What the recipe may look at."""
    train = dataset.splits["train"]
    return recipes.Facts(
        examples=len(train),
        groups=model.groups,
        photos=config.data.source in ("image_folder", "tfds", "webdataset", "array_record", "hf_disk"),
        text=train.lengths is not None and train.histories is None,
        items=train.histories is not None,
        metric=measures.main,
        keeps_head=keeps_head,
        begins_with=None if begins is None else tuple(begins.saved),
        batch_devices=distribution.batch_devices(mesh),
        steps_of_epoch=functools.partial(data.steps_per_epoch, train),
    )


def _sampled(config: Config, dataset: Dataset) -> Dataset:
    """The data set whose rare classes are drawn as often as the frequent ones, if that is asked for."""
    return data.draw_by_class(dataset, "balanced", "task.imbalance") if config.task.imbalance == "oversample" else dataset


def _paced(config: Config, dataset: Dataset, clock: durations.Clock) -> Dataset:
    """The data set whose rows become available by and by, if that is asked for."""
    chosen, wanted = config.data.curriculum, config.train
    if chosen not in data.PACED:
        return dataset
    if wanted.batch_tokens is not None or wanted.batch_size == "all":
        other = "train.batch_tokens" if wanted.batch_tokens is not None else "train.batch_size='all'"
        raise ConfigError(f"data.curriculum={chosen!r} draws so many rows at each step, which {other} does not say; set train.batch_size to a number")
    return data.paced(dataset, config.data, config.seed, durations.to_steps(config.data.curriculum_until, clock, "data.curriculum_until", minimum=1))


def _task(config: Config, dataset: Dataset) -> Task:
    """What is predicted; labels that no class stands for are refused here, on the host."""
    task = make_task(config.task, dataset.classes, split=dataset.splits["train"], recommendation=config.recommendation)
    if isinstance(task, Classification):
        for name, split in dataset.splits.items():
            check_labels(split.labels, dataset.classes, f"split {name}")
    return task


def _clock(config: Config, train: Split, mesh: Mesh) -> durations.Clock:
    """What a step, an epoch and the run are."""
    size, tokens = _batch_size(config, train, mesh), config.train.batch_tokens
    clock = durations.Clock(batch_size=size, examples_per_epoch=len(train), steps_per_epoch=data.steps_per_epoch(train, size, tokens))
    if tokens is not None:
        clock = dataclasses.replace(clock, batch_size=round(len(train) / clock.epoch))
    return dataclasses.replace(clock, total_steps=durations.to_steps(config.train.duration or "1 epochs", clock, "train.duration", minimum=1))


def _table(
    config: Config,
    model: models.Model,
    params: Tree,
    load: weights.LoadPlan | None,
    clock: durations.Clock,
    values: Mapping[str, Any] | None,
    bound: tuple[adapters.Bound, ...],
) -> coefficients.Table:
    """The coefficient of every parameter; those without a pretrained value are new."""
    shapes = {path: tuple(leaf.shape) for path, leaf in trees.flatten(params).items()}
    own = {path for path in shapes if any(path.startswith(f"{row.path}/") for row in bound) and path.rpartition("/")[2] not in adapters.BASE}
    new = set(shapes) if load is None else ({row.target for row in load.rows if row.action == "initialised"} & set(shapes)) | own
    return coefficients.build_table(config, shapes, model.groups, model.group_of, clock, new=new, values=values)


def _adapted(
    config: Config, params: Tree, load: weights.LoadPlan | None, begins: weights.AdapterFile | None
) -> tuple[Tree, tuple[adapters.Bound, ...], weights.LoadPlan | None]:
    """The parameters with new adapters, or with those that the run begins from; what was bound; and where every array comes from."""
    if begins is None:
        return *model_of_run.bind(config, params), load
    return starting.put_on(params, load, begins, str(config.adapter.pretrained))


def _parts(
    config: Config,
    table: coefficients.Table,
    clock: durations.Clock,
    phase: coefficients.Phase,
    several: bool,
    model: models.Model,
    task: Task,
    preprocessing: Preprocessing,
) -> StepParts:
    """The step's collaborators in a phase. One phase needs no cohorts: all moments count from step 0."""
    rows = {row.path: row for row in table.rows}
    return StepParts(
        model=model,
        task=task,
        preprocessing=preprocessing,
        optimizer=coefficients.chain(table, config, clock, cohorts=phase.cohorts if several else None),
        microbatches=config.train.microbatches,
        sam=functools.partial(coefficients.moving, rows=rows) if config.optimizer.sam is not None else None,
        mixout=functools.partial(coefficients.mixout, rows=rows) if config.anchor.mixout is not None else None,
        adapter_dropout=config.adapter.kind is not None and bool(config.adapter.dropout),
        averages=tuple(name for name in ("ema", "swa") if name in config.after.candidates),
        swa_start=durations.to_steps(config.after.swa_from, clock, "after.swa_from"),
        bounded=coefficients.bounded(table, config, clock),
        dynamics=config.train.cartography,
    )


def _head_only(model: models.Model, task: Task, preprocessing: Preprocessing, phase: coefficients.Phase, clock: durations.Clock) -> bool:
    """Whether a phase sees the same features of an example every time, and often enough to compute them once."""
    only = {model.group_of(path) for path in phase.live} == {"head"} and task.output == "sequence" and task.views == 1
    same = not preprocessing.is_random and not model.compute.is_random and model.compute.batch_statistics == "frozen"
    return only and same and (phase.stop - phase.start) * clock.batch_size >= clock.examples_per_epoch


def _keeps_head(config: Config, selection: Selection, dataset: Dataset) -> bool:
    """Whether the pretrained head stays: asked for, or the file names these very classes."""
    if config.model.head == "keep" and config.task.name == "regression":
        raise ConfigError("model.head='keep': a regression learns its targets in units of their deviation, which a pretrained head does not; leave it open")
    if config.task.name in (*LANGUAGE, "recommendation"):
        return selection.source is not None
    if selection.source is None or config.model.head != "auto":
        return selection.source is not None and config.model.head == "keep"
    return bool(dataset.classes) and selection.classes == tuple(dataset.classes) and selection.fits(config.task.name)


def _batch_size(config: Config, train: Split, mesh: Mesh) -> int:
    wanted, tokens = config.train.batch_size, config.train.batch_tokens
    if tokens is not None:
        _check_tokens(config, train, mesh)
    size = len(train) if wanted == "all" else int(wanted or 1)
    if size % config.train.microbatches:
        raise ConfigError(f"train.batch_size={size} cannot be cut into train.microbatches={config.train.microbatches} equal parts")
    distribution.check_batch_size(mesh, size // config.train.microbatches, "train.batch_size / train.microbatches")
    return size


def _check_tokens(config: Config, train: Split, mesh: Mesh) -> None:
    """Batches of so many tokens can be cut into equal parts."""
    tokens, parts = int(config.train.batch_tokens or 0), distribution.batch_devices(mesh) * config.train.microbatches
    if config.train.batch_size is not None:
        raise ConfigError("train.batch_size and train.batch_tokens are both set; a batch has a number of rows or a number of tokens")
    if parts > 1:
        raise ConfigError("train.batch_tokens works on one device without micro-batches; use train.batch_size, which also makes batches of one length")
    if tokens < train.buckets[-1]:
        raise ConfigError(f"train.batch_tokens={tokens}: a batch of the longest texts needs at least {train.buckets[-1]}")


def _every(config: Config, clock: durations.Clock) -> Every:
    def steps(key: str, duration: str | None) -> int:
        return durations.to_steps(duration or "100%", clock, f"train.{key}", minimum=1)

    return Every(
        log=steps("log_every", config.train.log_every),
        evaluate=steps("evaluate_every", config.train.evaluate_every),
        checkpoint=steps("checkpoint_every", config.train.checkpoint_every),
    )
