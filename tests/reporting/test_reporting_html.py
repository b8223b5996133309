"""report.html: complete in itself, strict, escaped, and there for every kind of run."""

from __future__ import annotations

import json
import re
import sys

import pytest
from reporting_run import CLASSES, FILES, GROUPS, config_json, result_json, write_run
from strict_page import check, parse

from ftjax.errors import CheckpointError
from ftjax.files import read_json, write_json
from ftjax.reporting import MetricsWriter, html, render
from ftjax.reporting.plan_tables import flat_settings


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "digits")


def test_a_good_run_shows_everything(run):
    path = render(run)
    assert path == run / "report.html"
    text = check(path)
    assert "cannot be drawn" not in text
    assert "is not there" not in text
    for shown in (
        "Layer-wise decay of vit_digits on digits",
        "Worth it: fine-tuning gains 6.3 points",
        "95.9% [93.7, 97.8]",
        "89.6% [85.9, 93.0]",
        "Linear probe",
        "with 95% intervals",
        "445 k 99% of 451 k",
        "best 95.4% at step 400",
        "Never moved: stem.",
        "At 1 step the loss or the gradient was not finite.",
        "three/broken.jpg",
        "ids: train/4 = test/9",
        "1 set of exact copies across splits",
        "1 thing in the source was left aside",
        "drop: 1 rows dropped",
        "45 loaded",
        "2 ignored in the file",
        "what the pretrained file holds",
        "jax 0.10.2",
        f"All {len(list(flat_settings(config_json()['config'])))} settings",
        "Anchored to the pretrained weights by pull 0.01 (L2-SP), ball of radius 0.5 × |θ₀| (l2 norm)",
        "Calibration",
        "encoder/block_3/attention/query/kernel",
    ):
        assert shown in text, shown
    assert text.count("training, step 130: nan") == 1


def test_every_plot_is_there(run):
    page, parser = parse(render(run))
    labels = [value for tag, name, value in parser.attributes if tag == "svg" and name == "aria-label"]
    assert labels == [
        "Training and validation loss over steps",
        "Validation accuracy over steps",
        "Fine-tuning coefficient of every group",
        "Learning rate over steps",
        "Travel of every group over steps",
        "Cosine of every group over steps",
        "Update of every group over steps",
        "Validation accuracy against distance from the pretrained weights",
        "Source accuracy over steps",
        "Source loss and divergence over steps",
        "Confusion matrix",
        "Reliability diagram: accuracy by confidence",
        "Examples of every class",
    ]
    assert page.count("data:image/png;base64,") == 20


def test_the_same_run_gives_the_same_bytes(run, tmp_path):
    first = render(run).read_bytes()
    assert render(run).read_bytes() == first


def test_the_page_does_not_need_matplotlib_and_names_no_folder(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert str(run.parent) not in render(run).read_text()


@pytest.mark.parametrize("missing", FILES)
def test_a_missing_file_costs_a_sentence(run, missing):
    (run / missing).unlink()
    text = check(render(run))
    assert f"{missing} is not there: the run ended before it was written." in text
    assert "cannot be drawn" not in text


@pytest.mark.parametrize("present", [name for name in FILES if "evaluation" not in name])
def test_one_file_is_enough(run, present):
    for name in FILES:
        if name != present:
            (run / name).unlink()
    text = check(render(run))
    assert "cannot be drawn" not in text
    assert "The run has not finished; the same command continues it." in text or present == "result.json"


@pytest.mark.parametrize("damaged", FILES)
@pytest.mark.parametrize("content", [b"", b'{"rows": [', b"\xff\xfe\x00", b"[1, 2]", b"null"])
def test_a_damaged_file_costs_a_sentence(run, damaged, content):
    (run / damaged).write_bytes(content)
    text = check(render(run))
    if damaged != "metrics.jsonl":
        assert f"{damaged} cannot be read: " in text


@pytest.mark.parametrize(
    ("file", "value"),
    [
        ("data.json", {"splits": 3, "classes": {"a": 1}, "duplicates": [], "rejected": ["x", None], "image_size": "big"}),
        ("data.json", {"splits": {"train": None, "test": {"per_class": {"a": "many"}}}, "classes": [1, None]}),
        ("load.json", {"rows": [None, 3, {}], "ignored": "all", "summary": []}),
        ("coefficients.json", {"rows": [{}, None, {"coefficient": 3}, {"parameters": "x", "shape": 3}], "groups": 7, "parameters": {"total": 0}}),
        ("config.json", {"config": [], "origins": []}),
        (
            "result.json",
            {
                "status": None,
                "splits": {"test": {"accuracy": "high", "ece": None}},
                "baselines": {"probe": None},
                "seconds": {"train": "long"},
                "warnings": "x",
            },
        ),
        ("result.json", {"status": "ok", "parameters": {"total": "?"}, "steps": None, "best_step": "x", "versions": []}),
        ("evaluation/test.json", {"confusion": [[1, 2], [3]], "errors": [None, {}], "uncertain": {}}),
        ("evaluation/test.json", {"confusion": [[0] * 3] * 3}),
    ],
)
def test_surprising_content_never_costs_the_page(run, file, value):
    write_json(run / file, value)
    check(render(run))


def test_a_section_that_cannot_be_drawn_says_so_and_spares_the_rest(run, monkeypatch):
    def broken(_):
        raise KeyError("x")

    monkeypatch.setitem(html.SECTIONS, "training", broken)
    text = check(render(run))
    assert "This part cannot be drawn, a file of the run holds something unexpected (KeyError: 'x')." in text
    assert "Mistakes on the test set" in text


def test_a_failed_run_has_its_error_on_top(tmp_path):
    write_json(tmp_path / "config.json", config_json())
    write_json(tmp_path / "result.json", {"status": "failed", "method": "full", "error": "TrainingFailed: <b>step 12</b>\nlr 1e30"})
    text = check(render(tmp_path))
    assert text.index("TrainingFailed: <b>step 12</b> lr 1e30") < text.index("Test accuracy")
    assert "The run failed; what was written before is below." in text
    assert "There is no test result: the test set is evaluated once, at the end of a run." in text
    assert "Nothing was logged: the run ended before its first logged step." in text


def test_an_interrupted_run_says_how_to_go_on(run):
    write_json(run / "result.json", {"status": "interrupted"})
    assert "The run was interrupted; the same command continues it." in check(render(run))


HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='x",
    "&lt;",
    "{{ 7 * 7 }}",
    "]]>-->",
    "</style></svg>",
    "\x1b[31m",
    "x" * 300,
    "ü",
]


def test_hostile_names_are_only_text(tmp_path):
    run = write_run(tmp_path / "run", HOSTILE)
    data = read_json(run / "data.json")
    data["rejected"] = [{"file": name, "why": name} for name in HOSTILE]
    data["source"] = HOSTILE[0]
    write_json(run / "data.json", data)
    write_json(
        run / "result.json", {**result_json("failed"), "error": HOSTILE[0], "verdict": HOSTILE[1], "warnings": HOSTILE, "versions": {HOSTILE[0]: HOSTILE[1]}}
    )
    page, _ = parse(render(run))
    text = check(run / "report.html")
    assert "cannot be drawn" not in text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "{{ 7 * 7 }}" in text
    assert "<script>alert(1)</script>" in text


@pytest.mark.parametrize(
    "image", ["https://example.org/x.png", "javascript:alert(1)", "data:text/html;base64,AAAA", 'data:image/png;base64,AA" onerror="x', None, 3]
)
def test_only_embedded_images_are_shown(run, image):
    write_json(run / "evaluation" / "test.json", {"errors": [{"id": 1, "label": 0, "prediction": 1, "confidence": 0.9, "image": image}]})
    assert "no image" in check(render(run))


def test_the_pages_own_policy_allows_nothing_from_outside(run):
    page, parser = parse(render(run))
    policy = next(value for tag, name, value in parser.attributes if tag == "meta" and name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    script = re.search(r"<script>(.*)</script>", page, re.DOTALL).group(1)
    assert html._policy(script) == policy


def test_labels_may_be_numbers_or_names(run):
    items = [{"id": 1, "label": 0, "prediction": "one", "confidence": 0.9}, {"id": 2, "label": "two", "prediction": 2, "confidence": 0.5}]
    write_json(run / "evaluation" / "test.json", {"errors": items})
    text = check(render(run))
    assert "one 90% true: zero" in text
    assert "two 50% right" in text


def test_a_hundred_classes_are_drawn_and_more_are_listed(tmp_path):
    hundred = check(render(write_run(tmp_path / "a", [f"class {index}" for index in range(100)])))
    assert "too many to draw" not in hundred
    more = check(render(write_run(tmp_path / "b", [f"class {index}" for index in range(130)])))
    assert "130 classes are too many to draw; the largest confusions are listed." in more


def test_a_perfect_model_says_so(run):
    write_json(
        run / "evaluation" / "test.json", {"confusion": [[5 * (row == column) for column in range(10)] for row in range(10)], "errors": [], "uncertain": []}
    )
    assert "No test example was predicted wrongly." in check(render(run))


def test_a_directory_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"work directory '.*nowhere' does not exist; --workdir names the directory of a run"):
        render(tmp_path / "nowhere")


def test_a_directory_without_a_run_is_an_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no run: none of config\.json, .* is in it"):
        render(tmp_path)


def test_damaged_lines_of_the_log_are_counted(run):
    path = run / "metrics.jsonl"
    path.write_text("broken\n" + path.read_text())
    assert "metrics.jsonl: 1 damaged lines are left out, the first is line 1." in check(render(run))


def test_skipped_steps_of_the_log_are_counted(run):
    with MetricsWriter(run, resume_step=0) as log:
        log.write(10, "train", {"loss": 0.5, "skipped": 2.0})
        log.write(20, "train", {"loss": 0.4, "skipped": 1.0})
    assert "At 3 steps the loss or the gradient was not finite." in check(render(run))


def test_the_fixture_is_the_contract(run):
    assert json.loads((run / "coefficients.json").read_text())["groups"] == GROUPS
    assert read_json(run / "data.json")["classes"] == CLASSES
