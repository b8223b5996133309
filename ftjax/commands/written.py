"""Models that write, at the commands: the ledger as the terminal shows it, prompts of a file, and what the model writes after them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.language.turns import Turn, filled, read_turns
from ftjax.data.text import Tokenizer
from ftjax.data.text.table import Table, read_table, row_name
from ftjax.errors import DataError
from ftjax.evaluation.generation import Generator
from ftjax.evaluation.sampling import Sampling
from ftjax.models import Model
from ftjax.trees import Tree

LEDGER = (
    ("rows", "rows"),
    ("documents", "texts"),
    ("sequences", "packed"),
    ("tokens", "tokens"),
    ("supervised_tokens", "learnt"),
    ("truncated", "cut"),
    ("supervised_tokens_lost", "lost"),
    ("dropped", "left out"),
)
"""Columns of the ledger: key in data.json -> title."""
MOST = 128
"""Tokens of an answer where nobody says how many."""
_BATCH = 16
"""Prompts that are answered together."""


def ledger_rows(ledger: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A line for each split."""
    return [(split, *(f"{line[key]:,}" for key, _ in LEDGER)) for split, line in ledger.items()]


def read_prompts(path: str | os.PathLike[str], text: TextConfig, columns: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[tuple[Turn, ...]]]:
    """Rows of a file, and what is asked in each: the training data's column of messages or prompts, or one prompt a line of a `.txt` file.

    Raises:
      DataError: there is no such column, or a row asks nothing; the message names it.
    """
    file = Path(path)
    if file.suffix.lower() == ".txt":
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"prompt": line} for line in lines], [(Turn("user", line),) for line in lines]
    table = read_table(file, text)
    column = _column(table, text, columns)
    found, asked = [], []
    for cells, line in zip(table.rows, table.lines):
        row = dict(zip(table.columns, cells))
        try:
            asked.append(_asked(row[column], row.get(columns.get("input", "input"))))
        except DataError as error:
            raise DataError(f"{row_name(file.name, line)}: {error}") from None
        found.append(row)
    return found, asked


def turns(prompt: Any) -> tuple[Turn, ...]:
    """What is asked: a text, messages, or turns as they are.

    Raises:
      DataError: it is neither.
    """
    if isinstance(prompt, (tuple, list)) and prompt and all(isinstance(turn, Turn) for turn in prompt):
        return tuple(prompt)
    return _asked(prompt, None)


def most_tokens(model: Model, prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens an answer may have where nobody said: `MOST`, or what the model has places for after the longest prompt."""
    return max(1, min(MOST, int(model.spec.options["positions"]) - max(map(len, prompts), default=0)))


def answers(model: Model, params: Tree, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[str]:
    """What the model writes after each prompt, up to the token that ends it.

    Raises:
      ConfigError: a prompt is too long for the model.
    """
    generator = Generator(model, params, tokenizer)
    found = []
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        found += generator.tokens(part, sampling, ids=range(start, start + len(part)))
    return [written.text for written in found]


def _column(table: Table, text: TextConfig, columns: Mapping[str, str]) -> str:
    wanted = (text.messages, text.prompt, text.text, columns.get("messages"), columns.get("prompt"), "messages", "prompt", columns.get("text"))
    column = next((name for name in wanted if name in table.columns), None)
    if column is None:
        raise DataError(f"{table.where}: which column asks cannot be seen (its columns: {', '.join(map(repr, table.columns))}): say text.prompt")
    return column


def _asked(value: Any, about: Any) -> tuple[Turn, ...]:
    if isinstance(value, (list, tuple, dict)):
        turns = read_turns(value, "its messages")
        # An answer that is there already is what is to be found again.
        return turns[:-1] if turns[-1].role == "assistant" and len(turns) > 1 else turns
    return (Turn("user", filled(value, "its prompt"), about if isinstance(about, str) and about.strip() else ""),)
