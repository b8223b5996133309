"""The same run by ftjax: an ordinary `ftjax.finetune` whose numbers are those of the other library."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ftjax
from benchmarks.text.data import TextSet
from benchmarks.text.peer import Run
from benchmarks.text.settings import Settings
from ftjax import (
    CoefficientConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    ReportConfig,
    TaskConfig,
    TextConfig,
    TrainConfig,
)

AS_THE_TRAINER_DECAYS = ((".*/(bias|scale)", 0.0), (".*", 1.0))
"""Everything but biases and norms, the embeddings too."""


def configuration(text_set: TextSet, folder: Path, weights: Path, settings: Settings, seed: int, *, baselines: bool, buckets: int = 4) -> Config:
    """What `run` trains: one test at the end, and probe and scratch on request."""
    words = text_set.task == "token_classification"
    columns = TextConfig() if words else TextConfig(text="text", text_pair="text_pair" if text_set.pair else None, label="label")
    return Config(
        seed=seed,
        # The rows are distinct already.
        data=DataConfig(source="conll" if words else "table", path=str(folder), duplicates="report"),
        text=dataclasses.replace(columns, max_length=text_set.max_length, buckets=buckets),
        # The other library's classifier stands on the pooler too, and its head is new.
        model=ModelConfig(pretrained=str(weights), head="new", pool=None if words else "pooler", dropout=settings.dropout, precision=settings.precision),
        coefficient=CoefficientConfig(head_factor=1.0, decay_rules=AS_THE_TRAINER_DECAYS),
        optimizer=OptimizerConfig(
            learning_rate=text_set.rate,
            schedule="linear",
            warmup="0 steps",
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
            beta1=settings.beta1,
            beta2=settings.beta2,
            epsilon=settings.epsilon,
        ),
        task=TaskConfig(name=text_set.task),
        train=TrainConfig(duration=f"{text_set.steps} steps", batch_size=settings.batch_size, evaluate_every="100%", checkpoint_every="100%"),
        evaluation=EvaluationConfig(batch_size=50, baselines=("majority", "probe", "scratch") if baselines else ()),
        report=ReportConfig(progress="none"),
    )


def run(text_set: TextSet, folder: Path, weights: Path, settings: Settings, seed: int, workdir: Path) -> Run:
    """Train and test once; the first seed also measures the baselines.

    Args:
      text_set: what is learned.
      folder: where `data.write` put its rows.
      weights: the Hugging Face directory to start from.
      settings: the optimiser.
      seed: of the head, the order and the dropout.
      workdir: the run directory.
    """
    finished = ftjax.finetune(configuration(text_set, folder, weights, settings, seed, baselines=seed == 0), workdir)
    result = finished.result
    test, seconds = result["splits"]["test"], result["seconds"]
    more = {"test": test[text_set.metric], "warnings": result["warnings"], "baselines": result.get("baselines", {})}
    return Run(test[text_set.metric]["value"], seconds["train"], seconds["compile"], seconds["setup"], more)
