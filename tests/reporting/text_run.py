"""Run directories of every task on text, made of arithmetic: what the tests of reports on text read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from reporting_run import GROUPS, coefficients_json, load_json, result_json, write_metrics

from ftjax.config import Config, DataConfig, ModelConfig, TaskConfig, TextConfig
from ftjax.files import write_json

METRICS = {
    "classification": ("accuracy", {"accuracy": 0.913, "balanced_accuracy": 0.912, "macro_f1": 0.911, "mcc": 0.902, "log_loss": 0.41}),
    "regression": ("pearson", {"pearson": 0.8712, "spearman": 0.8561, "rmse": 0.512, "r2": 0.752}),
    "multi_label": ("macro_f1", {"macro_f1": 0.61, "micro_f1": 0.7, "auroc": 0.91, "exact_match": 0.4}),
    "token_classification": ("f1", {"f1": 0.52, "precision": 0.55, "recall": 0.49, "accuracy": 0.95}),
    "question_answering": ("f1", {"f1": 0.71, "exact_match": 0.62}),
    "sentence_embedding": ("mrr", {"mrr": 0.801, "recall_at_1": 0.72, "recall_at_10": 0.95}),
}
BANKING = tuple(
    f"{verb}_{what}"
    for what in (
        "card_payment_wrong_exchange_rate",
        "top_up",
        "transfer",
        "cash_withdrawal",
        "pin",
        "refund",
        "direct_debit",
        "virtual_card",
        "exchange",
        "age_limit",
        "pass",
    )
    for verb in ("pending", "declined", "reverted", "unknown", "cancel", "change", "lost")
)
"""77 names, as long and as like each other as those of BANKING77."""
LONG = "word " * 20_000
HOSTILE_TEXTS = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "a\x00b\x1b[31mc\x9b2J\u202edesrever\u2066",
    "مرحبا بالعالم، هذه جملة باللغة العربية",
    "می\u200cخواهم",
    LONG,
    "x" * 100_000,
    "",
    "  \n ",
    "{{ 7 * 7 }} ]]>--> &lt;",
    "lone \\udc80 surrogate",
)


def config_json(task: str) -> dict[str, Any]:
    """A fine-tuned MiniLM."""
    config = Config(
        data=DataConfig(source="table", path="data/banking77/train.csv"),
        text=TextConfig(text="sentence", max_length=64),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
        task=TaskConfig(name=task),
    )
    return {"config": dataclasses.asdict(config), "origins": {"text.text": {"origin": "file", "why": ""}}}


def data_json(classes: tuple[str, ...], pair: bool = False) -> dict[str, Any]:
    """Three splits of a table, with lengths."""
    draw = np.random.default_rng(0)
    edges = list(range(0, 81, 4))
    drawn = {split: draw.gamma(4.0, 4.0, rows) + 3 for split, rows in (("train", 9000), ("validation", 1000), ("test", 3000))}
    counts = {split: np.histogram(np.minimum(values, 79), edges)[0].tolist() for split, values in drawn.items()}
    splits = {
        split: {"rows": len(values), "per_class": {name: len(values) // max(1, len(classes)) + (7 * index) % 11 for index, name in enumerate(classes)}}
        for split, values in drawn.items()
    }
    columns = {
        "text": {"column": "sentence", "origin": "given", "why": ""},
        "label": {"column": "category", "origin": "guessed", "why": "few values that repeat"},
    }
    if pair:
        columns["text_pair"] = {"column": "premise", "origin": "guessed", "why": "the second column of sentences"}
    return {
        "source": "table: train.csv",
        "fingerprint": "9f2c41d07be35a1c6a3f0b7d",
        "classes": list(classes),
        "splits": splits,
        "columns": columns,
        "unused_columns": ["row_id"],
        "encoding": "utf-8",
        "delimiter": ",",
        "tokens": {
            "histogram": {"edges": edges, "counts": counts},
            "buckets": [16, 24, 40, 64],
            "max_length": 64,
            "truncated": {"train": 12, "validation": 0, "test": 3},
            "unknown_share": {"train": 0.0004, "validation": 0.0, "test": 0.0011},
            "median": {"train": 17, "validation": 17, "test": 18},
            "longest": {"train": 98, "validation": 61, "test": 79},
            "padding_share": 0.113,
        },
        "rejected": [],
        "duplicates": {},
    }


def result_of(task: str) -> dict[str, Any]:
    """The result of a run that beat its baselines, or whose baselines did."""
    name, values = METRICS[task]
    lower = name in ("rmse", "log_loss")
    test = {metric: {"value": value, "low": value - 0.02, "high": value + 0.02} for metric, value in values.items()}

    def other(factor: float, why: str) -> dict[str, Any]:
        return {metric: {key: factor * number for key, number in found.items()} for metric, found in test.items()} | {"why": why}

    return {key: value for key, value in result_json().items() if key != "forgetting"} | {
        "task": task,
        "method": "full",
        "metric": {"name": name, "higher_is_better": not lower},
        "splits": {"validation": {metric: value + 0.004 for metric, value in values.items()}, "test": test},
        "baselines": {"probe": other(0.9, "a linear model on the features"), "majority": other(0.1, "always the same answer")},
        "verdict": "Fine-tuning reached more than the linear probe: it was worth it.",
        "after": {"candidates": [], "chosen": "best_checkpoint"},
        "warnings": [],
    }


def write_text_run(folder: Path, task: str, test: dict[str, Any], *, classes: tuple[str, ...] = (), pair: bool = False, **arrays: np.ndarray) -> Path:
    """Every file of a good run on text; `test` is its test.json, `arrays` its records."""
    result = result_of(task)
    for name, value in {
        "config": config_json(task),
        "data": data_json(classes, pair),
        "load": load_json(),
        "coefficients": coefficients_json(),
        "result": result | {"travel": dict.fromkeys(GROUPS, 0.1)},
        "evaluation/test": test,
    }.items():
        write_json(folder / f"{name}.json", value)
    write_metrics(folder, {result["metric"]["name"]: 0.9})
    np.savez(folder / "evaluation" / "test.npz", **arrays)
    return folder


def banking(folder: Path, texts: tuple[str, ...] = ("How do I top up?", "My card payment was in another currency and the rate is wrong.")) -> Path:
    """77 classes."""
    total = len(BANKING)
    draw = np.random.default_rng(3)
    label = np.arange(3080) % total
    confidence = np.clip(1 - draw.exponential(0.12, 3080), 0.05, 1.0)
    prediction = np.where(draw.random(3080) < confidence * 0.97 + 0.02, label, (label + draw.integers(1, 8, 3080)) % total)
    confusion = np.zeros((total, total), int)
    np.add.at(confusion, (label, prediction), 1)
    errors = [
        {
            "id": f"test:{7 * row}",
            "label": BANKING[row],
            "prediction": BANKING[(row + 1) % total],
            "confidence": 0.99 - row / 60,
            "text": text[:1000],
            "text_characters": len(text),
        }
        for row, text in enumerate(texts)
    ]
    uncertain = [{**errors[0], "prediction": errors[0]["label"], "confidence": 0.11}]
    test = {"confusion": confusion.tolist(), "errors": errors, "uncertain": uncertain}
    return write_text_run(folder, "classification", test, classes=BANKING, label=label, prediction=prediction, confidence=confidence, weight=np.ones(3080))


def similarity(folder: Path) -> Path:
    """A regression on pairs."""
    draw = np.random.default_rng(4)
    label = np.round(draw.uniform(1, 5, 2400), 1)
    prediction = np.clip(label + draw.normal(-0.08, 0.45, 2400), 0.8, 5.2)
    worst = np.argsort(-np.abs(label - prediction))[:8]
    pairs = ("A man is playing a guitar on a stage in front of many people.", "There is no man playing a guitar.")
    errors = [
        {"id": f"test:{row}", "label": float(label[row]), "prediction": float(prediction[row]), "text": pairs[0], "text_pair": pairs[1] * (1 + place)}
        for place, row in enumerate(worst.tolist())
    ]
    return write_text_run(folder, "regression", {"errors": errors}, pair=True, label=label, prediction=prediction, weight=np.ones(2400))


def entities(folder: Path) -> Path:
    """Entities in noisy sentences."""
    kinds = ("person", "location", "group", "product", "creative-work", "corporation")
    found = [{"name": name, "support": 400 - 60 * place, "predicted": 380 - 50 * place, "right": 300 - 55 * place} for place, name in enumerate(kinds)]
    words = ["Barack", "Obama", "met", "the", "Rolling", "Stones", "at", "Apple", "Park", "in", "Cupertino", "and", "drank", "tea"]
    label = ["B-person", "I-person", "O", "O", "B-group", "I-group", "O", "B-location", "I-location", "O", "B-location", "O", "O", "O"]
    said = ["B-person", "I-person", "O", "O", "O", "O", "O", "B-corporation", "O", "O", "B-location", "O", "O", "B-product"]
    errors = [
        {"id": "test:3", "words": words, "label": label, "prediction": said},
        {"id": "test:9", "words": ["w"] * 300, "label": ["O"] * 300, "prediction": ["O"] * 300},
    ]
    tags = ("O", *(f"{mark}-{name}" for name in kinds for mark in "BI"))
    return write_text_run(folder, "token_classification", {"entities": found, "errors": errors}, classes=tags)


def labels(folder: Path) -> Path:
    """Several labels for a text."""
    names = ("anger", "joy", "surprise")
    found = [{"name": name, "support": 100 * (place + 1), "predicted": 90, "right": 60} for place, name in enumerate(names)]
    errors = [{"id": "test:1", "label": ["anger", "joy"], "prediction": [], "confidence": 0.98, "text": "What a day!"}]
    return write_text_run(folder, "multi_label", {"labels": found, "errors": errors}, classes=names)


def answers(folder: Path) -> Path:
    """Questions about texts."""
    context = "Before. " * 60 + "The Norman dynasty had a major influence on medieval Europe. " + "After. " * 60
    errors = [
        {
            "id": "q1",
            "question": "Who had an influence?",
            "context": context,
            "label": ["The Norman dynasty", "Norman dynasty"],
            "prediction": "medieval Europe",
            "confidence": 0.9,
        },
        {"id": "q2", "question": "When?", "context": "No time is given.", "label": [], "prediction": "time", "confidence": 0.6},
    ]
    return write_text_run(folder, "question_answering", {"errors": errors})


def embedding(folder: Path) -> Path:
    """Pairs that should find each other."""
    errors = [
        {
            "id": "test:5",
            "label": "rank 1",
            "prediction": "rank 7",
            "note": "its partner is at rank 7",
            "text": "a",
            "text_pair": "b",
            "retrieved": "c",
            "confidence": 0.8,
        }
    ]
    return write_text_run(folder, "sentence_embedding", {"errors": errors}, pair=True)
