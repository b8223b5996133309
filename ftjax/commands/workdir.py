"""The run directory: who may write it, what is in it, and when it counts as finished."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import itertools
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import ftjax
from ftjax import configuration, evaluation, files
from ftjax.commands.cartography import told
from ftjax.commands.shown import example, with_examples
from ftjax.config import Config
from ftjax.data.report import left_out
from ftjax.errors import CheckpointError, ConfigError, DataError, WeightsError
from ftjax.evaluation import Records
from ftjax.training.after import Chosen
from ftjax.training.dynamics import cartography
from ftjax.training.plan import Plan
from ftjax.training.state import TrainState

VERSIONS = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
NOT_THE_RUN = (
    "report.progress",
    "report.tensorboard",
    "report.thumbnails",
    "data.workers",
    "data.worker_kind",
    "data.cache_megabytes",
    "data.cache",
    "mesh.data",
    "mesh.fsdp",
    "mesh.tensor",
    "evaluation.batch_size",
    "evaluation.bootstrap",
    "evaluation.confidence",
    "evaluation.baselines",
)
"""Keys that may differ when a run is continued: they change what is seen, where and how fast, not which parameters come out."""


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A run's directory and the content of its result.json."""

    workdir: Path
    result: dict[str, Any]

    def __repr__(self) -> str:
        """One line for a notebook: where it is, how it ended and what it reached."""
        metric = self.result.get("metric", {}).get("name")
        reached = self.result.get("splits", {}).get("test", {}).get(metric)
        shown = f", test {metric} {reached['value']:.4g} ({reached['low']:.4g} to {reached['high']:.4g})" if reached else ""
        return f"Run({str(self.workdir)!r}, {self.result.get('status')}{shown})"

    def records(self) -> Records:
        """Predictions and logits of the test split; only a run that ended ok has them."""
        return evaluation.read_records(self.workdir / "evaluation" / "test.npz")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """One run directory."""

    folder: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.folder / "checkpoints"

    def begun(self) -> bool:
        """Whether there is anything to continue: a finished run, or a checkpoint. Before that a mistake in the configuration costs nothing to change."""
        last = self.checkpoints / "last"
        return self.finished() is not None or (last.is_dir() and any(last.iterdir()))

    def refuse_other(self, config: Config) -> None:
        """A run directory belongs to one configuration.

        Raises:
          ConfigError: naming every key that differs.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"--workdir {self.folder} is a file; name a directory")
        stored = self.folder / "request.json"
        if not stored.exists() or not self.begun():
            return
        before = configuration.from_mapping(files.read_json(stored), str(stored))
        self._refuse(configuration.differences(before, config))

    def refuse_changed(self, plan: Plan) -> None:
        """A run is continued on the data, the weights and the recipe that it began with.

        Raises:
          ConfigError: the recipe now fills other values (the data or ftjax changed).
          DataError: the data are not those of the checkpoints.
          WeightsError: the pretrained file is not the one the run began from.
        """
        if not self.begun():
            return
        before = configuration.from_mapping(files.read_json(self.folder / "config.json")["config"], "config.json")
        data = files.read_json(self.folder / "data.json")
        load = self.folder / "load.json"
        if plan.load is not None and load.exists() and files.read_json(load)["sha256"] != plan.load.source.sha256:
            raise WeightsError(
                f"{self.folder} was begun from other weights: {plan.load.source.location} has changed since; restore it, or use another --workdir"
            )
        now = plan.dataset.report
        if data["fingerprint"] != now["fingerprint"] and "collected" in data and data["collected"] == now.get("collected", now["fingerprint"]):
            gone = data["cleaned"]["rows_before"] - data["cleaned"]["rows_after"]
            raise DataError(
                f"{self.folder} was begun without {gone} rows that data.label_errors or data.outliers left out, and would leave out "
                "others now (another version of a library, or other devices); use another --workdir"
            )
        if data["fingerprint"] != plan.dataset.report["fingerprint"]:
            raise DataError(
                f"{self.folder} was begun on other data: {data['source']} has changed since (fingerprint {data['fingerprint'][:12]}, now "
                f"{plan.dataset.report['fingerprint'][:12]}); restore the data, or use another --workdir"
            )
        self._refuse(configuration.differences(before, plan.config))
        ways = [report.get("sampling", {}).get("curriculum", {}) for report in (data, plan.dataset.report)]
        if ways[0].get("sha256") != ways[1].get("sha256"):
            raise DataError(
                f"{self.folder} was begun with another data.difficulty: {ways[1].get('file')} has changed since; restore it, or use another --workdir"
            )

    def _refuse(self, differences: list[str]) -> None:
        changed = [line for line in differences if line.split(":")[0] not in NOT_THE_RUN]
        if changed:
            raise ConfigError(
                f"{self.folder} is the run of another configuration ({'; '.join(changed)}); use another --workdir, or the configuration it began with"
            )

    def finished(self) -> Run | None:
        """The run, if it has ended ok."""
        path = self.folder / "result.json"
        result = files.read_json(path) if path.exists() else {}
        return Run(self.folder, result) if result.get("status") == "ok" else None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Only one process at a time trains into a run directory; the lock goes with the process, however that ends.

        Raises:
          CheckpointError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise CheckpointError(f"another process is training into {self.folder}; wait for it, end it, or use another --workdir") from error
            yield

    def write_plan(self, plan: Plan, asked: Config) -> None:
        """config.json, data.json, rejected.jsonl, load.json and coefficients.json, before step 1; request.json is what was asked, before the recipe filled it.

        Raises:
          FtjaxError: there are checkpoints of other data, weights or values here.
        """
        self.refuse_changed(plan)
        files.write_json(self.folder / "request.json", configuration.to_mapping(asked))
        files.write_json(self.folder / "config.json", plan.resolved.to_json())
        files.write_json(self.folder / "data.json", with_examples(plan.dataset))
        rejected = itertools.chain(left_out(plan.dataset.report, plan.config.data.bad_files), plan.dataset.removed)
        files.write_text(self.folder / "rejected.jsonl", "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in rejected))
        phases = [stage.phase.to_json(plan.table) for stage in plan.stages]
        files.write_json(self.folder / "coefficients.json", plan.table.to_json() | {"phases": phases})
        if plan.load is not None:
            files.write_json(self.folder / "load.json", plan.load.to_json())

    def write_cartography(self, plan: Plan, state: TrainState) -> list[str]:
        """cartography.jsonl, a line for each training example, and cartography.json, those that a person should look at; what is to be warned of."""
        if "dynamics" not in state.extra:
            return []
        lines, shown, warnings = told(plan, cartography(state.extra["dynamics"]))
        files.write_text(self.folder / "cartography.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        files.write_json(self.folder / "cartography.json", shown)
        return warnings

    def write_after(self, chosen: Chosen) -> None:
        """after.json: what competed after training, what was chosen, and the curve of accuracy against distance."""
        files.write_json(self.folder / "after.json", chosen.to_json())

    def write_evaluation(self, plan: Plan, records: Any) -> None:
        """evaluation/test.npz and test.json: every prediction, the tables of the task, and the examples that a person should look at."""
        folder, count, measures = self.folder / "evaluation", plan.config.report.thumbnails, plan.measures
        split = plan.dataset.splits["test"]
        evaluation.write_records(folder / "test.npz", records)
        found = measures.tables(records) | {"errors": measures.errors(records, split, count)}
        if isinstance(records, Records):
            found["uncertain"] = [measures.describe(records, int(row), split) for row in evaluation.least_certain(records, count)]
        examples = {name: [example(item, split.show(item["row"])) for item in found[name]] for name in ("errors", "uncertain") if name in found}
        files.write_json(folder / "test.json", found | examples)

    def write_result(self, plan: Plan, values: dict[str, Any]) -> dict[str, Any]:
        """result.json: what every run says, and `values`."""
        known = {"parameters": plan.table.to_json()["parameters"], "devices": f"{plan.mesh.size} x {jax.devices()[0].device_kind}"}
        return self.end(plan.config, {"warnings": list(plan.warnings)} | known | values)

    def end(self, config: Config, values: dict[str, Any]) -> dict[str, Any]:
        """result.json of a run whose plan may not have been made."""
        installed = {name: importlib.metadata.version(name) for name in VERSIONS}
        versions = {"ftjax": ftjax.__version__} | installed | {"python": platform.python_version()}
        result = {"task": config.task.name, "method": config.method, "seed": config.seed, "warnings": []} | values | {"versions": versions}
        files.write_json(self.folder / "result.json", result)
        return result
