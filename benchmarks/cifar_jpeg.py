"""How much of what lossy JPEG costs a CIFAR-10 model can fine-tuning win back? The pretrained head is kept: the classes are the same.

    python benchmarks/cifar_jpeg.py --data SHARED_DATA --workdir runs/cifar_jpeg

Writes `benchmarks/results/cifar_jpeg.json`: accuracy of the model as it came, of a probe on its features and after fine-tuning on 2,000 JPEG pictures.
"""

import argparse
import json
from pathlib import Path

import ftjax
from ftjax import AugmentConfig, Config, DataConfig, EvaluationConfig, ModelConfig, ReportConfig, TrainConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    arguments = parser.parse_args()
    config = Config(
        method="full",
        data=DataConfig(source="image_folder", path=str(arguments.data / "images" / "cifar10_jpg")),
        augment=AugmentConfig(crop_min_area=0.7),
        model=ModelConfig(pretrained=str(arguments.data / "weights" / "cifar10_flax" / "ResNet.ckpt"), head="keep"),
        train=TrainConfig(duration="300 steps", batch_size=32),
        evaluation=EvaluationConfig(baselines=("majority", "pretrained", "probe")),
        report=ReportConfig(progress="plain"),
    )
    result = ftjax.finetune(config, arguments.workdir).result
    kept = {key: result[key] for key in ("splits", "baselines", "verdict", "seconds", "steps", "best_step", "versions")}
    results = Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    (results / "cifar_jpeg.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
