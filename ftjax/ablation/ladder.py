"""The ladder: the usual ways to use a pretrained model, from a probe to training from scratch, under one budget.

Every rung trains for as many steps on the same examples, and has its learning rate chosen on validation among as many multiples of its own recipe's rate. One
rung more trains from scratch for longer and says so: a short schedule is where training from scratch loses (He et al. 2018, arXiv 1811.08883). What does not
train (the majority class, the model as it came) is measured beside them.
"""

from __future__ import annotations

import dataclasses

from ftjax import durations
from ftjax.ablation.spec import Ablation, Arm, Axis, Times
from ftjax.config import Config
from ftjax.errors import ConfigError

STEPS = "300 steps"
"""The budget where the configuration leaves it open; methods' recipes differ there."""

LONGER = 3
"""How many times as long the longer training from scratch is."""

RATES = Axis("optimizer.learning_rate", tuple(map(Times, (0.1, 0.3, 1.0, 3.0))))
"""Multiples of the recipe's rate."""


def ladder(asked: Ablation, config: Config) -> Ablation:
    """The ablation whose arms are the rungs; seeds, shifts and what is tuned stay as they were asked for.

    Raises:
      ConfigError: arms are named already, or the configuration has a method that is no start for all of them.
    """
    if asked.arms or asked.compare:
        raise ConfigError("--ladder brings its own arms; leave out --grid KEY=VALUES (seeds and --tune may stay)")
    if config.model.pretrained is None:
        raise ConfigError("--ladder compares ways to use pretrained weights; set model.pretrained")
    tune = asked.tune or ((RATES,) if config.optimizer.learning_rate is None else ())
    return dataclasses.replace(asked, arms=arms(config), tune=tune, reference=asked.reference or "full")


def arms(config: Config) -> tuple[Arm, ...]:
    """The rungs, cheapest first."""
    duration = config.train.duration or STEPS
    longer = duration
    for _ in range(LONGER - 1):
        longer = durations.add(longer, duration, "train.duration")
    made = [Arm(name=name, settings={"method": method, "train.duration": duration}) for name, method in _RUNGS.items()]
    why = f"{LONGER} times the steps, because short schedules are what training from scratch suffers from"
    scratch = {"method": "scratch", "train.duration": longer}
    return (*made, Arm(name="scratch, longer", settings=scratch, extra_budget=why))


_RUNGS = {
    "probe": "probe",
    "bitfit": "bitfit",
    "lora": "lora",
    "full": "full",
    "full, probe first": "lp_ft",
    "full, layer decay": "layer_decay",
    "scratch": "scratch",
}
"""Name and method; the two after "full" are full fine-tuning with the coefficient over time and over depth."""
