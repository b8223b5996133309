"""Texts that are almost the same: found by MinHash over runs of characters, confirmed by the exact Jaccard similarity of those runs.

MinHash (Broder 1997): the smallest of many hashed runs is equal in two texts with the probability of their Jaccard similarity. Texts whose 4 smallest hashes
agree in one of 16 bands are compared; of pairs with similarity 0.8 that finds all but 2 in 10,000.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt64
from scipy import sparse

from ftjax.data.near import Near, Pairs, gather, representatives

LENGTH = 5
"""Characters of a run."""
LETTERS = 5_000
"""Of each text that are compared, so that a corpus of books fits into memory."""
WINDOW = 500
"""Texts of one bucket that each text is compared with, so that thousands of copies of one template take seconds and not hours; what is left out is counted."""
_BANDS, _PER_BAND = 16, 4
_BLOCK = 1 << 12
"""Texts, or pairs of texts, that are looked at together."""


def find_texts(sides: Sequence[Sequence[str]], hashes: Sequence[bytes | None], least: float) -> Near:
    """Which rows are almost the same in every one of their texts.

    Args:
      sides: the texts of all rows, and their second texts where they have two.
      hashes: of each row's content, equal for exact copies.
      least: similarity from which on two texts count as almost the same, in (0, 1].
    """
    copies = representatives(hashes)
    pairs, missed = similar_texts(sides, np.array(sorted(copies), np.int64), least)
    return gather(pairs, least, hashes, copies, missed=missed)


def plain(text: str) -> str:
    """What is compared of a text: letters and digits in their canonical form, without case, words one space apart."""
    letters = unicodedata.normalize("NFKC", text[:LETTERS]).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in letters).split())


def similar_texts(sides: Sequence[Sequence[str]], rows: Int[np.ndarray, " some"], least: float) -> tuple[Pairs, int]:
    """All pairs among `rows` whose texts have a Jaccard similarity of at least `least`; of rows with several texts, every one of them.

    Similarity: `|A & B| / |A | B|`, where A and B are the sets of all runs of 5 characters of the two texts in `plain` form, a space at either end.

    Args:
      sides: the texts of all rows; where rows have two, those too.
      rows: those to compare, in ascending order; leave exact copies out.
      least: in (0, 1].

    Returns:
      The pairs, and how many pairs of a bucket with more than 500 texts were not compared.
    """
    texts = [[plain(side[row]) for row in rows] for side in sides]
    keys = [_keys([side[first : first + _BLOCK] for side in texts]) for first in range(0, len(rows), _BLOCK)]
    left, right, missed = _candidates(np.concatenate(keys) if keys else np.zeros((0, _BANDS), np.uint64))
    found = []
    for first in range(0, len(left), _BLOCK):
        here, places = np.unique(np.stack([left[first : first + _BLOCK], right[first : first + _BLOCK]]), return_inverse=True)
        one, other = places.reshape(2, -1)
        similarity = np.minimum.reduce([_jaccard(_sets(*_runs([side[row] for row in here])), one, other) for side in texts])
        enough = similarity >= least
        found.append((here[one[enough]], here[other[enough]], similarity[enough]))
    return Pairs.joined(rows, found), missed


def _runs(texts: Sequence[str]) -> tuple[UInt64[np.ndarray, " runs"], Int[np.ndarray, " starts"]]:
    """Hashes of all runs of characters of all texts, one after another, and where each text's begin."""
    padded = [f" {text} ".ljust(LENGTH) for text in texts]
    letters = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded], np.int64)
    hashed = np.zeros(len(letters) - LENGTH + 1, np.uint64)
    for offset in range(LENGTH):
        hashed = _mixed(hashed ^ letters[offset : offset + len(hashed)])
    counts = lengths - LENGTH + 1
    starts = np.concatenate([[0], np.cumsum(counts)])
    begins = np.cumsum(lengths) - lengths
    return hashed[np.arange(starts[-1]) + np.repeat(begins - starts[:-1], counts)], starts


def _mixed(values: UInt64[np.ndarray, " n"]) -> UInt64[np.ndarray, " n"]:
    """A bijection of 64 bits in which every bit depends on all (SplitMix64, Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _keys(sides: Sequence[Sequence[str]]) -> UInt64[np.ndarray, "texts bands"]:
    """One number for each band, equal where its smallest hashes are; rows with two texts have the runs of both, which loses no pair that is alike in both."""
    runs = [_runs(side) for side in sides]
    keys = np.zeros((len(sides[0]), _BANDS), np.uint64)
    for number in range(_BANDS * _PER_BAND):
        salts = [_mixed(np.array([len(sides) * number + side + 1], np.uint64)) for side in range(len(sides))]
        smallest = np.minimum.reduce([np.minimum.reduceat(_mixed(hashes ^ salt), starts[:-1]) for (hashes, starts), salt in zip(runs, salts, strict=True)])
        keys[:, number // _PER_BAND] = _mixed(keys[:, number // _PER_BAND] ^ smallest)
    return keys


def _candidates(keys: UInt64[np.ndarray, "texts bands"]) -> tuple[np.ndarray, np.ndarray, int]:
    """Positions (left, right) of texts that agree in a band, each pair once, and how many pairs of the worst band were left out."""
    found, missed = np.zeros(0, np.int64), 0
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        ends = np.searchsorted(band[order], band[order], side="right")
        later = ends - np.arange(len(order)) - 1
        missed = max(missed, int(np.maximum(later - WINDOW, 0).sum()))
        found = np.unique(np.concatenate([found, *_window(order, later)]))
    left, right = np.divmod(found, max(len(keys), 1))
    return left, right, missed


def _window(order: Int[np.ndarray, " texts"], later: Int[np.ndarray, " texts"]) -> Iterator[Int[np.ndarray, " pairs"]]:
    """Every text with those after it in its bucket, as `left * texts + right`."""
    for distance in range(1, min(WINDOW, int(later.max(initial=0))) + 1):
        here = np.flatnonzero(later >= distance)
        one, other = order[here], order[here + distance]
        yield np.minimum(one, other) * len(order) + np.maximum(one, other)


def _sets(hashes: UInt64[np.ndarray, " runs"], starts: Int[np.ndarray, " starts"]) -> sparse.csr_matrix:
    """0/1 matrix `[texts different runs]`."""
    values, columns = np.unique(hashes, return_inverse=True)
    matrix = sparse.csr_matrix((np.ones(len(hashes), np.float32), columns.reshape(-1), starts), shape=(len(starts) - 1, len(values)))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def _jaccard(matrix: sparse.csr_matrix, left: Int[np.ndarray, " pairs"], right: Int[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    sizes = np.diff(matrix.indptr)
    both: Any = matrix  # the stubs of scipy.sparse do not know rows by an array
    common = np.asarray(both[left].multiply(both[right]).sum(axis=1), np.float64).reshape(-1)
    return common / (sizes[left] + sizes[right] - common)
