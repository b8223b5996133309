"""Losses of models that write: pieces equal the whole, memory stays small, padding and packing change nothing, DPO is its equation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.tasks import Features, LanguageModeling, Preference, predicted, reward_margin, token_scores

VOCABULARY, WIDTH = 11, 5


def example(dtype=np.float64, rows=3, length=7):
    draw = np.random.default_rng(0)
    document = np.array([[1, 1, 1, 2, 2, 2, 2], [1, 1, 1, 1, 0, 0, 0], [1, 2, 2, 3, 3, 3, 0]])[:rows, :length]
    tokens = draw.integers(0, VOCABULARY, (rows, length))
    learn = np.asarray(predicted(document)) & (draw.random((rows, length)) < 0.8)
    batch = {"tokens": tokens, "document": document, "learn": learn, "weight": np.array([1.0, 0.5, 1.0])[:rows]}
    hidden, head = draw.normal(size=(rows, length, WIDTH)).astype(dtype), draw.normal(size=(WIDTH, VOCABULARY)).astype(dtype)
    return {key: jnp.asarray(value) for key, value in batch.items()}, jnp.asarray(hidden), jnp.asarray(head)


def plainly(hidden, head, batch, z=0.0):
    """The loss by its definition, with all logits at once."""
    logits = (hidden @ head)[:, :-1]
    probability = jax.nn.log_softmax(logits)
    own = jnp.take_along_axis(probability, batch["tokens"][:, 1:, None], axis=2)[:, :, 0]
    weight = jnp.where(batch["learn"][:, 1:], batch["weight"][:, None], 0)
    return ((-own + z * jax.nn.logsumexp(logits, axis=2) ** 2) * weight).sum(), weight.sum()


@pytest.mark.parametrize("chunk", [1, 6, 1000])
@pytest.mark.parametrize("z", [0.0, 0.01])
def test_pieces_equal_the_whole_loss_and_gradient(chunk, z):
    with jax.enable_x64(True):
        batch, hidden, head = example()
        task = LanguageModeling(chunk=chunk, z_loss=z > 0)

        def by_pieces(hidden, head):
            return task.loss(Features(hidden, lambda x: x @ head), batch, {"z_loss": jnp.asarray(z)})[0]

        found, gradients = jax.value_and_grad(by_pieces, argnums=(0, 1))(hidden, head)
        true, wanted = jax.value_and_grad(lambda hidden, head: plainly(hidden, head, batch, z)[0], argnums=(0, 1))(hidden, head)
        assert float(found) == pytest.approx(float(true), abs=1e-12)
        for one, other in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)
        _, weight, sums = task.loss(Features(hidden, lambda x: x @ head), batch, {"z_loss": jnp.asarray(z)})
        assert float(weight) == float(plainly(hidden, head, batch)[1])
        assert 0 <= float(sums["token_accuracy"][0]) <= float(weight) == float(sums["token_accuracy"][1])


def test_a_row_of_weight_zero_may_hold_anything():
    batch, hidden, head = example(np.float32)
    batch |= {"weight": jnp.array([1.0, 0.0, 1.0])}
    bad = hidden.at[1].set(jnp.nan)

    def loss(hidden):
        return LanguageModeling(chunk=6).loss(Features(hidden, lambda x: x @ head), batch, {})[0]

    assert float(loss(bad)) == pytest.approx(float(loss(hidden)))
    np.testing.assert_allclose(jax.grad(loss)(bad), jax.grad(loss)(hidden), rtol=1e-6)
    assert not np.any(jax.grad(loss)(bad)[1])


def test_the_first_token_of_a_document_is_not_predicted():
    document = np.array([[1, 1, 2, 2, 0], [1, 2, 3, 0, 0]])
    assert np.asarray(predicted(document)).tolist() == [[False, True, False, True, False], [False] * 5]


def test_logits_of_all_tokens_are_never_held():
    rows, length, vocabulary, chunk = 2, 512, 4096, 64

    def temporary(chunk):
        hidden, head = jax.ShapeDtypeStruct((rows, length, 8), jnp.float32), jax.ShapeDtypeStruct((8, vocabulary), jnp.float32)
        ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)

        def loss(hidden, head, ids):
            batch = {"tokens": ids, "document": jnp.ones_like(ids), "learn": ids > 0, "weight": jnp.ones(rows)}
            return LanguageModeling(chunk=chunk).loss(Features(hidden, lambda x: x @ head), batch, {})[0]

        return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, head, ids).compile().memory_analysis().temp_size_in_bytes

    full = rows * length * vocabulary * 4
    assert temporary(10**6) >= full
    assert temporary(chunk) < full / 4


def preference(chunk=1000, **options):
    batch, hidden, head = example()
    pair, other, _ = example()
    pair = {f"pair_{name}": jnp.flip(pair[name], 0) for name in ("tokens", "document", "learn")}
    features = Features(jnp.concatenate([hidden, -other]), lambda x: x @ head)
    reference = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
    return Preference(chunk=chunk, **options), features, batch | pair | {"reference": reference}


@pytest.mark.parametrize("mean", [False, True])
def test_dpo_is_its_equation(mean):
    with jax.enable_x64(True):
        task, features, batch = preference(chunk=4, length_normalised=mean)
        hyper = {"beta": jnp.asarray(0.3), "label_smoothing": jnp.asarray(0.1)}
        total, weight, sums = task.loss(features, batch, hyper)
        logits = features.head(features.hidden)
        expected, right = 0.0, 0.0
        for row in range(3):
            found = []
            for place, prefix in ((row, ""), (row + 3, "pair_")):
                own = [
                    float(jax.nn.log_softmax(logits[place, t - 1])[batch[f"{prefix}tokens"][row, t]])
                    for t in range(1, 7)
                    if bool(batch[f"{prefix}learn"][row, t])
                ]
                found.append(sum(own) / (len(own) if mean else 1))
            margin = 0.3 * ((found[0] - float(batch["reference"][row, 0])) - (found[1] - float(batch["reference"][row, 1])))
            expected -= float(batch["weight"][row]) * (0.9 * float(jax.nn.log_sigmoid(margin)) + 0.1 * float(jax.nn.log_sigmoid(-margin)))
            right += float(batch["weight"][row]) * (margin > 0)
        assert float(total) == pytest.approx(expected, abs=1e-10)
        assert float(weight) == 2.5
        assert float(sums["reward_accuracy"][0]) == pytest.approx(right)


def test_beta_is_traced():
    task, features, batch = preference()
    losses = jax.vmap(lambda beta: task.loss(features, batch, {"beta": beta, "label_smoothing": jnp.zeros(())})[0])(jnp.array([0.1, 0.5]))
    assert float(losses[0]) != float(losses[1])
    assert float(reward_margin(jnp.array([[2.0, 1.0]]), jnp.zeros((1, 2)), 0.5)[0]) == 0.5


def test_scores_lie_where_their_token_does():
    batch, hidden, head = example(np.float32)
    scores = token_scores(Features(hidden, lambda x: x @ head), batch["tokens"], batch["document"], 1000)
    expected = jax.nn.log_softmax(hidden[0, 3] @ head)[batch["tokens"][0, 4]]
    assert float(scores.log_probability[0, 4]) == pytest.approx(float(expected), rel=1e-5)
    assert float(scores.log_probability[0, 3]) == 0.0
