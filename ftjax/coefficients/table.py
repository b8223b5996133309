"""The coefficient table: one row per parameter, resolved before step 1, printed, saved, and obeyed by the chain.

This is `c(path, step)` of the law, with its companions: who decays, who is anchored, who is live. A row whose rule is the number 0 is still by
structure; everything else about a row is arithmetic with traced multipliers (`Hyper`). The table knows paths, shapes and an order of groups, no model.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ftjax.coefficients.anchors import forces, resolve_anchors
from ftjax.coefficients.hyper import Hyper, coefficient_rules, numbers
from ftjax.coefficients.rules import first_match, is_zero, resolve_rules
from ftjax.coefficients.schedules import Schedule, evaluate, on_clock
from ftjax.config import AnchorConfig, Config, Duration, Rules, Value
from ftjax.durations import Clock, to_steps
from ftjax.errors import ConfigError

_TOKENS = re.compile(r"(.*/)?((class|distillation)_token|position)")


@dataclasses.dataclass(frozen=True)
class Row:
    """What the law says about one parameter."""

    path: str
    shape: tuple[int, ...]
    group: str
    rule: int
    """Which rule gave the value; its traced multiplier is `hyper["coefficient"][rule]`."""
    value: Schedule
    """The rule's value over steps; the number 0 makes the row still."""
    depth: int
    """Distance from the head, the exponent of `hyper["layer_decay"]`."""
    head: bool
    """Whether `hyper["head_factor"]` applies."""
    decay: Schedule
    """Multiplier of `hyper["weight_decay"]`."""
    anchor: Schedule
    """How strongly theta0 holds it: multiplies `hyper["pull"]` and `hyper["select"]`, divides `hyper["ball"]`; the number 0 leaves it free."""
    new: bool
    """Whether it has no pretrained value (a new head): nothing can hold it."""
    why: str
    """The rules behind the numbers, in words."""

    @property
    def live(self) -> bool:
        """Whether this parameter trains: not still by structure."""
        return not is_zero(self.value)

    @property
    def parameters(self) -> int:
        """Number of scalars."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Table:
    """All rows in tree order and the groups in depth order; hashable unless a value is an array."""

    rows: tuple[Row, ...]
    groups: tuple[str, ...]
    total_steps: int
    hyper: dict[str, Any] = dataclasses.field(compare=False)
    """The configured multipliers, for display; training obeys the `hyper` given to each step."""

    @property
    def live_paths(self) -> frozenset[str]:
        """Paths of the parameters that train."""
        return frozenset(row.path for row in self.rows if row.live)

    def to_json(self) -> dict[str, Any]:
        """The content of `coefficients.json`: every row with its coefficient at the start, the middle and the end of the run."""
        live = sum(row.parameters for row in self.rows if row.live)
        total = sum(row.parameters for row in self.rows)
        return {"rows": [_row_json(self, row) for row in self.rows], "groups": list(self.groups), "parameters": {"total": total, "live": live}}

    def lines(self) -> list[str]:
        """The table as a person reads it: a title, one line per (group, coefficient), a sum, and what holds the anchored parameters if anything does."""
        cells: list[tuple[str, ...]] = [("group", "coefficient", "parameters", "arrays", "")]
        for group in self.groups:
            rows = [row for row in self.rows if row.group == group]
            shown = {row.path: _shown(_over_time(self, row)) for row in rows}
            for text in dict.fromkeys(shown.values()):
                same = [row for row in rows if shown[row.path] == text]
                cells.append((group, text, f"{sum(row.parameters for row in same):,}", str(len(same)), "live" if same[0].live else "still"))
        return [*_aligned(cells), _sum_line(self), *_anchor_line(self)]


def coefficient(row: Row, step: Int[Array, ""], hyper: Hyper) -> Float[Array, ""] | float:
    """The law's `c(path, step)`.

    c = value(step) * hyper.coefficient[rule] * hyper.layer_decay ** depth * (hyper.head_factor if head)
    """
    value = evaluate(row.value, step) * hyper["coefficient"][row.rule] * hyper["layer_decay"] ** row.depth
    return value * hyper["head_factor"] if row.head else value


def depths(groups: Sequence[str], convention: str = "beit") -> dict[str, int]:
    """Exponent of layer decay for each group.

    With L blocks, as BEiT and MAE count (MAE `util/lr_decay.py`): 0 for all that comes after the blocks (final norm, head), 1 for the top block, L for
    the first, L + 1 for all before it. ELECTRA (`model/optimization.py`) gives the blocks and what is before them one more.

    >>> depths(("stem", "block_0", "block_1", "norm", "head"))
    {'stem': 3, 'block_0': 2, 'block_1': 1, 'norm': 0, 'head': 0}
    >>> depths(("stem", "block_0", "block_1", "norm", "head"), "electra")
    {'stem': 4, 'block_0': 3, 'block_1': 2, 'norm': 0, 'head': 0}
    """
    blocks = [group for group in groups if group.startswith("block_")]
    before = groups[: groups.index(blocks[0])] if blocks else groups[:1]
    counted = {group: len(blocks) - blocks.index(group) if group in blocks else (len(blocks) + 1) * (group in before) for group in groups}
    return {group: depth + (convention == "electra" and depth > 0) for group, depth in counted.items()}


def build_table(
    config: Config,
    shapes: Mapping[str, tuple[int, ...]],
    groups: Sequence[str],
    group_of: Callable[[str], str],
    clock: Clock,
    *,
    new: Collection[str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Table:
    """Resolve the configuration into one row per parameter.

    Args:
      config: `coefficient`, `anchor` and the hyperparameters; open values take what changes nothing.
      shapes: shape of every parameter by path, in tree order.
      groups: groups of the model from input to output; the last one is the head.
      group_of: group of a path.
      clock: what the durations in schedules mean; needs `total_steps`.
      new: paths without a pretrained value; None: those of the head.
      values: by pattern what a configuration file cannot say: an optax schedule (a function of the step) or an array that broadcasts to the
        parameter (an element mask, one value per layer of stacked ones); they take the place of the rules' values.

    Raises:
      ConfigError: rules that do not fit the paths (`resolve_rules`), schedules that do not fit the run, an anchor on what has no pretrained
        value, or nothing live.
    """
    if clock.total_steps is None:
        raise ValueError("a table needs the length of the run: Clock.total_steps")
    rules = coefficient_rules(config)
    given = first_match(values or {}, shapes, "coefficients", group_of)
    ruled = resolve_rules(rules, shapes, "coefficient.rules", group_of)
    decays = _decays(config.coefficient.decay_rules, shapes, group_of)
    new = {path for path in shapes if group_of(path) == groups[-1]} if new is None else new
    anchors = resolve_anchors(config.anchor, shapes, group_of, new)
    exponents = depths(groups, config.coefficient.layer_decay_convention)
    starts = _starts(config.coefficient.unfreeze_every, groups, clock)
    rows = []
    for path, shape in shapes.items():
        (rule, value), (decay, decay_why), (anchor, anchor_why), group = ruled[path], decays[path], anchors[path], group_of(path)
        head = group == groups[-1]
        rows.append(
            Row(
                path=path,
                shape=tuple(shape),
                group=group,
                rule=rule,
                value=_from(on_clock(given.get(path, value), clock, "coefficient.rules"), starts[group]),
                depth=exponents[group],
                head=head,
                decay=on_clock(decay, clock, "coefficient.decay_rules"),
                anchor=on_clock(anchor, clock, "anchor.rules"),
                new=path in new,
                why=f"rule {rule + 1} {rules[rule][0]!r}; decay: {decay_why}; anchor: {anchor_why}",
            )
        )
    if not any(row.live for row in rows):
        raise ConfigError("coefficient.rules: all-frozen: every parameter has coefficient 0, so nothing can learn; give one rule a value above 0")
    _refuse_idle_anchor(config.anchor, rows)
    _refuse_overshoot(config, rows, clock.total_steps)
    return Table(rows=tuple(rows), groups=tuple(groups), total_steps=clock.total_steps, hyper=numbers(config))


def _refuse_idle_anchor(anchor: AnchorConfig, rows: Sequence[Row]) -> None:
    """A force that holds nothing that trains does nothing; it says so."""
    active = forces(anchor)
    if active and not any(row.live and not is_zero(row.anchor) for row in rows):
        held = "pretrained matrices" if anchor.rules is None else "what anchor.rules names"
        raise ConfigError(f"anchor.{active[0]} holds {held}, and none of that trains; leave it out, or name parameters that train in anchor.rules")


def _refuse_overshoot(config: Config, rows: Sequence[Row], total_steps: int) -> None:
    """A step of the pull multiplies x by 1 - lr * c * pull; from lr * c * pull = 2 on it grows from step to step."""
    hyper, steps = numbers(config), np.linspace(0, total_steps - 1, 65).astype(int)
    if not hyper["pull"]:
        return
    held = [row for row in rows if row.live and not is_zero(row.anchor)]
    with jax.ensure_compile_time_eval():
        largest = max(float(jnp.max(coefficient(row, jnp.asarray(steps), hyper) * evaluate(row.anchor, jnp.asarray(steps)))) for row in held)
    rate = hyper["learning_rate"] * largest
    if rate * hyper["pull"] >= 2:
        raise ConfigError(
            f"anchor.pull={hyper['pull']:g} overshoots: learning rate x coefficient x pull is {rate * hyper['pull']:.3g}, and from 2 on every step throws a "
            f"parameter further past its pretrained value; below {2 / rate:.3g} it is stable here, and 1 / (learning rate x pull) is its memory in steps"
        )


def _starts(every: Duration | None, groups: Sequence[str], clock: Clock) -> dict[str, int]:
    """First step at which each group may move: the head and what follows the blocks at once, then one block after the other, the stem last.

    Gradual unfreezing of Howard and Ruder 2018 (arXiv 1801.06146).
    """
    if every is None:
        return dict.fromkeys(groups, 0)
    steps = to_steps(every, clock, "coefficient.unfreeze_every", minimum=1)
    starts = {group: depth * steps for group, depth in depths(groups).items()}
    last = max(starts.values())
    if clock.total_steps is not None and last >= clock.total_steps:
        raise ConfigError(
            f"coefficient.unfreeze_every: {every!r} is {steps} steps, so {max(starts, key=lambda g: starts[g])} would start at step {last} of a run of "
            f"{clock.total_steps}; at most {clock.total_steps // max(depths(groups).values())} steps reach every group"
        )
    return starts


def _from(value: Schedule, start: int) -> Schedule:
    """A value that is 0 before `start`.

    Raises:
      ConfigError: it is a schedule already.
    """
    if start == 0 or is_zero(value):
        return value
    if not isinstance(value, float):
        raise ConfigError("coefficient.unfreeze_every and a schedule in coefficient.rules both say when a parameter starts; give one of them")
    return ((0, 0.0), (start, 0.0), (start, value))


def _decays(rules: Rules | None, shapes: Mapping[str, tuple[int, ...]], group_of: Callable[[str], str]) -> dict[str, tuple[Value, str]]:
    """Multiplier of weight decay and its reason, by path: the rules, or matrices and filters yes, vectors and tokens no (as MAE, timm)."""
    if rules is None:
        return {path: _usual_decay(path, shape) for path, shape in shapes.items()}
    resolved = resolve_rules(rules, shapes, "coefficient.decay_rules", group_of)
    return {path: (value, f"rule {index + 1} {rules[index][0]!r}") for path, (index, value) in resolved.items()}


def _usual_decay(path: str, shape: tuple[int, ...]) -> tuple[float, str]:
    """What decays when nobody says."""
    if _TOKENS.fullmatch(path):
        return 0.0, "token, no"
    return (1.0, "matrix, yes") if len(shape) >= 2 else (0.0, "vector, no")


def _over_time(table: Table, row: Row) -> tuple[float, float, float]:
    """The configured coefficient at 0, 50 and 100 % of the run."""
    steps = jnp.array([0, table.total_steps // 2, table.total_steps])
    start, middle, end = np.broadcast_to(coefficient(dataclasses.replace(row, value=_mean(row.value)), steps, table.hyper), 3).tolist()
    return start, middle, end


def _mean(value: Schedule) -> Schedule:
    """An array of values by its mean, to be shown as one number."""
    return float(np.mean(value)) if isinstance(value, (np.ndarray, jax.Array)) else value


def _row_json(table: Table, row: Row) -> dict[str, Any]:
    """One row of `coefficients.json`; weight decay is the strength where its schedule starts, and so is the anchor's share."""
    weight_decay = float(evaluate(_mean(row.decay), jnp.array(0)) * table.hyper["weight_decay"])
    return {
        "path": row.path,
        "shape": list(row.shape),
        "group": row.group,
        "live": row.live,
        "coefficient": dict(zip(("0%", "50%", "100%"), map(_rounded, _over_time(table, row)))),
        "weight_decay": _rounded(weight_decay),
        "anchor": _rounded(float(evaluate(_mean(row.anchor), jnp.array(0)))),
        "new": row.new,
        "parameters": row.parameters,
        "why": row.why,
    }


def _rounded(value: float) -> float:
    """Without the digits that float32 invents."""
    return float(f"{value:.6g}")


def _shown(over_time: tuple[float, float, float]) -> str:
    """`0.65`, or `0 -> 0.5 -> 1` for a schedule."""
    return " -> ".join(f"{value:.3g}" for value in (over_time if len(set(over_time)) > 1 else over_time[:1]))


def _aligned(cells: list[tuple[str, ...]]) -> list[str]:
    """Columns of equal width, names to the left and numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*cells)]
    numeric = (False, False, True, True, False)
    return ["  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(row, widths, numeric)).rstrip() for row in cells]


def _sum_line(table: Table) -> str:
    """How much of the model trains, and how much of that decays."""
    total = sum(row.parameters for row in table.rows)
    live = sum(row.parameters for row in table.rows if row.live)
    decayed = sum(row.parameters for row in table.rows if row.live and not is_zero(row.decay))
    return f"{total:,} parameters, {live:,} live ({live / total:.1%}), {decayed:,} of them with weight decay {table.hyper['weight_decay']:.3g}"


def _anchor_line(table: Table) -> list[str]:
    """The forces towards theta0 that are on, and how many parameters they hold; nothing where all are off."""
    on = [f"{name} {value:.3g}" for name in ("pull", "ball", "select", "mixout") if (value := table.hyper.get(name, 0.0)) not in (0.0, math.inf)]
    anchored = sum(row.parameters for row in table.rows if row.live and not is_zero(row.anchor))
    return [f"{anchored:,} of them anchored by {', '.join(on)}"] if on else []
