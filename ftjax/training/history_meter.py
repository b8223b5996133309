"""The forgetting meter of recommenders: how well the users of an earlier log are still served while the model learns from a later one.

The last item of each user of that log is looked for after all others. Nothing is sampled: a probability is one among all items of the run's catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float, Int32

from ftjax import data, models
from ftjax.config import Config
from ftjax.data import Catalogue, InteractionPreprocessing, Split
from ftjax.errors import ConfigError, DataError
from ftjax.training.forgetting import KEY, log_softmax, measures_of_answers
from ftjax.training.recommender import candidates
from ftjax.training.select import Selection
from ftjax.training.state import TrainState
from ftjax.trees import Tree

LENGTH = 10
"""Items of the list in which the last item is looked for."""


@dataclasses.dataclass(frozen=True, eq=False)
class HistoryMeter:
    """Measures forgetting on a few users, whose vectors are compared with all items; the function is compiled once."""

    examples: Split
    labels: Int32[np.ndarray, " examples"]
    """The place of each last item in the catalogue, from 0."""
    answers: Float[np.ndarray, "examples items"]
    """log p of the pretrained model, float64."""
    logits: Any
    """`logits(params, extra, batch) -> [batch items]`."""
    batch_size: int
    warnings: tuple[str, ...] = ()
    reference: ClassVar[str] = "labels"

    @property
    def before(self) -> dict[str, float]:
        """The measurement at theta0."""
        return _told(self.answers, self.answers, self.labels)

    def measure(self, params: Tree, batch_stats: Tree) -> dict[str, float]:
        """How the users of the earlier log are served now.

        Returns:
          `source_loss`: mean of -log p(last item); `source_accuracy`: share of users whose last item is the best one; `source_hr_at_10`: among the ten best;
          `source_divergence`: mean of KL(p_theta0 || p_theta) in nats.
        """
        return _told(self.answers, _answers(self.logits, self.examples, self.batch_size, params, batch_stats), self.labels)

    def compare(self, params: Tree, batch_stats: Tree) -> dict[str, Any]:
        """`forgetting` of result.json: before and after, and on how many users."""
        return {"before": self.before, "after": self.measure(params, batch_stats), "reference": self.reference, "examples": len(self.examples)}


def prepare_history_meter(
    config: Config, selection: Selection, model: models.Model, preprocessing: InteractionPreprocessing, catalogue: Catalogue | None, state: TrainState
) -> HistoryMeter | None:
    """Read the earlier log and let the pretrained model serve its users.

    Args:
      config: `forgetting`, and how the log is read.
      selection: the pretrained file.
      model: of the run.
      preprocessing: of the run.
      catalogue: the run's items; events with others are passed over.
      state: before step 0.

    Raises:
      ConfigError: nothing was pretrained.
      DataError: the log cannot be read, or no user of it has two events with items of the run.
    """
    settings = config.forgetting
    if settings.path is None:
        return None
    if selection.source is None:
        raise ConfigError(f"{KEY}={settings.path}: nothing is pretrained with method={config.method!r}, so nothing can be forgotten; leave {KEY} open")
    assert catalogue is not None
    place = {name: number for number, name in enumerate(catalogue.ids)}
    read = data.read_histories(settings.path, config.text, config.recommendation)
    known = {user: [item for item in items if item in place] for user, items in read.items()}
    users = [user for user, items in known.items() if len(items) > 1]
    if not users:
        raise DataError(f"{KEY}={settings.path}: none of its {len(read):,} users has two events with items of this run; is it a log of other items?")
    users = [users[index] for index in np.unique(np.linspace(0, len(users) - 1, min(settings.examples, len(users))).astype(int))]
    examples, _ = data.histories_to_predict({user: known[user][:-1] for user in users}, catalogue, preprocessing.max_length)
    labels = np.array([place[known[user][-1]] for user in users], np.int32)

    @jax.jit
    def logits(params: Tree, extra: Tree, batch: Any) -> jax.Array:
        found = candidates(model, preprocessing, params, extra, batch)
        return found.users @ found.items[1:].T

    size = min(len(users), config.evaluation.batch_size)
    answers = _answers(logits, examples, size, state.params, state.extra["batch_stats"])
    lost = sum(map(len, read.values())) - sum(map(len, known.values()))
    told = (f"{KEY}: {lost:,} events of {settings.path} have items that this run does not have; they are passed over",) if lost else ()
    return HistoryMeter(examples, labels, answers, logits, size, told)


def _answers(logits: Any, examples: Split, batch_size: int, params: Tree, batch_stats: Tree) -> Float[np.ndarray, "examples items"]:
    extra = {"batch_stats": batch_stats} if batch_stats else {}
    found: np.ndarray | None = None
    for batch in data.eval_batches(examples, batch_size):
        real = batch["weight"] > 0
        values = np.asarray(logits(params, extra, batch), np.float64)[real]
        found = np.zeros((len(examples), values.shape[1])) if found is None else found
        found[batch["id"][real]] = values
    assert found is not None
    return log_softmax(found)


def _told(before: np.ndarray, now: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    own = now[np.arange(len(labels)), labels]
    ahead = (now >= own[:, None]).sum(axis=1) - 1
    return measures_of_answers(before, now, labels) | {f"source_hr_at_{LENGTH}": float(np.mean(ahead < LENGTH))}
