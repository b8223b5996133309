"""Vectors of texts for search and clustering, from pairs that belong together: question and answer, title and text, sentence and paraphrase.

    python -m ftjax.main --config configs/sentence_embedding.py --config.data.path=pairs.csv --config.text.text=question --config.text.text_pair=answer \
        --workdir runs/search

The other pairs of a batch are what a text is told apart from, so a larger `--config.train.batch_size` makes a harder and better task.
Starts from all-MiniLM-L6-v2 of the Hugging Face hub; another encoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from ftjax import Config, DataConfig, ModelConfig, TaskConfig, TextConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(source="table"),
        text=TextConfig(text="text", text_pair="text_pair"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name="sentence_embedding"),
    )
