"""Tokenizers from a model's directory: nothing of the file's truncation and padding, clear words for what is damaged or does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
from text_files import PIECES, tiny, tiny_folder, write
from tokenizers import Tokenizer as Engine

from ftjax.data.text import check_vocabulary, open_tokenizer, tokenizer_files
from ftjax.data.text.splits import encode_words, first_pieces
from ftjax.errors import ConfigError, WeightsError


def _pieces(tokenizer, tokens, row):
    return [tokenizer.engine.id_to_token(int(token)) for token in tokens.ids[tokens.starts[row] : tokens.starts[row + 1]]]


def test_a_text_becomes_its_pieces_between_special_tokens(tmp_path):
    tokenizer = tiny(tmp_path)
    tokens = tokenizer.encode(["The unlikely CAT", ""], max_length=16)
    assert _pieces(tokenizer, tokens, 0) == ["[CLS]", "the", "un", "##lik", "##e", "##ly", "cat", "[SEP]"]
    assert _pieces(tokenizer, tokens, 1) == ["[CLS]", "[SEP]"]
    assert tokens.lengths.tolist() == [8, 2]
    assert tokens.words[:8].tolist() == [-1, 0, 1, 1, 1, 1, 2, -1]


def test_pairs_have_segments_and_the_longer_text_is_cut_first(tmp_path):
    tokenizer = tiny(tmp_path)
    tokens = tokenizer.encode(["a cat sat on the mat", "a cat"], ["a dog", "a dog"], max_length=8)
    assert _pieces(tokenizer, tokens, 0) == ["[CLS]", "a", "cat", "sat", "[SEP]", "a", "dog", "[SEP]"]
    assert tokens.segments[:8].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert tokens.truncated.tolist() == [True, False]


def test_rows_are_padded_on_the_right_in_any_order(tmp_path):
    tokens = tiny(tmp_path).encode(["cat", "a cat sat", ""], max_length=16)
    padded = tokens.padded(np.array([2, 1]), 6, 7)
    np.testing.assert_array_equal(padded["mask"], [[True, True] + [False] * 4, [True] * 5 + [False]])
    assert padded["tokens"][0].tolist() == [2, 3, 7, 7, 7, 7]
    assert {key: value.dtype.name for key, value in padded.items()} == {"tokens": "int32", "mask": "bool", "segments": "int32"}


def test_truncation_and_padding_of_the_file_are_switched_off(tmp_path):
    engine = Engine.from_str(tiny(tmp_path).definition)
    engine.enable_truncation(4)
    engine.enable_padding(length=12, pad_id=4, pad_token="[MASK]")
    engine.save(str(tmp_path / "tokenizer.json"))
    tokenizer = open_tokenizer(tmp_path, "here")
    assert tokenizer.encode(["a cat sat on the mat"], max_length=64).lengths.tolist() == [8]
    assert tokenizer.pad == 4
    assert json.loads(tokenizer.definition)["padding"] is None


def test_the_padding_token_is_found_in_the_files_beside_or_by_its_usual_name(tmp_path):
    assert tiny(tmp_path).pad == 0
    folder = tiny_folder(tmp_path / "other")
    (folder / "tokenizer_config.json").write_text('{"pad_token": {"content": "[SEP]"}, "do_lower_case": false}')
    tokenizer = open_tokenizer(folder, "other")
    assert tokenizer.pad == 3
    assert _pieces(tokenizer, tokenizer.encode(["The cat"], max_length=9), 0) == ["[CLS]", "[UNK]", "cat", "[SEP]"]


def test_what_is_saved_is_the_same_tokenizer(tmp_path):
    tokenizer = tiny(tmp_path)
    tokenizer.save(tmp_path / "saved" / "tokenizer.json")
    again = open_tokenizer(tmp_path / "saved", "saved")
    assert (again.definition, again.digest, again.pad) == (tokenizer.definition, tokenizer.digest, tokenizer.pad)


def test_byte_level_vocabularies_are_read_and_words_get_their_space_back(tmp_path):
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "c", "t", "Ġ", "at", "cat", "Ġcat"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na t\nc at\nĠ cat\n")
    tokenizer = open_tokenizer(tmp_path, "roberta")
    assert (tokenizer.pad, tokenizer.size, tokenizer.unknown) == (1, 12, None)
    assert _pieces(tokenizer, tokenizer.encode(["cat cat"], max_length=9), 0) == ["<s>", "cat", "Ġcat", "</s>"]
    assert _pieces(tokenizer, tokenizer.encode(["cat"], ["cat"], max_length=9), 0) == ["<s>", "cat", "</s>", "</s>", "cat", "</s>"]
    words = tokenizer.encode([["cat", "cat"]], max_length=9)
    assert _pieces(tokenizer, words, 0) == ["<s>", "Ġcat", "Ġcat", "</s>"]
    assert words.words.tolist() == [-1, 0, 1, -1]


def test_a_word_of_which_nothing_is_left_becomes_the_unknown_token(tmp_path):
    tokenizer = tiny(tmp_path)
    tokens = encode_words(tokenizer, [["cat", "\u200d", "unlikely", "\x07", "dog"], ["a"]], 16)
    assert _pieces(tokenizer, tokens, 0) == ["[CLS]", "cat", "[UNK]", "un", "##lik", "##e", "##ly", "[UNK]", "dog", "[SEP]"]
    assert first_pieces(tokens)[:10].tolist() == [-1, 0, 1, 2, -1, -1, -1, 3, 4, -1]
    assert _pieces(tokenizer, tokens, 1) == ["[CLS]", "a", "[SEP]"]


def test_no_room_for_a_token_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^text\.max_length=2: allowed is 3 or more \(1 and the special tokens\)$"):
        tiny(tmp_path).encode(["cat"], max_length=2)
    with pytest.raises(ConfigError, match=r"^text\.max_length=4: allowed is 5 or more \(2 and the special tokens\)$"):
        tiny(tmp_path).encode(["cat"], ["dog"], max_length=4)


def test_a_folder_without_a_tokenizer_is_refused_with_what_it_holds(tmp_path):
    write(tmp_path / "sentencepiece.bpe.model", "x")
    message = (
        r"^hf://a/b has no tokenizer: allowed are tokenizer\.json, vocab\.txt \(WordPiece\), vocab\.json with merges\.txt \(byte-level BPE\) and "
        r"tokenizer\.model \(SentencePiece\); it holds sentencepiece\.bpe\.model$"
    )
    with pytest.raises(WeightsError, match=message):
        open_tokenizer(tmp_path, "hf://a/b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", r"tokenizer\.json is no tokenizer that the tokenizers library [\d.]+ can read: "),
        ("tokenizer.json", '{"model": {"type": "Magic"}}', r"tokenizer\.json is no tokenizer that the tokenizers library [\d.]+ can read: "),
        ("tokenizer.json", b"\xff\xfe", r"tokenizer\.json is damaged: byte 0 is not UTF-8$"),
        ("vocab.txt", "cat\ndog\n", r"vocab\.txt is no WordPiece vocabulary: it has no \[UNK\]$"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises(WeightsError, match=message):
        open_tokenizer(tmp_path, "here")


def test_damaged_merges_are_named(tmp_path):
    write(tmp_path / "vocab.json", '{"<s>": 0, "</s>": 1, "a": 2}')
    write(tmp_path / "merges.txt", "a\n")
    with pytest.raises(WeightsError, match=r"merges\.txt is damaged: merge 1 is 'a', not two pieces$"):
        open_tokenizer(tmp_path, "here")
    write(tmp_path / "merges.txt", "a b\n")
    with pytest.raises(WeightsError, match=r"merges\.txt does not fit vocab\.json: "):
        open_tokenizer(tmp_path, "here")


def test_a_vocabulary_larger_than_the_embedding_is_refused_and_so_is_a_much_smaller_one(tmp_path):
    tokenizer, count = tiny(tmp_path), len(PIECES)
    check_vocabulary(tokenizer, count)
    check_vocabulary(tokenizer, count + 1024)
    with pytest.raises(
        WeightsError,
        match=rf"vocab\.txt has ids up to {count - 1}, the model's embedding only 30 rows: the tokenizer belongs to another model, or tokens were added to it$",
    ):
        check_vocabulary(tokenizer, 30)
    with pytest.raises(WeightsError, match=rf"vocab\.txt knows {count} tokens, the model's embedding has 30522 rows: the tokenizer belongs to another model$"):
        check_vocabulary(tokenizer, 30522)


def test_texts_of_another_script_do_not_fit(tmp_path):
    tokenizer = tiny(tmp_path)
    assert tokenizer.misfit(["a cat sat", "the dog was good"]) == 0.0
    assert tokenizer.misfit(["кошка", "собака и cat"]) == 0.75
    assert tokenizer.misfit([]) == 0.0


def test_a_very_long_text_is_cut_and_counted(tmp_path):
    tokens = tiny(tmp_path).encode(["cat " * 25_000, "cat"], max_length=32)
    assert tokens.lengths.tolist() == [32, 3]
    assert tokens.truncated.tolist() == [True, False]


def test_an_enormous_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizer_files, "_LARGEST", 10)
    write(tmp_path / "tokenizer.json", "{" + " " * 20)
    with pytest.raises(WeightsError, match=r"tokenizer\.json has 21 bytes; no tokenizer has more than 10$"):
        open_tokenizer(tmp_path, "here")
