"""Items that nobody has touched yet, recommended by what is written about them: a text tower for items, a history tower for users.

    python -m ftjax.main --config configs/two_tower.py --config.data.path=ratings.csv --config.recommendation.items_path=movies.csv --workdir runs/towers

The texts go once through a frozen sentence encoder, all-MiniLM-L6-v2 of the Hugging Face hub (`--config.recommendation.text_encoder=DIR` for another).
Events are split by time, so that validation and test have items that training has not. Not measured yet: `python -m benchmarks.recommendation --only towers`.
"""

from ftjax import Config, DataConfig, ModelConfig, OptimizerConfig, RecommendationConfig, TaskConfig, TrainConfig


def get_config() -> Config:
    recommendation = RecommendationConfig(
        leave_out="time",
        long_histories="windows",
        loss="sampled_softmax",
        negative_sampling="in_batch",
        text_encoder="hf://sentence-transformers/all-MiniLM-L6-v2",
    )
    return Config(
        method="scratch",
        data=DataConfig(source="interactions"),
        model=ModelConfig(name="two_tower"),
        task=TaskConfig(name="recommendation"),
        recommendation=recommendation,
        optimizer=OptimizerConfig(schedule="constant", warmup="0 steps"),
        train=TrainConfig(patience=5),
    )
