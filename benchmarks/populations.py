"""Many fine-tunings as one population against as many single runs, compilation included: what a person waits for.

    python -m benchmarks.populations --data SHARED_DATA --workdir runs/populations [--only head] [--singles 2]

Both sides are the command line in a fresh process without a cache of compiled programs. Of the single runs a sample is measured, the first and those after it
(which find the features of the frozen body in the shared cache), and the total is extrapolated. Writes `benchmarks/results/populations.md` and `.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parents[1]

CASES = {
    "head": {
        "what": "head on cached features, ViT-Ti/16, EuroSAT (2,000 training pictures at 64 pixels), 320 steps of 32",
        "config": """
        method="probe",
        data=DataConfig(source="image_folder", path="{data}/images/eurosat", cache="{cache}", near_duplicates="off"),
        model=ModelConfig(pretrained="{data}/weights/vit_tiny_patch16_224/model.safetensors", image_size=(64, 64)),
        train=TrainConfig(duration="320 steps", batch_size=32, evaluate_every="25%", checkpoint_every="100%"),
        """,
        "rates": (0.001, 0.003, 0.01, 0.03),
        "seeds": 8,
    },
    "resnet20": {
        "what": "full fine-tuning of ResNet-20, JPEG-CIFAR (2,000 training pictures at 32 pixels), 64 steps of 32",
        "config": """
        method="full",
        data=DataConfig(source="image_folder", path="{data}/images/cifar10_jpg", near_duplicates="off"),
        augment=AugmentConfig(crop_min_area=1.0),
        model=ModelConfig(pretrained="{data}/weights/cifar10_flax/ResNet.ckpt"),
        train=TrainConfig(duration="64 steps", batch_size=32, evaluate_every="50%", checkpoint_every="100%"),
        """,
        "rates": (0.0001, 0.0003),
        "seeds": 2,
    },
}


def write_config(case: str, shared: Path, workdir: Path) -> Path:
    """The case as a configuration file."""
    body = CASES[case]["config"].format(data=shared, cache=workdir / "features")
    ends = 'evaluation=EvaluationConfig(baselines=()),\n        report=ReportConfig(progress="plain", thumbnails=0),'
    path = workdir / f"{case}.py"
    path.write_text(f"from ftjax import *\n\n\ndef get_config():\n    return Config({body}{ends}\n    )\n")
    return path


def timed(command: list[str], log: Path) -> float:
    """Seconds of a fresh process whose programs nobody has compiled before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    began = time.perf_counter()
    with log.open("w") as file:
        subprocess.run([sys.executable, "-m", "ftjax.main", *command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=True)
    return time.perf_counter() - began


def measure(case: str, shared: Path, workdir: Path, singles: int) -> dict:
    """Seconds of both sides."""
    rates, seeds = CASES[case]["rates"], CASES[case]["seeds"]
    config = write_config(case, shared, workdir)
    load = [os.getloadavg()[0]]
    alone = []
    for number in range(singles):
        overrides = [f"--config.seed={number}", f"--config.optimizer.learning_rate={rates[number % len(rates)]}"]
        alone.append(timed(["train", "--config", str(config), *overrides, "--workdir", str(workdir / f"{case}_{number}")], workdir / f"{case}_{number}.log"))
        print(case, "single", number, f"{alone[-1]:.1f} s", flush=True)
    axes = ["--grid", f"seed=0..{seeds - 1}", "--tune", "optimizer.learning_rate=" + ",".join(map(str, rates))]
    folder = workdir / f"{case}_population"
    together = timed(["ablate", "--config", str(config), *axes, "--workdir", str(folder)], workdir / f"{case}_population.log")
    load.append(os.getloadavg()[0])
    members = len(rates) * seeds
    later = alone[1:] or alone
    total = alone[0] + (members - 1) * sum(later) / len(later)
    found: dict[str, Any] = {
        "what": CASES[case]["what"],
        "members": members,
        "population": together,
        "singles": alone,
        "extrapolated": total,
        "ratio": total / together,
        "load": load,
    }
    inside = json.loads((folder / "ablation.json").read_text())["members"]
    found["inside"] = {name: sum(one["seconds"][name] for one in inside) for name in inside[0]["seconds"]}
    print(case, f"population of {members}: {together:.1f} s, ratio {found['ratio']:.1f}", flush=True)
    return found


def page(cases: dict[str, dict]) -> str:
    """The table."""
    lines = [
        "# Populations against single runs",
        "",
        "`python -m benchmarks.populations`: the command line in fresh processes, compilation, reading of data, evaluation and everything written included;",
        "two CPU cores that other work shared (load averages before and after are given: both sides suffered from it, so the ratios are rough).",
        "Of the single runs those named were measured; their total is the first plus the mean of the others times one less than the members.",
        "",
        "| what | members | population, s | single runs measured, s | all single runs, extrapolated, s | ratio | load |",
        "|---|--:|--:|---|--:|--:|---|",
    ]
    for found in cases.values():
        alone = ", ".join(f"{seconds:.0f}" for seconds in found["singles"])
        load = " to ".join(f"{value:.1f}" for value in found["load"])
        lines.append(
            f"| {found['what']} | {found['members']} | {found['population']:.0f} | {alone} | {found['extrapolated']:.0f} | {found['ratio']:.1f} | {load} |"
        )
    lines += ["", *(f"{name}: {found['note']}" for name, found in cases.items() if "note" in found)]
    lines += ["", "Inside the population, seconds: " + "; ".join(_inside(name, found) for name, found in cases.items()) + ".", ""]
    return "\n".join(lines)


def _inside(name: str, found: dict) -> str:
    return f"{name}: " + ", ".join(f"{what} {seconds:.1f}" for what, seconds in found["inside"].items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--only", default="", choices=["", *CASES])
    parser.add_argument("--singles", type=int, default=2)
    arguments = parser.parse_args()
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "populations.json"
    cases = json.loads(path.read_text()) if path.exists() else {}
    for case in [name for name in CASES if arguments.only in name]:
        cases[case] = measure(case, arguments.data.resolve(), arguments.workdir.resolve(), arguments.singles)
        path.write_text(json.dumps(cases, indent=1) + "\n")
        (RESULTS / "populations.md").write_text(page(cases))


if __name__ == "__main__":
    main()
