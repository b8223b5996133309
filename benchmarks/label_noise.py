"""Label noise: what confident learning finds of labels that were changed on purpose, and what leaving those rows out does to fine-tuning.

`python -m benchmarks.label_noise --detect` measures detection alone; without it each set is also fine-tuned whole on clean labels, noisy labels, and noisy
labels with `data.label_errors="drop"`, each run in a folder of its own, so that the same command goes on where it was stopped. A fifth of the training
labels is changed to another class at random; validation and test stay clean. Needs FTJAX_SHARED_DATA, and MiniLM for the texts (benchmarks/text).
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import ftjax
from benchmarks.text import data as texts
from benchmarks.text.settings import minilm
from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, ReportConfig, TrainConfig, files
from ftjax.data import suspects
from ftjax.training.prepare import prepare_config

SHARE = 0.2
ARMS = ("clean", "noisy", "dropped")
RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A data set on disk whose training labels were changed; `changed` are the ids of those rows."""

    config: Config
    changed: frozenset[str]


def changed_rows(labels: np.ndarray, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows, their new label): `SHARE` of the rows, each to another class with the same chance."""
    draw = np.random.default_rng(seed)
    rows = np.sort(draw.permutation(len(labels))[: round(SHARE * len(labels))])
    return rows, (labels[rows] + draw.integers(1, classes, len(rows))) % classes


def sign_digits(folder: Path, seed: int, noisy: bool, smoke: bool) -> Noisy:
    """Links to the shared pictures, in the folder of the label that each is given."""
    source = texts.shared_data() / "images" / "sign_digits"
    shutil.rmtree(folder, ignore_errors=True)
    changed: set[str] = set()
    for split in sorted(path for path in source.iterdir() if path.is_dir()):
        names = sorted(path for path in split.rglob("*") if path.is_file())
        names = [path for number, path in enumerate(names) if not smoke or number % 6 == 0]
        classes = sorted({path.parent.name for path in names})
        labels = np.array([classes.index(path.parent.name) for path in names])
        new = labels.copy()
        if noisy and split.name == "train":
            rows, given = changed_rows(labels, len(classes), seed)
            new[rows] = given
        for path, label, true in zip(names, new, labels, strict=True):
            target = folder / split.name / classes[label] / f"{classes[true]}_{path.name}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
            if label != true:
                changed.add(str(target.relative_to(folder)))
    model = ModelConfig(pretrained=str(texts.shared_data() / "weights" / "vit_tiny_patch16_224"), image_size=(64, 64), precision="bfloat16")
    return Noisy(Config(data=DataConfig(source="image_folder", path=str(folder)), model=model), frozenset(changed))


def trec(folder: Path, seed: int, noisy: bool, smoke: bool) -> Noisy:
    """The subset of benchmarks/text as tables."""
    rows = texts.subset(dataclasses.replace(texts.named("trec"), rows=150 if smoke else texts.named("trec").rows, test=60 if smoke else 500))
    classes = sorted({row["label"] for row in rows["train"]})
    labels = np.array([classes.index(row["label"]) for row in rows["train"]])
    changed, given = changed_rows(labels, len(classes), seed) if noisy else (np.array([], int), np.array([], int))
    for row, label in zip(changed, given, strict=True):
        rows["train"][row] = rows["train"][row] | {"label": classes[label]}
    folder.mkdir(parents=True, exist_ok=True)
    for split, some in rows.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ("text", "label"))
            writer.writeheader()
            writer.writerows(some)
    config = Config(data=DataConfig(source="table", path=str(folder)), model=ModelConfig(pretrained=str(minilm()), precision="bfloat16"))
    # The header is line 1.
    return Noisy(config, frozenset(f"train.csv:{row + 2}" for row in changed.tolist()))


EPOCHS = {"sign_digits": 8, "trec": 2}
"""Of full fine-tuning; enough to learn wrong labels by heart."""

SETS = {"sign_digits": sign_digits, "trec": trec}


def detection(noisy: Noisy, drop: Path) -> dict[str, float]:
    """Share of the changed labels that is found, precision, and the chance that a changed label has the lower quality; the ids that are named go to `drop`."""
    from sklearn.metrics import roc_auc_score

    plan, state = prepare_config(noisy.config)
    train = plan.dataset.splits["train"]
    missing = noisy.changed - set(train.ids)
    if len(missing) > 0.05 * len(noisy.changed):
        raise SystemExit(f"{len(missing)} of {len(noisy.changed)} changed rows are not in train; the ids are {train.ids[:2]}, {sorted(missing)[:2]}")
    part = suspects.Part(train.ids, train.labels, plan.features(state.theta0, state.extra["batch_stats"], "train"))
    probe, judged, _ = suspects.judge_labels(part, len(plan.dataset.classes), suspects.copies(plan.dataset.report), plan.config.seed)
    wrong = np.array([name in noisy.changed for name in train.ids])
    named = {name for name, one in zip(train.ids, judged.wrong, strict=True) if one}
    files.write_text(drop, "".join(f"{name}\n" for name in sorted(named)))
    hits = len(named & noisy.changed)
    return {
        "rows": len(train.ids),
        "changed": int(wrong.sum()),
        "named": len(named),
        "found": hits / max(1, int(wrong.sum())),
        "precision": hits / max(1, len(named)),
        "auc": float(roc_auc_score(wrong, -judged.score)),
        "probe_accuracy": probe.accuracy,
    }


def accuracy(name: str, noisy: Noisy, drop: Path | None, seed: int, folder: Path, smoke: bool) -> float:
    """Test accuracy of full fine-tuning, whole epochs by the recipe. Rows are left out by file: `data.label_errors="drop"` refuses to drop as many as it names
    of the sign digits."""
    config = noisy.config
    data = dataclasses.replace(config.data, drop=str(drop) if drop else None)
    train = TrainConfig(duration="4 steps") if smoke else TrainConfig(duration=f"{EPOCHS[name]} epochs", batch_size=32)
    settings: dict[str, Any] = {"data": data, "seed": seed, "train": train, "method": "full"}
    settings |= {"evaluation": EvaluationConfig(baselines=()), "report": ReportConfig(progress="none")}
    return ftjax.finetune(dataclasses.replace(config, **settings), folder).result["splits"]["test"]["accuracy"]["value"]


def table(found: list[dict[str, Any]]) -> str:
    """Minimum, median and maximum over the seeds."""
    lines = ["| set | changed labels found | precision | AUC of the score | clean | noisy | noisy, dropped |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(entry["set"] for entry in found):
        cells = [_span([entry["detection"][key] for entry in found if entry["set"] == name]) for key in ("found", "precision", "auc")]
        cells += [_span([entry["accuracy"][arm] for entry in found if entry["set"] == name and arm in entry["accuracy"]]) for arm in ARMS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _span(values: list[float]) -> str:
    return f"{np.median(values):.3f} ({min(values):.3f} to {max(values):.3f})" if values else "not run"


def merged(one: dict[str, Any], target: Path) -> list[dict[str, Any]]:
    """All that has been measured so far, written with this among it; an entry of the same set and seed is replaced."""
    path = target / "label_noise.json"
    before = files.read_json(path)["runs"] if path.is_file() else []
    found = sorted([run for run in before if (run["set"], run["seed"]) != (one["set"], one["seed"])] + [one], key=lambda run: (run["set"], run["seed"]))
    epochs = " and ".join(f"{count} epochs ({name})" for name, count in EPOCHS.items())
    about = f"`python -m benchmarks.label_noise`: full fine-tuning, recipe values, {epochs}. Median (minimum to maximum) over the seeds."
    files.write_json(target / "label_noise.json", {"share": SHARE, "epochs": EPOCHS, "runs": found})
    files.write_text(target / "label_noise.md", f"# Label noise, {SHARE:.0%} uniform\n\n{about}\n\n{table(found)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path(os.environ.get("TMPDIR", "/tmp")) / "ftjax-label-noise")
    parser.add_argument("--only", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--detect", action="store_true", help="detection alone, no training")
    parser.add_argument("--smoke", action="store_true", help="few rows and steps; writes its results into the work directory")
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for name in arguments.only:
            folder = arguments.workdir / name / str(seed)
            given = {noise: SETS[name](folder / f"data_{noise}", seed, noise == "noisy", arguments.smoke) for noise in ("clean", "noisy")}
            drop = folder / "drop.txt"
            one: dict[str, Any] = {"set": name, "seed": seed, "detection": detection(given["noisy"], drop), "accuracy": {}}
            for arm in () if arguments.detect else ARMS:
                one["accuracy"][arm] = accuracy(
                    name, given["clean" if arm == "clean" else "noisy"], drop if arm == "dropped" else None, seed, folder / arm, arguments.smoke
                )
            print(name, seed, one["detection"], one["accuracy"], flush=True)
            found = merged(one, arguments.workdir if arguments.smoke or arguments.detect else RESULTS)
    print(table(found))


if __name__ == "__main__":
    main()
