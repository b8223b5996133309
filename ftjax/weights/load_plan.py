"""The load plan: what becomes of every tensor of a file and where every leaf of the model comes from, decided before anything moves.

`planning.py` makes one; this file says what it is, carries it out and writes it down (`load.json`).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from ftjax.errors import WeightsError
from ftjax.weights.item_rows import ItemRows
from ftjax.weights.maps.base import Conversion
from ftjax.weights.peft import AdapterFile
from ftjax.weights.source import Source

Action = Literal["loaded", "converted", "resized", "matched", "initialised"]
ACTIONS: tuple[Action, ...] = ("loaded", "converted", "resized", "initialised")
MATCHED: Action = "matched"
"""A table of items whose rows went where their items are; counted where there is one."""


@dataclasses.dataclass(frozen=True)
class LoadRow:
    """Where one leaf of the model comes from; `source` is None for an initialised one."""

    target: str
    shape: tuple[int, ...]
    source: str | None
    source_shape: tuple[int, ...] | None
    action: Action
    why: str


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How one leaf is made from its tensor: change the layout, perhaps resize (to another grid of patches), change the type."""

    source: str
    conversion: Conversion
    shape: tuple[int, ...]
    dtype: np.dtype
    resize: Callable[[np.ndarray], np.ndarray] | None = None
    items: ItemRows | None = None
    """Where the leaf is a table of items: which rows go where."""

    def read(self, source: Source, initial: np.ndarray | None = None) -> np.ndarray:
        """The leaf's values.

        Raises:
          WeightsError: the tensor cannot be read, or holds a number that is not finite in the leaf's type.
        """
        array = self.conversion.apply(source.tensors[self.source])
        if self.resize is not None:
            array = self.resize(array)
        if self.items is not None:
            array = self.items.moved(array, np.zeros(self.shape, self.dtype) if initial is None else initial)
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype=self.dtype)
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise WeightsError(f"{source.location}: {self.source!r} holds {bad} of {array.size} numbers that are not finite as {self.dtype}")
        return array.reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class LoadPlan:
    """Every leaf of the model (`rows`) and every tensor of the file that is left out (`ignored`), with the reason."""

    source: Source = dataclasses.field(repr=False)
    name_map: str
    rows: tuple[LoadRow, ...]
    ignored: tuple[tuple[str, str], ...]
    transfers: Mapping[str, Transfer] = dataclasses.field(repr=False)
    items: ItemRows | None = dataclasses.field(default=None, repr=False)
    """Of a recommender's tables: where every item's row comes from."""
    adapter: Mapping[str, Any] | None = None
    """The adapter file that the run begins from on top of it, as JSON; its rows are among `rows`."""

    def with_adapter(self, where: str, adapter: AdapterFile) -> LoadPlan:
        """The plan as it is told: with a row for every array of an adapter file, in place of what it stands for.

        Args:
          where: the adapter's folder.
          adapter: as it was put on the model.
        """
        arrays = {**adapter.saved, **adapter.tensors}
        added = [LoadRow(path, tuple(array.shape), adapter.sources.get(path), None, "loaded", f"of the adapter {where}") for path, array in arrays.items()]
        rows = (*(row for row in self.rows if row.target not in adapter.saved), *added)
        told = {"source": where, "kind": adapter.kind, "ignored": [{"source": name, "why": why} for name, why in adapter.left_out]}
        return dataclasses.replace(self, rows=rows, adapter=told)

    def apply(self, initial: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Carry the plan out: every leaf by its path, read one tensor at a time.

        Args:
          initial: a freshly initialised model; only its initialised leaves are used.

        Raises:
          WeightsError: `initial` has other paths than the plan, or a tensor cannot be read or is not finite.
        """
        odd = sorted(initial.keys() ^ {row.target for row in self.rows})
        if odd:
            raise WeightsError(f"{self.source.location}: the plan was made for another model; they differ in {', '.join(odd[:5])}")
        return {
            row.target: np.asarray(initial[row.target]) if row.source is None else self.transfers[row.target].read(self.source, np.asarray(initial[row.target]))
            for row in self.rows
        }

    def verify(self) -> None:
        """Read every tensor once and keep none.

        Raises:
          WeightsError: a tensor cannot be read or is not finite.
        """
        for transfer in self.transfers.values():
            transfer.read(self.source)

    def counts(self) -> dict[str, int]:
        """Leaves by action, and tensors ignored."""
        actions = collections.Counter(row.action for row in self.rows)
        matched = {MATCHED: actions[MATCHED]} if actions[MATCHED] else {}
        return {**{action: actions[action] for action in ACTIONS}, **matched, "ignored": len(self.ignored)}

    def to_json(self) -> dict[str, Any]:
        """The content of load.json."""
        rows = [{**dataclasses.asdict(row), "shape": list(row.shape), "source_shape": row.source_shape and list(row.source_shape)} for row in self.rows]
        return (
            {
                "source": self.source.location,
                "format": self.source.format,
                "sha256": self.source.sha256,
                "name_map": self.name_map,
                "metadata": dict(self.source.metadata),
                "rows": rows,
                "ignored": [{"source": name, "why": why} for name, why in self.ignored],
                "summary": self.counts(),
            }
            | ({"adapter": dict(self.adapter)} if self.adapter else {})
            | ({} if self.items is None else {"items": self.items.to_json()})
        )

    def summary(self) -> str:
        """One paragraph: the file, the counts, and the reason of everything that is not simply loaded."""
        counts = self.counts()
        numbers = ", ".join(f"{counts[action]} {action}" for action in counts if counts[action])
        reasons = [row for row in self.rows if row.action in ("resized", MATCHED, "initialised")]
        told = "".join(f" {row.target} is {row.action}: {row.why}." for row in reasons[:4])
        more = f" {len(reasons) - 4} more are resized, matched or initialised." if len(reasons) > 4 else ""
        begun = f" It begins from the {self.adapter['kind']} of {self.adapter['source']}." if self.adapter else ""
        return f"{self.source.location} ({self.source.format}, {self.name_map} names, sha256 {self.source.sha256[:12]}): {numbers}.{told}{more}{begun}"

    def lines(self) -> tuple[str, ...]:
        """A table for the terminal, one line for each leaf and each ignored tensor."""
        width = max((len(row.target) for row in self.rows), default=0)
        table = [f"{row.target:<{width}}  {row.action:<11}  {'x'.join(map(str, row.shape)) or '()'}  {_origin(row)}".rstrip() for row in self.rows]
        return (*table, *(f"{name}  ignored: {why}" for name, why in self.ignored))


def _origin(row: LoadRow) -> str:
    return " ".join(part for part in (f"<- {row.source}" if row.source else "", f"({row.why})" if row.why else "") if part)
