"""Pretrain the model that ships inside the package: a small ViT on MNIST, whose weights become `builtin:digits`.

    python scripts/pretrain_digits.py --mnist FOLDER --workdir runs/pretrain_digits

FOLDER holds MNIST's ten thousand test digits, `t10k-images-idx3-ubyte.gz` and `t10k-labels-idx1-ubyte.gz` (or any pair of idx.gz files, images and labels).
Writes `ftjax/weights/builtin/digits.safetensors` and its card; the accuracy in the card is the run's own, on digits that it did not train on.
"""

import argparse
import gzip
import json
import shutil
import struct
from pathlib import Path

import numpy as np

import ftjax
from ftjax import AugmentConfig, Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, TrainConfig

TARGET = Path(__file__).parents[1] / "ftjax" / "weights" / "builtin"


def read_idx(path: Path) -> np.ndarray:
    """An idx file of bytes (http://yann.lecun.com/exdb/mnist/): magic 0x0000 08 rank, big-endian sizes, values."""
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    if data[:3] != b"\x00\x00\x08":
        raise SystemExit(f"{path} is not an idx file of bytes")
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def configuration(arrays: Path, epochs: int) -> Config:
    return Config(
        method="scratch",
        seed=0,
        data=DataConfig(source="npz", path=str(arrays), validation_fraction=0.05, test_fraction=0.1),
        # The digits of other collections fill their frame, MNIST's leave a margin: crops teach both.
        augment=AugmentConfig(crop_min_area=0.4, brightness=0.2, contrast=0.2),
        model=ModelConfig(name="vit_digits"),
        optimizer=OptimizerConfig(learning_rate=1e-3, weight_decay=0.05),
        train=TrainConfig(duration=f"{epochs} epochs", batch_size=128),
        evaluation=EvaluationConfig(baselines=("majority",)),
    )


CARD = """# builtin:digits

A vision transformer for small pictures of digits (`vit_digits`: 16 x 16 pixels, patches of 4, width 96, depth 4, 4 heads; {parameters:,} parameters),
pretrained by `scripts/pretrain_digits.py` for the quickstart.

- Data: MNIST's test set, 10,000 handwritten digits (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0).
  The digits are not in the package, only the weights trained on them.
- Training: from random weights, seed {seed}, {steps:,} steps of 128, AdamW at 1e-3, cosine, random crops of 40 % of the area or more,
  brightness and contrast 0.2.
- Measured: {value:.4f} test accuracy ({low:.4f} to {high:.4f}, 95 % interval) on {test:,} of these digits, held out.
- Licence of the weights: Apache-2.0, as the package.
- Versions: {versions}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    images, labels = (read_idx(next(iter(sorted(arguments.mnist.glob(f"*{kind}*.gz"))))) for kind in ("images", "labels"))
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    arrays = arguments.workdir / "mnist.npz"
    np.savez(arrays, images=images, labels=labels)
    run = ftjax.finetune(configuration(arrays, arguments.epochs), arguments.workdir / "run")
    TARGET.mkdir(exist_ok=True)
    shutil.copyfile(run.workdir / "model" / "weights.safetensors", TARGET / "digits.safetensors")
    result, data = run.result, json.loads((run.workdir / "data.json").read_text())
    card = CARD.format(
        parameters=result["parameters"]["total"],
        seed=result["seed"],
        steps=result["steps"],
        test=data["splits"]["test"]["rows"],
        versions=", ".join(f"{name} {version}" for name, version in result["versions"].items()),
        **result["splits"]["test"]["accuracy"],
    )
    (TARGET / "digits.md").write_text(card)


if __name__ == "__main__":
    main()
