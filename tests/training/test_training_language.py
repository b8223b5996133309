"""The step on models that write: packed documents train as if each had a row of its own, whatever the micro-batches, and beta is traced."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_language as tiny
import training_parts as small

from ftjax import trees
from ftjax.data import LanguagePreprocessing
from ftjax.data.language.documents import Documents, RowFields
from ftjax.data.language.packing import pack
from ftjax.data.language.turns import Conversation, Turn
from ftjax.tasks import Features, LanguageModeling, Preference
from ftjax.training.step import StepParts, _mean_gradient


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return tiny.encoder(tiny.write_tokenizer(tmp_path_factory.mktemp("tokenizer")), max_length=48)


def gradient(task, encoder, batch, hyper=None, microbatches=1):
    model = tiny.Causal(width=4)
    with jax.enable_x64(True):
        params, _ = model.init(jax.random.key(0))
        parts = StepParts(model, task, LanguagePreprocessing(encoder, "language_modeling"), None, microbatches=microbatches)  # pyrefly: ignore
        state = small.TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(lambda leaf: None, params), None, {"batch_stats": {}, "anchor": params})
        batch = {name: jnp.asarray(values) for name, values in batch.items()}
        loss, *_, found = jax.jit(lambda batch: _mean_gradient(parts, state, params, batch, hyper or {}, jax.random.key(1)))(batch)
        return float(loss), {path: np.asarray(leaf) for path, leaf in trees.flatten(found).items()}


def rows(documents, held, second=None):
    fields = RowFields(documents, held, (48,), second)(np.arange(len(held)))
    return fields | {"weight": np.ones(len(held), np.float32), "id": np.arange(len(held), dtype=np.int32), "label": np.zeros(len(held), np.int32)}


def same(one, other):
    assert one[0] == pytest.approx(other[0], abs=1e-10)
    for path, leaf in one[1].items():
        np.testing.assert_allclose(leaf, other[1][path], atol=1e-10, err_msg=path)


@pytest.fixture(scope="module")
def documents(encoder):
    contents = [Conversation((Turn("user", "q" * (1 + i % 4)), Turn("assistant", f"{i}" * (1 + i % 5)))) for i in range(12)]
    return Documents.of([pieces[0] for pieces in encoder.pieces(contents)])


def test_packed_documents_train_as_if_each_had_a_row_of_its_own(encoder, documents):
    apart = rows(documents, [np.array([i]) for i in range(12)])
    packed = rows(documents, [*pack(documents.lengths, [str(i) for i in range(12)], 48, seed=0), np.empty(0, np.int64)])
    packed["weight"][3:] = 0
    assert len(packed["id"]) == 4
    whole = gradient(LanguageModeling(), encoder, apart)
    same(gradient(LanguageModeling(), encoder, packed), whole)
    same(gradient(LanguageModeling(chunk=8), encoder, packed), whole)
    same(gradient(LanguageModeling(), encoder, packed, microbatches=2), whole)


def test_the_loss_over_a_mesh_is_that_of_one_device(encoder, documents):
    batch = rows(documents, [np.array([i]) for i in range(8)])
    model, task = tiny.Causal(width=4), LanguageModeling(chunk=16)
    params, _ = model.init(jax.random.key(0))

    def loss(params, batch):
        hidden, _ = model.body(params, {}, batch)
        total, weight, _ = task.loss(Features(hidden, lambda features: model.head(params, features)), batch, {})
        return total / weight

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    spread = jax.device_put(batch, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    one, eight = (jax.jit(jax.value_and_grad(loss))(params, part) for part in (batch, spread))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_preferences_train_alike_in_parts_and_beta_is_traced(encoder, documents):
    pairs = rows(documents, [np.array([i]) for i in range(8)], Documents(documents.tokens, documents.learn, documents.starts))
    pairs |= {f"pair_{name}": np.roll(pairs[f"pair_{name}"], 1, axis=0) for name in ("tokens", "document", "learn")}
    pairs["reference"] = np.zeros((8, 2), np.float32)
    hyper = {"beta": jnp.asarray(0.5), "label_smoothing": jnp.asarray(0.0)}
    whole = gradient(Preference(), encoder, pairs, hyper)
    same(gradient(Preference(chunk=16), encoder, pairs, hyper, microbatches=4), whole)
    other = gradient(Preference(), encoder, pairs, hyper | {"beta": jnp.asarray(0.1)})
    assert other[0] != whole[0]
