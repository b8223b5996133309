"""What a recommender has to beat, on the public logs: the most popular items and item-kNN, full ranking, with intervals over users.

    python -m benchmarks.recommendation_baselines

reads the logs below FTJAX_SHARED_DATA and prints the table of docs/recommendation.md.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from ftjax.config import DataConfig, RecommendationConfig, TextConfig
from ftjax.data import collect_interactions
from ftjax.evaluation.kinds.recommendation import RecommendationMeasures

LOGS = ("beauty_bert4rec/beauty.txt", "amazon_beauty/Beauty.txt", "ml_latest_small/ratings.csv")
SHOWN = ("hr_at_10", "ndcg_at_10", "cold_hr_at_10", "coverage_at_10", "popularity_ratio_at_10")


def main() -> None:
    """Collect each log, measure both baselines on its test split, print a row for each."""
    folder = Path(os.environ["FTJAX_SHARED_DATA"]) / "rec"
    print("| log | users | items | baseline | " + " | ".join(SHOWN) + " | seconds |")
    print("|---" * (5 + len(SHOWN)) + "|")
    for name in LOGS:
        data = DataConfig(source="interactions", path=str(folder / name))
        dataset = collect_interactions(data, TextConfig(), RecommendationConfig(), seed=0)
        splits, measures = dataset.splits, RecommendationMeasures(len(dataset.classes))
        for title, measure in (("most popular", measures.majority), ("item-kNN", measures.neighbours)):
            began = time.perf_counter()
            baseline = measure(splits["train"], splits["test"])
            assert baseline is not None
            found = measures.intervals(baseline.records)
            cells = [f"{entry['value']:.4f} ({entry['low']:.4f} to {entry['high']:.4f})" for entry in (found[metric] for metric in SHOWN)]
            told = [name, f"{len(splits['test']):,}", f"{len(dataset.classes):,}", title, *cells, f"{time.perf_counter() - began:.1f}"]
            print("| " + " | ".join(told) + " |", flush=True)


if __name__ == "__main__":
    main()
