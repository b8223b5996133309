"""The whole of `ftjax ablate`: budgets that must be equal, a search that refills slots, results that add up, a page that works in a browser, and kills."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ablation_parts import config, groups_of, run

from ftjax import configuration, files, reporting
from ftjax.ablation import budget, grid, halving, launching, reading
from ftjax.ablation.running import Stopped
from ftjax.ablation.spec import Ablation, Arm, Axis, Search
from ftjax.errors import CheckpointError, ConfigError
from ftjax.main import main

ROOT = Path(__file__).parents[2]
RATES = Axis("optimizer.learning_rate", (0.02, 0.2))
CONFIG = """
from pathlib import Path
import sys
sys.path.append({parts!r})
from ablation_parts import config

def get_config():
    return config(Path({folder!r}), **{changes!r})
"""


def write_config(tiny: Path, path: Path, **changes) -> Path:
    path.write_text(CONFIG.format(parts=str(Path(__file__).parent), folder=str(tiny), changes=changes))
    return path


def test_arms_with_other_budgets_are_refused_unless_they_say_why(tiny):
    short, longer = Arm(name="short", settings={}), {"train.duration": "16 steps"}
    ablation = Ablation(base=config(tiny), arms=(short, Arm(name="long", settings=longer)))
    with pytest.raises(ConfigError) as error:
        budget.check_equal(ablation, groups_of(ablation))
    assert str(error.value).startswith("arm 'long' (256) trains on another number of examples; set train.duration in steps, say why with Arm(extra_budget=...)")
    excused = Ablation(base=config(tiny), arms=(short, Arm(name="long", settings=longer, extra_budget="it is asked for")))
    assert budget.check_equal(excused, groups_of(excused))["long"] == {"trials": 1, "seeds": 1, "examples": 256}


def test_arms_tested_on_other_examples_are_refused(tiny):
    arms = (Arm(name="a", settings={}), Arm(name="b", settings={"data.test_fraction": 0.3, "data.validation_fraction": 0.1}))
    ablation = Ablation(base=config(tiny), arms=arms)
    with pytest.raises(ConfigError, match=r"arm 'b' \(test rows \w+\) is tested on other examples; splits must not depend on what is compared"):
        budget.check_equal(ablation, groups_of(ablation))


def searched(tiny, trials=5, **changes):
    search = Search(kind="halving", trials=trials, eta=2, rungs=3)
    tune = (Axis("optimizer.learning_rate", reading.parse_axis("optimizer.learning_rate=1e-3..0.1").values),)
    (group,) = groups_of(Ablation(base=config(tiny, **{"train.evaluate_every": "3 steps", **changes}), tune=tune, seeds=(0, 1), search=search))
    return group, search


@pytest.mark.slow
def test_halving_stops_losers_refills_their_slots_and_survives_a_stop(tiny, tmp_path):
    group, search = searched(tiny)
    found = run(group, tmp_path / "whole", search=search)
    assert [one["member"] for one in found] == list(range(10)), "every trial was tried, in fewer slots than there are trials"
    assert files.read_json(tmp_path / "whole" / "groups" / "00" / "parts.json")["slots"] == 5
    finished = [one for one in found if one["status"] == "ok"]
    stopped = [one for one in found if one["status"] == "stopped"]
    assert stopped
    assert {one["steps"] for one in finished} == {12}
    assert {one["steps"] for one in stopped} <= {3, 6}
    assert all(found[index]["status"] == found[index + 1]["status"] for index in range(0, 10, 2)), "the seeds of a trial share its fate"
    for one in found:
        steps = [line["step"] for line in one["curve"]]
        assert steps == [3, 6, 9, 12][: len(steps)], "a refilled slot starts from the beginning"
    late = next(one for one in found if one["member"] >= 4)
    only = dataclasses.replace(group, members=tuple(one for one in group.members if one.member.number == late["member"]))
    (alone,) = run(only, tmp_path / "alone")
    for waited, at_once in zip(late["curve"], alone["curve"]):
        assert waited["log_loss"] == pytest.approx(at_once["log_loss"], abs=1e-5), "as if it had never waited"
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        run(group, tmp_path / "cut", stop, search=search)
    again = run(group, tmp_path / "cut", search=search)
    assert [(one["status"], one["curve"]) for one in again] == [(one["status"], one["curve"]) for one in found]


def test_halving_that_cannot_be_cut_says_what_would(tiny):
    group, search = searched(tiny, **{"train.duration": "10 steps"})
    with pytest.raises(ConfigError, match=r"a run of 10 steps has no rungs at whole steps with eta=2 and rungs=3; set train.duration to 8 steps"):
        halving.rung_steps(group.plan, search)


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """Two arms, two rates, two seeds, through the command line."""
    folder = tmp_path_factory.mktemp("story")
    path = write_config(tiny, folder / "c.py")
    axes = ["--grid", "task.label_smoothing=0.0,0.1", "--tune", "optimizer.learning_rate=0.02,0.2", "--grid", "seed=0..1", "--shift", "contrast"]
    command = ["ablate", "--config", str(path), "--workdir", str(folder / "out"), *axes]
    assert main(command) == 0
    return folder / "out", command


def test_files_hold_every_cell_and_member(finished, capsys):
    folder, command = finished
    found = files.read_json(folder / "ablation.json")
    assert len(found["members"]) == 8
    assert [arm["name"] for arm in found["arms"]] == ["label_smoothing=0", "label_smoothing=0.1"]
    assert len(found["groups"]) == 1, "smoothing is a number: one program"
    rows = list(csv.DictReader((folder / "ablation.csv").read_text().splitlines()))
    assert len(rows) == 4
    assert {"arm", "test", "test low", "test high", "test contrast", "test_over_examples low", "status"} <= rows[0].keys()
    assert float(rows[0]["test"]) == pytest.approx(sum(map(float, rows[0]["values"].split())) / 2)
    assert found["verdict"] in (folder / "ablation.md").read_text()
    assert "the majority class" in found["untrained"]
    before = (folder / "ablation.csv").read_bytes()
    assert main(command) == 0
    assert (folder / "ablation.csv").read_bytes() == before, "the same command judges the same results"
    assert found["verdict"] in capsys.readouterr().out


def test_another_question_in_the_same_folder_is_refused(finished, capsys):
    _, command = finished
    assert main([*command, "--config.task.focal_gamma=1.5", "--config.task.imbalance=focal"]) == 2
    assert "holds an ablation with other config; use another --workdir" in capsys.readouterr().err
    assert main([*command[:5], "--workdir", command[4]]) == 2
    assert "there is nothing to vary; write --grid KEY=VALUES, --tune KEY=VALUES or --ablation FILE.py" in capsys.readouterr().err


def test_the_page_is_whole_without_the_network(finished):
    folder, _ = finished
    page = (folder / "ablation.html").read_text()
    assert not re.search(r'(?:src|href)="(?!#)', page)
    told = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert len(told["cells"]) == 4
    assert sum(cell["chosen"] for cell in told["cells"]) == 2
    assert told["keys"] == ["label_smoothing", "learning_rate"]
    assert reporting.render_ablation(folder).read_text() == page
    with pytest.raises(CheckpointError, match=r"holds no ablation\.json; ftjax ablate writes it when everything is trained"):
        reporting.render_ablation(folder / "groups")


@pytest.mark.slow
def test_the_page_draws_filters_and_sorts_in_a_browser(finished, tmp_path):
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no chromium is installed, and the page draws its charts in a browser")
    folder, _ = finished
    page = (folder / "ablation.html").read_text()
    # A script of the test would be refused by the page's own policy, which is tested by the page working at all.
    click = """<script>addEventListener("load", () => {
      const heads = document.querySelectorAll("#table th"); heads[heads.length - 6].click(); heads[heads.length - 6].click();
      const words = document.getElementById("words"); words.value = "smoothing=0.1"; words.dispatchEvent(new Event("input"));
    });</script></body>"""
    changed = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", click)
    (tmp_path / "clicked.html").write_text(changed)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000", "--dump-dom"]
    plain, clicked = (
        subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
        for path in (folder / "ablation.html", tmp_path / "clicked.html")
    )
    for place in ("parallel", "travel", "cost", "curves"):
        assert re.search(rf'<div id="{place}"><svg', plain), f"{place} is drawn under the page's own policy"
    lines = re.search(r'<div id="parallel">.*?</svg>', plain, re.DOTALL)[0].count('class="line"')
    fewer = re.search(r'<div id="parallel">.*?</svg>', clicked, re.DOTALL)[0].count('class="line"')
    assert (lines, fewer) == (4, 2)
    rows = re.findall(r"<tr data-cell=\"(\d)\"( hidden=\"\")?>", clicked)
    assert {cell for cell, hidden in rows if not hidden} == {"2", "3"}


def test_runs_are_compared_by_what_differs(tmp_path, capsys):
    for name, rate, accuracy in (("one", 0.1, 0.8), ("two", 0.2, 0.9)):
        made = configuration.replace(config(tmp_path), {"optimizer.learning_rate": rate, "data.workers": 1 if name == "one" else 2})
        files.write_json(tmp_path / name / "config.json", {"config": configuration.to_mapping(made)})
        splits = {"validation": {"accuracy": accuracy}, "test": {"accuracy": {"value": accuracy, "low": 0.7, "high": 0.95}}}
        files.write_json(tmp_path / name / "result.json", {"status": "ok", "metric": {"name": "accuracy"}, "splits": splits, "best_step": 4})
    assert main(["report", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    said = capsys.readouterr().out
    assert "| two | ok | accuracy | 0.9 | 0.9 (0.7 to 0.95) | 4 |  |  |" in said
    assert said.splitlines()[-1] == "| optimizer.learning_rate | 0.1 | 0.2 |", "and nothing else"
    assert main(["report", str(tmp_path / "one")]) == 2
    assert "a comparison needs two run directories or more; for the page of one: ftjax report --workdir" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "one"), str(tmp_path)]) == 2
    assert "is no run directory: it holds no config.json" in capsys.readouterr().err


def test_the_array_script_is_one_task_for_each_group(tiny, tmp_path):
    path = write_config(tiny, tmp_path / "c.py")
    axes = ["--grid", "method=full,probe", "--grid", "seed=0..1", "--launcher", "slurm", "--sbatch=--gres=gpu:1"]
    assert main(["ablate", "--config", str(path), "--workdir", str(tmp_path / "out"), *axes, "--config.optimizer.learning_rate=0.1"]) == 0
    script = (tmp_path / "out" / "ablate.sbatch").read_text()
    assert "#SBATCH --array=0-1\n" in script
    assert "#SBATCH --gres=gpu:1\n" in script
    assert '--grid=method=full,probe --grid=seed=0..1 --only-group "$SLURM_ARRAY_TASK_ID" &' in script
    assert "--config.optimizer.learning_rate=0.1" in script
    subprocess.run(["bash", "-n", str(tmp_path / "out" / "ablate.sbatch")], check=True)
    with pytest.raises(ConfigError, match=r"--sbatch 'gpu' is no option of sbatch; write --sbatch=--gres=gpu:1"):
        launching.sbatch(["x"], 1, name="n", options=["gpu"])


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "ablations").glob("*.py")), ids=lambda path: path.stem)
def test_presets_are_ablations(path):
    ablation = reading.load_ablation(str(path))
    assert len(grid.members(ablation)) >= 8
    assert ablation.reference is None or ablation.reference in {one.arm for one in grid.members(ablation)}


def start(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    whole = [sys.executable, "-m", "ftjax.main", *command]
    return subprocess.Popen(whole, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)


def numbers(folder: Path) -> list:
    found = files.read_json(folder / "ablation.json")
    return [found["cells"][0]["test"], found["verdict"].split(" It trains")[0], [(one["curve"], one["splits"], one["travel"]) for one in found["members"]]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_continued_ends_with_the_same_numbers(tiny, tmp_path):
    path = write_config(tiny, tmp_path / "c.py", **{"train.duration": "400 steps", "train.evaluate_every": "20 steps", "train.checkpoint_every": "20 steps"})
    command = ["ablate", "--config", str(path), "--grid", "seed=0..2", "--tune", "optimizer.learning_rate=0.02,0.2", "--workdir"]
    whole = start([*command, str(tmp_path / "whole")])
    said, _ = whole.communicate(timeout=400)
    assert whole.returncode == 0, said
    for checkpoints in (2, 8):
        process = start([*command, str(tmp_path / "killed")])
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline:
            steps = [int(p.name) for p in (tmp_path / "killed").glob("groups/00/part_00/checkpoints/last/*") if p.name.isdigit()]
            if steps and max(steps) >= 20 * checkpoints:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start([*command, str(tmp_path / "killed")])
    said, _ = process.communicate(timeout=400)
    assert process.returncode == 0, said
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
