"""Documents in tokens, end to end, and rows that hold one or several of them: what a batch of a model that writes is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from ftjax.data.language.encoding import Piece


@dataclasses.dataclass(frozen=True, eq=False)
class Documents:
    """Those of document i are `tokens[starts[i]:starts[i + 1]]`.

    Attributes:
      tokens: int32 `[all]`.
      learn: bool `[all]`: is to be predicted.
      starts: int64 `[n + 1]`.
      bytes: int32 `[n]`: of what is to be predicted, as UTF-8.
    """

    tokens: Int[np.ndarray, " all"]
    learn: Bool[np.ndarray, " all"]
    starts: Int[np.ndarray, " bounds"]
    bytes: Int[np.ndarray, " n"] | None = None

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Documents:
        """These documents, in order."""
        starts = np.cumsum([0, *(len(piece.ids) for piece in pieces)]).astype(np.int64)
        ids = np.concatenate([piece.ids for piece in pieces] or [np.empty(0, np.int32)])
        learn = np.concatenate([piece.learn for piece in pieces] or [np.empty(0, bool)])
        return cls(ids.astype(np.int32), learn, starts, np.array([piece.bytes for piece in pieces], np.int32))

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens of each."""
        return np.diff(self.starts).astype(np.int32)

    def learnt(self) -> Int[np.ndarray, " n"]:
        """Tokens of each that are to be predicted."""
        return np.diff(np.concatenate([[0], np.cumsum(self.learn)])[self.starts])

    def filled(self, rows: Sequence[Int[np.ndarray, " some"]], length: int) -> dict[str, np.ndarray]:
        """`tokens` int32, `document` int32 (0: padding, 1, 2, ...: its documents) and `learn` bool, `[rows length]`, filled up on the right."""
        shape = (len(rows), length)
        fields = {"tokens": np.zeros(shape, np.int32), "document": np.zeros(shape, np.int32), "learn": np.zeros(shape, bool)}
        for row, held in enumerate(rows):
            place = 0
            for number, document in enumerate(held, 1):
                start, stop = self.starts[document : document + 2]
                here = slice(place, place + int(stop - start))
                fields["tokens"][row, here], fields["learn"][row, here] = self.tokens[start:stop], self.learn[start:stop]
                fields["document"][row, here] = number
                place = here.stop
        return fields


@dataclasses.dataclass(frozen=True, eq=False)
class RowFields:
    """`fields(rows)` of a split: rows of documents, padded to the smallest bucket that holds the longest of them.

    Attributes:
      documents: all of the split.
      rows: which of them each row holds.
      buckets: lengths, ascending.
      second: of rejected answers, row for row with `documents`.
      origins: where rows hold one document, the number of the text that it is a window of; None: every row is by itself.
    """

    documents: Documents
    rows: Sequence[Int[np.ndarray, " some"]]
    buckets: tuple[int, ...]
    second: Documents | None = None
    origins: Int[np.ndarray, " n"] | None = None

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Tokens of each row; of the longer answer where there are two."""
        sides = [self.documents, *([self.second] if self.second else [])]
        return np.max([[int(side.lengths[row].sum()) for row in self.rows] for side in sides], axis=0).astype(np.int32)

    def __call__(self, rows: Int[np.ndarray, " k"]) -> dict[str, np.ndarray]:
        """`tokens`, `document`, `learn` `[k length]`, and the same with `pair_` of the second documents; `bytes` and `origin` `[k]`."""
        held = [self.rows[row] for row in np.asarray(rows)]
        sides = [side for side in (self.documents, self.second) if side is not None]
        longest = max([int(side.lengths[row].sum()) for side in sides for row in held], default=0)
        length = self.buckets[int(np.searchsorted(self.buckets, longest))]
        fields = self.documents.filled(held, length)
        if self.documents.bytes is not None:
            fields["bytes"] = np.array([self.documents.bytes[row].sum() for row in held], np.int32)
        fields["origin"] = np.asarray(rows if self.origins is None else self.origins[rows]).astype(np.int32)
        if self.second is not None:
            fields |= {f"pair_{name}": values for name, values in self.second.filled(held, length).items()}
        return fields
