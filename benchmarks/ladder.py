"""The ladder of methods on real photos at equal budget: ViT-Ti/16 on EuroSAT and sign digits, from a probe to training from scratch.

    python -m benchmarks.ladder --data SHARED_DATA --workdir runs/ladder [--only eurosat] [--seeds 3]

Every rung is an ordinary `ftjax.finetune` with its recipe's values and the same steps, batches and pictures; an interrupted benchmark goes on where it
was. Writes `benchmarks/results/ladder.md` and `.json`. Pictures are seen at 64 pixels, so that a run takes about a minute on two CPU cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import ftjax
from benchmarks.photos import PHOTOS, WEIGHTS
from ftjax import AugmentConfig, Config, DataConfig, EvaluationConfig, Method, ModelConfig, ReportConfig, TrainConfig, files

RESULTS = Path(__file__).parent / "results"
METHODS: tuple[Method, ...] = ("probe", "bitfit", "full", "layer_decay", "lp_ft", "l2_sp", "scratch")
PIXELS, STEPS, BATCH = 64, 100, 32


def configuration(shared: Path, photos: str, method: Method, seed: int) -> Config:
    return Config(
        method=method,
        seed=seed,
        data=DataConfig(source="image_folder", path=str(shared / PHOTOS[photos])),
        # Alike for every rung, also for those whose recipe says otherwise; a mirrored hand is another hand.
        augment=AugmentConfig(horizontal_flip=photos == "eurosat", crop_min_area=0.5),
        model=ModelConfig(pretrained=str(shared / WEIGHTS["vit"]), image_size=(PIXELS, PIXELS), precision="bfloat16"),
        train=TrainConfig(duration=f"{STEPS} steps", batch_size=BATCH, evaluate_every="20%", checkpoint_every="50%"),
        evaluation=EvaluationConfig(baselines=()),
        report=ReportConfig(progress="plain"),
    )


def rung(photos: str, method: str, runs: list[dict]) -> dict:
    """What the seeds of one method say together."""
    accuracy = [run["splits"]["test"]["accuracy"]["value"] for run in runs]
    return {
        "data": photos,
        "method": method,
        "accuracy": accuracy,
        "mean": float(np.mean(accuracy)),
        "deviation": float(np.std(accuracy, ddof=1)) if len(accuracy) > 1 else None,
        "log_loss": float(np.mean([run["splits"]["test"]["log_loss"]["value"] for run in runs])),
        "learning_rate": runs[0]["learning_rate"],
        "live": runs[0]["parameters"]["live"],
        "travel": float(np.mean([np.mean([t for group, t in run["travel"].items() if group != "head"] or [0.0]) for run in runs])),
        "train_seconds": float(np.mean([run["seconds"]["train"] for run in runs])),
        "pixels": PIXELS,
        "steps": STEPS,
    }


def table(rungs: list[dict], versions: dict) -> str:
    lines = [
        "# The ladder of methods on photos",
        "",
        f"`python -m benchmarks.ladder`: ViT-Ti/16, {STEPS} steps of {BATCH} examples at {PIXELS} pixels in bfloat16 for every rung, the same pictures and",
        "augmentation, each method at its recipe's learning rate (not tuned). Test accuracy, mean and range over seeds. Travel is the mean over the groups of",
        "the body of |theta - theta0| / |theta0|; where the start is random it is the distance from that start.",
        "",
        "| data | method | seeds | accuracy | log loss | learning rate | live parameters | travel of the body | training, s |",
        "|---|---|--:|---|--:|--:|--:|--:|--:|",
    ]
    for found in rungs:
        span = f"{found['mean']:.3f} ({min(found['accuracy']):.3f} to {max(found['accuracy']):.3f})"
        lines.append(
            f"| {found['data']} | {found['method']} | {len(found['accuracy'])} | {span} | {found['log_loss']:.3f} | {found['learning_rate']:g} "
            f"| {found['live']:,} | {found['travel']:.3g} | {found['train_seconds']:.0f} |"
        )
    lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ". Two CPU cores.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", default="", choices=["", *PHOTOS])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rungs, versions = [], {}
    for photos in [name for name in PHOTOS if arguments.only in name]:
        for method in METHODS:
            runs = []
            for seed in range(arguments.seeds):
                run = ftjax.finetune(configuration(arguments.data, photos, method, seed), arguments.workdir / f"{photos}_{method}_{seed}")
                rate = files.read_json(run.workdir / "config.json")["config"]["optimizer"]["learning_rate"]
                runs.append(run.result | {"learning_rate": rate})
                versions = run.result["versions"]
            rungs.append(rung(photos, method, runs))
            (RESULTS / "ladder.json").write_text(json.dumps({"rungs": rungs, "versions": versions}, indent=1) + "\n")
            (RESULTS / "ladder.md").write_text(table(rungs, versions))


if __name__ == "__main__":
    main()
