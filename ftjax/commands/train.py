"""The whole story of a run: decide, train, choose, test once, compare, export, report.

The same call on the same work directory goes on where it was killed, and does nothing where it is done.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax

from ftjax import config_usage, configuration, evaluation, reporting
from ftjax.commands import artefact, baselines, show, verify
from ftjax.commands.signals import Interrupted, Stop, stop_on_signal
from ftjax.commands.workdir import Run, Workdir
from ftjax.config import Config
from ftjax.configuration import Resolved
from ftjax.data import Dataset
from ftjax.errors import CheckpointError, TrainingFailed
from ftjax.evaluation import Records
from ftjax.reporting.terminal import Mode
from ftjax.training import after
from ftjax.training.checkpoint import Checkpoints, Restored
from ftjax.training.loop import Fit, fit
from ftjax.training.plan import Plan
from ftjax.training.prepare import prepare
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
    with stop_on_signal() as stop:
        finished = finetune_resolved(configuration.resolve(arguments.config, flags), arguments.workdir, stop)
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
    with stop_on_signal() as stop:
        return finetune_resolved(configuration.resolve(None, {}, config), Path(workdir), stop)


def finetune_resolved(resolved: Resolved, folder: Path, stop: Stop, *, dataset: Dataset | None = None, quiet: bool = False) -> Run:
    """`finetune` for a configuration whose origins are known.

    Args:
      resolved: the configuration; open values are filled on the way.
      folder: the run directory.
      stop: asked to stop, the run ends with status "interrupted".
      dataset: the data, when they are collected already.
      quiet: say nothing; for a run inside another one.
    """
    workdir = Workdir(folder)
    mode: Mode = "none" if quiet else resolved.config.report.progress
    config_usage.check_used(resolved.config)
    workdir.refuse_other(resolved.config)
    with workdir.lock(), reporting.Progress(mode) as view:
        done = workdir.finished()
        if done is not None:
            _write_papers(workdir)
            told = f"{folder} is finished already and stays as it is: nothing was done; use another --workdir to train again"
            view.message(told)
            if mode == "none" and not quiet:
                # A command that neither trains nor says why would look broken.
                sys.stderr.write(f"{told}\n")
            return done
        try:
            return _from_the_start(resolved, workdir, stop, dataset, mode, view)
        except Interrupted:
            view.message("interrupted; the same command goes on from the last checkpoint")
            return Run(folder, workdir.end(resolved.config, {"status": "interrupted"}))


def _from_the_start(resolved: Resolved, workdir: Workdir, stop: Stop, dataset: Dataset | None, mode: Mode, view: reporting.Progress) -> Run:
    """Prepare and tell; whatever goes wrong after the plan stands is in result.json and on the page."""
    began = time.perf_counter()
    plan, state = prepare(resolved, dataset=dataset, progress=show.Decoding(view), cache=workdir.folder / "cache")
    workdir.write_plan(plan, resolved.config)
    try:
        with reporting.Progress(mode, plan.steps) as progress:
            show.plan(progress, plan)
            return _Story(plan, workdir, progress, stop, began).tell(state)
    except Exception as error:
        with contextlib.suppress(OSError):
            workdir.write_result(plan, {"status": "failed", "error": f"{type(error).__name__}: {error}"})
            reporting.render(workdir.folder)
        raise


class _Story:
    """One run from step 0 to the report; holds what every chapter needs."""

    def __init__(self, plan: Plan, workdir: Workdir, view: reporting.Progress, stop: Stop, began: float) -> None:
        self.plan, self.workdir, self.view, self.stop = plan, workdir, view, stop
        self.seconds = {"setup": time.perf_counter() - began, "compile": 0.0, "train": 0.0, "evaluate": 0.0}
        self.warnings = list(plan.warnings)

    def tell(self, state: TrainState) -> Run:
        """Train, choose, test, compare, export, report."""
        before = verify.fingerprints(self.plan, state)
        statistics = self.plan.copy(state.extra["batch_stats"])
        with contextlib.closing(Checkpoints(self.workdir.checkpoints, base=self.plan.base(state))) as store:
            with self.stop.deferred() as asked:
                fitted = fit(self.plan, state, store, self._open_log, self.view, asked)
            self.seconds |= {"compile": fitted.compile_seconds, "train": fitted.train_seconds, "evaluate": fitted.evaluate_seconds}
            self.warnings += fitted.warnings
            if not fitted.finished:
                return self._interrupted(fitted)
            best, best_step = self._best(fitted, store)
            kept = self._kept(fitted, store)
        self.warnings += self.workdir.write_cartography(self.plan, fitted.state)
        travel = verify.moved_and_stayed(self.plan, fitted.state, before)
        began = time.perf_counter()
        merged = verify.merged(self.plan, best) if any(row.merges for row in self.plan.bound) else None
        chosen = after.choose(self.plan, fitted.state, best, statistics, kept)
        verify.finite(chosen.params, chosen.batch_stats, f"in the chosen weights, {chosen.name}")
        self.workdir.write_after(chosen)
        records = self.plan.evaluate(chosen.params, chosen.batch_stats, "test", logits=True)
        artefact.write(self.plan, chosen.params, chosen.batch_stats, self.workdir.folder, best["params"] if chosen.name == after.BEST else None)
        self.seconds["evaluate"] += time.perf_counter() - began
        start = baselines.before_training(self.plan, fitted.state, statistics)
        compared = baselines.compare(self.plan, records, start, self._scratch)
        self.warnings += compared.warnings
        found = {"validation": chosen.metrics, "best_step": best_step, "after": chosen.summary(), "travel": travel, "baselines": compared.baselines}
        found |= {"merge": merged} if merged else {}
        if self.plan.meter is not None:
            found["forgetting"] = self.plan.meter.compare(chosen.params, chosen.batch_stats)
        return self._finish(fitted, records, found)

    def _open_log(self, resume_step: int | None) -> reporting.MetricsWriter:
        return reporting.MetricsWriter(self.workdir.folder, tensorboard=self.plan.config.report.tensorboard, resume_step=resume_step)

    def _best(self, fitted: Fit, store: Checkpoints) -> tuple[after.Weights, int]:
        """The weights that were best on validation, read back from the disk, and their step."""
        restored = store.restore_best(_weights(fitted))
        if restored is None:
            raise TrainingFailed("no best checkpoint was written; the validation metric was never computed")
        self.warnings += [f"best checkpoint skipped: {skipped}" for skipped in restored.skipped]
        if restored.step != fitted.best_step:
            # Only after a restart on other devices, whose replay did not reach the same best again.
            self.warnings.append(
                f"the best weights kept are those of step {restored.step}, from before a restart; this replay's best was step {fitted.best_step}"
            )
        return restored.tree, restored.step

    def _kept(self, fitted: Fit, store: Checkpoints) -> list[Restored]:
        """The weights that were kept for a soup, the best first; what cannot be read is left out and named."""
        kept = []
        for step in fitted.soup:
            try:
                restored = store.restore_soup(step, _weights(fitted))
            except CheckpointError as error:
                self.warnings.append(f"weights of step {step} are left out of the soup: {error}")
                continue
            if restored is None:
                self.warnings.append(f"weights of step {step} are left out of the soup: they are no longer on disk")
            else:
                kept.append(restored)
        return kept

    def _scratch(self, resolved: Resolved) -> Records | None:
        """Train the scratch baseline in a run directory of its own; it too can be interrupted and continued. None: it failed."""
        self.view.message("baseline: the same model from random weights, same budget")
        try:
            folder = self.workdir.folder / "baselines" / "scratch"
            finished = finetune_resolved(resolved, folder, self.stop, dataset=self.plan.dataset, quiet=True)
        except TrainingFailed as error:
            self.warnings.append(f"the scratch baseline was not measured: {error}")
            return None
        if finished.result["status"] == "interrupted":
            raise Interrupted
        return finished.records()

    def _interrupted(self, fitted: Fit) -> Run:
        step = int(jax.device_get(fitted.state.step))
        result = self.workdir.write_result(self.plan, self._measured(fitted) | {"status": "interrupted", "warnings": self.warnings})
        self.view.message(f"interrupted at step {step} of {self.plan.steps}; the same command goes on from there")
        return Run(self.workdir.folder, result)

    def _finish(self, fitted: Fit, records: Records, found: dict[str, Any]) -> Run:
        """Write what was found, then show it."""
        config = self.plan.config.evaluation
        settings = {"resamples": config.bootstrap, "confidence": config.confidence, "seed": self.plan.config.seed}
        test, metric = self.plan.measures.intervals(records, **settings), self.plan.metric
        splits = {"validation": found.pop("validation"), "test": test}
        chosen = {"name": metric.name, "higher_is_better": metric.higher_is_better}
        told = {"status": "ok", "splits": splits, "metric": chosen, "verdict": self._verdict(test, found["baselines"])}
        told |= {"warnings": [*self.warnings, *self.plan.store.warnings]}
        self.workdir.write_evaluation(self.plan, records)
        result = self.workdir.write_result(self.plan, self._measured(fitted) | told | found)
        self.view.summary(result, _write_papers(self.workdir))
        return Run(self.workdir.folder, result)

    def _verdict(self, test: dict[str, Any], compared: dict[str, Any]) -> str:
        what = "Training from scratch" if self.plan.config.method == "scratch" else "Fine-tuning"
        return evaluation.verdict(test, compared, what=what, metric=self.plan.metric, majority=self.plan.measures.majority_name)

    def _measured(self, fitted: Fit) -> dict[str, Any]:
        """What the clock and the counters say."""
        steps = int(jax.device_get(fitted.state.step))
        return {
            "steps": steps,
            "examples": steps * self.plan.batch_size,
            "skipped_steps": fitted.skipped_steps,
            "seconds": self.seconds,
            "examples_per_second": fitted.examples_per_second,
            "input_wait_fraction": fitted.input_wait_fraction,
        }


def _weights(fitted: Fit) -> after.Weights:
    """The weights after the last step; also the layout of every kept checkpoint."""
    return {"params": fitted.state.params, "batch_stats": fitted.state.extra["batch_stats"]}


def _write_papers(workdir: Workdir) -> Path:
    """The card and the page of a result, unless they are newer than it (a kill may have come between)."""
    result, card, page = (workdir.folder / name for name in ("result.json", "model/README.md", "report.html"))
    if not all(paper.exists() and paper.stat().st_mtime_ns >= result.stat().st_mtime_ns for paper in (card, page)):
        artefact.write_card(workdir.folder)
        reporting.render(workdir.folder)
    return page
