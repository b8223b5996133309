"""From conversations and passages to tokens, and which of them are to be learnt: said by place, never by token."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

from ftjax.data.language.ends import Ends
from ftjax.data.language.template import Rendered, Template
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
    """

    ids: Int[np.ndarray, " length"]
    learn: Bool[np.ndarray, " length"]
    cut: int = 0
    lost: int = 0
    joins: int = 0


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

    def prompt(self, turns: Sequence[Turn]) -> Int[np.ndarray, " length"]:
        """The tokens after which the assistant begins to answer."""
        return np.array(next(iter(self.tokenizer.encode_apart([self.template.render(turns, answer=True)]))).ids, np.int32)

    @property
    def stops(self) -> tuple[int, ...]:
        """Tokens that end an answer: the end of text, and the special token that the template writes after an answer."""
        turns = (Turn("user", "a"), Turn("assistant", "b"))
        piece = next(iter(self.pieces([Conversation(turns)])))
        if isinstance(piece, DataError):
            return (self.ends.eos_id,)
        learnt = piece[0].ids[piece[0].learn]
        return tuple(sorted({self.ends.eos_id, *learnt[np.isin(learnt, self.tokenizer.specials)].tolist()}))

    def sizes(self, pieces: Sequence[Piece]) -> list[int]:
        """Bytes, as UTF-8, of what each learns; special tokens have none."""
        texts = self.tokenizer.engine.decode_batch([piece.ids[piece.learn].tolist() for piece in pieces], skip_special_tokens=True)
        return [len(text.encode("utf-8", "replace")) for text in texts]

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
        return Rendered(rendered.text, rendered.spans[-own:])

    def _document(self, encoding: tokenizers.Encoding, rendered: Rendered) -> Piece:
        ids, offsets = np.array(encoding.ids, np.int32), np.array(encoding.offsets, np.int64).reshape(-1, 2)
        learn, joins = np.zeros(len(ids), bool), 0
        for start, stop in rendered.spans:
            # A token that begins in the prompt and ends in the answer holds a part of the answer: nobody else would learn it.
            inside = (offsets[:, 1] > start) & (offsets[:, 0] < stop)
            joins += int((inside & (offsets[:, 0] < start)).sum())
            learn |= inside
        ids, learn = self._ended(ids, learn)
        if self.learn == "all":
            learn = np.ones(len(ids), bool)
        learn[:1] = False
        return _shortened(ids, learn, self.max_length, joins)

    def _ended(self, ids: np.ndarray, learn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """With the end of every answer learnt: the special token that is its last or comes right after it, or else the end of text, put there."""
        special = np.isin(ids, (*self.tokenizer.specials, self.ends.eos_id))
        learn = learn | (special & np.concatenate([[False], (learn & ~special)[:-1]]))
        last = int(np.flatnonzero(learn)[-1]) if learn.any() else -1
        # White space may follow the last answer's end, as ChatML's line break does.
        ended = last >= 0 and special[max(0, last - 1) : last + 1].any()
        if ended or (last < 0):
            return ids, learn
        return np.append(ids, np.int32(self.ends.eos_id)), np.append(learn, True)

    def _windows(self, encoding: tokenizers.Encoding, passage: Passage) -> list[Piece]:
        """Windows that learn every token of a passage once.

        Each begins with the token for that, or where the tokenizer has none with the last token of the window before; a passage that ends its document ends
        with the token for that.
        """
        ids = np.array([*encoding.ids, *([self.ends.eos_id] if passage.ends else [])], np.int32)
        if self.ends.adds_bos and self.ends.bos_id is not None:
            first = np.int32(self.ends.bos_id)
            parts = [np.concatenate([[first], ids[start : start + self.max_length - 1]]) for start in range(0, len(ids), self.max_length - 1)]
        else:
            parts = [ids[start : start + self.max_length] for start in range(0, max(len(ids) - 1, 1), self.max_length - 1)]
        return [Piece(part.astype(np.int32), np.arange(len(part)) > 0) for part in parts]


def _shortened(ids: np.ndarray, learn: np.ndarray, length: int, joins: int) -> Piece:
    return Piece(ids[:length], learn[:length], max(0, len(ids) - length), int(learn[length:].sum()), joins)
