"""The next item for every user of a log (csv, parquet, MovieLens' files and others): SASRec, learnt by a softmax over the whole catalogue.

    python -m ftjax.main --config configs/sequential_recommendation.py --config.data.path=ratings.csv --workdir runs/next

Columns are guessed and shown; say which with `--config.recommendation.user=customer --config.recommendation.item=sku`. Other models:
`configs/sequential_recommendation.py:bert4rec`, `:gru4rec`, `:matrix_factorisation`. Pretrained weights, a run of your own or S3-Rec's file:
`--config.method=full --config.model.pretrained=runs/last_month --config.model.name=none`. Measured on MovieLens
small, 30 epochs: HR@10 0.11 (0.09 to 0.14), item-kNN 0.06 (benchmarks/results/recommendation.md).
"""

from typing import Literal

from ftjax import Config, DataConfig, ModelConfig, OptimizerConfig, RecommendationConfig, TaskConfig, TrainConfig


def get_config(model: Literal["sasrec", "bert4rec", "gru4rec", "matrix_factorisation"] = "sasrec") -> Config:
    return Config(
        method="scratch",
        data=DataConfig(source="interactions"),
        model=ModelConfig(name=model, precision="bfloat16"),
        task=TaskConfig(name="recommendation"),
        recommendation=RecommendationConfig(loss="cross_entropy"),
        optimizer=OptimizerConfig(schedule="constant", warmup="0 steps", clip_norm=None),
        train=TrainConfig(patience=5),
    )
