"""Directions: optax's own numbers, the right matrices for Muon, and a bias correction that starts when a leaf does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import trees
from ftjax.coefficients import Row, partition
from ftjax.coefficients.directions import direction, is_muon
from ftjax.config import OptimizerConfig

NAMES = ("adamw", "sgd", "lion", "muon", "adafactor")
MATRICES = {"encoder/block_0/mlp/up/kernel", "encoder/block_1/mlp/up/kernel"}


def one_update(the: object, gradients: dict, steps: int = 1) -> dict:
    """The direction's own output after some steps of the same gradients."""
    rows = {row.path: row for row in the.table.rows}
    link = direction(the.config.optimizer, rows)
    step, state = jax.jit(link.update), link.init(the.params)
    for _ in range(steps):
        updates, state = step(gradients, state, the.params, hyper=the.hyper)
    return trees.flatten(updates)


def noisy(params: dict, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), params)


def test_muon_orthogonalises_matrices_inside_blocks_and_is_adam_elsewhere(law) -> None:
    the = law(name="muon", momentum=0.95)
    gradients, flat = noisy(the.params), trees.flatten(noisy(the.params))
    updates, adam = one_update(the, gradients, 3), one_update(law(), gradients, 3)
    by_hand = optax.contrib.muon(1.0, beta=0.95, consistent_rms=0.2)
    for path, update in updates.items():
        if path in MATRICES:
            step, state = jax.jit(by_hand.update), by_hand.init(flat[path])
            for _ in range(3):
                theirs, state = step(flat[path], state, flat[path])
            np.testing.assert_allclose(update, -theirs, atol=1e-5)
            # Five steps of Newton-Schulz put the singular values near 1, so the root mean square is near 0.2 for a square matrix.
            assert np.sqrt(np.mean(np.square(update))) == pytest.approx(0.2, rel=0.3)
        else:
            np.testing.assert_allclose(update, adam[path], rtol=1e-6, err_msg=path)


@pytest.mark.parametrize(
    ("group", "shape", "muon"),
    [
        ("block_3", (4, 8), True),
        ("block_3", (3, 3, 4, 8), True),
        ("block_3", (3, 3, 1, 8), False),
        ("block_3", (8,), False),
        ("stem", (4, 8), False),
        ("head", (4, 8), False),
        ("norm", (8,), False),
    ],
)
def test_muon_is_for_matrices_and_mixing_filters_of_blocks(group: str, shape: tuple, muon: bool) -> None:
    assert is_muon(row(group, shape)) == muon


def row(group: str, shape: tuple) -> Row:
    return Row(path="a", shape=shape, group=group, rule=0, value=1.0, depth=0, head=False, decay=1.0, anchor=0.0, new=False, why="")


def test_muon_flattens_a_filter_to_inputs_by_outputs(law) -> None:
    filters = jax.random.normal(jax.random.key(0), (3, 3, 4, 8))
    the = law(name="muon")
    rows = {"filter": row("block_0", (3, 3, 4, 8)), "matrix": row("block_0", (36, 8))}
    link = direction(the.config.optimizer, rows)
    both = {"filter": filters, "matrix": filters.reshape(36, 8)}
    updates, _ = link.update(both, link.init(both), both, hyper=the.hyper)
    np.testing.assert_allclose(updates["filter"].reshape(36, 8), updates["matrix"], atol=1e-6)


def test_adafactor_is_optax_factored_rms_with_block_clipping(law) -> None:
    params = {"big": jnp.ones((128, 130)), "small": jnp.ones((4, 3))}
    rows = dict.fromkeys(params, row("block_0", (1,)))
    the = law(name="adafactor")
    ours, theirs = direction(the.config.optimizer, rows), optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    mine, state = ours.init(params), theirs.init(params)
    assert mine[0].v_row["big"].size + mine[0].v_col["big"].size == 258
    for seed in range(4):
        gradients = noisy(params, seed)
        updates, mine = ours.update(gradients, mine, params, hyper=the.hyper)
        expected, state = theirs.update(gradients, state, params)
        for path, update in updates.items():
            np.testing.assert_allclose(update, expected[path], rtol=1e-5, err_msg=path)


def test_beta2_caps_the_memory_of_adafactor(law) -> None:
    """At beta2 = 0 the second moment is the last gradient's square: the update is the sign."""
    the = law(name="adafactor", beta2=0.0)
    link = direction(the.config.optimizer, {"w": row("head", (3,))})
    state = link.init({"w": jnp.zeros(3)})
    for gradient in ([1.0, 1.0, 1.0], [100.0, -3.0, 0.5]):
        updates, state = link.update({"w": jnp.array(gradient)}, state, {"w": jnp.zeros(3)}, hyper=the.hyper)
    np.testing.assert_allclose(updates["w"], [1.0, -1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("name", ["muon", "adafactor"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_direction_trains_part_of_a_tree_and_keeps_its_types(law, name: str, dtype: object) -> None:
    the = law(name=name, dtype=dtype, rules=(("group:block_1|head", 1.0), (".*", 0)))
    before, after = trees.flatten(the.params), the.train(steps=3)
    for path, leaf in after.items():
        assert leaf.dtype == dtype
        assert np.all(np.isfinite(leaf.astype(jnp.float32)))
        assert np.array_equal(leaf, before[path]) != ("block_1" in path or path.startswith("head")), path


@pytest.mark.parametrize("name", ["muon", "adafactor"])
def test_coefficient_a_tenth_is_the_learning_rate_over_ten(law, name: str) -> None:
    the = law(name=name)
    slow = the.train(hyper=the.hyper | {"coefficient": (jnp.array(0.1),)})
    for path, leaf in the.train(hyper=the.hyper | {"learning_rate": the.hyper["learning_rate"] / 10}).items():
        np.testing.assert_allclose(slow[path], leaf, atol=1e-6, err_msg=path)


@pytest.mark.parametrize(("name", "betas"), [("muon", ("momentum", "beta1", "beta2")), ("adafactor", ("beta2",))])
def test_betas_are_traced(law, name: str, betas: tuple) -> None:
    the = law(name=name)
    traces = []

    def train(hyper: dict) -> dict:
        traces.append(1)
        return the.train(steps=4, hyper=hyper)

    varied = {beta: jnp.array([0.5, 0.9]) for beta in betas}
    together = jax.jit(jax.vmap(train))(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 2), the.hyper) | varied)
    assert len(traces) == 1
    alone = the.train(steps=4, hyper=the.hyper | {beta: jnp.array(0.9) for beta in betas})
    for path, leaf in together.items():
        np.testing.assert_allclose(leaf[1], alone[path], atol=2e-6, err_msg=path)
        assert np.any(leaf[0] != leaf[1]), path


def cohorts_of(the: object, late: int) -> dict:
    return {row.path: 0 if row.head else late for row in the.table.rows if row.live}


def test_without_cohorts_there_is_one_state_and_with_them_one_for_each(law) -> None:
    the = law()
    rows = {row.path: row for row in the.table.rows}
    plain = direction(OptimizerConfig(), rows).init(the.params)
    assert jax.tree.structure(plain) == jax.tree.structure(optax.scale_by_adam().init(the.params))
    assert set(direction(OptimizerConfig(), rows, cohorts_of(the, 0)).init(the.params).inner_states) == {"from_0"}
    both = direction(OptimizerConfig(), rows, cohorts_of(the, 50)).init(the.params)
    assert set(both.inner_states) == {"from_0", "from_50"}
    assert sum(leaf.size for leaf in jax.tree.leaves(both)) == 2 * trees.count(the.params) + 2


@pytest.mark.parametrize("name", NAMES)
def test_cohorts_change_nothing_but_the_count(law, name: str) -> None:
    """From the same step on, two cohorts are one."""
    the = law(name=name)
    plain = the.train(steps=5)
    for path, leaf in the.train(steps=5, link=the.link(cohorts=cohorts_of(the, 50))).items():
        np.testing.assert_allclose(leaf, plain[path], atol=1e-6, err_msg=path)


def test_the_first_update_of_a_leaf_born_at_step_50_has_the_bias_corrected_size(law) -> None:
    """The state of phase 2 takes over the head's moments and count; the body starts from zero. With one count its step would be 1 / sqrt(1 - b2^51)."""
    the = law(weight_decay=0.0, clip_norm=float("inf"))
    head, _ = partition(the.params, {"head/kernel", "head/bias"})
    first, second = the.link(cohorts={"head/kernel": 0, "head/bias": 0}), the.link(cohorts=cohorts_of(the, 50))
    gradients, state = noisy(the.params), first.init(head)
    old, _ = partition(gradients, {"head/kernel", "head/bias"})
    warm_up = jax.jit(first.update)
    for step in range(50):
        _, state = warm_up(old, state, head, step=jnp.array(step), hyper=the.hyper)
    fresh = second.init(the.params)
    new, old = (part[1].inner_states["from_0"] for part in (fresh, state))
    carried = jax.tree.unflatten(jax.tree.structure(new), jax.tree.leaves(old))
    held = fresh[1]._replace(inner_states=fresh[1].inner_states | {"from_0": carried})
    updates, after = second.update(gradients, (fresh[0], held, *fresh[2:]), the.params, step=jnp.array(50), hyper=the.hyper)
    for path, update in trees.flatten(updates).items():
        np.testing.assert_allclose(np.abs(update), 0.01, rtol=1e-4, err_msg=path)
    counts = {name: int(inner.inner_state.count) for name, inner in after[1].inner_states.items()}
    assert counts == {"from_0": 51, "from_50": 1}


def test_cohorts_work_on_a_tree_with_holes(law) -> None:
    the = law(rules=(("group:stem", 0), (".*", 1.0)))
    after, before = the.train(link=the.link(cohorts=cohorts_of(the, 7))), trees.flatten(the.params)
    for path, leaf in after.items():
        assert np.array_equal(leaf, before[path]) == path.startswith("stem"), path
