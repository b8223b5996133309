"""What data.json says of a data set's tokens: how long rows are, how many are cut, how much the tokenizer does not know; and what of it is worth a warning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ftjax.data.text.splits import Encoded
from ftjax.data.text.tokenizer import Tokenizer

_UNKNOWN, _MISFIT, _CUT = 0.05, 0.25, 0.05
"""Shares above which a report warns: unknown tokens; tokens that are unknown or crumbs of words; texts that are cut."""


def token_report(encoded: Mapping[str, Encoded], buckets: tuple[int, ...], tokenizer: Tokenizer, max_length: int) -> dict[str, Any]:
    """How long the rows are in tokens, how many are cut, and how much the tokenizer does not know."""
    longest = max(int(part.lengths.max(initial=1)) for part in encoded.values())
    width = max(1, -(-longest // 32))
    edges = np.arange(0, longest + width + 1, width)
    train = encoded["train"].lengths
    padded = np.asarray(buckets)[np.searchsorted(buckets, train)]
    return {
        "histogram": {"edges": edges.tolist(), "counts": {name: np.histogram(part.lengths, edges)[0].tolist() for name, part in encoded.items()}},
        "buckets": list(buckets),
        "max_length": max_length,
        "inputs": {name: len(part.ids) for name, part in encoded.items()},
        "truncated": {name: _cut(part) for name, part in encoded.items()},
        "unknown_share": {name: part.tokens.unknown(tokenizer.unknown) for name, part in encoded.items()},
        "median": {name: float(np.median(part.lengths)) for name, part in encoded.items()},
        "longest": {name: int(part.lengths.max()) for name, part in encoded.items()},
        "padding_share": 1 - float(train.sum() / padded.sum()),
    }


def _cut(part: Encoded) -> int:
    cut = part.tokens.truncated if part.second is None else part.tokens.truncated | part.second.truncated
    return int(cut.sum())


def token_warnings(tokens: Mapping[str, Any], splits: Mapping[str, Any], misfit: float, max_length: int) -> list[str]:
    """What may be wrong: a tokenizer of another language, many texts that are cut."""
    found = []
    unknown = tokens["unknown_share"]["train"]
    if unknown > _UNKNOWN or misfit > _MISFIT:
        found.append(
            f"the tokenizer hardly fits these texts: {max(unknown, misfit):.0%} of the tokens are unknown or single characters; "
            f"the model was probably trained on another language"
        )
    cut, rows = tokens["truncated"]["train"], splits["train"]["rows"]
    if cut > _CUT * rows:
        found.append(f"{cut} of {rows} training texts ({cut / rows:.0%}) are longer than {max_length} tokens and were cut; text.max_length may allow more")
    return found
