r"""Ordered rules `(path pattern, value)`: how a few lines of a configuration give every parameter its coefficient.

First line of the law: `c(path, step)` starts here. A pattern is a regular expression for the whole path, or `group:` and one for the whole name of
the path's group (`group:stem|block_0`), which means the same in every model family. The first match wins.
Every rule must apply somewhere and every path must be covered; what would silently do nothing is an error that says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import jax
import numpy as np

from ftjax.config import Rules, Value
from ftjax.errors import ConfigError, did_you_mean

GROUP = "group:"


def resolve_rules(rules: Rules, paths: Iterable[str], what: str, group_of: Callable[[str], str] | None = None) -> dict[str, tuple[int, Value]]:
    """The rule that each path obeys.

    Args:
      rules: ordered `(pattern, value)`; a pattern matches a whole path (`re.fullmatch`), or after `group:` a whole group.
      paths: every path of the tree.
      what: the key of the configuration, for messages.
      group_of: group of a path; without it there are no groups.

    Returns:
      `{path: (index of the rule, its value)}` in the order of `paths`.

    Raises:
      ConfigError: a pattern that is no regular expression, matches nothing or is wholly taken by earlier rules;
        a value that is not a number >= 0 or a schedule of them, or never differs from zero; a path that no rule covers.

    >>> resolve_rules(((r"head/.*", 1.0), (r".*", 0)), ["stem/kernel", "head/kernel"], "coefficient.rules")
    {'stem/kernel': (1, 0), 'head/kernel': (0, 1.0)}
    """
    groups = {path: group_of(path) if group_of else "" for path in paths}
    matched = [_matches(rule, index, groups, what) for index, rule in enumerate(rules)]
    winner = {path: next((index for index, taken in enumerate(matched) if path in taken), None) for path in groups}
    for index in range(len(rules)):
        if index not in winner.values():
            raise ConfigError(_shadowed(rules, index, matched, what))
    uncovered = [path for path, index in winner.items() if index is None]
    if uncovered:
        raise ConfigError(f"{what}: no rule covers {_listed(uncovered)}; end with a rule for the rest, such as ('.*', 1.0)")
    return {path: (index, rules[index][1]) for path, index in winner.items() if index is not None}


def first_match(values: Mapping[str, Any], paths: Iterable[str], what: str, group_of: Callable[[str], str]) -> dict[str, Any]:
    """The value of the first pattern that matches each path; paths that none matches are left out, and a value may be anything.

    Raises:
      ConfigError: a pattern that is no regular expression or matches nothing.

    >>> first_match({"group:head": "a", ".*/bias": "b"}, ["stem/bias", "stem/kernel", "head/bias"], "values", lambda path: path.split("/")[0])
    {'stem/bias': 'b', 'head/bias': 'a'}
    """
    groups = {path: group_of(path) for path in paths}
    matched = [(value, _found(pattern, groups, f"{what}: {pattern!r}")) for pattern, value in values.items()]
    winners = {path: [value for value, taken in matched if path in taken][:1] for path in groups}
    return {path: winner[0] for path, winner in winners.items() if winner}


def is_zero(value: Any) -> bool:
    """Whether a value is the static 0 that freezes by structure: the number, or an array of nothing else.

    A schedule is not, even where it is zero, nor is a traced array: nobody knows its values yet.
    """
    if isinstance(value, (np.ndarray, jax.Array)):
        return not isinstance(value, jax.core.Tracer) and not np.any(np.asarray(value))
    return isinstance(value, Real) and value == 0


def _matches(rule: tuple[str, Value], index: int, groups: Mapping[str, str], what: str) -> set[str]:
    """All paths that one rule matches by themselves or by their group, earlier rules or not, after checking the rule itself."""
    pattern, value = rule
    where = f"{what}: rule {index + 1} {pattern!r}"
    _check_value(value, where)
    return _found(pattern, groups, where)


def _found(pattern: str, groups: Mapping[str, str], where: str) -> set[str]:
    """The paths that a pattern matches by themselves or by their group."""
    by_group = pattern.startswith(GROUP)
    try:
        # The prefix is no part of the expression: in `group:a|b` it belongs to both.
        compiled = re.compile(pattern.removeprefix(GROUP))
    except re.error as error:
        raise ConfigError(f"{where} is not a regular expression: {error}") from error
    found = {path for path, group in groups.items() if compiled.fullmatch(group if by_group else path)}
    if not found:
        near = {GROUP + group for group in groups.values()} if by_group else _patterns_near(groups)
        raise ConfigError(f"{where} matches no parameter; {did_you_mean(pattern, near, show=6)}")
    return found


def _check_value(value: Value, where: str) -> None:
    """A number >= 0, or a schedule of such numbers that is somewhere above 0."""
    scheduled = isinstance(value, (tuple, list))
    numbers = [point[-1] if isinstance(point, (tuple, list)) and point else point for point in value] if scheduled else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, Real):
            raise ConfigError(f"{where} has value {number!r}; a value is a number or a schedule (('10%', 1.0), ...)")
        if not (math.isfinite(number) and number >= 0):
            raise ConfigError(f"{where} has value {number!r}; it must be finite and 0 or more (0 freezes)")
    if scheduled and not any(numbers):
        raise ConfigError(f"{where} has a schedule that is never above 0; write the number 0 to freeze")


def _shadowed(rules: Rules, index: int, matched: list[set[str]], what: str) -> str:
    """Which earlier rules leave nothing to rule `index`."""
    before = [f"rule {i + 1} {rules[i][0]!r}" for i in range(index) if matched[i] & matched[index]]
    return f"{what}: rule {index + 1} {rules[index][0]!r} never applies: {_listed(before)} before it takes all it matches; move it up or delete it"


def _patterns_near(paths: Iterable[str]) -> set[str]:
    """Patterns that would match: every path, everything below a prefix, everything with a last part."""
    parts = [path.split("/") for path in paths]
    below = {"/".join([*path[:depth], ".*"]) for path in parts for depth in range(1, len(path))}
    return {*map("/".join, parts), *below, *(f".*/{path[-1]}" for path in parts)}


def _listed(names: Sequence[str], show: int = 8) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(names) - show} more" if len(names) > show else ""
    return ", ".join(names[:show]) + more
