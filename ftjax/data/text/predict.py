"""Texts without labels, for prediction: every row of the file comes out again, in its order, cut into tokens exactly as in training."""

from __future__ import annotations

import dataclasses
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
from ftjax.errors import DataError, did_you_mean

_CONLL = (".conll", ".conll2003", ".iob", ".iob2", ".bio")


def read_texts(path: str | Path, preprocessing: TextPreprocessing, text: TextConfig | None = None) -> tuple[list[dict[str, Any]], Split]:
    """Every row of a file, none left out: an empty text is an input like any other.

    The columns are those that `text` names, else those of the training data; a table that lacks them is refused (`check_columns`). token_classification
    takes CoNLL files (with or without tags) and tables whose texts are lists of words or are cut at white space; question_answering takes SQuAD's JSON,
    and its split has one row for each window.

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
    table = _read(file, config, preprocessing)
    if table.rejected:
        shown = "\n".join(f"  line {line}: {why}" for line, why in table.rejected[:20])
        raise DataError(f"{file}: {len(table.rejected)} rows are not in the table's form, and every row must come out again:\n{shown}")
    if not table.rows:
        raise DataError(f"{file} holds no rows")
    binding = _bind(table, config, preprocessing)
    texts, pairs = _cells(table, binding.text), None if binding.pair is None else _cells(table, binding.pair)
    ids = _numbered(len(texts)) if binding.id is None else _names(table.column(binding.id))
    return [dict(zip(table.columns, row)) for row in table.rows], _split(table.where, ids, texts, pairs, preprocessing, config.buckets)


def texts_split(texts: Sequence[Any], preprocessing: TextPreprocessing) -> Split:
    """A split without labels of texts in memory, named by their numbers from 0.

    Args:
      texts: strings; pairs `(text, second text)`, or `(question, context)`; for token_classification strings or lists of words.
      preprocessing: of the model.

    Raises:
      DataError: there are none, or one is of another kind than the first or than the model reads: it is named.
    """
    if not len(texts):
        raise DataError("there are no texts to predict")
    wanted = _kind(texts[0], preprocessing)
    for number, example in enumerate(texts):
        if _kind(example, preprocessing) != wanted:
            raise DataError(f"example {number} is {_shape(example)}, the first one {_shape(texts[0])}; give all in one form")
    _check_kind(wanted, texts[0], preprocessing)
    first, second = ([pair[0] for pair in texts], [pair[1] for pair in texts]) if wanted == "pair" else (list(texts), None)
    return _split("the texts", [str(number) for number in range(len(texts))], first, second, preprocessing, TextConfig().buckets)


def _kind(example: Any, preprocessing: TextPreprocessing) -> str:
    if isinstance(example, str):
        return "text"
    if not isinstance(example, (list, tuple)) or not all(isinstance(part, str) for part in example):
        return "other"
    return "words" if preprocessing.task == "token_classification" else "pair" if len(example) == 2 else "other"


def _check_kind(kind: str, example: Any, preprocessing: TextPreprocessing) -> None:
    paired = preprocessing.task in ("question_answering", "sentence_embedding") or (preprocessing.columns is not None and preprocessing.columns[1] is not None)
    if preprocessing.task == "token_classification":
        allowed = {"text": "texts", "words": "lists of words"}
    elif preprocessing.columns is None and not paired:
        allowed = {"text": "texts", "pair": "pairs of texts"}
    else:
        allowed = {"pair": "pairs of texts"} if paired else {"text": "texts"}
        allowed |= {"text": "texts"} if preprocessing.task == "sentence_embedding" else {}
    if kind not in allowed:
        raise DataError(f"example 0 is {_shape(example)}; the model reads {' or '.join(allowed.values())}")


def _shape(example: Any) -> str:
    if isinstance(example, (list, tuple)):
        return f"a {type(example).__name__} of {len(example)}"
    return "a text" if isinstance(example, str) else f"of type {type(example).__name__}"


def _split(where: str, ids: Sequence[str], texts: Sequence[Any], pairs: Sequence[str] | None, preprocessing: TextPreprocessing, buckets: int) -> Split:
    """Texts in tokens, without labels."""
    if preprocessing.task == "token_classification":
        texts = [text.split() if isinstance(text, str) else list(text) for text in texts]
    if preprocessing.task == "sentence_embedding" and pairs is None:
        pairs = list(texts)  # The model reads pairs; the vector of the first is the answer.
    examples = Examples(where, ids, ["test"] * len(texts), texts, pairs, [None] * len(texts), [], {}, [])
    rows, tokenizer = np.arange(len(texts)), preprocessing.tokenizer
    encoded = encode_rows(examples, rows, preprocessing.task, (), tokenizer, max_length=preprocessing.max_length, stride=preprocessing.stride)
    return encoded.split(choose_buckets(encoded.lengths, buckets), tokenizer.pad)


def _read(file: Path, config: TextConfig, preprocessing: TextPreprocessing) -> Table:
    if preprocessing.task == "question_answering":
        return read_squad(file, config, answered=False)
    if preprocessing.task == "token_classification" and file.suffix.lower() in _CONLL:
        return conll.read_conll(file, config, tagged=False)
    if config.text is None and preprocessing.columns is not None:
        # A first line with the name that the model was trained on is the header, whatever the name looks like.
        config = dataclasses.replace(config, text=preprocessing.columns[0])
    return read_table(file, config)


def _bind(table: Table, config: TextConfig, preprocessing: TextPreprocessing) -> Binding:
    if preprocessing.task == "question_answering":
        return Binding("question", "context", (), "id", (), {})
    if table.columns == ("words", "tags"):
        return Binding("words", None, (), None, (), {})
    trained = preprocessing.columns
    if trained is not None and preprocessing.task == "sentence_embedding":
        trained = (trained[0], None)  # A text by itself has a vector, too.
    check_columns(table.where, table.columns, trained, config)
    return bind(table, config, preprocessing.task, labelled=False, like=preprocessing.columns)


def check_columns(where: str, columns: Sequence[str], trained: tuple[str, str | None] | None, text: TextConfig) -> None:
    """Refuse a table that lacks the columns of the training data, unless they are named or there is nothing to choose: a wrong guess would look like an answer.

    Args:
      where: the table.
      columns: its names.
      trained: columns of the text and the second text in the training data, where they are known.
      text: what the user names.

    Raises:
      DataError: naming the column and those that are there.
    """
    roles = (
        [("text.text", name, text.text) for name in trained[:1]] + [("text.text_pair", name, text.text_pair) for name in trained[1:] if name] if trained else []
    )
    if len(columns) == len(roles) == 1:
        return
    numbers = " (the file has no line of names: a number from 0)" if all(name.isdecimal() for name in columns) else ""
    for key, name, given in roles:
        if given is None and name not in columns:
            hint = did_you_mean(str(name), columns)
            raise DataError(f"{where} has no column {name!r}, which the model was trained on: {hint}; name another one with --config.{key}=COLUMN{numbers}")


def _cells(table: Table, column: str) -> list[Any]:
    """A column's texts, or lists of words; a missing text is an empty one."""
    return [_cell(value, table, row) for row, value in enumerate(table.column(column))]


def _numbered(count: int) -> list[str]:
    return list(map(str, range(1, count + 1)))


def _names(values: Sequence[Any]) -> list[str]:
    """An id column's values; numbers where one is missing or stands twice."""
    names = [str(value) for value in values]
    return names if None not in values and len(set(names)) == len(names) else _numbered(len(names))


def _cell(value: Any, table: Table, row: int) -> Any:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    try:
        return as_text(value) or ""
    except DataError as error:
        raise DataError(f"{table.where}: line {table.lines[row]}: its text cannot be read: {error}") from None
