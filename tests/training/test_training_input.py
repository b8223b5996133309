"""How the loop is fed: the next batch is on its way before a step is over, and a row that cannot be read any more ends the run where it can go on."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from silent_fit import train

import ftjax
from ftjax import Config, DataConfig, EvaluationConfig, ModelConfig, TrainConfig
from ftjax.errors import DataError
from ftjax.training import loop
from ftjax.training.plan import Plan

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def photos(tmp_path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for row in range(16):
            Image.fromarray(draw.integers(0, 256, (12, 12, 3)).astype(np.uint8)).save(tmp_path / "photos" / name / f"{row}.png")
    return tmp_path / "photos"


def config(photos: Path) -> Config:
    return Config(
        method="scratch",
        data=DataConfig(source="image_folder", path=str(photos), cache_megabytes=0, workers=2),
        model=ModelConfig(name="vit_digits"),
        train=TrainConfig(duration="4 steps", batch_size=5, log_every="4 steps"),
        evaluation=EvaluationConfig(baselines=()),
    )


@pytest.mark.slow
def test_a_file_that_vanishes_or_changes_under_a_run_is_named_and_the_run_goes_on_exactly_after_its_repair(photos, tmp_path, monkeypatch):
    """Also: the next batch is asked for before a step's metrics, and no batch more than there are."""
    story: list[str] = []
    put, look = Plan.put, loop._Run.look
    plan, state = ftjax.prepare(config(photos))
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "put", lambda plan, batch: (story.append("put"), put(plan, batch))[1])
        patch.setattr(loop._Run, "look", lambda run, step, metrics: (story.append(f"look {step}"), look(run, step, metrics))[1])
        patch.setattr(Plan, "evaluate", lambda plan, *rest: {})
        patch.setattr(loop._Run, "evaluate", lambda run, log: None)
        whole, _ = train(plan, plan.copy(state), tmp_path / "whole")
        assert [name for name in story if name != "put"] == ["look 1", "look 2", "look 3", "look 4"]
        assert all(story[: story.index(f"look {step}")].count("put") >= min(step + 1, 4) for step in range(1, 5))
        assert story.count("put") == 4

        ids = [set(plan.host_batch(step)["id"].tolist()) for step in range(3)]
        victim = photos / plan.dataset.splits["train"].ids[min(ids[2] - ids[1] - ids[0])]
        name, content = victim.relative_to(photos).as_posix(), victim.read_bytes()
        other = next(photo for photo in sorted(photos.glob("*/*.png")) if photo != victim).read_bytes()
        for change, why in ((victim.unlink, "[Errno 2] No such file"), (lambda: victim.write_bytes(other), "its content has changed")):
            change()
            folder = tmp_path / why[:4]
            with pytest.raises(DataError) as error:
                train(plan, plan.copy(state), folder)
            assert str(error.value).startswith(f"{photos}: {name}: {why}")
            assert str(error.value).endswith(
                "\nStep 3 needs it, and the state after step 2 is saved: once it is repaired, the same command goes on exactly there"
            )
            victim.write_bytes(content)
            resumed, _ = train(plan, plan.copy(state), folder)
            assert all(map(np.array_equal, jax.tree.leaves(whole.state.params), jax.tree.leaves(resumed.state.params)))
