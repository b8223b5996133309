"""The answer to a question as a span of a given text: SQuAD JSON, with or without unanswerable questions.

    python -m ftjax.main --config configs/question_answering.py --config.data.path=train-v2.0.json --config.data.validation_path=dev-v2.0.json \
        --workdir runs/answers

Long texts are read in windows that overlap (`--config.text.stride`). A small encoder wants a model that has seen many questions, or many epochs.
Starts from all-MiniLM-L6-v2 of the Hugging Face hub; another encoder or a directory of your own: `--config.model.pretrained=DIR`.
"""

from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config() -> Config:
    return Config(
        data=DataConfig(source="squad"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name="question_answering"),
    )
