"""A recommender from a log to its lists: trained, fine-tuned on a later log with new items, asked for new users, and its vectors handed on."""

import json

import numpy as np
import pytest

import ftjax
from ftjax import (
    Config,
    DataConfig,
    EvaluationConfig,
    ForgettingConfig,
    ModelConfig,
    OptimizerConfig,
    RecommendationConfig,
    ReportConfig,
    TaskConfig,
    TextConfig,
    TrainConfig,
)
from ftjax.commands import recommended
from ftjax.errors import ConfigError, DataError
from ftjax.main import main


def log(path, users, offset, items=10, prefix="i"):
    """Everybody goes round in a circle of items, from a place of their own."""
    lines = [f"{prefix}u{user} " + " ".join(f"{(user + step + offset) % items:02d}" for step in range(6)) for user in range(users)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def config(path, **changed):
    usual = {
        "method": "scratch",
        "data": DataConfig(source="interactions", path=path),
        "text": TextConfig(buckets=1),
        "task": TaskConfig(name="recommendation"),
        "model": ModelConfig(name="sasrec", dropout=0.0),
        "recommendation": RecommendationConfig(max_length=6, width=16, depth=1, k=(1, 5, 10)),
        "train": TrainConfig(batch_size=20, duration="40 epochs", evaluate_every="20 epochs"),
        "optimizer": OptimizerConfig(learning_rate=1e-2, schedule="constant", warmup="0 steps"),
        "evaluation": EvaluationConfig(baselines=("majority",), bootstrap=50),
        "report": ReportConfig(progress="none"),
    }
    return Config(**(usual | changed))


@pytest.fixture(scope="module")
def first(tmp_path_factory, one_device):
    folder = tmp_path_factory.mktemp("recommended")
    run = ftjax.finetune(config(log(folder / "first.txt", 20, 0)), folder / "run")
    return folder, run


def test_it_learns_which_item_comes_next(first):
    folder, run = first
    assert run.result["status"] == "ok"
    assert run.result["splits"]["test"]["hr_at_1"]["value"] > 0.9
    assert run.result["baselines"]["majority"]["hr_at_1"]["value"] < 0.5
    assert (folder / "run" / "report.html").is_file()


def test_new_users_are_served_from_their_history_alone(first):
    folder, _ = first
    predictor = ftjax.load(folder / "run")
    rows = predictor.predict([["03", "04", "05"], ["08", "09"]])
    assert [row["id"] for row in rows] == ["0", "1"]
    assert [row["items"][0]["item"] for row in rows] == ["06", "00"]
    assert not {item["item"] for item in rows[0]["items"]} & {"03", "04", "05"}
    scores = [item["score"] for item in rows[0]["items"]]
    assert scores == sorted(scores, reverse=True)
    without = predictor.recommend({"a": ["03", "04", "05"]}, top_k=2, exclude={"a": ["06"]})
    assert len(without[0]["items"]) == 2
    assert "06" not in {item["item"] for item in without[0]["items"]}


def test_a_log_is_answered_in_a_file_and_what_is_unknown_is_said(first, tmp_path, capsys):
    folder, _ = first
    (tmp_path / "new.csv").write_text("who,what,when\nann,01,5\nann,02,7\nbob,nothing,1\nbob,08,3\nann,00,1\n")
    (tmp_path / "not.txt").write_text("# nobody gets these\n03\n")
    flags = ["--config.recommendation.user=who", "--config.recommendation.item=what", "--config.recommendation.time=when", "--top-k", "2"]
    begin = ["predict", "--workdir", str(folder / "run"), "--input", str(tmp_path / "new.csv"), *flags]
    assert main([*begin, "--output", str(tmp_path / "lists.jsonl")]) == 0
    assert "1 events with 1 items that the model does not know are passed over: 'nothing'" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "lists.jsonl").read_text().splitlines()]
    assert {row["id"]: row["items"][0]["item"] for row in rows} == {"ann": "03", "bob": "09"}
    assert main([*begin, "--exclude", str(tmp_path / "not.txt"), "--output", str(tmp_path / "lists.csv")]) == 0
    lines = (tmp_path / "lists.csv").read_text().splitlines()
    assert lines[0] == '"id","rank","item","score"'
    assert len(lines) == 5
    assert '"03"' not in "".join(lines)


def test_vectors_of_items_give_the_scores_that_predict_gives(first, tmp_path):
    folder, _ = first
    assert main(["export", "--workdir", str(folder / "run"), "--format", "vectors", "--output", str(tmp_path / "vectors")]) == 0
    table, ids = np.load(tmp_path / "vectors" / "items.npy"), (tmp_path / "vectors" / "ids.txt").read_text().splitlines()
    predictor = ftjax.load(folder / "run")
    assert ids == list(predictor.classes)
    assert np.array_equal(table, np.asarray(predictor.params["item"]["embedding"])[1:])


def test_the_next_month_takes_over_what_it_knows_and_forgetting_is_measured(first):
    """Two of twelve items are new; the earlier log's users are followed."""
    folder, _ = first
    later = config(
        log(folder / "later.txt", 24, 1, items=12),
        method="l2_sp",
        model=ModelConfig(pretrained=str(folder / "run"), dropout=0.0),
        recommendation=RecommendationConfig(max_length=6, k=(1, 5, 10)),
        forgetting=ForgettingConfig(path=str(folder / "first.txt"), examples=10),
        evaluation=EvaluationConfig(baselines=("majority", "pretrained"), bootstrap=50),
    )
    run = ftjax.finetune(later, folder / "second")
    load = json.loads((folder / "second" / "load.json").read_text())
    assert {row["target"]: row["action"] for row in load["rows"]}["item/embedding"] == "matched"
    assert load["items"]["new"] == [{"id": "10", "from": "random"}, {"id": "11", "from": "random"}]
    forgetting = run.result["forgetting"]
    assert forgetting["examples"] == 10
    assert forgetting["before"]["source_accuracy"] >= 0.8
    assert forgetting["before"]["source_divergence"] == 0
    assert forgetting["after"]["source_divergence"] > 0
    assert "pretrained" in run.result["baselines"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"top_k": 11}, ConfigError, "lists of 11 items; allowed: 1 to 10"),
        ({"exclude": ["11"]}, DataError, "the excluded item '11' is none of the model's"),
        ({"exclude": {"b": ["01"]}}, DataError, "items are excluded for user 'b', who has no history here"),
    ],
)
def test_what_cannot_be_recommended_is_refused(first, asked, error, message):
    with pytest.raises(error, match=message):
        ftjax.load(first[0] / "run").recommend({"a": ["01"]}, **asked)


def test_histories_that_are_no_lists_are_refused(first):
    predictor = ftjax.load(first[0] / "run")
    with pytest.raises(DataError, match="the history of user '0' is a str; allowed: a list of ids, oldest first"):
        predictor.predict(["01"])
    with pytest.raises(DataError, match="there are no histories to recommend after"):
        predictor.predict([])


def test_lines_of_exclusions_are_of_one_kind(tmp_path):
    path = tmp_path / "not.txt"
    path.write_text("a 1\nb,2\na 3\n")
    assert recommended.read_excluded(path) == {"a": ["1", "3"], "b": ["2"]}
    path.write_text("1\na 2\n")
    with pytest.raises(DataError, match=r"not\.txt, line 2: allowed is an item in every line, or a user and an item in every line"):
        recommended.read_excluded(path)
