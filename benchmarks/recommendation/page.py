"""The page of `benchmarks/recommendation`: published figures beside ours, of finished runs and of those that were cut short."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import ftjax
from benchmarks.recommendation.arms import PUBLISHED, SAMPLED
from ftjax import Config, data
from ftjax.commands.artefact import load
from ftjax.data import Dataset
from ftjax.evaluation import Evaluator, measures_of
from ftjax.reporting import read_metrics
from ftjax.training.checkpoint import Checkpoints

RESULTS = Path(__file__).parents[1] / "results"
MAIN = ("hr_at_10", "ndcg_at_10")
DRAWN = 99


def curve(folder: Path) -> list[dict[str, float]]:
    """Step and main metrics of every look at validation."""
    lines = [line for line in read_metrics(folder) if line["split"] == "validation"]
    return [{"step": line["step"]} | {name: line[name] for name in MAIN if name in line} for line in lines]


def measured(config: Config, folder: Path) -> dict[str, Any] | None:
    """What a run has come to; None: nothing yet. Of an unfinished one the best weights so far are tested here."""
    if (folder / "result.json").is_file():
        result = json.loads((folder / "result.json").read_text())
        if result["status"] == "ok":
            told = {name: result[name] for name in ("baselines", "best_step", "steps", "seconds", "verdict", "splits")}
            return told | {"test": result["splits"]["test"], "curve": curve(folder), "finished": True}
    if not (folder / "checkpoints").is_dir():
        return None
    plan, state = ftjax.prepare(config)
    layout = {"params": state.params, "batch_stats": state.extra["batch_stats"]}
    store = Checkpoints(folder / "checkpoints")
    best = store.restore_best(jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), layout))
    store.close()
    if best is None:
        return {"curve": curve(folder), "finished": False}
    records = plan.evaluate(best.tree["params"], best.tree["batch_stats"], "test")
    found = plan.measures.intervals(records, resamples=1000)
    steps = max(line["step"] for line in read_metrics(folder))
    return {"test": found, "curve": curve(folder), "finished": False, "best_step": best.step, "steps": steps, "epoch": float(plan.clock.epoch)}


def sampled(config: Config, folder: Path) -> dict[str, Any]:
    """A finished run's test metrics with each target among 99 uniformly drawn items, as S3-Rec's authors measured."""
    predictor = load(folder)
    wanted = dataclasses.replace(config.recommendation, sampled_negatives=DRAWN)
    dataset = data.collect_interactions(config.data, config.text, wanted, config.seed)
    measures = measures_of(dataclasses.replace(predictor.task, sampled_negatives=DRAWN))
    records = _records(predictor, dataset, measures)
    return measures.intervals(records, resamples=1000)


def _records(predictor: Any, dataset: Dataset, measures: Any) -> Any:
    from ftjax.training.plan import predict

    evaluator = Evaluator(
        lambda params, extra, batch: predict(predictor.model, predictor.preprocessing, params, extra, batch), measures, batch_size=512, put=jnp_batch
    )
    return evaluator.run(predictor.params, predictor.extra, data.eval_batches(dataset.splits["test"], 512), dataset.splits["test"])


def jnp_batch(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A host batch on the device."""
    return {name: jnp.asarray(value) for name, value in batch.items()}


def told(value: Any) -> str:
    """A metric with its interval."""
    if isinstance(value, Mapping):
        return f"{value['value']:.4f} ({value['low']:.4f} to {value['high']:.4f})"
    return "" if value is None else f"{value:.4f}"


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of Markdown."""
    lines = [head, tuple("---" if not index else "--:" for index in range(len(head))), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def beauty(found: Mapping[str, Any]) -> str:
    """Runs from scratch beside the published row."""
    rows: list[tuple[str, ...]] = []
    for name, published in PUBLISHED.items():
        ours = found.get(name) or {}
        rows.append((name, *(told(ours.get("test", {}).get(metric)) for metric in MAIN), *(f"{published[metric]:.4f}" for metric in MAIN), state(ours)))
    first = next((run for run in found.values() if run.get("baselines")), {})
    for name, baseline in (first.get("baselines") or {}).items():
        rows.append((name, *(told(baseline.get(metric)) for metric in MAIN), "", "", "baseline"))
    return table(("run", "HR@10", "NDCG@10", "published HR@10", "published NDCG@10", "state"), rows)


def state(run: Mapping[str, Any]) -> str:
    """Whether a run has ended."""
    if not run:
        return "not measured yet"
    if run["finished"]:
        return f"best of {run['steps']} steps at step {run['best_step']}"
    if "test" not in run:
        return "cut short before its first look at validation"
    return f"cut short at step {run.get('steps', 0)}, best at step {run.get('best_step', 0)}"


def rows_of(run: Mapping[str, Any], metrics: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The run and its baselines."""
    rows: list[tuple[str, ...]] = [("this run", *(told(run.get("test", {}).get(metric)) for metric in metrics), "")]
    for name, baseline in (run.get("baselines") or {}).items():
        rows.append((name, *(told(baseline.get(metric)) for metric in metrics), told(baseline["difference"])))
    return rows


def write(configs: Mapping[str, Config], workdir: Path) -> None:
    """Measure what there is and write both files."""
    found: dict[str, Any] = {}
    for name, config in configs.items():
        run = measured(config, workdir / name)
        if run is not None:
            found[name] = run
    for name, run in found.items():
        if name.startswith("s3rec") and run["finished"]:
            scratch = workdir / name / "baselines" / "scratch"
            run["sampled"] = {"pretrained": sampled(configs[name], workdir / name), "scratch": sampled(configs[name], scratch)}
    (RESULTS / "recommendation.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "recommendation.md").write_text(text(found))


def text(found: Mapping[str, Any]) -> str:
    """The page."""
    parts = [
        "# Recommendation beside published figures\n\n`python -m benchmarks.recommendation`, then `--page`. Full ranking, leave-one-out, seen items left out; "
    ]
    parts.append("intervals by bootstrap over users (95 %).\n\n## Beauty from scratch (40,226 users, 54,542 items)\n\n")
    parts.append(beauty({name: run for name, run in found.items() if name.startswith("beauty")}))
    for name, run in found.items():
        if run.get("curve"):
            points = ", ".join(f"{point['step']}: {point.get('ndcg_at_10', float('nan')):.4f}" for point in run["curve"])
            parts.append(f"\nValidation NDCG@10 of {name} by step: {points}.\n")
    for name, run in ((name, run) for name, run in found.items() if name.startswith("s3rec")):
        loss = "their loss, BCE" if name == "s3rec_bce" else "cross-entropy over all items"
        parts.append(f"\n## S3-Rec's pretrained model, fine-tuned by {loss} (22,363 users, 12,101 items)\n\n{state(run)}. ")
        parts.append("Difference: this run less that one, paired by user.\n\n")
        parts.append(table(("run", "HR@10", "NDCG@10", "difference in NDCG@10"), rows_of(run, MAIN)))
        for start, values in run.get("sampled", {}).items():
            ours = {metric: told(next((value for key, value in values.items() if key.startswith(metric)), None)) for metric in MAIN}
            parts.append(f"\nSampled ({DRAWN} uniform), {start}: HR@10 {ours['hr_at_10']}, published {SAMPLED[start]['hr_at_10']:.4f}; ")
            parts.append(f"NDCG@10 {ours['ndcg_at_10']}, published {SAMPLED[start]['ndcg_at_10']:.4f}.\n")
    for prefix, title in (
        ("movielens", "MovieLens small (610 users, 9,724 items)"),
        ("towers", "Items that nobody has touched: MovieLens small, split by time"),
    ):
        runs = {name: run for name, run in found.items() if name.startswith(prefix)}
        if not runs:
            continue
        metrics = MAIN if prefix == "movielens" else (*MAIN, "cold_hr_at_10", "cold_ndcg_at_10")
        rows: list[tuple[str, ...]] = [(name, *(told(run.get("test", {}).get(metric)) for metric in metrics)) for name, run in runs.items()]
        baselines = next((run["baselines"] for run in runs.values() if run.get("baselines")), {})
        rows += [(name, *(told(baseline.get(metric)) for metric in metrics)) for name, baseline in baselines.items()]
        parts.append(f"\n## {title}\n\n" + table(("run", *metrics), rows))
    return "".join(parts)
