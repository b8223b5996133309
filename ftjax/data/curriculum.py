"""Training by difficulty: which examples there are at a step (easy or hard ones first), or at all (the most ambiguous ones).

How hard an example is says a `cartography.jsonl`, which a run with `train.cartography` writes. What is available at a step, and what is drawn of it, are
pure functions of (order, seed, step), so the position in the data is still the step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ftjax.config import DataConfig
from ftjax.counting import counted
from ftjax.data.dataset import Curriculum, Dataset
from ftjax.data.order import rank
from ftjax.data.sources.paths import existing_path
from ftjax.errors import ConfigError, DataError

PACED = ("easy_first", "hard_first")
START = 0.2
"""Share of the examples that is available at step 0."""
_NAMED = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Difficulty:
    """What a cartography file says of each row that was asked for."""

    confidence: Float[np.ndarray, " rows"]
    variability: Float[np.ndarray, " rows"]
    facts: Mapping[str, Any]
    """For data.json: the file, its SHA-256 and its examples that are no rows here."""


def read_difficulty(file: str, ids: Sequence[str]) -> Difficulty:
    """The difficulty of the rows with these ids.

    Raises:
      DataError: the file is not there or is no cartography, names an example twice, or does not know all ids.
    """
    path = existing_path(file, "data.difficulty", "a cartography.jsonl", "data.difficulty")
    try:
        content = path.read_bytes()
        lines = content.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data.difficulty={file} cannot be read: {error}") from None
    known: dict[str, tuple[float, float] | None] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            name, values = _entry(line, f"{path} line {number}")
            if name in known:
                raise DataError(f"{path} line {number}: {name!r} is there twice")
            known[name] = values
    _check_known(known, ids, str(path))
    values = np.array([known[name] for name in ids], np.float64).reshape(-1, 2)
    facts = {"file": str(path), "sha256": hashlib.sha256(content).hexdigest(), "not_in_train": len(known.keys() - set(ids))}
    return Difficulty(values[:, 0], values[:, 1], facts)


def _entry(line: str, where: str) -> tuple[str, tuple[float, float] | None]:
    """The id of a line and its confidence and variability; None: it was never seen."""
    try:
        found = json.loads(line)
        name, pair = found["id"], (found["confidence"], found["variability"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f'{where} is not {{"id": ..., "confidence": ..., "variability": ...}}, as a run with train.cartography writes it') from None
    if not isinstance(name, str):
        raise DataError(f"{where}: the id is {name!r}; allowed is a text")
    if pair == (None, None):
        return name, None
    if not all(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1 for value in pair):
        raise DataError(f"{where}: confidence and variability of {name!r} are {pair[0]!r} and {pair[1]!r}; allowed are numbers from 0 to 1")
    return name, (float(pair[0]), float(pair[1]))


def _check_known(known: Mapping[str, Any], ids: Sequence[str], where: str) -> None:
    missing = [name for name in ids if name not in known]
    if missing:
        raise DataError(
            f"{where} does not know {_counted(missing)}; it has to come from a run on these training rows, "
            "and seed, data.split and data.folds decide which rows those are"
        )
    unseen = [name for name in ids if known[name] is None]
    if unseen:
        raise DataError(
            f"{where}: {_counted(unseen)} {'was' if len(unseen) == 1 else 'were'} never trained on in the run that wrote it; it has to last an epoch at least"
        )


def _counted(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
    return f"{counted(len(names), 'training rows')} ({shown})"


def check_curriculum(config: DataConfig) -> None:
    """A curriculum has its file, and what it keeps or draws is said once.

    Raises:
      ConfigError: it is not so.
    """
    chosen = config.curriculum
    if chosen == "off":
        return
    if config.difficulty is None:
        raise ConfigError(f"data.curriculum={chosen!r} needs data.difficulty: the cartography.jsonl of a run with train.cartography=True")
    if chosen == "ambiguous" and config.fraction is None:
        raise ConfigError("data.curriculum='ambiguous' keeps the share data.fraction of each class; say which, such as 0.33")
    if chosen in PACED and (config.sampling != "natural" or config.mixture):
        other = "data.mixture" if config.mixture else f"data.sampling={config.sampling!r}"
        raise ConfigError(f"data.curriculum={chosen!r} and {other} both say how often rows are drawn; leave one open")


def paced(dataset: Dataset, config: DataConfig, seed: int, steps: int) -> Dataset:
    """The data set whose training rows become available by and by: `START` of each class at step 0, linearly more, all of them from step `steps` on.

    Bengio et al. 2009; Hacohen & Weinshall 2019 (arXiv 1904.03626), who also keep the classes in balance.

    Args:
      dataset: of one class for each row.
      config: with a paced curriculum.
      seed: decides between rows that are equally hard.
      steps: of the pacing.

    Raises:
      ConfigError: rows are drawn in another way, too.
      DataError: see `read_difficulty`.
    """
    train = dataset.splits["train"]
    if train.sampling is not None:
        raise ConfigError(f"data.curriculum={config.curriculum!r}: rows are drawn by class or data set already (task.imbalance, data.sampling); leave one open")
    found = read_difficulty(config.difficulty or "", train.ids)
    hardness = -found.confidence if config.curriculum == "easy_first" else found.confidence
    order = stratified(hardness, train.labels, train.ids, seed)
    about = {"way": config.curriculum, "by": "confidence", **found.facts, "share_at_start": START, "all_from_step": steps}
    report = {**dataset.report, "sampling": {**dataset.report.get("sampling", {}), "curriculum": about}}
    split = dataclasses.replace(train, curriculum=Curriculum(order, steps, START))
    return dataclasses.replace(dataset, splits={**dataset.splits, "train": split}, report=report)


def stratified(values: Float[np.ndarray, " rows"], labels: Int[np.ndarray, " rows"], ids: Sequence[str], seed: int) -> Int[np.ndarray, " rows"]:
    """Rows in ascending order of `values` within each class, the classes interleaved, so that every beginning holds about the same share of each."""
    ties = [rank("curriculum", seed, name) for name in ids]
    place = np.empty(len(ids))
    for label in np.unique(labels):
        own = sorted(np.flatnonzero(labels == label).tolist(), key=lambda row: (values[row], ties[row]))
        place[own] = (np.arange(len(own)) + 0.5) / len(own)
    return np.array(sorted(range(len(ids)), key=lambda row: (place[row], ties[row])), np.int64)


def available(curriculum: Curriculum, step: int) -> int:
    """How many of the first rows of the order there are at a step: `ceil(n (start + (1 - start) step / steps))`."""
    share = min(1.0, curriculum.start + (1 - curriculum.start) * step / curriculum.steps)
    return max(1, math.ceil(len(curriculum.order) * share - 1e-9))


def draw(curriculum: Curriculum, step: int, batch_size: int, seed: int) -> Int[np.ndarray, " batch"]:
    """The rows of a step before the pacing ends: uniformly from those available, without repeats as long as there are enough of them."""
    count = available(curriculum, step)
    words = np.random.Philox(key=np.array([seed & _WORD, step | _PACE], np.uint64)).random_raw(count)
    return curriculum.order[np.resize(_smallest(words, min(batch_size, count)), batch_size)]


def _smallest(words: np.ndarray, count: int) -> Int[np.ndarray, " count"]:
    """`argsort(words, stable)[:count]`, without sorting all of them: every row up to the last word that counts, those in order of (word, row)."""
    rows = np.flatnonzero(words <= np.partition(words, count - 1)[count - 1])
    return rows[np.argsort(words[rows], kind="stable")[:count]]


_WORD = 2**64 - 1
_PACE = 1 << 62
"""Added to the step, so that these draws share no words with the order of an epoch."""
