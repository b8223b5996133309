"""What a row of a table says of where it belongs: its group (`data.group`) and its time (`data.time`), read and checked row by row."""

from __future__ import annotations

from ftjax.config import DataConfig
from ftjax.data.moments import Moment, read_moment
from ftjax.data.text.table import Table, as_text
from ftjax.errors import DataError, did_you_mean


class Places:
    """`places(row)`: the group and the moment of a row of one table, None for what is not asked for.

    Raises:
      DataError: the table has no such column.
    """

    def __init__(self, table: Table, data: DataConfig) -> None:
        self.table = table
        self.group = None if data.group is None else _position(table, data.group, "data.group")
        self.time = None if data.time is None else _position(table, data.time, "data.time")

    def __call__(self, row: int) -> tuple[str | None, Moment | None]:
        """The group and the moment of a row.

        Raises:
          DataError: why it cannot be used.
        """
        cells = self.table.rows[row]
        return None if self.group is None else _group(cells[self.group]), None if self.time is None else read_moment(cells[self.time])


def _position(table: Table, name: str, key: str) -> int:
    if name not in table.columns:
        raise DataError(f"{table.where} has no column {name!r} ({key}): {did_you_mean(name, table.columns)}")
    return table.columns.index(name)


def _group(value: object) -> str:
    try:
        found = as_text(int(value) if isinstance(value, float) and value.is_integer() else value)
    except DataError as error:
        raise DataError(f"its group cannot be read: {error}") from None
    if found is None or not found.strip():
        raise DataError("its group is empty")
    return found.strip()
