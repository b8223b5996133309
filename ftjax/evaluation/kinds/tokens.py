"""Measures of token classification: entities as seqeval counts them, and words.

Records are per sentence and per word, however a tokenizer cuts words. A word that the model never saw, because its sentence was cut, has no prediction: its
entities are missed, and the word counts as wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32
from scipy import sparse

from ftjax.errors import DataError, did_you_mean
from ftjax.evaluation import entities
from ftjax.evaluation.measures import Baseline, Measures, Parts
from ftjax.evaluation.metric import Metric, Ratio, SumMetric, by_class, ratio
from ftjax.evaluation.records import BAD_LOG_PROBABILITY
from ftjax.evaluation.table import RecordTable
from ftjax.tasks import NO_LABEL

if TYPE_CHECKING:
    from ftjax.data import Split

_ROWS = 512
"""Rows whose fields are asked for at a time."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TokenRecords(RecordTable):
    """Per word: the label and the prediction (-1: none, or no word), the prediction's probability and the label's log probability."""

    label: Int32[np.ndarray, "n words"] = dataclasses.field(metadata={"fill": -1})
    prediction: Int32[np.ndarray, "n words"] = dataclasses.field(metadata={"fill": -1})
    probability: Float32[np.ndarray, "n words"]
    label_log_probability: Float32[np.ndarray, "n words"] = dataclasses.field(metadata={"fill": BAD_LOG_PROBABILITY})

    kind: ClassVar[str] = "token_classification"

    @property
    def correct(self) -> np.ndarray:
        """Bool `[n]`: every word is right."""
        return np.all((self.prediction == self.label) | (self.label < 0), axis=1)

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: mean of -log p(label) over the words."""
        words = self.label >= 0
        return ratio(-np.where(words, self.label_log_probability, 0.0).sum(axis=1, dtype=np.float64), words.sum(axis=1), 0.0)

    def check(self) -> None:
        """Refuse sentences without labels, when none has any."""
        if len(self) and not np.any(self.label[self.weight > 0] >= 0):
            raise DataError(f"{len(self)} examples cannot be measured: no word has a label")


@dataclasses.dataclass(frozen=True)
class EntityMetric(SumMetric):
    """Metrics of (true, found, right) entities of every type; the state begins with the number of examples."""

    classes: tuple[str, ...]
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def contributions(self, records: TokenRecords) -> sparse.csr_array:
        """Three numbers for each type, and a 1 that counts the example."""
        return sparse.csr_array(np.column_stack([np.ones(len(records)), entity_counts(records, self.classes).reshape(len(records), -1)]))

    def sums(self, states: np.ndarray) -> np.ndarray:
        """(true, found, right) of all types together, `[3, m]`."""
        return by_class(states[:, 1:]).sum(axis=2)

    def trials(self, records: TokenRecords) -> int:
        """The true entities."""
        return max(1, int(entity_counts(records, self.classes)[:, :, 0].sum()))


@dataclasses.dataclass(frozen=True)
class EntityF1(EntityMetric):
    """`2 right / (true + found)`, an entity being right where place and type are; seqeval's micro average."""

    name: ClassVar[str] = "entity_f1"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Of all types together."""
        true, found, right = self.sums(states)
        return ratio(2 * right, true + found, 0.0)


@dataclasses.dataclass(frozen=True)
class EntityPrecision(EntityMetric):
    """Share of the found entities that are right."""

    name: ClassVar[str] = "entity_precision"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Of all types together."""
        _, found, right = self.sums(states)
        return ratio(right, found, 0.0)


@dataclasses.dataclass(frozen=True)
class EntityRecall(EntityMetric):
    """Share of the true entities that are found."""

    name: ClassVar[str] = "entity_recall"

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Of all types together."""
        true, _, right = self.sums(states)
        return ratio(right, true, 0.0)


@dataclasses.dataclass(frozen=True)
class TokenAccuracy(Ratio):
    """Share of words whose tag is right; its interval resamples sentences, as words of one are alike."""

    name: ClassVar[str] = "token_accuracy"
    higher_is_better: ClassVar[bool] = True
    lowest: ClassVar[float | None] = 0.0

    def per_example(self, records: TokenRecords) -> tuple[np.ndarray, np.ndarray]:
        """Words, and those that are right."""
        words = records.label >= 0
        return words.sum(axis=1), (words & (records.prediction == records.label)).sum(axis=1)

    def trials(self, records: TokenRecords) -> int:
        """The words."""
        return max(1, int((records.label >= 0).sum()))


@dataclasses.dataclass(frozen=True)
class TokenLogLoss(Ratio):
    """Mean over words of `-log p(tag)`, in nats."""

    name: ClassVar[str] = "log_loss"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: TokenRecords) -> tuple[np.ndarray, np.ndarray]:
        """Words, and the sum over them."""
        words = records.label >= 0
        return words.sum(axis=1), -np.where(words, records.label_log_probability, 0.0).sum(axis=1, dtype=np.float64)


def entity_counts(records: TokenRecords, classes: tuple[str, ...]) -> np.ndarray:
    """True, found and right entities of each type in each sentence, float64 `[n, types, 3]`."""
    tags = entities.read_tags(classes)
    size, words = len(tags.types), records.label.shape[1]
    # Words without a label are judged neither way.
    true = entities.entities(records.label, tags)
    found = entities.entities(np.where(records.label >= 0, records.prediction, -1), tags)
    hit = entities.same(true, found, words, size)
    cells = [side.row * size + side.kind for side in (true, found)] + [(true.row * size + true.kind)[hit]]
    return np.stack([np.bincount(cell, minlength=len(records) * size).reshape(len(records), size) for cell in cells], axis=2).astype(np.float64)


@dataclasses.dataclass(frozen=True)
class TokenMeasures(Measures):
    """A tag per word."""

    classes: tuple[str, ...]

    table: ClassVar[type[RecordTable]] = TokenRecords
    majority_name: ClassVar[str] = "the most frequent tag"

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """F1 of entities first, or the accuracy of words where tags mark no entities."""
        of_words = (TokenAccuracy(), TokenLogLoss())
        if not entities.marks_entities(self.classes):
            return of_words
        return (EntityF1(self.classes), EntityPrecision(self.classes), EntityRecall(self.classes), *of_words)

    def records(self, outputs: Float[Array, "batch length classes"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Numbers of every token, `[batch length]`; `gather` keeps the first pieces of words. A token with outputs that are not finite has no prediction."""
        outputs = outputs.astype(jnp.float32)
        finite = jnp.all(jnp.isfinite(outputs), axis=2)
        log_probability = jax.nn.log_softmax(jnp.where(finite[:, :, None], outputs, 0.0))
        label = batch["token_label"].astype(jnp.int32)
        known = (label >= 0) & (label < outputs.shape[2])
        own = jnp.take_along_axis(log_probability, jnp.where(known, label, 0)[:, :, None], axis=2)[:, :, 0]
        return {
            "id": batch["id"].astype(jnp.int32),
            "weight": batch["weight"].astype(jnp.float32),
            "word": batch["word"].astype(jnp.int32),
            "label": jnp.where(known, label, -1),
            "prediction": jnp.where(finite, jnp.argmax(log_probability, axis=2), -1).astype(jnp.int32),
            "probability": jnp.where(finite, jnp.exp(log_probability.max(axis=2)), 0.0),
            "label_log_probability": jnp.where(finite, jnp.maximum(own, BAD_LOG_PROBABILITY), BAD_LOG_PROBABILITY),
        }

    def gather(self, parts: Parts, split: Split) -> TokenRecords:
        """Words instead of tokens; the labels of words that the model never saw are those that the split shows."""
        found = TokenRecords.concatenate([_by_word(part) for part in parts]).drop_padding().by_id()
        shown = [split.show(int(row)) for row in found.id]
        if not all("tags" in row for row in shown):
            return found
        tags = [row["tags"] for row in shown]
        number = {name: label for label, name in enumerate(self.classes)}
        words = max(found.label.shape[1], *map(len, tags), 1)
        shape = ((0, 0), (0, words - found.label.shape[1]))
        label = np.full((len(found), words), -1, np.int32)
        for row, given in enumerate(tags):
            label[row, : len(given)] = [self._number(number, tag, split.ids[found.id[row]]) for tag in given]
        return dataclasses.replace(
            found,
            label=label,
            prediction=np.pad(found.prediction, shape, constant_values=-1),
            probability=np.pad(found.probability, shape),
            label_log_probability=np.pad(found.label_log_probability, shape, constant_values=np.float32(BAD_LOG_PROBABILITY)),
        )

    def _number(self, number: Mapping[str, int], tag: str, where: str) -> int:
        if tag not in number:
            raise DataError(f"example {where} has tag {tag!r}, which the model does not know; {did_you_mean(tag, number)}")
        return number[tag]

    def rows(self, records: TokenRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "words", "tags", "entities"}`, and every word's probability on request; the tag of a word that was cut off is None.

        An entity is `{"type", "start", "end", "text", "probability"}`: words `start` to `end - 1`, and the smallest probability of their tags.
        """
        found = entities.entities(records.prediction, entities.read_tags(self.classes)) if entities.marks_entities(self.classes) else None
        rows = []
        for place, index in enumerate(records.id):
            words = split.show(int(index))["words"]
            said = [*records.prediction[place, : len(words)], *[-1] * (len(words) - records.prediction.shape[1])]
            row = {"id": split.ids[index], "words": list(words), "tags": [self.classes[tag] if tag >= 0 else None for tag in said]}
            if found is not None:
                row["entities"] = self._entities(found, place, words, records.probability[place])
            if probabilities:
                row["probabilities"] = [float(share) for share in records.probability[place, : len(words)]]
            rows.append(row)
        return rows

    def _entities(self, found: entities.Found, place: int, words: list[str], shares: np.ndarray) -> list[dict[str, Any]]:
        types = entities.read_tags(self.classes).types
        spans = [(int(found.start[k]), int(found.stop[k]), types[found.kind[k]]) for k in range(*np.searchsorted(found.row, [place, place + 1]))]
        return [
            {"type": kind, "start": start, "end": stop, "text": " ".join(words[start:stop]), "probability": float(shares[start:stop].min())}
            for start, stop, kind in spans
        ]

    def tables(self, records: TokenRecords) -> dict[str, Any]:
        """Counts of every type of entity, or of every tag where tags mark no entities."""
        if not entities.marks_entities(self.classes):
            return {"labels": self._per_tag(records)}
        counts = entity_counts(records, self.classes).sum(axis=0).astype(int).tolist()
        types = entities.read_tags(self.classes).types
        return {"entities": [dict(zip(("name", "support", "predicted", "right"), (name, *numbers))) for name, numbers in zip(types, counts)]}

    def _per_tag(self, records: TokenRecords) -> list[dict[str, Any]]:
        words = records.label >= 0
        said = np.where(words, records.prediction, -1)
        sides = (records.label, said, np.where(said == records.label, records.label, -1))
        counts = [np.bincount(side[side >= 0], minlength=len(self.classes)).tolist() for side in sides]
        return [dict(zip(("name", "support", "predicted", "right"), row)) for row in zip(self.classes, *counts)]

    def describe(self, records: TokenRecords, row: int, split: Split) -> dict[str, Any]:
        """The tags of every word; a word without a prediction is shown as O, or as ? where tags mark no entities."""
        index = int(records.id[row])
        count = int((records.label[row] >= 0).sum())
        none = "O" if entities.marks_entities(self.classes) else "?"
        label, prediction = ([self.classes[tag] if tag >= 0 else none for tag in side[row, :count]] for side in (records.label, records.prediction))
        return {"id": split.ids[index], "row": index, "label": label, "prediction": prediction}

    def majority(self, train: Split, test: Split) -> Baseline:
        """Always the most frequent tag of training, with the tags' frequencies as probabilities."""
        counts = np.ones(len(self.classes))
        for rows in _chunks(train):
            tags = train.fields(rows)["token_label"]
            counts += np.bincount(tags[tags != NO_LABEL], minlength=len(self.classes))
        scores, parts = jnp.asarray(np.log(counts / counts.sum()), jnp.float32), []
        for rows in _chunks(test):
            batch = test.fields(rows) | {"id": rows, "weight": np.ones(len(rows), np.float32)}
            outputs = jnp.broadcast_to(scores, (*batch["token_label"].shape, len(counts)))
            parts.append(
                {name: np.asarray(values) for name, values in self.records(outputs, {key: jnp.asarray(value) for key, value in batch.items()}).items()}
            )
        return Baseline(self.gather(parts, test), f"always the most frequent tag of training, {self.classes[int(counts.argmax())]!r}")


def _chunks(split: Split) -> list[np.ndarray]:
    return [np.arange(start, min(start + _ROWS, len(split))) for start in range(0, len(split), _ROWS)]


def _by_word(part: Mapping[str, np.ndarray]) -> TokenRecords:
    """The first piece of every word, in the place of the word."""
    word = part["word"]
    first = np.concatenate([np.ones((len(word), 1), bool), word[:, 1:] != word[:, :-1]], axis=1) & (word >= 0) & (part["weight"] > 0)[:, None]
    rows, columns = np.nonzero(first)
    places = word[rows, columns]
    shape = (len(word), int(places.max(initial=-1)) + 1)
    found = {}
    for name, fill in (("label", -1), ("prediction", -1), ("probability", 0.0), ("label_log_probability", BAD_LOG_PROBABILITY)):
        found[name] = np.full(shape, fill, part[name].dtype)
        found[name][rows, places] = part[name][rows, columns]
    return TokenRecords(id=part["id"], weight=part["weight"], **found)
