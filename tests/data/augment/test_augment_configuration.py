"""Settings of changes that have no meaning are refused by key: out of range, or read by nobody."""

from __future__ import annotations

import dataclasses

import pytest

from ftjax import config_usage, configuration
from ftjax.config import AugmentConfig, Config, DataConfig, EvaluationConfig, TaskConfig, TextConfig
from ftjax.errors import ConfigError

TEXTS = Config(data=DataConfig(source="table", path="x"))


@pytest.mark.parametrize(
    ("key", "text", "allowed"),
    [
        ("augment.saturation", "-0.1", "0 or greater"),
        ("augment.rand_augment", "-1", "0 or greater"),
        ("augment.mixup", "-0.2", "0 or greater"),
        ("augment.cutmix", "-1", "0 or greater"),
        ("augment.hue", "0.6", "from 0 to 0.5"),
        ("augment.rand_magnitude", "11", "from 0 to 10"),
        ("augment.erasing", "1.5", "from 0 to 1"),
        ("augment.token_dropout", "1.0", "from 0 up to, not including, 1"),
    ],
)
def test_numbers_out_of_range(key, text, allowed):
    with pytest.raises(ConfigError) as error:
        configuration.resolve(None, {key: text}, Config())
    assert str(error.value).endswith(f"is out of range; allowed: {allowed}")
    assert f"{key}=" in str(error.value)


PICTURES = " and ".join(map(repr, config_usage.IMAGE_SOURCES))
OF_TEXT = " and ".join(map(repr, config_usage.TEXT_SOURCES))
NOT_READ = "is set and nothing reads it: "


@pytest.mark.parametrize(
    ("config", "message"),
    [
        *(
            (dataclasses.replace(TEXTS, augment=AugmentConfig(**{key: 1})), f"augment.{key}=1 {NOT_READ}data.source is 'table'; it is read by {PICTURES}")
            for key in ("saturation", "hue", "rand_augment", "erasing", "mixup", "cutmix")
        ),
        (
            dataclasses.replace(TEXTS, evaluation=EvaluationConfig(views="flip")),
            f"evaluation.views='flip' {NOT_READ}data.source is 'table'; it is read by {PICTURES}",
        ),
        (Config(augment=AugmentConfig(rand_magnitude=5.0)), f"augment.rand_magnitude=5.0 {NOT_READ}augment.rand_augment is 'off'; it is read by 'on'"),
        (Config(augment=AugmentConfig(token_dropout=0.1)), f"augment.token_dropout=0.1 {NOT_READ}data.source is 'digits'; it is read by {OF_TEXT}"),
        (Config(text=TextConfig(lowercase=True)), f"text.lowercase=True {NOT_READ}data.source is 'digits'; it is read by {OF_TEXT}"),
        (
            dataclasses.replace(TEXTS, text=TextConfig(truncation="left"), task=TaskConfig(name="token_classification")),
            f"text.truncation='left' {NOT_READ}task.name is 'token_classification'; it is read by 'classification' and 'multi_label' and 'regression' and "
            "'sentence_embedding'",
        ),
        (Config(text=TextConfig(truncation="middle")), f"text.truncation='middle' {NOT_READ}"),
    ],
)
def test_settings_that_nothing_reads(config, message):
    with pytest.raises(ConfigError) as error:
        config_usage.check_used(config)
    assert str(error.value).startswith(message)


def test_what_goes_together_is_accepted():
    config_usage.check_used(Config(augment=AugmentConfig(rand_augment=2, rand_magnitude=5.0, mixup=0.2, cutmix=1.0), evaluation=EvaluationConfig(views="flip")))
    config_usage.check_used(dataclasses.replace(TEXTS, augment=AugmentConfig(token_dropout=0.1), text=TextConfig(lowercase=True, truncation="middle")))
