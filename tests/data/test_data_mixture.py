"""Several data sets in one training: the first one is split as if it were alone, no id collides, copies never leak, and the shares are those asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.config import Config, DataConfig, TaskConfig, TrainConfig
from ftjax.data import ImageFormat, batch_at, collect
from ftjax.data.mixture import check_mixture, mixture_of, shares
from ftjax.errors import ConfigError, DataError
from ftjax.tasks import check_task


@pytest.fixture
def folders(tmp_path, helpers):
    picture, encode = helpers

    def make(name: str, counts: dict[str, int], start: int) -> str:
        for label, (kind, count) in enumerate(counts.items()):
            folder = tmp_path / name / kind
            folder.mkdir(parents=True)
            for row in range(count):
                (folder / f"{row}.png").write_bytes(encode(picture(start + 1000 * label + row)))
        return str(tmp_path / name)

    return make


def collected(path: str, **config):
    return collect(DataConfig(source="image_folder", path=path, workers=2, **config), ImageFormat((8, 8)), 0)


@pytest.mark.parametrize("way", [{}, {"split": "hash"}, {"split": "group", "group": r"(\d)\.png"}, {"folds": 3}], ids=str)
def test_the_first_data_set_is_split_as_if_it_were_alone(folders, way):
    first, more = folders("first", {"cat": 30, "dog": 30}, 0), folders("more", {"dog": 8, "cat": 4}, 50_000)
    alone, mixed = collected(first, **way), collected(first, mixture=((more, 1.0),), **way)
    for split in ("validation", "test"):
        assert mixed.splits[split].ids == alone.splits[split].ids
    train = mixed.splits["train"]
    assert train.ids[:-12] == alone.splits["train"].ids
    assert set(train.ids[-12:]) == {f"more/{kind}/{row}.png" for kind, count in (("cat", 4), ("dog", 8)) for row in range(count)}
    assert [mixed.classes[label] for label in train.labels] == [name.split("/")[-2] for name in train.ids]
    assert train.sampling is None
    row = train.ids.index("more/dog/7.png")
    np.testing.assert_array_equal(train.fields(np.array([row]))["image"][0], _pixels(more, "dog/7.png"))


def _pixels(path: str, name: str) -> np.ndarray:
    dataset = collected(path, validation_fraction=0.1, test_fraction=0.1)
    split, row = next((split, split.ids.index(name)) for split in dataset.splits.values() if name in split.ids)
    return split.fields(np.array([row]))["image"][0]


def test_shares_are_drawn_as_asked_for_and_reported(folders):
    first, more = folders("first", {"cat": 40, "dog": 40}, 0), folders("more", {"cat": 5, "dog": 5}, 50_000)
    dataset = collected(first, mixture=((more, 2.0),), mixture_temperature=2.0)
    train = dataset.splits["train"]
    rows = len(train) - 10
    wanted = 20**0.5 / (20**0.5 + rows**0.5)
    drawn = np.concatenate([batch_at(train, step, len(train), 7)["id"] for step in range(30)])
    assert np.mean([train.ids[row].startswith("more/") for row in drawn]) == pytest.approx(wanted, abs=0.01)
    assert set(drawn) == set(range(len(train)))
    sets = dataset.report["mixture"]["sets"]
    assert [entry["name"] for entry in sets] == ["first", "more"]
    assert (sets[1]["rows"], sets[1]["weight"], sets[1]["path"]) == (10, 2.0, more)
    assert sets[1]["share_before"] == pytest.approx(10 / len(train))
    assert sets[1]["share_drawn"] == pytest.approx(wanted)
    assert sets[1]["times_an_epoch"] == pytest.approx(wanted * len(train) / 10)


def test_a_copy_of_a_test_picture_does_not_train_whichever_data_set_brings_it(folders):
    first = folders("first", {"cat": 30, "dog": 30}, 0)
    more = folders("more", {"cat": 30, "dog": 5}, 0)
    dataset = collected(first, mixture=((more, 1.0),))
    held = {name for split in ("validation", "test") for name in dataset.splits[split].ids}
    dropped = {f"more/{name}" for name in held if name.startswith("cat/") or int(name.split("/")[1].split(".")[0]) < 5}
    assert dropped
    assert set(dataset.report["duplicates"]["dropped"]) == dropped
    assert not dropped & set(dataset.splits["train"].ids)


def test_names_never_collide(folders, tmp_path):
    first, more = folders("first", {"cat": 12, "dog": 12}, 0), folders("other/cat", {"cat": 4, "dog": 4}, 50_000)
    dataset = collected(first, mixture=((more, 1.0),))
    names = [name for split in dataset.splits.values() for name in split.ids]
    assert len(set(names)) == 32
    assert "cat#2/dog/0.png" in names
    config = DataConfig(source="image_folder", path="a/x", mixture=(("b/x", 1.0), ("c/x", 1.0)))
    assert mixture_of(config, ["cat/1.png"]).names == ("x", "x#2", "x#3")


def test_further_data_sets_bring_training_rows_only_and_known_classes(folders):
    first, more = folders("first", {"cat": 12, "dog": 12}, 0), folders("more", {"train/cat": 3, "train/dog": 1, "test/dog": 2, "validation/cat": 1}, 50_000)
    dataset = collected(first, mixture=((more, 1.0),))
    assert [name for name in dataset.splits["train"].ids if name.startswith("more/")] == [
        *(f"more/train/cat/{row}.png" for row in range(3)),
        "more/train/dog/0.png",
    ]
    assert dataset.report["mixture"]["sets"][1]["left_out"] == {"validation": 1, "test": 2}
    with pytest.raises(DataError) as error:
        collected(first, mixture=((folders("third", {"cat": 3, "cow": 3}, 70_000), 1.0),))
    assert str(error.value).endswith("third has 'cow', which data.path has not; the classes are 'cat', 'dog'")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0.01, 100)), min_size=1, max_size=5), st.floats(0.5, 100))
def test_shares_sum_to_one_and_grow_with_size_less_so_with_temperature(sets, temperature):
    rows, weights = np.array([size for size, _ in sets]), [weight for _, weight in sets]
    found = shares(rows, weights, temperature)
    assert found.sum() == pytest.approx(1)
    assert (np.argsort(found, kind="stable") == np.argsort(rows * np.array(weights), kind="stable")).all() or len(set(np.round(found, 9))) < len(sets)
    np.testing.assert_allclose(shares(rows, weights, 1.0), rows * np.array(weights) / (rows * np.array(weights)).sum())
    np.testing.assert_allclose(shares(rows, weights, 1e9), 1 / len(sets), rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mixture": (("b", 0.0),)}, "data.mixture: the weight of 'b' is 0.0; allowed is a finite number above 0"),
        ({"mixture": (("b", 1.0),), "mixture_temperature": 0.0}, "data.mixture_temperature=0.0: allowed is a finite number above 0"),
        ({"mixture": (("./a", 1.0),)}, "data.mixture: './a' is there twice; a weight says how often a data set is drawn"),
        ({"mixture": (("b", 1.0),), "sampling": "sqrt"}, "data.mixture and data.sampling='sqrt' both say how often rows are drawn; leave one open"),
    ],
)
def test_what_means_nothing_is_refused(config, message):
    with pytest.raises(ConfigError) as error:
        check_mixture(DataConfig(path="a", **config))
    assert str(error.value) == message


def test_drawing_contradicts_oversampling_and_the_full_batch():
    data = DataConfig(source="image_folder", path="a", mixture=(("b", 2.0),))
    with pytest.raises(ConfigError, match=r"^task\.imbalance='oversample' and data\.mixture both say how often rows are drawn;"):
        check_task(Config(data=data, task=TaskConfig(imbalance="oversample")))
    with pytest.raises(ConfigError, match=r"^train\.batch_size='all' takes every row once and data\.mixture draws rows;"):
        check_task(Config(data=data, train=TrainConfig(batch_size="all")))
