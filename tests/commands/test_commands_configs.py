"""Every shipped configuration is dry-run: `check` on small data of its kind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_language
from PIL import Image
from tiny_text import texts, write_bert, write_table

from ftjax import distribution
from ftjax.main import main

ROOT = Path(__file__).parents[2]
WEIGHTS = ["--config.model.pretrained=builtin:digits", "--config.mesh.data=1", "--config.mesh.tensor=8"]


def check(config: str, *flags: str) -> None:
    name, _, argument = config.partition(":")
    path = str(ROOT / "configs" / f"{name}.py") + (f":{argument}" if argument else "")
    assert main(["check", "--config", path, "--alternatives", "0", *WEIGHTS, *flags]) == 0


def test_quickstart_passes_the_dry_run():
    check("quickstart")


def test_npz_passes_the_dry_run(arrays):
    check("npz:probe", f"--config.data.path={arrays}")


def photos(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(12):
            Image.fromarray(draw.integers(0, 256, (20, 20, 3)).astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_image_folder_passes_the_dry_run(tmp_path):
    check("image_folder:partial", f"--config.data.path={photos(tmp_path)}")


def test_lora_vision_passes_the_dry_run(tmp_path, capsys, monkeypatch):
    make_mesh = distribution.make_mesh
    monkeypatch.setattr(distribution, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
    check("lora_vision:int8", f"--config.data.path={photos(tmp_path)}", "--config.mesh.tensor=1")
    shown = " ".join(capsys.readouterr().out.split())
    assert "LoRA by 'attention.query': 4 x encoder/block_*/attention/query/kernel [96, 96], rank 16, scale 1, 12,288 parameters" in shown
    assert "Int8 by 'int8': 4 x encoder/block_*/mlp/up/kernel [96, 384], 0 parameters" in shown


@pytest.mark.slow
def test_tfds_passes_the_dry_run(tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "build_tfds_example.py"), "--data_dir", str(tmp_path)]
    said = subprocess.run(script, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    check(f"tfds:{said.split()[-1].rpartition('=')[2]}", f"--config.data.path={tmp_path}")


@pytest.fixture
def tiny_bert(tmp_path_factory, monkeypatch):
    """Weights; and one device and one length of batch, so that there is one small program to compile."""
    make_mesh = distribution.make_mesh
    monkeypatch.setattr(distribution, "make_mesh", lambda config: make_mesh(config, jax.devices()[:1]))
    return write_bert(tmp_path_factory.mktemp("weights") / "bert", num_hidden_layers=1)


def check_text(config: str, weights: Path, data: Path, *flags: str) -> None:
    small = ("--config.mesh.tensor=1", "--config.text.buckets=1")
    check(config, f"--config.data.path={data}", f"--config.model.pretrained={weights}", *small, *flags)


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_text_classification_passes_the_dry_run(tiny_bert, tmp_path, task):
    rows = [(text, label if task == "classification" else f"{label},sweet") for text, label in texts(60)]
    check_text(f"text_classification:{task}", tiny_bert, write_table(tmp_path / "texts.csv", ("text", "label"), rows))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_text_pair_passes_the_dry_run(tiny_bert, tmp_path, task):
    rows = [(text, text.split()[0], label if task == "classification" else len(label) / 2) for text, label in texts(60)]
    check_text(f"text_pair:{task}", tiny_bert, write_table(tmp_path / "pairs.csv", ("text", "text_pair", "label"), rows))


def test_lora_text_passes_the_dry_run(tiny_bert, tmp_path):
    check_text("lora_text:dora", tiny_bert, write_table(tmp_path / "texts.csv", ("text", "label"), texts(60)))


def test_token_classification_passes_the_dry_run(tiny_bert, tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        sentences = ("\n".join(f"{word}\t{'B-name' if word[0] == 'k' else 'O'}" for word in text.split()) for text, _ in texts(40, seed))
        (tmp_path / f"{split}.conll").write_text("\n\n".join(sentences))
    check_text("token_classification", tiny_bert, tmp_path)


def test_question_answering_passes_the_dry_run(tiny_bert, tmp_path):
    paragraphs = []
    for number, (text, label) in enumerate(texts(60)):
        word = text.split()[-1]
        answer = {"text": word, "answer_start": text.rindex(word)}
        paragraphs.append({"context": text, "qas": [{"id": str(number), "question": f"what is {label}", "answers": [answer]}]})
    (tmp_path / "train.json").write_text(json.dumps({"version": "1.1", "data": [{"title": "words", "paragraphs": paragraphs}]}))
    check_text("question_answering", tiny_bert, tmp_path / "train.json", "--config.text.stride=16")


def test_sentence_embedding_passes_the_dry_run(tiny_bert, tmp_path):
    rows = [(text, " ".join(reversed(text.split()))) for text, _ in texts(60)]
    check_text("sentence_embedding", tiny_bert, write_table(tmp_path / "pairs.csv", ("text", "text_pair"), rows))


@pytest.fixture
def tiny_llama(tiny_bert, tmp_path_factory):
    """Weights of a model that writes; one device, as for `tiny_bert`."""
    return tiny_language.write_llama(tmp_path_factory.mktemp("weights") / "llama", num_hidden_layers=1)


@pytest.mark.parametrize("data", ["table", "text"])
def test_sft_passes_the_dry_run(tiny_llama, tmp_path, data):
    if data == "table":
        path = tiny_language.write_rows(tmp_path / "answers.jsonl", tiny_language.sums())
    else:
        path = tmp_path / "book.txt"
        path.write_text("\n\n".join(f"paragraph {number} " + "word " * 90 for number in range(120)))
    check_text(f"sft:{data}", tiny_llama, path, "--config.data.near_duplicates=off")


def test_dpo_passes_the_dry_run(tiny_llama, tmp_path):
    rows = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": "no"} for row in tiny_language.sums()]
    check_text("dpo", tiny_llama, tiny_language.write_rows(tmp_path / "pairs.jsonl", rows))


def ratings(folder: Path) -> Path:
    """Twelve users go round in a circle of eight items, a day each."""
    lines = [f"{user},{(user + day) % 8},{1_000_000 + 86_400 * (20 * user % 7 + day)}" for user in range(12) for day in range(6)]
    (folder / "ratings.csv").write_text("\n".join(["user,item,timestamp", *lines]) + "\n")
    return folder / "ratings.csv"


SMALL_RECOMMENDER = (
    "--config.model.pretrained=none",
    "--config.mesh.tensor=1",
    "--config.text.buckets=1",
    "--config.recommendation.width=16",
    "--config.recommendation.depth=1",
    "--config.recommendation.max_length=6",
)


def test_sequential_recommendation_passes_the_dry_run(one_device, tmp_path):
    check("sequential_recommendation", f"--config.data.path={ratings(tmp_path)}", *SMALL_RECOMMENDER)


def test_two_tower_passes_the_dry_run(one_device, tiny_bert, tmp_path):
    (tmp_path / "items.csv").write_text("item,title\n" + "".join(f"{item},sweet {item}\n" for item in range(8)))
    encoder = (f"--config.recommendation.text_encoder={tiny_bert}", f"--config.recommendation.items_path={tmp_path / 'items.csv'}")
    check("two_tower", f"--config.data.path={ratings(tmp_path)}", *SMALL_RECOMMENDER, *encoder)


def test_every_shipped_configuration_has_its_dry_run_here():
    tested = {name.removeprefix("test_").removesuffix("_passes_the_dry_run") for name in globals() if name.endswith("_passes_the_dry_run")}
    assert {path.stem for path in (ROOT / "configs").glob("*.py")} == tested
