"""The feature cache: an entry is found again by exactly what it depends on, and nothing that goes wrong with the disk stops a run or goes unsaid."""

from __future__ import annotations

import dataclasses
import errno
from importlib.metadata import version

import jax
import numpy as np
import pytest

from ftjax import models
from ftjax.data import ImageFormat, Normalize, Preprocessing
from ftjax.data.augment import HorizontalFlip
from ftjax.models import ModelSpec
from ftjax.training import feature_cache
from ftjax.training.feature_cache import FeatureCache, feature_key

SPEC = ModelSpec("vit", {"patch": 8, "width": 16, "depth": 1, "heads": 2, "mlp_ratio": 2.0}, 3, (16, 16))
PREPROCESSING = Preprocessing(ImageFormat((16, 16)), Normalize((0.5,) * 3, (0.5,) * 3), (), None)
VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def known() -> dict:
    model = models.build(SPEC)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0))[0])
    return {
        "model": model,
        "preprocessing": PREPROCESSING,
        "params": params,
        "batch_stats": {"stem": {"norm": {"mean": np.zeros(4)}}},
        "data_fingerprint": "f",
        "ids": ("a", "b", "c"),
        "shapes": (8,),
        "devices": 1,
    }


def with_leaf(params: dict, group: str) -> dict:
    """One number of one parameter moved by its smallest step."""
    changed = jax.tree.map(np.copy, params)
    leaf = changed["norm"]["scale"] if group == "norm" else changed["head"]["kernel"]
    leaf.reshape(-1)[0] = np.nextafter(leaf.reshape(-1)[0], np.float32(9))
    return changed


def test_every_component_and_nothing_else_makes_another_key(known, monkeypatch):
    key = feature_key(**known)
    other = {
        "data": {"data_fingerprint": "g"},
        "ids": {"ids": ("a", "c", "b")},
        "rows": {"ids": ("a", "b")},
        "preprocessing": {"preprocessing": dataclasses.replace(PREPROCESSING, normalize=Normalize((0.4,) * 3, (0.5,) * 3))},
        "size": {"preprocessing": dataclasses.replace(PREPROCESSING, image=ImageFormat((16, 16), crop_fraction=0.9))},
        "model": {"model": models.build(dataclasses.replace(SPEC, options={**SPEC.options, "heads": 4}))},
        "precision": {"model": models.build(SPEC, precision="bfloat16")},
        "parameters": {"params": with_leaf(known["params"], "norm")},
        "batch_stats": {"batch_stats": {"stem": {"norm": {"mean": np.ones(4)}}}},
        "shapes": {"shapes": (16,)},
        "devices": {"devices": 2},
    }
    names = {name: feature_cache._name(feature_key(**{**known, **change})) for name, change in other.items()}
    assert len({feature_cache._name(key), *names.values()}) == len(other) + 1
    same = {
        "head": {"params": with_leaf(known["params"], "head")},
        "classes": {"model": models.build(dataclasses.replace(SPEC, num_classes=5))},
        "augmentation": {"preprocessing": dataclasses.replace(PREPROCESSING, augment=(HorizontalFlip(),))},
        "dropout": {"model": models.build(SPEC, dropout=0.3)},
    }
    assert all(feature_key(**{**known, **change}) == key for change in same.values())
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    assert feature_key(**known) != key
    monkeypatch.undo()
    for library in ("pillow", "simplejpeg"):
        monkeypatch.setattr("ftjax.data.decode.version", lambda name, other=library: "0.0" if name == other else version(name))
        assert feature_key(**known) != key
        monkeypatch.undo()


def test_an_entry_is_computed_once_and_read_memory_mapped(known, tmp_path):
    key, calls = feature_key(**known), []

    def compute() -> np.ndarray:
        calls.append(1)
        return VALUES

    first = FeatureCache(tmp_path).get(key, compute)
    again = FeatureCache(tmp_path).get(key, compute)
    assert calls == [1]
    np.testing.assert_array_equal(first, VALUES)
    np.testing.assert_array_equal(again, VALUES)
    assert isinstance(again, np.memmap)
    assert not again.flags.writeable
    assert {path.parent.name for path in tmp_path.rglob("*.*")} == {"features"}
    assert FeatureCache(tmp_path).get({**key, "jax": "0.0.1"}, lambda: VALUES + 1)[0, 0] == 1
    assert FeatureCache(None).get(key, compute) is VALUES


@pytest.mark.parametrize("damage", ["a bit", "the end", "all", "json", "another key"])
def test_a_damaged_entry_is_computed_again_and_named(known, tmp_path, damage):
    key = feature_key(**known)
    FeatureCache(tmp_path).put(key, VALUES)
    array, about = (next((tmp_path / "features").glob(f"*.{kind}")) for kind in ("npy", "json"))
    content = bytearray(array.read_bytes())
    if damage == "a bit":
        content[-3] ^= 1
        array.write_bytes(content)
    elif damage == "another key":
        about.write_text(about.read_text().replace('"data": "f"', '"data": "h"'))
    elif damage == "json":
        about.write_text("{")
    else:
        array.write_bytes(content[:-5] if damage == "the end" else b"")
    cache = FeatureCache(tmp_path)
    np.testing.assert_array_equal(cache.get(key, lambda: VALUES), VALUES)
    assert len(cache.warnings) == 1
    assert str(array) in cache.warnings[0]
    assert "computed again" in cache.warnings[0]
    healed = FeatureCache(tmp_path)
    np.testing.assert_array_equal(healed.get(key, pytest.fail), VALUES)
    assert healed.warnings == []


def test_a_full_disk_is_a_warning_and_leaves_nothing_half_written(known, tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache.np, "save", full)
    cache = FeatureCache(tmp_path)
    np.testing.assert_array_equal(cache.get(feature_key(**known), lambda: VALUES), VALUES)
    assert cache.warnings == [f"features are not kept: {tmp_path / 'features'} cannot be written (No space left on device); the run goes on without the cache"]
    assert list((tmp_path / "features").iterdir()) == []
    assert cache.get(feature_key(**known), lambda: VALUES + 1)[0, 0] == 1
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert FeatureCache(blocked).get(feature_key(**known), lambda: VALUES) is not None
