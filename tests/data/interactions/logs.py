"""Small logs that the tests write, and reading them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ftjax.config import DataConfig, RecommendationConfig, TextConfig
from ftjax.data import Dataset, collect_interactions

USERS = 6
"""Of `events`: each has five events, one a day."""


def events(users: int = USERS, length: int = 5, items: int = 7) -> list[tuple[str, str, int]]:
    """(user, item, time): no user has an item twice, no two events are at the same time."""
    return [(f"u{user}", f"i{(3 * user + place) % items}", 1_000_000_000 + 86_400 * place + 60 * user) for user in range(users) for place in range(length)]


def write(path: Path, rows: Iterable[Sequence[Any]], *, header: Sequence[str] = ("user", "item", "time"), between: str = ",") -> Path:
    """A delimited file; without a header where that is empty."""
    lines = [between.join(map(str, row)) for row in ([header] if header else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def collect(path: Path | str, *, seed: int = 0, bad_files: Any = "error", text: TextConfig | None = None, **settings: Any) -> Dataset:
    """The data set of a log; `settings` are of `recommendation`, and `validation_fraction` and `test_fraction` of `data`."""
    shares = {name: settings.pop(name) for name in ("validation_fraction", "test_fraction") if name in settings}
    data = DataConfig(source="interactions", path=str(path), bad_files=bad_files, **shares)
    return collect_interactions(data, text or TextConfig(), RecommendationConfig(**settings), seed)


def known(dataset: Dataset, split: str) -> dict[str, tuple[list[str], list[str]]]:
    """Of each row of a split the ids of what it knows and of what came next."""
    rows = dataset.splits[split]
    assert rows.histories is not None
    ids = rows.histories.catalogue.ids
    return {
        name: tuple([ids[item - 1] for item in part] for part in (rows.histories.known(row), rows.histories.targets(row)))  # type: ignore[misc]
        for row, name in enumerate(rows.ids)
    }
