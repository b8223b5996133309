"""Which source a path is, for a person who only has a path: guessed from what lies there, with the reason; a wrong guess is overridden by `data.source`."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

from ftjax.config import DataConfig
from ftjax.data.interactions.lines import looks_like_a_log
from ftjax.data.sources import archive, hf_disk
from ftjax.data.sources.image_folder import is_image
from ftjax.data.sources.paths import existing_path
from ftjax.data.sources.shards import is_pattern
from ftjax.data.text.conll import SUFFIXES as OF_CONLL
from ftjax.data.text.packed import plain_name, unpacked_pieces
from ftjax.data.text.sources import SOURCES, find_files
from ftjax.errors import DataError

_TAG = re.compile(r"O|[BIESLU]-\S+")
_LOOK = 1 << 16
"""Bytes of a file that are looked at."""


def guess_source(path: str) -> tuple[str, str]:
    """The source's name and the reason.

    Raises:
      DataError: nothing lies there, or nothing that is a data set.
    """
    if is_pattern(path):
        return ("webdataset", "shards of tar files") if path.endswith((".tar", ".tar.gz", ".tgz")) else ("table", "shards of a table")
    place = existing_path(path, "report", "a folder or file", "PATH")
    return _folder(place) if place.is_dir() else _file(place)


def _folder(folder: Path) -> tuple[str, str]:
    if hf_disk.is_saved(folder):
        described = " ".join(file.read_text(encoding="utf-8", errors="replace") for file in sorted(folder.rglob("dataset_info.json")))
        return ("hf_disk", "a saved data set of pictures") if '"Image"' in described else ("table", "a saved data set without pictures")
    if next(folder.rglob("*.array_record*"), None) is not None:
        return "array_record", "it holds ArrayRecord files"
    if any(folder.glob("*.tar")):
        return "webdataset", "it holds tar files"
    try:
        train = find_files(DataConfig(source="table", path=str(folder)))["train"]
    except DataError:
        train = next((file for file in sorted(folder.glob("train.*")) if file.suffix.lower() in (*OF_CONLL, *SOURCES["squad"].suffixes)), None)
    if train is not None and is_pattern(str(train)):
        return "table", f"shards of a table ({train.name})"
    if train is not None:
        source, why = _file(train)
        return source, f"{train.name}: {why}"
    found = _first_image(folder)
    if found is None:
        held = sorted(entry.name for entry in folder.iterdir())
        tables = sorted({_ending(name) for name in held if plain_name(Path(name)).suffix.lower() in SOURCES["table"].suffixes})
        hint = f"If its files are one table, name them: '{folder / ('*' + tables[0])}'. Else say" if tables else "Say"
        shown = ", ".join(held[:12]) or "nothing"
        raise DataError(f"{folder} is no data set that can be recognised; it holds {shown}. {hint} what it is: --config.data.source=...")
    return "image_folder", f"it holds photos, such as {found.relative_to(folder)}"


def _ending(name: str) -> str:
    """`.jsonl.gz` of `part.1.jsonl.gz`."""
    return name[len(str(plain_name(Path(name)).with_suffix(""))) :]


def _first_image(folder: Path) -> Path | None:
    """The first photo in the order of names."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        name = next((name for name in sorted(names) if is_image(name)), None)
        if name is not None:
            return Path(place, name)
    return None


def _file(file: Path) -> tuple[str, str]:
    name = file.name.lower()
    if name.endswith(".npz"):
        return "npz", "by its ending"
    if name.endswith(archive.SUFFIXES):
        return _archive(file)
    if plain_name(file).suffix.lower() in (".parquet", ".pq", ".arrow", ".feather", ".ipc"):
        return "table", "a file of rows"
    head = next(unpacked_pieces(file), b"")[:_LOOK].decode("utf-8", errors="replace")
    if (why := looks_like_a_log(head.split("\n"))) is not None:
        return "interactions", why
    if name.endswith((".json", ".jsonl")) and '"context"' in head and '"question' in head:
        return "squad", "it holds questions and contexts"
    lines = [line.split() for line in head.splitlines()[:-1] if line.strip() and not line.startswith(("-DOCSTART-", "#"))]
    tagged = [fields for fields in lines if len(fields) > 1 and _TAG.fullmatch(fields[-1])]
    if name.endswith(OF_CONLL) and lines and len(tagged) > 0.9 * len(lines):
        return "conll", "each line is a word and a tag"
    return "table", "a file of rows"


def _archive(file: Path) -> tuple[str, str]:
    """A tar of `key.jpg` beside `key.cls` is a shard of WebDataset; other archives hold folders of photos."""
    if not file.name.lower().endswith(".zip"):
        try:
            with tarfile.open(file) as opened:
                names = [member.name for member, _ in zip(opened, range(64))]
        except (tarfile.TarError, OSError, EOFError) as error:
            raise DataError(f"{file} cannot be opened: {error}") from None
        if any(name.endswith((".cls", ".json")) for name in names):
            return "webdataset", "a tar file whose pictures have labels beside them"
    return "image_folder", "an archive of photos"
