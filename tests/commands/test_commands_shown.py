"""Examples of test.json: complete enough to be understood, small enough to be kept, and always writable."""

from __future__ import annotations

import numpy as np

from ftjax.commands import shown
from ftjax.files import read_json, write_json


def test_an_example_says_what_was_answered_and_then_what_it_is(tmp_path):
    described = {"id": "test:1", "row": 4, "label": "a", "prediction": None, "confidence": 0.5}
    found = shown.example(described, {"id": 3, "text": "x", "text_pair": "y", "offsets": np.zeros((2, 2)), "label": "other"})
    assert found == {"id": "test:1", "label": "a", "prediction": None, "confidence": 0.5, "text": "x", "text_pair": "y"}
    assert list(found)[:4] == ["id", "label", "prediction", "confidence"]


def test_long_texts_are_cut_and_their_length_is_said():
    found = shown.example({"row": 0}, {"text": "x" * 100_000, "context": "y" * 40_000, "words": ["w" * 5_000] * 1_200})
    assert found["text"] == "x" * shown.LETTERS
    assert found["text_characters"] == 100_000
    assert len(found["context"]) == 40_000
    assert "context_characters" not in found
    assert found["words"] == ["w" * shown.LETTERS] * shown.WORDS
    assert found["words_total"] == 1_200


def test_halves_of_surrogates_can_be_written(tmp_path):
    found = shown.example({"row": 0, "label": ["a\ud83d"], "prediction": "\udc80"}, {"text": "\ud83d!"})
    write_json(tmp_path / "x.json", found)
    assert read_json(tmp_path / "x.json") == {"label": [r"a\ud83d"], "prediction": r"\udc80", "text": r"\ud83d!"}


def test_a_picture_becomes_a_small_jpeg():
    [image] = shown.example({"row": 0}, {"image": np.zeros((300, 200, 3), np.uint8)}).values()
    assert image.startswith("data:image/jpeg;base64,")
    assert len(image) < 3_000
