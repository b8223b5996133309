"""One compilation for all splits, every example exactly once, the same on any number of devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftjax.data import image_split
from ftjax.errors import DataError
from ftjax.evaluation import Evaluator, Records, measures_of
from ftjax.evaluation.evaluator import pad
from ftjax.tasks import Classification

CLASSES = 3


def batches_of(rows: int, size: int, *, seed: int = 0, padded: bool = True) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(seed)
    whole = {
        "image": generator.integers(0, 256, (rows, 2, 2, 3), dtype=np.uint8),
        "label": generator.integers(0, CLASSES, rows).astype(np.int32),
        "weight": np.ones(rows, np.float32),
        "id": np.arange(rows, dtype=np.int32),
    }
    parts = [{name: value[start : start + size] for name, value in whole.items()} for start in range(0, rows, size)]
    return [pad(part, size) for part in parts] if padded else parts


def params(seed: int = 1) -> dict[str, jax.Array]:
    return {"kernel": jax.random.normal(jax.random.key(seed), (12, CLASSES))}


def predict(params, extra, batch):
    flat = batch["image"].reshape(len(batch["image"]), -1).astype(jnp.float32) / 255
    return flat @ params["kernel"] + extra["shift"]


EXTRA = {"shift": jnp.zeros((1, CLASSES))}


def assert_same(one: Records, other: Records) -> None:
    for name in ("id", "label", "prediction", "label_rank", "weight"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in ("confidence", "label_log_probability"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-6)


MEASURES = measures_of(Classification(("a", "b", "c")))
SPLIT = image_split((), np.zeros(0, np.int32), lambda rows: np.zeros((len(rows), 2, 2, 3), np.uint8))
SHARED = Evaluator(predict, MEASURES, batch_size=16)


@settings(deadline=None, max_examples=25)
@given(rows=st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 70]), padded=st.booleans())
def test_every_example_counts_once_whatever_the_last_batch(rows, padded):
    found = SHARED.run(params(), EXTRA, iter(batches_of(rows, 16, padded=padded)), SPLIT, logits=True)
    assert found.id.tolist() == list(range(rows))
    assert np.all(found.weight == 1)
    everything = batches_of(rows, rows)[0]
    expected = np.asarray(predict(params(), EXTRA, everything))
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5, atol=1e-6)
    assert_same(found, Records.from_logits(expected, everything["label"]))


def test_one_compilation_serves_every_split_and_the_request_for_logits():
    traces = []

    def counted(params, extra, batch):
        traces.append(batch["image"].shape)
        return predict(params, extra, batch)

    evaluator = Evaluator(counted, MEASURES, batch_size=8)
    evaluator.run(params(), EXTRA, batches_of(20, 8), SPLIT)
    evaluator.run(params(2), EXTRA, batches_of(3, 8, padded=False), SPLIT, logits=True)
    evaluator.run(params(), EXTRA, batches_of(8, 4, padded=False), SPLIT)
    assert traces == [(8, 2, 2, 3)]


def test_logits_come_only_on_request():
    evaluator = Evaluator(predict, MEASURES, batch_size=8)
    assert evaluator.run(params(), EXTRA, batches_of(9, 8), SPLIT).logits is None
    assert evaluator.run(params(), EXTRA, batches_of(9, 8), SPLIT, logits=True).logits.shape == (9, CLASSES)


def test_eight_devices_find_what_one_finds():
    mesh = Mesh(np.array(jax.devices()).reshape(8), ("data",))
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = jax.device_put((params(), EXTRA), NamedSharding(mesh, PartitionSpec()))
    evaluator = Evaluator(predict, MEASURES, batch_size=16, put=lambda batch: jax.device_put(batch, sharding))
    sharded = evaluator.run(*everywhere, batches_of(45, 10, padded=False), SPLIT, logits=True)
    single = Evaluator(predict, MEASURES, batch_size=10).run(params(), EXTRA, batches_of(45, 10), SPLIT, logits=True)
    assert_same(sharded, single)
    np.testing.assert_allclose(sharded.logits, single.logits, rtol=1e-5, atol=1e-6)


def test_batches_are_queued_before_the_first_result_is_read(monkeypatch):
    module = __import__("sys").modules["ftjax.evaluation.evaluator"]
    order = []
    read = module._on_host
    monkeypatch.setattr(module, "_on_host", lambda item: order.append("read") or read(item))

    def watched():
        for batch in batches_of(7 * 4, 4):
            order.append("queued")
            yield batch

    Evaluator(predict, MEASURES, batch_size=4).run(params(), EXTRA, watched(), SPLIT)
    assert order[:5] == ["queued"] * 5
    assert order.count("read") == 7
    assert order.index("read") < len(order) - 7, "old batches are read while new ones come, so memory is bounded"


def test_an_example_that_comes_twice_is_named():
    batches = batches_of(6, 4)
    batches[1]["id"] = np.array([4, 2, 0, 0], np.int32)
    with pytest.raises(DataError, match=r"^example 2 was evaluated 2 times; every example must count once$"):
        Evaluator(predict, MEASURES, batch_size=4).run(params(), EXTRA, batches, SPLIT)


def test_a_batch_that_is_too_long_is_refused():
    with pytest.raises(DataError, match=r"^a batch of 6 examples does not fit evaluation\.batch_size 4$"):
        Evaluator(predict, MEASURES, batch_size=4).run(params(), EXTRA, batches_of(6, 6), SPLIT)


def test_no_batch_is_an_error():
    with pytest.raises(DataError, match=r"^no records to concatenate"):
        Evaluator(predict, MEASURES, batch_size=4).run(params(), EXTRA, iter(()), SPLIT)


def test_padding_rows_have_weight_zero_and_every_array_has_them():
    padded = pad(batches_of(3, 3)[0], 5)
    assert {name: len(value) for name, value in padded.items()} == dict.fromkeys(("image", "label", "weight", "id"), 5)
    assert padded["weight"].tolist() == [1, 1, 1, 0, 0]
    assert padded["image"].dtype == np.uint8
