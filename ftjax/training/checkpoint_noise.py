"""What Orbax says in pages of log, and the checkpoint module in a line."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


def raised_anyway(record: logging.LogRecord) -> bool:
    """Drop the traceback that Orbax logs from its thread for a failed write: `wait` raises the same failure in a line."""
    return "_SignalingThread.run()" not in record.getMessage()


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Orbax tells of a damaged file in pages of log and abandoned coroutines; `Restored.skipped` says it in a line."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
