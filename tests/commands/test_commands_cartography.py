"""A run that follows its examples and is paced by difficulty, from end to end: files, warnings, the page, and a map that changed since."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest_commands import small_config

import ftjax
from ftjax import DataConfig, files, reporting
from ftjax.commands import show
from ftjax.commands.workdir import Workdir
from ftjax.data import ImageFormat, collect
from ftjax.errors import ConfigError, DataError


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_paced_run_writes_the_map_of_its_examples_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, data = small_config(), DataConfig(source="digits", labels_per_class=6)
    ids = collect(data, ImageFormat((16, 16)), 0).splits["train"].ids
    known = tmp_path / "before.jsonl"
    known.write_text("".join(json.dumps({"id": name, "confidence": row / 60, "variability": 0.1}) + "\n" for row, name in enumerate(ids)))
    data = dataclasses.replace(data, difficulty=str(known), curriculum="easy_first", curriculum_until="3 steps")
    config = dataclasses.replace(small, data=data, train=dataclasses.replace(small.train, duration="5 steps", cartography=True))
    run = ftjax.finetune(config, tmp_path / "run")
    capsys.readouterr()
    ftjax.finetune(config, tmp_path / "run")
    assert capsys.readouterr().err == f"{tmp_path / 'run'} is finished already and stays as it is: nothing was done; use another --workdir to train again\n"

    lines = lines_of(run.workdir / "cartography.jsonl")
    assert tuple(line["id"] for line in lines) == ids
    assert sum(line["seen"] for line in lines) == 5 * 16
    never = [line["id"] for line in lines if line["seen"] == 0]
    assert never, "three batches of easy rows and two of an epoch of four leave some out"
    assert {line["confidence"] for line in lines if line["seen"] == 0} == {None}
    assert all(0 <= line["confidence"] <= 1 and 0 <= line["variability"] <= 0.5 and line["label"] for line in lines if line["seen"])
    shown = files.read_json(run.workdir / "cartography.json")
    assert shown["never_seen"] == {"rows": len(never), "ids": never[:20]}
    assert len(shown["hardest"]) == len(shown["ambiguous"]) == 4, "report.thumbnails"
    lowest = min(line["confidence"] for line in lines if line["seen"])
    assert shown["hardest"][0]["confidence"] == lowest
    assert shown["hardest"][0]["image"].startswith("data:image/jpeg;base64,")
    assert f"train.cartography: {len(never)} of 60 training examples were never trained on ('{never[0]}', " in " ".join(run.result["warnings"])
    assert "train.cartography: an example was trained on 1.3 times on average" in " ".join(run.result["warnings"])
    curriculum = files.read_json(run.workdir / "data.json")["sampling"]["curriculum"]
    assert (curriculum["way"], curriculum["share_at_start"], curriculum["all_from_step"]) == ("easy_first", 0.2, 3)
    page = (run.workdir / "report.html").read_text()
    assert '<section id="map">' in page
    assert "way: easy_first" in page

    plan, _ = ftjax.prepare(config)
    capsys.readouterr()
    with reporting.Progress("plain") as view:
        show.plan(view, plan)
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"curriculum easy_first: 12 rows of 60 at step 0, all from step 3, by {known}" in told
    train = dataclasses.replace(plan.dataset.splits["train"], curriculum=None)
    kept = dataclasses.replace(plan.dataset, splits={"train": train}, report={"sampling": {"curriculum": {"way": "ambiguous", "file": "map.jsonl"}}})
    assert show.curriculum(kept) == ["curriculum ambiguous: 60 rows kept, by map.jsonl"]
    assert show.curriculum(dataclasses.replace(kept, report={})) == []
    known.write_text(known.read_text().replace('"variability": 0.1', '"variability": 0.2'))
    plan, _ = ftjax.prepare(config)
    with pytest.raises(DataError, match=r"was begun with another data\.difficulty: .*before\.jsonl has changed since"):
        Workdir(run.workdir).refuse_changed(plan)


def test_a_full_batch_leaves_nothing_to_pace(tmp_path: Path) -> None:
    small = small_config()
    data = dataclasses.replace(small.data, difficulty=str(tmp_path / "x.jsonl"), curriculum="hard_first")
    with pytest.raises(ConfigError, match=r"data\.curriculum='hard_first' draws so many rows at each step, which train\.batch_size='all' does not say"):
        ftjax.prepare(dataclasses.replace(small, data=data, train=dataclasses.replace(small.train, batch_size="all")))
