"""Archives are read in place: the same rows as from a folder, from several threads, and nothing hostile gets through or vanishes."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, collect
from ftjax.data.sources import archive, read_source
from ftjax.data.sources.archive import open_archive
from ftjax.errors import DataError

FORMS = (".zip", ".tar", ".tar.gz", ".tgz")


def packed(folder: Path, name: str) -> Path:
    """The folder as an archive beside it."""
    path = folder.parent / name
    names = sorted(entry.relative_to(folder).as_posix() for entry in folder.rglob("*"))
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for entry in names:
                file.write(folder / entry, entry, zipfile.ZIP_STORED if entry.endswith("1.png") else None)
    else:
        with tarfile.open(path, "w:gz" if name.endswith("gz") else "w") as file:
            for entry in names:
                file.add(folder / entry, f"./{entry}", recursive=False)
    return path


def tar_of(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as file:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                file.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                file.addfile(info, io.BytesIO(member[1]))
    return path


def config(path: Path, **options) -> DataConfig:
    return DataConfig(source="image_folder", path=str(path), workers=3, **options)


def refused(path: Path, **options) -> str:
    with pytest.raises(DataError) as error:
        read_source(config(path, **options))
    return str(error.value).replace(str(path), "ARCHIVE")


def photos(count: int = 8) -> dict[str, int]:
    return {f"{name}/{row}.png": 100 * label + row for label, name in enumerate(("cat", "dog")) for row in range(count)} | {"cat/notes.txt": b"x"}


def linked(kind: bytes, name: str, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("form", FORMS)
def test_an_archive_gives_what_the_folder_gives(tree, form):
    root = tree(photos())
    rows, original = read_source(config(packed(root, f"a{form}"))), read_source(config(root))
    assert (rows.ids, rows.classes, rows.splits) == (original.ids, original.classes, original.splits)
    assert (rows.labels == original.labels).all()
    assert [rows.read(row) for row in range(16)] == [original.read(row) for row in range(16)]
    assert (rows.ignored, rows.details, rows.schema) == (original.ignored, original.details, original.schema)
    of_archive, of_folder = (collect(config(path), ImageFormat((8, 8)), 0) for path in (root.parent / f"a{form}", root))
    assert of_archive.report["fingerprint"] == of_folder.report["fingerprint"]
    for name, split in of_folder.splits.items():
        assert of_archive.splits[name].ids == split.ids
        everything = np.arange(len(split))
        np.testing.assert_array_equal(of_archive.splits[name].fields(everything)["image"], split.fields(everything)["image"])


def test_a_folder_that_was_packed_itself_and_the_notes_of_macos(tree):
    root = tree({f"photos/{name}": content for name, content in photos(2).items()} | {"__MACOSX/photos/cat/._0.png": b"x"})
    rows = read_source(config(packed(root, "a.zip")))
    assert rows.ids == ("photos/cat/0.png", "photos/cat/1.png", "photos/dog/0.png", "photos/dog/1.png")
    assert rows.details == {"layout": "class/image", "folder": "photos"}
    assert [entry["file"] for entry in rows.ignored] == ["__MACOSX/", "photos/cat/notes.txt"]
    split = tree({"train/cat/1.png": 1, "train/dog/2.png": 2})
    shutil.rmtree(split / "photos")
    shutil.rmtree(split / "__MACOSX")
    assert read_source(config(packed(split, "b.tar"))).splits == ("train", "train")


@pytest.mark.parametrize("form", [".zip", ".tar"])
def test_many_threads_read_one_archive(tree, form):
    root = tree(photos(20))
    rows, original = read_source(config(packed(root, f"a{form}"))), read_source(config(root))
    wrong: list[int] = []

    def read() -> None:
        wrong.extend(row for row in np.random.default_rng(threading.get_ident()).permutation(40) if rows.read(int(row)) != original.read(int(row)))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_names_that_lead_out_links_and_devices_are_ignored_by_name(tmp_path):
    hostile = [("../cat/x.png", b"x"), ("/cat/y.png", b"x"), ("cat/../../z.png", b"x"), ("cat\\w.png", b"x"), ("C:/cat/v.png", b"x")]
    links = [
        linked(tarfile.SYMTYPE, "cat/link.png", "/etc/passwd"),
        linked(tarfile.LNKTYPE, "cat/hard.png", "cat/1.png"),
        linked(tarfile.FIFOTYPE, "cat/f.png"),
    ]
    good = [("cat/1.png", b"1"), ("dog/2.png", b"2")]
    rows = read_source(config(tar_of(tmp_path / "a.tar", *good, *hostile, *links)))
    assert rows.ids == ("cat/1.png", "dog/2.png")
    named = {
        "../cat/x.png": "its name leads out of the archive (..)",
        "/cat/y.png": "an absolute name; names in an archive must lie below it",
        "cat/../../z.png": "its name leads out of the archive (..)",
        "cat\\w.png": "its name has a backslash or NUL; allowed is / between folders",
        "C:/cat/v.png": "an absolute name; names in an archive must lie below it",
    }
    assert {entry["file"]: entry["why"] for entry in rows.ignored} == named | {"cat/link.png": "a link", "cat/hard.png": "a link", "cat/f.png": "a device"}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, content in (*good, *hostile):
            file.writestr(name, content)
        info = zipfile.ZipInfo("cat/link.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        file.writestr(info, "/etc/passwd")
    rows = read_source(config(tmp_path / "a.zip"))
    assert rows.ids == ("cat/1.png", "dog/2.png")
    assert {entry["file"]: entry["why"] for entry in rows.ignored} == named | {"cat/link.png": "a link"}
    assert refused(tar_of(tmp_path / "b.tar", hostile[0])) == (
        "ARCHIVE is empty; it needs one folder of photos per class (ignored: ../cat/x.png: its name leads out of the archive (..))"
    )


def test_one_name_twice_and_a_file_that_is_a_folder_are_refused(tmp_path):
    assert refused(tar_of(tmp_path / "a.tar", ("cat/1.png", b"1"), ("./cat/1.png", b"2"))) == (
        "ARCHIVE holds 'cat/1.png' twice; which one counts cannot be seen: pack it again"
    )
    assert refused(tar_of(tmp_path / "b.tar", ("cat", b"1"), ("cat/1.png", b"2"))) == "ARCHIVE: 'cat' is a file and a folder; pack it again"


@pytest.mark.parametrize("form", FORMS)
def test_archives_that_are_cut_short_are_refused(tree, form):
    path = packed(tree(photos()), f"a{form}")
    whole = path.read_bytes()
    kind = "zip" if form == ".zip" else "tar"
    for length in (3, 700, len(whole) // 2, len(whole) - 11_000 if form == ".tar" else len(whole) - 9):
        path.write_bytes(whole[:length])
        message = refused(path)
        assert message.startswith(
            (f"ARCHIVE cannot be read as a {kind} archive: is it cut short or damaged?", "ARCHIVE is cut short", "ARCHIVE cannot be unpacked")
        )


def test_what_follows_a_damaged_header_does_not_vanish(tree, tmp_path):
    path = packed(tree(photos(3)), "a.tar")
    whole = bytearray(path.read_bytes())
    with tarfile.open(path) as file:
        offset = file.getmembers()[4].offset
    whole[offset + 100] ^= 0xFF
    path.write_bytes(whole)
    assert refused(path) == f"ARCHIVE is damaged after byte {offset:,}, or holds several archives one after another; pack it again"
    first, second = tar_of(tmp_path / "1.tar", ("cat/1.png", b"1")), tar_of(tmp_path / "2.tar", ("dog/1.png", b"1"))
    path.write_bytes(first.read_bytes() + second.read_bytes())
    assert "holds several archives one after another" in refused(path)


def test_a_header_whose_size_leads_backwards_ends(tmp_path):
    path = tar_of(tmp_path / "a.tar", ("cat/1.png", b"1" * 600), ("cat/2.png", b"2"))
    raw = bytearray(path.read_bytes())
    header = raw[1536:2048]
    header[124:136] = b"\xff" * 10 + (-2048 & 0xFFFF).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    raw[1536:2048] = header
    path.write_bytes(raw)
    message = refused(path)
    assert message.startswith(("ARCHIVE: the header at byte 1,536 is damaged", "ARCHIVE is damaged after byte 1,536", "ARCHIVE cannot be read as a tar"))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "HARMLESS", 2**20)
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 2**16)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", bytes(2**22))
    assert refused(tmp_path / "a.zip") == (
        f"ARCHIVE has {(tmp_path / 'a.zip').stat().st_size:,} bytes and unpacks to 4,194,304: that is a decompression bomb, not photos"
    )
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", bytes(2**17))
    with pytest.raises(DataError, match=r"^131,072 bytes, more than the 65,536 that a member of an archive may have$"):
        read_source(config(tmp_path / "b.zip")).read(0)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as file:
        info = tarfile.TarInfo("cat/1.png")
        info.size = 3 * 2**20
        file.addfile(info, io.BytesIO(bytes(info.size)))
    assert refused(tmp_path / "c.tar.gz", cache_megabytes=2) == (
        "ARCHIVE unpacks to more than data.cache_megabytes=2 allows, and a compressed tar can only be read from memory; "
        "unpack it to a .tar (gzip -dk c.tar.gz), which is read in place, or allow more"
    )


def test_a_member_that_lies_about_its_size_is_no_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", bytes(100_000))
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    index = raw.rindex(b"PK\x01\x02")
    raw[index + 24 : index + 28] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(raw)
    with pytest.raises(DataError, match=r"^damaged in the archive: 11 of 10 bytes are there$"):
        read_source(config(tmp_path / "a.zip")).read(0)


def test_members_that_cannot_be_read_are_rows_that_cannot_be_read(tree, tmp_path):
    path = packed(tree(photos(8)), "a.zip")
    with zipfile.ZipFile(path) as file:
        infos = {info.filename: info for info in file.infolist()}
    raw = bytearray(path.read_bytes())
    raw[infos["cat/1.png"].header_offset + 30 + len("cat/1.png") + 40] ^= 0xFF  # stored: only the check sum tells
    place = raw.rindex(b"dog/3.png") - 46
    raw[place + 8] |= 1
    path.write_bytes(raw)
    with pytest.raises(DataError) as error:
        collect(config(path), ImageFormat((8, 8)), 0)
    assert str(error.value).splitlines()[:3] == [
        f"{path}: 2 of 16 images cannot be read:",
        "  cat/1.png: damaged in the archive: its check sum is another",
        "  dog/3.png: encrypted in the archive; pack it without a password",
    ]
    assert len(collect(config(path, bad_files="skip"), ImageFormat((8, 8)), 0).report["rejected"]) == 2
    with zipfile.ZipFile(tmp_path / "l.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("cat/1.png", b"1")
    with pytest.raises(DataError, match=r"^packed by zip's method 14; allowed are stored and deflated$"):
        read_source(config(tmp_path / "l.zip")).read(0)


def test_an_archive_that_changes_meanwhile_is_noticed(tmp_path):
    path = tar_of(tmp_path / "a.tar", ("cat/1.png", b"1"))
    rows = read_source(config(path))
    tar_of(tmp_path / "a.tar", ("cat/1.png", b"2"), ("cat/2.png", b"3"))
    with pytest.raises(DataError, match=r"a\.tar has changed since it was opened$"):
        rows.read(0)


def test_other_packings_are_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:bz2"):
        pass
    with pytest.raises(DataError, match=r"a\.tar is packed with bzip2; allowed are \.zip, \.tar, \.tar\.gz, \.tgz: unpack it to a \.tar$"):
        open_archive(tmp_path / "a.tar", 10)


def test_an_archive_cut_or_changed_anywhere_gives_a_message_or_rows(tmp_path):
    """Every byte of the structure, one at a time: a clear error, or an archive whose members can be read or say why not."""
    tar_of(tmp_path / "a.tar", ("cat/1.png", b"1" * 20), ("dog/2.png", b"2"))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("cat/1.png", b"1" * 20)
        file.writestr("dog/2.png", b"2")
    for path in (tmp_path / "a.tar", tmp_path / "a.zip"):
        whole = path.read_bytes()
        places = range(len(whole)) if path.suffix == ".zip" else [*range(160), *range(1024, 1200)]
        for place in places:
            for value in (0xFF, whole[place] ^ 1):
                path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                try:
                    found = open_archive(path, 10)
                    for name in found.members:
                        assert len(found.read(name)) == found.members[name].size
                except DataError:
                    pass
