"""Teach a language model which of two answers is better (DPO), without a reward model.

    python -m ftjax.main --config configs/dpo.py --config.data.path=pairs.jsonl --workdir runs/preferences

Rows are `prompt`, `chosen` and `rejected`, as texts or as messages. The reference is the model as it came; its log-probabilities are worked out once before
training, so there is no second model. Start from a model that answers already (`configs/sft.py`). `--config.task.beta` says how strongly it is held to what
it was. Starts from SmolLM2-135M-Instruct of the Hugging Face hub; another decoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(source="table"),
        model=ModelConfig(pretrained="hf://HuggingFaceTB/SmolLM2-135M-Instruct"),
        task=TaskConfig(name="preference"),
    )
