"""A member of a population is the single run of its settings: whatever else trains beside it, on however many devices, through whatever interruption."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from ablation_parts import config, groups_of, run

from ftjax import trees
from ftjax.ablation.kit import Kit
from ftjax.ablation.memory import limit, most_members, parse_bytes
from ftjax.ablation.population import Population
from ftjax.ablation.program import Spread
from ftjax.ablation.running import Stopped
from ftjax.ablation.spec import Ablation, Arm, Axis, Times
from ftjax.configuration import Resolved
from ftjax.errors import CheckpointError, ConfigError
from ftjax.evaluation import read_records
from ftjax.training.prepare import prepare

sys.path.append(str(Path(__file__).parents[1] / "training"))
from silent_fit import train as fit_alone

RATES = Axis("optimizer.learning_rate", (0.02, 0.2))


def alone(group, one, folder):
    """The single run of a member: its final state, and its validation lines."""
    plan, state = prepare(Resolved(one.config, {}), dataset=group.plan.dataset, mesh=group.plan.mesh)
    fitted, log = fit_alone(plan, state, folder)
    return fitted, [values for _, split, values in log.lines if split == "validation"]


def trained(group):
    """A population of the whole group on one device, trained to its end."""
    kit = Kit(group, Spread((jax.devices()[0],)), None)
    population = Population(kit, group.members, len(group.members))
    for stage in group.plan.stages:
        if population.steps[0]:
            population.enter(stage)
        while population.steps[0] < stage.phase.stop:
            population.advance(min(4 - population.steps[0] % 4, stage.phase.stop - population.steps[0]))
            if population.steps[0] % 4 == 0:
                population.look()
    return population


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="full"),
        pytest.param({"method": "probe", "train.duration": "24 steps"}, id="features"),
        pytest.param({"method": "lp_ft", "train.duration": "20 steps"}, id="stages", marks=pytest.mark.slow),
        pytest.param({"method": "lora", "adapter.rank": 2}, id="lora", marks=pytest.mark.slow),
        pytest.param({"optimizer.name": "adamw", "optimizer.epsilon": 1e-3, "augment.crop_min_area": 0.5}, id="adamw, augmented", marks=pytest.mark.slow),
    ],
)
def test_members_equal_their_single_runs(tiny, tmp_path, changes):
    rates = Axis("optimizer.learning_rate", (1e-3, 4e-3)) if "optimizer.name" in changes else RATES
    tune = (rates, Axis("adapter.alpha", (1.0, 2.0))) if changes.get("method") == "lora" else (rates,)
    (group,) = groups_of(Ablation(base=config(tiny, **changes), tune=tune, seeds=(3, 11)))
    population = trained(group)
    for slot in (0, len(group.members) - 1):
        fitted, lines = alone(group, group.members[slot], tmp_path / str(slot))
        expected, found = trees.flatten(fitted.state.params), trees.flatten(population.stacked.member(slot).params)
        for path, leaf in expected.items():
            np.testing.assert_allclose(found[path], leaf, rtol=0, atol=1e-6, err_msg=path)
        progress = population.progress[slot]
        assert progress.best_step == fitted.best_step
        for mine, theirs in zip(progress.curve, lines, strict=True):
            np.testing.assert_allclose(mine["log_loss"], theirs["log_loss"], rtol=0, atol=1e-5)
            assert mine["accuracy"] == theirs["accuracy"]
    assert not np.allclose(*[trees.flatten(population.stacked.member(slot).params)["head/kernel"] for slot in (0, 1)], atol=1e-3), "seeds differ"


def test_the_frozen_base_is_held_once(tiny):
    (group,) = groups_of(Ablation(base=config(tiny, method="lora"), tune=(RATES,), seeds=(0, 1)))
    population = Population(Kit(group, Spread((jax.devices()[0],)), None), group.members, 4)
    own, shared = trees.flatten(population.stacked.own), trees.flatten(population.stacked.shared)
    assert "still/encoder/block_0/mlp/up/kernel/w" in shared
    assert not any(path.startswith("still/") for path in own)
    assert all(leaf.shape[0] == 4 for leaf in own.values())


@pytest.mark.slow
def test_a_member_that_diverges_is_reported_and_changes_nobody(tiny, tmp_path):
    base = config(tiny, **{"optimizer.clip_norm": None})
    rates = Axis("optimizer.learning_rate", (0.1, 1e30))
    (group,) = groups_of(Ablation(base=base, tune=(rates,), seeds=(0, 1)))
    found = run(group, tmp_path / "both")
    assert [one["status"] for one in found] == ["ok", "ok", "diverged", "diverged"]
    assert all(0 < one["failed_at"] <= 12 for one in found[2:])
    (healthy,) = groups_of(Ablation(base=base, tune=(Axis("optimizer.learning_rate", (0.1,)),), seeds=(0, 1)))
    for one, other in zip(found, run(healthy, tmp_path / "one")):
        np.testing.assert_allclose([line["loss"] for line in one["curve"]], [line["loss"] for line in other["curve"]], atol=1e-6)


def same(one, other, atol=0.0):
    """Results are the same but for the clock."""
    for mine, theirs in zip(one, other, strict=True):
        assert (mine["member"], mine["status"], mine["best_step"]) == (theirs["member"], theirs["status"], theirs["best_step"])
        for line, also in zip(mine["curve"], theirs["curve"], strict=True):
            np.testing.assert_allclose(list(line.values()), list(also.values()), rtol=0, atol=atol)
        np.testing.assert_allclose(list(mine["splits"]["test"].values()), list(theirs["splits"]["test"].values()), rtol=0, atol=10 * atol)


@pytest.fixture(scope="module")
def group(tiny):
    (group,) = groups_of(Ablation(base=config(tiny), tune=(RATES,), seeds=(0, 1, 2)))
    return group


@pytest.fixture(scope="module")
def whole(group, tmp_path_factory):
    return run(group, tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"devices": ()}, id="eight devices"),
        pytest.param({"together": 1}, id="one by one", marks=pytest.mark.slow),
        pytest.param({"together": 4}, id="four at a time", marks=pytest.mark.slow),
    ],
)
def test_devices_and_ways_of_mapping_change_no_number(group, whole, tmp_path, options):
    same(run(group, tmp_path, **options), whole, atol=1e-5)


@pytest.mark.slow
def test_micro_populations_stay_below_the_limit_and_change_no_number(group, whole, tmp_path):
    kit = Kit(group, Spread((jax.devices()[0],)), None)
    stage = group.plan.stages[0]
    two, six = kit._bytes(stage, 2), kit._bytes(stage, 6)
    assert two < six
    found = run(group, tmp_path, memory=(kit._bytes(stage, 3) + six) // 2)
    parts = sorted((tmp_path / "groups" / "00").glob("part_*"))
    assert len(parts) == 2
    same(found, whole, atol=1e-5)


def test_interrupted_and_continued_ends_with_the_same_bits(group, whole, tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(group, tmp_path, stop)
    found = run(group, tmp_path)
    same(found, whole)
    records = [read_records(next(tmp_path.glob(f"groups/00/part_*/records/{number:04d}.npz"))) for number in (0, 5)]
    assert [len(one) for one in records] == [group.plan.dataset.report["splits"]["test"]["rows"]] * 2
    assert run(group, tmp_path) == found, "nothing is trained twice"


@pytest.mark.slow
def test_stages_are_continued_in_the_right_layout(tiny, tmp_path):
    (group,) = groups_of(Ablation(base=config(tiny, method="lp_ft", **{"train.duration": "20 steps"}), tune=(RATES,), seeds=(0, 1)))
    expected = run(group, tmp_path / "whole")
    asked = iter([False, False, True])

    class AfterThree(threading.Event):
        def is_set(self) -> bool:
            return next(asked, True)

    with pytest.raises(Stopped):
        run(group, tmp_path / "cut", AfterThree())
    same(run(group, tmp_path / "cut"), expected)


def test_static_settings_make_groups_and_traced_ones_do_not(tiny):
    arms = (Arm(name="plain", settings={}), Arm(name="pulled", settings={"anchor.pull": 0.1}), Arm(name="smooth", settings={"task.label_smoothing": 0.1}))
    found = groups_of(Ablation(base=config(tiny), arms=arms, tune=(RATES, Axis("optimizer.weight_decay", (0.0, 0.1))), seeds=(0, 1)))
    assert [len(group.members) for group in found] == [16, 8], "a pull that is off is not in the program; smoothing is a number"
    assert found[0].plan.dataset is found[1].plan.dataset


def test_what_a_population_does_not_do_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"train.cartography=True is of single runs; ftjax ablate does not follow it, leave it off"):
        groups_of(Ablation(base=config(tiny, **{"train.cartography": True}), seeds=(0, 1)))
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate=x3 is a multiple of what the recipe fills in, and the configuration sets it"):
        groups_of(Ablation(base=config(tiny), tune=(Axis("optimizer.learning_rate", (Times(3.0),)),)))


@pytest.mark.parametrize(
    ("wanted", "devices", "allowed", "expected"),
    [(32, 1, 10_000, 32), (32, 1, 1_000, 8), (10, 4, 600, 4), (9, 8, 10_000, 16), (33, 1, 1_999, 17)],
)
def test_as_many_members_as_fit(wanted, devices, allowed, expected):
    assert most_members(wanted, devices, lambda slots: 100 + 100 * slots, allowed) == expected


def test_sizes_are_read_and_what_is_no_size_is_refused():
    assert parse_bytes("2GiB") == 2**31
    assert limit(5) == 5
    with pytest.raises(ConfigError, match="--memory 'much' is no size; write 6GB, 500MB or 2GiB"):
        parse_bytes("much")
    with pytest.raises(ConfigError, match=r"one member takes 0\.0002 MB on a device and --memory allows 5e-05 MB"):
        most_members(4, 1, lambda slots: 100 + 100 * slots, 50)


@pytest.mark.slow
def test_other_data_under_a_population_are_refused(group, whole, tmp_path):
    run(group, tmp_path)
    (tmp_path / "groups" / "00" / "part_00" / "members.json").unlink()
    identity = tmp_path / "groups" / "00" / "part_00" / "identity.json"
    identity.write_text(identity.read_text().replace(group.plan.dataset.report["fingerprint"], "other"))
    with pytest.raises(CheckpointError, match="holds a population with other data; use another --workdir"):
        run(group, tmp_path)
