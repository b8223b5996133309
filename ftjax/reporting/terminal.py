"""The terminal during a run: a live view where there is a real terminal, plain parseable lines everywhere else.

The loop only stores a dict (`update`); rich draws it from its own thread a few times a second, so a slow terminal never holds up a step.
Whatever came from outside (class names, file names, error texts) is shown as text: neither markup nor escape sequences in it have any effect.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ftjax.errors import ConfigError, did_you_mean
from ftjax.reporting import summary as _summary
from ftjax.reporting import wording

Mode = Literal["auto", "live", "plain", "none"]
MODES = ("auto", "live", "plain", "none")
REFRESH_PER_SECOND = 8


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel, where a redrawn view would flood the cell."""
    return "ipykernel" in sys.modules


def default_console() -> Console:
    """Standard output; in a notebook as plain text, so that rich neither needs widgets nor makes one HTML block per line."""
    return Console(file=sys.stdout, force_jupyter=False, force_terminal=False, width=120) if in_notebook() else Console()


def resolve_mode(mode: Mode, console: Console) -> Literal["live", "plain", "none"]:
    """What `mode` means here: live only on an interactive terminal that can redraw lines (not a pipe, not TERM=dumb, not a notebook, in auto not in CI).

    Raises:
      ConfigError: there is no such mode.
    """
    if mode not in MODES:
        raise ConfigError(f"report.progress={mode!r} is not a mode; {did_you_mean(str(mode), MODES)}")
    if mode in ("none", "plain"):
        return mode
    able = console.is_terminal and not console.is_dumb_terminal and console.is_interactive and not in_notebook()
    return "live" if able and (mode == "live" or not os.environ.get("CI")) else "plain"


def plain_line(step: int, total_steps: int, values: Mapping[str, Any]) -> str:
    """One line of `name value` pairs that a script can read: `step 120/500 loss 0.4123 lr 3e-04 ...`.

    >>> plain_line(120, 500, {"loss": 0.41234, "learning_rate": 3e-4, "validation/accuracy": 0.9312})
    'step 120/500 loss 0.4123 lr 3e-04 validation/accuracy 0.9312'
    """
    parts = [f"step {step}/{total_steps}"]
    parts += [_plain_pair(name, value) for name, value in values.items() if name != "skipped" or value]
    return " ".join(parts)


def _plain_pair(name: str, value: Any) -> str:
    if name == "skipped" and wording.is_finite(value):
        return f"skipped {value:.0f}"
    if name == "learning_rate":
        return f"lr {wording.number(value)}"
    if name == "input_wait" and wording.is_finite(value):
        return f"input_wait {100 * value:.0f}%"
    if name == "eta":
        return f"eta {wording.clock(value)}"
    if name == "examples_per_second" and wording.is_finite(value):
        return f"examples/s {value:.0f}"
    if isinstance(value, int) or name.startswith(("travel/", "update/")):
        return f"{name} {wording.number(value)}" if isinstance(value, float) else f"{name} {value}"
    return f"{name} {value:.4f}" if wording.is_finite(value) else f"{name} {value}"


def _scalar(value: Any) -> Any:
    """Scalars of NumPy and JAX as Python numbers."""
    return value.item() if hasattr(value, "item") else value


def _canonical(name: str) -> str:
    """`"validation_accuracy"` -> `"validation/accuracy"`."""
    kind, _, rest = name.partition("_")
    return f"{kind}/{rest}" if kind in ("validation", "best", "travel") and name != "best_step" else name


def _styled(label: str, shown: str, style: str = "bold") -> Text:
    return Text.assemble((f"{label} ", "dim"), (shown, style))


def _facts(values: Mapping[str, Any]) -> list[Text]:
    """Second line of the live view: what the last step said. A loss that is not finite is red and stays what it is."""
    facts = []
    if "loss" in values:
        loss = values["loss"]
        facts.append(_styled("loss", f"{loss:.4f}" if wording.is_finite(loss) else str(loss), "bold" if wording.is_finite(loss) else "bold red"))
    if values.get("skipped"):
        facts.append(_styled("skipped steps", wording.count(values["skipped"]), "bold red"))
    if "learning_rate" in values:
        facts.append(_styled("learning rate", wording.number(values["learning_rate"]), "default"))
    if "examples_per_second" in values:
        facts.append(_styled("examples/s", wording.count(values["examples_per_second"]), "default"))
    if "input_wait" in values:
        wait = values["input_wait"]
        facts.append(_styled("waiting for data", wording.percent(wait, 0), "yellow" if wording.is_finite(wait) and wait > 0.2 else "default"))
    return facts


def _validation_facts(values: Mapping[str, Any], best: Mapping[str, tuple[float, int | None]]) -> list[Text]:
    """Third line: each validation metric, its best so far, and how far the weights have travelled."""
    facts = []
    for name, value in values.items():
        if name.startswith("validation/"):
            fact = _styled(name.replace("/", " "), wording.metric(name, value), "bold green")
            if name in best:
                value, step = best[name]
                fact.append(f"  best {wording.metric(name, value)}" + ("" if step is None else f" at {step}"), style="dim")
            facts.append(fact)
        elif name.startswith("travel/"):
            facts.append(_styled(name.replace("/", " "), wording.number(value, 2), "default"))
    return facts


def _row(facts: Sequence[Text]) -> Text:
    return Text("   ").join(facts)


class Progress:
    """What a run shows while it goes on; a context manager.

    >>> with Progress("plain", total_steps=500) as progress:
    ...     progress.update(120, {"loss": 0.4})
    step 120/500 loss 0.4000
    """

    def __init__(
        self,
        mode: Mode = "auto",
        total_steps: int = 0,
        console: Console | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Choose the view; nothing is printed yet.

        Args:
          mode: "auto", "live", "plain" or "none" (silent).
          total_steps: optimiser steps of the whole run.
          console: where to print; None: standard output.
          clock: seconds, for the time left where the loop does not give it.

        Raises:
          ConfigError: there is no such mode.
        """
        self.console = console if console is not None else default_console()
        self.mode = resolve_mode(mode, self.console)
        self.total_steps = total_steps
        self._clock = clock
        self._lock = threading.Lock()
        self._step = 0
        self._values: dict[str, Any] = {}
        self._best: dict[str, tuple[float, int | None]] = {}
        self._first: tuple[int, float] | None = None
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self.mode == "live":
            self._live = Live(get_renderable=self._view, console=self.console, refresh_per_second=REFRESH_PER_SECOND)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def start(self, lines: Iterable[str]) -> None:
        """Print what the run is, line by line, the first in bold."""
        for row, line in enumerate(lines):
            self._print(Text(wording.printable(line), style="bold" if row == 0 else ""))

    def update(self, step: int, values: Mapping[str, Any] | None = None) -> None:
        """The run is at `step`; `values` are what is new.

        Known names: loss, learning_rate, skipped (steps that were not applied; 0 is not shown), examples_per_second, input_wait (share of the time), eta
        (seconds), validation/<metric>, best/<metric> (otherwise the best value seen here), best_step, travel/<group>; `_` does for the first `/`. The live
        view keeps the last value of each. In plain mode a call with values prints one line; a call without only moves the step.
        """
        fresh = {_canonical(name): _scalar(value) for name, value in (values or {}).items()}
        with self._lock:
            self._step = step
            self._first = self._first or (step, self._clock())
            self._values.update(fresh)
            self._note_best(step, fresh)
        if fresh and self.mode == "plain":
            self._print(Text(plain_line(step, self.total_steps, fresh)))

    def message(self, text: str) -> None:
        """Print `text` above the bar."""
        self._print(Text(wording.printable(text)))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Print a table; columns whose cells are all numbers are aligned to the right."""
        self._print(_summary.table(title, columns, rows))

    def panel(self, text: str, title: str = "", style: str = "") -> None:
        """Print `text` in a frame."""
        self._print(_summary.panel(Text(wording.printable(text)), title, style))

    def summary(self, result: Mapping[str, Any], report: str | os.PathLike[str] | None = None) -> None:
        """Print the result of the run (the content of result.json): status, test metrics beside the baselines, verdict, where the report is."""
        self._print(_summary.summary(result, report))

    def _print(self, renderable: RenderableType) -> None:
        if self.mode != "none":
            self.console.print(renderable, soft_wrap=isinstance(renderable, Text), highlight=False)

    def _note_best(self, step: int, fresh: Mapping[str, Any]) -> None:
        for name, value in fresh.items():
            if name.startswith("validation/") and wording.is_finite(value):
                old = self._best.get(name)
                better = old is None or (value < old[0] if wording.lower_is_better(name) else value > old[0])
                if better:
                    self._best[name] = (value, step)
        for name, value in fresh.items():
            if name.startswith("best/") and wording.is_finite(value):
                self._best[name.replace("best/", "validation/", 1)] = (value, self._values.get("best_step"))

    def _seconds_left(self) -> float | None:
        """The loop's own estimate, or the pace since the first update (which compilation preceded)."""
        if "eta" in self._values:
            return self._values["eta"]
        if self._first is None or self._step <= self._first[0]:
            return None
        pace = (self._clock() - self._first[1]) / (self._step - self._first[0])
        return pace * (self.total_steps - self._step)

    def _view(self) -> RenderableType:
        """The live view; called by rich's thread."""
        with self._lock:
            step, values, best, left = self._step, dict(self._values), dict(self._best), self._seconds_left()
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        for _ in range(3):
            grid.add_column(no_wrap=True)
        share = step / self.total_steps if self.total_steps else 0.0
        grid.add_row(
            ProgressBar(total=max(1, self.total_steps), completed=step),
            Text(f"step {step}/{self.total_steps}", style="bold"),
            Text(f"{100 * share:3.0f}%", style="dim"),
            _styled("time left", wording.clock(left), "default"),
        )
        return Group(grid, *(_row(facts) for facts in (_facts(values), _validation_facts(values, best)) if facts))
