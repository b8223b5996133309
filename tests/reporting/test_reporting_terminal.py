"""The terminal: live where it can be, plain and parseable elsewhere, and never a false number."""

from __future__ import annotations

import io
import math
import re
import sys
import threading
import time

import jax.numpy as jnp
import pytest
from reporting_run import result_json
from rich.console import Console

from ftjax.errors import ConfigError
from ftjax.reporting import Progress
from ftjax.reporting.terminal import plain_line, resolve_mode

VALUES = {
    "loss": 0.41234,
    "learning_rate": 3e-4,
    "examples_per_second": 2431.2,
    "input_wait": 0.031,
    "eta": 75.0,
    "validation/accuracy": 0.9312,
    "travel/body": 0.0123,
    "travel/head": 0.42,
}


@pytest.fixture(autouse=True)
def _outside_ci(monkeypatch):
    for name in ("CI", "TTY_INTERACTIVE", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def pipe(width=100):
    return Console(file=io.StringIO(), width=width)


def terminal():
    return Console(file=io.StringIO(), width=100, force_terminal=True, record=True)


def shown(renderable):
    console = Console(file=io.StringIO(), width=100, record=True, force_terminal=True)
    console.print(renderable)
    return console.export_text(styles=False)


def styled(renderable):
    console = Console(file=io.StringIO(), width=100, record=True, force_terminal=True)
    console.print(renderable)
    return console.export_text(styles=True)


def test_plain_mode_prints_one_parseable_line_per_update(tmp_path):
    console = pipe()
    with Progress("plain", 500, console) as progress:
        progress.start(["full: vit_digits on digits"])
        progress.update(110)
        progress.update(120, VALUES)
        progress.update(130, {"loss": 0.3})
    assert console.file.getvalue() == (
        "full: vit_digits on digits\n"
        "step 120/500 loss 0.4123 lr 3e-04 examples/s 2431 input_wait 3% eta 1:15 validation/accuracy 0.9312 travel/body 0.0123 travel/head 0.420\n"
        "step 130/500 loss 0.3000\n"
    )


def test_a_plain_line_parses_into_pairs():
    words = plain_line(7, 10, VALUES).split()
    assert words[:2] == ["step", "7/10"]
    assert len(words) == 2 + 2 * len(VALUES)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_never_shown_as_a_number(value):
    assert plain_line(1, 2, {"loss": value}) == f"step 1/2 loss {value}"
    progress = Progress("live", 2, terminal())
    progress.update(1, {"loss": value})
    assert f"\x1b[1;31m{value}\x1b[0m" in styled(progress._view())


def test_skipped_steps_are_shown_where_there_are_any():
    assert plain_line(1, 2, {"loss": 0.5, "skipped": 0.0}) == "step 1/2 loss 0.5000"
    assert plain_line(1, 2, {"loss": 0.5, "skipped": 2.0}) == "step 1/2 loss 0.5000 skipped 2"
    progress = Progress("live", 2, terminal())
    progress.update(1, {"skipped": 2.0})
    assert "skipped steps 2" in shown(progress._view())


def test_the_loops_own_best_value_goes_before_what_was_seen_here():
    progress = Progress("live", 20, terminal())
    progress.update(10, {"validation_accuracy": 0.9, "best_accuracy": 0.95})
    assert "validation accuracy 90.0%  best 95.0%" in shown(progress._view())
    progress.update(11, {"validation/accuracy": 0.96, "best/accuracy": 0.96, "best_step": 8})
    assert "validation accuracy 96.0%  best 96.0% at 8" in shown(progress._view())


def test_scalars_of_jax_are_taken(tmp_path):
    console = pipe()
    Progress("plain", 2, console).update(1, {"loss": jnp.float32(0.5)})
    assert console.file.getvalue() == "step 1/2 loss 0.5000\n"


def test_the_live_view_shows_what_a_person_waits_for():
    progress = Progress("live", 500, terminal())
    progress.update(100, {"validation/accuracy": 0.95, "validation/log_loss": 0.3})
    progress.update(120, {**VALUES, "validation/log_loss": 0.4, "input_wait": 0.31})
    first, second, *rest = shown(progress._view()).splitlines()
    assert re.fullmatch(r"[━╸╺]+ +step 120/500 +24% +time left 1:15", first)
    assert second == "loss 0.4123   learning rate 3e-04   examples/s 2,431   waiting for data 31%"
    words = "validation accuracy 93.1% best 95.0% at 100 validation log_loss 0.400 best 0.300 at 100 travel body 0.012 travel head 0.42"
    assert " ".join(" ".join(rest).split()) == words


def test_the_live_view_keeps_values_between_updates():
    progress = Progress("live", 10, terminal())
    progress.update(1, {"loss": 0.25})
    progress.update(2, {"learning_rate": 0.1})
    assert "loss 0.2500   learning rate 0.100" in shown(progress._view())


def test_the_time_left_is_estimated_from_the_pace_after_the_first_step():
    seconds = iter([100.0, 110.0])
    progress = Progress("live", 30, terminal(), clock=lambda: next(seconds))
    progress.update(10, {"loss": 1.0})
    assert "time left -:--" in shown(progress._view())
    progress.update(20, {"loss": 1.0})
    assert "time left 0:10" in shown(progress._view())


def test_live_output_is_drawn_by_another_thread_and_ends_when_the_block_ends():
    console = terminal()
    before = threading.active_count()
    with Progress("live", 500, console) as progress:
        assert threading.active_count() == before + 1
        progress.update(120, VALUES)
        progress.message("saved step 100")
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    text = console.file.getvalue()
    assert "saved step 100" in text
    assert "step 120/500" in text


def test_an_error_inside_leaves_the_terminal_usable():
    console = terminal()
    with pytest.raises(RuntimeError, match="boom"), Progress("live", 5, console):
        raise RuntimeError("boom")
    assert console.file.getvalue().rstrip("\n").endswith("\x1b[?25h")


@pytest.mark.parametrize(
    ("mode", "console", "expected"),
    [
        ("auto", pipe(), "plain"),
        ("live", pipe(), "plain"),
        ("auto", terminal(), "live"),
        ("live", terminal(), "live"),
        ("plain", terminal(), "plain"),
        ("none", terminal(), "none"),
    ],
)
def test_live_needs_a_terminal(mode, console, expected):
    assert resolve_mode(mode, console) == expected


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert resolve_mode("live", Console(file=io.StringIO(), force_terminal=True)) == "plain"


def test_auto_is_plain_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")
    assert resolve_mode("auto", terminal()) == "plain"


def test_a_notebook_gets_plain_text(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    with Progress("live", 5) as progress:
        progress.update(1, {"loss": 1.0})
    assert capsys.readouterr().out == "step 1/5 loss 1.0000\n"


def test_none_prints_nothing():
    console = pipe()
    with Progress("none", 5, console) as progress:
        progress.start(["x"])
        progress.update(1, {"loss": 1.0})
        progress.message("x")
        progress.table("x", ["a"], [[1]])
        progress.summary(result_json())
    assert console.file.getvalue() == ""


def test_an_unknown_mode_is_named():
    with pytest.raises(ConfigError, match=r"report\.progress='lve' is not a mode; did you mean 'live'\? allowed: 'auto', 'live', 'none', 'plain'"):
        Progress("lve", 5)


def test_markup_and_escape_sequences_from_outside_have_no_effect():
    console = terminal()
    progress = Progress("plain", 5, console)
    progress.message("[red]file[/red] \x1b[2J\x9b2J")
    progress.table("[bold]t[/bold]", ["[a]"], [["\x1b]0;owned\x07"]])
    progress.summary({"status": "failed", "error": "bad [/] name \x1b[2J"})
    text = console.export_text(styles=False)
    assert r"[red]file[/red] \x1b[2J\x9b2J" in text
    assert r"\x1b]0;owned\x07" in text
    assert r"bad [/] name \x1b[2J" in text


def test_tables_align_numbers_to_the_right():
    console = pipe()
    Progress("plain", 5, console).table("Coefficients", ["group", "parameters", "coefficient"], [["stem", 6336, 0.0], ["head", 970, 0.75]])
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines == [
        "Coefficients",
        "group   parameters   coefficient",
        "────────────────────────────────",
        "stem         6,336             0",
        "head           970          0.75",
    ]


def test_the_summary_sets_the_result_beside_its_baselines():
    console = pipe(80)
    Progress("plain", 5, console).summary({**result_json(), "verdict": "Worth it."}, "runs/x/report.html")
    lines = [line.strip("│ ").rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0].startswith("╭─ ok after 500 steps ─")
    assert lines[1:6] == [
        "test accuracy                   interval",
        "this run                 95.9%  [93.7, 97.8]",
        "linear probe             89.6%  [85.9, 93.0]",
        "from scratch             78.1%  [73.0, 83.0]",
        "majority class           10.4%  [7.0, 14.1]",
    ]
    assert "Log loss                 0.153  [0.102, 0.211]" in lines
    assert "Worth it." in lines
    assert "setup 2.1 s   compile 6.4 s   train 20 s   evaluate 3.2 s" in lines
    assert lines[-2] == "report: runs/x/report.html"
    told = " ".join(lines)
    assert "Weights: WiSE-FT at 0.75 rather than the best checkpoint (validation accuracy 96.2% instead of 95.4%)." in told
    assert "Forgetting: accuracy on 200 source examples 82.0% before, 62.0% after; divergence from the pretrained answers 0.751 nats." in told


def test_the_summary_is_silent_about_the_best_checkpoint_and_what_was_not_measured():
    console = pipe(80)
    result = {key: value for key, value in result_json().items() if key != "forgetting"} | {"after": {"candidates": [], "chosen": "best_checkpoint"}}
    Progress("plain", 5, console).summary(result)
    assert "Weights:" not in console.file.getvalue()
    assert "Forgetting:" not in console.file.getvalue()


@pytest.mark.parametrize(
    "result",
    [{}, {"status": "failed", "error": "boom"}, {"status": "interrupted", "steps": 3}, {"splits": {"test": {"accuracy": 0.5}}, "baselines": {"probe": {}}}],
)
def test_a_summary_of_little_is_little(result):
    console = pipe()
    Progress("plain", 5, console).summary(result)
    assert str(result.get("status", "unknown")) in console.file.getvalue()


def test_a_panel_frames_text():
    console = pipe(20)
    Progress("plain", 5, console).panel("text", "title")
    assert console.file.getvalue().splitlines()[1].split() == ["│", "text", "│"]
