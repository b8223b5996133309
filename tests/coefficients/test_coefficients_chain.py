"""The chain obeys the law: exact freezing, one fixed order, optax's own numbers, and every number traced."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax import trees
from ftjax.coefficients import partition

LATE = (("0%", 0.0), ("50%", 0.0), ("50%", 1.0))


def assert_close(ours: dict, theirs: dict, atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for path, leaf in ours.items():
        np.testing.assert_allclose(leaf, theirs[path], rtol=0, atol=atol, err_msg=path)


def assert_frozen(before: dict, after: dict, moved: set[str]) -> None:
    """Every path outside `moved` is the same bit for bit, every path inside has changed."""
    for path, leaf in before.items():
        same = np.asarray(leaf).tobytes() == np.asarray(after[path]).tobytes()
        assert same == (path not in moved), path


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_coefficient_0_freezes_bit_for_bit_under_weight_decay_and_pull(law, name: str, dtype: object) -> None:
    """A static, a scheduled and a traced zero, side by side."""
    scheduled = (("0 steps", 0.0), ("19 steps", 0.0), ("19 steps", 1.0))
    the = law(rules=(("group:stem", 0), ("group:block_0", scheduled), ("group:block_1", 1.0), (".*", 1.0)), name=name, dtype=dtype)
    one, zero = jnp.array(1.0), jnp.array(0.0)
    after = the.train(steps=19, hyper=the.hyper | {"pull": one, "coefficient": (one, one, zero, one)}, anchored=True)
    assert_frozen(trees.flatten(the.params), after, {"norm/scale", "head/kernel", "head/bias"})


def test_a_scheduled_leaf_moves_from_its_very_step_on(law) -> None:
    the = law(rules=(("head/.*", 1.0), (".*", LATE)))
    before, head = trees.flatten(the.params), {"head/kernel", "head/bias"}
    assert_frozen(before, the.train(steps=10), head)
    assert_frozen(before, the.train(steps=11), set(before))


def test_still_leaves_have_no_moments(law) -> None:
    the = law(rules=(("head/.*", 1.0), (".*", 0)), anchor={})
    live, _ = partition(the.params, the.table.live_paths)
    state = the.link().init(live)
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == 2 * trees.count(the.params["head"]) + 1


def decayed(params: dict) -> dict:
    return trees.map_with_path(lambda path, leaf: path.endswith("kernel"), params)


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("adamw", {}, lambda h, lr: (optax.scale_by_adam(h["beta1"], h["beta2"], h["epsilon"]), 0.1, lr)),
        ("sgd", {}, lambda h, lr: (optax.trace(h["momentum"]), 0.1, lr)),
        ("lion", {"beta2": 0.99}, lambda h, lr: (optax.scale_by_lion(h["beta1"], h["beta2"]), 0.1, lr)),
    ],
)
def test_with_every_coefficient_1_it_is_the_hand_written_optax_chain(law, name: str, options: dict, make: object) -> None:
    the = law(name=name, clip_norm=2.0, **options)
    core, weight_decay, learning_rate = make(the.hyper, 0.01)
    by_hand = optax.chain(optax.clip_by_global_norm(2.0), core, optax.add_decayed_weights(weight_decay, decayed), optax.scale_by_learning_rate(learning_rate))
    link = optax.GradientTransformationExtraArgs(by_hand.init, lambda g, s, p, **_: by_hand.update(g, s, p))
    assert_close(the.train(), the.train(link=link), atol=3e-7)


def test_without_clipping_it_is_optax_adamw_itself(law) -> None:
    with jax.enable_x64(True):
        the = law(clip_norm=float("inf"), dtype=jnp.float64)
        adamw = optax.adamw(0.01, weight_decay=0.1, mask=decayed)
        link = optax.GradientTransformationExtraArgs(adamw.init, lambda g, s, p, **_: adamw.update(g, s, p))
        assert_close(the.train(), the.train(link=link), atol=1e-14)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_coefficient_a_tenth_is_the_learning_rate_over_ten(law, name: str) -> None:
    the = law(name=name)
    slow = the.train(hyper=the.hyper | {"coefficient": (jnp.array(0.1),)})
    assert_close(slow, the.train(hyper=the.hyper | {"learning_rate": the.hyper["learning_rate"] / 10}), atol=1e-6)
    assert_close(slow, law(name=name, rules=((".*", 0.1),)).train(), atol=1e-6)


def test_weight_decay_is_scaled_by_the_coefficient(law) -> None:
    the = law(rules=(("head/.*", 1.0), (".*", 0.25)), name="sgd", weight_decay=0.5)
    live, _ = partition(the.params, the.table.live_paths)
    link, nothing = the.link(), jax.tree.map(jnp.zeros_like, live)
    updates, _ = link.update(nothing, link.init(live), live, step=jnp.array(0), hyper=the.hyper)
    np.testing.assert_allclose(updates["stem"]["patch"]["kernel"], -0.01 * 0.25 * 0.5 * live["stem"]["patch"]["kernel"], rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.01 * 0.5 * live["head"]["kernel"], rtol=1e-6)
    assert not np.any(updates["norm"]["scale"])


def test_clipping_sees_live_leaves_only(law) -> None:
    the = law(rules=(("head/.*", 1.0), (".*", 0)), name="sgd", weight_decay=0.0, clip_norm=1.0, learning_rate=1.0, anchor={})
    live, _ = partition(the.params, the.table.live_paths)
    link, ones = the.link(), jax.tree.map(jnp.ones_like, live)
    updates, _ = link.update(ones, link.init(live), live, step=jnp.array(0), hyper=the.hyper)
    np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["bias"], -1 / np.sqrt(trees.count(live)), rtol=1e-6)


def test_gradients_below_the_norm_pass_unclipped_and_zero_ones_stay_zero(law) -> None:
    the = law(name="sgd", weight_decay=0.0, clip_norm=1e3, learning_rate=1.0)
    link = the.link()
    for gradients in (jax.tree.map(jnp.ones_like, the.params), jax.tree.map(jnp.zeros_like, the.params)):
        updates, _ = link.update(gradients, link.init(the.params), the.params, step=jnp.array(0), hyper=the.hyper)
        assert jax.tree.all(jax.tree.map(lambda u, g: bool(jnp.all(u == -g)), updates, gradients))


def test_pull_is_the_gradient_of_the_l2_sp_penalty_for_sgd(law) -> None:
    the = law(name="sgd", weight_decay=0.0, momentum=0.0, clip_norm=float("inf"))
    pulled = the.train(hyper=the.hyper | {"pull": jnp.array(3.0)}, anchored=True)
    plain, anchor = the.link(), the.params

    def penalised(grads: dict, state: object, params: dict, **extra: object) -> tuple:
        def penalty(params: dict) -> jax.Array:
            body = {name: params[name] for name in params if name != "head"}
            start = {name: anchor[name] for name in body}
            return 1.5 * sum(jnp.sum((a - b) ** 2) for a, b in zip(jax.tree.leaves(body), jax.tree.leaves(start)))

        return plain.update(jax.tree.map(jnp.add, grads, jax.grad(penalty)(params)), state, params, **extra)

    assert_close(pulled, the.train(link=optax.GradientTransformationExtraArgs(plain.init, penalised)), atol=1e-6)
    assert np.abs(pulled["stem/patch/kernel"] - the.train()["stem/patch/kernel"]).max() > 1e-3


def test_without_an_anchor_or_a_strength_there_is_no_pull(law) -> None:
    the = law()
    strong = the.hyper | {"pull": jnp.array(3.0)}
    assert_close(the.train(hyper=strong), the.train(), atol=0)
    assert_close(the.train(anchored=True), the.train(), atol=1e-7)


def test_an_anchor_may_cover_some_leaves_only(law) -> None:
    the = law(name="sgd", weight_decay=0.0)
    link, hyper = the.link(), the.hyper | {"pull": jnp.array(1.0)}
    anchor = trees.map_with_path(lambda path, leaf: jnp.zeros_like(leaf) if path == "norm/scale" else None, the.params)
    nothing = jax.tree.map(jnp.zeros_like, the.params)
    updates, _ = link.update(nothing, link.init(the.params), the.params, step=jnp.array(0), hyper=hyper, anchor=anchor)
    assert {path for path, update in trees.flatten(updates).items() if np.any(update)} == {"norm/scale"}


def test_a_retraction_has_the_last_word_on_the_whole_displacement(law) -> None:
    the = law()
    seen = {}

    def halve(row: object, moved: jax.Array, displacement: jax.Array, gradient: jax.Array, step: jax.Array, hyper: dict, start: jax.Array) -> jax.Array:
        seen[row.path] = (moved.shape, displacement.shape, gradient.shape, step.shape, start.shape)
        return moved / 2

    free, halved = the.train(steps=1, anchored=True), the.train(steps=1, anchored=True, link=the.link(retraction=halve))
    start = trees.flatten(the.params)
    assert_close(halved, {path: start[path] + (free[path] - start[path]) / 2 for path in start}, atol=1e-6)
    assert set(seen) == set(start)
    assert seen["head/bias"] == ((2,), (2,), (2,), (), (2,))


def population(values: dict) -> list[dict]:
    return [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(3)]


def test_a_population_over_every_hyperparameter_equals_the_loop_in_one_trace(law) -> None:
    the = law(rules=(("head/.*", 1.0), ("stem/.*", LATE), (".*", 0.5)))
    traces = []

    def train(hyper: dict) -> dict:
        traces.append(1)
        return the.train(hyper=hyper, anchored=True)

    spread = {"learning_rate": 0.1, "weight_decay": 0.5, "clip_norm": 3.0, "layer_decay": 0.9, "head_factor": 5.0, "pull": 1.0, "beta1": 0.9, "beta2": 0.99}
    varied = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, 3), the.hyper)
    varied |= {name: top * jnp.array([0.5, 0.8, 1.0]) for name, top in spread.items()}
    varied["coefficient"] = (jnp.ones(3), jnp.array([0.0, 0.5, 1.0]), jnp.array([2.0, 1.0, 0.1]))
    together = jax.jit(jax.vmap(train))(varied)
    assert len(traces) == 1
    one = jax.jit(train)
    for index, hyper in enumerate(population(varied)):
        assert_close(one(hyper), {path: leaf[index] for path, leaf in together.items()}, atol=2e-6)
    assert len(traces) == 2


def test_neither_steps_nor_numbers_retrace(law) -> None:
    the = law(schedule="cosine", warmup="10%")
    link, traces = the.link(), []

    @jax.jit
    def step(live: dict, state: object, index: jax.Array, hyper: dict) -> tuple:
        traces.append(1)
        updates, state = link.update(live, state, live, step=index, hyper=hyper)
        return optax.apply_updates(live, updates), state

    live, state = the.params, link.init(the.params)
    for index in range(5):
        hyper = the.hyper | {"learning_rate": the.hyper["learning_rate"] * (index + 1)}
        live, state = step(live, state, jnp.array(index), hyper)
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", [jnp.float64, jnp.float32])
def test_float64_stays_float64_and_float32_is_not_widened(law, dtype: object) -> None:
    with jax.enable_x64(True):
        the = law(dtype=dtype, rules=((".*", (("0%", 0.5), ("100%", 1.0))),), schedule="cosine")
        assert {leaf.dtype for leaf in the.train(anchored=True).values()} == {jnp.dtype(dtype)}


def test_the_learning_rate_follows_the_step_it_is_given_not_a_count_of_its_own(law) -> None:
    the = law(schedule="linear", name="sgd", weight_decay=0.0, momentum=0.0, clip_norm=float("inf"))
    link, ones = the.link(), jax.tree.map(jnp.ones_like, the.params)
    updates, _ = link.update(ones, link.init(the.params), the.params, step=jnp.array(15), hyper=the.hyper)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.01 * 0.25, rtol=1e-6)


def test_a_decay_schedule_is_obeyed(law) -> None:
    the = law(name="sgd", decay_rules=((".*", LATE),), clip_norm=float("inf"))
    nothing, link = jax.tree.map(jnp.zeros_like, the.params), the.link()
    for step, moves in ((9, False), (10, True)):
        updates, _ = link.update(nothing, link.init(the.params), the.params, step=jnp.array(step), hyper=the.hyper)
        assert np.any(updates["norm"]["scale"]) == moves


def test_a_row_can_be_pulled_harder_than_another(law) -> None:
    the = law(name="sgd", weight_decay=0.0, clip_norm=float("inf"))
    rows = tuple(dataclasses.replace(row, anchor=2.0 if row.group == "stem" else row.anchor) for row in the.table.rows)
    link = the.link(dataclasses.replace(the.table, rows=rows))
    nothing, anchor = (jax.tree.map(jnp.zeros_like, the.params) for _ in range(2))
    updates, _ = link.update(nothing, link.init(the.params), the.params, step=jnp.array(0), hyper=the.hyper | {"pull": jnp.array(1.0)}, anchor=anchor)
    np.testing.assert_allclose(updates["stem"]["position"], -0.02 * the.params["stem"]["position"], rtol=1e-6)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.01 * the.params["norm"]["scale"], rtol=1e-6)
    assert not np.any(updates["head"]["kernel"])


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_an_eighth_of_the_coefficient_is_an_eighth_of_the_learning_rate_bit_for_bit(law, name: str) -> None:
    """A power of two rounds nothing, so that the identity is exact; weight decay and pull are scaled along."""
    slow = law(rules=(("group:head", 1.0), (".*", 0.125)), name=name, learning_rate=0.01, anchor={"pull": 1.0})
    eighth = law(rules=(("group:head", 8.0), (".*", 1.0)), name=name, learning_rate=0.01 / 8, anchor={"pull": 1.0})
    assert_close(slow.train(anchored=True), eighth.train(anchored=True), atol=0)
