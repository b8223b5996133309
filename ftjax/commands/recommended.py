"""Recommending with a finished run: the best items after each history, without those that are known or excluded."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ftjax import data, files
from ftjax.data import Catalogue
from ftjax.errors import ConfigError, DataError, did_you_mean
from ftjax.evaluation.ranking import ranked
from ftjax.training.recommender import candidates

if TYPE_CHECKING:
    from ftjax.commands.artefact import Predictor

ITEMS = "items.json"
"""What the items are called, beside the weights."""
MOST = 1000
"""Items of the longest list."""


def write_items(folder: Path, catalogue: Catalogue | None) -> None:
    """The items' texts, in the order of their ids; nothing where there are none."""
    if catalogue is not None and catalogue.texts is not None:
        files.write_json(folder / ITEMS, {"texts": list(catalogue.texts)})


def read_items(folder: Path, classes: tuple[str, ...]) -> Catalogue:
    """The items of a finished run; how often each was trained on is not known any more."""
    texts = tuple(files.read_json(folder / ITEMS)["texts"]) if (folder / ITEMS).is_file() else None
    return Catalogue(classes, texts, np.zeros(len(classes), np.int64))


def recommend(
    predictor: Predictor, histories: Mapping[str, Sequence[str]], *, top_k: int = 10, exclude: Sequence[str] | Mapping[str, Sequence[str]] = ()
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """The best items after each history.

    Args:
      predictor: of a recommender.
      histories: items by user, oldest first; what is in one is not recommended again.
      top_k: length of the lists.
      exclude: items that nobody is recommended, or items by user.

    Returns:
      `{"id", "items": [{"item", "score", "text"?}, ...]}` for each user, and the items that the model does not know.

    Raises:
      ConfigError: lists that are too long.
      DataError: no histories, or an excluded item or user that is not there.
    """
    catalogue = predictor.catalogue
    if not 1 <= top_k <= min(MOST, len(catalogue)):
        raise ConfigError(f"lists of {top_k} items; allowed: 1 to {min(MOST, len(catalogue))}")
    split, unknown = data.histories_to_predict(histories, catalogue, predictor.preprocessing.max_length)
    barred = _barred(exclude, tuple(histories), catalogue)
    score = _scoring(predictor, top_k)
    rows: list[dict[str, Any]] = [{} for _ in split.ids]
    for batch in data.eval_batches(split, predictor.batch_size):
        batch["seen"] = np.concatenate([batch["seen"], barred[np.maximum(batch["id"], 0)]], axis=1)
        items, scores = jax.device_get(score(predictor.params, predictor.extra, batch))
        for index, weight, best, values in zip(batch["id"], batch["weight"], items, scores):
            if weight > 0:
                listed = [_told(catalogue, int(item), float(value)) for item, value in zip(best, values) if item > 0]
                rows[index] = {"id": split.ids[index], "items": listed}
    return rows, unknown


def _told(catalogue: Catalogue, item: int, score: float) -> dict[str, Any]:
    text = {"text": catalogue.texts[item - 1]} if catalogue.texts and catalogue.texts[item - 1] else {}
    return {"item": catalogue.ids[item - 1], "score": score} | text


def _scoring(predictor: Predictor, top_k: int) -> Any:
    model, preprocessing, task = predictor.model, predictor.preprocessing, predictor.task

    @functools.partial(jax.jit)
    def score(params: Any, extra: Any, batch: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        found = candidates(model, preprocessing, params, extra, batch)
        nothing = jnp.zeros((len(batch["id"]), 1), jnp.int32)
        best = ranked(found.users, found.items, batch["seen"], nothing, items=len(task.classes), k=top_k, chunk=task.item_chunk, bias=found.bias)
        return best.items, best.scores

    return score


def _barred(exclude: Sequence[str] | Mapping[str, Sequence[str]], users: tuple[str, ...], catalogue: Catalogue) -> np.ndarray:
    """What may not be recommended, by user, int32 `[users most]`."""
    place = {name: number for number, name in enumerate(catalogue.ids, 1)}
    by_user = exclude if isinstance(exclude, Mapping) else dict.fromkeys(users, exclude)
    odd = next((user for user in by_user if user not in set(users)), None)
    if odd is not None:
        raise DataError(f"items are excluded for user {odd!r}, who has no history here; {did_you_mean(odd, users, show=5)}")
    missing = next((name for items in by_user.values() for name in items if str(name) not in place), None)
    if missing is not None:
        raise DataError(f"the excluded item {missing!r} is none of the model's; {did_you_mean(str(missing), catalogue.ids, show=5)}")
    found = np.zeros((len(users), max((len(items) for items in by_user.values()), default=0)), np.int32)
    for row, user in enumerate(users):
        items = [place[str(name)] for name in by_user.get(user, ())]
        found[row, : len(items)] = items
    return found


def read_excluded(path: Path) -> list[str] | dict[str, list[str]]:
    """Lines `item`, for everybody, or `user item`, with a space, a tab or a comma between; empty lines and those that begin with # are passed over.

    Raises:
      DataError: lines of both kinds, or a line of another.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    parts = [(number, line.replace(",", " ").split()) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    sizes = {len(part) for _, part in parts}
    if sizes - {1} and sizes - {2}:
        odd = next(number for number, part in parts if len(part) != len(parts[0][1]) or len(part) > 2)
        raise DataError(f"{path}, line {odd}: allowed is an item in every line, or a user and an item in every line")
    if sizes <= {1}:
        return [part[0] for _, part in parts]
    found: dict[str, list[str]] = {}
    for _, (user, item) in parts:
        found.setdefault(user, []).append(item)
    return found


def as_table(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each recommendation: `{"id", "rank", "item", "score", "text"?}`."""
    return [{"id": row["id"], "rank": rank, **item} for row in rows for rank, item in enumerate(row["items"], 1)]
