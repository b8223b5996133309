"""The subsets that both libraries train on: distinct, seeded, and read back as they were written."""

import pytest

from benchmarks.text import data


@pytest.fixture(autouse=True)
def _shared(shared_data, monkeypatch):
    monkeypatch.setenv("FTJAX_SHARED_DATA", str(shared_data))


@pytest.fixture(scope="module")
def rows(shared_data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTJAX_SHARED_DATA", str(shared_data))
        return {one.name: data.subset(one) for one in data.SETS}


@pytest.mark.parametrize("name", data.NAMES)
def test_a_subset_has_the_promised_rows_and_no_text_twice(rows, name):
    text_set, found = data.named(name), rows[name]
    assert len(found["train"]) == text_set.rows
    assert len(found["test"]) == (277 if name == "rte" else text_set.test)
    texts = [(row["text"].lower(), row.get("text_pair", "").lower()) for split in data.SPLITS for row in found[split]]
    assert len(set(texts)) == len(texts)
    assert all(text for text, _ in texts)


@pytest.mark.parametrize("name", data.NAMES)
def test_every_label_of_the_test_rows_is_in_training(rows, name):
    if data.named(name).task != "regression":
        train, test = ({label for row in rows[name][split] for label in row["label"].split("\n")} for split in ("train", "test"))
        assert test <= train


def test_labels_are_the_words_that_they_stand_for(rows):
    labels = {name: {row["label"] for row in found["train"]} for name, found in rows.items()}
    assert labels["trec"] == {"ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"}
    assert labels["sst2"] == labels["chnsenticorp"] == {"negative", "positive"}
    assert labels["rte"] == {"entailment", "not_entailment"}
    assert labels["sick_entailment"] == {"contradiction", "entailment", "neutral"}
    assert all(1 <= float(label) <= 5 for label in labels["sick"])
    assert len(labels["banking77"]) == 77


@pytest.mark.parametrize("name", ["trec", "rte", "wnut17"])
def test_what_is_written_is_read_back_and_the_same_again(rows, name, tmp_path):
    text_set = data.named(name)
    folder = data.write(text_set, tmp_path / "one")
    assert data.read_written(text_set, folder) == rows[name]
    again = data.write(text_set, tmp_path / "two")
    assert [(again / file.name).read_bytes() == file.read_bytes() for file in folder.iterdir()] == [True] * 3


def test_questions_are_read_as_latin_1(shared_data):
    texts = [row["text"] for row in data.named("trec").read(shared_data / "text" / "trec")["train"]]
    accented = [text for text in texts if not text.isascii()]
    assert accented
    assert all("\ufffd" not in text for text in accented)


def test_words_and_tags_go_in_pairs_and_lines_without_a_tag_are_left_out():
    raw = "EU\tB-group\nrejects\tO\n\n \n\u200b word\tO\nlone\nParis\tB-location\n"
    assert [row["text"].split("\n") for row in data._sentences(raw)] == [["EU", "rejects"], ["Paris"]]
