"""Every unit of duration becomes the right number of steps, or an error that says how to write it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.durations import Clock, parse_points, to_steps
from ftjax.errors import ConfigError

CLOCK = Clock(batch_size=32, examples_per_epoch=100, total_steps=300)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("500 steps", 500),
        ("1 step", 1),
        ("0 steps", 0),
        ("3 epochs", 10),
        ("1 epoch", 4),
        ("0.32 epochs", 1),
        ("2000 examples", 63),
        ("32 examples", 1),
        ("10%", 30),
        (" 12.5 % ", 38),
        ("0%", 0),
        ("100%", 300),
        ("1e2 steps", 100),
    ],
)
def test_durations_are_counted_exactly_and_rounded_up(text: str, steps: int) -> None:
    assert to_steps(text, CLOCK) == steps


@pytest.mark.parametrize("share", range(1, 101))
def test_a_share_of_a_hundred_steps_has_no_rounding_error(share: int) -> None:
    assert to_steps(f"{share}%", Clock(1, 1, total_steps=100)) == share
    assert to_steps(f"{share / 10}%", Clock(1, 1, total_steps=1000)) == share


@settings(deadline=None)
@given(st.integers(1, 512), st.integers(1, 100_000), st.integers(1, 50))
def test_whole_epochs_cover_every_example_and_less_than_one_batch_more(batch_size: int, examples: int, epochs: int) -> None:
    steps = to_steps(f"{epochs} epochs", Clock(batch_size, examples))
    assert 0 <= steps * batch_size - epochs * examples < batch_size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("500", "train.duration: '500' has no unit; write '3 epochs', '500 steps', '2000 examples' or '10%'"),
        ("three epochs", "train.duration: 'three epochs' is not a duration; write '3 epochs', '500 steps', '2000 examples' or '10%'"),
        (500, "train.duration: 500 is not a duration; write '3 epochs', '500 steps', '2000 examples' or '10%'"),
        ("5 epohcs", "train.duration: unknown unit 'epohcs' in '5 epohcs'; did you mean 'epochs'? allowed: '%', 'epochs', 'examples', 'steps'"),
        ("-3 epochs", "train.duration: '-3 epochs' is negative; a duration is 0 or more"),
        ("1.5 steps", "train.duration: '1.5 steps' splits a step; only epochs and % take fractions"),
        ("120%", "train.duration: '120%' is longer than the run; a share is 0% to 100%"),
        ("0 steps", "train.duration: '0 steps' is 0 steps; it must be from 1 to 2147483647 steps"),
        ("1e12 steps", "train.duration: '1e12 steps' is 1000000000000 steps; it must be from 1 to 2147483647 steps"),
    ],
)
def test_what_is_not_a_duration_says_what_would_be(text: object, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        to_steps(text, CLOCK, "train.duration", minimum=1)


def test_the_run_cannot_be_a_share_of_itself() -> None:
    with pytest.raises(ConfigError, match=r"^train.duration: a share of the run cannot say how long the run is"):
        to_steps("10%", Clock(32, 100), "train.duration")


def test_points_may_jump_but_not_go_back() -> None:
    assert parse_points([["0%", 0], ["50%", 0], ["50%", 1]], CLOCK) == ((0, 0.0), (150, 0.0), (150, 1.0))
    with pytest.raises(ConfigError, match=r"c: '10%' is step 30, before the point at step 100; points go forward in time"):
        parse_points((("100 steps", 0.0), ("10%", 1.0)), CLOCK, "c")


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "c: a schedule needs at least one point ('when', value)"),
        (("10%", 1.0), "c: '10%' is not a point ('when', value), such as ('10%', 1.0)"),
        ((("10%",),), "c: ('10%',) is not a point ('when', value), such as ('10%', 1.0)"),
    ],
)
def test_malformed_points_are_named(points: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        parse_points(points, CLOCK, "c")


def test_a_part_of_a_step_counts_as_one_also_where_one_is_asked_for():
    assert to_steps("5%", Clock(batch_size=16, examples_per_epoch=58, total_steps=6), minimum=1) == 1
