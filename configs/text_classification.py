"""One label, or several, for every text of your own table: csv, tsv, jsonl or parquet.

    python -m ftjax.main --config configs/text_classification.py --config.data.path=reviews.csv --workdir runs/reviews

Columns are guessed and shown; say which with `--config.text.text=review --config.text.label=stars`. `configs/text_classification.py:multi_label`: several
labels a text. Starts from all-MiniLM-L6-v2 of the Hugging Face hub; another encoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from typing import Literal

from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config(task: Literal["classification", "multi_label"] = "classification") -> Config:
    return Config(
        data=DataConfig(source="table"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name=task),
    )
