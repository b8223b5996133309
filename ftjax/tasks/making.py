"""From the configuration and the training data to the task, and which combinations make no sense.

`check_task` looks at the configuration alone, before any data are read; `make_task` needs the classes and, where the loss depends on them, the training labels.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ftjax.config import Config, RecommendationConfig, TaskConfig
from ftjax.errors import ConfigError, DataError, did_you_mean
from ftjax.tasks.classification import Classification
from ftjax.tasks.imbalance import WEIGHTED, class_weights, log_prior
from ftjax.tasks.language_modeling import LanguageModeling
from ftjax.tasks.multi_label import MultiLabel, label_weights, log_odds
from ftjax.tasks.preference import Preference
from ftjax.tasks.question_answering import QuestionAnswering, answered
from ftjax.tasks.recommendation import Recommendation
from ftjax.tasks.regression import Regression, standardised
from ftjax.tasks.sentence_embedding import SentenceEmbedding
from ftjax.tasks.token_classification import TokenClassification, count_tags

if TYPE_CHECKING:
    from ftjax.data import Split

Task = Classification | MultiLabel | Regression | TokenClassification | QuestionAnswering | SentenceEmbedding | LanguageModeling | Preference | Recommendation

TASKS: dict[str, type] = {
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "token_classification": TokenClassification,
    "question_answering": QuestionAnswering,
    "sentence_embedding": SentenceEmbedding,
    "language_modeling": LanguageModeling,
    "preference": Preference,
    "recommendation": Recommendation,
}

LANGUAGE = ("language_modeling", "preference")
"""Tasks of models that write."""

_IN_THE_LOSS = ("none", "balanced", "sqrt", "focal", "logit_adjust")
IMBALANCE = {
    "classification": (*_IN_THE_LOSS, "oversample"),
    "multi_label": _IN_THE_LOSS,
    "token_classification": _IN_THE_LOSS,
}
"""Remedies for rare classes that a task has; a task that is not here has none."""

_ROWS = 1024
"""Rows whose tags are counted at a time."""


def check_task(config: Config) -> None:
    """Refuse what the task cannot do, from the configuration alone.

    Raises:
      ConfigError: an unknown task, or a key that it has no use for or that contradicts another.
    """
    task, train = config.task, config.train
    if task.name not in TASKS:
        raise ConfigError(f"task.name: unknown task {task.name!r}; {did_you_mean(task.name, TASKS)}")
    remedies = IMBALANCE.get(task.name, ("none",))
    if task.imbalance not in remedies:
        raise ConfigError(f"task.imbalance={task.imbalance}: {task.name} has no such remedy; allowed: {', '.join(map(repr, remedies))}")
    if task.name != "classification":
        for key, value in (("label_smoothing", task.label_smoothing), ("r_drop", task.r_drop)):
            if value and (task.name, key) != ("preference", "label_smoothing"):
                raise ConfigError(f"task.{key}={value:g}: {task.name} does not have it, only classification does; leave it open")
    if task.r_drop and config.model.dropout == 0 and config.model.drop_path == 0:
        raise ConfigError(
            f"task.r_drop={task.r_drop:g} compares two dropout masks and model.dropout is 0; set model.dropout, as in 0.1, or leave task.r_drop open"
        )
    for key, alpha in (("mixup", config.augment.mixup), ("cutmix", config.augment.cutmix)):
        if alpha:
            _check_mixing(f"augment.{key}={alpha:g}", task, train.batch_size)
    if task.name in LANGUAGE and config.model.head == "new":
        raise ConfigError(f"model.head='new': {task.name} needs the pretrained head, which knows the vocabulary; leave it open")
    if task.name == "recommendation":
        _check_recommendation(config)
    if task.name == "sentence_embedding":
        _check_contrast(train.microbatches, train.batch_size)
    if task.imbalance == "oversample" and config.data.sampling != "natural":
        raise ConfigError(
            f"task.imbalance='oversample' and data.sampling={config.data.sampling!r} both say how often rows are drawn; "
            "leave one open (oversample is data.sampling='balanced')"
        )
    if task.imbalance == "oversample" and config.data.mixture:
        raise ConfigError("task.imbalance='oversample' and data.mixture both say how often rows are drawn; use task.imbalance='balanced', or leave one open")
    if train.batch_size == "all" and (config.data.mixture_temperature != 1 or any(weight != 1 for _, weight in config.data.mixture)):
        raise ConfigError("train.batch_size='all' takes every row once and data.mixture draws rows; use a number of rows, or weights and a temperature of 1")
    drawn = "task.imbalance='oversample'" if task.imbalance == "oversample" else f"data.sampling={config.data.sampling!r}"
    if train.batch_size == "all" and (task.imbalance == "oversample" or config.data.sampling != "natural"):
        raise ConfigError(f"train.batch_size='all' takes every row once and {drawn} draws rows; use a number of rows, or task.imbalance='balanced'")
    if task.max_answer_length < 1:
        raise ConfigError(f"task.max_answer_length is {task.max_answer_length}; allowed: 1 or more")


def _check_mixing(what: str, task: TaskConfig, batch_size: int | str | None) -> None:
    if task.name != "classification":
        raise ConfigError(f"{what} mixes the labels of two pictures, which {task.name} does not know; only classification does: leave it 0")
    if batch_size == 1:
        raise ConfigError(f"{what} mixes a picture with another one of its batch, and train.batch_size=1 has no other; allowed: 2 or more")


def _check_recommendation(config: Config) -> None:
    wanted, train = config.recommendation, config.train
    if config.model.head == "new" and config.method != "scratch":  # the baseline "scratch" says that everything is new
        raise ConfigError("model.head='new': recommendation scores against the table of items, which is no head; leave it open")
    if wanted.negative_sampling == "in_batch" and wanted.loss != "sampled_softmax":
        raise ConfigError(f"recommendation.negative_sampling='in_batch': {wanted.loss} draws for each target; allowed: 'uniform', 'popularity'")
    if wanted.loss == "sampled_softmax" and train.microbatches > 1:
        raise ConfigError(
            f"train.microbatches={train.microbatches}: sampled_softmax draws for the whole batch, so a batch in parts is another loss; "
            "use train.microbatches=1, or recommendation.loss='cross_entropy', which needs no more memory"
        )
    if wanted.negative_sampling == "in_batch" and train.batch_size == 1:
        raise ConfigError("train.batch_size=1: recommendation.negative_sampling='in_batch' needs other rows, and there is none; allowed: 2 or more")


def _check_contrast(microbatches: int, batch_size: int | str | None) -> None:
    if microbatches > 1:
        raise ConfigError(
            f"train.microbatches={microbatches}: sentence_embedding tells every pair from all others of its batch, so a batch in parts is another loss; "
            "use train.microbatches=1, and a smaller train.batch_size or model.remat=True where memory is short"
        )
    if batch_size == 1:
        raise ConfigError("train.batch_size=1: sentence_embedding tells every pair from the others of its batch, and there is no other; allowed: 2 or more")


def make_task(
    config: TaskConfig,
    classes: tuple[str, ...],
    labels: np.ndarray | None = None,
    *,
    split: Split | None = None,
    recommendation: RecommendationConfig | None = None,
) -> Task:
    """The configured task over these classes.

    Args:
      config: what is predicted, and the loss.
      classes: names by label; none where the task has no classes.
      labels: of training; regression needs them, and so do remedies for rare classes.
      split: the training split; gives the labels, and what is not in them: the tags of token_classification and the questions without an answer.
      recommendation: how items are learnt and ranked; read by recommendation.

    Raises:
      ConfigError: a task that ftjax does not have.
      DataError: the data are not for this task: too few classes, targets that are all the same.
    """
    labels = split.labels if split is not None else labels
    if config.name not in TASKS:
        raise ConfigError(f"task.name: unknown task {config.name!r}; {did_you_mean(config.name, TASKS)}")
    if config.name == "classification":
        return _classification(config, tuple(classes), labels, None if split is None else split.sampling)
    if config.name == "multi_label":
        return _multi_label(config, tuple(classes), labels, None if split is None else split.sampling)
    if config.name == "regression":
        return standardised(_needed(labels, "regression"))
    if config.name == "token_classification":
        return _token_classification(config, tuple(classes), split)
    if config.name == "question_answering":
        return QuestionAnswering(max_answer_length=config.max_answer_length, unanswerable=split is not None and _unanswerable(split))
    if config.name == "language_modeling":
        return LanguageModeling(chunk=config.loss_chunk, z_loss=config.z_loss is not None)
    if config.name == "preference":
        return Preference(chunk=config.loss_chunk, length_normalised=config.length_normalised, beta=config.beta)
    if config.name == "recommendation":
        return _recommendation(tuple(classes), recommendation or RecommendationConfig())
    return SentenceEmbedding()


NEGATIVES = {"sampled_softmax": 1024}
"""Negatives by loss where nobody says how many; the others': 1."""


def negatives_of(config: RecommendationConfig) -> int:
    """Of each target, or of sampled_softmax of the batch."""
    return config.negatives or NEGATIVES.get(config.loss, 1)


def _recommendation(classes: tuple[str, ...], config: RecommendationConfig) -> Recommendation:
    return Recommendation(
        classes,
        learnt_by=config.loss,
        negatives=negatives_of(config),
        gbce_t=config.gbce_t,
        k=config.k,
        cold_below=config.cold_below,
        sampled_negatives=config.sampled_negatives,
        item_chunk=config.item_chunk,
        several=config.leave_out == "time",
    )


def task_settings(task: Task) -> dict[str, Any]:
    """What a task holds beside its classes, for JSON; `restore_task` reads it."""
    return {field.name: getattr(task, field.name) for field in dataclasses.fields(task) if field.name != "classes"}


def restore_task(name: str, classes: tuple[str, ...], settings: dict[str, Any]) -> Task:
    """The task that `task_settings` described.

    Raises:
      DataError: no such task, or settings that it does not have.
    """
    if name not in TASKS:
        raise DataError(f"unknown task {name!r}; {did_you_mean(name, TASKS)}")
    known = [field.name for field in dataclasses.fields(TASKS[name])]
    for key in settings:
        if key not in known:
            raise DataError(f"task {name!r} has no setting {key!r}; {did_you_mean(key, known)}")
    values = {key: _tuples(value) for key, value in settings.items()} | ({"classes": tuple(classes)} if "classes" in known else {})
    return TASKS[name](**values)


def _tuples(value: Any) -> Any:
    """JSON's lists as tuples, so that a task can be compared and hashed."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _needed(labels: np.ndarray | None, what: str) -> np.ndarray:
    if labels is None:
        raise ValueError(f"{what} needs the training labels")
    return np.asarray(labels)


def _classification(config: TaskConfig, classes: tuple[str, ...], labels: np.ndarray | None, sampling: np.ndarray | None) -> Classification:
    task = Classification(classes, views=2 if config.r_drop is not None else 1, focal=config.imbalance == "focal")
    if config.imbalance not in (*WEIGHTED, "logit_adjust"):
        return task
    counts = _drawn_counts(_needed(labels, f"task.imbalance={config.imbalance}"), sampling, len(classes))
    weights, prior = _by_frequency(config.imbalance, counts)
    return dataclasses.replace(task, class_weights=weights, log_prior=prior)


def _token_classification(config: TaskConfig, classes: tuple[str, ...], split: Split | None) -> TokenClassification:
    task = TokenClassification(classes, focal=config.imbalance == "focal")
    if config.imbalance not in (*WEIGHTED, "logit_adjust"):
        return task
    if split is None:
        raise ValueError(f"task.imbalance={config.imbalance} needs the training split")
    rows = [np.arange(start, min(start + _ROWS, len(split))) for start in range(0, len(split), _ROWS)]
    drawn = None if split.sampling is None else split.sampling * (len(split) / np.sum(split.sampling))
    counts = np.sum([count_tags(split.fields(part)["token_label"], len(classes), None if drawn is None else drawn[part]) for part in rows], axis=0)
    weights, prior = _by_frequency(config.imbalance, counts)
    return dataclasses.replace(task, class_weights=weights, log_prior=prior)


def _drawn_counts(labels: np.ndarray, sampling: np.ndarray | None, classes: int) -> np.ndarray:
    """How often each class is met in an epoch: its rows, or where rows are drawn `n sum_{rows of c} s_i / sum_i s_i`, as `bucketed.drawn` draws."""
    if sampling is None:
        return np.bincount(labels, minlength=classes)
    return np.bincount(labels, weights=sampling, minlength=classes) * (len(labels) / np.sum(sampling))


def _by_frequency(imbalance: str, counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Class weights and log prior of a task of several classes, empty where they are not asked for."""
    return (class_weights(imbalance, counts), ()) if imbalance in WEIGHTED else ((), log_prior(counts))


def _multi_label(config: TaskConfig, classes: tuple[str, ...], labels: np.ndarray | None, sampling: np.ndarray | None) -> MultiLabel:
    task = MultiLabel(classes, focal=config.imbalance == "focal")
    if config.imbalance in WEIGHTED:
        return dataclasses.replace(task, label_weights=label_weights(config.imbalance, _needed(labels, f"task.imbalance={config.imbalance}"), sampling))
    if config.imbalance == "logit_adjust":
        return dataclasses.replace(task, log_odds=log_odds(_needed(labels, "task.imbalance=logit_adjust"), sampling))
    return task


def _unanswerable(split: Split) -> bool:
    """Whether a question has no answer at all; a window without one says nothing, as another may hold it."""
    empty = np.flatnonzero(~answered(split.labels))
    return any(not split.show(int(row))["answers"] for row in empty)
