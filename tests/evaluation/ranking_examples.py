"""Small catalogues, users and records for the tests of ranking, and the ranking by a plain sort."""

from __future__ import annotations

import numpy as np

from ftjax.data import Catalogue, Histories, Split, histories_split


def split_of(rows, items, *, train=(), several=False, newest=50, texts=None):
    """A test split of `(known, targets)` rows over `items` items; `train` are the histories whose events count."""
    flat = [item for known, targets in rows for item in (*known, *targets)]
    sizes = np.array([[len(known), len(targets)] for known, targets in rows], np.int64)
    stop = np.cumsum(sizes.sum(axis=1)) - sizes[:, 1]
    counts = np.bincount([item - 1 for history in train for item in history], minlength=items)
    catalogue = Catalogue(tuple(f"i{number}" for number in range(1, items + 1)), texts, counts.astype(np.int64))
    histories = Histories(catalogue, np.array(flat, np.int32), stop - sizes[:, 0], stop, stop + sizes[:, 1], newest, False, several)
    return histories_split(tuple(f"u{row}" for row in range(len(rows))), histories, 3)


def train_split(train, items) -> Split:
    """The training split of those histories."""
    catalogue = split_of([((1,), (1,))], items, train=train).histories.catalogue
    stop = np.cumsum([len(history) for history in train]).astype(np.int64)
    start = stop - [len(history) for history in train]
    histories = Histories(catalogue, np.array([item for history in train for item in history], np.int32), start, stop, stop, 51, True)
    return histories_split(tuple(f"u{row}" for row in range(len(train))), histories, 3)


def random_rows(generator, users, items, targets=1):
    """Users with 1 to 6 known items and up to `targets` later ones, some of them known already or twice there."""
    rows = []
    for _ in range(users):
        known = generator.integers(1, items + 1, generator.integers(1, 7)).tolist()
        rows.append((known, generator.integers(1, items + 1, generator.integers(1, targets + 1)).tolist()))
    return rows


def by_sorting(scores, known, targets, k):
    """Places of the targets, and the k best items, by sorting all scores `[items]`: known items are left out, and what ties with a target comes before it."""
    total, wanted = len(scores), [target for target in dict.fromkeys(targets) if target not in known]
    unknown = [item for item in range(1, total + 1) if item not in known]
    order = sorted(unknown, key=lambda item: (-scores[item - 1], item in wanted, wanted.index(item) if item in wanted else item))
    places = {item: place for place, item in enumerate(order, 1)}
    ranks = [0 if target in targets[:number] else places.get(target, total) for number, target in enumerate(targets)]
    best = sorted((item for item in unknown if np.isfinite(scores[item - 1])), key=lambda item: (-scores[item - 1], item))[:k]
    return ranks, best + [0] * (k - len(best))
