"""Tables mixed in one training, and the priors of what is drawn for every task that has labels."""

from __future__ import annotations

import numpy as np
import pytest
from text_files import collected, jsonl, reviews, write

from ftjax.config import TaskConfig
from ftjax.errors import ConfigError, DataError
from ftjax.tasks import make_task


def test_the_rows_of_a_further_table_train_and_the_first_is_split_as_if_alone(tmp_path):
    first = write(tmp_path / "a.csv", reviews())
    more = write(tmp_path / "more.jsonl", jsonl(*({"text": f"the cat sat on {word}", "label": "pos"} for word in ("mat", "paris", "film", "smith"))))
    alone, mixed = collected(first), collected(first, mixture=((str(more), 3.0),))
    assert {split: mixed.splits[split].ids for split in ("validation", "test")} == {split: alone.splits[split].ids for split in ("validation", "test")}
    train = mixed.splits["train"]
    assert train.ids == (*alone.splits["train"].ids, *(f"more.jsonl/more.jsonl:{line}" for line in range(1, 5)))
    assert train.sampling is not None
    np.testing.assert_allclose(train.sampling[-4:].sum(), 12 / 26)
    assert mixed.report["further"]["more.jsonl"]["format"] == "jsonl"
    assert mixed.report["mixture"]["sets"][1]["share_drawn"] == pytest.approx(12 / 26)
    prior = make_task(TaskConfig(imbalance="logit_adjust"), mixed.classes, split=train).log_prior
    np.testing.assert_allclose(np.exp(prior), [7 / 26, 19 / 26])


def test_a_further_table_has_the_classes_and_the_sides_of_the_first(tmp_path):
    first = write(tmp_path / "a.csv", reviews())
    with pytest.raises(DataError, match=r"^data\.mixture: .*b\.csv has 'so', which data\.path has not; the classes are 'neg', 'pos'$"):
        collected(first, mixture=((str(write(tmp_path / "b.csv", "text,label\na cat,so\na dog,pos\n")), 1.0),))
    with pytest.raises(DataError, match=r"c\.csv has a second text, unlike data\.path; say text\.text and text\.text_pair$"):
        collected(first, mixture=((str(write(tmp_path / "c.csv", "premise,hypothesis,label\na cat,a dog,neg\na dog,a cat,pos\n")), 1.0),))


def test_odds_of_labels_and_tags_are_those_of_what_is_drawn(tmp_path):
    words = ("good", "bad", "dull", "great", "nice", "plot", "actor", "film")
    rows = [{"text": f"a {first} {second}", "labels": ["x"] if number % 2 else ["x", "y"]} for number, first in enumerate(words) for second in words]
    first = write(tmp_path / "a.jsonl", jsonl(*rows))
    more = write(tmp_path / "b.jsonl", jsonl({"text": "where is he", "labels": ["y"]}))
    dataset = collected(first, "multi_label", mixture=((str(more), 20.0),))
    train = dataset.splits["train"]
    weights = train.sampling / train.sampling.sum()
    share = weights @ train.labels
    task = make_task(TaskConfig(name="multi_label", imbalance="logit_adjust"), dataset.classes, split=train)
    np.testing.assert_allclose(task.log_odds, np.log(share / (1 - share)))

    def tagged(tag, *texts):
        return "\n".join("\n".join(f"{word} {tag if word == 'paris' else 'O'}" for word in text.split()) + "\n" for text in texts)

    first = write(tmp_path / "a.conll", tagged("B-P", *(f"mr smith lives in paris {one} {two}" for one in words for two in words)))
    more = write(tmp_path / "b.conll", tagged("B-P", "paris paris paris"))
    dataset = collected(first, "token_classification", source="conll", mixture=((str(more), 50.0),), max_length=24)
    train = dataset.splits["train"]
    times = train.sampling * len(train) / train.sampling.sum()
    labels = train.fields(np.arange(len(train)))["token_label"]
    counts = np.array([sum(times[row] * (labels[row] == label).sum() for row in range(len(train))) for label in range(len(dataset.classes))])
    task = make_task(TaskConfig(name="token_classification", imbalance="logit_adjust"), dataset.classes, split=train)
    expected = np.where(counts > 0, counts, 1.0)
    np.testing.assert_allclose(task.log_prior, np.log(expected / expected.sum()))


def test_targets_and_labels_of_further_tables_do_not_move_the_first(tmp_path):
    texts = [
        f"a {first} {second}"
        for first in ("good", "bad", "dull", "great", "nice", "cat", "dog")
        for second in ("plot", "actor", "film", "mat", "place", "cat", "dog")
    ]
    first = write(tmp_path / "a.jsonl", jsonl(*({"text": text, "score": row / 10, "labels": ["x"] if row % 3 else ["y"]} for row, text in enumerate(texts))))
    more = write(tmp_path / "b.jsonl", jsonl(*({"text": f"not {text}", "score": 90.0 + row, "labels": ["y"]} for row, text in enumerate(texts))))
    for task, label in (("regression", "score"), ("multi_label", "labels")):
        alone, mixed = (collected(first, task, label=label, text="text", mixture=mixture) for mixture in ((), ((str(more), 1.0),)))
        assert {split: mixed.splits[split].ids for split in ("validation", "test")} == {split: alone.splits[split].ids for split in ("validation", "test")}


def test_pairs_that_share_texts_are_not_mixed(tmp_path):
    path = write(tmp_path / "a.csv", "query,positive\na cat,a dog\n")
    with pytest.raises(ConfigError) as error:
        collected(path, "sentence_embedding", mixture=(("b.csv", 1.0),))
    assert str(error.value) == "data.mixture: pairs that share a text stay together, which is not looked after across data sets; leave it open"
