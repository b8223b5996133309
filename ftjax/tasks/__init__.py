"""Tasks: what is predicted and what it costs. A task is a small frozen dataclass; the one trainer asks it for a loss and forks nothing."""

from __future__ import annotations

import numpy as np

from ftjax.config import TaskConfig
from ftjax.errors import ConfigError, did_you_mean
from ftjax.tasks.classification import Classification, check_labels

__all__ = ["Classification", "check_labels", "make_task"]


def make_task(config: TaskConfig, classes: tuple[str, ...], counts: np.ndarray | None = None) -> Classification:
    """The configured task over these classes.

    Args:
      config: what is predicted, and the loss.
      classes: names by label.
      counts: training examples of each class, where the loss weighs classes by them.

    Raises:
      ConfigError: a task that ftjax does not have.
      DataError: fewer than two classes.
    """
    tasks = {"classification": Classification}
    if config.name not in tasks:
        raise ConfigError(f"task.name: unknown task {config.name!r}; {did_you_mean(config.name, tasks)}")
    return tasks[config.name](classes=tuple(classes))
