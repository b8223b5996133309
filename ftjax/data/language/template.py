"""Chat templates: from turns to the text that a model was trained on, and which part of it is the assistant's.

Templates are Jinja from a stranger's file, so they run in Jinja's immutable sandbox, without a clock. `{% generation %}`, as transformers has it, marks what
the assistant says; a template without it is rendered turn by turn, and what every answer adds is the assistant's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
_MARK = re.compile(f"{_OPEN}([0-9]+){_OPEN}|{_CLOSE}")
"""Where a block of the assistant begins, with the number of its turn, or ends."""
_NEXT, _NUMBER = "ftjax_next_turn", "ftjax_turn"
"""Functions that a running template finds: the next turn begins; which one it is."""
_TURNS = "{% for m in messages %}"
NAMED = {
    "prompt_response": "{{ bos_token }}" + _TURNS + "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% else %}{{ m.content }}{{ '\\n' }}{% endif %}{% endfor %}",
    "alpaca": "{{ bos_token }}"
    + _TURNS
    + "{% if m.role == 'system' %}{{ m.content }}{{ '\\n\\n' }}"
    + "{% elif m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    + "{% else %}{% if loop.first %}Below is an instruction that describes a task{% if m.input %}, paired with an input that provides further context"
    + "{% endif %}. Write a response that appropriately completes the request.{{ '\\n\\n' }}{% endif %}### Instruction:{{ '\\n' }}"
    + "{{ m.instruction or m.content }}{{ '\\n\\n' }}"
    + "{% if m.input %}### Input:{{ '\\n' }}{{ m.input }}{{ '\\n\\n' }}{% endif %}### Response:{{ '\\n' }}{% endif %}{% endfor %}",
    "chatml": _TURNS
    + "{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
    + "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
"""Templates by name: the prompt's line and the answer's; Stanford Alpaca's; ChatML."""


Spans = tuple[tuple[int, int], ...]
"""Characters from and up to, in order."""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A text and what of it is to be learnt: of each answer its spans, of which a template may mark several; `given`: of answers that are not learnt."""

    text: str
    answers: tuple[Spans, ...]
    given: tuple[Spans, ...] = ()

    @property
    def spans(self) -> Spans:
        """Those of all answers."""
        return tuple(span for spans in self.answers for span in spans)


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
        return _MARK.sub("", self._render(turns, answer=answer))

    def rendered(self, turns: Sequence[Turn], *, answer: bool = False) -> Rendered:
        """The text, and what of it the assistant says; with `answer` up to where it begins to answer.

        Raises:
          DataError: the template fails, or it changes earlier turns when later ones come, so that what an answer adds cannot be told.
        """
        return _parted(self._render(turns, answer=answer)) if self.marks else self._by_prefixes(turns, answer)

    def _by_prefixes(self, turns: Sequence[Turn], answer: bool) -> Rendered:
        whole, answers = self.render(turns, answer=answer), []
        for place, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before, after = self.render(turns[:place], answer=True), self.render(turns[: place + 1])
            if not (after.startswith(before) and whole.startswith(after)):
                raise DataError(
                    f"the chat template ({self.name}) writes turn {place + 1} otherwise when other turns follow, so what the answer is cannot be told; "
                    "add {% generation %} ... {% endgeneration %} around the assistant's words in a copy of it, or choose another text.template"
                )
            answers.append(((len(before), len(after)),))
        return Rendered(whole, tuple(answers))

    def _render(self, turns: Sequence[Turn], *, answer: bool = False) -> str:
        messages = [turn.message() for turn in turns]
        if any(mark in message["content"] for message in messages for mark in (_OPEN, _CLOSE)):
            raise DataError(f"it holds U+{ord(_OPEN):04X} or U+{ord(_CLOSE):04X}, which are no characters")
        turn = _Turn()
        try:
            return _compiled(self.source).render(
                messages=messages, add_generation_prompt=answer, bos_token=self.bos, eos_token=self.eos, **{_NEXT: turn.begin, _NUMBER: turn.told}
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise DataError(f"the chat template ({self.name}) refuses it: {error}") from None


class _Turn:
    """Which turn a template is writing."""

    def __init__(self) -> None:
        self._number = 0

    def begin(self) -> None:
        """Another one."""
        self._number += 1

    def told(self) -> int:
        """Its number."""
        return self._number


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """Call `_marked` with the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_marked", [_call(_NUMBER)]), [], [], body).set_lineno(line)

    def _marked(self, turn: int, caller: Any) -> str:
        return f"{_OPEN}{turn}{_OPEN}{caller()}{_CLOSE}"


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
    tree = environment.parse(source)
    for loop in _outer_loops(tree):
        # A template writes turns in a loop: blocks of one pass are of one answer.
        loop.body.insert(0, nodes.ExprStmt(_call(_NEXT)).set_lineno(loop.lineno))
    return environment.from_string(tree)


def _call(name: str) -> nodes.Call:
    return nodes.Call(nodes.Name(name, "load"), [], [], None, None)


def _outer_loops(node: nodes.Node) -> Iterator[nodes.For]:
    """Loops that lie in no other and in no macro."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.For):
            yield child
        elif not isinstance(child, nodes.Macro):
            yield from _outer_loops(child)


def _parted(marked: str) -> Rendered:
    """The text without its marks, and the spans that they enclose, by turn."""
    parts, answers, length, read, begun = [], {}, 0, 0, None
    for mark in _MARK.finditer(marked):
        parts.append(marked[read : mark.start()])
        length, read = length + len(parts[-1]), mark.end()
        if mark[1] is not None:
            begun = mark[1], length
        elif begun is not None:
            answers.setdefault(begun[0], []).append((begun[1], length))
            begun = None
    return Rendered("".join([*parts, marked[read:]]), tuple(map(tuple, answers.values())))


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
