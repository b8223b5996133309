"""The few operations on whole columns that the readers need, over `pyarrow.compute` (whose functions exist only at run time, so no type checker sees them)."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, Num

NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
INTEGER = r"^[+-]?\d{1,18}$"


def _compute() -> Any:
    # Imported when a log is read: it takes a fifth of a second, and most commands read none.
    return importlib.import_module("pyarrow.compute")


def texts_of(column: Any) -> Any:
    """A column as texts without surrounding spaces; numbers of a typed file as they are written, whole ones without a decimal point. One array."""
    import pyarrow

    compute = _compute()
    if pyarrow.types.is_floating(column.type):
        with contextlib.suppress(pyarrow.ArrowInvalid):
            column = compute.cast(column, pyarrow.int64())
    trimmed = compute.utf8_trim_whitespace(compute.cast(column, pyarrow.large_string()))
    return trimmed.combine_chunks() if isinstance(trimmed, pyarrow.ChunkedArray) else trimmed


def missing(texts: Any) -> Bool[np.ndarray, " rows"]:
    """Where there is no text, or an empty one."""
    compute = _compute()
    return compute.fill_null(compute.equal(texts, ""), True).to_numpy(zero_copy_only=False)


def matches(texts: Any, pattern: str) -> Bool[np.ndarray, " rows"]:
    """Where a text has this form; where there is none, not."""
    compute = _compute()
    return compute.fill_null(compute.match_substring_regex(texts, pattern), False).to_numpy(zero_copy_only=False)


def numbers(texts: Any) -> Num[np.ndarray, " rows"]:
    """The numbers that texts are, int64 where all of them are whole, else float64; 0 where a text is none."""
    import pyarrow

    compute = _compute()
    kept = compute.if_else(pyarrow.array(matches(texts, NUMBER)), texts, "0")
    whole = pyarrow.int64() if matches(kept, INTEGER).all() else pyarrow.float64()
    return compute.cast(kept, whole).to_numpy(zero_copy_only=False).copy()


def real(column: Any) -> Float[np.ndarray, " rows"]:
    """A column of numbers, or of texts that are numbers, as float64; NaN where there is none."""
    import pyarrow

    if pyarrow.types.is_integer(column.type) or pyarrow.types.is_floating(column.type):
        return _compute().cast(column, pyarrow.float64(), safe=False).to_numpy()
    texts = texts_of(column)
    return np.where(matches(texts, NUMBER), numbers(texts).astype(np.float64), np.nan)


def microseconds(column: Any, *, aware: bool = False) -> tuple[Int64[np.ndarray, " rows"], Bool[np.ndarray, " rows"]]:
    """Dates, or texts that are ISO dates without a time zone, since 1970, and where there is none.

    Raises:
      pyarrow.ArrowInvalid: a text is no such date.
    """
    import pyarrow

    compute = _compute()
    dated = compute.cast(column, pyarrow.timestamp("us", tz="UTC" if aware else None), safe=False)
    whole = compute.cast(dated, pyarrow.int64())
    return compute.fill_null(whole, 0).to_numpy().copy(), compute.is_null(whole).to_numpy(zero_copy_only=False)


def blanked(texts: Any, empty: Bool[np.ndarray, " rows"]) -> Any:
    """The texts, none where `empty`."""
    import pyarrow

    return _compute().if_else(pyarrow.array(empty), None, texts)


def coded(texts: Any) -> tuple[list[str], Int32[np.ndarray, " rows"]]:
    """The different texts, and which one each row has."""
    found = texts.dictionary_encode()
    return found.dictionary.to_pylist(), found.indices.to_numpy(zero_copy_only=False).astype(np.int32)
