"""Ranking on the device against a plain sort: chunks, ties, known items, several targets, scores that are no numbers, and memory."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ranking_examples import by_sorting, random_rows, split_of

from ftjax.evaluation.ranking import ranked, ranked_among

ITEMS = 23
compiled = jax.jit(ranked, static_argnames=("items", "k", "chunk"))


def found_for(rows, users, table, *, items=ITEMS, k=5, chunk=7, bias=None):
    batch = split_of(rows, items, several=True).fields(np.arange(len(rows)))
    result = compiled(users, table, jnp.asarray(batch["seen"]), jnp.asarray(batch["targets"]), items=items, k=k, chunk=chunk, bias=bias)
    return jax.tree.map(np.asarray, result)


def check(rows, users, table, found, *, items=ITEMS, k=5, bias=0.0):
    scores = (np.asarray(users, np.float64) @ np.asarray(table, np.float64).T + bias)[:, 1 : items + 1]
    for row, (known, targets) in enumerate(rows):
        ranks, best = by_sorting(scores[row], known, targets, k)
        assert found.ranks[row, : len(targets)].tolist() == ranks
        assert (found.ranks[row, len(targets) :] == 0).all()
        assert found.items[row].tolist() == best
        np.testing.assert_allclose(found.scores[row][found.items[row] > 0], [scores[row, item - 1] for item in best if item], rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([1, 7, 22, 23, 50]))
def test_places_and_lists_are_those_of_a_plain_sort_whatever_the_chunk(seed, chunk):
    generator = np.random.default_rng(seed)
    rows = random_rows(generator, 6, ITEMS, targets=4)
    # Small whole numbers: many scores are equal, and sums are exact.
    users, table = (jnp.asarray(generator.integers(-2, 3, shape), jnp.float32) for shape in ((6, 3), (ITEMS + 3, 3)))
    check(rows, users, table, found_for(rows, users, table, chunk=chunk))


def test_a_bias_is_added_to_every_score():
    generator = np.random.default_rng(0)
    rows = random_rows(generator, 6, ITEMS)
    users, table = (jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in ((6, 3), (ITEMS + 1, 3)))
    bias = jnp.asarray(generator.normal(size=ITEMS + 1), jnp.float32)
    check(rows, users, table, found_for(rows, users, table, bias=bias), bias=np.asarray(bias, np.float64))


def test_a_model_that_likes_everything_alike_finds_nothing():
    rows = [((1, 2), (3,)), ((4,), (1,))]
    found = found_for(rows, jnp.zeros((2, 3)), jnp.zeros((ITEMS + 1, 3)))
    assert found.ranks.tolist() == [[ITEMS - 2], [ITEMS - 1]]
    assert found.items.tolist() == [[3, 4, 5, 6, 7], [1, 2, 3, 5, 6]]


def test_a_target_that_the_user_knows_is_missed():
    found = found_for([((1, 2), (2,))], jnp.ones((1, 1)), jnp.arange(ITEMS + 1.0)[::-1, None])
    assert found.ranks.tolist() == [[ITEMS]]
    assert found.items.tolist() == [[3, 4, 5, 6, 7]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_is_last_and_never_recommended(bad):
    table = jnp.arange(ITEMS + 1.0)[:, None].at[5].set(bad)
    assert found_for([((1,), (5,)), ((1,), (4,))], jnp.ones((2, 1)), table).ranks.tolist() == [[ITEMS], [ITEMS - 4]]
    everything = found_for([((1,), (5,))], jnp.full((1, 1), bad), table)
    assert everything.ranks.tolist() == [[ITEMS]]
    assert everything.items.tolist() == [[0] * 5]


def test_special_rows_behind_the_items_are_never_recommended():
    table = jnp.zeros((ITEMS + 3, 1)).at[0].set(9.0).at[ITEMS + 1 :].set(9.0).at[2].set(1.0)
    found = found_for([((1,), (2,))], jnp.ones((1, 1)), table)
    assert found.ranks.tolist() == [[1]]
    assert found.items[0, 0] == 2


def test_a_list_longer_than_the_catalogue_is_as_long_as_it():
    found = found_for([((1,), (2,))], jnp.ones((1, 1)), jnp.arange(4.0)[:, None], items=3, k=20)
    assert found.items.tolist() == [[3, 2, 0]]


def test_memory_does_not_grow_with_users_times_items():
    """A million items: what is held beside the arguments is some chunks of scores, not a row for every item."""
    batch, chunk, width = 64, 4096, 8

    def temporary(items):
        shapes = ((batch, width), jnp.float32), ((items + 1, width), jnp.float32), ((batch, 64), jnp.int32), ((batch, 1), jnp.int32)
        arguments = [jax.ShapeDtypeStruct(shape, kind) for shape, kind in shapes]
        program = jax.jit(functools.partial(ranked, items=items, k=20, chunk=chunk)).lower(*arguments).compile()
        return program.memory_analysis().temp_size_in_bytes

    small, large = temporary(20_000), temporary(1_000_000)
    assert large < small + 2**20
    assert large < 16 * batch * chunk * 4 < batch * 1_000_000 * 4 / 8


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_a_sampled_place_is_the_place_among_the_sample(seed):
    generator = np.random.default_rng(seed)
    users, table = (jnp.asarray(generator.integers(-2, 3, shape), jnp.float32) for shape in ((4, 3), (ITEMS + 1, 3)))
    targets = jnp.asarray(generator.integers(1, ITEMS + 1, (4, 1)), jnp.int32)
    negatives = jnp.asarray([[*(item for item in generator.permutation(ITEMS) + 1 if item != target), 0][-7:] for target in targets[:, 0]], jnp.int32)
    found = jax.jit(ranked_among, static_argnames="k")(users, table, targets, negatives, k=3)
    scores = np.asarray(users, np.float64) @ np.asarray(table, np.float64).T
    for row in range(4):
        own, others = scores[row, targets[row, 0]], scores[row, negatives[row, :6]]
        assert found.ranks[row, 0] == 1 + np.sum(others >= own)
        np.testing.assert_allclose(found.scores[row], np.sort([own, *others])[::-1][:3])


def test_users_on_eight_devices_are_ranked_as_on_one():
    generator = np.random.default_rng(5)
    rows = random_rows(generator, 16, ITEMS, targets=2)
    users, table = (jnp.asarray(generator.integers(-2, 3, shape), jnp.float32) for shape in ((16, 3), (ITEMS + 1, 3)))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.device_put(users, jax.NamedSharding(mesh, jax.P("data")))
    check(rows, users, table, found_for(rows, spread, jax.device_put(table, jax.NamedSharding(mesh, jax.P()))))
