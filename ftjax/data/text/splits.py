"""From examples to splits: tokens, labels as arrays, and what a person sees of a row, for each task."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ftjax.data.components import components
from ftjax.data.dataset import UNLABELLED, Split
from ftjax.data.text.examples import Examples, answers_of
from ftjax.data.text.tokenizer import Tokenizer, Tokens
from ftjax.data.text.windows import cut_windows

NO_LABEL = -100
"""`token_label` of tokens that are not judged."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of one split in tokens, before their buckets are known.

    Attributes:
      ids: names of the rows.
      labels: as the task wants them.
      tokens: of the texts.
      second: of the second texts, where they are inputs of their own (sentence_embedding).
      token_label: int32, of every token, -100 where there is none (token_classification).
      show: what a person sees of a row.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    tokens: Tokens
    show: Callable[[int], dict[str, Any]]
    second: Tokens | None = None
    token_label: Int[np.ndarray, " all"] | None = None

    @property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row; of the longer text where there are two inputs."""
        return self.tokens.lengths if self.second is None else np.maximum(self.tokens.lengths, self.second.lengths)

    def split(self, buckets: tuple[int, ...], pad: int) -> Split:
        """The split, padded to the smallest of `buckets` that holds its rows."""
        lengths = self.lengths
        needed = buckets[: int(np.searchsorted(buckets, lengths.max(initial=0))) + 1]
        fields = TextFields(self.tokens, needed, pad, self.second, self.token_label)
        return Split(self.ids, self.labels, fields, self.show, lengths=lengths, buckets=needed)


@dataclasses.dataclass(frozen=True, eq=False)
class TextFields:
    """The arrays of rows, padded on the right to the smallest bucket that holds the longest of them."""

    tokens: Tokens
    buckets: tuple[int, ...]
    pad: int
    second: Tokens | None = None
    token_label: Int[np.ndarray, " all"] | None = None

    def __call__(self, rows: Int[np.ndarray, " k"]) -> dict[str, np.ndarray]:
        """`tokens`, `mask`, `segments` `[k length]`; `pair_...` of the second input; `token_label` and `word` (at the first piece of each word) of tags."""
        rows = np.asarray(rows)
        sides = [side for side in (self.tokens, self.second) if side is not None]
        longest = max(int(side.lengths[rows].max(initial=0)) for side in sides)
        length = self.buckets[int(np.searchsorted(self.buckets, longest))]
        fields = self.tokens.padded(rows, length, self.pad)
        if self.second is not None:
            fields |= {f"pair_{key}": value for key, value in self.second.padded(rows, length, self.pad).items()}
        if self.token_label is not None:
            mask, where = self.tokens.places(rows, length)
            fields["token_label"] = np.where(mask, self.token_label[where], np.int32(NO_LABEL))
            fields["word"] = np.where(mask, self.first_pieces[where], np.int32(-1))
        return fields

    @functools.cached_property
    def first_pieces(self) -> Int[np.ndarray, " all"]:
        """The index of its word for the first piece of each, -1 elsewhere."""
        return first_pieces(self.tokens)


def encode_rows(
    examples: Examples, rows: Int[np.ndarray, " rows"], task: str, classes: Sequence[str], tokenizer: Tokenizer, *, max_length: int, stride: int
) -> Encoded:
    """Some rows of the examples in tokens.

    Args:
      examples: all of them.
      rows: those of a split.
      task: its name.
      classes: names by label.
      tokenizer: the model's.
      max_length: tokens of a row, at most.
      stride: tokens by which windows overlap (question_answering).

    Raises:
      ConfigError: `max_length` leaves no room.
    """
    texts, labels = [examples.texts[row] for row in rows], [examples.labels[row] for row in rows]
    pairs = None if examples.pairs is None else [examples.pairs[row] for row in rows]
    ids = tuple(examples.ids[row] for row in rows)
    if task == "question_answering":
        return _questions(ids, texts, pairs or [], labels, tokenizer, max_length, stride)
    if task == "token_classification":
        return _tagged(ids, texts, labels, classes, tokenizer, max_length)

    def show(row: int) -> dict[str, Any]:
        return {"text": texts[row]} if pairs is None else {"text": texts[row], "text_pair": pairs[row]}

    if task == "sentence_embedding":
        first, second = (tokenizer.encode(side, max_length=max_length) for side in (texts, pairs or []))
        return Encoded(ids, connected(texts, pairs or []), first, show, second)
    return Encoded(ids, label_array(labels, task, classes), tokenizer.encode(texts, pairs, max_length=max_length), show)


def label_array(labels: Sequence[Any], task: str, classes: Sequence[str]) -> np.ndarray:
    """Labels as the task wants them: int32 `[n]`, float32 `[n]` (regression) or float32 `[n classes]` of 0 and 1 (multi_label); -1 where they are None."""
    if None in labels:
        return np.full(len(labels), UNLABELLED, np.int32)
    if task == "regression":
        return np.array(labels, np.float32)
    number = {name: label for label, name in enumerate(classes)}
    if task == "classification":
        return np.array([number[label] for label in labels], np.int32)
    flags = np.zeros((len(labels), len(classes)), np.float32)
    for row, names in enumerate(labels):
        flags[row, [number[name] for name in names]] = 1
    return flags


def normalised(text: str) -> str:
    """White space as single spaces, none at the ends: what makes two texts copies of each other."""
    return " ".join(text.split())


def connected(texts: Sequence[str], pairs: Sequence[str]) -> Int[np.ndarray, " rows"]:
    """Pairs that share a text on either side, directly or through others, have the same number: none of them is a negative of another."""
    nodes: dict[str, int] = {}
    ends = np.array([[nodes.setdefault(normalised(text), len(nodes)) for text in row] for row in zip(texts, pairs)], np.int64).reshape(-1, 2)
    return components(len(nodes), ends[:, 0], ends[:, 1])[ends[:, 0]].astype(np.int32)


def _tagged(
    ids: tuple[str, ...], words: Sequence[list[str]], tags: Sequence[Sequence[str] | None], classes: Sequence[str], tokenizer: Tokenizer, max_length: int
) -> Encoded:
    tokens = encode_words(tokenizer, words, max_length)
    first = first_pieces(tokens)
    number = {name: label for label, name in enumerate(classes)}
    token_label = np.full(len(first), NO_LABEL, np.int32)
    row_of = np.repeat(np.arange(len(words)), tokens.lengths)
    if all(given is not None for given in tags):
        begins = np.concatenate([[0], np.cumsum([len(given or ()) for given in tags])]).astype(np.int64)
        flat = np.array([number[tag] for given in tags for tag in given or ()], np.int32)
        where = np.flatnonzero(first >= 0)
        token_label[where] = flat[begins[row_of[where]] + first[where]]

    def show(row: int) -> dict[str, Any]:
        given = tags[row]
        return {"text": " ".join(words[row]), "words": list(words[row])} | ({} if given is None else {"tags": list(given)})

    return Encoded(ids, np.zeros(len(ids), np.int32), tokens, show, token_label=token_label)


def encode_words(tokenizer: Tokenizer, words: Sequence[list[str]], max_length: int) -> Tokens:
    """Lists of words in tokens; a word of which nothing is left (of control characters, say) becomes the unknown token, so that it keeps a tag."""
    tokens = tokenizer.encode(words, max_length=max_length)
    first = first_pieces(tokens)
    seen = np.diff(np.concatenate([[0], np.cumsum(first >= 0)])[tokens.starts])
    lost = np.flatnonzero((seen < [len(row) for row in words]) & ~tokens.truncated)
    unknown = None if tokenizer.unknown is None else tokenizer.engine.id_to_token(tokenizer.unknown)
    if not len(lost) or unknown is None:
        return tokens
    mended = [list(row) for row in words]
    for row in lost.tolist():
        held = set(first[tokens.starts[row] : tokens.starts[row + 1]].tolist())
        mended[row] = [word if position in held else unknown for position, word in enumerate(words[row])]
    return tokenizer.encode(mended, max_length=max_length)


def first_pieces(tokens: Tokens) -> Int[np.ndarray, " all"]:
    """The index of its word at the first piece of each word, -1 at other tokens."""
    first = np.ones(len(tokens.words), bool)
    first[1:] = tokens.words[1:] != tokens.words[:-1]
    first[tokens.starts[:-1][tokens.lengths > 0]] = True
    return np.where(first, tokens.words, -1).astype(np.int32)


def _questions(
    ids: tuple[str, ...], questions: Sequence[str], contexts: Sequence[str], answers: Sequence[Any], tokenizer: Tokenizer, max_length: int, stride: int
) -> Encoded:
    given = [answer or () for answer in answers]
    windows = cut_windows(tokenizer, questions, contexts, given, max_length=max_length, stride=stride)
    starts = np.searchsorted(windows.question, np.arange(len(ids)))
    order = np.arange(len(windows.question)) - starts[windows.question]
    names = tuple(ids[question] if not number else f"{ids[question]}#{number}" for question, number in zip(windows.question, order))

    def show(row: int) -> dict[str, Any]:
        question, bounds = int(windows.question[row]), slice(*windows.tokens.starts[row : row + 2])
        shown = {"question": questions[question], "context": contexts[question], "answers": answers_of(given[question])}
        return {"id": ids[question], **shown, "offsets": windows.offsets[bounds]}

    return Encoded(names, windows.labels, windows.tokens, show)
