"""Texts changed on the way in: tokens made blank in training alone, lower case and the place of a cut that prediction repeats."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from text_files import PIECES, reviews, tiny, write
from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data import TextPreprocessing, eval_batches, texts_split
from ftjax.data.text import Tokenizer, collect_text, open_tokenizer
from ftjax.data.text.shorten import head_and_tail
from ftjax.errors import ConfigError

KEY = jax.random.key(1)
MASK, SPECIAL = PIECES.index("[MASK]"), [PIECES.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
LONG = "the film was good bad great dull plot actor cat dog sat"


def pieces(tokenizer: Tokenizer, tokens, row: int = 0) -> list[str]:
    return [tokenizer.engine.id_to_token(int(token)) for token in tokens.ids[tokens.starts[row] : tokens.starts[row + 1]]]


def batch_of(preprocessing, texts):
    return next(eval_batches(texts_split(texts, preprocessing), len(texts)))


def test_tokens_become_masks_by_key_and_example_special_ones_never(tmp_path):
    preprocessing = TextPreprocessing(tiny(tmp_path), 16, "classification", token_dropout=0.3)
    batch = batch_of(preprocessing, [LONG + " xyz"] * 200)
    found = {name: np.asarray(value) for name, value in preprocessing.training_inputs(batch, KEY).items()}
    changed = found["tokens"] != batch["tokens"]
    assert (found["tokens"][changed] == MASK).all()
    ordinary = batch["mask"] & ~np.isin(batch["tokens"], SPECIAL)
    assert not changed[~ordinary].any()
    assert (batch["tokens"] == PIECES.index("[UNK]")).any()
    assert abs(changed[ordinary].mean() - 0.3) < 0.03
    assert len(np.unique(changed, axis=0)) > 150
    np.testing.assert_array_equal(found["mask"], batch["mask"])
    order = np.random.default_rng(0).permutation(200)
    shuffled = preprocessing.training_inputs({name: value[order] for name, value in batch.items()}, KEY)
    np.testing.assert_array_equal(shuffled["tokens"], found["tokens"][order])
    assert (np.asarray(preprocessing.training_inputs(batch, jax.random.key(2))["tokens"]) != found["tokens"]).any()


def test_evaluation_and_a_dropout_of_zero_see_the_whole_text(tmp_path):
    noisy = TextPreprocessing(tiny(tmp_path), 16, "classification", token_dropout=0.9)
    batch = batch_of(noisy, [LONG])
    for inputs in (noisy.inputs(batch), noisy.test_inputs(batch), dataclasses.replace(noisy, token_dropout=0.0).training_inputs(batch, KEY)):
        np.testing.assert_array_equal(inputs["tokens"], batch["tokens"])
    assert (noisy.is_random, dataclasses.replace(noisy, token_dropout=0.0).is_random) == (True, False)


def test_both_sides_of_a_pair_lose_different_tokens(tmp_path):
    preprocessing = TextPreprocessing(tiny(tmp_path), 16, "sentence_embedding", token_dropout=0.5)
    batch = batch_of(preprocessing, [(LONG, LONG)] * 20)
    first, second = jnp.split(preprocessing.training_inputs(batch, KEY)["tokens"], 2)
    assert (np.asarray(first) != np.asarray(second)).any(axis=1).all()


def test_without_a_mask_the_unknown_token_stands_in_and_without_both_it_is_refused(tmp_path):
    for unknown, blank in (("[UNK]", 1), (None, None)):
        engine = Engine(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token=unknown) if unknown else models.BPE({"a": 0}, []))
        engine.pre_tokenizer = pre_tokenizers.Whitespace()
        file = tmp_path / str(unknown) / "tokenizer.json"
        file.parent.mkdir()
        engine.save(str(file))
        tokenizer = open_tokenizer(file.parent, "here")
        assert tokenizer.blank == blank
        if blank is None:
            with pytest.raises(
                ConfigError, match=r"^augment\.token_dropout=0\.1: .*tokenizer\.json has neither a mask nor an unknown token to put in the place of"
            ):
                TextPreprocessing(tokenizer, 16, "classification", token_dropout=0.1)


def test_lower_case_is_part_of_the_tokenizer_that_is_saved(tmp_path):
    engine = Engine(models.WordLevel({"film": 0, "good": 1, "[UNK]": 2, "FILM": 3}, unk_token="[UNK]"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    engine.save(str(tmp_path / "tokenizer.json"))
    cased = open_tokenizer(tmp_path, "here")
    lower = cased.lowercased()
    assert pieces(cased, cased.encode(["Good FILM"], max_length=8)) == ["[UNK]", "FILM"]
    assert pieces(lower, lower.encode(["Good FILM"], max_length=8)) == ["good", "film"]
    assert pieces(lower, lower.encode([["Good", "FILM"]], max_length=8)) == ["good", "film"]
    assert next(iter(lower.encode_apart(["x GOOD"]))).offsets == [(0, 1), (2, 6)]
    assert lower.digest != cased.digest
    lower.save(tmp_path / "model" / "tokenizer.json")
    described = json.loads(json.dumps(TextPreprocessing(lower, 8, "classification").to_json()))
    again = TextPreprocessing.from_json(described, tmp_path / "model").tokenizer
    assert pieces(again, again.encode(["Good FILM"], max_length=8)) == ["good", "film"]


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ("right", ["[CLS]", *LONG.split()[:8], "[SEP]"]),
        ("left", ["[CLS]", *LONG.split()[4:], "[SEP]"]),
        ("middle", ["[CLS]", *LONG.split()[:2], *LONG.split()[6:], "[SEP]"]),
    ],
)
def test_a_long_text_loses_what_the_setting_says_in_training_and_in_prediction(tmp_path, truncation, kept):
    tokenizer = dataclasses.replace(tiny(tmp_path), truncation=truncation)
    tokens = tokenizer.encode([LONG, "a cat"], max_length=10)
    assert pieces(tokenizer, tokens) == kept
    assert pieces(tokenizer, tokens, 1) == ["[CLS]", "a", "cat", "[SEP]"]
    assert tokens.truncated.tolist() == [True, False]
    assert len(tokens.words) == len(tokens.segments) == len(tokens.ids)
    tokenizer.save(tmp_path / "model" / "tokenizer.json")
    described = json.loads(json.dumps(TextPreprocessing(tokenizer, 10, "classification").to_json()))
    again = TextPreprocessing.from_json(described, tmp_path / "model")
    batch = batch_of(again, [LONG])
    assert [PIECES[token] for token in batch["tokens"][0][batch["mask"][0]]] == kept
    older = {key: value for key, value in described.items() if key not in ("truncation", "token_dropout")}
    assert TextPreprocessing.from_json(older, tmp_path / "model").tokenizer.truncation == "right"


@pytest.mark.parametrize(("first", "second"), [(12, 2), (2, 12), (12, 12), (3, 9)])
@pytest.mark.parametrize("max_length", [7, 11, 12, 16])
def test_of_a_pair_each_text_is_cut_in_its_own_middle_the_shorter_one_last(tmp_path, first, second, max_length):
    tokenizer = dataclasses.replace(tiny(tmp_path), truncation="middle")
    words = LONG.split()
    encoding = tokenizer.engine.encode(" ".join(words[:first]), " ".join(words[:second]))
    kept = head_and_tail(encoding, max_length)
    room, parts = max_length - 3, [encoding.sequence_ids[place] for place in kept]
    assert len(kept) == min(max_length, first + second + 3)
    assert [parts.count(side) for side in (0, 1)][int(first > second)] == min(first, second, max(room // 2, room - max(first, second)))
    assert (np.diff(kept) > 0).all()
    for side, length in ((0, first), (1, second)):
        here = [place - encoding.sequence_ids.index(side) for place in kept if encoding.sequence_ids[place] == side]
        head = length if len(here) == length else -(-len(here) // 4)
        assert here == [*range(head), *range(length - (len(here) - head), length)]


def test_the_papers_example_keeps_128_and_382_of_510(tmp_path):
    tokenizer = tiny(tmp_path)
    encoding = tokenizer.engine.encode("cat " * 900)
    kept = head_and_tail(encoding, 512)
    np.testing.assert_array_equal(kept, [*range(129), *range(902 - 383, 902)])


def test_an_unknown_truncation_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^text\.truncation='centre': allowed: 'left', 'middle', 'right'$"):
        dataclasses.replace(tiny(tmp_path), truncation="centre")


def test_another_cut_is_another_data_set(tmp_path):
    path = write(tmp_path / "reviews.csv", reviews())
    tokenizer = tiny(tmp_path)
    found = {
        collect_text(DataConfig(source="table", path=str(path)), TextConfig(), TaskConfig(), cutting, 16, 0).report["fingerprint"]
        for cutting in (tokenizer, dataclasses.replace(tokenizer, truncation="left"), tokenizer.lowercased())
    }
    assert len(found) == 3
