"""Values that nothing would read are refused, whatever the order of the choices."""

import dataclasses

import pytest

from ftjax import configuration
from ftjax.config import Config, DataConfig, TaskConfig
from ftjax.config_usage import _READ_BY, check_used
from ftjax.errors import ConfigError

TEXTS = Config(data=DataConfig(source="table"), task=TaskConfig(name="sentence_embedding"))


def test_every_key_is_one_of_the_schema() -> None:
    known = dict(configuration.keys(Config()))
    assert [key for key, *_ in _READ_BY if key not in known] == []
    check_used(Config())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("text.label", "stars", "task.name is 'sentence_embedding'"),
        ("evaluation.top_k", 3, "task.name is 'sentence_embedding'; it is read by 'classification'"),
        ("data.max_pixels", 10, "data.source is 'table'"),
    ],
)
def test_what_texts_for_embedding_do_not_read(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}={value!r} is set and nothing reads it: {said}"):
        check_used(configuration.replace(TEXTS, {key: value}))


def test_a_key_that_two_choices_decide_about_needs_both() -> None:
    labelled = dataclasses.replace(TEXTS, task=TaskConfig(name="classification"))
    check_used(configuration.replace(labelled, {"text.label": "stars"}))
    with pytest.raises(ConfigError, match=r"^text\.label='stars' is set and nothing reads it: data\.source is 'conll'; it is read by 'table'"):
        check_used(configuration.replace(labelled, {"text.label": "stars", "data.source": "conll"}))
