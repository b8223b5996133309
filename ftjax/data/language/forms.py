"""Which columns of a table hold prompts, answers, messages or plain text: as the configuration says, or else guessed from their names, with the reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ftjax.config import TextConfig
from ftjax.data.language.turns import Choice, Content, Conversation, Passage, Turn, check_answered, filled, read_turns, said
from ftjax.data.text.table import Table
from ftjax.errors import DataError, did_you_mean

KEYS = ("text", "prompt", "response", "rejected", "messages", "system")
"""Keys of `text.*` that name a column here."""
Asked = Passage | tuple[Turn, ...]
"""What a model is to go on from: the beginning of a passage, or turns."""
_NAMES = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "chat"),
    "prompt": ("prompt", "instruction", "question", "query", "user", "input"),
    "response": ("response", "completion", "output", "answer", "assistant", "target"),
    "chosen": ("chosen", "preferred", "better", "win"),
    "rejected": ("rejected", "dispreferred", "worse", "lose"),
    "text": ("text", "content", "document", "body", "story", "passage"),
    "system": ("system", "system_prompt"),
}


@dataclasses.dataclass(frozen=True)
class Form:
    """How rows are read.

    Attributes:
      kind: "passage", "pair" (prompt and answer), "chat" or "preference".
      columns: role -> name of the column.
      why: role -> how it was found.
    """

    kind: str
    columns: Mapping[str, str]
    why: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """For data.json, as other texts have it."""
        return {
            role: {"column": column, "origin": "given" if self.why[role].startswith("by ") else "guessed", "why": self.why[role]}
            for role, column in self.columns.items()
        }

    def reader(self, table: Table) -> Callable[[int], Content]:
        """From the number of a row to what it holds; it raises a DataError that says why a row cannot be used."""
        places = {role: table.columns.index(column) for role, column in self.columns.items()}
        read = {"passage": _passage, "pair": _pair, "chat": _chat, "preference": _choice}[self.kind]
        flags = {name: table.columns.index(name) for name in ("begins", "ends") if table.facts.get("format") == "plain text"}
        return lambda row: read({role: table.rows[row][place] for role, place in (places | flags).items()})


def find_form(table: Table, text: TextConfig, task: str) -> Form:
    """The columns that a task needs.

    Raises:
      DataError: a column that is not there, or that cannot be guessed.
    """
    found = given_columns(table, text)
    why = {role: f"by text.{role}" for role in found}

    def guess(role: str, names: str | None = None) -> bool:
        if role not in found:
            lower = {name.lower(): name for name in reversed(table.columns) if name not in found.values()}
            name = next((lower[name] for name in _NAMES[names or role] if name in lower), None)
            if name is None:
                return False
            found[role], why[role] = name, "from its name"
        return True

    if task == "preference":
        if not (guess("response", "chosen") and guess("rejected")):
            raise DataError(
                f"{table.where}: preference needs a better and a worse answer and has the columns {_listed(table)}: say text.response, text.rejected"
            )
        if not guess("messages"):
            guess("prompt")
        kind = "preference"
    elif "text" in found and not {"prompt", "response", "messages"} & found.keys():
        kind = "passage"
    elif not {"prompt", "response"} & found.keys() and guess("messages"):
        kind = "chat"
    elif guess("prompt") and guess("response"):
        kind = "pair"
    elif not {"prompt", "response"} & found.keys() and guess("text"):
        kind = "passage"
    else:
        hint = "say text.prompt and text.response, text.messages, or text.text"
        raise DataError(f"{table.where}: which column holds what is to be learnt cannot be seen (its columns: {_listed(table)}): {hint}")
    about = next((name for name in table.columns if name.lower() == "input" and name not in found.values()), None)
    if kind in ("pair", "preference") and found.get("prompt", "").lower() == "instruction" and about is not None:
        found["input"], why["input"] = about, f"from its name, beside {found['prompt']!r}"
    if kind in ("pair", "chat", "preference"):
        guess("system")
    used = {"passage": ("text",), "pair": ("prompt", "input", "response", "system"), "chat": ("messages", "system")}.get(kind, tuple(found))
    return Form(kind, {role: found[role] for role in used if role in found}, why)


def given_columns(table: Table, text: TextConfig) -> dict[str, str]:
    """Columns that the configuration names, by role.

    Raises:
      DataError: the table has no such column.
    """
    found = {}
    for role in KEYS:
        name = getattr(text, role)
        if name is None:
            continue
        if name not in table.columns:
            raise DataError(f"{table.where} has no column {name!r} (text.{role}): {did_you_mean(name, table.columns)}")
        found[role] = name
    return found


def _listed(table: Table) -> str:
    return ", ".join(map(repr, table.columns))


def _passage(cells: Mapping[str, Any]) -> Passage:
    return Passage(filled(cells["text"], "its text"), bool(cells.get("begins", True)), bool(cells.get("ends", True)))


def _pair(cells: Mapping[str, Any]) -> Conversation:
    return Conversation((*_with_system(cells, (_asked(cells),)), Turn("assistant", filled(cells["response"], "its answer"))))


def _chat(cells: Mapping[str, Any]) -> Conversation:
    turns = _with_system(cells, read_turns(cells["messages"], "its messages"))
    check_answered(turns)
    return Conversation(turns)


def _choice(cells: Mapping[str, Any]) -> Choice:
    chosen, rejected = (_answer(cells[role], what) for role, what in (("response", "its better answer"), ("rejected", "its worse answer")))
    if chosen == rejected:
        raise DataError("its two answers are the same")
    shared = next((place for place, (one, other) in enumerate(zip(chosen, rejected)) if one != other), min(len(chosen), len(rejected)))
    given = _given(_prompt(cells), chosen[:shared])
    if not given:
        raise DataError("its prompt is missing: both answers begin differently")
    given, chosen, rejected = _with_system(cells, given), chosen[shared:], rejected[shared:]
    for turns, what in ((chosen, "better"), (rejected, "worse")):
        if not turns or turns[-1].role != "assistant":
            raise DataError(f"its {what} answer is not the assistant's")
        if turns[0].role != "assistant":
            raise DataError(f"its {what} answer begins with a turn of the {turns[0].role}, {said(turns[:1])[:40]!r}, which is not in its prompt")
    return Choice(given, chosen, rejected)


def _prompt(cells: Mapping[str, Any]) -> tuple[Turn, ...]:
    """What a choice's own column asks; nothing where there is none."""
    prompt = cells.get("messages", cells.get("prompt"))
    if prompt is None:
        return ()
    return (_asked(cells),) if isinstance(prompt, str) else read_turns(prompt, "its prompt")


def _given(prompt: tuple[Turn, ...], shared: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """What both answers of a choice follow: its prompt, and how both begin; where they are whole conversations that is the prompt, and stands there once."""
    asked, begun = ([_plain(turn) for turn in turns] for turns in (prompt, shared))
    if begun and asked[-len(begun) :] == begun:
        return prompt
    if asked and asked in (begun[-len(asked) :], begun[: len(asked)]):
        return shared
    if prompt and shared and shared[0].role != "assistant":
        raise DataError(f"both its answers begin with a turn of the {shared[0].role}, {said(shared[:1])[:40]!r}, which is not in its prompt")
    return (*prompt, *shared)


def _plain(turn: Turn) -> tuple[str, str]:
    return turn.role, turn.message()["content"].strip()


def _answer(value: Any, what: str) -> tuple[Turn, ...]:
    return read_turns(value, what) if isinstance(value, (dict, list, tuple)) else (Turn("assistant", filled(value, what)),)


def _asked(cells: Mapping[str, Any]) -> Turn:
    about = cells.get("input")
    return Turn("user", filled(cells["prompt"], "its prompt"), about if isinstance(about, str) and about.strip() else "")


def asked(kind: str, cells: Mapping[str, Any]) -> Asked:
    """What a row asks of a model that was trained on rows of this kind: its messages or its prompt (with its input), or the beginning of a passage.

    Raises:
      DataError: it asks nothing.
    """
    if kind == "passage":
        return Passage(filled(cells["text"], "its text"), ends=False)
    value = cells["messages"] if "messages" in cells else cells["prompt"]
    if not isinstance(value, (list, tuple, dict)):
        return _with_system(cells, (_asked({**cells, "prompt": value}),))
    turns = _with_system(cells, read_turns(value, "its messages"))
    # An answer that is there already is what is to be found again.
    return turns[:-1] if turns[-1].role == "assistant" and len(turns) > 1 else turns


def _with_system(cells: Mapping[str, Any], turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns after the system message of its own column, which may also be the first of them.

    Raises:
      DataError: there are two and they differ.
    """
    value = cells.get("system")
    if not isinstance(value, str) or not value.strip():
        return tuple(turns)
    if not turns or turns[0].role != "system":
        return Turn("system", value), *turns
    if turns[0].content.strip() != value.strip():
        raise DataError(f"it has two system messages, {value[:40]!r} in a column of its own and {turns[0].content[:40]!r} in its messages; keep one")
    return tuple(turns)
