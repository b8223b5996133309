"""From conversations and passages to tokens, and which of them are to be learnt: said by place, never by token."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

from ftjax.data.language.ends import Ends
from ftjax.data.language.sizes import token_bytes
from ftjax.data.language.template import Rendered, Spans, Template
from ftjax.data.language.turns import Choice, Content, Conversation, Passage, Turn
from ftjax.data.text.tokenizer import Tokenizer
from ftjax.errors import ConfigError, DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """A document, or a window of one, in tokens.

    Attributes:
      ids: its tokens.
      learn: which of them are to be predicted; never the first, which nothing comes before.
      cut: tokens that did not fit.
      lost: those of them that were to be learnt.
      joins: tokens that hold the end of a prompt and the beginning of an answer; they are learnt.
      bytes: of what is to be predicted, as UTF-8; special tokens have none.
    """

    ids: Int[np.ndarray, " length"]
    learn: Bool[np.ndarray, " length"]
    cut: int = 0
    lost: int = 0
    joins: int = 0
    bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Cuts what people wrote into tokens.

    Attributes:
      tokenizer: the model's.
      ends: its tokens for beginning and end.
      template: how turns become one text.
      max_length: tokens of a document; longer conversations lose their end, longer passages are cut into windows.
      learn: "response", what the assistant says; "all", every token but the first.
    """

    tokenizer: Tokenizer
    ends: Ends
    template: Template
    max_length: int
    learn: str = "response"

    def __post_init__(self) -> None:
        if self.max_length < 2:
            raise ConfigError(f"text.max_length={self.max_length}: allowed is 2 or more, the first token is never learnt")

    def pieces(self, contents: Sequence[Content]) -> Iterator[list[Piece] | DataError]:
        """Of every content its documents: one of a conversation, windows of a passage, two of a choice (chosen, rejected); or why it cannot be used."""
        texts: list[str] = []
        plans: list[list[Rendered] | DataError] = []
        for content in contents:
            try:
                found = self._rendered(content)
                plans.append(found)
                texts += [rendered.text for rendered in found]
            except DataError as error:
                plans.append(error)
        encoded = self.tokenizer.encode_apart(texts)
        for content, plan in zip(contents, plans):
            if isinstance(plan, DataError):
                yield plan
            else:
                encodings = [next(encoded) for _ in plan]
                yield self._windows(encodings[0], content) if isinstance(content, Passage) else [self._document(*pair) for pair in zip(encodings, plan)]

    def prompt(self, asked: Sequence[Turn] | Passage) -> Int[np.ndarray, " length"]:
        """The tokens after which the assistant begins to answer, or a passage goes on: as training wrote them.

        Raises:
          DataError: the template refuses the turns.
        """
        if isinstance(asked, Passage):
            first = [self.ends.bos_id] if self.ends.adds_bos else []
            return np.array([*first, *self._cut(asked.text).ids], np.int32)
        rendered = self._said(asked)
        return self._marked(self._cut(rendered.text), rendered).ids

    @property
    def stops(self) -> tuple[int, ...]:
        """Tokens that end an answer: the end of text, and the special tokens that the template writes after a last answer."""
        return tuple(sorted({self.ends.eos_id, *self._closing}))

    @functools.cached_property
    def _closing(self) -> tuple[int, ...]:
        """Special tokens that the template writes after a last answer; none where it refuses a question and its answer."""
        question = (Turn("user", "a"), Turn("assistant", "b"))
        for turns in (question, (Turn("system", "c"), *question)):
            try:
                rendered = self.template.rendered(turns)
            except DataError:
                continue
            cut = self._cut(rendered.text)
            inside = cut.inside(rendered.answers[-1] if rendered.answers else ())
            return tuple(cut.ids[self._endings(cut, inside, self._special)].tolist()) if inside.any() else ()
        return ()

    @functools.cached_property
    def _special(self) -> tuple[int, ...]:
        return (*self.tokenizer.specials, self.ends.eos_id)

    def _cut(self, text: str) -> _Cut:
        return _Cut.of(text, next(iter(self.tokenizer.encode_apart([text]))))

    def _said(self, turns: Sequence[Turn]) -> Rendered:
        """Turns up to where the assistant begins to answer, with what it said before where that can be told."""
        try:
            return self.template.rendered(turns, answer=True)
        except DataError:
            return Rendered(self.template.render(turns, answer=True), ())

    def _rendered(self, content: Content) -> list[Rendered]:
        if isinstance(content, Passage):
            return [Rendered(content.text, ())]
        if isinstance(content, Conversation):
            return [self._spoken(content.turns)]
        return [self._answered(content, answer) for answer in (content.chosen, content.rejected)]

    def _spoken(self, turns: tuple[Turn, ...]) -> Rendered:
        rendered = self.template.rendered(turns)
        if not any(stop > start for start, stop in rendered.spans):
            raise DataError(f"the chat template ({self.template.name}) writes nothing that the assistant says")
        return rendered

    def _answered(self, choice: Choice, answer: tuple[Turn, ...]) -> Rendered:
        """Only the answers count, not what the assistant said before."""
        rendered = self._spoken((*choice.given, *answer))
        own = sum(turn.role == "assistant" for turn in answer)
        return Rendered(rendered.text, rendered.answers[-own:], rendered.answers[:-own])

    def _document(self, encoding: tokenizers.Encoding, rendered: Rendered) -> Piece:
        marked = self._marked(_Cut.of(rendered.text, encoding), rendered)
        learn = np.ones(len(marked.ids), bool) if self.learn == "all" else marked.learn
        learn[:1] = False
        return _shortened(marked.ids, learn, marked.widths, self.max_length, marked.joins)

    def _marked(self, cut: _Cut, rendered: Rendered) -> _Marked:
        """The tokens of a text with those of its answers marked, each with its end: the template's, or else the end of text, put there."""
        learn, joins, unended = np.zeros(len(cut.ids), bool), 0, []
        for spans, learnt in (*((spans, False) for spans in rendered.given), *((spans, True) for spans in rendered.answers)):
            inside = cut.inside(spans)
            if not inside.any():
                continue
            ends = self._endings(cut, inside, self.stops)
            unended += [] if ends else [(int(np.flatnonzero(inside)[-1]) + 1, learnt)]
            if learnt:
                # A token that begins in the prompt and ends in the answer holds a part of the answer: nobody else would learn it.
                joins += sum(cut.across(start) for start, _ in spans)
                learn |= inside
                learn[ends] = True
        places, learns = [place for place, _ in unended], [learnt for _, learnt in unended]
        ids, widths = np.insert(cut.ids, places, np.int32(self.ends.eos_id)), np.insert(cut.widths(self._special), places, 0)
        return _Marked(ids, np.insert(learn, places, learns), widths, joins)

    def _endings(self, cut: _Cut, inside: Bool[np.ndarray, " length"], behind: Sequence[int]) -> list[int]:
        """Places of the special tokens that end an answer: its last ones but for white space (as ChatML's line break), or the one right after it."""
        found, places = [], np.flatnonzero(inside).tolist()
        for place in reversed(places):
            if cut.ids[place] in self._special:
                found.append(place)
            elif cut.letters(place).strip():
                break
        following = places[-1] + 1
        return found or ([following] if following < len(cut.ids) and cut.ids[following] in behind else [])

    def _windows(self, encoding: tokenizers.Encoding, passage: Passage) -> list[Piece]:
        """Windows that learn every token of a passage once.

        Each begins with the token for that, or where the tokenizer has none with the last token of the window before; a passage that ends its document ends
        with the token for that.
        """
        cut, last = _Cut.of(passage.text, encoding), [self.ends.eos_id] if passage.ends else []
        ids, widths = np.array([*cut.ids, *last], np.int32), np.array([*cut.widths(self._special), *(0 for _ in last)], np.int64)
        if self.ends.adds_bos and self.ends.bos_id is not None:
            starts, first = range(0, len(ids), self.max_length - 1), [self.ends.bos_id]
        else:
            starts, first = range(0, max(len(ids) - 1, 1), self.max_length - 1), []
        parts = [slice(start, start + self.max_length - len(first)) for start in starts]
        return [_window(np.array([*first, *ids[part]], np.int32), np.array([*(0 for _ in first), *widths[part]], np.int64)) for part in parts]


@dataclasses.dataclass(frozen=True, eq=False)
class _Cut:
    """A text in tokens, each with the characters that it holds: from and up to."""

    text: str
    ids: Int[np.ndarray, " length"]
    offsets: Int[np.ndarray, "length 2"]

    @classmethod
    def of(cls, text: str, encoding: tokenizers.Encoding) -> _Cut:
        """As the tokenizer cut it."""
        return cls(text, np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2))

    def inside(self, spans: Spans) -> Bool[np.ndarray, " length"]:
        """Tokens that hold a letter of these spans."""
        found = np.zeros(len(self.ids), bool)
        for start, stop in spans:
            found |= (self.offsets[:, 1] > start) & (self.offsets[:, 0] < stop)
        return found

    def across(self, place: int) -> int:
        """How many tokens hold the letters before and after a place."""
        return int(((self.offsets[:, 0] < place) & (self.offsets[:, 1] > place)).sum())

    def letters(self, token: int) -> str:
        """What one token holds."""
        return self.text[slice(*self.offsets[token])]

    def widths(self, without: Sequence[int]) -> Int[np.ndarray, " length"]:
        """Bytes that each token adds; none those of some ids."""
        return np.where(np.isin(self.ids, without), 0, token_bytes(self.text, self.offsets))


@dataclasses.dataclass(frozen=True, eq=False)
class _Marked:
    """Tokens, which of them the assistant says, the bytes that each adds, and how many hold the end of a prompt, too."""

    ids: Int[np.ndarray, " length"]
    learn: Bool[np.ndarray, " length"]
    widths: Int[np.ndarray, " length"]
    joins: int


def _window(ids: np.ndarray, widths: np.ndarray) -> Piece:
    return Piece(ids, np.arange(len(ids)) > 0, bytes=int(widths[1:].sum()))


def _shortened(ids: np.ndarray, learn: np.ndarray, widths: np.ndarray, length: int, joins: int) -> Piece:
    kept = learn[:length]
    return Piece(ids[:length], kept, max(0, len(ids) - length), int(learn[length:].sum()), joins, int(widths[:length][kept].sum()))
