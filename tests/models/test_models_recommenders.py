"""Recommenders as models: a history's vectors know nothing of padding or of later items, and a table of items is a weight like others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax import adapters, models, trees
from ftjax.config import AdapterConfig
from ftjax.errors import ConfigError
from ftjax.models import ModelSpec
from ftjax.models.catalogue import positions_of

S3REC = {"norm": "post", "count_from": "newest", "scale": False, "heads": 2, "activation": "gelu", "epsilon": 1e-12, "special": 1, "positions": 6}
SMALL = {"width": 8, "depth": 1}
FAMILIES = [
    ("sasrec", SMALL | {"hidden": 8, "positions": 6}),
    ("sasrec", SMALL | S3REC | {"hidden": 16}),
    ("bert4rec", SMALL | {"hidden": 16, "positions": 6}),
    ("gru4rec", SMALL),
    ("matrix_factorisation", {"width": 8}),
    ("two_tower", SMALL | {"hidden": 8, "positions": 6, "tower": 8, "text_width": 5, "ids": True}),
]
HISTORIES = jnp.array([[3, 4, 5, 0], [1, 2, 3, 4]])


def model_of(family, options, items=9):
    model = models.build(ModelSpec(family, options, items))
    params, extra = model.init(jax.random.key(0))
    # Weights of a useful size, so that what should not matter would be seen.
    return model, jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params), extra


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_padding_changes_nothing_and_only_bert4rec_looks_ahead(family, options):
    model, params, extra = model_of(family, options)
    vectors = jax.jit(lambda items: model.features(params, extra, {"items": items}))
    plain, padded, other = vectors(HISTORIES), vectors(jnp.pad(HISTORIES, ((0, 0), (0, 2)))), vectors(HISTORIES.at[1, 3].set(9))
    real = np.asarray(HISTORIES > 0)
    assert np.allclose(padded[:, :4][real], plain[real], atol=1e-5)
    ahead = np.abs(other - plain)[1, :3].max()
    assert (ahead > 1e-3) == (family == "bert4rec")
    assert np.abs(other - plain)[1, 3].max() > 1e-3
    assert model.items(params, extra).shape == (1 + 9 + options.get("special", int(family == "bert4rec")), 8)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_every_parameter_has_a_group_and_the_table_of_items_one_of_its_own(family, options):
    model, params, _ = model_of(family, options)
    groups = {path: model.group_of(path) for path in trees.flatten(params)}
    assert set(groups.values()) == set(model.groups)
    assert {group for path, group in groups.items() if path.startswith("item/")} == {"item"}


def test_positions_are_counted_from_either_end():
    items = jnp.array([[5, 6, 7, 0], [5, 0, 0, 0]])
    assert positions_of(items, 6, from_newest=False).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert positions_of(items, 6, from_newest=True)[:, :3].tolist() == [[3, 4, 5], [5, 5, 5]]


def test_a_low_rank_adapter_on_the_table_of_items_changes_reading_and_scoring():
    model, params, _ = model_of(*FAMILIES[0])
    adapted, bound = adapters.bind(params, AdapterConfig(kind="lora", targets=("item/embedding", "attention"), rank=2), jax.random.key(0))
    assert {row.path for row in bound} >= {"item/embedding"}
    assert np.allclose(model.items(adapted, {}), model.items(params, {}))
    moved = jax.tree.map(lambda leaf: leaf + 0.1, adapted)
    merged = adapters.merge(moved)
    inputs = {"items": HISTORIES}
    assert np.allclose(model.features(moved, {}, inputs), model.features(merged, {}, inputs), atol=1e-4)
    assert np.allclose(model.items(moved, {}), model.items(merged, {}), atol=1e-4)


@pytest.mark.parity
def test_the_recurrent_unit_is_torchs():
    torch = pytest.importorskip("torch")
    model, params, _ = model_of("gru4rec", SMALL)
    reference, block = torch.nn.GRU(8, 8, batch_first=True), params["encoder"]["block_0"]
    names = {"weight_ih_l0": "input/kernel", "weight_hh_l0": "recurrent/kernel", "bias_ih_l0": "input/bias", "bias_hh_l0": "recurrent/bias"}
    flat = trees.flatten(block)
    reference.load_state_dict({theirs: torch.tensor(np.asarray(flat[ours]).T.copy()) for theirs, ours in names.items()})
    with torch.no_grad():
        theirs = reference(torch.tensor(np.asarray(params["item"]["embedding"])[np.asarray(HISTORIES[1:])]))[0].numpy()
    assert np.allclose(model.features(params, {}, {"items": HISTORIES[1:]}), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        ("sasrec", {"heads": 3}, "sasrec: width 64 is not a multiple of heads 3"),
        ("sasrec", {"norm": "pre"}, "sasrec: norm 'pre': allowed: 'post', 'sasrec'"),
        ("gru4rec", {"width": 0}, "gru4rec: width 0 must be positive"),
        ("two_tower", {"text_width": 0}, "neither texts nor ids: an item would have no vector"),
        ("two_tower", {"temperature": 0.0}, "two_tower: temperature 0.0 must be positive"),
    ],
)
def test_what_cannot_be_built_is_refused(family, options, message):
    with pytest.raises(ConfigError, match=message):
        models.build(ModelSpec(family, options, 9))


def test_a_classifier_has_no_vectors_of_items():
    model = models.build(models.named("vit_digits", 3)[0])
    with pytest.raises(ConfigError, match="vit reads images and has no vectors of items"):
        model.items({}, {})
