"""One table per method on real pretrained models: what trains, how far, in which phases, and what a step costs.

    python -m benchmarks.methods --data SHARED_DATA [--only vit]

Prepares every method as `ftjax check` does, compiles the step of each phase for batches of pictures and writes `benchmarks/results/methods.md`.
"""

import argparse
import typing
from pathlib import Path

from benchmarks.photos import WEIGHTS
from ftjax import AugmentConfig, Config, DataConfig, Method, ModelConfig, TrainConfig, configuration
from ftjax.data import Dataset
from ftjax.errors import ConfigError
from ftjax.training.plan import Plan
from ftjax.training.prepare import prepare
from ftjax.training.stage import Stage, compiler

RESULTS = Path(__file__).parent / "results"
MODELS = {"vit": (WEIGHTS["vit"], 64), "resnet": ("weights/cifar10_flax", 32)}
METHODS: tuple[Method, ...] = typing.get_args(Method)


def prepared(shared: Path, model: str, method: Method, dataset: Dataset | None) -> Plan:
    path, pixels = MODELS[model]
    config = Config(
        method=method,
        data=DataConfig(source="image_folder", path=str(shared / "images/eurosat"), labels_per_class=40),
        augment=AugmentConfig(horizontal_flip=True, crop_min_area=0.5),
        model=ModelConfig(pretrained=str(weights(shared / path)), image_size=(pixels, pixels)),
        train=TrainConfig(duration="20 epochs", batch_size=32),
    )
    return prepare(configuration.resolve(None, {}, config), dataset=dataset)[0]


def weights(path: Path) -> Path:
    """The file itself, or the plain ResNet of a folder of several."""
    return path if path.is_file() else next(found for found in sorted(path.iterdir()) if "resnet" in found.name.lower() and "pre" not in found.name.lower())


def flops(plan: Plan, stage: Stage) -> float:
    """Of one step on pictures, per example, as XLA counts them."""
    program = compiler(stage.parts, stage.abstract, plan.hyper, plan.mesh)(plan.host_batch(0))
    return float((program.cost_analysis() or {})["flops"]) / plan.batch_size


def section(shared: Path, model: str) -> list[str]:
    """The rows of one model, then the table of each method as a person reads it."""
    rows, tables, full, dataset = [], [], 0.0, None
    for method in METHODS:
        try:
            plan = prepared(shared, model, method, dataset)
        except ConfigError as error:
            rows.append(f"| {method} | refused: {error} | | | |")
            continue
        dataset = plan.dataset
        costs = [flops(plan, stage) for stage in plan.stages]
        full = costs[0] if method == "full" else full
        counts = plan.table.to_json()["parameters"]
        phases = ", ".join(f"{stage.phase.start}-{stage.phase.stop}" for stage in plan.stages)
        shares = ", ".join(f"{cost / full:.2f}" for cost in costs)
        rows.append(f"| {method} | {counts['live']:,} of {counts['total']:,} | {phases} | {costs[-1] / 1e6:.0f} | {shares} |")
        tables += [f"### {model}, {method}", "", "```text", *plan.table.lines(), "```", ""]
        print(rows[-1], flush=True)
    columns = "| method | live parameters | phases (steps) | MFLOP per example, last phase | share of full's, by phase |"
    head = [f"## {model}", "", columns, "|---|---|---|--:|---|"]
    return [*head, *rows, "", *tables]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", choices=["", *MODELS])
    arguments = parser.parse_args()
    lines = [
        "# Every method as a table",
        "",
        "`python -m benchmarks.methods`: EuroSAT, 40 labels a class, 20 epochs of batches of 32, with random crops. FLOPs are those of a training step on",
        "pictures, forward and backward, as XLA counts them. (Where the head alone trains and nothing is random, training uses features computed once.)",
        "",
    ]
    for model in [name for name in MODELS if arguments.only in name]:
        lines += section(arguments.data, model)
    (RESULTS / "methods.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
