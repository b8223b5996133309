"""Teach a language model to answer: prompts and answers, chats, or plain text of your own.

    python -m ftjax.main --config configs/sft.py --config.data.path=answers.jsonl --workdir runs/answers

Rows are `prompt` and `response` (or question and answer, instruction, input and output), or `messages` with roles; columns are guessed and shown. Only answers
are learnt, each with its end; the ledger before step 1 says how many tokens that is. `configs/sft.py:text` learns one long text (a `.txt` file) as a whole.
Starts from SmolLM2-135M-Instruct of the Hugging Face hub; another decoder or a directory of your own: `--config.model.pretrained=DIR`. Where memory is short:
`--config.method=lora`, `--config.model.remat=dots`, `--config.train.microbatches=4`; `ftjax check` says what each needs.
"""

from typing import Literal

from ftjax import Config, DataConfig, ModelConfig, TaskConfig


def get_config(data: Literal["table", "text"] = "table") -> Config:
    return Config(
        data=DataConfig(source="plain_text" if data == "text" else "table"),
        model=ModelConfig(pretrained="hf://HuggingFaceTB/SmolLM2-135M-Instruct"),
        task=TaskConfig(name="language_modeling"),
    )
