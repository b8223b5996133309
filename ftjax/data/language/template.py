"""Chat templates: from turns to the text that a model was trained on, and which part of it is the assistant's.

Templates are Jinja from a stranger's file, so they run in Jinja's immutable sandbox, without a clock. `{% generation %}`, as transformers has it, marks what
the assistant says; a template without it is rendered turn by turn, and what every answer adds is the assistant's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jinja2
import jinja2.sandbox
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from ftjax.data.language.turns import Turn
from ftjax.errors import ConfigError, DataError

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
"""Around what the assistant says while a template runs: noncharacters, which no text holds."""
_TURNS = "{% for m in messages %}"
NAMED = {
    "prompt_response": "{{ bos_token }}" + _TURNS + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% else %}{{ m.content }}{{ '\\n' }}{% endif %}{% endfor %}",
    "alpaca": "{{ bos_token }}"
    + _TURNS
    + "{% if m.role == 'system' %}{{ m.content }}{{ '\\n\\n' }}"
    + "{% elif m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    + "{% else %}{% if loop.first %}Below is an instruction that describes a task{% if m.input %}, paired with an input that provides further context"
    + "{% endif %}. Write a response that appropriately completes the request.{{ '\\n\\n' }}{% endif %}### Instruction:{{ '\\n' }}{{ m.instruction }}"
    + "{{ '\\n\\n' }}{% if m.input %}### Input:{{ '\\n' }}{{ m.input }}{{ '\\n\\n' }}{% endif %}### Response:{{ '\\n' }}{% endif %}{% endfor %}",
    "chatml": _TURNS
    + "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    + "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
"""Templates by name: the prompt's line and the answer's; Stanford Alpaca's; ChatML."""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A text and the spans of its characters that are to be learnt."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Template:
    """How turns become one text.

    Attributes:
      source: Jinja.
      name: for messages.
      bos: what a text begins with, where the template asks for it.
      eos: what it ends with.
    """

    source: str
    name: str
    bos: str
    eos: str

    @property
    def marks(self) -> bool:
        """Whether it says itself what the assistant's is."""
        return "generation %}" in self.source or "generation -%}" in self.source

    def render(self, turns: Sequence[Turn], *, answer: bool = False) -> str:
        """The text of these turns; with `answer` up to where the assistant begins to answer.

        Raises:
          DataError: the template refuses them, or fails.
        """
        return self._render(turns, answer=answer).replace(_OPEN, "").replace(_CLOSE, "")

    def rendered(self, turns: Sequence[Turn]) -> Rendered:
        """The text, and what of it the assistant says.

        Raises:
          DataError: the template fails, or it changes earlier turns when later ones come, so that what an answer adds cannot be told.
        """
        if not self.marks:
            return self._by_prefixes(turns)
        parts = self._render(turns).replace(_CLOSE, _OPEN).split(_OPEN)
        ends = [sum(map(len, parts[: count + 1])) for count in range(len(parts))]
        return Rendered("".join(parts), tuple(zip(ends[0::2], ends[1::2])))

    def _by_prefixes(self, turns: Sequence[Turn]) -> Rendered:
        whole, spans = self.render(turns), []
        for place, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before, after = self.render(turns[:place], answer=True), self.render(turns[: place + 1])
            if not (after.startswith(before) and whole.startswith(after)):
                raise DataError(
                    f"the chat template ({self.name}) writes turn {place + 1} otherwise when other turns follow, so what the answer is cannot be told; "
                    "add {% generation %} ... {% endgeneration %} around the assistant's words in a copy of it, or choose text.template='chatml'"
                )
            spans.append((len(before), len(after)))
        return Rendered(whole, tuple(spans))

    def _render(self, turns: Sequence[Turn], *, answer: bool = False) -> str:
        messages = [turn.message() for turn in turns]
        if any(mark in message["content"] for message in messages for mark in (_OPEN, _CLOSE)):
            raise DataError(f"it holds U+{ord(_OPEN):04X} or U+{ord(_CLOSE):04X}, which are no characters")
        try:
            return _compiled(self.source).render(messages=messages, add_generation_prompt=answer, bos_token=self.bos, eos_token=self.eos)
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise DataError(f"the chat template ({self.name}) refuses it: {error}") from None


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Call `_marked` with the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Any) -> str:
        return f"{_OPEN}{caller()}{_CLOSE}"


def check_template(template: Template) -> None:
    """Compile it, so that a damaged one is met before any data are.

    Raises:
      ConfigError: it is no Jinja.
    """
    try:
        _compiled(template.source)
    except jinja2.TemplateError as error:
        raise ConfigError(f"the chat template ({template.name}) cannot be read: {error}") from None


@functools.lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = _to_json
    cast(dict[str, Any], environment.globals)["raise_exception"] = _raise
    return environment.from_string(source)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def chosen_source(value: Any) -> str | None:
    """The template in a tokenizer's settings: a text, or of several named ones the default.

    Raises:
      DataError: none of several is called default.
    """
    if isinstance(value, str) or value is None:
        return value
    named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, Mapping)} if isinstance(value, list) else dict(value)
    if not isinstance(named.get("default"), str):
        raise DataError(f"the tokenizer has the chat templates {', '.join(map(repr, named))} and none called 'default'; name a file: text.template")
    return named["default"]
