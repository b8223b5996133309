"""What several parts of the schema are written in: coefficients, tables of them, durations."""

from __future__ import annotations

Value = float | tuple[tuple[str, float], ...]
"""A coefficient: a number, or a schedule as points `((when, value), ...)` with linear interpolation; `when` is a duration."""

Rules = tuple[tuple[str, Value], ...]
"""An ordered table of `(pattern, value)`; the first match wins. A pattern is a regular expression for the whole path, or `group:` and one for the group."""

Duration = str
"""`"3 epochs"`, `"500 steps"`, `"2000 examples"` or `"10%"` (of the whole run)."""
