"""Measures of extractive question answering: exact match and F1 as SQuAD counts them, over whole questions.

A long context comes in several windows; the answer is the best span of all of them, or none where that is allowed and scores higher in every window.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
import string
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from ftjax.errors import DataError
from ftjax.evaluation.measures import Baseline, Measures, Parts
from ftjax.evaluation.metric import Mean, Metric, Proportion
from ftjax.evaluation.table import RecordTable
from ftjax.tasks.question_answering import token_scores

if TYPE_CHECKING:
    from ftjax.data import Split

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT = str.maketrans("", "", string.punctuation)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AnswerRecords(RecordTable):
    """Per question: the window (row of the split) and the characters of the context that were chosen, 0 to 0 for no answer, and how right that is.

    `id` is the row of the question's first window; `exact` and `f1` are against the nearest of the accepted answers.
    """

    row: Int32[np.ndarray, " n"]
    start: Int32[np.ndarray, " n"]
    end: Int32[np.ndarray, " n"]
    probability: Float32[np.ndarray, " n"]
    exact: Float32[np.ndarray, " n"]
    f1: Float32[np.ndarray, " n"]

    kind: ClassVar[str] = "question_answering"

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: an exact match."""
        return self.exact > 0.5

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: what is missing to an F1 of 1, the surest first."""
        return (1 - self.f1) + self.probability * 1e-3

    def check(self) -> None:
        """Nothing to refuse: a question without an answer is one to be left open."""


@dataclasses.dataclass(frozen=True)
class ExactMatch(Proportion):
    """Share of questions whose answer is, normalised, one of the accepted ones."""

    name: ClassVar[str] = "exact_match"
    higher_is_better: ClassVar[bool] = True

    def per_example(self, records: AnswerRecords) -> np.ndarray:
        """1 where it is."""
        return records.correct


@dataclasses.dataclass(frozen=True)
class AnswerF1(Mean):
    """Mean over questions of the F1 of words shared with the nearest accepted answer."""

    name: ClassVar[str] = "f1"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def per_example(self, records: AnswerRecords) -> np.ndarray:
        """F1 of words."""
        return records.f1


@dataclasses.dataclass(frozen=True)
class AnswerMeasures(Measures):
    """A span of the context per question."""

    max_answer_length: int = 30
    unanswerable: bool = False

    table: ClassVar[type[RecordTable]] = AnswerRecords
    majority_name: ClassVar[str] = "never answering"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The exact match first."""
        return (ExactMatch(), AnswerF1())

    def records(self, outputs: Float[Array, "batch length 2"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Scores of every token as the first and the last one, `[batch length]`, and their log-sum-exp; the spans are found by `gather`."""
        outputs = outputs.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(outputs) | ~batch["mask"][:, :, None], axis=(1, 2))
        scores = token_scores(jnp.where(finite[:, None, None], outputs, 0.0), batch["mask"])
        total = jax.nn.logsumexp(scores, axis=1).sum(axis=1)
        return {
            "id": batch["id"].astype(jnp.int32),
            "weight": batch["weight"].astype(jnp.float32),
            "start_score": scores[:, :, 0],
            "end_score": scores[:, :, 1],
            "total": total,
            "finite": finite,
        }

    def gather(self, parts: Parts, split: Split) -> AnswerRecords:
        """Windows joined to questions: rows of the split that `show` the same "id"."""
        windows = [window for part in parts for window in self._windows(part, split)]
        if not windows:
            raise DataError("no records to concatenate: the split gave no batch")
        questions: dict[str, list[Window]] = {}
        for window in _once(windows):
            questions.setdefault(window.shown["id"], []).append(window)
        found = [self._answer(group) for group in questions.values()]
        columns = {name: np.array([row[name] for row in found]) for name in found[0]}
        types = {"id": np.int32, "row": np.int32, "start": np.int32, "end": np.int32}
        return AnswerRecords(**{name: values.astype(types.get(name, np.float32)) for name, values in columns.items()}).by_id()

    def _windows(self, part: Mapping[str, np.ndarray], split: Split) -> list[Window]:
        """The best span of every window of a batch."""
        kept = np.flatnonzero(part["weight"] > 0)
        shown = [split.show(int(part["id"][place])) for place in kept]
        length = part["start_score"].shape[1]
        inside = np.zeros((len(kept), length), bool)
        for place, row in enumerate(shown):
            offsets = np.asarray(row["offsets"])
            inside[place, : len(offsets)] = offsets[:, 1] > np.maximum(offsets[:, 0], -1)
        inside &= part["finite"][kept][:, None]
        score, first, last = best_spans(part["start_score"][kept], part["end_score"][kept], inside, self.max_answer_length)
        none = part["start_score"][kept, 0] + part["end_score"][kept, 0]
        return [
            Window(int(part["id"][place]), row, float(score[k]), float(none[k]), float(part["total"][place]), int(first[k]), int(last[k]))
            for k, (place, row) in enumerate(zip(kept, shown))
        ]

    def _answer(self, windows: Sequence[Window]) -> dict[str, float]:
        """One question's record from its windows."""
        best, empty = max(windows, key=lambda window: window.score), min(windows, key=lambda window: window.none)
        given = np.isfinite(best.score) and not (self.unanswerable and empty.none > best.score)
        chosen, score = (best, best.score) if given else (empty, empty.none)
        offsets = chosen.shown["offsets"]
        start, end = (int(offsets[chosen.first][0]), int(offsets[chosen.last][1])) if given else (0, 0)
        text, accepted = chosen.shown["context"][start:end], chosen.shown["answers"] or [""]
        probability = float(np.exp(score - chosen.total)) if np.isfinite(best.score) else 0.0
        exact, f1 = max(exact_match(text, answer) for answer in accepted), max(word_f1(text, answer) for answer in accepted)
        return {"id": windows[0].row, "weight": 1.0, "row": chosen.row, "start": start, "end": end, "probability": probability, "exact": exact, "f1": f1}

    def rows(self, records: AnswerRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "answer", "probability", "start", "end"}`, characters of the context; the answer is "" where none is given. Never several answers."""
        rows = []
        for place, index in enumerate(records.row):
            shown, start, end = split.show(int(index)), int(records.start[place]), int(records.end[place])
            answer = {"answer": shown["context"][start:end], "probability": float(records.probability[place]), "start": start, "end": end}
            rows.append({"id": shown["id"]} | answer)
        return rows

    def describe(self, records: AnswerRecords, row: int, split: Split) -> dict[str, Any]:
        """The answer that was given and those that are accepted."""
        index = int(records.row[row])
        shown = split.show(index)
        given = shown["context"][int(records.start[row]) : int(records.end[row])]
        answer = {"label": list(shown["answers"]), "prediction": given, "confidence": float(records.probability[row])}
        return {"id": shown["id"], "row": index} | answer | {"note": f"F1 {float(records.f1[row]):.2f}"}

    def majority(self, train: Split, test: Split) -> Baseline | None:
        """Never an answer, where some questions have none."""
        if not self.unanswerable:
            return None
        rows: dict[str, int] = {}
        for row in range(len(test)):
            rows.setdefault(test.show(row)["id"], row)
        hit = np.array([not test.show(row)["answers"] for row in rows.values()], np.float32)
        index, zeros = np.array(list(rows.values()), np.int32), np.zeros(len(rows), np.int32)
        ones = np.ones(len(rows), np.float32)
        records = AnswerRecords(id=index, weight=ones, row=index, start=zeros, end=zeros, probability=ones, exact=hit, f1=hit)
        return Baseline(records.by_id(), "never an answer")


@dataclasses.dataclass(frozen=True)
class Window:
    """What one window says: the score of its best span and of no answer, the log of the sum over all, and the tokens of the span."""

    row: int
    shown: Mapping[str, Any]
    score: float
    none: float
    total: float
    first: int
    last: int


def _once(windows: list[Window]) -> list[Window]:
    """In the order of the split, each there once."""
    ordered = sorted(windows, key=lambda window: window.row)
    again = next((one.row for one, other in itertools.pairwise(ordered) if one.row == other.row), None)
    if again is not None:
        raise DataError(f"example {again} was evaluated several times; every example must count once")
    return ordered


def best_spans(start: np.ndarray, end: np.ndarray, inside: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The span of highest `start[i] + end[j]` with `i <= j < i + longest`, both `inside`, of each row; exactly, not among a few best ends.

    Args:
      start: `[rows length]`.
      end: `[rows length]`.
      inside: bool `[rows length]`.
      longest: tokens of a span, at most.

    Returns:
      Scores, first and last tokens, `[rows]` each; the score is -inf where there is no span. Of equal spans the shortest, then the first, is taken.
    """
    rows, length = start.shape
    first_score, last_score = np.where(inside, start, -np.inf), np.where(inside, end, -np.inf)
    best, first, last = np.full(rows, -np.inf), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for more in range(min(longest, length)):
        scores = first_score[:, : length - more] + last_score[:, more:]
        place = scores.argmax(axis=1)
        here = scores[np.arange(rows), place]
        better = here > best
        best, first, last = np.where(better, here, best), np.where(better, place, first), np.where(better, place + more, last)
    return best, first, last


def normalised(answer: str) -> str:
    """Lower case, without punctuation, articles and repeated spaces, as SQuAD's script has it."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT)).split())


def exact_match(answer: str, accepted: str) -> float:
    """1 where the normalised texts are equal."""
    return float(normalised(answer) == normalised(accepted))


def word_f1(answer: str, accepted: str) -> float:
    """F1 of the normalised texts' words; where one of them is empty, 1 if both are."""
    given, wanted = normalised(answer).split(), normalised(accepted).split()
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((collections.Counter(given) & collections.Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))
