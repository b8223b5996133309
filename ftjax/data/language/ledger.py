"""The ledger of what is learnt: how many rows, documents and tokens, how many of them are to be predicted, and what was cut or left out. Nothing is silent."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ftjax.data.language.encoding import Piece
from ftjax.errors import DataError

_SHOWN = 20
_CUT = 0.05
"""Share of the tokens to be learnt above which a report warns of what was cut."""


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """What became of the rows of one split.

    Attributes:
      names: of the documents: the row's, with `#1`, `#2`, ... for further windows.
      pieces: the documents; of choices the chosen answers.
      seconds: the rejected answers.
      origins: the place of each document's row among the split's rows.
      dropped: rows that cannot be learnt from, `{"file", "why"}`.
    """

    names: tuple[str, ...]
    pieces: tuple[Piece, ...]
    seconds: tuple[Piece, ...]
    origins: tuple[int, ...]
    dropped: tuple[Mapping[str, str], ...]


def keep(names: Sequence[str], found: Iterable[list[Piece] | DataError], max_length: int, *, paired: bool) -> Kept:
    """The documents that hold something to learn, and the rows that do not."""
    kept: list[tuple[str, Piece, Piece | None, int]] = []
    dropped: list[dict[str, str]] = []
    for place, (name, pieces) in enumerate(zip(names, found)):
        if isinstance(pieces, DataError):
            dropped.append({"file": name, "why": str(pieces)})
        elif paired and all(piece.learn.any() for piece in pieces):
            kept.append((name, pieces[0], pieces[1], place))
        elif not paired and any(piece.learn.any() for piece in pieces):
            whole = [piece for piece in pieces if piece.learn.any()]
            kept += [(name if not number else f"{name}#{number}", piece, None, place) for number, piece in enumerate(whole)]
        else:
            longest = max(len(piece.ids) + piece.cut for piece in pieces)
            dropped.append({"file": name, "why": f"nothing to learn is left of its {longest} tokens within text.max_length={max_length}"})
    columns = list(zip(*kept)) if kept else [(), (), (), ()]
    return Kept(columns[0], columns[1], columns[2] if paired else (), columns[3], tuple(dropped))


def check_kept(where: str, kept: Mapping[str, Kept], policy: str) -> None:
    """Rows with nothing to learn end the run with the list unless the configuration skips them; a split without any row always does.

    Raises:
      DataError: there are some and the policy is "error", or nothing is left of a split.
    """
    dropped = [(name, entry) for name, part in kept.items() for entry in part.dropped]
    empty = next((name for name, part in kept.items() if not part.pieces), None)
    if dropped and (policy == "error" or empty is not None):
        shown = "\n".join(f"  {entry['file']} ({name}): {entry['why']}" for name, entry in dropped[:_SHOWN])
        more = f"\n  ... and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
        hint = "allow more with text.max_length" + ("" if empty else ", or leave them out: data.bad_files='skip'")
        raise DataError(f"{where}: there is nothing to learn in {len(dropped)} rows:\n{shown}{more}\n{hint[0].upper()}{hint[1:]}.")
    if empty is not None:
        raise DataError(f"{where}: the split {empty} has nothing to learn")


def entry(kept: Kept, rows: int, sequences: int, padding: float) -> dict[str, Any]:
    """A split's line of the ledger."""
    pieces = (*kept.pieces, *kept.seconds)
    return {
        "rows": rows,
        "documents": len(kept.pieces),
        "sequences": sequences,
        "tokens": sum(len(piece.ids) for piece in pieces),
        "supervised_tokens": sum(int(piece.learn.sum()) for piece in pieces),
        "truncated": sum(piece.cut > 0 for piece in pieces),
        "truncated_tokens": sum(piece.cut for piece in pieces),
        "supervised_tokens_lost": sum(piece.lost for piece in pieces),
        "tokens_across_prompt_and_answer": sum(piece.joins for piece in pieces),
        "dropped": len(kept.dropped),
        "padding_share": padding,
    }


def padding_share(lengths: np.ndarray, buckets: Sequence[int]) -> float:
    """Share of the places that hold no token when every row is padded to its bucket."""
    padded = np.asarray(buckets)[np.searchsorted(buckets, lengths)]
    return 1 - float(lengths.sum() / padded.sum()) if len(lengths) else 0.0


def ledger_warnings(ledger: Mapping[str, Mapping[str, Any]], max_length: int) -> list[str]:
    """What a person should know before step 1."""
    train = ledger["train"]
    lost, learnt = train["supervised_tokens_lost"], train["supervised_tokens"]
    found = []
    if lost > _CUT * (lost + learnt):
        found.append(
            f"{train['truncated']} training texts are longer than {max_length} tokens and were cut: "
            f"{lost:,} of {lost + learnt:,} tokens to be learnt are lost; text.max_length may allow more"
        )
    dropped = {name: part["dropped"] for name, part in ledger.items() if part["dropped"]}
    if dropped:
        told = ", ".join(f"{count} of {name}" for name, count in dropped.items())
        found.append(f"rows with nothing to learn were left out (rejected.jsonl names them): {told}")
    return found
