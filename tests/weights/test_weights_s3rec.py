"""S3-Rec's published model, read without running a pickle: every tensor accounted for, and vectors of histories as its authors' model gives them."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import models, trees, weights
from ftjax.models import ModelSpec

pytestmark = [pytest.mark.parity]


@pytest.fixture(scope="module")
def checkpoint(shared_data):
    return shared_data / "weights" / "s3rec_beauty" / "Beauty-epochs-150.pt"


def loaded(checkpoint, ids=None):
    source = weights.open_weights(str(checkpoint))
    recognised = weights.recognise(source)
    wanted = tuple(ids or recognised.classes)
    model = models.build(ModelSpec(recognised.family, recognised.options, len(wanted)))
    import jax

    params = model.init(jax.random.key(0))[0]
    target = {path: (leaf.shape, str(leaf.dtype)) for path, leaf in trees.flatten(params).items()}
    plan = weights.plan(source, recognised, target, reinitialise=(), items=weights.ItemIds(recognised.classes, wanted))
    flat = plan.apply({path: np.asarray(leaf) for path, leaf in trees.flatten(params).items()})
    return model, trees.unflatten({path: jnp.asarray(leaf) for path, leaf in flat.items()}), plan


def their_vectors(state, histories, length=50):
    """Their forward pass in plain torch: padding on the left, BERT's blocks, a causal mask of -10000."""
    import torch
    from torch.nn import functional

    def norm(x, name):
        mean = x.mean(-1, keepdim=True)
        variance = (x - mean).pow(2).mean(-1, keepdim=True)
        return state[f"{name}.weight"] * (x - mean) / torch.sqrt(variance + 1e-12) + state[f"{name}.bias"]

    def linear(x, name):
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def heads(x):
        return x.view(*x.shape[:2], 2, 32).transpose(1, 2)

    items = torch.tensor([[0] * (length - len(history)) + list(history) for history in histories])
    allowed = (items > 0)[:, None, None, :] & torch.ones(length, length, dtype=torch.bool).tril()[None, None]
    mask = (1.0 - allowed.float()) * -10000.0
    x = norm(state["item_embeddings.weight"][items] + state["position_embeddings.weight"][None], "LayerNorm")
    for index in range(2):
        layer = f"item_encoder.layer.{index}"
        query, key, value = (heads(linear(x, f"{layer}.attention.{name}")) for name in ("query", "key", "value"))
        weights_ = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(32) + mask, dim=-1)
        mixed = (weights_ @ value).transpose(1, 2).reshape(x.shape)
        x = norm(linear(mixed, f"{layer}.attention.dense") + x, f"{layer}.attention.LayerNorm")
        hidden = linear(x, f"{layer}.intermediate.dense_1")
        hidden = linear(hidden * 0.5 * (1.0 + torch.erf(hidden / math.sqrt(2.0))), f"{layer}.intermediate.dense_2")
        x = norm(hidden + x, f"{layer}.intermediate.LayerNorm")
    return x[:, -1].numpy()


def test_vectors_of_histories_are_those_of_its_authors_model(checkpoint):
    torch = pytest.importorskip("torch")
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 12102, size).tolist() for size in (1, 2, 7, 33, 50)]
    model, params, plan = loaded(checkpoint)
    assert plan.counts()["ignored"] == 9
    assert not [row for row in plan.rows if row.action == "initialised"]
    items = np.zeros((5, 56), np.int32)
    for row, history in enumerate(histories):
        items[row, : len(history)] = history
    hidden = model.features(params, {}, {"items": jnp.asarray(items)})
    ours = np.stack([hidden[row, len(history) - 1] for row, history in enumerate(histories)])
    theirs = their_vectors(state, histories)
    assert np.abs(ours - theirs).max() < 2e-4 * np.abs(theirs).max()
    # The scores over the catalogue, and which item is best.
    table = np.asarray(state["item_embeddings.weight"])
    assert np.array_equal((ours @ table.T).argmax(1), (theirs @ table.T).argmax(1))


def test_rows_go_where_their_item_is_now(checkpoint):
    """Another order, fewer items, and two that the file does not know."""
    ids = ("9999", "novel", "3", "1", "unheard")
    _, params, plan = loaded(checkpoint, ids)
    stored = np.asarray(weights.open_weights(str(checkpoint)).tensors["item_embeddings.weight"])
    table = np.asarray(params["item"]["embedding"])
    assert np.array_equal(table[[0, 1, 3, 4, 6]], stored[[0, 9999, 3, 1, 12102]])
    row = next(row for row in plan.rows if row.target == "item/embedding")
    assert row.action == "matched"
    assert row.why == "by id: 3 of 5 items are in the file, 2 are new; 12,098 of the file's are not here"
    told = plan.to_json()["items"]
    assert {key: told[key] for key in ("matched", "from_texts", "random", "left_out")} == {"matched": 3, "from_texts": 0, "random": 2, "left_out": 12098}
    assert told["new"] == [{"id": "novel", "from": "random"}, {"id": "unheard", "from": "random"}]
