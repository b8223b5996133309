"""The runs behind `benchmarks/results/recommendation.md`: what each is, and the published figures beside it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.text.settings import minilm
from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, OptimizerConfig, RecommendationConfig, ReportConfig, TaskConfig, TextConfig, TrainConfig

PUBLISHED = {
    "beauty_ce": {"hr_at_10": 0.0533, "ndcg_at_10": 0.0327},
    "beauty_bce": {"hr_at_10": 0.0246, "ndcg_at_10": 0.0126},
    "beauty_bert4rec": {"hr_at_10": 0.0338, "ndcg_at_10": 0.0187},
}
"""Beauty, leave-one-out, full ranking, seen items left out: the repository of Klenitskiy and Vasilev 2023 (arXiv 2309.07602)."""

SAMPLED = {"scratch": {"hr_at_10": 0.4650, "ndcg_at_10": 0.3140}, "pretrained": {"hr_at_10": 0.5687, "ndcg_at_10": 0.3816}}
"""S3-Rec's own logs for Beauty, each target among 99 items drawn uniformly."""

ADAM = OptimizerConfig(learning_rate=1e-3, weight_decay=0.0, schedule="constant", warmup="0 steps", clip_norm=None)
"""As both papers train: Adam at 1e-3, nothing else."""
TASK = TaskConfig(name="recommendation")


@dataclasses.dataclass(frozen=True)
class Lengths:
    """Passes of each run; fewer where time is short."""

    beauty: dict[str, tuple[int, int]]
    """Epochs and epochs between two looks at validation, by arm."""
    s3rec: tuple[int, int] = (15, 3)
    s3rec_ce: tuple[int, int] = (8, 2)
    movielens: tuple[int, int] = (30, 5)
    towers: tuple[int, int] = (20, 4)


USUAL = Lengths({"ce": (16, 2), "bce": (60, 6), "bert4rec": (60, 6)})
SMOKE = Lengths(dict.fromkeys(("ce", "bce", "bert4rec"), (1, 1)), (1, 1), (1, 1), (1, 1), (1, 1))


def _train(batch: int, epochs: tuple[int, int], patience: int | None = 4, checkpoint: str = "1 epochs") -> TrainConfig:
    return TrainConfig(
        batch_size=batch,
        duration=f"{epochs[0]} epochs",
        evaluate_every=f"{epochs[1]} epochs",
        checkpoint_every=checkpoint,
        log_every="50 steps",
        patience=patience,
    )


def beauty(shared: Path, arm: str, lengths: Lengths) -> Config:
    """SASRec by cross-entropy ("ce") or binary cross-entropy ("bce"), and BERT4Rec, with that repository's sizes: width 64, 2 blocks, 50 items, dropout 0.1."""
    return Config(
        method="scratch",
        seed=0,
        data=DataConfig(source="interactions", path=str(shared / "rec" / "beauty_bert4rec" / "beauty.txt")),
        task=TASK,
        model=ModelConfig(name="bert4rec" if arm == "bert4rec" else "sasrec", precision="bfloat16", dropout=0.1),
        recommendation=RecommendationConfig(max_length=50, loss="bce" if arm == "bce" else "cross_entropy"),
        train=_train(128, lengths.beauty[arm]),
        optimizer=ADAM,
        evaluation=EvaluationConfig(batch_size=512, baselines=("majority", "item_knn")),
        report=ReportConfig(progress="plain"),
    )


def s3rec(shared: Path, lengths: Lengths) -> Config:
    """S3-Rec's pretrained Beauty model fine-tuned by its authors' loss (BCE, one negative), dropout 0.5; its baseline "scratch" begins at random."""
    return Config(
        method="full",
        data=DataConfig(source="interactions", path=str(shared / "rec" / "amazon_beauty" / "Beauty.txt")),
        task=TASK,
        model=ModelConfig(pretrained=str(shared / "weights" / "s3rec_beauty" / "Beauty-epochs-150.pt"), precision="bfloat16", dropout=0.5),
        recommendation=RecommendationConfig(max_length=50, loss="bce"),
        train=_train(256, lengths.s3rec, None, f"{lengths.s3rec[1]} epochs"),
        optimizer=ADAM,
        evaluation=EvaluationConfig(batch_size=512, baselines=("majority", "item_knn", "pretrained", "scratch")),
        report=ReportConfig(progress="plain"),
    )


def s3rec_ce(shared: Path, lengths: Lengths) -> Config:
    """The same by cross-entropy over all items, with less dropout: what we would do today."""
    usual = s3rec(shared, lengths)
    return dataclasses.replace(
        usual,
        model=dataclasses.replace(usual.model, dropout=0.3),
        recommendation=RecommendationConfig(max_length=50, loss="cross_entropy"),
        train=_train(256, lengths.s3rec_ce, None, f"{lengths.s3rec_ce[1]} epochs"),
    )


def movielens(shared: Path, model: str, lengths: Lengths) -> Config:
    """MovieLens small, leave-one-out, every training event once (`long_histories="windows"`)."""
    folder = shared / "rec" / "ml_latest_small"
    return Config(
        method="scratch",
        data=DataConfig(source="interactions", path=str(folder / "ratings.csv")),
        task=TASK,
        model=ModelConfig(name=model, precision="bfloat16", dropout=0.2),
        text=TextConfig(buckets=2),
        recommendation=RecommendationConfig(items_path=str(folder / "movies.csv"), long_histories="windows"),
        train=_train(128, lengths.movielens, None, "10 epochs"),
        optimizer=ADAM,
        evaluation=EvaluationConfig(batch_size=256, baselines=("majority", "item_knn")),
        report=ReportConfig(progress="plain"),
    )


def tower(shared: Path, arm: str, lengths: Lengths) -> Config:
    """Two towers on MovieLens small split by time: items by their titles ("text"), by ids alone ("ids"), or both; in-batch negatives with logQ."""
    folder = shared / "rec" / "ml_latest_small"
    wanted = RecommendationConfig(
        leave_out="time",
        long_histories="windows",
        loss="sampled_softmax",
        negative_sampling="in_batch",
        item_ids=arm != "text",
        items_path=str(folder / "movies.csv"),
        item_text="title,genres",
        text_encoder=str(minilm()) if arm != "ids" else None,
    )
    return Config(
        method="scratch",
        data=DataConfig(source="interactions", path=str(folder / "ratings.csv")),
        task=TASK,
        model=ModelConfig(name="two_tower", dropout=0.1),
        text=TextConfig(buckets=2),
        recommendation=wanted,
        train=_train(128, lengths.towers, None, "10 epochs"),
        optimizer=ADAM,
        evaluation=EvaluationConfig(batch_size=256, baselines=("majority", "item_knn")),
        report=ReportConfig(progress="plain"),
    )
