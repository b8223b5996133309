"""A tag for every word: names of people and places, parts of speech. CoNLL lines `word ... tag`, a blank line between sentences.

    python -m ftjax.main --config configs/token_classification.py --config.data.path=DIR --workdir runs/names

DIR holds `train.conll` and perhaps `validation.conll` and `test.conll`. With BIO tags the test counts whole entities, as seqeval does.
Starts from all-MiniLM-L6-v2 of the Hugging Face hub; another encoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(source="conll"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name="token_classification"),
    )
