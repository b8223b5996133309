"""Tables that come in columns with types: Parquet and Arrow (also called Feather), read with pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjax.data.sources.arrow import map_arrow
from ftjax.data.text.encodings import LARGEST_FILE
from ftjax.errors import DataError


def read_parquet(path: Path) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Names of the columns, and the rows.

    Raises:
      DataError: it is no Parquet file, damaged, or unpacks to too much.
    """
    found = open_parquet(path)
    try:
        columns = {name: column.to_pylist() for name, column in zip(found.column_names, found.columns)}
    except (ValueError, OverflowError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}") from None
    return tuple(columns), list(zip(*columns.values()))


def open_parquet(path: Path) -> Any:
    """The `pyarrow.Table` of a Parquet file.

    Raises:
      DataError: it is no Parquet file, damaged, or unpacks to too much.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: reading Parquet needs the package pyarrow (pip install pyarrow), or save the table as csv or jsonl") from None
    try:
        found = pyarrow.parquet.ParquetFile(path)
        if sum(found.metadata.row_group(group).total_byte_size for group in range(found.metadata.num_row_groups)) > LARGEST_FILE:
            raise DataError(f"{path} unpacks to more than {LARGEST_FILE:,} bytes; keep the columns and rows that are needed")
        return found.read()
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {str(error).splitlines()[0]}") from None


def read_arrow(path: Path) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Names of the columns, and the rows.

    Raises:
      DataError: it is no Arrow file, cut short, damaged, or unpacks to too much; or two columns have one name.
    """
    return columns_of(map_arrow(path), str(path))


def columns_of(table: Any, where: str) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """The same of a `pyarrow.Table`."""
    if table.nbytes > LARGEST_FILE:
        raise DataError(f"{where} unpacks to more than {LARGEST_FILE:,} bytes; keep the columns and rows that are needed")
    names = tuple(table.column_names)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has the column {twice!r} twice; give every column a name of its own")
    try:
        return names, list(zip(*(column.to_pylist() for column in table.columns)))
    except (ValueError, OSError, OverflowError) as error:
        raise DataError(f"{where} is damaged: {str(error).splitlines()[0]}") from error
