"""`ftjax data report`: the inspection of a data set without a model, on the terminal, as a page, and as files that a run takes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

from ftjax import main
from ftjax.config import DataConfig
from ftjax.data.collect import collect
from ftjax.data.guess import guess_source
from ftjax.data.image_format import ImageFormat
from ftjax.errors import DataError
from ftjax.reporting.data_page import marked


def photo(seed):
    small = np.random.default_rng(seed).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "pets <b>"
    for seed, (split, name, number) in enumerate((split, name, number) for split in ("train", "test") for name in ("cat", "dog") for number in range(4)):
        (root / split / name).mkdir(parents=True, exist_ok=True)
        photo(seed).save(root / split / name / f"{number}.png")
    (root / "train/dog/copy.png").write_bytes((root / "test/dog/1.png").read_bytes())
    photo(100).save(root / "test/cat/large.png")
    photo(100).resize((48, 36)).save(root / "train/dog/small.jpg", quality=70)
    (root / "train/cat/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (root / "train/cat/notes.txt").write_text("what")
    return root


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "questions"
    folder.mkdir()
    (folder / "train.csv").write_text(
        "text,label\nPlease tell me how I can top up my card with Apple Pay?,top_up\nWhere is my new card?,arrival\nwhere is my new card,late\n"
        "What is the exchange rate today?,rate\n<script>alert(1)</script> is what I see,bug\nWhat is the exchange rate today?,rate\n"
    )
    (folder / "test.csv").write_text(
        "text,label\nPlease tell me how I can top up my new card with Apple Pay?,top_up\nCan I have a refund for this?,refund\n,refund\n"
    )
    return folder


def report(path, output, *flags):
    return main.main(["data", "report", str(path), *flags, "--output", str(output)])


def test_photos_are_inspected_and_what_is_found_can_be_dropped(photos, tmp_path, capsys):
    page = tmp_path / "out" / "page.html"
    assert report(photos, page) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "source: image_folder (guessed: it holds photos, such as test/cat/0.png)" in said
    assert "warning: 1 image is in more than one split; nothing was changed, so the test is too easy" in said
    assert "warning: 1 image of test is almost the same as one of train" in said
    assert "warning: 1 group of images is almost the same and has different labels; look at the near duplicates" in said
    assert "warning: 1 unreadable image cannot be used" in said
    assert re.search(r"cannot be used row why ─+ train/cat/broken.png damaged header: ", said)
    assert re.search(r"ignored row why ─+ train/cat/notes.txt ", said)
    found = json.loads((page.parent / "findings.json").read_text())
    assert found["splits"]["train"] == {"rows": 10, "per_class": {"cat": 4, "dog": 6}}
    assert found["sizes"]["most_frequent"] == {"size": [48, 64], "rows": 18}
    assert [entry["file"] for entry in found["rejected"]] == ["train/cat/broken.png"]
    assert [group["ids"] for group in found["near_duplicates"]["groups"]] == [["train/dog/small.jpg", "test/cat/large.png"]]
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") >= 16
    assert "pets <b>" not in html
    assert "pets &lt;b&gt;" in html
    assert "train/dog/small.jpg" in html
    drop = page.parent / "drop.txt"
    assert [line for line in drop.read_text().splitlines() if not line.startswith("#")] == [
        "train/dog/copy.png  # an exact copy of test/dog/1.png (test)",
        "train/dog/small.jpg  # almost the same as a row of a higher split",
    ]
    config = DataConfig(source="image_folder", path=str(photos), drop=str(drop), bad_files="skip", validation_fraction=0.3)
    cleaned = collect(config, ImageFormat((8, 8)), 0).report
    assert cleaned["drop"]["rows"] == 2
    assert cleaned["near_duplicates"]["leaking"]["test"] == 0
    assert cleaned["duplicates"]["across"] == []


def test_a_copy_with_another_label_is_told_from_one_in_a_higher_split(tmp_path):
    root = tmp_path / "pets"
    for seed, (split, name) in enumerate((split, name) for split in ("train", "test") for name in ("cat", "dog")):
        (root / split / name).mkdir(parents=True)
        photo(seed).save(root / split / name / "own.png")
    for place in ("train/cat/a.png", "train/cat/c.png", "train/dog/b.png"):
        photo(10).save(root / place)
    for place in ("train/cat/leak.png", "test/dog/leak.png"):
        photo(11).save(root / place)
    assert report(root, tmp_path / "page.html", "--config.data.near_duplicates=off") == 0
    assert (tmp_path / "drop.txt").read_text().splitlines()[2:] == [
        "train/cat/a.png  # an exact copy of train/dog/b.png (train), labelled 'dog' there and 'cat' here",
        "train/cat/c.png  # an exact copy of train/dog/b.png (train), labelled 'dog' there and 'cat' here",
        "train/cat/leak.png  # an exact copy of test/dog/leak.png (test), labelled 'dog' there and 'cat' here",
        "train/dog/b.png  # an exact copy of train/cat/a.png (train), labelled 'cat' there and 'dog' here",
    ]


def test_the_same_data_give_the_same_files(photos, tmp_path):
    for name in "ab":
        assert report(photos, tmp_path / name / "page.html") == 0
    for file in ("findings.json", "drop.txt"):
        first, second = (re.sub(r'"seconds": [\d.]+', "", (tmp_path / name / file).read_text()) for name in "ab")
        assert first == second


def test_texts_are_inspected_without_a_tokenizer(texts, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert report(texts, page) == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "source: table (guessed: train.csv: a file of rows)" in said
    assert "text (guessed: from its name)" in said
    found = json.loads((tmp_path / "findings.json").read_text())
    assert found["encoding"] == "utf-8"
    assert found["lengths"]["text"]["words"]["longest"] == 14
    assert found["rejected"] == [{"file": "test.csv:4", "why": "its text is empty"}]
    assert [(group["ids"], group["across"], group["conflicting"]) for group in found["near_duplicates"]["groups"]] == [
        (["train.csv:2", "test.csv:2"], True, False),
        (["train.csv:3", "train.csv:4"], False, True),
    ]
    html = page.read_text()
    assert "<script>alert" not in html
    assert html.count('<mark class="confused">new</mark>') == 1
    assert (tmp_path / "drop.txt").read_text().splitlines()[2:] == [
        "train.csv:2  # almost the same as a row of a higher split",
        "# train.csv:7  # an exact copy of train.csv:5 within train",
    ]


def test_settings_are_read_and_foreign_ones_refused(texts, tmp_path, capsys):
    assert report(texts, tmp_path / "page.html", "--config.data.near_text_similarity=1.0") == 0
    assert len(json.loads((tmp_path / "findings.json").read_text())["near_duplicates"]["groups"]) == 1
    assert report(texts, tmp_path / "page.html", "--config.data.near_duplicates=off") == 0
    assert json.loads((tmp_path / "findings.json").read_text())["near_duplicates"] == {"policy": "off"}
    capsys.readouterr()
    assert report(texts, tmp_path / "page.html", "--config.train.batch_size=3") == 2
    assert (
        capsys.readouterr().err == "ftjax: --config.train.batch_size means nothing to `data report`; it reads data.*, text.*, recommendation.* and task.name\n"
    )
    assert report(texts, tmp_path / "page.html", "--config.data.cache=somewhere") == 2
    said = "--config.data.cache means nothing to `data report`: it keeps nothing of what it decodes or computes; leave it out"
    assert capsys.readouterr().err == f"ftjax: {said}\n"
    assert report(texts, tmp_path / "page.html", "--config.data.worker_kind=processes") == 2
    assert "data.worker_kind='processes' is set and nothing reads it: data.source is 'table'" in capsys.readouterr().err
    assert report(texts, tmp_path / "page.txt") == 2
    assert "name a .html file" in capsys.readouterr().err


def test_unknown_verbs_and_flags_get_a_hint(texts, capsys):
    assert main.main(["data", "repot", str(texts)]) == 2
    assert "unknown verb `data repot`; did you mean 'report'?" in capsys.readouterr().err
    assert main.main(["data", "report", str(texts), "--outpt", "x.html"]) == 2
    assert "unknown flag --outpt; did you mean '--output'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "source"),
    [
        ("a.npz", b"PK", "npz"),
        ("a.zip", b"PK", "image_folder"),
        ("a.csv", b"text,label\na,b\n", "table"),
        ("a.txt", b"a\tO\nb\tB-LOC\n\nc\tO\n", "conll"),
        ("b.txt", b"spam hello you\nham hello there\n", "table"),
        ("a.json", b'{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}', "squad"),
    ],
)
def test_sources_are_guessed_from_what_lies_there(tmp_path, name, content, source):
    (tmp_path / name).write_bytes(content)
    assert guess_source(str(tmp_path / name))[0] == source


def test_what_is_no_data_set_is_an_error(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"is no data set that can be recognised; it holds a.bin\. Say what it is: --config\.data\.source="):
        guess_source(str(tmp_path))
    (tmp_path / "part.0.jsonl.gz").write_bytes(b"")
    with pytest.raises(DataError) as error:
        guess_source(str(tmp_path))
    assert f"If its files are one table, name them: '{tmp_path}/*.jsonl.gz'. Else say what it is" in str(error.value)
    with pytest.raises(DataError, match="PATH="):
        guess_source(str(tmp_path / "none"))


def test_a_table_without_rows_is_an_error(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    assert main.main(["data", "report", str(tmp_path / "a.csv"), "--output", str(tmp_path / "r.html")]) == 2
    assert not (tmp_path / "r.html").exists()


def test_words_that_differ_are_marked():
    assert marked("what is the rate", "what was the rate now") == [("what", False), ("is", True), ("the rate", False)]
    assert marked("", "a") == []
    assert marked("a b", "") == [("a b", True)]
