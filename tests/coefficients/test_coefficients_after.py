"""After training: exact end points, LiNeS by hand, averages against numpy, soups that never lose, one vmap for a whole curve."""

import doctest

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.coefficients import after
from ftjax.config import AfterConfig
from ftjax.errors import ConfigError, FtjaxError

GROUPS = ("stem", "block_0", "block_1", "block_2", "norm", "head")
SHARES = after.depth_shares(GROUPS)


def tree(seed: int, dtype=jnp.float32) -> dict:
    """A stem, three blocks, a norm, a head, and a hole."""
    keys = jax.random.split(jax.random.key(seed), len(GROUPS))
    return {group: {"kernel": jax.random.normal(key, (2, 3), dtype), "hole": None} for group, key in zip(GROUPS, keys)}


THETA0, THETA = tree(0), tree(1)
ANCHORED = frozenset(f"{group}/kernel" for group in GROUPS if group != "head")


def depth_of(path: str) -> float:
    return SHARES[path.split("/")[0]]


def same_bits(one, other) -> bool:
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_wise_ft_ends_bit_for_bit_at_the_pretrained_and_at_the_trained_weights(compiled: bool, dtype) -> None:
    theta0, theta = tree(0, dtype), tree(1, dtype)
    theta0["stem"]["kernel"] = theta0["stem"]["kernel"].at[0, 0].set(-0.0)
    function = jax.jit(after.wise_ft, static_argnums=3) if compiled else after.wise_ft
    home = function(theta0, theta, jnp.float32(0), ANCHORED)
    assert same_bits(home, theta0 | {"head": theta["head"]})
    assert same_bits(function(theta0, theta, jnp.float32(1), ANCHORED), theta)
    assert home["stem"]["kernel"].dtype == dtype
    assert home["stem"]["hole"] is None


def test_wise_ft_is_the_straight_line_and_leaves_a_new_head_alone() -> None:
    there = after.wise_ft(THETA0, THETA, 0.25, ANCHORED)
    assert np.allclose(there["block_1"]["kernel"], 0.75 * THETA0["block_1"]["kernel"] + 0.25 * THETA["block_1"]["kernel"], atol=1e-6)
    assert same_bits(there["head"], THETA["head"])


def test_lines_scales_each_block_as_the_paper_says() -> None:
    there = after.lines(THETA0, THETA, 0.2, depth_of, ANCHORED)
    for group, share in {"stem": 0.2, "block_0": 0.2, "block_1": 0.6, "block_2": 1.0, "norm": 1.0}.items():
        start, now = THETA0[group]["kernel"], THETA[group]["kernel"]
        assert np.allclose(there[group]["kernel"], start + share * (now - start), atol=1e-6), group
    for group in ("block_2", "norm", "head"):
        assert same_bits(there[group], THETA[group]), group


def test_lines_at_1_is_the_trained_model_and_at_0_the_first_block_is_the_pretrained_one() -> None:
    assert same_bits(after.lines(THETA0, THETA, 1.0, depth_of, ANCHORED), THETA)
    assert same_bits(after.lines(THETA0, THETA, 0.0, depth_of, ANCHORED)["block_0"], THETA0["block_0"])


def test_a_model_with_one_block_or_none_has_shares_too() -> None:
    assert after.depth_shares(("stem", "block_0", "head")) == {"stem": 1.0, "block_0": 1.0, "head": 1.0}
    assert after.depth_shares(("stem", "head")) == {"stem": 1.0, "head": 1.0}


@pytest.mark.parametrize("rescale", [after.wise_ft, lambda a, b, s, anchored: after.lines(a, b, s, depth_of, anchored)], ids=["wise_ft", "lines"])
def test_a_vmap_over_the_shares_is_the_loop_over_them_and_traces_once(rescale) -> None:
    traces = []

    def one(alpha):
        traces.append(alpha)
        return rescale(THETA0, THETA, alpha, ANCHORED)

    curve = jax.jit(jax.vmap(one))
    alphas = jnp.linspace(0, 1.5, 7)
    together, again = curve(alphas), curve(alphas + 0.1)
    for index, alpha in enumerate(alphas):
        alone = rescale(THETA0, THETA, alpha, ANCHORED)
        assert all(np.allclose(a[index], b, atol=1e-6) for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True))
    assert not same_bits(together, again)
    assert len(traces) == 1


def test_distance_is_relative_grows_with_alpha_and_sees_anchored_leaves_alone() -> None:
    flat = [np.concatenate([np.ravel(t[group]["kernel"]) for group in GROUPS[:-1]]) for t in (THETA0, THETA)]
    whole = np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0])
    assert float(after.distance(THETA0, THETA, ANCHORED)) == pytest.approx(whole, rel=1e-5)
    assert float(after.distance(THETA0, after.wise_ft(THETA0, THETA, 0.5, ANCHORED), ANCHORED)) == pytest.approx(whole / 2, rel=1e-5)
    assert float(after.distance(THETA0, THETA0 | {"head": THETA["head"]}, ANCHORED)) == 0


WEIGHTS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def test_ema_is_the_recursion_with_a_decay_that_warms_up() -> None:
    average, expected = after.start_average({"w": jnp.asarray(WEIGHTS[0]), "hole": None}), WEIGHTS[0].astype(np.float64)
    update = jax.jit(after.update_ema)
    for step, theta in enumerate(WEIGHTS[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * theta
        average = update(average, {"w": jnp.asarray(theta), "hole": None}, jnp.asarray(step), 0.5)
    assert np.allclose(average["w"], expected, atol=1e-5)
    assert average["hole"] is None


@pytest.mark.parametrize("start", [0, 7, 28, 40])
def test_swa_is_the_mean_of_the_weights_from_its_start_and_before_it_the_weights(start: int) -> None:
    average = after.start_average({"w": jnp.asarray(WEIGHTS[0])})
    update = jax.jit(after.update_swa)
    for step, theta in enumerate(WEIGHTS[1:]):
        average = update(average, {"w": jnp.asarray(theta)}, jnp.asarray(step), start)
        if step <= start:
            assert same_bits(average, {"w": theta})
    expected = WEIGHTS[1:][start:].mean(0) if start < 29 else WEIGHTS[-1]
    assert np.allclose(average["w"], expected, atol=1e-5)


def test_averages_of_half_precision_weights_are_kept_in_single_precision() -> None:
    average, update = after.start_average({"w": jnp.ones(3, jnp.bfloat16)}), jax.jit(after.update_ema)
    for step in range(2000):
        average = update(average, {"w": jnp.full(3, 2, jnp.bfloat16)}, jnp.asarray(step + 10**6), 0.999)
    assert average["w"].dtype == jnp.float32
    # 1 - 0.999 is below the spacing of bfloat16 at 1: an average in that type would never have moved.
    assert np.allclose(average["w"], 2 - 0.999**2000, atol=1e-3)


def test_one_vmap_averages_with_many_decays() -> None:
    decays = jnp.array([0.0, 0.5, 0.9])
    average, live = {"w": jnp.asarray(WEIGHTS[0])}, {"w": jnp.asarray(WEIGHTS[1])}
    together = jax.vmap(lambda decay: after.update_ema(average, live, 1000, decay))(decays)
    for index, decay in enumerate(decays):
        assert np.allclose(together["w"][index], decay * WEIGHTS[0] + (1 - decay) * WEIGHTS[1], atol=1e-6)


populations = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-100, 100, width=32, allow_subnormal=False))
settings = hypothesis.settings(max_examples=40, deadline=None)


def closeness(target: np.ndarray):
    return lambda tree: -float(np.linalg.norm(np.asarray(tree["w"]) - target))


@settings
@hypothesis.given(populations)
def test_a_uniform_soup_is_the_mean_and_of_equal_trees_exactly_that_tree(weights: np.ndarray) -> None:
    members = after.split_members({"w": jnp.asarray(weights)})
    assert np.allclose(after.uniform_soup(members)["w"], weights.mean(0), atol=1e-3)
    assert np.array_equal(after.uniform_soup(members[:1] * 3)["w"], weights[0])
    assert same_bits(after.uniform_soup(members[:1]), members[0])


@settings
@hypothesis.given(populations)
def test_a_greedy_soup_is_the_mean_of_its_members_and_never_scores_below_the_best_of_all(weights: np.ndarray) -> None:
    members, score_of = after.split_members({"w": jnp.asarray(weights)}), closeness(np.ones(3))
    scores = [score_of(tree) for tree in members]
    soup, chosen = after.greedy_soup(members, scores, score_of)
    assert scores[chosen[0]] == max(scores)
    assert len(set(chosen)) == len(chosen)
    assert np.allclose(soup["w"], weights[list(chosen)].mean(0), atol=1e-3)
    assert score_of(soup) >= max(scores)


def test_a_greedy_soup_tries_the_best_first_keeps_ties_and_asks_once_for_each_of_the_others() -> None:
    members = [{"w": jnp.array([value])} for value in (0.0, 4.0, -2.0, 2.0)]
    asked = []

    def score_of(tree) -> float:
        asked.append(float(tree["w"][0]))
        return -abs(asked[-1] - 1)

    soup, chosen = after.greedy_soup(members, [-1.0, -3.0, -3.0, -1.0], score_of)
    assert asked == pytest.approx([1.0, 2.0, 0.0])
    assert (chosen, float(soup["w"][0])) == ((0, 3), 1.0)
    _, chosen = after.greedy_soup(members, [1.0, 1.0, 1.0, 1.0], lambda tree: 1.0)
    assert chosen == (0, 1, 2, 3)


def test_soups_keep_the_type_and_the_holes_of_the_weights() -> None:
    halves = [tree(seed, jnp.bfloat16) for seed in range(3)]
    for soup in (after.uniform_soup(halves), after.greedy_soup(halves, [1, 1, 1], lambda _: 1)[0]):
        assert jax.tree.structure(soup) == jax.tree.structure(halves[0])
        assert soup["stem"]["kernel"].dtype == jnp.bfloat16


def test_whole_numbers_are_refused_by_name() -> None:
    whole = {"a": {"b": jnp.arange(3)}}
    message = "a/b holds int32; only floating point weights can be averaged or scaled"
    for refused in (
        lambda: after.wise_ft(whole, whole, 0.5, frozenset({"a/b"})),
        lambda: after.start_average(whole),
        lambda: after.uniform_soup([whole, whole]),
        lambda: after.greedy_soup([whole], [1.0], lambda _: 1.0),
    ):
        with pytest.raises(FtjaxError, match=message):
            refused()


def test_soups_of_nothing_and_ragged_populations_are_refused() -> None:
    with pytest.raises(FtjaxError, match="a soup needs at least one tree of weights"):
        after.uniform_soup([])
    with pytest.raises(FtjaxError, match="one score for each tree of weights, and at least one: 1 trees, 2 scores"):
        after.greedy_soup([THETA], [1.0, 2.0], lambda _: 1.0)
    with pytest.raises(FtjaxError, match=r"share their first axis, here it has the lengths \[2, 3\]"):
        after.split_members({"a": jnp.zeros(2), "b": jnp.zeros(3)})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alphas": ()}, r"after.alphas is \(\); it must be one or more finite numbers, 0 or more"),
        ({"alphas": (0.5, -1.0)}, r"after.alphas is \(0.5, -1.0\)"),
        ({"soup": 1}, "after.soup is 1; a soup has 2 ingredients or more"),
        (
            {"alphas": (1.0,), "candidates": ("wise_ft",)},
            r"after.alphas is \(1.0,\), and at 1 wise_ft and lines are the best checkpoint itself; give other shares too",
        ),
        ({"candidates": ("ema", "lines")}, "after.candidates asks for 'lines', which goes back towards pretrained weights, and method='scratch' has none"),
    ],
)
def test_what_cannot_be_done_afterwards_is_refused_before_training(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        after.check_after(AfterConfig(**values), pretrained=False)
    after.check_after(AfterConfig(candidates=("ema", "lines")), pretrained=True)


def test_the_examples_hold() -> None:
    results = doctest.testmod(after)
    assert results.attempted == 3
    assert results.failed == 0
