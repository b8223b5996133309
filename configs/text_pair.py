"""A label, or a number, for every pair of texts: does one follow from the other, do they mean the same, how alike are they?

    python -m ftjax.main --config configs/text_pair.py --config.data.path=pairs.tsv --config.text.text=premise --config.text.text_pair=hypothesis \
        --config.text.label=judgment --workdir runs/pairs

`configs/text_pair.py:regression`: the label is a number, the test says correlations and errors.
Starts from all-MiniLM-L6-v2 of the Hugging Face hub; another encoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from typing import Literal

from ftjax import Config, DataConfig, ModelConfig, TaskConfig, TextConfig


def get_config(task: Literal["classification", "regression"] = "classification") -> Config:
    return Config(
        data=DataConfig(source="table"),
        text=TextConfig(text="text", text_pair="text_pair", label="label"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name=task),
    )
