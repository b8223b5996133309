"""From configuration and data to the task; combinations that make no sense are refused by name."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from ftjax.config import Config, ModelConfig, TaskConfig, TrainConfig
from ftjax.errors import ConfigError, DataError
from ftjax.tasks import (
    TASKS,
    Classification,
    MultiLabel,
    QuestionAnswering,
    Regression,
    SentenceEmbedding,
    TokenClassification,
    check_task,
    make_task,
    restore_task,
    task_settings,
)

CLASSES = ("O", "B-x", "I-x")
TASK_EXAMPLES = {
    "classification": Classification(CLASSES, views=2, class_weights=(1.0, 2.0, 0.5)),
    "multi_label": MultiLabel(CLASSES, label_weights=((1.0,) * 3, (2.0,) * 3), focal=True),
    "regression": Regression(mean=2.0, deviation=0.5),
    "token_classification": TokenClassification(CLASSES, log_prior=(-0.1, -2.0, -3.0)),
    "question_answering": QuestionAnswering(max_answer_length=12, unanswerable=True),
    "sentence_embedding": SentenceEmbedding(),
}


@pytest.mark.parametrize("name", TASK_EXAMPLES)
def test_a_task_comes_back_from_its_json(name: str) -> None:
    task = TASK_EXAMPLES[name]
    stored = json.loads(json.dumps(task_settings(task)))
    assert restore_task(name, tuple(task.classes), stored) == task
    assert hash(restore_task(name, tuple(task.classes), stored)) == hash(task)


def test_settings_that_a_task_does_not_have_are_refused() -> None:
    with pytest.raises(DataError, match=r"^task 'regression' has no setting 'men'; did you mean 'mean'\? allowed: 'deviation', 'mean'$"):
        restore_task("regression", (), {"men": 1.0})


def test_every_configured_task_is_made() -> None:
    labels = {"regression": np.array([1.0, 3.0]), "multi_label": np.eye(3)}
    made = {name: make_task(TaskConfig(name=name), CLASSES, labels.get(name)) for name in TASKS}
    assert {name: type(task) for name, task in made.items()} == TASKS
    assert made["regression"] == Regression(mean=2.0, deviation=1.0)


def test_r_drop_shows_every_example_twice() -> None:
    assert make_task(TaskConfig(r_drop=1.0), CLASSES).views == 2
    assert make_task(TaskConfig(), CLASSES).views == 1


def test_tags_are_counted_in_the_training_split() -> None:
    tags = np.array([[-100, 0, 0, 1], [-100, 0, 2, -100]] * 600)
    split = SimpleNamespace(labels=np.zeros(1200, np.int32), fields=lambda rows: {"token_label": tags[rows]}, sampling=None, __len__=None)
    split = type("Rows", (SimpleNamespace,), {"__len__": lambda self: 1200})(**vars(split))
    task = make_task(TaskConfig(name="token_classification", imbalance="balanced"), CLASSES, split=split)
    np.testing.assert_allclose(task.class_weights, [5 / 9, 5 / 3, 5 / 3], rtol=1e-6)


@pytest.mark.parametrize(("answers", "unanswerable"), [([["x"], ["y"], ["y"]], False), ([["x"], [], ["y"]], True)])
def test_questions_without_any_answer_allow_none_to_be_given(answers: list[list[str]], unanswerable: bool) -> None:
    split = SimpleNamespace(labels=np.array([[1, 2], [0, 0], [0, 0]]), show=lambda row: {"answers": answers[row]})
    assert make_task(TaskConfig(name="question_answering"), (), split=split) == QuestionAnswering(unanswerable=unanswerable)


def config(task: TaskConfig, **changed: object) -> Config:
    return Config(task=task, **changed)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (
            config(TaskConfig(name="sentence_embedding"), train=TrainConfig(microbatches=4)),
            "train.microbatches=4: sentence_embedding tells every pair from all others of its batch, so a batch in parts is another loss; "
            "use train.microbatches=1, and a smaller train.batch_size or model.remat=True where memory is short",
        ),
        (
            config(TaskConfig(name="sentence_embedding"), train=TrainConfig(batch_size=1)),
            "train.batch_size=1: sentence_embedding tells every pair from the others of its batch, and there is no other; allowed: 2 or more",
        ),
        (config(TaskConfig(name="regression", imbalance="balanced")), "task.imbalance=balanced: regression has no such remedy; allowed: 'none'"),
        (
            config(TaskConfig(name="multi_label", imbalance="oversample")),
            "task.imbalance=oversample: multi_label has no such remedy; allowed: 'none', 'balanced', 'sqrt', 'focal', 'logit_adjust'",
        ),
        (
            config(TaskConfig(name="token_classification", label_smoothing=0.1)),
            "task.label_smoothing=0.1: token_classification does not have it, only classification does; leave it open",
        ),
        (config(TaskConfig(name="regression", r_drop=1.0)), "task.r_drop=1: regression does not have it, only classification does; leave it open"),
        (
            config(TaskConfig(r_drop=1.0), model=ModelConfig(dropout=0.0)),
            "task.r_drop=1 compares two dropout masks and model.dropout is 0; set model.dropout, as in 0.1, or leave task.r_drop open",
        ),
        (config(TaskConfig(name="question_answering", max_answer_length=0)), "task.max_answer_length is 0; allowed: 1 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(refused: Config, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check_task(refused)


@pytest.mark.parametrize("name", TASKS)
def test_the_plain_configuration_of_every_task_passes(name: str) -> None:
    check_task(config(TaskConfig(name=name)))
