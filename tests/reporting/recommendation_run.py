"""A run directory of a recommender, made of arithmetic: what the tests of its report read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from reporting_run import GROUPS, coefficients_json, load_json, result_json, write_metrics

from ftjax.config import Config, DataConfig, RecommendationConfig, TaskConfig
from ftjax.files import write_json

LENGTHS = (1, 5, 10, 20)
SPREAD = {"mean": 8.8, "0%": 5.0, "25%": 5.0, "50%": 6.0, "75%": 9.0, "90%": 14.0, "99%": 41.0, "100%": 293.0}


def metrics(scale: float, sampled: str = "") -> dict[str, dict[str, float]]:
    """Every metric of a split, with intervals."""
    values = {f"hr_at_{k}{sampled}": 0.02 * np.log2(k + 1) * scale for k in LENGTHS} | {
        f"ndcg_at_{k}{sampled}": 0.012 * np.log2(k + 1) * scale for k in LENGTHS
    }
    values |= {f"mrr{sampled}": 0.03 * scale, f"cold_hr_at_10{sampled}": 0.004 * scale}
    values |= {} if sampled else {"coverage_at_10": 0.61 * scale, "novelty_at_10": 13.2, "popularity_ratio_at_10": 1.3}
    return {name: {"value": value, "low": 0.9 * value, "high": 1.1 * value} for name, value in sorted(values.items(), key=lambda item: item[0] != "ndcg_at_10")}


def data_json(**changes: Any) -> dict[str, Any]:
    """A log of three splits."""
    splits = {name: {"rows": 40_226, "per_class": {}, "origin": "last", "known": SPREAD, "cut": 206} for name in ("train", "validation", "test")}
    for name in ("validation", "test"):
        splits[name] |= {"unseen": 4018, "cold": 16460, "cold_share": 0.41, "repeats": 0}
    interactions = {
        "users": 40_226,
        "items": 54_542,
        "events": 353_962,
        "sparsity": 0.99984,
        "events_per_user": SPREAD,
        "events_per_item": SPREAD,
        "popularity": {"gini": 0.631, "top_tenth": 0.54, "curve": [1 - (1 - place / 20) ** 3 for place in range(21)]},
        "from": "1996-03-29 18:36:55",
        "to": "2018-09-24 14:27:30",
        "time_unit": "seconds",
        "ties": {"events": 5619, "targets": 12},
        "split": {"way": "last", "only_train": 3, "never_train": 0},
        "form": "table",
        "removed": [{"policy": "recommendation.item_core=5", "events": 7323, "items": 4342}, {"policy": "recommendation.min_rating=4", "events": 52256}],
    }
    columns = {
        role: {"column": name, "origin": "guessed", "why": "from its name"} for role, name in (("user", "userId"), ("item", "movieId"), ("time", "timestamp"))
    }
    report = {
        "source": "interactions: ratings.csv",
        "fingerprint": "9f2c41d07be35a1c6a3f0b7d",
        "classes": [],
        "splits": splits,
        "columns": columns,
        "interactions": interactions,
        "rejected": [{"file": "ratings.csv:7", "why": "its time -5 is negative: times are counted from 1970"}],
        "ignored": [],
        "duplicates": {"policy": "drop", "within": [], "across": [], "conflicting": [], "dropped": []},
        "items": {"where": "movies.csv", "item": "movieId", "text": ["title"], "missing": 0},
    }
    return report | changes


def evaluation_json(users: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Curves, bins of popularity and users."""
    lengths = list(range(1, 21))
    curves = {"k": lengths, "hr": [0.02 * float(np.log2(k + 1)) for k in lengths], "ndcg": [0.012 * float(np.log2(k + 1)) for k in lengths]}
    edges = (0, 1, 5, 20, 100, 500, None)
    rates = (0.0, 0.003, 0.02, 0.09, 0.2, None)
    bins = [
        {"from": low, "to": None if high is None else high - 1, "users": 900 * (place + 1), "hit_rate": rate}
        for place, (low, high, rate) in enumerate(zip(edges, edges[1:], rates))
    ]
    shown = [
        {
            "id": "414",
            "label": "Heat (1995)",
            "prediction": "Heat (1995)",
            "rank": 1,
            "target_events": 102,
            "known": 37,
            "target": "Heat (1995)",
            "history": ["Seven (1995)", "Fargo (1996)", "Casino (1995)"],
            "recommended": ["Heat (1995)", "Ronin (1998)", "Jackie Brown (1997)"],
        },
        {
            "id": "7",
            "label": "Babe (1995)",
            "prediction": "Alien (1979)",
            "rank": 8123,
            "target_events": 1,
            "known": 2,
            "target": "Babe (1995)",
            "history": ["Alien³ (1992)", "Aliens (1986)"],
            "recommended": ["Alien (1979)", "Terminator, The (1984)"],
        },
    ]
    found = {"k": 10, "sampled": None, "items": 54_542, "curves": curves, "popularity": bins}
    return {"recommendation": found, "errors": shown if users is None else users}


def write_recommendation_run(folder: Path, test: dict[str, Any] | None = None, data: dict[str, Any] | None = None, sampled: str = "") -> Path:
    """Every file of a good run."""
    config = Config(
        data=DataConfig(source="interactions", path="data/ml_latest_small/ratings.csv"),
        recommendation=RecommendationConfig(items_path="data/ml_latest_small/movies.csv"),
        task=TaskConfig(name="recommendation"),
    )
    baselines = {
        "majority": metrics(0.2, sampled) | {"why": "the same for everybody"},
        "item_knn": metrics(0.8, sampled) | {"why": "items that the same users had"},
    }
    validation = {name: entry["value"] for name, entry in metrics(1.05, sampled).items()}
    main = f"ndcg_at_10{sampled}"
    result = {key: value for key, value in result_json().items() if key != "forgetting"} | {
        "task": "recommendation",
        "method": "full",
        "metric": {"name": main, "higher_is_better": True},
        "splits": {"validation": validation, "test": metrics(1.0, sampled)},
        "baselines": baselines,
        "verdict": "Fine-tuning reached more than item-kNN: it was worth it.",
        "after": {"candidates": [], "chosen": "best_checkpoint"},
        "warnings": [],
        "travel": dict.fromkeys(GROUPS, 0.1),
    }
    for name, value in {
        "config": {"config": dataclasses.asdict(config), "origins": {"recommendation.items_path": {"origin": "file", "why": ""}}},
        "data": data or data_json(),
        "load": load_json(),
        "coefficients": coefficients_json(),
        "result": result,
        "evaluation/test": test or evaluation_json(),
    }.items():
        write_json(folder / f"{name}.json", value)
    write_metrics(folder, {main: 0.05})
    np.savez(folder / "evaluation" / "test.npz", label=np.arange(5), weight=np.ones(5))
    return folder
