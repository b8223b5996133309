"""Question and context as one input: long contexts in windows that overlap, and answers as the tokens that hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tokenizers
from jaxtyping import Int

from ftjax.data.text.squad import Answer
from ftjax.data.text.tokenizer import Tokenizer, Tokens
from ftjax.errors import ConfigError

NOWHERE = -1
"""Offset of tokens that are not of the context."""
_CHUNK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """All windows of all questions.

    Attributes:
      tokens: a row for each window.
      offsets: int32 `[all 2]`: first character of each token in the context and the one after its last; -1 for tokens that are not of the context.
      question: int32 `[windows]`: which question a window is of.
      labels: int32 `[windows 2]`: first and last token of the answer in the window, or (0, 0).
    """

    tokens: Tokens
    offsets: Int[np.ndarray, "all 2"]
    question: Int[np.ndarray, " windows"]
    labels: Int[np.ndarray, "windows 2"]


def cut_windows(
    tokenizer: Tokenizer, questions: Sequence[str], contexts: Sequence[str], answers: Sequence[Sequence[Answer]], *, max_length: int, stride: int
) -> Windows:
    """Pairs of question and context, each as many windows as its context needs.

    A question keeps at most half of the tokens; windows overlap by `stride` tokens, or by half of what a window has of the context where that is less.

    Raises:
      ConfigError: `stride` is negative or leaves nothing of a window, or `max_length` no room.
    """
    if not 0 <= stride < max_length:
        raise ConfigError(f"text.stride={stride}: allowed is 0 or more and less than text.max_length ({max_length}), better a quarter of it")
    if max_length < 2 * (tokenizer.special(pair=True) + 2):
        raise ConfigError(f"text.max_length={max_length}: allowed is {2 * (tokenizer.special(pair=True) + 2)} or more for question and context")
    parts: list[tuple[np.ndarray, ...]] = []
    owner, labels = [], []
    for start in range(0, len(questions), _CHUNK):
        chunk = list(zip(questions[start : start + _CHUNK], contexts[start : start + _CHUNK]))
        for number, encoding in enumerate(tokenizer.engine.encode_batch(chunk), start):
            for window in _windows(encoding, max_length, stride):
                parts.append(window)
                owner.append(number)
                labels.append(_label(window[2], answers[number]))
    lengths = np.array([0, *(len(ids) for ids, _, _ in parts)], np.int64)
    ids, segments, offsets = (np.concatenate(column) for column in zip(*parts))
    tokens = Tokens(ids, segments, np.full(len(ids), -1, np.int32), np.cumsum(lengths), np.zeros(len(parts), bool))
    return Windows(tokens, offsets, np.array(owner, np.int32), np.array(labels, np.int32).reshape(-1, 2))


def _windows(encoding: tokenizers.Encoding, max_length: int, stride: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(ids, segments, offsets) of each window."""
    ids, segments = np.array(encoding.ids, np.int32), np.array(encoding.type_ids, np.int8)
    part = np.array([NOWHERE if number is None else number for number in encoding.sequence_ids])
    offsets = np.where((part == 1)[:, None], np.array(encoding.offsets, np.int32), NOWHERE)
    here = np.flatnonzero(part == 1)
    first, stop = (int(here[0]), int(here[-1]) + 1) if len(here) else (len(ids), len(ids))
    asked = np.flatnonzero(part == 0)
    before = np.setdiff1d(np.arange(first), asked[max_length // 2 - 2 :])
    after = np.arange(stop, len(ids))
    room = max_length - len(before) - len(after)
    step = max(room - stride, (room + 1) // 2)
    starts = range(first, max(stop - room, first) + step, step) if stop - first > room else (first,)
    places = [np.concatenate([before, np.arange(start, min(start + room, stop)), after]) for start in starts]
    return [(ids[place], segments[place], offsets[place]) for place in places]


def _label(offsets: Int[np.ndarray, "length 2"], answers: Sequence[Answer]) -> tuple[int, int]:
    """First and last token of the first answer that lies whole in a window; (0, 0) where none does."""
    inside = np.flatnonzero(offsets[:, 0] != NOWHERE)
    for answer in answers:
        first, stop = answer.start, answer.start + len(answer.text)
        held = inside[(offsets[inside, 1] > first) & (offsets[inside, 0] < stop)]
        if len(held) and offsets[inside[0], 0] <= first and offsets[inside[-1], 1] >= stop:
            return int(held[0]), int(held[-1])
    return 0, 0
