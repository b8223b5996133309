"""Handwritten digits with ten labels per class, fine-tuned from the model inside the package: no download, under a minute on two CPU cores.

python -m ftjax.main --config configs/quickstart.py --workdir runs/quickstart
"""

from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig


def get_config() -> Config:
    return Config(
        method="full",
        # Ten labels a class to learn from; half of the data to test on, so that the interval is narrow.
        data=DataConfig(source="digits", labels_per_class=10, validation_fraction=0.1, test_fraction=0.5),
        model=ModelConfig(pretrained="builtin:digits"),
        evaluation=EvaluationConfig(baselines=("majority", "pretrained", "probe", "scratch")),
    )
