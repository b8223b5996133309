"""Every reader on damaged files: bytes cut, changed, repeated or put in. What cannot be read is a message of ours, never a crash, a hang or a bomb."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_text import write_tokenizer

from ftjax.config import DataConfig, TextConfig
from ftjax.data.decode import decode
from ftjax.data.drop import read_drop
from ftjax.data.sources import read_source
from ftjax.data.text.sources import read_tables
from ftjax.data.text.tokenizer import open_tokenizer
from ftjax.errors import DataError, FtjaxError

MOST_MEMORY = 256 * 2**20
"""Bytes that Python may hold at once for a file of some kilobytes."""

ROWS = [{"text": f"text {row}, with é", "label": "ab"[row % 2]} for row in range(6)]


def picture(form: str, seed: int = 0) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 10, 3)).astype(np.uint8)).save(file, form)
    return file.getvalue()


def members() -> dict[str, bytes]:
    return {f"{name}/{row}.png": picture("PNG", row) for name in ("cat", "dog") for row in range(2)}


def archive(files: dict[str, bytes], mode: str) -> bytes:
    data = io.BytesIO()
    if mode == "zip":
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(fileobj=data, mode=mode) as packed:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                packed.addfile(info, io.BytesIO(content))
    return data.getvalue()


def written(write: Callable[[io.BytesIO], object]) -> bytes:
    data = io.BytesIO()
    write(data)
    return data.getvalue()


def arrow_stream() -> bytes:
    """As `save_to_disk` writes a split."""
    rows = [{"image": {"bytes": picture("PNG", row), "path": ""}, "label": row % 2} for row in range(4)]
    table = pyarrow.Table.from_pylist(
        rows, pyarrow.schema([("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])), ("label", "int64")])
    )
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


INFO = json.dumps({"features": {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}).encode()
STATE = json.dumps({"_data_files": [{"filename": "data.arrow"}]}).encode()
LINES = "\n".join(map(json.dumps, ROWS)).encode()
COLUMNS = pyarrow.Table.from_pylist(ROWS)
QUESTION = {"id": "1", "question": "Who?", "answers": [{"text": "Bo", "answer_start": 0}]}


def source(name: str) -> Callable[[Path], None]:
    """Read all rows of a source, and the pictures in them, as the pass before training does."""

    def read(path: Path) -> None:
        rows = read_source(DataConfig(source=name, path=str(path), cache_megabytes=8))
        for row in range(len(rows)):
            with contextlib.suppress(FtjaxError, OSError):
                decode(rows.read(row), 10_000)

    return read


def texts(name: str) -> Callable[[Path], None]:
    return lambda path: [list(row) for table in read_tables(DataConfig(source=name, path=str(path)), TextConfig()).values() for row in table.rows] and None


def in_folder(read: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda path: read(path.parent)


CASES: dict[str, tuple[str, Callable[[], bytes], Callable[[Path], object]]] = {
    **{form: (f"a.{form}", lambda form=form: picture(form), lambda path: decode(path.read_bytes(), 10_000)) for form in ("jpeg", "png", "webp")},
    "npz": ("a.npz", lambda: written(lambda file: np.savez_compressed(file, images=np.zeros((4, 6, 6), np.uint8), labels=np.arange(4) % 2)), source("npz")),
    "zip": ("a.zip", lambda: archive(members(), "zip"), source("image_folder")),
    "tar": ("a.tar", lambda: archive(members(), "w:"), source("image_folder")),
    "tar.gz": ("a.tar.gz", lambda: gzip.compress(archive(members(), "w:"), mtime=0), source("image_folder")),
    "webdataset": (
        "a.tar",
        lambda: archive({f"{row}.{end}": content for row in range(3) for end, content in (("png", picture("PNG", row)), ("json", b'{"label": 1}'))}, "w:"),
        source("webdataset"),
    ),
    "hf arrow": ("data.arrow", arrow_stream, in_folder(source("hf_disk"))),
    "hf info": ("dataset_info.json", lambda: INFO, in_folder(source("hf_disk"))),
    "hf state": ("state.json", lambda: STATE, in_folder(source("hf_disk"))),
    "csv": ("a.csv", lambda: ('text,label\n"a, ""b""",x\nc,y\n' * 3).encode(), texts("table")),
    "tsv": ("a.tsv", lambda: b"text\tlabel\nfirst\tx\nsecond\ty\n", texts("table")),
    "csv.gz": ("a.csv.gz", lambda: gzip.compress(b"text,label\nfirst,x\nsecond,y\n", mtime=0), texts("table")),
    "csv.zst": ("a.csv.zst", lambda: pyarrow.compress(b"text,label\nfirst,x\nsecond,y\n" * 9, "zstd", asbytes=True), texts("table")),
    "jsonl": ("a.jsonl", lambda: LINES, texts("table")),
    "json": ("a.json", lambda: json.dumps(ROWS).encode(), texts("table")),
    "parquet": ("a.parquet", lambda: written(lambda file: pyarrow.parquet.write_table(COLUMNS, file)), texts("table")),
    "arrow": ("a.arrow", lambda: written(lambda file: pyarrow.feather.write_feather(COLUMNS, file)), texts("table")),
    "conll": ("a.conll", lambda: b"Bo\tB-PER\nran\tO\n\nhome\tO\n", texts("conll")),
    "squad": ("a.json", lambda: json.dumps({"data": [{"paragraphs": [{"context": "Bo ran.", "qas": [QUESTION]}]}]}).encode(), texts("squad")),
    "drop": ("drop.txt", lambda: b"# rows\ncat/0.png\ncat/1.png # why\n", lambda path: read_drop(str(path), tuple(members()), "photos")),
    "tokenizer": ("tokenizer.json", lambda: b"", lambda path: open_tokenizer(path.parent, "the model").encode(["ba ra"], max_length=8)),
}


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The bytes after one to three accidents."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.sampled_from(("cut", "flip", "zeros", "ones", "repeat", "put in", "digits", "remove")))
        size = draw(st.integers(1, 40))
        if what == "cut":
            del data[at:]
        elif what == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif what in ("zeros", "ones"):
            data[at : at + size] = (b"\0" if what == "zeros" else b"\xff") * len(data[at : at + size])
        elif what == "repeat":
            data[at:at] = data[max(0, at - size) : at]
        elif what == "put in":
            data[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif what == "digits":
            data[at:at] = b"9" * draw(st.sampled_from((1, 20, 5000)))
        else:
            del data[at : at + size]
    return bytes(data)


def attempt(name: str, folder: Path, content: bytes) -> None:
    """Read the bytes as the case does; anything but rows or an error of ours goes on up and fails."""
    file, _, read = CASES[name]
    (folder / file).write_bytes(content)
    with contextlib.suppress(FtjaxError):
        read(folder / file)


def valid(name: str, folder: Path) -> bytes:
    """The whole file, with what it needs beside it."""
    if name.startswith("hf"):
        for other in ("hf arrow", "hf info", "hf state"):
            (folder / CASES[other][0]).write_bytes(CASES[other][1]())
    if name == "tokenizer":
        return (write_tokenizer(folder) / "tokenizer.json").read_bytes()
    return CASES[name][1]()


def fuzz(name: str, folder: Path, examples: int) -> None:
    content = valid(name, folder)
    (folder / CASES[name][0]).write_bytes(content)
    CASES[name][2](folder / CASES[name][0])  # whole, it is read

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(content))
    def anything(bad: bytes) -> None:
        attempt(name, folder, bad)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own words on what they half understand
        tracemalloc.start()
        try:
            anything()
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
        finally:
            tracemalloc.stop()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_a_damaged_file_gives_rows_or_a_message(name, tmp_path):
    fuzz(name, tmp_path, 12)


@pytest.mark.slow
@pytest.mark.timeout(280)
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files_give_rows_or_a_message(name, tmp_path):
    fuzz(name, tmp_path, 100)


def lying(shape: str) -> bytes:
    """A NumPy archive whose arrays say that they are larger than the memory."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 16
    return archive({"images.npy": array, "labels.npy": array}, "zip")


def huge_webp() -> bytes:
    """A small picture whose header says 16383 x 16383 pixels."""
    data = bytearray(picture("WEBP"))
    size = data.index(b"\x9d\x01\x2a") + 3
    data[size : size + 4] = b"\xff\x3f\xff\x3f"
    return bytes(data)


BOMBS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "npz": ("a.npz", lambda: lying(f"({2**44},)"), "cannot be read as a NumPy archive|says that it holds"),
    "tar.gz": ("a.tar.gz", lambda: gzip.compress(bytes(64 * 2**20), 1), "unpacks to more than data.cache_megabytes=8 allows"),
    "webp": ("a.webp", huge_webp, "more pixels than Pillow reads of such a file"),
    "png": ("a.png", lambda: written(lambda file: Image.new("1", (9_000, 9_000)).save(file, "PNG")), "more than data.max_pixels=10000 allows"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_that_would_become_large_is_refused(name, tmp_path):
    file, content, why = BOMBS[name]
    (tmp_path / file).write_bytes(content())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=why):
            CASES[name][2](tmp_path / file)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()


def test_an_array_archive_that_unpacks_to_far_more_than_it_weighs_is_refused(tmp_path, monkeypatch):
    """As archives of pictures: the limit is made small here, so that no such file has to be written."""
    monkeypatch.setattr("ftjax.data.sources.npz.HARMLESS", 2**16)
    (tmp_path / "a.npz").write_bytes(written(lambda file: np.savez_compressed(file, images=np.zeros((400, 20, 20), np.uint8), labels=np.arange(400) % 2)))
    with pytest.raises(DataError, match=r"unpacks to 16[\d,]+: that is a decompression bomb, not pictures"):
        source("npz")(tmp_path / "a.npz")


FOUND: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a name that no file can have": ("hf state", lambda content: content.replace(b"data.arrow", b"9" * 5000), "is missing"),
    "a text that is no UTF-8": ("parquet", lambda content: content.replace(b"text 3", b"\xffext 3"), "is no Parquet file that can be read: 'utf-8' codec"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_was_found_stays_found(what, tmp_path):
    name, damage, why = FOUND[what]
    content = written(lambda file: pyarrow.parquet.write_table(COLUMNS, file, compression="none")) if name == "parquet" else valid(name, tmp_path)
    bad = damage(content)
    assert bad != content
    (tmp_path / CASES[name][0]).write_bytes(bad)
    with pytest.raises(DataError, match=why):
        CASES[name][2](tmp_path / CASES[name][0])
