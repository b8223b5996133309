"""Batches are pure functions of their number: any order, any number of threads, any start."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.data import ImageFormat, Split, batch_at, eval_batches, image_split, train_batches
from ftjax.data.dataset import Rows
from ftjax.data.load import permutation
from ftjax.data.reading import OnDemand
from ftjax.errors import DataError

PINNED = [[0, 2, 9, 1, 8, 5, 4, 3, 6, 7], [5, 3, 7, 8, 2, 4, 1, 0, 6, 9], [9, 2, 4, 3, 1, 5, 0, 6, 7, 8]]


def split_of(rows: int) -> Split:
    pixels = np.arange(rows, dtype=np.uint8).reshape(rows, 1, 1, 1) * np.ones((1, 2, 3, 3), np.uint8)
    return image_split(tuple(f"{row:04d}" for row in range(rows)), (np.arange(rows) % 3).astype(np.int32), lambda indices: pixels[indices])


def equal(first, second) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) and first[key].dtype == second[key].dtype for key in first)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 70), st.integers(0, 2**63), st.integers(1, 4))
def test_every_row_comes_once_an_epoch_and_no_batch_is_short(rows, batch_size, seed, epochs):
    split, steps = split_of(rows), -(-rows * epochs // batch_size)
    batches = [batch_at(split, step, batch_size, seed) for step in range(steps)]
    assert all(len(batch["id"]) == batch_size for batch in batches)
    seen = np.concatenate([batch["id"] for batch in batches])[: rows * epochs].reshape(epochs, rows)
    for epoch in seen:
        assert sorted(epoch) == list(range(rows))


def test_a_batch_holds_the_pixels_and_labels_of_its_rows():
    split = split_of(10)
    batch = batch_at(split, 2, 4, 7)
    assert {key: (array.dtype.name, array.shape) for key, array in batch.items()} == {
        "image": ("uint8", (4, 2, 3, 3)),
        "label": ("int32", (4,)),
        "weight": ("float32", (4,)),
        "id": ("int32", (4,)),
    }
    assert batch["image"][:, 0, 0, 0].tolist() == batch["id"].tolist()
    assert batch["label"].tolist() == (batch["id"] % 3).tolist()
    assert batch["weight"].tolist() == [1.0] * 4


def test_the_order_is_the_same_for_ever():
    assert permutation(10, 0, 0).tolist() == PINNED[0]
    assert permutation(10, 0, 1).tolist() == PINNED[1]
    assert permutation(10, 5, 0).tolist() == PINNED[2]


def test_no_rows_make_no_batch():
    with pytest.raises(DataError, match=r"^there are no rows to make batches of$"):
        batch_at(split_of(0), 0, 4, 0)


@pytest.mark.parametrize("workers", [0, 1, 2, 7])
@pytest.mark.parametrize("start", [0, 5])
def test_stream_invariance(workers, start):
    split = split_of(23)
    stream = list(train_batches(split, 8, 3, start, 17, workers))
    assert len(stream) == 17 - start
    assert all(equal(batch, batch_at(split, start + k, 8, 3)) for k, batch in enumerate(stream))


def test_a_stream_of_nothing_is_empty():
    assert list(train_batches(split_of(3), 8, 3, 5, 5, 2)) == []


def test_closing_a_stream_stops_its_threads():
    # By identity, not by number: threads of earlier tests may end meanwhile.
    before = set(threading.enumerate())
    with contextlib.closing(train_batches(split_of(23), 8, 3, 0, 10_000, 4)) as stream:
        next(stream)
        started = set(threading.enumerate()) - before
        assert started
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in started) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.is_alive() for thread in started)


def test_an_unclosed_stream_does_not_keep_the_program_alive():
    program = (
        "import numpy as np; from ftjax.data import image_split, train_batches\n"
        "split = image_split(('a',), np.zeros(1, np.int32), lambda i: np.zeros((len(i), 2, 2, 3), np.uint8))\n"
        "stream = train_batches(split, 2, 0, 0, 10**6, 4); next(stream)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_behind_a_batch_reaches_the_reader(workers):
    def images(indices):
        raise DataError("cats/1.png: damaged")

    split = image_split(("cats/1.png",), np.zeros(1, np.int32), images)
    with pytest.raises(DataError, match=r"cats/1\.png: damaged"):
        next(train_batches(split, 2, 0, 0, 10, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_stalled_sample(workers):
    """A file that never answers ends the stream, by name, instead of hanging it."""
    never = threading.Event()

    def read(row: int) -> np.ndarray:
        if row == 3:
            never.wait()
        return np.zeros((4, 4, 3), np.uint8)

    rows = Rows("/mnt/gone", tuple(f"cats/{row}.png" for row in range(5)), np.zeros(5, np.int32), ("train",) * 5, ("cats",), read)
    split = image_split(rows.ids, rows.labels, OnDemand(rows, ImageFormat((4, 4)), 1000, np.arange(5), patience=0.3))
    with pytest.raises(DataError, match=r"/mnt/gone: no image could be read for 0\.3 s; waiting for cats/3\.png\. Is the disk or network mount alive\?"):
        list(train_batches(split, 5, 0, 0, 3, workers))
    never.set()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 50), st.sampled_from([0, 2]))
def test_evaluation_meets_every_row_once_in_order(rows, batch_size, workers):
    batches = list(eval_batches(split_of(rows), batch_size, workers))
    assert all(len(array) == batch_size for batch in batches for array in batch.values())
    weights = np.concatenate([batch["weight"] for batch in batches]) if batches else np.zeros(0)
    ids = np.concatenate([batch["id"] for batch in batches]) if batches else np.zeros(0)
    assert ids[weights > 0].tolist() == list(range(rows))
    assert (ids[weights == 0] == -1).all()
    assert sum(len(batch["id"]) for batch in batches) == -(-rows // batch_size) * batch_size
