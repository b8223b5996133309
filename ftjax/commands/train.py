"""The whole story of a run: decide, train, choose, test once, compare, export, report.

The same call on the same work directory goes on where it was killed, and does nothing where it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

import jax

from ftjax import configuration, evaluation, reporting
from ftjax.commands import artefact, baselines, show, signals, verify
from ftjax.commands.workdir import Run, Workdir
from ftjax.config import Config
from ftjax.configuration import Resolved
from ftjax.data import Dataset
from ftjax.errors import TrainingFailed
from ftjax.evaluation import Records
from ftjax.training.checkpoint import Checkpoints
from ftjax.training.loop import Fit, fit
from ftjax.training.plan import Plan, prepare
from ftjax.training.state import TrainState

EXIT_CODES = {"ok": 0, "failed": 1, "interrupted": 130}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train`."""
    parser.add_argument(
        "--config", required=True, metavar="FILE.py[:ARGUMENT]", help="configuration; --config.key=value overrides a key. This file is executed"
    )
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="run directory; the same command again continues an interrupted run")


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """`ftjax train`: 0 ok, 1 failed, 130 interrupted."""
    finished = finetune_resolved(configuration.resolve(arguments.config, flags), arguments.workdir)
    return EXIT_CODES[finished.result["status"]]


def finetune(config: Config, workdir: str | os.PathLike[str]) -> Run:
    """Fine-tune, evaluate, export and report: the whole story, from Python.

    Args:
      config: what `--config` would load; a field that is None is filled by the recipe.
      workdir: run directory. An interrupted run goes on from its newest good checkpoint; a finished one is returned as it is.

    Returns:
      The run; `run.result` is the content of result.json.

    Raises:
      FtjaxError: something given cannot be used, or training failed (result.json then has status "failed").
    """
    return finetune_resolved(configuration.resolve(None, {}, config), Path(workdir))


def finetune_resolved(resolved: Resolved, folder: Path, *, dataset: Dataset | None = None, quiet: bool = False) -> Run:
    """`finetune` for a configuration whose origins are known.

    Args:
      resolved: the configuration; open values are filled on the way.
      folder: the run directory.
      dataset: the data, when they are collected already.
      quiet: say nothing; for a run inside another one.
    """
    workdir = Workdir(folder)
    workdir.refuse_other(resolved.config)
    done = workdir.finished()
    if done is not None:
        return done
    began = time.perf_counter()
    mode = "none" if quiet else resolved.config.report.progress
    with signals.stop_on_signal() as stop, workdir.lock():
        plan, state = prepare(resolved, dataset=dataset)
        workdir.write_plan(plan, resolved.config)
        with reporting.Progress(mode, plan.steps) as view:
            show.plan(view, plan)
            try:
                return _Story(plan, workdir, view, stop, began).tell(state)
            except TrainingFailed as error:
                workdir.write_result(plan, {"status": "failed", "error": str(error)})
                reporting.render(folder)
                raise


class _Story:
    """One run from step 0 to the report; holds what every chapter needs."""

    def __init__(self, plan: Plan, workdir: Workdir, view: reporting.Progress, stop: threading.Event, began: float) -> None:
        self.plan, self.workdir, self.view, self.stop = plan, workdir, view, stop
        self.seconds = {"setup": time.perf_counter() - began, "compile": 0.0, "train": 0.0, "evaluate": 0.0}

    def tell(self, state: TrainState) -> Run:
        """Train, choose, test, compare, export, report."""
        config = self.plan.config
        before = verify.fingerprints(state)
        start = baselines.before_training(self.plan, state)
        with contextlib.closing(Checkpoints(self.workdir.checkpoints)) as store:
            self.seconds["compile"] = self._compile()
            fitted = fit(self.plan, state, store, self._open_log, self.view, self.stop)
            self.seconds["train"], self.seconds["evaluate"] = fitted.train_seconds, fitted.evaluate_seconds
            if not fitted.finished:
                return self._interrupted(fitted)
            travel = verify.moved_and_stayed(self.plan, fitted.state, before)
            params, batch_stats = self._chosen(fitted, store)
        began = time.perf_counter()
        records = self.plan.evaluate(params, batch_stats, "test", logits=True)
        artefact.write(self.plan, params, batch_stats, self.workdir.folder)
        self._check_artefact(records)
        validation = evaluation.compute_all(self.plan.evaluate(params, batch_stats, "validation"), len(self.plan.dataset.classes), config.evaluation.top_k)
        self.seconds["evaluate"] += time.perf_counter() - began
        compared = baselines.compare(self.plan, records, start, self._scratch)
        if self.stop.is_set():
            return self._interrupted(fitted)
        return self._finish(fitted, records, validation, compared, travel)

    def _open_log(self, resume_step: int | None) -> reporting.MetricsWriter:
        return reporting.MetricsWriter(self.workdir.folder, tensorboard=self.plan.config.report.tensorboard, resume_step=resume_step)

    def _compile(self) -> float:
        """Compile the step before the clock of training runs."""
        began = time.perf_counter()
        _ = self.plan.program
        return time.perf_counter() - began

    def _chosen(self, fitted: Fit, store: Checkpoints) -> tuple[Any, Any]:
        """The weights that were best on validation, read back from the disk."""
        abstract = {"params": fitted.state.params, "batch_stats": fitted.state.extra["batch_stats"]}
        restored = store.restore_best(abstract)
        if restored is None:
            raise TrainingFailed("no best checkpoint was written; the validation metric was never computed")
        return restored.tree["params"], restored.tree["batch_stats"]

    def _check_artefact(self, records: Records) -> None:
        """The artefact must answer as the trained model did before anything is called a success."""
        predictor = artefact.load(self.workdir.folder)
        batches = artefact.first_batches(self.plan, verify.CHECKED_BATCHES)
        verify.same_logits(records, predictor.records(batches), exact=self.plan.mesh.size == 1)

    def _scratch(self, resolved: Resolved) -> Records:
        """Train the scratch baseline in a run directory of its own; it too can be interrupted and continued."""
        self.view.message("baseline: the same model from random weights, same budget")
        finished = finetune_resolved(resolved, self.workdir.folder / "baselines" / "scratch", dataset=self.plan.dataset, quiet=True)
        if finished.result["status"] == "interrupted":
            self.stop.set()
        return finished.records()

    def _interrupted(self, fitted: Fit) -> Run:
        step = int(jax.device_get(fitted.state.step))
        result = self.workdir.write_result(self.plan, self._measured(fitted) | {"status": "interrupted", "warnings": list(fitted.warnings)})
        self.view.message(f"interrupted at step {step} of {self.plan.steps}; the same command goes on from there")
        return Run(self.workdir.folder, result)

    def _finish(self, fitted: Fit, records: Records, validation: dict[str, float], compared: baselines.Compared, travel: dict[str, float]) -> Run:
        """Write what was found, then show it."""
        config = self.plan.config.evaluation
        test = evaluation.intervals(
            records, len(self.plan.dataset.classes), config.top_k, resamples=config.bootstrap, confidence=config.confidence, seed=self.plan.config.seed
        )
        self.workdir.write_evaluation(self.plan, records)
        what = "Training from scratch" if self.plan.config.method == "scratch" else "Fine-tuning"
        result = self.workdir.write_result(
            self.plan,
            self._measured(fitted)
            | {"status": "ok", "splits": {"validation": validation, "test": test}, "baselines": compared.baselines}
            | {"verdict": evaluation.verdict(test, compared.baselines, what=what), "best_step": fitted.best_step, "travel": travel}
            | {"warnings": [*self.plan.warnings, *fitted.warnings, *compared.warnings]},
        )
        artefact.write_card(self.workdir.folder)
        page = reporting.render(self.workdir.folder)
        self.view.summary(result, page)
        return Run(self.workdir.folder, result)

    def _measured(self, fitted: Fit) -> dict[str, Any]:
        """What the clock and the counters say."""
        return {
            "steps": int(jax.device_get(fitted.state.step)),
            "examples": int(jax.device_get(fitted.state.step)) * self.plan.batch_size,
            "skipped_steps": fitted.skipped_steps,
            "seconds": self.seconds,
            "examples_per_second": fitted.examples_per_second,
            "input_wait_fraction": fitted.input_wait_fraction,
        }
