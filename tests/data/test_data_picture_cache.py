"""Decoded pictures on disk: the same batches bit for bit, nothing stale, and nothing that a kill, a full disk or a damaged block can spoil."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from ftjax import files
from ftjax.config import DataConfig
from ftjax.data import ImageFormat, batch_at, collect, examine, picture_cache, reading
from ftjax.data import decode as decode_module
from ftjax.data.sources import read_source
from ftjax.errors import DataError

SMALL = ImageFormat((8, 8))


@pytest.fixture
def photos(tree, helpers):
    picture, encode = helpers
    files = {f"{name}/{row}.png": encode(picture(100 * label + row, (40, 33))) for label, name in enumerate(("cat", "dog")) for row in range(10)}
    return tree(files | {"cat/broken.jpg": b"\xff\xd8\xff\xe0", "dog/deep.png": encode(Image.fromarray(np.arange(1600, dtype=np.uint16).reshape(40, 40) * 40))})


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(picture_cache, "BLOCK", 4)


@pytest.fixture
def decoded(monkeypatch):
    """How often something is decoded."""
    calls: list[int] = []
    plain = examine.decode
    monkeypatch.setattr(examine, "decode", lambda data, most: (calls.append(1), plain(data, most))[1])
    return calls


def config(photos: Path, cache: Path | None, **options) -> DataConfig:
    return DataConfig(source="image_folder", path=str(photos), workers=2, bad_files="skip", cache=None if cache is None else str(cache), **options)


def entry(cache: Path) -> Path:
    (found,) = (cache / "pictures").iterdir()
    return found


def same(first, second) -> None:
    """Every row, every report but what it says of the cache."""
    for name, split in first.splits.items():
        other = second.splits[name]
        assert split.ids == other.ids
        assert np.array_equal(split.fields(np.arange(len(split)))["image"], other.fields(np.arange(len(split)))["image"])
        for step in range(3):
            mine, theirs = batch_at(split, step, 4, 7), batch_at(other, step, 4, 7)
            assert all(np.array_equal(mine[key], theirs[key]) and type(theirs[key]) is np.ndarray for key in mine)
    told = [{key: value for key, value in dataset.report.items() if key != "cache"} for dataset in (first, second)]
    assert told[0] == told[1]


@pytest.mark.parametrize("memory", [0, 4096])
def test_batches_from_the_cache_are_those_without_it_and_nothing_is_decoded_twice(photos, tmp_path, decoded, memory):
    without = collect(config(photos, None, cache_megabytes=memory), SMALL, 0)
    assert "cache" not in without.report
    cold = collect(config(photos, tmp_path / "cache", cache_megabytes=memory), SMALL, 0)
    if memory:
        same(without, cold)
    assert (cold.report["cache"]["rows"], cold.report["cache"]["decoded"], cold.report["cache"]["warnings"]) == (22, 22, [])
    decoded.clear()
    warm = collect(config(photos, tmp_path / "cache", cache_megabytes=memory), SMALL, 0)
    same(cold, warm)
    assert warm.report["cache"]["decoded"] == 0
    assert not decoded


def test_whatever_changes_a_pixel_makes_another_entry(photos, tmp_path, decoded, monkeypatch, helpers):
    picture, encode = helpers
    cache = tmp_path / "cache"

    def run(image: ImageFormat = SMALL, **options) -> int:
        return collect(config(photos, cache, **options), image, 0).report["cache"]["decoded"]

    assert run() == 22
    assert run(labels_per_class=3) == 0  # what is drawn from the rows does not matter
    for other in (ImageFormat((8, 9)), ImageFormat((8, 8), "bilinear"), ImageFormat((8, 8), crop_fraction=0.9)):
        assert run(other) == 22
    assert run(max_pixels=10_000) == 22
    assert run(near_duplicates="off") == 22
    (photos / "cat" / "1.png").write_bytes(encode(picture(999, (40, 33))))
    assert run() == 22
    monkeypatch.setattr(decode_module, "version", lambda name: "0.0" if name == "pillow" else version(name))
    assert run() == 22
    assert run() == 0


@pytest.mark.parametrize("damage", ["pixels", "cut", "line", "gone"])
def test_a_damaged_entry_is_told_and_mended(photos, tmp_path, damage):
    cold = collect(config(photos, tmp_path / "cache"), SMALL, 0)
    folder = entry(tmp_path / "cache")
    pixels, rows = folder / "pixels.bin", folder / "rows.jsonl"
    if damage == "pixels":
        raw = bytearray(pixels.read_bytes())
        raw[5 * 8 * 8 * 3] ^= 1
        pixels.write_bytes(raw)
        decoded, told = 4, "pixels.bin is damaged in rows 4 to 7; decoded again"
    elif damage == "cut":
        pixels.write_bytes(pixels.read_bytes()[:-1])
        decoded, told = 22, f"pixels.bin has {pixels.stat().st_size:,} bytes, not {pixels.stat().st_size + 1:,}; decoded again"
    elif damage == "line":
        lines = rows.read_bytes().splitlines(keepends=True)
        first = json.loads(lines[0].partition(b" ")[2])["block"]
        rows.write_bytes(lines[0].replace(b"block", b"blokc") + b"".join(lines[1:]))
        decoded, told = min(4, 22 - 4 * first), "rows.jsonl line 1 is damaged; decoded again"
    else:
        rows.unlink()
        decoded, told = 22, None
    mended = collect(config(photos, tmp_path / "cache"), SMALL, 0)
    assert mended.report["cache"]["decoded"] == decoded
    assert [warning.endswith(told) for warning in mended.report["cache"]["warnings"]] == ([True] if told else [])
    assert set(mended.report["cache"]["warnings"]) <= set(mended.report["warnings"])
    same(_without_cache_warnings(cold), _without_cache_warnings(mended))
    assert collect(config(photos, tmp_path / "cache"), SMALL, 0).report["cache"] == {**cold.report["cache"], "decoded": 0}


def _without_cache_warnings(dataset):
    dataset.report["warnings"] = [warning for warning in dataset.report["warnings"] if not warning.startswith("data.cache")]
    return dataset


def test_a_full_disk_is_a_warning_with_the_bytes_needed(photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    dataset = collect(config(photos, tmp_path / "cache"), SMALL, 0)
    monkeypatch.undo()
    same(collect(config(photos, None), SMALL, 0), _without_cache_warnings(dataset))
    (warning,) = dataset.report["cache"]["warnings"]
    assert warning.endswith("cannot take the 26,774 bytes that are needed (No space left on device); the run goes on without the cache")
    assert not (entry(tmp_path / "cache") / "pixels.bin").exists()


def test_a_disk_that_fills_up_on_the_way_spoils_nothing(photos, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_cache, "_line", full)
    dataset = collect(config(photos, tmp_path / "cache"), SMALL, 0)
    monkeypatch.undo()
    (warning,) = dataset.report["cache"]["warnings"]
    assert "takes no more (No space left on device)" in warning
    same(collect(config(photos, None), SMALL, 0), _without_cache_warnings(dataset))


@pytest.fixture
def read_only(monkeypatch):
    """Whatever would write below a folder fails there, as on a file system that is mounted read-only."""

    def mount(folder: Path) -> None:
        def guard(owner, name, writes):
            plain = getattr(owner, name)

            def guarded(path, *given, **options):
                if str(path).startswith(str(folder)) and writes(path, *given, **options):
                    raise OSError(errno.EROFS, os.strerror(errno.EROFS))
                return plain(path, *given, **options)

            monkeypatch.setattr(owner, name, guarded)

        guard(Path, "mkdir", lambda path, *_, **__: not path.exists())
        guard(Path, "open", lambda path, mode="r", *_, **__: mode not in ("r", "rb"))
        guard(Path, "unlink", lambda *_, **__: True)
        guard(files, "write_json", lambda *_: True)
        guard(files, "write_text", lambda *_: True)
        guard(np, "memmap", lambda path, dtype, mode: mode != "r")

    return mount


def test_a_complete_entry_serves_runs_that_cannot_write_it_and_others_say_why(photos, tmp_path, decoded, read_only):
    cache = tmp_path / "cache"
    cold = collect(config(photos, cache), SMALL, 0)
    assert cold.report["cache"]["decoded"] == 22
    read_only(cache)
    decoded.clear()
    warm = collect(config(photos, cache), SMALL, 0)
    same(cold, warm)
    assert warm.report["cache"] == {**cold.report["cache"], "decoded": 0}
    assert not decoded
    lines = (entry(cache) / "rows.jsonl").read_bytes().splitlines(keepends=True)
    with open(entry(cache) / "rows.jsonl", "wb") as journal:  # not through Path: the guard does not see it
        journal.writelines(lines[1:])
    for image in (SMALL, ImageFormat((9, 9))):
        (warning,) = collect(config(photos, cache), image, 0).report["cache"]["warnings"]
        assert warning.endswith("holds no complete entry and cannot be written (Read-only file system); the run goes on without the cache")


def refusing(rows, names: dict[str, Exception], times: int = 1 << 30):
    """The rows, of which some cannot be read the first `times` times."""
    left = dict.fromkeys(names, times)

    def read(row: int):
        name = rows.ids[row]
        if left.get(name, 0):
            left[name] -= 1
            raise names[name]
        return rows.read(row)

    return dataclasses.replace(rows, read=read)


def test_a_row_that_cannot_be_read_is_never_taken_from_the_cache(photos, tmp_path):
    options = {"max_pixels": 10_000, "cache_megabytes": 1, "workers": 2}

    def run(rows):
        return picture_cache.inspect_cached(rows, SMALL, tmp_path / "cache", **options)

    plain = read_source(config(photos, None))
    name = next(one for one in plain.ids if one.startswith("dog/1"))
    row = plain.ids.index(name)
    others = {plain.ids.index("cat/broken.jpg")}
    first, told = run(refusing(plain, {name: OSError(f"{name}: permission denied")}))
    assert (set(first.rejected), first.rejected[row], told["decoded"]) == ({row} | others, f"{name}: permission denied", 21)
    renamed = dataclasses.replace(plain, ids=tuple(f"new/{one}" for one in plain.ids))
    second, told = run(refusing(renamed, {f"new/{name}": OSError(f"new/{name}: gone")}))
    assert (set(second.rejected), second.rejected[row], told["decoded"]) == ({row} | others, f"new/{name}: gone", 0)
    assert [second.rejected[other] for other in others] == [first.rejected[other] for other in others]
    once, told = run(refusing(plain, {name: OSError(f"{name}: for a moment")}, times=1))
    assert (once.rejected[row], once.hashes[row], told["decoded"]) == (f"{name}: for a moment", None, 0)
    assert not once.pixels[row].any(), "a row without content in the key has no pixels in the entry"
    whole, told = run(plain)
    assert (set(whole.rejected), told["decoded"]) == (others, 22)


@pytest.mark.parametrize("cached", [True, False])
def test_a_moment_without_memory_ends_the_pass_and_rejects_nothing(photos, tmp_path, monkeypatch, cached):
    plain, failing = Image.Image.load, [True]

    def load(image):
        if failing:
            failing.pop()
            raise MemoryError
        return plain(image)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    cache = tmp_path / "cache" if cached else None
    with pytest.raises(DataError, match=r"(cat|dog)/\w+\.png: there is not enough memory to read it; free some, or lower data\.workers"):
        collect(config(photos, cache), SMALL, 0)
    monkeypatch.undo()
    monkeypatch.setattr(picture_cache, "BLOCK", 4)
    assert [entry["file"] for entry in collect(config(photos, cache), SMALL, 0).report["rejected"]] == ["cat/broken.jpg"]


def test_both_passes_tell_how_far_they_are(photos, tmp_path):
    told = []
    for _ in range(2):
        collect(config(photos, tmp_path / "cache"), SMALL, 0, progress=lambda done, total: told.append((done, total)))
    once = [(done, 22) for done in range(1, 23)]
    assert told == once * 3, "read and decoded, then only read"


@pytest.mark.parametrize("cached", [True, False])
def test_a_pipe_among_the_photos_is_named_within_the_patience(photos, tmp_path, cached):
    """A pipe that nobody writes into blocks inside the operating system, as a file on a dead mount does."""
    os.mkfifo(photos / "dog" / "pipe.png")
    rows = read_source(config(photos, None))
    options = {"max_pixels": 10_000, "cache_megabytes": 1, "workers": 2, "patience": 0.3}
    with pytest.raises(DataError, match=r"no image could be read for 0\.3 s; waiting for dog/pipe\.png\. Is the disk or network mount alive\?"):
        picture_cache.inspect_cached(rows, SMALL, tmp_path / "cache", **options) if cached else reading.inspect(rows, SMALL, **options)


_PROGRAM = """
    import sys, os, signal
    from ftjax.config import DataConfig
    from ftjax.data import ImageFormat, collect, picture_cache
    picture_cache.BLOCK = 4
    kill = int(sys.argv[3])
    told = []
    def progress(done, total):
        told.append(done)
        if done == kill and told.count(kill) == 2:  # the first pass only reads
            os.kill(os.getpid(), signal.SIGKILL)
    config = DataConfig(source="image_folder", path=sys.argv[1], workers=2, bad_files="skip", cache=sys.argv[2])
    found = collect(config, ImageFormat((8, 8)), 0, progress=progress)
    print(found.report["cache"]["decoded"])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was_and_two_at_once_share_the_work(photos, tmp_path):
    def start(kill: int = -1) -> subprocess.Popen:
        arguments = [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(photos), str(tmp_path / "cache"), str(kill)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    first = start(kill=14)
    first.communicate(timeout=120)
    assert first.returncode == -signal.SIGKILL
    both = [start(), start()]
    outputs = sorted(int(process.communicate(timeout=120)[0]) for process in both)
    assert outputs[0] == 0
    assert 8 <= outputs[1] <= 14
    dataset = collect(config(photos, tmp_path / "cache"), SMALL, 0)
    assert dataset.report["cache"]["decoded"] == 0
    same(collect(config(photos, None), SMALL, 0), dataset)
