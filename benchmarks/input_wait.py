"""The share of training that waits for its next batch, in the photo runs of `photos.py`: pictures in memory, and decoded anew for every batch.

    python -m benchmarks.input_wait --data SHARED_DATA --workdir runs/input_wait [--steps 60]

Reads `input_wait_fraction` of each run's result.json. Writes `benchmarks/results/input_wait.md` and `.json`;
rows that are there already are not measured again.
"""

import argparse
import os
from pathlib import Path

import ftjax
from benchmarks import photos
from ftjax import configuration, files

WAYS = {
    "in memory (the default: they fit)": {},
    "decoded for every batch, by threads": {"data.cache_megabytes": 0},
    "decoded for every batch, by processes": {"data.cache_megabytes": 0, "data.worker_kind": "processes"},
}
GOAL = 0.05


def measured(shared: Path, workdir: Path, model: str, data: str, way: str, steps: int) -> dict:
    base = photos.configuration(shared, model, data, 0, None, 0)
    config = configuration.replace(base, {**WAYS[way], "train.duration": f"{steps} steps", "evaluation.baselines": ()})
    result = ftjax.finetune(config, workdir=workdir / f"{model}_{data}_{list(WAYS).index(way)}").result
    if result["status"] != "ok":
        raise SystemExit(f"{model} on {data}, {way}: {result['status']}")
    told = {key: result[key] for key in ("input_wait_fraction", "examples_per_second", "steps")}
    return {"model": model, "data": data, "way": way, "load": os.getloadavg()[0], **told}


def table(rows: list[dict]) -> str:
    loads = [row["load"] for row in rows]
    return "\n".join(
        [
            "# Waiting for batches",
            "",
            f"`python -m benchmarks.input_wait`: {rows[0]['steps']} steps of 32 pictures at {photos.PIXELS} pixels in bfloat16 as `photos.py` configures them,",
            f"`data.workers` 4. Waiting is the share of the time between steps in which no next batch was ready; the goal is below {GOAL:.0%}.",
            "",
            "| model | data | pictures | waiting | examples a second |",
            "|---|---|---|--:|--:|",
            *(f"| {row['model']} | {row['data']} | {row['way']} | {row['input_wait_fraction']:.2%} | {row['examples_per_second']:.0f} |" for row in rows),
            "",
            f"Load of the machine ({os.cpu_count()} cores) at the ends of the runs: {min(loads):.1f} to {max(loads):.1f}"
            + ("; other work ran beside it, steps and batches were slow alike." if max(loads) > 4 else "."),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    page = photos.RESULTS / "input_wait.json"
    rows = files.read_json(page) if page.exists() else []
    for way in WAYS:
        for data in photos.PHOTOS:
            if any((row["data"], row["way"]) == (data, way) for row in rows):
                continue
            rows.append(measured(arguments.data, arguments.workdir, "vit", data, way, arguments.steps))
            print(rows[-1], flush=True)
            files.write_json(page, rows)
            files.write_text(photos.RESULTS / "input_wait.md", table(rows))


if __name__ == "__main__":
    main()
