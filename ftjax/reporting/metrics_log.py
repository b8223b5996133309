"""metrics.jsonl: one strict JSON object per logged step, and the same values as TensorBoard event files when asked.

A run that was killed and continued has the same log as one that was not: on resume, lines after the checkpoint's step are cut
away, and so is the torn line that a kill may leave at the end.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ftjax.errors import ConfigError, FtjaxError
from ftjax.files import write_text

FILE = "metrics.jsonl"
SUFFIX = "_nonfinite"


def _encode(values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain JSON values; a number that is not finite becomes null beside `<name>_nonfinite`, never a 0."""
    encoded: dict[str, Any] = {}
    for name, value in values.items():
        plain = value if value is None or isinstance(value, str | bool) else np.asarray(value).tolist()
        if isinstance(plain, float) and not math.isfinite(plain):
            encoded[name], encoded[name + SUFFIX] = None, str(plain)
        else:
            encoded[name] = plain
    return encoded


def _decode(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values that `_encode` was given."""
    names = {name for name in record if not name.endswith(SUFFIX) or record.get(name.removesuffix(SUFFIX), 0) is not None}
    return {name: float(record[name + SUFFIX]) if record[name] is None and name + SUFFIX in record else record[name] for name in record if name in names}


def _parse(line: str) -> dict[str, Any] | None:
    """One line as a record, or None where it is torn or damaged."""
    try:
        record = json.loads(line)
        return _decode(record) if isinstance(record, dict) and isinstance(record.get("step"), int) else None
    except ValueError:
        return None


def parse_metrics(text: str) -> tuple[list[dict[str, Any]], list[int]]:
    """The readable records of a log, and the line numbers (from 1) of what is damaged; a torn last line counts as neither."""
    lines = text.split("\n")
    records, damaged = [], []
    for row, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif line and row < len(lines):
            damaged.append(row)
    return records, damaged


def read_metrics(workdir: str | Path) -> list[dict[str, Any]]:
    """Every record of `metrics.jsonl`, as it was written: numbers that were not finite come back as nan, inf or -inf.

    Args:
      workdir: the run directory; without a log the list is empty.

    Raises:
      FtjaxError: a line other than the last is damaged.
    """
    path = Path(workdir) / FILE
    if not path.exists():
        return []
    records, damaged = parse_metrics(path.read_text(encoding="utf-8", errors="replace"))
    if damaged:
        raise FtjaxError(f"{path}: line {damaged[0]} is not a record (a JSON object with an integer 'step'); {len(records)} lines are good")
    return records


def _cut(path: Path, resume_step: int | None) -> None:
    """Keep the readable lines up to `resume_step` as they are; None keeps nothing."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if resume_step is not None else []
    kept = [line for line in lines if (record := _parse(line)) is not None and record["step"] <= (resume_step or 0)]
    write_text(path, "".join(f"{line}\n" for line in kept))


def _event_writer(folder: Path, resume_step: int | None) -> Any:
    """tensorboardX's writer; events after `resume_step` of an earlier process are hidden by its purge mark."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ConfigError("report.tensorboard=true needs tensorboardX, which is not installed: pip install 'ftjax[tracking]'") from error
    # It would print an anonymous line for every value that is not finite; metrics.jsonl and the terminal name those.
    logging.getLogger("tensorboardX.x2num").setLevel(logging.ERROR)
    return SummaryWriter(str(folder), purge_step=None if resume_step is None else resume_step + 1)


class MetricsWriter:
    """Appends to `metrics.jsonl`, line by line and flushed, so that a kill loses at most the line being written."""

    def __init__(self, workdir: str | Path, tensorboard: bool = False, resume_step: int | None = None):
        """Open the log.

        Args:
          workdir: the run directory, made if it is not there.
          tensorboard: also write event files to `workdir/tensorboard`.
          resume_step: the step training continues from; lines of later steps are cut away. None: a new run, the log starts empty.

        Raises:
          ConfigError: `tensorboard` without the package tensorboardX.
        """
        folder = Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        self._events: Any = _event_writer(folder / "tensorboard", resume_step) if tensorboard else None
        _cut(folder / FILE, resume_step)
        self._file = (folder / FILE).open("a", encoding="utf-8")

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """Log `values` (scalars of Python, NumPy or JAX) of `split` ("train", "validation", "travel") at `step`.

        Raises:
          ValueError: a value is named "step" or "split".
          TypeError: a value is not a scalar.
        """
        if taken := {"step", "split"} & set(values):
            raise ValueError(f"a metric cannot be named {sorted(taken)}: the log's own keys")
        encoded = _encode(values)
        for name, value in encoded.items():
            if not (value is None or isinstance(value, str | bool | int | float)):
                raise TypeError(f"metric {name!r} of split {split!r} at step {step} is no scalar")
        self._file.write(json.dumps({"step": int(step), "split": split, **encoded}, allow_nan=False, ensure_ascii=False) + "\n")
        self._file.flush()
        if self._events is not None:
            self._write_events(int(step), split, _decode(encoded))

    def _write_events(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float):
                self._events.add_scalar(name if split == "travel" else f"{split}/{name}", value, step)

    def close(self) -> None:
        """Close both logs; safe to call twice."""
        self._file.close()
        if self._events is not None:
            self._events.close()
            self._events = None

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
