"""Texts without labels, for prediction: every row of the file comes out again, in its order, cut into tokens exactly as in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftjax.config import TextConfig
from ftjax.data.dataset import Split
from ftjax.data.sources.paths import existing_path
from ftjax.data.text import conll
from ftjax.data.text.bucketed import choose_buckets
from ftjax.data.text.columns import Binding, bind
from ftjax.data.text.examples import Examples
from ftjax.data.text.preprocessing import TextPreprocessing
from ftjax.data.text.splits import encode_rows
from ftjax.data.text.squad import read_squad
from ftjax.data.text.table import Table, as_text, read_table
from ftjax.errors import DataError

_CONLL = (".conll", ".conll2003", ".iob", ".iob2", ".bio")


def read_texts(path: str | Path, preprocessing: TextPreprocessing, text: TextConfig | None = None) -> tuple[list[dict[str, Any]], Split]:
    """Every row of a file, none left out: an empty text is an input like any other.

    The columns are those that `text` names, else those of the training data, else they are guessed. token_classification takes CoNLL files (with or without
    tags) and tables whose texts are lists of words or are cut at white space; question_answering takes SQuAD's JSON, and its split has one row for each window.

    Args:
      path: of a table, one text a line, CoNLL, or SQuAD JSON.
      preprocessing: of the model.
      text: columns, format, delimiter, header and encoding, where they are not to be found out.

    Returns:
      The rows as they were read (column -> value), and a split with labels -1, whose ids are those of an id column or else the rows' numbers from 1.

    Raises:
      DataError: the file cannot be read, or has no such column; or a row is not in its form: it is named.
    """
    config = text or TextConfig()
    file = existing_path(str(path), "", "a file of texts", "input")
    table = _read(file, config, preprocessing.task)
    if table.rejected:
        shown = "\n".join(f"  line {line}: {why}" for line, why in table.rejected[:20])
        raise DataError(f"{file}: {len(table.rejected)} rows are not in the table's form, and every row must come out again:\n{shown}")
    if not table.rows:
        raise DataError(f"{file} holds no rows")
    binding = _bind(table, config, preprocessing)
    examples = _examples(table, binding, preprocessing.task)
    everything = np.arange(len(examples))
    encoded = encode_rows(
        examples, everything, preprocessing.task, (), preprocessing.tokenizer, max_length=preprocessing.max_length, stride=preprocessing.stride
    )
    buckets = choose_buckets(encoded.lengths, config.buckets)
    return [dict(zip(table.columns, row)) for row in table.rows], encoded.split(buckets, preprocessing.tokenizer.pad)


def _read(file: Path, config: TextConfig, task: str) -> Table:
    if task == "question_answering":
        return read_squad(file, config, answered=False)
    if task == "token_classification" and file.suffix.lower() in _CONLL:
        return conll.read_conll(file, config, tagged=False)
    return read_table(file, config)


def _bind(table: Table, config: TextConfig, preprocessing: TextPreprocessing) -> Binding:
    if preprocessing.task == "question_answering":
        return Binding("question", "context", (), "id", (), {})
    if table.columns == ("words", "tags"):
        return Binding("words", None, (), None, (), {})
    return bind(table, config, preprocessing.task, labelled=False, like=preprocessing.columns)


def _examples(table: Table, binding: Binding, task: str) -> Examples:
    """The rows as examples; a missing text is an empty one."""
    texts: Sequence[Any] = [_cell(value, table, row) for row, value in enumerate(table.column(binding.text))]
    pairs = None if binding.pair is None else [_cell(value, table, row) for row, value in enumerate(table.column(binding.pair))]
    if task == "token_classification":
        texts = [text if isinstance(text, list) else text.split() for text in texts]
    ids = list(map(str, range(1, len(texts) + 1))) if binding.id is None else _names(table.column(binding.id))
    return Examples(table.where, ids, ["test"] * len(texts), texts, pairs, [None] * len(texts), [], {}, [])


def _names(values: Sequence[Any]) -> list[str]:
    """An id column's values; numbers where one is missing or stands twice."""
    names = [str(value) for value in values]
    return names if None not in values and len(set(names)) == len(names) else list(map(str, range(1, len(names) + 1)))


def _cell(value: Any, table: Table, row: int) -> Any:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    try:
        return as_text(value) or ""
    except DataError as error:
        raise DataError(f"{table.where}: line {table.lines[row]}: its text cannot be read: {error}") from None
