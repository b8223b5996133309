"""Arrow files, memory-mapped: the file form (also called Feather 2) and the stream form that Hugging Face's `datasets` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjax.errors import DataError

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_FILE = b"ARROW1"


def cell(column: Any, row: int) -> Any:
    """One value of a column.

    Raises:
      DataError: the file is damaged there.
    """
    try:
        return column[row].as_py()
    except (ValueError, OSError, KeyError, OverflowError) as error:
        raise DataError(f"damaged in its Arrow file: {str(error).splitlines()[0]}") from error


def map_arrow(path: Path) -> Any:
    """The `pyarrow.Table` of a file; its columns stay on disk until they are read, and their offsets have been checked.

    Raises:
      DataError: it is no such file, damaged or cut short.
    """
    import pyarrow

    with path.open("rb") as file:
        start = file.read(6)
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 8))
        end = file.read()
    if start.startswith(b"FEA1"):
        raise DataError(f"{path} is Feather of version 1; write it again with pyarrow.feather.write_feather")
    if start == _FILE and not end.endswith(_FILE):
        raise DataError(f"{path} is cut short: an Arrow file ends as it begins, with {_FILE.decode()}")
    if start != _FILE and end != _END_OF_STREAM:
        raise DataError(f"{path} is no Arrow file, or it is cut short: a stream of Arrow ends with a mark, which is not there")
    try:
        mapped = pyarrow.memory_map(str(path))
        table = (pyarrow.ipc.open_file(mapped) if start == _FILE else pyarrow.ipc.open_stream(mapped)).read_all()
        table.validate(full=True)
        list(table.column_names)  # a name that is no text is an error here
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no Arrow file that can be read: {str(error).splitlines()[0]}") from error
    return table
