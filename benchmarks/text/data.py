"""The shared text sets as files that both libraries read: fixed, seeded subsets with named columns and string labels.

`write` makes a folder with `train`, `validation` and `test` (csv, or CoNLL lines for words with tags). No text is in two of them or twice in one, so
that no library's own cleaning can change what it is trained on.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

Row = dict[str, str]
"""`text`, perhaps `text_pair`, and `label`; for words with tags all three hold one word or tag a line."""

SPLITS = ("train", "validation", "test")


def shared_data() -> Path:
    """The folder of real data, `FTJAX_SHARED_DATA`; by default beside the repository."""
    return Path(os.environ.get("FTJAX_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _table(raw: str, delimiter: str = "\t") -> list[Row]:
    """Rows of a table with a header and no quoting; a carriage return inside a line is a space."""
    lines = [line.replace("\r", " ").rstrip().split(delimiter) for line in raw.replace("\r\n", "\n").split("\n") if line.strip()]
    return [dict(zip(lines[0], line, strict=False)) for line in lines[1:]]


def _trec(folder: Path) -> dict[str, list[Row]]:
    """`LABEL:fine text` in latin-1; the six coarse labels."""

    def read(name: str) -> list[Row]:
        lines = (folder / name).read_text(encoding="latin-1").split("\n")
        return [{"text": line.partition(" ")[2].strip(), "label": line.partition(":")[0]} for line in lines if line.strip()]

    return {"train": read("TREC.train"), "test": read("TREC.test")}


def _sst2(folder: Path) -> dict[str, list[Row]]:
    names = {"0": "negative", "1": "positive"}
    found = {}
    for split, file, column in (("train", "train.tsv", "sentence"), ("test", "dev.tsv", "content")):
        raw = (folder / file).read_bytes().decode("utf-8")
        found[split] = [{"text": row[column].strip(), "label": names[row["label"]]} for row in _table(raw)]
    return found


def _banking77(folder: Path) -> dict[str, list[Row]]:
    def read(name: str) -> list[Row]:
        with (folder / name).open(encoding="utf-8", newline="") as lines:
            return [{"text": " ".join(row["text"].split()), "label": row["category"]} for row in csv.DictReader(lines)]

    return {"train": read("train.csv"), "test": read("test.csv")}


def _rte(folder: Path) -> dict[str, list[Row]]:
    names = {"0": "entailment", "1": "not_entailment"}

    def read(name: str) -> list[Row]:
        rows = _table((folder / name).read_text(encoding="utf-8"))
        return [{"text": row["sentence1"].strip(), "text_pair": row["sentence2"].strip(), "label": names[row["label"]]} for row in rows]

    return {"train": read("train.tsv"), "test": read("dev.tsv")}


def _sick(label: str) -> Callable[[Path], dict[str, list[Row]]]:
    def read(folder: Path) -> dict[str, list[Row]]:
        files = {"train": "SICK_train.txt", "validation": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}
        tables = {split: _table((folder / file).read_text(encoding="utf-8")) for split, file in files.items()}
        return {
            split: [{"text": row["sentence_A"].strip(), "text_pair": row["sentence_B"].strip(), "label": row[label].strip().lower()} for row in rows]
            for split, rows in tables.items()
        }

    return read


def _chnsenticorp(folder: Path) -> dict[str, list[Row]]:
    names = {"0": "negative", "1": "positive"}
    found = {}
    with zipfile.ZipFile(folder / "chnsenticorp.zip") as archive:
        for split, file in (("train", "train.tsv"), ("validation", "dev.tsv"), ("test", "test.tsv")):
            rows = _table(archive.read(file).decode("utf-8-sig"))
            found[split] = [{"text": row["text_a"].strip(), "label": names[row["label"]]} for row in rows if row.get("text_a", "").strip()]
    return found


def _wnut17(folder: Path) -> dict[str, list[Row]]:
    files = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    return {split: list(_sentences((folder / file).read_text(encoding="utf-8"))) for split, file in files.items()}


def _sentences(raw: str) -> Iterator[Row]:
    """Sentences of `word<TAB>tag` lines, a blank line between two; words without a letter to print are left out with their tag."""
    for blank, lines in itertools.groupby(raw.split("\n"), key=lambda line: not line.strip()):
        pairs = [] if blank else [tuple(part.strip() for part in line.split("\t")[:2]) for line in lines]
        pairs = [pair for pair in pairs if len(pair) == 2 and pair[0].split() == [pair[0]] and pair[1]]
        if pairs:
            words, tags = zip(*pairs, strict=True)
            yield {"text": "\n".join(words), "label": "\n".join(tags)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSet:
    """One data set as a task."""

    name: str
    folder: str
    read: Callable[[Path], dict[str, list[Row]]]
    task: Literal["classification", "regression", "token_classification"] = "classification"
    pair: bool = False
    metric: str = "accuracy"
    max_length: int = 64
    rate: float = 1e-4
    """Peak learning rate, the same for both libraries."""
    rows: int = 1200
    """Training examples."""
    test: int = 500
    steps: int = 90


SETS = (
    TextSet(name="trec", folder="trec", read=_trec),
    TextSet(name="sst2", folder="sst2", read=_sst2),
    TextSet(name="banking77", folder="banking77", read=_banking77, rate=5e-4, rows=1920, steps=120),
    TextSet(name="rte", folder="rte", read=_rte, pair=True, max_length=128, rows=960, steps=60),
    TextSet(name="sick", folder="sick", read=_sick("relatedness_score"), task="regression", pair=True, metric="pearson"),
    TextSet(name="sick_entailment", folder="sick", read=_sick("entailment_judgment"), pair=True),
    TextSet(name="wnut17", folder="wnut17", read=_wnut17, task="token_classification", metric="entity_f1", max_length=128, rate=5e-4, rows=960, steps=60),
    TextSet(name="chnsenticorp", folder="chnsenticorp", read=_chnsenticorp, steps=60),
)
NAMES = tuple(one.name for one in SETS)


def named(name: str) -> TextSet:
    """The set of that name."""
    return next(one for one in SETS if one.name == name)


def subset(text_set: TextSet, validation: int = 150, seed: int = 0) -> dict[str, list[Row]]:
    """The fixed rows of every split: distinct texts, the same ones for the same seed; validation comes from the training rows where the set has none."""
    read = text_set.read(shared_data() / "text" / text_set.folder)
    draw = np.random.default_rng([seed, NAMES.index(text_set.name)])
    seen: set[tuple[str, str]] = set()
    shuffled = {}
    for split in ("test", "validation", "train"):
        distinct = list(_new(read.get(split, ()), seen))
        shuffled[split] = [distinct[index] for index in draw.permutation(len(distinct))]
    if not shuffled["validation"]:
        shuffled["validation"], shuffled["train"] = shuffled["train"][:validation], shuffled["train"][validation:]
    sizes = {"train": text_set.rows, "validation": validation, "test": text_set.test}
    return {split: shuffled[split][: sizes[split]] for split in SPLITS}


def _new(rows: Iterable[Row], seen: set[tuple[str, str]]) -> Iterator[Row]:
    """Rows whose text has not been seen in any case or spacing."""
    for row in rows:
        key = (" ".join(row["text"].lower().split()), " ".join(row.get("text_pair", "").lower().split()))
        if key not in seen and key[0]:
            seen.add(key)
            yield row


def write(text_set: TextSet, folder: Path, seed: int = 0, validation: int = 150) -> Path:
    """Write the subset where it is not there yet; returns its folder."""
    target = folder / text_set.name
    target.mkdir(parents=True, exist_ok=True)
    for split, rows in subset(text_set, validation, seed).items():
        if text_set.task == "token_classification":
            lines = ("\n".join(f"{word}\t{tag}" for word, tag in zip(row["text"].split("\n"), row["label"].split("\n"), strict=True)) for row in rows)
            (target / f"{split}.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        else:
            (target / f"{split}.csv").write_text(_csv(rows), encoding="utf-8")
    return target


def _csv(rows: list[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def read_written(text_set: TextSet, folder: Path) -> dict[str, list[Row]]:
    """What `write` wrote, read back: what the other library is trained on."""
    if text_set.task == "token_classification":
        return {split: list(_sentences((folder / f"{split}.conll").read_text(encoding="utf-8"))) for split in SPLITS}
    found = {}
    for split in SPLITS:
        with (folder / f"{split}.csv").open(encoding="utf-8", newline="") as lines:
            found[split] = list(csv.DictReader(lines))
    return found
