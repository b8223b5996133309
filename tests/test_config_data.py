"""Keys of splitting and sampling that nothing would read, or that are out of range, are refused by name."""

from __future__ import annotations

import pytest

from ftjax import config_usage, configuration
from ftjax.config import Config, DataConfig
from ftjax.errors import ConfigError

UNREAD = [
    ({"fold": 2}, "data.fold=2 is set and nothing reads it: data.folds is 'off'; it is read by 'on'"),
    ({"test_fold": 0}, "data.test_fold=0 is set and nothing reads it: data.folds is 'off'; it is read by 'on'"),
    ({"folds": 5, "validation_fraction": 0.3}, "data.validation_fraction=0.3 is set and nothing reads it: data.folds is 'on'; it is read by 'off'"),
    ({"folds": 5, "test_fold": 1, "test_fraction": 0.3}, "data.test_fraction=0.3 is set and nothing reads it: data.test_fold is 'on'; it is read by 'off'"),
    ({"group": "(a)"}, "data.group='(a)' is set and nothing reads it: data.split is 'stratified'; it is read by 'group' and 'hash'"),
    ({"torn_groups": "warn"}, "data.torn_groups='warn' is set and nothing reads it: data.group is 'off'; it is read by 'on'"),
    ({"time": "when"}, "data.time='when' is set and nothing reads it: data.split is 'stratified'; it is read by 'time'"),
    ({"class_floor": 2}, "data.class_floor=2 is set and nothing reads it: data.fraction is 'off'; it is read by 'on'"),
    ({"mixture_temperature": 2.0}, "data.mixture_temperature=2.0 is set and nothing reads it: data.mixture is 'off'; it is read by 'on'"),
    ({"mixture": (("a", 1.0),)}, "data.mixture=(('a', 1.0),) is set and nothing reads it: data.source is 'digits'; it is read by 'image_folder' and"),
]


@pytest.mark.parametrize(("data", "message"), UNREAD, ids=[str(data) for data, _ in UNREAD])
def test_a_key_that_nothing_reads_is_refused(data, message):
    with pytest.raises(ConfigError) as error:
        config_usage.check_used(Config(data=DataConfig(**data)))
    assert str(error.value).startswith(message)


def test_keys_that_are_read_pass():
    config_usage.check_used(Config(data=DataConfig(folds=5, fold=2, test_fold=1, fraction=0.5, class_floor=2, max_per_class=9)))
    config_usage.check_used(Config(data=DataConfig(split="group", group="(a)", torn_groups="warn")))
    config_usage.check_used(Config(data=DataConfig(source="table", path="a", split="time", time="when", mixture=(("b", 2.0),), mixture_temperature=3.0)))


OUT = [
    ("folds", "1", "data.folds=1 is out of range; allowed: 2 or more"),
    ("fold", "-1", "data.fold=-1 is out of range; allowed: 0 or greater"),
    ("fraction", "0", "data.fraction=0.0 is out of range; allowed: greater than 0, at most 1"),
    ("fraction", "1.5", "data.fraction=1.5 is out of range; allowed: greater than 0, at most 1"),
    ("class_floor", "0", "data.class_floor=0 is out of range; allowed: greater than 0"),
    ("max_per_class", "0", "data.max_per_class=0 is out of range; allowed: greater than 0"),
    ("mixture_temperature", "0", "data.mixture_temperature=0.0 is out of range; allowed: greater than 0"),
    ("split", "grouped", "data.split='grouped' is not a choice; did you mean 'group'? allowed: 'group', 'hash', 'stratified', 'time'"),
    ("mixture", "(('a',),)", "has the wrong type tuple"),
]


@pytest.mark.parametrize(("key", "value", "message"), OUT, ids=[f"{key}={value}" for key, value, _ in OUT])
def test_a_value_out_of_range_is_refused(key, value, message):
    with pytest.raises(ConfigError) as error:
        configuration.resolve(None, {f"data.{key}": value}, Config())
    assert message in str(error.value)


def test_a_mixture_is_read_from_a_flag():
    found = configuration.resolve(None, {"data.mixture": "(('a', 2), ('b', 0.5))"}, Config()).config.data.mixture
    assert found == (("a", 2.0), ("b", 0.5))
