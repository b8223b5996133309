"""Near duplicates: changed copies are found, others are not, and each policy does what it says."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from ftjax.data.dataset import SPLITS, Rows
from ftjax.data.near import Near, Pairs, describe, drop_near, gather, representatives, warnings_of_near
from ftjax.data.near_images import Signatures, find_images, similar_images
from ftjax.data.near_texts import find_texts, plain, similar_texts


def photo(seed, size=(60, 80)):
    """A smooth random picture, as photos are."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


CHANGES = {
    "jpeg": jpeg,
    "half the size": lambda pixels: np.asarray(Image.fromarray(pixels).resize((44, 33))),
    "brighter": lambda pixels: (pixels * 0.7 + 40).astype(np.uint8),
    "noise": lambda pixels: np.clip(pixels + np.random.default_rng(0).normal(0, 6, pixels.shape), 0, 255).astype(np.uint8),
}


def signed(pictures):
    signatures = Signatures.empty(len(pictures))
    for row, pixels in enumerate(pictures):
        signatures.put(row, np.ascontiguousarray(pixels))
    return signatures


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_copies_of_pictures_are_found_and_nothing_else(change):
    pictures = [photo(seed) for seed in range(40)]
    pairs = similar_images(signed([*pictures, *map(change, pictures)]).grey, np.arange(80), 0.97)
    assert list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == [(row, row + 40) for row in range(40)]
    assert (pairs.similarity >= 0.97).all()


def test_flat_pictures_are_not_like_each_other():
    noise = np.random.default_rng(0)
    flat = [np.clip(noise.normal(128, 1, (64, 64, 3)), 0, 255).astype(np.uint8) for _ in range(50)]
    assert len(similar_images(signed([*flat, np.zeros((40, 40, 3), np.uint8), np.full((40, 40, 3), 7, np.uint8)]).grey, np.arange(52), 0.9)) == 0


def test_lookup_by_bands_finds_all_that_comparing_all_finds_up_to_seven_bits(monkeypatch):
    chance = np.random.default_rng(1)
    base = chance.integers(0, 2**64, 30, np.uint64)
    monkeypatch.setattr("ftjax.data.near_images.perceptual_hashes", lambda grey: hashes)
    hashes = np.array([value ^ sum(np.uint64(1) << np.uint64(bit) for bit in chance.choice(64, flips, replace=False)) for value in base for flips in (0, 3, 7)])
    found = similar_images(np.tile(photo(0, (32, 32))[..., 0], (90, 1, 1)), np.arange(90), 0.9)
    close = {(a, b) for a, b in itertools.combinations(range(90), 2) if int(hashes[a] ^ hashes[b]).bit_count() <= 7}
    assert close <= set(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert len(close) >= 60


def test_texts_with_a_word_or_mark_changed_are_found():
    texts = [
        "How do I top up my card with Apple Pay?",
        "what is the capital of france",
        "how do i top up my card with Apple  pay",
        "How do I top up a card with Apple Pay?",
        "What is the capital of Mongolia?",
        "",
        "???",
    ]
    pairs, missed = similar_texts([texts], np.arange(len(texts)), 0.7)
    found = dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), pairs.similarity, strict=True))
    assert set(found) == {(0, 2), (0, 3), (2, 3), (5, 6)}
    assert found[0, 2] == 1.0
    runs = [{f" {plain(text)} "[at : at + 5] for at in range(len(plain(text)) - 2)} for text in (texts[0], texts[3])]
    assert found[0, 3] == pytest.approx(len(runs[0] & runs[1]) / len(runs[0] | runs[1]))
    assert missed == 0


def test_minhash_finds_what_comparing_all_texts_finds():
    chance = np.random.default_rng(0)
    words = ["".join(map(chr, chance.integers(97, 123, 6))) for _ in range(300)]
    texts = []
    for _ in range(150):
        text = list(chance.choice(words, 15))
        texts += [" ".join(text), " ".join([*text[:-1], "other"])]
    pairs, _ = similar_texts([texts], np.arange(300), 0.75)
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == {(2 * row, 2 * row + 1) for row in range(150)}


def test_rows_with_two_texts_must_be_alike_in_both():
    first = ["The first sentence of a pair, which is long."] * 4
    second = ["One thing is said.", "One thing is said!", "Something else altogether.", "One thing is said, too."]
    pairs, _ = similar_texts([first, second], np.arange(4), 0.6)
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == {(0, 1), (0, 3), (1, 3)}


def test_copies_of_one_template_beyond_the_window_are_counted(monkeypatch):
    monkeypatch.setattr("ftjax.data.near_texts.WINDOW", 2)
    pairs, missed = similar_texts([[f"the very same text{mark}" for mark in ".!?;:"]], np.arange(5), 0.8)
    assert (len(pairs), missed) == (7, 3)


LAYOUT = [  # id, split, label, content
    ("a", "train", 0, b"0"),
    ("b", "train", 0, b"0"),
    ("c", "test", 0, b"2"),
    ("d", "validation", 1, b"3"),
    ("e", "train", 1, b"4"),
    ("f", "train", 1, b"5"),
    ("g", "train", 0, b"6"),
]
ROWS = Rows(
    "here", tuple(row[0] for row in LAYOUT), np.array([row[2] for row in LAYOUT], np.int32), tuple(row[1] for row in LAYOUT), ("x", "y"), lambda row: b""
)
HASHES = [row[3] for row in LAYOUT]
MEMBERS = {split: np.flatnonzero([row[1] == split for row in LAYOUT]) for split in SPLITS}
LABELS = [ROWS.classes[label] for label in ROWS.labels]


def near() -> Near:
    """A (and its copy b) is like the test's c, c like the validation's d, d like e; f and g are like each other."""
    pairs = Pairs(np.array([0, 2, 3, 5]), np.array([2, 3, 4, 6]), np.array([0.9, 0.95, 0.97, 0.99]))
    return gather(pairs, 0.9, HASHES, representatives(HASHES))


def test_report_names_groups_and_leaks_and_changes_nothing():
    members, together, out = drop_near(near(), MEMBERS, HASHES, "report")
    assert members is MEMBERS
    assert together is HASHES
    assert out == []
    report = describe(near(), ROWS, members, LABELS, "report", out)
    assert report["groups"] == [
        {
            "ids": ["a", "b", "e", "d", "c"],
            "splits": ["train", "train", "train", "validation", "test"],
            "labels": ["x", "x", "y", "y", "x"],
            "similarity": [0.9, 0.97],
            "across": True,
            "conflicting": True,
        },
        {"ids": ["f", "g"], "splits": ["train", "train"], "labels": ["y", "x"], "similarity": [0.99, 0.99], "across": False, "conflicting": True},
    ]
    assert (report["pairs"], report["across"], report["conflicting"], report["leaking"]) == (4, 1, 2, {"validation": 1, "test": 1})
    assert warnings_of_near(report) == [
        "1 image of validation is almost the same as one of train, so validation is easier than the world; look at near_duplicates in data.json, "
        "and leave the training rows out with data.near_duplicates='drop'",
        "1 image of test is almost the same as one of train, so test is easier than the world; look at near_duplicates in data.json, "
        "and leave the training rows out with data.near_duplicates='drop'",
        "2 groups of images are almost the same and have different labels; look at near_duplicates in data.json",
    ]


def test_drop_keeps_test_over_validation_over_train():
    members, together, out = drop_near(near(), MEMBERS, HASHES, "drop")
    assert {split: [ROWS.ids[row] for row in members[split]] for split in SPLITS} == {"train": ["e", "f", "g"], "validation": [], "test": ["c"]}
    report = describe(near(), ROWS, members, LABELS, "drop", out)
    assert report["dropped"] == ["a", "b", "d"]
    assert report["leaking"] == {"validation": 0, "test": 0}
    assert warnings_of_near(report)[0] == "3 images were dropped because they are almost the same as one of a higher split"
    assert len({together[row] for row in range(5)}) == 1
    assert together[5] == together[6] != together[0]


def test_off_looks_for_nothing():
    assert drop_near(None, MEMBERS, HASHES, "off") == (MEMBERS, HASHES, [])
    assert warnings_of_near(describe(None, ROWS, MEMBERS, LABELS, "off", [])) == []


def test_unreadable_rows_take_no_part_and_no_rows_are_no_trouble():
    pictures = [photo(0), photo(1), jpeg(photo(0)), photo(0, (31, 40)), photo(0, (31, 41))]
    found = find_images(signed(pictures), [b"0", None, b"2", b"3", b"4"], 0.9)
    assert (found.pairs.left.tolist(), found.pairs.right.tolist(), found.keys[1], found.too_small) == ([0], [2], None, 2)
    assert len(find_images(Signatures.empty(0), [], 0.97).pairs) == len(find_texts([[]], [], 0.8).pairs) == 0
