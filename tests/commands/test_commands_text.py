"""The whole story on texts, one run for each task: files in, a checked artefact, predictions and a page out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_text import texts, write_bert, write_table

import ftjax
from ftjax import configuration, files
from ftjax.commands import evaluate
from ftjax.main import main

TASKS = ("classification", "multi_label", "regression", "token_classification", "question_answering", "sentence_embedding")
METRICS = {
    "classification": ("accuracy", "mcc", "macro_f1", "macro_auroc"),
    "multi_label": ("micro_f1", "macro_f1", "subset_accuracy"),
    "regression": ("pearson", "spearman", "rmse", "mae", "r2"),
    "token_classification": ("entity_f1", "entity_precision", "entity_recall", "token_accuracy"),
    "question_answering": ("exact_match", "f1"),
    "sentence_embedding": ("recall_at_1", "recall_at_5", "mrr", "ndcg_at_10"),
}


def write_data(task: str, folder: Path) -> Path:
    """A small data set of the task; every one can be learnt from the words."""
    rows = texts(90)
    if task == "classification":
        return write_table(folder / "data.csv", ("text", "label"), rows)
    if task == "multi_label":
        return write_table(folder / "data.csv", ("text", "label"), [(text, f"{label},long" if len(text.split()) > 12 else label) for text, label in rows])
    if task == "regression":
        return write_table(folder / "data.csv", ("text", "score"), [(text, str(len(text.split()) / 4)) for text, _ in rows])
    if task == "sentence_embedding":
        return write_table(folder / "data.csv", ("text", "text_pair"), [(text, " ".join(reversed(text.split()))) for text, _ in rows])
    if task == "token_classification":
        sentences = ("\n".join(f"{word}\t{'B-k' if word[0] == 'k' else 'O'}" for word in text.split()) for text, _ in rows)
        (folder / "data.conll").write_text("\n\n".join(sentences))
        return folder / "data.conll"
    paragraphs = [
        {"context": text, "qas": [{"id": str(row), "question": label, "answers": [{"text": text.split()[0], "answer_start": 0}]}]}
        for row, (text, label) in enumerate(rows)
    ]
    (folder / "data.json").write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return folder / "data.json"


def config_of(task: str, folder: Path) -> ftjax.Config:
    source = {"token_classification": "conll", "question_answering": "squad"}.get(task, "table")
    return ftjax.Config(
        data=ftjax.DataConfig(source=source, path=str(write_data(task, folder)), duplicates="report"),  # type: ignore[arg-type]
        text=ftjax.TextConfig(buckets=1, max_length=40, stride=8 if task == "question_answering" else 64),
        model=ftjax.ModelConfig(pretrained=str(write_bert(folder / "bert"))),
        task=ftjax.TaskConfig(name=task),  # type: ignore[arg-type]
        optimizer=ftjax.OptimizerConfig(learning_rate=3e-3),
        train=ftjax.TrainConfig(duration="16 steps", batch_size=16, evaluate_every="8 steps"),
        evaluation=ftjax.EvaluationConfig(batch_size=16, bootstrap=50),
        mesh=ftjax.MeshConfig(data=1, tensor=8),
        report=ftjax.ReportConfig(progress="none"),
    )


SLOW = ("multi_label", "regression", "question_answering", "sentence_embedding")


@pytest.fixture(scope="module", params=[pytest.param(task, marks=pytest.mark.slow) if task in SLOW else task for task in TASKS])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """The task and its finished run."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, ftjax.finetune(config_of(request.param, folder), folder / "run")


def test_every_task_ends_ok_with_its_metrics_and_a_verdict(run: tuple[str, Any]) -> None:
    task, finished = run
    result = finished.result
    assert (result["status"], result["task"]) == ("ok", task)
    assert result["metric"]["name"] == METRICS[task][0]
    for name in METRICS[task]:
        interval = result["splits"]["test"][name]
        assert interval["low"] <= interval["value"] <= interval["high"], name
    assert result["verdict"].startswith("Fine-tuning reached")


def test_the_artefact_answers_again_what_the_run_answered(run: tuple[str, Any]) -> None:
    task, finished = run
    predictor = ftjax.load(finished.workdir)
    shown = [json.loads(line) for line in (finished.workdir / "metrics.jsonl").read_text().splitlines()]
    assert {line["split"] for line in shown} >= {"train", "validation", "travel"}
    answers = predictor.predict([("bara koti", "bara koti luzu")] if task == "question_answering" else ["bara koti luzu", ""])
    assert [answer["id"] for answer in answers] == (["0"] if task == "question_answering" else ["0", "1"])


def test_predict_gives_every_row_back(run: tuple[str, Any], tmp_path: Path) -> None:
    task, finished = run
    given = tmp_path / "new.csv"
    if task == "question_answering":
        given = write_data(task, tmp_path)
    else:
        text = "words" if task == "token_classification" else "text"
        write_table(given, (text, "other"), [(text, str(row)) for row, (text, _) in enumerate(texts(11, seed=9))])
    assert main(["predict", "--workdir", str(finished.workdir), "--input", str(given), "--output", str(tmp_path / "out.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == (90 if task == "question_answering" else 11)
    if task != "question_answering":
        assert [row["other"] for row in rows] == [str(row) for row in range(11)]


def test_evaluate_measures_the_test_split_as_the_run_did(run: tuple[str, Any], tmp_path: Path) -> None:
    _, finished = run
    assert main(["evaluate", "--workdir", str(finished.workdir), "--output", str(tmp_path / "again.json")]) == 0
    again = files.read_json(tmp_path / "again.json")["metrics"]
    for name, interval in finished.result["splits"]["test"].items():
        np.testing.assert_allclose(again[name]["value"], interval["value"], rtol=1e-6, err_msg=name)


def test_other_data_are_measured_whole_however_few_they_are(run: tuple[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    task, finished = run
    if task != "classification":
        pytest.skip("one task is enough")
    rows = [(text, label) for text, label in texts(40, seed=9) if label == texts(1, seed=9)[0][1]]
    write_table(tmp_path / "other.csv", ("text", "label"), rows)
    call = ["evaluate", "--workdir", str(finished.workdir), f"--config.data.path={tmp_path / 'other.csv'}", "--output", str(tmp_path / "found.json")]
    assert main(call) == 0
    assert files.read_json(tmp_path / "found.json")["examples"] == len(rows)
    write_table(tmp_path / "other.csv", ("text", "label"), [*rows, ("bara", "odd")])
    assert main(call) == 2
    assert "has class 'odd', which the model does not know" in capsys.readouterr().err


def test_how_the_run_split_its_data_is_not_asked_of_other_data(tmp_path: Path) -> None:
    """The configuration of a run by groups, seen from `evaluate` with another file."""
    trained = ftjax.Config(data=ftjax.DataConfig(source="table", path="a.csv", split="group", group="author", mixture=(("b.csv", 2.0),), fraction=0.5))
    files.write_json(tmp_path / "config.json", {"config": configuration.to_mapping(trained)})
    pictures = SimpleNamespace(reads_text=False)
    found = evaluate._config(tmp_path, {"data.path": "c.csv"}, pictures).data
    assert found == ftjax.DataConfig(source="table", path="c.csv")
    assert evaluate._config(tmp_path, {}, pictures) == trained
    grouped = evaluate._config(tmp_path, {"data.path": "c.csv", "data.split": "group", "data.group": "writer"}, pictures).data
    assert (grouped.split, grouped.group) == ("group", "writer")


def test_a_notebook_sees_one_line(run: tuple[str, Any]) -> None:
    _, finished = run
    assert re.fullmatch(r"Run\('.*run', ok, test \w+ [-\d.e]+ \([-\d.e]+ to [-\d.e]+\)\)", repr(finished))
    assert re.fullmatch(r"Predictor\(bert, [\d,]+ parameters, \w+(, \d+ classes \(.*\))?\)", repr(ftjax.load(finished.workdir)))


def test_the_page_shows_texts_and_no_pixels(run: tuple[str, Any]) -> None:
    _, finished = run
    page = (finished.workdir / "report.html").read_text()
    assert re.search(r"\d pixels|images", page) is None
    assert "tokens" in page
