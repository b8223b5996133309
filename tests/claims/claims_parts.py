"""Shared by the claims' tests: sizes small enough to compile in seconds, and results made up."""

import numpy as np

from benchmarks.claims.experiments import EXPERIMENTS
from ftjax import trees

SEEDS, ROWS, STEPS, BATCH = 2, 40, 12, 8


def flat(one, other):
    """`{path: (leaf, leaf)}` of two trees."""
    theirs = trees.flatten(other)
    return {path: (np.asarray(leaf), np.asarray(theirs[path])) for path, leaf in trees.flatten(one).items()}


def agree(one, other, tolerance):
    """Assert that two trees of parameters are the same computation. Keys' biases are left out: softmax ignores them, so their gradient is nothing but
    rounding, which Adam makes as large as any other."""
    for path, (mine, theirs) in flat(one, other).items():
        if not path.endswith("key/bias"):
            np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance, err_msg=path)


def every_arm():
    """Each arm of any experiment once."""
    return tuple(dict.fromkeys(arm for experiment in EXPERIMENTS for arm in experiment.arms))


def made_up(rates: int, seeds: int):
    """Measurements of every unit, `{"experiment/arm": {measurement: [rate][seed]}}`, all near 80 and further off at high rates."""
    random = np.random.default_rng(0)
    found = {}
    for experiment in EXPERIMENTS:
        names = ["validation", "id", *(name for name, _ in experiment.shifted)]
        names += [f"{name}@{alpha}" for name in list(names) for alpha in ("0", "0.25", "0.5", "0.75", "best") if experiment.curve]
        for arm in experiment.arms:
            fall = np.arange(rates)[:, None]
            unit = {name: (80 - 5 * fall + random.normal(0, 1, (rates, seeds))).tolist() for name in names}
            found[f"{experiment.name}/{arm.name}"] = unit | {
                "travel": (0.1 * 3.0**fall + np.zeros(seeds)).tolist(),
                "bad_steps": np.zeros((rates, seeds)).tolist(),
            }
    return found
