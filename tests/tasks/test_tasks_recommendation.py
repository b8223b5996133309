"""Losses of recommendation: each is what its paper says, and the softmax over a catalogue never holds the scores of all places with all items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.config import Config, ModelConfig, RecommendationConfig, TaskConfig, TrainConfig
from ftjax.errors import ConfigError
from ftjax.tasks import ItemFeatures, Recommendation, check_task
from ftjax.tasks.item_softmax import ITEMS, PLACES, item_cross_entropy

ITEMS_OF_ALL = 700
"""Not a whole number of tiles."""


def made(places=300, items=ITEMS_OF_ALL, width=16, scale=1.0, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    hidden, table = (jnp.asarray(rng.normal(size=(rows, width)) * scale, dtype) for rows in (places, items))
    weight = jnp.asarray(np.where(rng.random(places) < 0.6, rng.random(places), 0), dtype)
    return hidden, table, jnp.asarray(rng.integers(0, items, places)), weight


def dense(hidden, table, target, weight):
    scores = hidden @ table.T
    own = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
    return (weight * (jax.nn.logsumexp(scores, axis=1) - own)).sum()


@pytest.mark.parametrize(("scale", "precision", "near"), [(1.0, "float32", 1e-5), (0.5, "bfloat16", 2e-2), (12.0, "float32", 1e-4)])
def test_loss_and_both_gradients_are_those_of_the_whole_matrix_of_scores(scale, precision, near):
    """Also where scores are in the hundreds, so that a plain exponential would overflow."""
    hidden, table, target, weight = made(scale=scale)
    expected = jax.value_and_grad(dense, (0, 1))(hidden, table, target, weight)
    found = jax.jit(jax.value_and_grad(item_cross_entropy, (0, 1)), static_argnums=4)(hidden, table, target, weight, precision)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.abs(ours - theirs).max() <= near * np.abs(theirs).max()


def test_scores_that_are_all_far_below_zero_do_not_vanish():
    hidden, table = jnp.full((4, 2), 20.0), -jnp.ones((ITEMS_OF_ALL, 2)) * jnp.linspace(5, 9, ITEMS_OF_ALL)[:, None]
    target, weight = jnp.arange(4), jnp.ones(4)
    found = jax.jit(item_cross_entropy, static_argnums=4)(hidden, table, target, weight, "float32")
    assert float(found) == pytest.approx(float(dense(hidden, table, target, weight)), rel=1e-5)


def test_places_of_weight_0_may_hold_anything():
    hidden, table, target, weight = made()
    broken = jnp.where((weight > 0)[:, None], hidden, jnp.nan)
    gradient = jax.jit(jax.grad(item_cross_entropy, (0, 1)), static_argnums=4)
    for ours, theirs in zip(gradient(broken, table, target, weight, "float32"), gradient(hidden, table, target, weight, "float32"), strict=True):
        assert np.array_equal(ours, theirs)


def test_scores_of_all_places_with_all_items_are_never_held():
    places, items = 8 * PLACES, 8 * ITEMS
    hidden, table, target, weight = made(places, items, 8)
    jaxpr = jax.make_jaxpr(lambda h, t: jax.value_and_grad(item_cross_entropy, (0, 1))(h, t, target, weight, "bfloat16"))(hidden, table)
    largest = max(size for size in _sizes(jaxpr.jaxpr))
    assert PLACES * ITEMS <= largest < places * items / 4


def _sizes(jaxpr):
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars if hasattr(variable.aval, "size"))
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _sizes(inner)


IDS = tuple(map(str, range(1, 6)))


def batch_of(**fields):
    rng = np.random.default_rng(1)
    hidden, items = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 3, 4), (6, 4)))
    batch = {"target": jnp.array([[2, 3, 0], [1, 0, 0]]), "weight": jnp.array([1.0, 0.5])}
    return ItemFeatures(hidden, items), batch | {name: jnp.asarray(value) for name, value in fields.items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def scores_of(features):
    return np.asarray(jnp.einsum("blw,iw->bli", features.hidden, features.items))


NEGATIVE = [[[4, 5], [1, 0], [2, 2]], [[3, 2], [1, 1], [0, 0]]]
"""0: none was to be had."""
COUNTED = ((0, 0, 1.0), (0, 1, 1.0), (1, 0, 0.5))


def told(task, features, batch, total):
    loss, weight = jax.jit(lambda h, i, b: task.loss(ItemFeatures(h, i), b, {})[:2])(features.hidden, features.items, batch)
    assert float(weight) == pytest.approx(2.5)
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_cross_entropy_is_over_all_items_and_not_over_padding():
    features, batch = batch_of()
    s = scores_of(features)[:, :, 1:]
    total = sum(w * (np.log(np.exp(s[b, t]).sum()) - s[b, t, int(batch["target"][b, t]) - 1]) for b, t, w in COUNTED)
    told(Recommendation(IDS), features, batch, total)


@pytest.mark.parametrize(("learnt_by", "beta"), [("bce", 1.0), ("gbce", 0.5 * (0.75 * (1 - 2) + 2))])
def test_binary_cross_entropy_and_its_corrected_form(learnt_by, beta):
    """gbce: k=2 of 4 others, so a=0.5 and beta = a (t (1 - 1/a) + 1/a)."""
    features, batch = batch_of(negative=NEGATIVE)
    s, total = scores_of(features), 0.0
    for b, t, w in COUNTED:
        against = sum(np.log(sigmoid(-s[b, t, j])) for j in NEGATIVE[b][t] if j)
        total -= w * (beta * np.log(sigmoid(s[b, t, int(batch["target"][b, t])])) + against)
    told(Recommendation(IDS, learnt_by=learnt_by, negatives=2), features, batch, total)


def test_bpr_is_the_mean_over_negatives_of_log_sigmoid_of_the_difference():
    features, batch = batch_of(negative=NEGATIVE)
    s, total = scores_of(features), 0.0
    for b, t, w in COUNTED:
        others = [j for j in NEGATIVE[b][t] if j]
        total -= w * np.mean([np.log(sigmoid(s[b, t, int(batch["target"][b, t])] - s[b, t, j])) for j in others])
    told(Recommendation(IDS, learnt_by="bpr", negatives=2), features, batch, total)


def test_sampled_softmax_takes_off_how_often_an_item_is_drawn_and_leaves_out_the_rows_own_items():
    log_q = np.log([1.0, 0.4, 0.2, 0.2, 0.1, 0.1])
    drawn = np.array([[4, 1], [5, 2]])
    history = np.array([[1, 2, 3, 0], [2, 1, 0, 0]])
    target = np.array([[2, 3, 0], [1, 0, 0]])
    features, batch = batch_of(drawn=drawn, drawn_log_q=log_q[drawn], target_log_q=log_q[target], history=history)
    s, total = scores_of(features) - log_q, 0.0
    for b, t, w in COUNTED:
        own = s[b, t, target[b, t]]
        kept = [s[b, t, j] for j in drawn.ravel() if j not in history[b]]
        total += w * (np.log(np.exp([own, *kept]).sum()) - own)
    told(Recommendation(IDS, learnt_by="sampled_softmax"), features, batch, total)


def test_a_row_of_weight_0_contributes_nothing_to_loss_or_gradient():
    features, batch = batch_of(negative=NEGATIVE)
    batch["weight"] = jnp.array([1.0, 0.0])

    def loss(hidden, learnt_by):
        return Recommendation(IDS, learnt_by=learnt_by).loss(ItemFeatures(hidden, features.items), batch, {})[0]

    broken = features.hidden.at[1].set(jnp.nan)
    for learnt_by in ("cross_entropy", "bce", "bpr"):
        value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(broken, learnt_by)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        assert not np.any(gradient[1])


def asked(train=None, model=None, method="scratch", **recommendation):
    return Config(
        method=method,
        task=TaskConfig(name="recommendation"),
        recommendation=RecommendationConfig(**recommendation),
        train=train or TrainConfig(),
        model=model or ModelConfig(),
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (asked(model=ModelConfig(head="new"), method="full"), "recommendation scores against the table of items, which is no head"),
        (asked(negative_sampling="in_batch", loss="bce"), "bce draws for each target; allowed: 'uniform', 'popularity'"),
        (asked(loss="sampled_softmax", train=TrainConfig(microbatches=2)), "sampled_softmax draws for the whole batch, so a batch in parts is another loss"),
        (
            asked(loss="sampled_softmax", negative_sampling="in_batch", train=TrainConfig(batch_size=1)),
            "needs other rows, and there is none; allowed: 2 or more",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_any_data_are_read(config, message):
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        check_task(config)
