"""The one training loop: step, look, keep, stop.

The data position is the step, so the loop has no state of its own that a checkpoint does not hold: killed at any moment, the same call goes on
from the newest good checkpoint and ends bit for bit where it would have ended. What it tells the world goes through the three edges it is given:
a store of checkpoints, a log of metrics and a view.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import numpy as np

from ftjax import trees
from ftjax.config import AfterConfig
from ftjax.data import Batch as HostBatch
from ftjax.errors import DataError, TrainingFailed
from ftjax.training.checkpoint import Checkpoints
from ftjax.training.plan import Plan
from ftjax.training.stage import Feed, Stage
from ftjax.training.state import TrainState
from ftjax.training.step import Batch
from ftjax.trees import Tree

RUN_AHEAD = 2
"""Steps that may be under way before the host looks at the oldest one's metrics: enough to hide the dispatch, few enough to stop early."""


class Log(Protocol):
    """Where metrics go."""

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """One line of metrics.jsonl."""
        ...

    def close(self) -> None:
        """Nothing more is written."""
        ...


OpenLog = Callable[[int | None], Log]
"""Opens the log; given a step, forgets what was written after it."""


class View(Protocol):
    """What a person sees."""

    def update(self, step: int, values: dict[str, float]) -> None:
        """The newest values."""
        ...

    def message(self, text: str) -> None:
        """A line that stays."""
        ...


@dataclasses.dataclass(frozen=True)
class Fit:
    """What the loop hands back."""

    state: TrainState
    finished: bool
    """False when a signal asked to stop."""
    best_step: int
    soup: tuple[int, ...]
    """Steps whose weights were kept for a soup, the best first."""
    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float
    examples_per_second: float
    input_wait_fraction: float
    skipped_steps: int
    warnings: tuple[str, ...]


@dataclasses.dataclass
class Progress:
    """What a checkpoint remembers beside the arrays; JSON."""

    best_step: int = -1
    best_value: float | None = None
    evaluations_since_best: int = 0
    stopped_early: bool = False
    skipped_steps: int = 0
    soup: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    """Step and validation metric of the weights kept for a soup, the best first."""


@dataclasses.dataclass
class Clock:
    """Seconds spent where, over all processes that worked on this run; JSON."""

    training: float = 0.0
    waiting: float = 0.0
    """Part of `training` in which the loop waited for a batch."""
    evaluating: float = 0.0
    compiling: float = 0.0
    """Building the step of each stage, and the features of one that trains the head alone."""

    @contextlib.contextmanager
    def run(self, what: str) -> Iterator[None]:
        """Add the time of a block to one of the fields."""
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, what, getattr(self, what) + time.perf_counter() - began)


def fit(plan: Plan, state: TrainState, store: Checkpoints, open_log: OpenLog, view: View, stop: threading.Event) -> Fit:
    """Train to the last step, to the end of patience, or until `stop` is set; then the newest state is saved.

    Raises:
      TrainingFailed: `train.max_bad_steps` steps in a row had a loss or gradient that is not finite; names the step, the examples and the groups.
    """
    run = _Run(plan, state, store, view)
    run.resume()
    with contextlib.closing(open_log(run.step or None)) as log:
        if run.step == 0 and plan.meter is not None:
            log.write(0, "source", plan.meter.before)
        asked = False
        while not run.over and not asked:
            feed = run.build()
            with contextlib.closing(plan.train_batches(feed, run.step, run.stage.phase.stop)) as batches:
                asked = run.train(feed, batches, log, stop)
    return run.result()


class _Run:
    """The loop's moving parts. Everything that matters for exact resume is in `state` and `progress`."""

    def __init__(self, plan: Plan, state: TrainState, store: Checkpoints, view: View) -> None:
        self.plan, self.state, self.store, self.view = plan, state, store, view
        self.step = 0
        self.progress = Progress()
        self.clock = Clock()
        self.warnings: list[str] = []
        self.pending: collections.deque[tuple[int, dict[str, jax.Array]]] = collections.deque()
        self.window: list[dict[str, float]] = []
        self.saved_step = -1
        self.saved_soup: frozenset[int] = frozenset()
        self.metric = plan.metric
        self.ahead: Batch | DataError | None = None

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        restored = self.store.restore(lambda step: self.layout(step))
        if restored is None:
            return
        self.state, self.step, self.saved_step = restored.tree, restored.step, restored.step
        self.progress, self.clock = Progress(**restored.info["progress"]), Clock(**restored.info["clock"])
        self.progress.soup = [(step, value) for step, value in self.progress.soup]
        self.saved_soup = self.soup_steps()
        self.warnings = list(restored.info["warnings"])
        self.window = [{name: float(value) for name, value in values.items()} for values in restored.info["window"]]
        for skipped in restored.skipped:
            self.warn(f"checkpoint skipped: {skipped}")
        self.view.message(f"resumed from step {self.step}")

    def layout(self, step: int) -> TrainState:
        """What a checkpoint of a step holds; what it leaves out, the pretrained weights under adapters, is here already."""
        abstract = self.plan.stage_at(step).abstract
        if not self.plan.bound:
            return abstract
        here = trees.flatten(self.state.still)
        return abstract._replace(still=trees.map_with_path(lambda path, leaf: here.get(path, leaf), abstract.still))

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.step >= self.plan.steps or self.progress.stopped_early

    @property
    def stage(self) -> Stage:
        """The stage of the next step."""
        return self.plan.stage_at(self.step)

    def build(self) -> Feed:
        """Build what the next stage needs; the state is in it already."""
        if len(self.plan.stages) > 1:
            phase = self.stage.phase
            self.view.message(f"phase {self.plan.stages.index(self.stage) + 1} of {len(self.plan.stages)}: steps {phase.start} to {phase.stop}")
        lengths = len(self.plan.dataset.splits["train"].buckets)
        self.view.message("compiling the step" + (f" for {lengths} lengths of text (text.buckets)" if lengths > 1 else ""))
        with self.clock.run("compiling"):
            return self.plan.feed(self.stage, self.state)

    def train(self, feed: Feed, batches: Iterator[HostBatch], log: Log, stop: threading.Event) -> bool:
        """Steps to the end of the stage, each followed by whatever is due; whether a stop was asked for, and then the state is saved.

        At its border the state enters the next stage before anything is saved.
        """
        every, border = self.plan.every, self.stage.phase.stop
        self.ahead = None
        while self.step < border and not self.progress.stopped_early:
            with self.clock.run("training"):
                self.advance(feed, batches, log)
                self.state = self.plan.enter(self.state, donate=True) if self.step == border else self.state
            # Read once: what is asked for a moment later is seen after the next step.
            last, asked = self.step == self.plan.steps, stop.is_set()
            if last or self.step % every.evaluate == 0:
                with self.clock.run("evaluating"):
                    self.evaluate(log)
            if last or self.progress.stopped_early or self.step % every.checkpoint == 0 or asked:
                with self.clock.run("training"):
                    self.save()
            if asked:
                return True
        return False

    def advance(self, feed: Feed, batches: Iterator[HostBatch], log: Log) -> None:
        """One step; its metrics are looked at a little later, and the next batch is on its way to the device meanwhile, so that the device never waits."""
        batch = self.batch(batches)
        logged = (self.step + 1) % self.plan.every.log == 0 or self.step + 1 == self.plan.steps
        previous = self.plan.copy(self.state.live) if logged else None
        self.state, metrics = feed.advance(self.state, batch)
        self.step += 1
        self.ahead = self.fetch(batches)
        self.pending.append((self.step, metrics))
        while len(self.pending) > (0 if logged else RUN_AHEAD):
            self.look(*self.pending.popleft())
        if logged:
            self.store.check()
            self.report(previous, log)

    def batch(self, batches: Iterator[HostBatch]) -> Batch:
        """The batch of the next step, on the devices; one that cannot be read ends the run behind the last step that had one, whose state is saved."""
        batch = self.ahead if self.ahead is not None else self.fetch(batches)
        if batch is None:
            raise RuntimeError(f"no batch for step {self.step + 1}")  # a stage asks for no more than it has
        if isinstance(batch, DataError):
            if self.step:
                self.save()
                self.store.wait()
            there = f"the state after step {self.step} is saved" if self.step else "nothing is trained yet"
            raise DataError(f"{batch}\nStep {self.step + 1} needs it, and {there}: once it is repaired, the same command goes on exactly there") from batch
        return batch

    def fetch(self, batches: Iterator[HostBatch]) -> Batch | DataError | None:
        """The next batch on its way to the devices, why there is none, or None at the end of the stage."""
        with self.clock.run("waiting"):
            try:
                batch = next(batches, None)
            except DataError as error:
                return error  # The steps before it still count.
            return None if batch is None else self.plan.put(batch)

    def look(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Fetch the metrics of a past step; stop a run that is no longer training."""
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self.window.append(values)
        if values["finite"] == 0:
            self.progress.skipped_steps += 1
            self.warn(f"step {step}: the loss or the gradient is not finite; the step was not applied")
        if values["bad_steps"] >= self.plan.config.train.max_bad_steps:
            raise TrainingFailed(self.plan.describe_bad_step(self.state, step))

    def report(self, previous: Tree, log: Log) -> None:
        """Log the window since the last report, and the travel of every group."""
        good = [values for values in self.window if values["finite"]]
        names = [name for name in self.window[-1] if name not in ("finite", "bad_steps")]
        values = {name: float(np.mean([v[name] for v in good])) if good else math.nan for name in names}
        values |= {"learning_rate": self.plan.learning_rate(self.step - 1), "skipped": float(len(self.window) - len(good))}
        self.window = []
        log.write(self.step, "train", values)
        travel = self.plan.by_depth(jax.device_get(self.plan.travel(self.state, previous)))
        log.write(self.step, "travel", {f"{kind}/{group}": float(value) for group, kinds in travel.items() for kind, value in kinds.items()})
        rate = self.step / max(self.clock.training, 1e-9)
        shown = {"examples_per_second": rate * self.plan.batch_size, "input_wait": self.input_wait(), "eta": (self.plan.steps - self.step) / rate}
        self.view.update(self.step, values | shown)

    def evaluate(self, log: Log) -> None:
        """Measure the validation split; keep the weights when they are the best so far."""
        weights = {"params": self.plan.evaluated(self.state), "batch_stats": self.state.extra["batch_stats"]}
        records = self.plan.evaluate(weights["params"], weights["batch_stats"], "validation")
        values = self.plan.measures.compute_all(records)
        log.write(self.step, "validation", values)
        if self.plan.meter is not None:
            log.write(self.step, "source", self.plan.meter.measure(weights["params"], weights["batch_stats"]))
        value = values[self.metric.name]
        best = self.progress.best_value
        if best is None or (value > best if self.metric.higher_is_better else value < best):
            self.progress.best_step, self.progress.best_value, self.progress.evaluations_since_best = self.step, value, 0
            self.store.save_best(self.step, weights, {"metrics": {self.metric.name: value}})
        else:
            self.progress.evaluations_since_best += 1
        self.keep_for_soup(value, weights)
        # Shown at once, so that no line tells a value of an older step.
        measured = {f"validation_{self.metric.name}": value, f"best_{self.metric.name}": float(self.progress.best_value or 0.0)}
        self.view.update(self.step, measured)
        if self.step <= self.plan.last_start:
            self.progress.evaluations_since_best = 0  # Somebody has not begun to train: a probe that has converged is no reason to stop.
        patience = self.plan.config.train.patience
        if patience is not None and self.progress.evaluations_since_best >= patience:
            self.progress.stopped_early = True
            self.view.message(f"stopped at step {self.step}: {patience} evaluations without a better {self.metric.name}")

    def keep_for_soup(self, value: float, weights: Tree) -> None:
        """Keep the weights while they are among the best so far, if a soup is asked for."""
        kept = best_of([*self.progress.soup, (self.step, value)], soup_size(self.plan.config.after), self.metric.higher_is_better)
        if (self.step, value) in kept:
            self.progress.soup = kept
            # What the newest checkpoint remembers stays too: a run that goes on from there still counts on it.
            self.store.save_soup(self.step, weights, {"metrics": {self.metric.name: value}}, keep=self.soup_steps() | self.saved_soup)

    def soup_steps(self) -> frozenset[int]:
        """Steps of the weights kept for a soup."""
        return frozenset(step for step, _ in self.progress.soup)

    def save(self) -> None:
        """Keep the whole state; what is still pending is looked at first, so that nothing bad is kept unseen."""
        while self.pending:
            self.look(*self.pending.popleft())
        if self.saved_step != self.step:
            # repr keeps every bit, and a NaN, which JSON has no number for.
            window = [{name: repr(value) for name, value in values.items()} for values in self.window]
            info = {"progress": dataclasses.asdict(self.progress), "clock": dataclasses.asdict(self.clock), "window": window, "warnings": self.warnings}
            self.store.save(self.step, self.state, info)
            self.saved_step, self.saved_soup = self.step, self.soup_steps()

    def input_wait(self) -> float:
        """Share of the training time in which the loop waited for a batch."""
        return self.clock.waiting / max(self.clock.training, 1e-9)

    def warn(self, text: str) -> None:
        """Say it now and in result.json."""
        self.warnings.append(text)
        self.view.message(f"warning: {text}")

    def result(self) -> Fit:
        """Wait for the last save and hand over."""
        # A run that goes on later starts from the newest checkpoint, and counts on what that one remembers.
        self.store.keep_soup(self.soup_steps() if self.over else self.soup_steps() | self.saved_soup)
        return Fit(
            state=self.state,
            finished=self.over,
            best_step=self.progress.best_step,
            soup=tuple(step for step, _ in self.progress.soup),
            compile_seconds=self.clock.compiling,
            train_seconds=self.clock.training,
            evaluate_seconds=self.clock.evaluating,
            examples_per_second=self.step * self.plan.batch_size / max(self.clock.training, 1e-9),
            input_wait_fraction=self.input_wait(),
            skipped_steps=self.progress.skipped_steps,
            warnings=tuple(self.warnings),
        )


def soup_size(config: AfterConfig) -> int:
    """How many weights are kept for a soup; 0 where none is asked for."""
    return config.soup if {"uniform_soup", "greedy_soup"} & set(config.candidates) else 0


def best_of(kept: list[tuple[int, float]], count: int, higher_is_better: bool) -> list[tuple[int, float]]:
    """The `count` best of (step, value), the best first; ties: the earlier step first.

    >>> best_of([(30, 0.5), (10, 0.5), (20, 0.7)], 2, True)
    [(20, 0.7), (10, 0.5)]
    """
    return sorted(kept, key=lambda item: (-item[1] if higher_is_better else item[1], item[0]))[:count]
