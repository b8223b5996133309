"""The story of the texts that a model learns to write: files -> rows -> clean -> split -> tokens -> ledger -> packed rows, and the report (data.json)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data.dataset import SPLITS, Dataset, Split
from ftjax.data.language.documents import Documents, RowFields
from ftjax.data.language.encoding import Encoder
from ftjax.data.language.ledger import Kept, check_kept, entry, keep, ledger_warnings, padding_share
from ftjax.data.language.packing import pack
from ftjax.data.mixture import draw_sets
from ftjax.data.report import warnings_of
from ftjax.data.text.bucketed import choose_buckets
from ftjax.data.text.collect import Found, check_filled, divide_found, facts, read_found
from ftjax.errors import ConfigError


def collect_language(data: DataConfig, text: TextConfig, task: TaskConfig, encoder: Encoder, seed: int) -> Dataset:
    """Read, check, clean, split, encode and pack.

    Training rows of language_modeling are packed (`text.packing`), those that are tested never are: every example counts once, by itself.

    Args:
      data: where the files are and how their rows are treated.
      text: columns, packing and buckets.
      task: language_modeling or preference.
      encoder: cuts into tokens.
      seed: decides splits, sampling and packing, together with the ids.

    Raises:
      ConfigError: a setting is out of range or does not fit the task.
      DataError: the data cannot be used, or rows hold nothing to learn; the message says what, where and what would do.
    """
    packing = text.packing and task.name == "language_modeling"
    if packing and data.mixture:
        raise ConfigError("data.mixture draws rows and text.packing joins them; set text.packing=False")
    found = read_found(data, text, task)
    check_filled(found.examples)
    divided = divide_found(found, data, task, seed)
    kept = {name: _kept(found, divided.members[name], encoder, paired=task.name == "preference") for name in SPLITS}
    check_kept(found.examples.where, kept, data.bad_files)
    splits = {name: _split(found, kept[name], divided.members[name], encoder, text.buckets, seed if packing and name == "train" else None) for name in SPLITS}
    ledger = {
        name: entry(kept[name], len(divided.members[name]), len(split), padding_share(np.asarray(split.lengths), split.buckets))
        for name, split in splits.items()
    }
    cutting = f"{encoder.tokenizer.digest} {encoder.max_length} {encoder.template.source} {encoder.learn}"
    plain = found.examples.facts["form"] == "passage"
    report: dict[str, Any] = {
        **facts(data, found.examples, (), found.contents, seed, cutting),
        **divided.report(found),
        "template": None if plain else encoder.template.name,
        "learn": "all" if plain else encoder.learn,
        "packing": packing,
        "ledger": ledger,
        "tokens": _tokens(splits, encoder.max_length, ledger),
    }
    warnings = [*warnings_of(report, "texts"), *divided.warnings, *found.examples.warnings, *_shared_prompts(found, divided.members)]
    report["rejected"] = [*report["rejected"], *(dict(dropped) for part in kept.values() for dropped in part.dropped)]
    return draw_sets(Dataset(splits, (), report | {"warnings": [*warnings, *ledger_warnings(ledger, encoder.max_length)]}), found.mixture)


def labelled_language(data: DataConfig, text: TextConfig, task: TaskConfig, encoder: Encoder) -> Split:
    """Every row that can be read, as one split that is measured: nothing is cleaned, split or packed.

    Raises:
      DataError: there are none, or some hold nothing to learn.
    """
    found = read_found(data, text, task)
    check_filled(found.examples)
    rows = np.arange(len(found.examples))
    kept = _kept(found, rows, encoder, paired=task.name == "preference")
    check_kept(found.examples.where, {"all": kept}, data.bad_files)
    rejected = (*found.examples.rejected, *kept.dropped)
    return dataclasses.replace(_split(found, kept, rows, encoder, text.buckets, None), rejected=tuple(rejected))


def _kept(found: Found, members: np.ndarray, encoder: Encoder, *, paired: bool) -> Kept:
    contents = [found.examples.labels[row] for row in members]
    return keep([found.examples.ids[row] for row in members], encoder.pieces(contents), encoder.max_length, paired=paired)


def _split(found: Found, kept: Kept, members: np.ndarray, encoder: Encoder, buckets: int, packed: int | None) -> Split:
    """Rows of one document each, or with a seed rows that hold as many as fit."""
    documents = Documents.of(kept.pieces)
    second = Documents.of(kept.seconds) if kept.seconds else None
    if packed is None:
        rows = [np.array([document]) for document in range(len(kept.names))]
        chosen = choose_buckets(RowFields(documents, rows, (), second).lengths, buckets)
    else:
        rows = pack(documents.lengths, kept.names, encoder.max_length, packed)
        chosen = choose_buckets(RowFields(documents, rows, ()).lengths, 1)
    fields = RowFields(documents, rows, chosen, second, np.array(kept.origins) if packed is None else None)

    def show(row: int) -> dict[str, Any]:
        return found.examples.labels[members[kept.origins[rows[row][0]]]].shown() | ({"documents": len(rows[row])} if len(rows[row]) > 1 else {})

    ids = tuple(" + ".join(kept.names[document] for document in row) for row in rows)
    return Split(ids, np.zeros(len(rows), np.int32), fields, show, lengths=fields.lengths, buckets=chosen)


def _tokens(splits: dict[str, Split], max_length: int, ledger: dict[str, Any]) -> dict[str, Any]:
    """How long the rows are, as other texts' reports say it."""
    lengths = {name: np.asarray(split.lengths) for name, split in splits.items()}
    longest = max(int(part.max()) for part in lengths.values())
    width = max(1, -(-longest // 32))
    edges = np.arange(0, longest + width + 1, width)
    return {
        "histogram": {"edges": edges.tolist(), "counts": {name: np.histogram(part, edges)[0].tolist() for name, part in lengths.items()}},
        "buckets": list(splits["train"].buckets),
        "max_length": max_length,
        "inputs": {name: len(part) for name, part in lengths.items()},
        "truncated": {name: ledger[name]["truncated"] for name in splits},
        "unknown_share": dict.fromkeys(splits, 0.0),
        "median": {name: float(np.median(part)) for name, part in lengths.items()},
        "longest": {name: int(part.max()) for name, part in lengths.items()},
        "padding_share": ledger["train"]["padding_share"],
    }


def _shared_prompts(found: Found, members: dict[str, np.ndarray]) -> list[str]:
    """Prompts of training that are also tested, with other answers: copies as a whole are found elsewhere."""
    prompts = {name: {found.contexts[row] for row in members[name]} for name in SPLITS}
    shared = {name: len(prompts[name] & prompts["train"]) for name in ("validation", "test")}
    return [f"{count} prompts of {name} are also prompts of training" for name, count in shared.items() if count]
