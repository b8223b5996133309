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


LOG = Config(data=DataConfig(source="interactions", path="log.csv"), task=TaskConfig(name="recommendation"))


@pytest.mark.parametrize(
    ("base", "key", "value", "said"),
    [
        (Config(), "recommendation.user_core", 5, "data.source is 'digits'; it is read by 'interactions'"),
        (LOG, "data.near_duplicates", "off", "data.source is 'interactions'"),
        (LOG, "data.test_fraction", 0.2, "recommendation.leave_out is 'last'; it is read by 'time'"),
        (LOG, "recommendation.test_from", "2020-01-01", "recommendation.leave_out is 'last'; it is read by 'time'"),
        (LOG, "recommendation.sampled_by", "popularity", "recommendation.sampled_negatives is 'off'; it is read by 'on'"),
        (LOG, "evaluation.top_k", 3, "task.name is 'recommendation'; it is read by 'classification'"),
    ],
)
def test_what_logs_and_others_do_not_read(base: Config, key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}={value!r} is set and nothing reads it: {said}"):
        check_used(configuration.replace(base, {key: value}))


def test_a_log_reads_its_own_keys_and_those_of_files() -> None:
    check_used(configuration.replace(LOG, {"recommendation.min_rating": 4.0, "text.delimiter": "::", "text.encoding": "latin-1", "text.buckets": 2}))
    check_used(configuration.replace(LOG, {"recommendation.leave_out": "time", "recommendation.test_from": "2020-01-01", "data.test_fraction": 0.2}))


@pytest.mark.parametrize("value", [(), (0, 5), (10, 5), (5, 5)])
def test_lengths_of_lists_ascend(value: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"recommendation\.k=.* is out of range; allowed: positive numbers, ascending, such as \(1, 5, 10, 20\)"):
        configuration.replace(Config(), {"recommendation.k": value})
