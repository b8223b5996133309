"""The errors a user can cause, and the hint every one of them carries.

Each message says what was wrong, where (file, row or key), what is allowed and the nearest valid choice.
`ftjax.main` turns an `FtjaxError` into one line on the terminal and exit code 2; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FtjaxError(ValueError):
    """Something the user gave cannot be used; the message says what, where and what would do."""


class ConfigError(FtjaxError):
    """A key, type or value of the configuration is wrong."""


class DataError(FtjaxError):
    """A data set, file, row or label cannot be used."""


class WeightsError(FtjaxError):
    """A file of weights cannot be read, or does not fit the model."""


class CheckpointError(FtjaxError):
    """A checkpoint or work directory cannot be written, restored or continued."""


class TrainingFailed(FtjaxError):
    """Training cannot end well: it diverged, or what should move did not."""


def did_you_mean(name: str, options: Iterable[str], *, show: int = 12) -> str:
    """A hint for a misspelt name: the nearest valid ones, then what is allowed.

    >>> did_you_mean("learning_rat", ["learning_rate", "weight_decay"])
    "did you mean 'learning_rate'? allowed: 'learning_rate', 'weight_decay'"
    >>> did_you_mean("zzz", ["a", "b"])
    "allowed: 'a', 'b'"
    """
    known = sorted(set(options))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    shown = ", ".join(repr(option) for option in known[:show]) + (f", ... ({len(known)} in all)" if len(known) > show else "")
    hint = f"did you mean {' or '.join(repr(option) for option in close)}? " if close else ""
    return f"{hint}allowed: {shown}"
