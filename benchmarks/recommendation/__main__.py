"""Recommendation beside published figures: from scratch, from pretrained weights, and for items that nobody has touched.

    python -m benchmarks.recommendation --data SHARED_DATA --workdir FOLDER [--only NAME ...] [--smoke]
    python -m benchmarks.recommendation --data SHARED_DATA --workdir FOLDER --page

Every run has a folder of its own and goes on where it was stopped, so that the same command may be given again. `--page` writes
`benchmarks/results/recommendation.md` and `.json` of what there is, a run that has not ended by its validation curve and its best weights so far.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import ftjax
from benchmarks.recommendation import arms, page
from ftjax import Config

Made = Callable[[Path, arms.Lengths], Config]
RUNS: dict[str, Made] = {
    **{f"beauty_{arm}": lambda shared, lengths, arm=arm: arms.beauty(shared, arm, lengths) for arm in ("ce", "bce", "bert4rec")},
    "s3rec_bce": arms.s3rec,
    "s3rec_ce": arms.s3rec_ce,
    **{
        f"movielens_{model}": lambda shared, lengths, model=model: arms.movielens(shared, model, lengths)
        for model in ("sasrec", "gru4rec", "matrix_factorisation")
    },
    **{f"towers_{arm}": lambda shared, lengths, arm=arm: arms.tower(shared, arm, lengths) for arm in ("text", "ids")},
}


def main() -> None:
    """Run what is asked for, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--workdir", required=True, type=Path)
    parser.add_argument("--only", nargs="+", default=list(RUNS), help="names of runs, or the beginnings of names")
    parser.add_argument("--smoke", action="store_true", help="an epoch each")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    lengths = arms.SMOKE if arguments.smoke else arms.USUAL
    wanted = [name for name in RUNS if any(name.startswith(asked) for asked in arguments.only)]
    if arguments.page:
        page.write({name: RUNS[name](arguments.data, lengths) for name in wanted}, arguments.workdir)
        return
    for name in wanted:
        ftjax.finetune(RUNS[name](arguments.data, lengths), arguments.workdir / name)


if __name__ == "__main__":
    main()
