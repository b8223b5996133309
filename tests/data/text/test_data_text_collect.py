"""From files to splits: cleaned, split, sampled and cut into tokens, with a report of all of it; every task gets its labels as it wants them."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from text_files import BAD, GOOD, collected, jsonl, reviews, tiny, write

from ftjax.data import batch_at, eval_batches
from ftjax.data.text.squad import Answer
from ftjax.data.text.windows import cut_windows
from ftjax.errors import ConfigError, DataError


def test_one_file_becomes_three_splits_of_texts_with_string_labels(tmp_path):
    dataset = collected(write(tmp_path / "a.csv", reviews()))
    assert dataset.classes == ("neg", "pos")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 14, "validation": 2, "test": 4}
    for split in dataset.splits.values():
        shown = [split.show(row)["text"] for row in range(len(split))]
        assert [dataset.classes[label] for label in split.labels] == ["pos" if text in GOOD else "neg" for text in shown]
    assert sorted(split.show(row)["text"] for split in dataset.splits.values() for row in range(len(split))) == sorted((*GOOD, *BAD))


def test_batches_hold_the_tokens_of_their_rows(tmp_path):
    dataset, tokenizer = collected(write(tmp_path / "a.csv", reviews())), tiny(tmp_path / ".tokenizer")
    train = dataset.splits["train"]
    batch = batch_at(train, 0, 4, 0)
    assert batch["tokens"].shape[1] in train.buckets
    assert (batch["id"] >= 0).any()
    for tokens, mask, row in zip(*(batch[key][batch["id"] >= 0] for key in ("tokens", "mask", "id"))):
        text = tokenizer.engine.decode(tokens[mask].tolist())
        assert text == train.show(int(row))["text"]
    ids = np.concatenate([part["id"] for part in eval_batches(train, 5)])
    assert sorted(ids[ids >= 0]) == list(range(14))


def test_the_report_says_what_was_found_and_fits_json(tmp_path):
    report = collected(write(tmp_path / "a.csv", "note," + reviews().replace("\n", "\n,").removesuffix(",")), buckets=2).report
    json.dumps(report, allow_nan=False)
    assert report["columns"]["label"] == {"column": "label", "origin": "guessed", "why": "from its name"}
    assert report["unused_columns"] == ["note"]
    assert (report["encoding"], report["delimiter"], report["source"]) == ("utf-8", ",", f"table: {tmp_path / 'a.csv'}")
    assert report["splits"]["train"]["per_class"] == {"neg": 7, "pos": 7}
    tokens = report["tokens"]
    assert tokens["buckets"] == [8]
    assert {name: sum(counts) for name, counts in tokens["histogram"]["counts"].items()} == {"train": 14, "validation": 2, "test": 4}
    assert tokens["truncated"] == {"train": 0, "validation": 0, "test": 0}
    assert 0 < tokens["padding_share"] < 1
    assert report["warnings"] == []


def test_the_fingerprint_covers_ids_labels_and_texts(tmp_path):
    def fingerprint(content):
        return collected(write(tmp_path / "a.csv", content)).report["fingerprint"]

    first = fingerprint(reviews())
    assert fingerprint(reviews()) == first
    assert fingerprint(reviews().replace("good cat,pos", "good dog,pos")) != first
    assert fingerprint(reviews().replace("good cat,pos", "good cat,neg")) != first


def test_copies_up_to_white_space_are_dropped_from_the_lower_split(tmp_path):
    write(tmp_path / "train.csv", reviews())
    write(tmp_path / "test.csv", "text,label\n a  good film ,pos\ndull,neg\nnew bad film,neg\n")
    report = collected(tmp_path).report
    assert len(report["duplicates"]["across"]) == 2
    assert report["duplicates"]["dropped"] == ["train.csv:5", "train.csv:13"]
    assert report["splits"]["test"]["rows"] == 3
    assert "2 texts are in more than one split; the copies outside of the higher split were dropped" in report["warnings"]
    with pytest.raises(DataError, match=r": 2 texts are in more than one split:\n  train\.csv:5 \(train\) = test\.csv:2 \(test\)\n"):
        collected(tmp_path, duplicates="error")


def test_copies_with_different_labels_are_dropped_from_train(tmp_path):
    report = collected(write(tmp_path / "a.csv", reviews("good cat,neg\n"))).report
    assert report["duplicates"]["dropped"] == ["a.csv:11", "a.csv:22"]
    assert "1 text is there with different labels; those in train were dropped" in report["warnings"]
    scores = "text,score\n" + "".join(f"{text},{row}\n" for row, text in enumerate((*GOOD, *BAD, GOOD[0])))
    assert collected(write(tmp_path / "b.csv", scores), "regression").report["duplicates"]["dropped"] == []


def test_few_labels_keep_their_classes_and_only_classification_has_them(tmp_path):
    path = write(tmp_path / "a.csv", reviews())
    assert collected(path, labels_per_class=2).report["splits"]["train"]["per_class"] == {"neg": 2, "pos": 2}
    with pytest.raises(ConfigError, match=r"^data\.labels_per_class=2: only classification has one class for each row, multi_label has not; leave it open$"):
        collected(path, "multi_label", labels_per_class=2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\ngood,pos\n", r" has one class only \('pos'\): there is nothing to tell apart$"),
        (
            "text,label\ngood,pos\nbad,neg\n",
            r"^class 'neg' has 1 different texts, too few to split test off \(3 are needed\); add texts or bring the splits as files$",
        ),
        ("text,label\n", r" holds no texts$"),
    ],
)
def test_files_with_too_few_rows_are_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        collected(write(tmp_path / "a.csv", content))


def test_a_label_seen_only_in_test_is_refused(tmp_path):
    write(tmp_path / "train.csv", reviews())
    write(tmp_path / "test.csv", "text,label\nyes,pos\nthe cat,other\n")
    message = r": class 'other' is in test \(such as test\.csv:3\) but has no training example: nothing can learn it$"
    with pytest.raises(DataError, match=message):
        collected(tmp_path)


def test_a_label_missing_in_a_split_and_imbalance_are_told(tmp_path):
    rare = "".join(f"the film number {row} was good,pos\n" for row in range(150))
    write(tmp_path / "train.csv", reviews(rare))
    write(tmp_path / "validation.csv", "text,label\nyes,pos\n")
    write(tmp_path / "test.csv", "text,label\nnice film,pos\nno film,neg\n")
    warnings = collected(tmp_path).report["warnings"]
    assert "validation has no example of 'neg'" in warnings
    assert any(warning.startswith("classes are imbalanced 16.0 to 1: always saying 'pos' is right for 94.1% of the training rows") for warning in warnings)


def test_a_label_with_a_value_for_every_row_is_refused(tmp_path):
    content = "text,label\n" + "".join(f"film {row},{row / 7}\n" for row in range(60))
    message = r": the label \(column 'label'\) has 60 values in 60 rows; is it another column, or task\.name='regression'\?$"
    with pytest.raises(DataError, match=message):
        collected(write(tmp_path / "a.csv", content))


def test_numbers_as_labels_stand_in_their_order(tmp_path):
    content = reviews().replace("pos", "10").replace("neg", "9")
    assert collected(write(tmp_path / "a.csv", content)).classes == ("9", "10")


def test_cut_texts_and_foreign_texts_are_told(tmp_path):
    path = write(tmp_path / "a.csv", reviews().replace("pos", "p").replace("neg", "n"))
    report = collected(path, max_length=5).report
    cut = report["tokens"]["truncated"]["train"]
    assert f"{cut} of 14 training texts ({cut / 14:.0%}) are longer than 5 tokens and were cut; text.max_length may allow more" in report["warnings"]
    foreign = "text,label\n" + "".join(f"кошка номер {row},{row % 2}\n" for row in range(20))
    found = collected(write(tmp_path / "b.csv", foreign)).report["warnings"]
    assert len(found) == 1
    hardly = (
        r"^the tokenizer hardly fits these texts: \d\d% of the tokens are unknown or single characters; the model was probably trained on another language$"
    )
    assert re.match(hardly, found[0])


def test_regression_gets_its_targets_in_every_split(tmp_path):
    content = "text,score\n" + "".join(f"film {row},{row / 10}\n" for row in range(100))
    dataset = collected(write(tmp_path / "a.csv", content), "regression")
    assert dataset.classes == ()
    for split in dataset.splits.values():
        assert split.labels.dtype == np.float32
        np.testing.assert_allclose(split.labels, [int(split.show(row)["text"].split()[1]) / 10 for row in range(len(split))], rtol=1e-6)
        assert split.labels.min() < 3
        assert split.labels.max() > 7


def test_several_labels_become_flags(tmp_path):
    rows = [{"text": f"film {row}", "labels": [name for name, step in (("a", 2), ("b", 3)) if row % step == 0]} for row in range(60)]
    dataset = collected(write(tmp_path / "a.jsonl", jsonl(*rows)), "multi_label")
    assert dataset.classes == ("a", "b")
    train = dataset.splits["train"]
    assert (train.labels.dtype, train.labels.shape) == (np.float32, (len(train), 2))
    numbers = np.array([int(train.show(row)["text"].split()[1]) for row in range(len(train))])
    np.testing.assert_array_equal(train.labels, np.stack([numbers % 2 == 0, numbers % 3 == 0], axis=1))
    with pytest.raises(DataError, match=r": multi_label needs at least two labels; found 'a': say text\.label_separator$"):
        collected(write(tmp_path / "b.csv", "text,labels\nx,a\ny,a\n"), "multi_label")


def test_tags_lie_on_the_first_piece_of_their_word(tmp_path):
    spans = ["mr B-per\nsmith I-per\nlives O\nin O\nparis B-loc\n", "unlikely O\nparis B-loc\n"]
    content = "\n".join(f"{spans[number % 2]}{number} O\n" for number in range(24))
    dataset = collected(write(tmp_path / "a.conll", content), "token_classification", source="conll")
    assert dataset.classes == ("O", "B-loc", "I-loc", "B-per", "I-per")
    train = dataset.splits["train"]
    row = next(row for row in range(len(train)) if train.show(row)["words"][0] == "unlikely")
    fields = train.fields(np.array([row]))
    assert fields["token_label"][0].tolist() == [-100, 0, -100, -100, -100, 1, 0, -100]
    assert fields["word"][0].tolist() == [-1, 0, -1, -1, -1, 1, 2, -1]
    number = train.show(row)["words"][2]
    assert train.show(row) == {"text": f"unlikely paris {number}", "words": ["unlikely", "paris", number], "tags": ["O", "B-loc", "O"]}
    assert train.labels.tolist() == [0] * len(train)
    with pytest.raises(DataError, match=r": every tag is 'O': there is nothing to find$"):
        collected(write(tmp_path / "b.conll", "a\tO\n"), "token_classification", source="conll")


def test_parts_of_speech_are_classes_as_they_are(tmp_path):
    content = "\n\n".join(f"the DET\ncat{row} NOUN" for row in range(20))
    dataset = collected(write(tmp_path / "a.conll", content), "token_classification", source="conll")
    assert dataset.classes == ("DET", "NOUN")
    assert dataset.splits["train"].show(0)["tags"] == ["DET", "NOUN"]


def test_pairs_for_embedding_share_a_group_where_their_positives_are_equal(tmp_path):
    content = "anchor,positive\n" + "".join(f"film {row},plot {row // 2}\n" for row in range(40))
    dataset = collected(write(tmp_path / "a.csv", content), "sentence_embedding")
    for split in dataset.splits.values():
        positives = [split.show(row)["text_pair"] for row in range(len(split))]
        same = split.labels[:, None] == split.labels[None, :]
        np.testing.assert_array_equal(same, [[one == other for other in positives] for one in positives])
        assert all(positives.count(name) == 2 for name in positives)
    fields = dataset.splits["train"].fields(np.array([0, 1]))
    assert fields["pair_tokens"].shape == fields["tokens"].shape
    assert set(fields) == {f"{side}{name}" for side in ("", "pair_") for name in ("tokens", "mask", "segments")}


def test_windows_overlap_cover_the_context_and_hold_the_answer(tmp_path):
    tokenizer = tiny(tmp_path)
    context = "a cat sat on the mat . mr smith lives in paris . the film was good , the plot was dull ."
    answer = Answer("paris", context.index("paris"))
    windows = cut_windows(tokenizer, ["where is he ?"] * 2, [context, "the cat"], [(answer,), ()], max_length=16, stride=3)
    assert windows.tokens.lengths.max() == 16
    assert windows.question.tolist() == [0] * (len(windows.question) - 1) + [1]
    seen = []
    for row in np.flatnonzero(windows.question == 0):
        offsets = windows.offsets[windows.tokens.starts[row] : windows.tokens.starts[row + 1]]
        inside = offsets[offsets[:, 0] >= 0]
        seen.append({context[first:last] for first, last in inside})
        held = "paris" in seen[-1]
        assert windows.labels[row].any() == held
        if held:
            first, last = windows.labels[row]
            assert context[offsets[first, 0] : offsets[last, 1]] == "paris"
    assert set().union(*seen) == set(context.split())
    assert all(len(one & other) >= 1 for one, other in itertools.pairwise(seen))
    assert windows.labels[-1].tolist() == [0, 0]


def test_an_answer_cut_by_a_window_is_not_its_answer(tmp_path):
    context = "mr smith lives in paris"
    windows = cut_windows(tiny(tmp_path), ["who ?"], [context], [(Answer(context, 0),)], max_length=12, stride=0)
    assert windows.labels.tolist() == [[4, 8]]
    narrow = cut_windows(tiny(tmp_path), ["who is he ?"], [context], [(Answer(context, 0),)], max_length=10, stride=0)
    assert len(narrow.labels) > 1
    assert not narrow.labels.any()


def test_a_long_question_keeps_half_of_the_tokens(tmp_path):
    windows = cut_windows(tiny(tmp_path), ["where " * 500], ["the cat sat on the mat"], [()], max_length=16, stride=8)
    assert windows.tokens.lengths.max() <= 16
    assert len(windows.labels) < 10


def test_questions_become_windows_that_know_their_question(tmp_path):
    paragraphs = []
    for number in range(12):
        context = f"mr smith lives in paris {number % 4} . " + "the cat sat on the mat . " * (number % 3) + f"x {number}"
        asked = {"id": f"q{number}", "question": "where is he ?", "answers": [{"text": "paris", "answer_start": context.index("paris")}]}
        paragraphs.append({"context": context, "qas": [asked, {"id": f"n{number}", "question": "who is he ?", "answers": []}]})
    path = write(tmp_path / "a.json", json.dumps({"data": [{"paragraphs": paragraphs}]}))
    dataset = collected(path, "question_answering", source="squad", max_length=20, stride=4)
    contexts = []
    for split in dataset.splits.values():
        shown = [split.show(row) for row in range(len(split))]
        contexts.append({row["context"] for row in shown})
        for row, (item, name) in enumerate(zip(shown, split.ids)):
            assert name.split("#")[0] == item["id"]
            assert (item["answers"] == ["paris"]) == (item["question"] == "where is he ?")
            assert len(item["offsets"]) == split.lengths[row]
            if split.labels[row].any():
                first, last = split.labels[row]
                assert item["context"][item["offsets"][first, 0] : item["offsets"][last, 1]] == "paris"
    assert not contexts[0] & contexts[1]
    assert not (contexts[0] | contexts[1]) & contexts[2]
    assert (dataset.classes, dataset.splits["train"].labels.shape[1]) == ((), 2)


def test_settings_that_do_not_go_together_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", reviews())
    with pytest.raises(ConfigError, match=r"^data\.source='conll' does not go with task\.name='classification': allowed: 'table'$"):
        collected(path, source="conll")
    with pytest.raises(ConfigError, match=r"^text\.buckets=0: allowed is 1 or more$"):
        collected(path, buckets=0)
    with pytest.raises(ConfigError, match=r"^text\.stride=16: allowed is 0 or more and less than text\.max_length \(16\), better a quarter of it$"):
        cut_windows(tiny(tmp_path), ["who ?"], ["a cat"], [()], max_length=16, stride=16)


def test_texts_of_a_hundred_thousand_characters_are_cut(tmp_path):
    content = reviews("the cat " * 12_500 + ",pos\n")
    dataset = collected(write(tmp_path / "a.csv", content), test_fraction=0.2)
    assert sum(dataset.report["tokens"]["truncated"].values()) == 1
    assert max(split.lengths.max() for split in dataset.splits.values()) == 16


def test_a_text_with_two_scores_is_never_trained_on_and_tested(tmp_path):
    texts = [f"{text} {number}" for text in (*GOOD, *BAD) for number in (1, 2, 3)]
    content = "".join(f"{text},{score}\n" for text in texts for score in (0, 5))
    dataset = collected(write(tmp_path / "a.csv", "text,score\n" + content), "regression", duplicates="report")
    seen = [{split.show(row)["text"] for row in range(len(split))} for split in dataset.splits.values()]
    assert all(not one & other for one, other in itertools.combinations(seen, 2))


def test_pairs_that_share_either_text_are_one_group_and_stay_on_one_side(tmp_path):
    pairs = [(f"{text} {number}", f"{text} {number} {other}") for text in GOOD for number in (1, 2) for other in ("a", "b")]
    content = "text,text_pair\n" + "".join(f"{one},{two}\n" for one, two in pairs)
    dataset = collected(write(tmp_path / "a.csv", content), "sentence_embedding")
    seen = [{split.show(row)["text"] for row in range(len(split))} for split in dataset.splits.values()]
    assert all(not one & other for one, other in itertools.combinations(seen, 2))
    train = dataset.splits["train"]
    texts = [train.show(row)["text"] for row in range(len(train))]
    for one, other in itertools.combinations(range(len(train)), 2):
        assert (train.labels[one] == train.labels[other]) == (texts[one] == texts[other])
