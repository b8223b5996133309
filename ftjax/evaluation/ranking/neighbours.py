"""What a recommender has to beat, without a model: the most popular items, and items that the same users had (item-kNN). Both on the host, in chunks of users.

The same rules as on the device: what a user knows is not ranked, a target among it is missed, a tie counts against the baseline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int32
from scipy import sparse

from ftjax.evaluation.ranking.records import RecommendationRecords, of_histories

if TYPE_CHECKING:
    from ftjax.data import Split

NEIGHBOURS = 200
"""Nearest items that each item keeps."""
NEWEST = 500
"""Events of a user that similarities are made of: the newest ones, so that one user with all items does not cost a square of them."""
_USERS = 1024
_ITEMS = 2048


def most_popular(train: Split, test: Split, k: int) -> RecommendationRecords:
    """Always the items with the most training events, of equal ones the first."""
    counts = _histories(test).catalogue.counts.astype(np.float64)
    order = np.argsort(-counts, kind="stable")
    sorted_counts = counts[order]
    parts = []
    for rows in _chunks(len(test)):
        known, targets = _known(test, rows), _targets(test, rows)
        open_targets = np.where(_values(known, targets) > 0, 0, targets)
        own = np.where(targets > 0, counts[targets - 1], np.inf)
        # All items that score as high, less the known ones and the targets themselves, come first.
        ahead = np.searchsorted(-sorted_counts, -own, side="right") - _among(_union(known, targets), counts, own)
        ranks = np.where(open_targets > 0, 1 + ahead + _ahead_among(own, open_targets), len(counts))
        items = np.stack([_best_unknown(order, known.indices[known.indptr[row] : known.indptr[row + 1]], k) for row in range(len(rows))])
        parts.append(_part(test, rows, targets, ranks, items, np.where(items > 0, counts[items - 1], -np.inf)))
    return RecommendationRecords.concatenate(parts)


def item_knn(train: Split, test: Split, k: int) -> RecommendationRecords:
    """Items that are most often in the same training histories as those that the user had: `score(u, i) = sum_j cos(i, j)` over the user's items j
    (Deshpande & Karypis 2004). Items without a common user score 0 and are not recommended."""
    similar, total = similarities(train), len(_histories(test).catalogue)
    parts = []
    for rows in _chunks(len(test)):
        known, targets = _known(test, rows), _targets(test, rows)
        scores = sparse.csr_array(known @ similar)
        scores = sparse.csr_array(scores - scores.multiply(known))
        # Rounded, so that equal sums are equal in whatever order they were added.
        scores.data = np.round(scores.data, 9)
        scores.eliminate_zeros()
        open_targets = np.where(_values(known, targets) > 0, 0, targets)
        own = _values(scores, targets)
        among = (own[:, None, :] >= own[:, :, None]) & ((open_targets > 0) & (own > 0))[:, None, :]
        ahead = np.stack([_reaching(scores, own[:, column]) for column in range(own.shape[1])], axis=1) - among.sum(axis=2)
        # Whoever scores 0 comes after everybody: a tie counts against the baseline.
        last = total - np.diff(known.indptr)[:, None] - (open_targets > 0).sum(axis=1, keepdims=True)
        ranks = 1 + np.where(own > 0, ahead, last) + _ahead_among(own, open_targets)
        parts.append(_part(test, rows, targets, np.where(open_targets > 0, ranks, total), *_best(scores, k)))
    return RecommendationRecords.concatenate(parts)


def similarities(train: Split) -> sparse.csr_array:
    """Cosines of items as sets of training users, `[items items]`: of each item its `NEIGHBOURS` nearest, and not itself."""
    histories = _histories(train)
    start, stop = _spans(histories.start, histories.stop)
    seen = _matrix(histories.items, np.maximum(start, stop - NEWEST), stop, len(histories.catalogue))
    norms = np.sqrt(np.maximum(np.asarray(seen.sum(axis=0)).ravel(), 1))
    of_items = sparse.csr_array(seen.T)
    found = []
    for start in range(0, len(norms), _ITEMS):
        together = sparse.csr_array(of_items[start : start + _ITEMS] @ seen).astype(np.float64)
        row = _rows(together)
        together.data /= norms[row + start] * norms[together.indices]
        together.data[together.indices == row + start] = 0
        together.eliminate_zeros()
        found.append(_nearest(together))
    return sparse.csr_array(sparse.vstack(found))


def _spans(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that overlap, the windows of one user (`recommendation.long_histories`), as one."""
    order = np.argsort(start, kind="stable")
    start, stop = start[order], np.maximum.accumulate(stop[order])
    begins = np.flatnonzero(np.concatenate([[True], start[1:] >= stop[:-1]]))
    return start[begins], stop[np.concatenate([begins[1:], [len(start)]]) - 1]


def _nearest(values: sparse.csr_array) -> sparse.csr_array:
    """The `NEIGHBOURS` largest values of each row."""
    items, best = _best(values, NEIGHBOURS)
    rows, columns = np.nonzero(items)
    return sparse.csr_array((best[rows, columns], (rows, items[rows, columns] - 1)), shape=values.shape)


def _best(scores: sparse.csr_array, k: int) -> tuple[Int32[np.ndarray, "rows k"], Float[np.ndarray, "rows k"]]:
    """Numbers (from 1) of the k largest entries of each row, of equal ones the first; 0 and -inf where there are no more. Entries are positive."""
    scores.sort_indices()
    sizes = np.diff(scores.indptr)
    row = _rows(scores)
    # One key instead of two: the row, and within it what the score lacks of the largest of all; numbers ascend within a row, and the sort keeps equal ones.
    order = np.argsort(2.0 * row - scores.data / max(float(scores.data.max(initial=0.0)), 1e-300), kind="stable")
    place = np.arange(len(order)) - np.repeat(scores.indptr[:-1], sizes)
    kept = place < k
    items, best = np.zeros((len(sizes), k), np.int32), np.full((len(sizes), k), -np.inf)
    items[row[kept], place[kept]] = scores.indices[order][kept] + 1
    best[row[kept], place[kept]] = scores.data[order][kept]
    return items, best


def _reaching(scores: sparse.csr_array, own: np.ndarray) -> np.ndarray:
    """How many entries of each row are at least `own`."""
    row = _rows(scores)
    return np.bincount(row, weights=scores.data >= own[row], minlength=len(own)).astype(np.int64)


def _rows(matrix: sparse.csr_array) -> np.ndarray:
    """The row of each entry."""
    sizes = np.diff(matrix.indptr)
    return np.repeat(np.arange(len(sizes)), sizes)


def _values(scores: sparse.csr_array, targets: np.ndarray) -> np.ndarray:
    """The entries at each row's targets; 0 where there is none."""
    rows = np.arange(len(targets))[:, None].repeat(targets.shape[1], axis=1)
    found = np.asarray(scores[rows.ravel(), np.maximum(targets - 1, 0).ravel()]).reshape(targets.shape)
    return np.where(targets > 0, found, 0.0)


def _among(marks: sparse.csr_array, counts: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Of each row's marked items how many have at least `own` events, `[rows targets]`."""
    row = _rows(marks)
    return np.stack([np.bincount(row, weights=counts[marks.indices] >= own[row, column], minlength=len(own)) for column in range(own.shape[1])], axis=1).astype(
        np.int64
    )


def _ahead_among(own: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Other targets that come before each: those with a higher score, and of equal ones the earlier."""
    order = np.arange(own.shape[1])
    higher = (own[:, None, :] > own[:, :, None]) | ((own[:, None, :] == own[:, :, None]) & (order[None, :] < order[:, None]))
    return np.sum(higher & (targets > 0)[:, None, :], axis=2)


def _best_unknown(order: np.ndarray, known: np.ndarray, k: int) -> np.ndarray:
    """The first k numbers (from 1) of `order` that are not known; 0 where there are no more."""
    head = order[: k + len(known)]
    found = head[~np.isin(head, known)][:k] + 1
    return np.pad(found, (0, k - len(found))).astype(np.int32)


def _known(split: Split, rows: np.ndarray) -> sparse.csr_array:
    histories = _histories(split)
    return _matrix(histories.items, histories.start[rows], histories.stop[rows], len(histories.catalogue))


def _matrix(items: np.ndarray, start: np.ndarray, stop: np.ndarray, total: int) -> sparse.csr_array:
    """Which items are in `items[start:stop]` of each row, 0 or 1: `[rows items]`."""
    sizes = stop - start
    row = np.repeat(np.arange(len(start)), sizes)
    place = np.repeat(start, sizes) + np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = sparse.csr_array((np.ones(len(row)), (row, items[place] - 1)), shape=(len(start), total))
    found.sum_duplicates()
    found.data[:] = 1
    return found


def _union(known: sparse.csr_array, targets: np.ndarray) -> sparse.csr_array:
    row, column = np.nonzero(targets)
    both = sparse.csr_array(known + sparse.csr_array((np.ones(len(row)), (row, targets[row, column] - 1)), shape=known.shape))
    both.sum_duplicates()
    return both


def _targets(split: Split, rows: np.ndarray) -> np.ndarray:
    """As a batch has them, copies left out."""
    batch = split.fields(rows)
    targets = batch.get("targets", split.labels[rows][:, None])
    again = np.tril(targets[:, :, None] == targets[:, None, :], -1).any(axis=2)
    return np.where(again, 0, targets)


def _part(split: Split, rows: np.ndarray, targets: np.ndarray, ranks: np.ndarray, items: np.ndarray, scores: np.ndarray) -> RecommendationRecords:
    part = {"id": rows.astype(np.int32), "label": split.labels[rows], "ranks": np.where(targets > 0, ranks, 0).astype(np.int32), "items": items}
    return RecommendationRecords(weight=np.ones(len(rows), np.float32), scores=scores.astype(np.float32), **part, **of_histories(part, split))


def _chunks(rows: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + _USERS, rows)) for start in range(0, rows, _USERS)]


def _histories(split: Split) -> Any:
    assert split.histories is not None, "rows of interactions have histories"
    return split.histories
