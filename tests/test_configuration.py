"""The configuration refuses what it does not know, says what would do, and remembers where each value comes from."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjax import configuration
from ftjax.config import Config
from ftjax.errors import ConfigError


def write(folder: Path, body: str) -> str:
    path = folder / "c.py"
    path.write_text("import ml_collections\nfrom ftjax.config import *\ndef get_config(arg='0'):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
    return str(path)


def test_flags_override_the_file_and_every_origin_is_known(tmp_path: Path) -> None:
    file = write(tmp_path, "return Config(seed=int(arg), optimizer=OptimizerConfig(learning_rate=0.5))")
    resolved = configuration.resolve(f"{file}:7", {"optimizer.weight_decay": "1e-2", "train.batch_size": "1e2"})
    assert resolved.config.seed == 7
    assert resolved.config.optimizer.weight_decay == 0.01
    assert resolved.config.train.batch_size == 100
    assert isinstance(resolved.config.train.batch_size, int)
    assert resolved.origins["seed"][0] == "file"
    assert resolved.origins["optimizer.learning_rate"][0] == "file"
    assert resolved.origins["optimizer.weight_decay"] == ("flag", "--config.optimizer.weight_decay=1e-2")
    assert resolved.origins["mesh.data"][0] == "default"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("train.batch_size", "all", "all"),
        ("train.patience", "none", None),
        ("model.image_size", "(96, 64)", (96, 64)),
        ("model.image_size", "96,64", (96, 64)),
        ("model.remat", "true", True),
        ("data.path", "12", "12"),
        ("coefficient.rules", "[('head/.*', 1), ('.*', 0.1)]", (("head/.*", 1.0), (".*", 0.1))),
        ("coefficient.rules", "[('.*', [('0%', 0), ('50%', 1)])]", ((".*", (("0%", 0.0), ("50%", 1.0))),)),
        ("evaluation.baselines", "()", ()),
        ("evaluation.baselines", "['majority']", ("majority",)),
    ],
)
def test_a_flag_is_read_by_the_type_of_its_key(key: str, text: str, value: object) -> None:
    config = configuration.resolve(None, {key: text}).config
    assert dict(configuration.keys(config))[key] == value


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("optimizer.learning_rat", "1", "unknown key --config.optimizer.learning_rat; did you mean 'optimizer.learning_rate'"),
        ("optimizer", "1", "--config.optimizer is a group of keys; "),
        ("optimizer.learning_rate", "fast", "optimizer.learning_rate='fast' has the wrong type str; allowed: float or None"),
        ("optimizer.learning_rate", "-1", "optimizer.learning_rate=-1.0 is out of range; allowed: greater than 0"),
        ("train.batch_size", "2.5", "train.batch_size=2.5 has the wrong type float; allowed: int or 'all' or None"),
        ("train.batch_size", "al", "did you mean 'all'?"),
        ("method", "ful", "method='ful' is not a choice; did you mean 'full'?"),
        ("model.scan", "1", "model.scan=1 has the wrong type int; allowed: bool"),
        ("model.image_size", "96", "model.image_size=96 has the wrong type int; allowed: (int, int) or None; for a square write (96, 96)"),
        ("seed", "true", "seed='true' has the wrong type str; allowed: int"),
    ],
)
def test_a_bad_flag_is_named_with_what_is_allowed(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        configuration.resolve(None, {key: text})
    assert message in str(error.value)


def test_a_config_dict_is_as_strict_as_the_dataclass(tmp_path: Path) -> None:
    good = write(tmp_path, "return ml_collections.ConfigDict({'seed': 3, 'train': {'batch_size': 8}})")
    assert configuration.load_file(good).train.batch_size == 8
    bad = write(tmp_path, "return ml_collections.ConfigDict({'train': {'batch_sise': 8}})")
    with pytest.raises(ConfigError, match=r"unknown key train.batch_sise; did you mean 'batch_size'"):
        configuration.load_file(bad)


def test_a_misspelt_key_or_wrong_type_in_a_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c\.py, line \d+: .*unexpected keyword argument 'sed'.*; did you mean 'seed'\? allowed: 'adapter', 'after'"):
        configuration.load_file(write(tmp_path, "return Config(sed=1)"))
    with pytest.raises(ConfigError, match=r"unexpected keyword argument 'lr'.*; did you mean 'optimizer.learning_rate'\?"):
        configuration.load_file(write(tmp_path, "from ftjax.config import OptimizerConfig; return Config(optimizer=OptimizerConfig(lr=1))"))
    with pytest.raises(ConfigError, match=r"c\.py: seed='one' has the wrong type str; allowed: int"):
        configuration.load_file(write(tmp_path, "return Config(seed='one')"))
    with pytest.raises(ConfigError, match=r"get_config returned int; allowed"):
        configuration.load_file(write(tmp_path, "return 3"))
    with pytest.raises(ConfigError, match=r"no configuration file .*d\.py; did you mean '.*c\.py'"):
        configuration.load_file(str(tmp_path / "d.py"))


def test_a_resolved_configuration_is_read_back_from_json() -> None:
    config = configuration.resolve(None, {"coefficient.rules": "[('.*', [('0%', 0), ('50%', 1)])]", "model.image_size": "(8, 9)"}).config
    assert configuration.from_mapping(json.loads(json.dumps(configuration.to_mapping(config))), "config.json") == config


def test_differences_name_the_key_and_both_values() -> None:
    assert configuration.differences(Config(), Config(seed=2)) == ["seed: 0 -> 2"]


@given(st.sampled_from([key for key, _ in configuration.keys(Config())]))
def test_every_key_can_be_replaced_by_its_own_value(key: str) -> None:
    assert configuration.replace(Config(), {key: dict(configuration.keys(Config()))[key]}) == Config()


def test_the_schema_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 2  # type: ignore[misc]
