"""Fine-tuning against a linear probe and training from scratch on real photos: ViT-Ti/16 and MobileNetV2-0.35 on EuroSAT and sign digits.

    python benchmarks/photos.py --data SHARED_DATA --workdir runs/photos [--only vit_eurosat] [--seeds 3]

Every run is an ordinary `ftjax.finetune`; an interrupted benchmark goes on where it was. Writes `benchmarks/results/photos.md` and `.json`.
The pictures are seen at 96 pixels (EuroSAT's are 64 pixels large, the sign digits 100), so that a run takes minutes on two CPU cores.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import ftjax
from ftjax import AugmentConfig, Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, ReportConfig, TrainConfig, files

RESULTS = Path(__file__).parent / "results"
WEIGHTS = {"vit": "weights/vit_tiny_patch16_224/model.safetensors", "mobilenet": "weights/mobilenet_v2_0.35_notop/model.safetensors"}
PHOTOS = {"eurosat": "images/eurosat", "sign_digits": "images/sign_digits"}
PIXELS = 96
STEPS = 200


def configuration(shared: Path, model: str, photos: str, seed: int, rate: float | None, scratch_seeds: int) -> Config:
    return Config(
        method="full",
        seed=seed,
        data=DataConfig(source="image_folder", path=str(shared / PHOTOS[photos])),
        # A mirrored hand is another hand.
        augment=AugmentConfig(horizontal_flip=photos == "eurosat"),
        model=ModelConfig(pretrained=str(shared / WEIGHTS[model]), image_size=(PIXELS, PIXELS), precision="bfloat16"),
        optimizer=OptimizerConfig(learning_rate=rate),
        train=TrainConfig(duration=f"{STEPS} steps", batch_size=32),
        evaluation=EvaluationConfig(baselines=("majority", "probe", "scratch") if seed < scratch_seeds else ("majority", "probe")),
        report=ReportConfig(progress="plain"),
    )


def row(name: str, runs: list[dict]) -> dict:
    """What the seeds say together: mean, smallest and largest."""

    def over(values: list[float]) -> dict:
        return {"mean": float(np.mean(values)), "min": min(values), "max": max(values)}

    test = [run["splits"]["test"]["accuracy"] for run in runs]
    found = {"name": name, "seeds": len(runs), "fine-tuned": over([t["value"] for t in test])}
    for baseline in ("probe", "scratch", "majority"):
        measured = [run["baselines"][baseline]["accuracy"]["value"] for run in runs if baseline in run["baselines"]]
        found[baseline] = over(measured) | {"seeds": len(measured)}
    found["interval of seed 0"] = test[0]
    found["above probe, seed 0"] = runs[0]["baselines"]["probe"]["difference"]
    found["seconds"] = over([sum(run["seconds"].values()) for run in runs])
    found["train seconds"] = over([run["seconds"]["train"] for run in runs])
    found["travel"] = runs[0]["travel"]
    found["learning_rate"] = runs[0]["learning_rate"]
    return found


def table(rows: list[dict], versions: dict) -> str:
    def cell(value: dict) -> str:
        if value.get("seeds") == 1:
            return f"{value['mean']:.3f} (one seed)"
        return f"{value['mean']:.3f} ({value['min']:.3f} to {value['max']:.3f})"

    lines = [
        "# Fine-tuning on real photos",
        "",
        f"`python benchmarks/photos.py`: {STEPS} steps of 32 examples at {PIXELS} pixels in bfloat16, method full with the recipe's values.",
        "Test accuracy, mean (min to max) over seeds. The seed changes the head, the order of the data and the augmentation; splits are the data sets' own.",
        "Probe: logistic regression on the pretrained features. Scratch: the same model, data, steps and batch size from random weights at",
        "the scratch recipe's learning rate.",
        "The interval is about the test examples of seed 0 (Wilson, 95 %).",
        "",
        "| model, data | seeds | fine-tuned | interval | probe | scratch | above probe (paired, seed 0) | training, s |",
        "|---|--:|---|---|---|---|---|--:|",
    ]
    for found in rows:
        low, high = (found["interval of seed 0"][key] for key in ("low", "high"))
        difference = found["above probe, seed 0"]
        lines.append(
            f"| {found['name']} | {found['seeds']} | {cell(found['fine-tuned'])} | {low:.3f} to {high:.3f} | {cell(found['probe'])} | {cell(found['scratch'])} "
            f"| {difference['value']:+.3f} ({difference['low']:+.3f} to {difference['high']:+.3f}) | {found['train seconds']['mean']:.0f} |"
        )
    lines += ["", "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ". Two CPU cores, shared with other work.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--scratch_seeds", type=int, default=3, help="train the scratch baseline for the first of the seeds only")
    parser.add_argument("--rate", type=float)
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    rows, versions = [], {}
    for model in WEIGHTS:
        for photos in PHOTOS:
            name = f"{model}_{photos}"
            if arguments.only not in name:
                continue
            runs = []
            for seed in range(arguments.seeds):
                config = configuration(arguments.data, model, photos, seed, arguments.rate, arguments.scratch_seeds)
                run = ftjax.finetune(config, arguments.workdir / f"{name}_{seed}")
                rate = files.read_json(run.workdir / "config.json")["config"]["optimizer"]["learning_rate"]
                runs.append(run.result | {"learning_rate": rate})
                versions = run.result["versions"]
            rows.append(row(name, runs))
            (RESULTS / "photos.json").write_text(json.dumps({"rows": rows, "versions": versions}, indent=1) + "\n")
            (RESULTS / "photos.md").write_text(table(rows, versions))


if __name__ == "__main__":
    main()
