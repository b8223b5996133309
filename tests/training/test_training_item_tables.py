"""Items by what is written about them: a frozen encoder's vectors in the two towers, and the start of items that pretrained weights do not know."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from tiny_text import WORDS, write_bert

import ftjax
from ftjax import Config, DataConfig, ModelConfig, RecommendationConfig, TaskConfig, TextConfig, TrainConfig
from ftjax.config import INTERACTION_SOURCES
from ftjax.errors import ConfigError, WeightsError
from ftjax.models import ModelSpec, build
from ftjax.training import item_texts
from ftjax.trees import flatten
from ftjax.weights import save_safetensors

pytestmark = pytest.mark.usefixtures("one_device")
WIDTH = 8


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A log of items a to h; e and f are called the same, h has no text."""
    folder = tmp_path_factory.mktemp("items")
    (folder / "encoder").mkdir()
    write_bert(folder / "encoder")
    (folder / "log.txt").write_text("".join(f"u{user} " + " ".join("abcdefgh"[(user + step) % 8] for step in range(6)) + "\n" for user in range(16)))
    titles = dict(zip("abcdefg", [f"{WORDS[index]} {WORDS[index + 1]}" for index in range(7)])) | {"f": f"{WORDS[4]} {WORDS[5]}"}
    (folder / "items.csv").write_text("item,title\n" + "".join(f"{item},{title}\n" for item, title in titles.items()))
    return folder


def config(world, **changed):
    rec = {"max_length": 6, "items_path": str(world / "items.csv"), "text_encoder": str(world / "encoder")} | changed.pop("rec", {})
    usual = {
        "method": "scratch",
        "data": DataConfig(source=INTERACTION_SOURCES[0], path=str(world / "log.txt")),
        "text": TextConfig(buckets=1),
        "task": TaskConfig(name="recommendation"),
        "model": ModelConfig(name="two_tower", dropout=0.0),
        "recommendation": RecommendationConfig(**rec),
        "train": TrainConfig(batch_size=8, duration="2 steps"),
    }
    return Config(**(usual | changed))


def pretrained(path, ids):
    """A native file of a SASRec over these items."""
    spec = build(ModelSpec("sasrec", {"width": WIDTH, "depth": 1, "hidden": WIDTH, "positions": 6}, len(ids))).spec
    params = build(spec).init(jax.random.key(3))[0]
    metadata = {"format": "ftjax", "spec": spec.to_json(), "classes": list(ids)}
    flat = {name: np.asarray(leaf) for name, leaf in flatten(params).items()}
    save_safetensors(path, flat, {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()})
    return flat["item/embedding"]


def test_two_towers_read_each_text_once_and_never_train_what_the_encoder_said(world):
    plan, state = ftjax.prepare(config(world, rec={"loss": "sampled_softmax", "negative_sampling": "in_batch"}))
    text = np.asarray(state.extra["batch_stats"]["item"]["text"])
    rows = {name: row for row, name in enumerate(plan.dataset.classes, 1)}
    assert np.allclose(np.linalg.norm(text[[rows[name] for name in "abcdefg"]], axis=1), 1, atol=1e-5)
    assert np.array_equal(text[rows["e"]], text[rows["f"]])
    assert not np.any(text[[0, rows["h"]]])
    table = np.asarray(plan.model.items(state.params, state.extra))
    assert np.allclose(np.linalg.norm(table[1:], axis=1), 1, atol=1e-5)
    assert np.allclose(table[rows["e"]], table[rows["f"]])
    after, metrics = plan.step(state, plan.batch(0))
    assert int(metrics["finite"]) == 1
    assert np.array_equal(after.extra["batch_stats"]["item"]["text"], text)
    assert not np.array_equal(after.params["item"]["up"]["kernel"], state.params["item"]["up"]["kernel"])


def test_a_new_item_begins_at_what_its_text_says_of_the_known_ones(world, tmp_path):
    """The file knows all but f, whose text is e's, and h, which has none."""
    known = ("a", "b", "c", "d", "e", "g")
    stored = pretrained(tmp_path / "weights.safetensors", known)
    model = ModelConfig(pretrained=str(tmp_path / "weights.safetensors"), dropout=0.0)
    plan, state = ftjax.prepare(config(world, method="full", model=model))
    table = np.asarray(state.params["item"]["embedding"])
    rows = {name: row for row, name in enumerate(plan.dataset.classes, 1)}
    assert np.array_equal(table[[rows[name] for name in known]], stored[1:])
    told = plan.load.to_json()["items"]
    assert told["new"] == [{"id": "f", "from": "its text"}, {"id": "h", "from": "random"}]
    assert (told["matched"], told["from_texts"], told["random"], told["left_out"]) == (6, 1, 1, 0)
    texts = np.stack([_text(world, name) for name in (*known, "f")]).astype(np.float64)
    features, wanted = texts[:-1], stored[1:].astype(np.float64)
    weights = np.linalg.solve(features.T @ features + np.eye(features.shape[1]), features.T @ (wanted - wanted.mean(0)))
    assert np.allclose(table[rows["f"]], texts[-1] @ weights + wanted.mean(0), atol=1e-4)


def _text(world, item):
    lines = dict(line.split(",") for line in (world / "items.csv").read_text().splitlines()[1:])
    return item_texts.encode([lines[item]], str(world / "encoder"))[0]


def test_weights_without_ids_or_of_other_items_are_refused(world, tmp_path):
    pretrained(tmp_path / "other.safetensors", ("x", "y"))
    with pytest.raises(WeightsError, match="knows none of the 8 items: its ids are like 'x', the data's like 'a'; are they other ids"):
        ftjax.prepare(config(world, method="full", model=ModelConfig(pretrained=str(tmp_path / "other.safetensors")), rec={"text_encoder": None}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rec": {"text_encoder": None}}, "two_tower reads the items' texts: give recommendation.text_encoder"),
        ({"rec": {"items_path": None}}, "has no texts to read: give recommendation.items_path, or item_text"),
        ({"model": ModelConfig(name="sasrce")}, "cannot train 'sasrce'; did you mean 'sasrec'"),
        ({"model": ModelConfig(name="gru4rec"), "rec": {"heads": 2}}, "recommendation.heads=2: gru4rec has none; leave it open"),
        ({"task": TaskConfig(name="classification")}, "histories are for task.name='recommendation', and nothing else is"),
    ],
)
def test_what_does_not_fit_is_refused(world, changed, message):
    with pytest.raises(ConfigError, match=message):
        ftjax.prepare(config(world, **changed))


def test_sizes_are_the_pretrained_models_own(world, tmp_path):
    pretrained(tmp_path / "weights.safetensors", tuple("abcdefgh"))
    usual = config(world, method="full", model=ModelConfig(pretrained=str(tmp_path / "weights.safetensors")), rec={"text_encoder": None})
    for size, message in (({"width": 16}, r"recommendation\.width=16: .* has 8; leave it open"), ({"max_length": 9}, "has positions for 6 items")):
        with pytest.raises(ConfigError, match=message):
            ftjax.prepare(dataclasses.replace(usual, recommendation=dataclasses.replace(usual.recommendation, **size)))
