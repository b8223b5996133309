"""What a model that writes is shown: conversations, plain passages, and pairs of answers; and reading them from the forms in which people keep them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ftjax.data.text.table import as_text
from ftjax.errors import DataError, did_you_mean

ROLES = {
    **{name: name for name in ("system", "user", "assistant", "tool")},
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function": "tool",
    "observation": "tool",
    "function_call": "assistant",
    "developer": "system",
}
"""What people call the speakers -> what templates call them."""
_SPEAKER, _SAID = ("role", "from"), ("content", "value")


@dataclasses.dataclass(frozen=True)
class Turn:
    """What one speaker said; `input` is what an instruction is about, where the data keep it apart."""

    role: str
    content: str
    input: str = ""

    def message(self) -> dict[str, str]:
        """As chat templates want it."""
        content = f"{self.content}\n{self.input}" if self.input else self.content
        return {"role": self.role, "content": content, "instruction": self.content, "input": self.input}


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Turns; those of the assistant are what is learnt."""

    turns: tuple[Turn, ...]

    @property
    def prompt(self) -> str:
        """What comes before the first answer, for people and for finding copies."""
        first = next((place for place, turn in enumerate(self.turns) if turn.role == "assistant"), len(self.turns))
        return said(self.turns[:first])

    @property
    def text(self) -> str:
        """All of it."""
        return said(self.turns)

    def shown(self) -> dict[str, Any]:
        """What a person sees of it."""
        answers = self.text.removeprefix(self.prompt).lstrip("\n")
        return {"text": self.prompt, "text_pair": answers} if self.prompt else {"text": answers}


@dataclasses.dataclass(frozen=True)
class Passage:
    """Plain text; whether its beginning and end are those of a document."""

    text: str
    begins: bool = True
    ends: bool = True

    @property
    def prompt(self) -> str:
        """A passage is its own context."""
        return self.text

    def shown(self) -> dict[str, Any]:
        """What a person sees of it."""
        return {"text": self.text}


@dataclasses.dataclass(frozen=True)
class Choice:
    """Two ways on from one prompt, of which the first was preferred."""

    given: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]

    @property
    def prompt(self) -> str:
        """What both answer."""
        return said(self.given)

    @property
    def text(self) -> str:
        """All of it."""
        return "\n".join(part for part in (said(self.given), said(self.chosen), said(self.rejected)) if part)

    def shown(self) -> dict[str, Any]:
        """What a person sees of it."""
        return {"text": self.prompt, "text_pair": said(self.chosen), "rejected": said(self.rejected)}


Content = Conversation | Passage | Choice


def said(turns: Sequence[Turn]) -> str:
    """What was said, a turn a paragraph."""
    return "\n".join(turn.message()["content"] for turn in turns)


def filled(value: Any, what: str) -> str:
    """A text that is not empty.

    Raises:
      DataError: it is missing, empty or no text.
    """
    if value is not None and not isinstance(value, str):
        raise DataError(f"{what} is {type(value).__name__} {str(value)[:40]!r}, not a text")
    found = as_text(value)
    if found is None:
        raise DataError(f"{what} is missing")
    if not found.strip():
        raise DataError(f"{what} is empty")
    return found


def read_turns(value: Any, what: str) -> tuple[Turn, ...]:
    """A list of messages `{"role", "content"}` (also ShareGPT's `{"from", "value"}`), or one of them.

    Raises:
      DataError: it is no such list; the message names the turn.
    """
    messages = [value] if isinstance(value, dict) else value
    if not isinstance(messages, (list, tuple)) or not messages:
        raise DataError(f"{what}: {str(value)[:60]!r} is no list of messages, such as [{{'role': 'user', 'content': ...}}, ...]")
    return tuple(_turn(message, f"{what}, turn {number}") for number, message in enumerate(messages, 1))


def _turn(message: Any, what: str) -> Turn:
    if not isinstance(message, dict):
        raise DataError(f"{what} is {str(message)[:60]!r}, not a message with role and content")
    speaker = next((message[name] for name in _SPEAKER if message.get(name) is not None), None)
    if not isinstance(speaker, str):
        raise DataError(f"{what} has no role; allowed: {', '.join(map(repr, _SPEAKER))} with one of {', '.join(ROLES)}")
    if speaker.lower() not in ROLES:
        raise DataError(f"{what} has the unknown role {speaker!r}; {did_you_mean(speaker, ROLES)}")
    content = next((message[name] for name in _SAID if message.get(name) is not None), None)
    return Turn(ROLES[speaker.lower()], filled(content, f"{what} ({speaker})"))


def check_answered(turns: Sequence[Turn]) -> None:
    """Somebody asks, and somebody answers.

    Raises:
      DataError: no turn is the assistant's, or it begins.
    """
    if turns[0].role == "assistant":
        raise DataError("it begins with a turn of the assistant, which answers nothing; take that turn out")
    if all(turn.role != "assistant" for turn in turns):
        raise DataError(f"it has no answer: its roles are {', '.join(turn.role for turn in turns)}, none is 'assistant'")
