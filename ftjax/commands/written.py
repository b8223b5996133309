"""Models that write, at the commands: the ledger as the terminal shows it, prompts in memory, and what the model writes after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.data.language import forms
from ftjax.data.language.forms import Asked
from ftjax.data.language.turns import Passage, Turn
from ftjax.data.text import Tokenizer
from ftjax.errors import ConfigError
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


def asked(prompt: Any, form: str) -> Asked:
    """What is asked: a text, messages, or what `data.language.prompts` read.

    Args:
      prompt: whatever a person gives.
      form: of the training data, as `LanguagePreprocessing` has it.

    Raises:
      ConfigError: messages for a model that was trained on plain text.
      DataError: it asks nothing.
    """
    if isinstance(prompt, Passage):
        return prompt
    several = isinstance(prompt, (tuple, list, dict))
    if form == "passage" and several:
        raise ConfigError("the model was trained on plain text and goes on from a text; messages are no prompt for it")
    if several and prompt and all(isinstance(turn, Turn) for turn in prompt):
        return tuple(prompt)
    return forms.asked(form, {"text" if form == "passage" else "prompt": prompt})


def most_tokens(model: Model, prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens an answer may have where nobody said: `MOST`, or what the model has places for after the longest prompt."""
    return max(1, min(MOST, int(model.spec.options["positions"]) - max(map(len, prompts), default=0)))


def answers(
    model: Model, params: Tree, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
) -> list[str]:
    """What the model writes after each prompt, up to the token that ends it.

    Raises:
      ConfigError: a prompt is too long for the model; it is met, by its name, before anything is written.
    """
    generator = Generator(model, params, tokenizer)
    generator.check(prompts, sampling, names)
    found = []
    for start in range(0, len(prompts), _BATCH):
        part = prompts[start : start + _BATCH]
        found += generator.tokens(part, sampling, ids=range(start, start + len(part)))
    return [written.text for written in found]
