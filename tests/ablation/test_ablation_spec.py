"""What an ablation asks, as it is written: every form is read, and what cannot be meant is refused with what would do."""

from __future__ import annotations

import doctest

import pytest
from ablation_parts import config

from ftjax import Config, configuration
from ftjax.ablation import grid, memory, reading, spec
from ftjax.ablation.ladder import ladder
from ftjax.ablation.spec import Ablation, Arm, Axis, Range, Search, Times
from ftjax.errors import ConfigError

RATE = "optimizer.learning_rate"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (f"{RATE}=1e-4,3e-4", (1e-4, 3e-4)),
        (f"config.{RATE}=1", (1.0,)),
        (f"{RATE}=x0.3,x1,x3", (Times(0.3), Times(1.0), Times(3.0))),
        (f"{RATE}=1e-5..1e-2", Range(1e-5, 1e-2)),
        (f"{RATE}=x0.1..x10", Range(0.1, 10.0, times=True)),
        ("seed=0..3", (0, 1, 2, 3)),
        ("method=full,lora", ("full", "lora")),
        ("anchor.pull=none,0.1", (None, 0.1)),
        ("coefficient:group:stem=0.1,1", (0.1, 1.0)),
        ("after.candidates=('ema', 'swa'),()", (("ema", "swa"), ())),
    ],
)
def test_axes_are_read(text, values):
    assert reading.parse_axis(text).values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.learning_rat=1", "unknown axis optimizer.learning_rat; did you mean 'optimizer.learning_rate' or"),
        ("seed", "'seed' is no axis; write KEY=1e-4,1e-3 or KEY=0..7 or KEY=x0.3,x1,x3 or KEY=1e-5..1e-2"),
        (f"{RATE}=1e-3,1e-3", f"{RATE}: a value is there twice; a setting that counts twice would look surer than it is"),
        (f"{RATE}=-1", f"flags: {RATE}=-1"),
        ("method=ful", "method='ful' is not a choice; did you mean 'full'"),
        (f"{RATE}=1e-2..1e-5", "is drawn log-uniformly; both ends must be above 0, the smaller one first"),
        (f"{RATE}=x0.1..10", "has an x at one end only; write x0.1..x10"),
        ("seed=7..0", "'7..0' goes down; write the smaller number first"),
        ("coefficient:head=much", "coefficient:head: 'much' is not a number"),
    ],
)
def test_what_is_no_axis_is_refused(text, message):
    with pytest.raises(ConfigError) as error:
        reading.parse_axis(text)
    assert message in str(error.value)


def test_members_are_arms_by_trials_by_seeds():
    ablation = Ablation(base=Config(), compare=(Axis("method", ("full", "bitfit")),), tune=(Axis(RATE, (1e-4, 1e-3)),), seeds=(4, 5))
    members = grid.members(ablation)
    assert [(one.arm, one.trial, one.seed) for one in members[:5]] == [
        ("method=full", 0, 4),
        ("method=full", 0, 5),
        ("method=full", 1, 4),
        ("method=full", 1, 5),
        ("method=bitfit", 0, 4),
    ]
    assert members[4].settings == {"method": "bitfit", RATE: 1e-4}
    assert members[4].tuned == {RATE: 1e-4}


def test_random_trials_are_the_same_for_all_arms_and_begin_alike():
    axes = (Axis(RATE, Range(1e-5, 1e-2)), Axis("anchor.pull", (0.0, 0.1, 1.0)))
    few, many = (grid.trials(Ablation(tune=axes, search=Search(kind="random", trials=count, seed=3))) for count in (4, 40))
    assert many[:4] == few
    assert all(1e-5 <= one[RATE] <= 1e-2 for one in many)
    below = sum(one[RATE] < 3.16e-4 for one in many)
    assert 10 <= below <= 30, "log-uniform: half of the draws lie below the geometric mean"
    assert {one["anchor.pull"] for one in many} == {0.0, 0.1, 1.0}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ablation(seeds=(1, 1)), "seeds=(1, 1): at least one, and each of them once"),
        (lambda: Ablation(tune=(Axis("seed", (1, 2)),)), "seeds repeat every trial and are no axis to compare or tune: --grid seed=0..7"),
        (lambda: Ablation(compare=(Axis(RATE, (1.0,)),), tune=(Axis(RATE, (2.0,)),)), f"{RATE} is given twice; an axis is compared or tuned"),
        (lambda: Ablation(arms=(Arm(name="a", settings={}), Arm(name="a", settings={}))), "two arms have one name: a"),
        (lambda: Search(kind="random"), "search 'random' needs a number of trials, 1 or more: --trials N"),
        (lambda: grid.trials(Ablation(tune=(Axis(RATE, Range(1.0, 2.0)),))), "a grid has no values in a range; name them, or search with"),
        (lambda: grid.trials(Ablation(search=Search(kind="random", trials=2))), "search 'random' has nothing to draw; name what is tuned"),
        (lambda: ladder(Ablation(), Config()), "--ladder compares ways to use pretrained weights; set model.pretrained"),
    ],
)
def test_questions_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)


def test_the_ladder_is_one_budget_but_for_the_rung_that_says_so(tiny):
    base = configuration.replace(config(tiny), {"optimizer.learning_rate": None})
    made = ladder(Ablation(seeds=(0, 1)), base)
    durations = {arm.name: arm.settings["train.duration"] for arm in made.arms}
    assert durations.pop("scratch, longer") == "36 steps"
    assert set(durations.values()) == {"12 steps"}
    assert made.reference == "full"
    assert len(grid.trials(made)) == 4


def test_a_file_gives_an_ablation_and_its_mistakes_are_told(tmp_path):
    good = tmp_path / "good.py"
    good.write_text("from ftjax.ablation import Ablation\n\ndef get_ablation(count='2'):\n    return Ablation(seeds=tuple(range(int(count))))\n")
    assert reading.load_ablation(f"{good}:3").seeds == (0, 1, 2)
    bad = tmp_path / "bad.py"
    bad.write_text("def get_ablation():\n    return 1\n")
    with pytest.raises(ConfigError, match=r"get_ablation returned int; allowed: ftjax\.ablation\.Ablation"):
        reading.load_ablation(str(bad))
    with pytest.raises(ConfigError, match=r"no file .*goood.py; did you mean .*good.py"):
        reading.load_ablation(str(tmp_path / "goood.py"))


@pytest.mark.parametrize("module", [memory, spec], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0
