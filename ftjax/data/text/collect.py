"""The story of the texts: files -> columns -> examples -> clean -> split -> sample -> tokens -> buckets, and the report of all that happened (data.json)."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data.clean import clean
from ftjax.data.dataset import SPLITS, Dataset, Members, Rows
from ftjax.data.divide import Cleaned, divide, split_facts
from ftjax.data.mixture import Mixture, draw_sets
from ftjax.data.near import describe, drop_near
from ftjax.data.near_texts import find_texts
from ftjax.data.order import fingerprint
from ftjax.data.report import balance, per_class, warnings_of
from ftjax.data.sample import draw_by_class, sample
from ftjax.data.text.bucketed import choose_buckets
from ftjax.data.text.examples import Examples
from ftjax.data.text.kept import sides, without_texts
from ftjax.data.text.mixture import read_mixed
from ftjax.data.text.splits import connected, encode_rows, normalised
from ftjax.data.text.tags import marks_entities
from ftjax.data.text.token_report import token_report, token_warnings
from ftjax.data.text.tokenizer import Tokenizer
from ftjax.data.validate import check_rows, check_settings, check_splits
from ftjax.errors import ConfigError, DataError, did_you_mean

_SOURCES = {"token_classification": ("conll", "table"), "question_answering": ("squad",), "language_modeling": ("table", "plain_text")}
_WRITTEN = ("language_modeling", "preference")
"""Tasks whose rows stay together where their prompt is the same, unless most rows share one."""
_TOGETHER = {"question_answering": "questions on one context", "sentence_embedding": "pairs that share a text"}
"""Rows of a task that no split tears apart."""
_ALONE = 20
"""Rows of the smallest stratum that is split by itself, where strata are not classes."""
_BINS = 5
"""Strata of a regression's targets."""


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Texts that were read, before anything is cleaned, split or cut into tokens.

    Attributes:
      examples: the rows that can be used.
      classes: names of classes, labels or tags.
      rows: the examples as rows of one class each.
      labelled: the same, with the class by which copies contradict each other.
      contents: equal for copies.
      contexts: equal for rows that no split tears apart.
      left_out: what `data.drop` took away.
      mixture: the data sets, where there are several.
    """

    examples: Examples
    classes: tuple[str, ...]
    rows: Rows
    labelled: Rows
    contents: list[bytes]
    contexts: list[bytes]
    left_out: dict[str, Any]
    mixture: Mixture | None = None

    def counts(self, members: Int[np.ndarray, " rows"], task: str) -> dict[str, int]:
        """How often each class, label or tag occurs in these rows; nothing where there are none."""
        return _counts(self.rows, self.examples, members, task, self.classes)

    def given(self) -> Members:
        """Rows by the split of their file, in the order of the file."""
        return _given(self.examples)


def read_found(data: DataConfig, text: TextConfig, task: TaskConfig) -> Found:
    """Read the files; no tokenizer is needed.

    Raises:
      ConfigError: a setting is out of range or does not fit the task.
      DataError: the files cannot be read or hold no such columns.
    """
    _check(data, text, task)
    examples, mixture = read_mixed(data, text, task.name)
    examples, left_out = without_texts(examples, data.drop)
    classes = _classes(examples, task.name)
    rows = _rows(examples, classes, task.name)
    return Found(examples, classes, rows, _labelled(rows, examples, task.name), *_hashes(examples, task.name), left_out, mixture)


def collect_text(data: DataConfig, text: TextConfig, task: TaskConfig, tokenizer: Tokenizer, max_length: int, seed: int) -> Dataset:
    """Read, check, clean, split, sample and encode a data set of texts.

    Args:
      data: where the files are and how their rows are treated.
      text: columns, format and buckets.
      task: what is predicted.
      tokenizer: the model's.
      max_length: tokens of an example, special ones included.
      seed: decides splits and sampling, together with the ids.

    Raises:
      ConfigError: a setting is out of range or does not fit the task.
      DataError: the data cannot be used; the message says what, where and what would do.
    """
    found = read_found(data, text, task)
    examples, classes, rows = found.examples, found.classes, found.rows
    check_rows(rows) if task.name == "classification" else check_filled(examples)
    divided = divide_found(found, data, task, seed)
    members = divided.members
    encoded = {name: encode_rows(examples, members[name], task.name, classes, tokenizer, max_length=max_length, stride=text.stride) for name in SPLITS}
    buckets = choose_buckets(np.concatenate([part.lengths for part in encoded.values()]), text.buckets)
    report = {
        **facts(data, examples, classes, found.contents, seed, _cutting(tokenizer, max_length)),
        **divided.report(found),
        **(balance(rows, members["train"]) if task.name == "classification" else {}),
        "tokens": token_report(encoded, buckets, tokenizer, max_length),
    }
    misfit = tokenizer.misfit([_plain(examples, row) for row in members["train"]])
    warnings = [*warnings_of(report, rows.noun), *divided.warnings, *examples.warnings, *token_warnings(report["tokens"], report["splits"], misfit, max_length)]
    splits = {name: part.split(buckets, tokenizer.pad) for name, part in encoded.items()}
    return draw_sets(draw_by_class(Dataset(splits, classes, {**report, "warnings": warnings}), data.sampling), found.mixture)


@dataclasses.dataclass(frozen=True, eq=False)
class Divided:
    """Rows cleaned, split and sampled.

    Attributes:
      members: rows of each split.
      origins: where each split comes from, in words.
      sections: parts of data.json: copies, near copies, sampling and the split.
      counts: how often each class, label or tag occurs in each split.
      warnings: of the split.
    """

    members: Members
    origins: Mapping[str, str]
    sections: Mapping[str, Any]
    counts: Mapping[str, dict[str, int]]
    warnings: tuple[str, ...]

    def report(self, found: Found) -> dict[str, Any]:
        """What data.json says of it."""
        splits = {name: {"rows": len(self.members[name]), "per_class": self.counts[name], "origin": self.origins[name]} for name in SPLITS}
        first = {name: self.sections[name] for name in ("duplicates", "near_duplicates")}
        return {"splits": splits, **first, "drop": found.left_out, **{name: part for name, part in self.sections.items() if name not in first}}


def divide_found(found: Found, data: DataConfig, task: TaskConfig, seed: int) -> Divided:
    """Clean, split and sample what was read.

    Raises:
      DataError: copies that the configuration refuses, or too few rows.
    """
    examples, rows, labelled = found.examples, found.rows, found.labelled
    near = None if data.near_duplicates == "off" else find_texts(sides(examples), found.contents, data.near_text_similarity)

    def cleaned(members: Members) -> Cleaned:
        kept, duplicates = clean(labelled, found.contents, members, data.duplicates)
        kept, together, alike = drop_near(near, kept, found.contexts, data.near_duplicates)
        return kept, together, (duplicates, alike)

    strata = _strata(_in_contexts(rows, found.contexts, data, task.name), examples, task.name, found.mixture)
    members, origins, (duplicates, alike) = divide(strata, _given(examples), cleaned, data, seed, found.mixture)
    check_splits(rows, members)
    about_split, of_split = split_facts(strata, members, data)
    members, sampling = sample(strata, members, data, seed)
    names = [labelled.classes[label] for label in labelled.labels]
    sections = {
        "duplicates": duplicates,
        "near_duplicates": describe(near, labelled, members, names, data.near_duplicates, alike),
        "sampling": sampling,
        **about_split,
    }
    return Divided(members, origins, sections, {name: found.counts(members[name], task.name) for name in SPLITS}, tuple(of_split))


def _check(data: DataConfig, text: TextConfig, task: TaskConfig) -> None:
    """Settings that types alone cannot rule out.

    Raises:
      ConfigError: one of them.
    """
    check_settings(data)
    allowed = _SOURCES.get(task.name, ("table",))
    if data.source not in allowed:
        raise ConfigError(f"data.source={data.source!r} does not go with task.name={task.name!r}: {did_you_mean(data.source, allowed)}")
    if text.buckets < 1:
        raise ConfigError(f"text.buckets={text.buckets}: allowed is 1 or more")
    of_classes = {"labels_per_class": data.labels_per_class, "max_per_class": data.max_per_class, "sampling": data.sampling}
    for key, value in of_classes.items():
        if task.name != "classification" and value not in (None, "natural"):
            shown = repr(value) if key == "sampling" else value
            raise ConfigError(f"data.{key}={shown}: only classification has one class for each row, {task.name} has not; leave it open")
    if task.name in _TOGETHER and data.mixture:
        raise ConfigError(f"data.mixture: {_TOGETHER[task.name]} stay together, which is not looked after across data sets; leave it open")
    if task.name in _TOGETHER and data.split in ("hash", "time") and (task.name, data.split) != ("question_answering", "hash"):
        raise ConfigError(f"data.split={data.split!r}: {_TOGETHER[task.name]} stay together, which it cannot promise; allowed: 'stratified', 'group'")


def check_filled(examples: Examples) -> None:
    """There are rows.

    Raises:
      DataError: there are none.
    """
    if not len(examples):
        raise DataError(f"{examples.where} holds no texts")


def _classes(examples: Examples, task: str) -> tuple[str, ...]:
    """Names of the classes, labels or tags: numbers in their order, names in that of the alphabet, tags with O first.

    Raises:
      DataError: there are too many for a label, or too few.
    """
    if task == "classification":
        found = set(examples.labels)
        if len(found) > 50 and 2 * len(found) > len(examples):
            what = f"the label (column {examples.facts['columns']['label']['column']!r}) has {len(found)} values in {len(examples)} rows"
            raise DataError(f"{examples.where}: {what}; is it another column, or task.name='regression'?")
        return tuple(sorted(found, key=_order))
    if task == "multi_label":
        found = {name for names in examples.labels for name in names}
        if len(found) < 2:
            hint = "say text.label_separator" if len(found) == 1 else "say text.label"
            raise DataError(f"{examples.where}: multi_label needs at least two labels; found {', '.join(map(repr, sorted(found))) or 'none'}: {hint}")
        return tuple(sorted(found, key=_order))
    if task == "token_classification":
        found = {tag for tags in examples.labels for tag in tags}
        if found <= {"O"}:
            raise DataError(f"{examples.where}: every tag is 'O': there is nothing to find")
        if not marks_entities(found):
            return tuple(sorted(found))
        kinds = sorted({tag[2:] for tag in found if tag != "O"})
        return ("O", *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))
    return ()


def _order(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.lstrip("-").isdecimal() and name.isascii() and len(name) < 19 else (1, 0, name)


def _rows(examples: Examples, classes: tuple[str, ...], task: str) -> Rows:
    """The examples as rows with one class each; where they have none, all are of one."""
    numbers = {name: label for label, name in enumerate(classes)}
    labels = np.array([numbers[label] for label in examples.labels] if task == "classification" else [0] * len(examples), np.int32)
    named = classes if task == "classification" else ("all",)
    groups, moments = tuple(examples.groups) or None, tuple(examples.moments) or None
    return Rows(examples.where, tuple(examples.ids), labels, tuple(examples.splits), named, _unread, noun="texts", groups=groups, moments=moments)


def _in_contexts(rows: Rows, contexts: Sequence[bytes], data: DataConfig, task: str) -> Rows:
    """Where a hash decides, questions go where their context goes."""
    if task != "question_answering" or data.split != "hash":
        return rows
    return dataclasses.replace(rows, groups=tuple(context.hex() for context in contexts))


def _unread(row: int) -> bytes:
    raise NotImplementedError("texts are read already")


def _relabelled(rows: Rows, labels: Sequence[str]) -> Rows:
    names = sorted(set(labels))
    numbers = {name: label for label, name in enumerate(names)}
    return dataclasses.replace(rows, labels=np.array([numbers[label] for label in labels], np.int32), classes=tuple(names))


def _labelled(rows: Rows, examples: Examples, task: str) -> Rows:
    """Rows whose class says whether copies contradict each other: two scores of one text may differ, two classes may not."""
    if task == "multi_label":
        return _relabelled(rows, [", ".join(names) for names in examples.labels])
    if task == "token_classification":
        return _relabelled(rows, [" ".join(tags) for tags in examples.labels])
    return rows


def _strata(rows: Rows, examples: Examples, task: str, mixture: Mixture | None) -> Rows:
    """Rows whose class is what a split keeps in proportion; only the rows of the first data set, which is split, say what classes there are."""
    first = [mixture is None or not mixture.set_of(name) for name in examples.ids]
    if task == "regression":
        values = np.array(examples.labels)
        own = values[first]
        edges = np.unique(np.quantile(own, np.linspace(0, 1, min(_BINS, max(1, len(own) // _ALONE)) + 1)[1:-1]))
        return _merged(rows, [f"target {number}" for number in np.searchsorted(edges, values, side="right")], examples, first)
    if task == "multi_label":
        counts = collections.Counter(name for names, here in zip(examples.labels, first) if here for name in names)
        return _merged(rows, [min(names, key=lambda name: counts[name]) if names else "none" for names in examples.labels], examples, first)
    if task == "token_classification":
        return _merged(rows, ["entities" if set(tags) - {"O"} else "none" for tags in examples.labels], examples, first)
    return rows


def _merged(rows: Rows, strata: Sequence[str], examples: Examples, first: Sequence[bool]) -> Rows:
    """Strata of training rows, the small ones joined to the largest."""
    counts = collections.Counter(name for name, split, here in zip(strata, examples.splits, first) if split == "train" and here)
    largest = max(counts, key=lambda name: counts[name], default="all")
    return _relabelled(rows, [name if counts[name] >= _ALONE else largest for name in strata])


def _hashes(examples: Examples, task: str) -> tuple[list[bytes], list[bytes]]:
    """Of each row's content, equal for copies; and of what may not be torn apart by a split: the context of questions, the positive of pairs."""
    pairs = examples.pairs or [None] * len(examples)
    contents = [_hash(_joined(text), pair) for text, pair in zip(examples.texts, pairs)]
    if task == "sentence_embedding":
        return contents, [_hash(str(group), None) for group in connected(examples.texts, examples.pairs or [])]
    if task in _WRITTEN:
        prompts = [_hash(content.prompt or content.text, None) for content in examples.labels]
        return contents, prompts if 2 * len(set(prompts)) > len(prompts) else contents
    if task == "question_answering":
        return contents, [_hash("", pair) for pair in pairs]
    return contents, contents


def _hash(text: str, pair: str | None) -> bytes:
    content = normalised(text) if pair is None else f"{normalised(text)}\0{normalised(pair)}"
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else " ".join(text)


def _plain(examples: Examples, row: int) -> str:
    text = _joined(examples.texts[row])
    return text if examples.pairs is None else f"{text} {examples.pairs[row]}"


def _given(examples: Examples) -> Members:
    """Rows by the split of their file, in the order of the file."""
    splits = np.array(examples.splits, object)
    return {split: np.flatnonzero(splits == split) for split in SPLITS}


def _counts(rows: Rows, examples: Examples, members: Int[np.ndarray, " rows"], task: str, classes: Sequence[str]) -> dict[str, int]:
    """How often each class, label or tag occurs in a split; nothing where there are none."""
    if task == "classification":
        return per_class(rows, members)
    if task not in ("multi_label", "token_classification"):
        return {}
    found = collections.Counter(name for row in members for name in examples.labels[row])
    return {name: found[name] for name in classes}


def facts(data: DataConfig, examples: Examples, classes: Sequence[str], contents: Sequence[bytes], seed: int, cutting: str) -> dict[str, Any]:
    """What was there before anything was changed. The fingerprint covers every usable row (its id, its label and its texts) and how texts are cut."""
    rows = ((name, str(label), digest) for name, label, digest in zip(examples.ids, examples.labels, contents))
    content = itertools.chain(rows, [("", cutting, b"")])
    return {
        "source": f"{data.source}: {examples.where}",
        "details": {},
        "seed": seed,
        "fingerprint": fingerprint(content),
        "classes": list(classes),
        "rejected": [dict(entry) for entry in examples.rejected],
        "ignored": [],
        **examples.facts,
    }


def _cutting(tokenizer: Tokenizer, max_length: int) -> str:
    """What tells one way of cutting texts from another."""
    return f"{tokenizer.digest} {max_length}" + ("" if tokenizer.truncation == "right" else f" {tokenizer.truncation}")
