"""Rare classes: what the remedies of `task.imbalance` do where half of the classes keep one training row in twenty.

    FTJAX_SHARED_DATA=... python -m benchmarks.imbalance --workdir runs/imbalance [--only eurosat banking] [--seeds 3] [--remedies none balanced ...]

Two sets: EuroSAT's pictures at 64 pixels (ViT-Ti/16) and 10 classes of banking77 (MiniLM), both balanced as they come. A seed chooses the rare half of
the classes and the rows that they keep; the others go through `data.drop`, so the ordinary pipeline does it. Validation and test stay balanced. Every
run is an ordinary `ftjax.finetune` with the recipe's values; one that was made is not made again. Writes benchmarks/results/imbalance.json and .md.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from scipy import stats

import ftjax
from benchmarks.text.data import shared_data
from benchmarks.text.settings import minilm
from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, ReportConfig, TaskConfig, TextConfig, TrainConfig, files
from ftjax.data.order import rank
from ftjax.data.sources import read_source

RESULTS = Path(__file__).parent / "results"
REMEDIES = ("none", "balanced", "logit_adjust", "oversample")
SETS = ("eurosat", "banking")
RATIO = 20
STEPS, BATCH = 100, 32
CLASSES, ROWS, HELD = 10, 100, 20
"""banking77: classes taken, training rows of each, and validation rows of each (cut from its training file)."""

Labelled = dict[str, str]
"""Training rows: id -> class."""


def banking(folder: Path) -> Path:
    """Write `train.csv`, `validation.csv` and `test.csv` of the classes with enough rows, the first `CLASSES` of them in the order of a hash."""
    source = shared_data() / "text" / "banking77"
    tables: dict[str, dict[str, list[str]]] = {}
    for split in ("train", "test"):
        with (source / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                tables.setdefault(split, {}).setdefault(row["category"], []).append(" ".join(row["text"].split()))
    enough = [name for name, texts in tables["train"].items() if len(set(texts)) >= ROWS + HELD]
    chosen = sorted(enough, key=lambda name: rank("classes", 0, name))[:CLASSES]
    cut: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
    for name in chosen:
        train = sorted(set(tables["train"][name]), key=lambda text: rank("rows", 0, text))
        cut["train"] += [(text, name) for text in train[:ROWS]]
        cut["validation"] += [(text, name) for text in train[ROWS : ROWS + HELD]]
        cut["test"] += [(text, name) for text in tables["test"][name]]
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in cut.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as out:
            csv.writer(out).writerows([("text", "label"), *rows])
    return folder


def training_rows(name: str, folder: Path) -> Labelled:
    """The training rows that a run would see, by the ids that it would give them."""
    if name == "eurosat":
        rows = read_source(DataConfig(source="image_folder", path=str(folder)))
        return {row: rows.classes[label] for row, label, split in zip(rows.ids, rows.labels, rows.splits) if split == "train"}
    from ftjax.data.text.collect import read_found

    found = read_found(DataConfig(source="table", path=str(folder)), TextConfig(text="text", label="label"), TaskConfig()).examples
    return {row: label for row, label, split in zip(found.ids, found.labels, found.splits) if split == "train"}


def rare_half(rows: Labelled, seed: int) -> list[str]:
    """The classes that become rare with this seed."""
    names = sorted(set(rows.values()))
    return sorted(sorted(names, key=lambda name: rank("rare", seed, name))[: len(names) // 2])


def write_drop(rows: Labelled, rare: Sequence[str], seed: int, path: Path) -> Path:
    """The file of ids that leaves each rare class one row in `RATIO`, the first ones in the order of a hash."""
    dropped = []
    for name in rare:
        own = sorted((row for row, label in rows.items() if label == name), key=lambda row: rank("kept", seed, row))
        dropped += own[max(1, round(len(own) / RATIO)) :]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in sorted(dropped)), encoding="utf-8")
    return path


def configuration(name: str, folder: Path, drop: Path, remedy: str, seed: int) -> Config:
    """One run; what is not said here is the recipe's."""
    pictures = name == "eurosat"
    weights = shared_data() / "weights" / "vit_tiny_patch16_224" / "model.safetensors" if pictures else minilm()
    return Config(
        seed=seed,
        data=DataConfig(source="image_folder" if pictures else "table", path=str(folder), drop=str(drop), near_duplicates="off"),
        text=TextConfig() if pictures else TextConfig(text="text", label="label", buckets=1, max_length=32),
        model=ModelConfig(pretrained=str(weights), image_size=(64, 64) if pictures else None),
        task=TaskConfig(imbalance=remedy),  # type: ignore[arg-type]
        # One evaluation at the end: validation is balanced too, and must not choose.
        train=TrainConfig(duration=f"{STEPS} steps", batch_size=BATCH, evaluate_every="100%", checkpoint_every="100%"),
        evaluation=EvaluationConfig(baselines=(), metric="macro_f1"),
        report=ReportConfig(progress="none"),
    )


def measure(name: str, folder: Path, remedy: str, seed: int, workdir: Path) -> dict[str, Any]:
    """One run and what it says of rare and frequent classes."""
    rows = training_rows(name, folder)
    rare = rare_half(rows, seed)
    drop = write_drop(rows, rare, seed, workdir / f"{name}_drop_{seed}.txt")
    run = ftjax.finetune(configuration(name, folder, drop, remedy, seed), workdir / f"{name}_{remedy}_{seed}")
    if run.result["status"] != "ok":
        raise SystemExit(f"{run.workdir}: {run.result['status']}; the same command goes on from there")
    report, records = files.read_json(run.workdir / "data.json"), run.records()
    per_class = report["splits"]["train"]["per_class"]
    is_rare = np.array([label in rare for label in report["classes"]])[records.label]
    return {
        "set": name,
        "remedy": remedy,
        "seed": seed,
        "rare": rare,
        "rows": {"rare": sum(per_class[label] for label in rare), "frequent": sum(count for label, count in per_class.items() if label not in rare)},
        "macro_f1": run.result["splits"]["test"]["macro_f1"],
        "accuracy": run.result["splits"]["test"]["accuracy"]["value"],
        "accuracy of rare": float(records.correct[is_rare].mean()),
        "accuracy of frequent": float(records.correct[~is_rare].mean()),
        "learning_rate": files.read_json(run.workdir / "config.json")["config"]["optimizer"]["learning_rate"],
        "seconds": sum(run.result["seconds"].values()),
        "versions": run.result["versions"],
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean with Student's 95 % interval over seeds; one seed has none."""
    x = np.asarray(values, float)
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan")
    return {"value": float(x.mean()), "low": float(x.mean()) - half, "high": float(x.mean()) + half}


def table(found: Sequence[dict[str, Any]]) -> str:
    """The page."""
    shown = [(name, runs) for name in SETS if (runs := [run for run in found if run["set"] == name])]
    lines = [
        "# Rare classes, 1:20",
        "",
        f"`python -m benchmarks.imbalance`: {STEPS} steps of {BATCH} examples, method full with the recipe's values (no learning rate is tuned, for no",
        "remedy). A seed chooses which half of the classes keeps one training row in twenty, which rows those are, the head and the order. Test is",
        "balanced. Mean over seeds with Student's 95 % interval; the difference is paired by seed, so the choice of the classes is not in it.",
    ]
    for name, runs in shown:
        about = {"eurosat": "EuroSAT, 10 classes, ViT-Ti/16 at 64 pixels", "banking": f"banking77, {CLASSES} classes, all-MiniLM-L6-v2"}[name]
        rows, rates = runs[0]["rows"], sorted({run["learning_rate"] for run in runs})
        lines += ["", f"## {about}", ""]
        lines += [
            f"{rows['frequent']} training rows in the frequent half, {rows['rare']} in the rare one; learning rate {', '.join(f'{r:g}' for r in rates)}.",
            "",
        ]
        lines += ["| remedy | seeds | macro-F1 | against none, paired | accuracy | of rare classes | of frequent classes |", "|---|--:|---|---|--:|--:|--:|"]
        by = {remedy: {run["seed"]: run for run in runs if run["remedy"] == remedy} for remedy in REMEDIES}
        for remedy in (remedy for remedy in REMEDIES if by[remedy]):
            lines.append(_line(remedy, by[remedy], by["none"]))
        each = ", ".join(f"{run['remedy']} {run['seed']}: {_span(run['macro_f1'])}" for run in runs)
        lines += ["", f"Macro-F1 of each run with its bootstrap interval over test examples: {each}."]
    versions = ", ".join(f"{name} {version}" for name, version in found[0]["versions"].items())
    return "\n".join([*lines, "", f"Versions: {versions}. Two CPU cores, shared with other work.", ""])


def _line(remedy: str, runs: dict[int, dict[str, Any]], none: dict[int, dict[str, Any]]) -> str:
    f1 = interval([run["macro_f1"]["value"] for run in runs.values()])
    both = [seed for seed in runs if seed in none]
    gain = interval([runs[seed]["macro_f1"]["value"] - none[seed]["macro_f1"]["value"] for seed in both]) if both and remedy != "none" else None
    means = [float(np.mean([run[key] for run in runs.values()])) for key in ("accuracy", "accuracy of rare", "accuracy of frequent")]
    bounds = "one seed" if gain is None or not np.isfinite(gain["low"]) else f"{gain['low']:+.3f} to {gain['high']:+.3f}"
    against = "" if gain is None else f"{gain['value']:+.3f} ({bounds})"
    return f"| {remedy} | {len(runs)} | {_span(f1)} | {against} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |"


def _span(value: dict[str, float]) -> str:
    known = np.isfinite(value["low"])
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})" if known else f"{value['value']:.3f} (one seed)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imbalance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--remedies", nargs="+", choices=REMEDIES, default=list(REMEDIES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of imbalance.json and imbalance.md")
    arguments = parser.parse_args()
    folders = {"eurosat": shared_data() / "images" / "eurosat", "banking": arguments.workdir / "banking"}
    if "banking" in arguments.only:
        banking(folders["banking"])
    path = arguments.results / "imbalance.json"
    for seed in range(arguments.seeds):
        for name in arguments.only:
            for remedy in arguments.remedies:
                run = measure(name, folders[name], remedy, seed, arguments.workdir)
                print(f"{name} {remedy} seed {seed}: macro-F1 {_span(run['macro_f1'])}, {run['seconds']:.0f} s", flush=True)
                # Read again each time: two processes may each measure one set.
                known = files.read_json(path)["runs"] if path.exists() else []
                others = [old for old in known if (old["set"], old["remedy"], old["seed"]) != (name, remedy, seed)]
                found = sorted([*others, run], key=lambda one: (SETS.index(one["set"]), REMEDIES.index(one["remedy"]), one["seed"]))
                arguments.results.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps({"runs": found}, indent=1) + "\n")
                (arguments.results / "imbalance.md").write_text(table(found))


if __name__ == "__main__":
    main()
