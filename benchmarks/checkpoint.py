"""How long a checkpoint holds up the training loop, and how long it takes in the background.

    python benchmarks/checkpoint.py [--megabytes 1,10,100] [--saves 5]

Prints one line per size. `first` is the first save, which compiles the fingerprints; `blocks` the median of the others, each begun when the
one before was done; `fingerprint` is the part of `blocks` that reads every array on the device; `complete` is the time until the step is
written, read back and compared; `restore` opens it.

Measured with jax 0.10.2 on 2 CPU cores that seven other jobs kept busy: a save of 100 MB blocks for 110 ms (of which 87 ms fingerprints), 10 MB for 104 ms,
1 MB for 23 ms; the first save of a process for 0.2 to 0.5 s. 100 MB are on disk, read back and compared after 1.7 s and restored in 0.9 s.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from ftjax.training.checkpoint import Checkpoints
from ftjax.training.fingerprint import fingerprint

ARRAYS = 24


def make_tree(megabytes: float, seed: int) -> dict[str, jax.Array]:
    """Twenty-four float32 matrices of noise, which do not compress."""
    columns = 512
    rows = max(1, int(megabytes * 1e6 / ARRAYS / 4 / columns))
    keys = jax.random.split(jax.random.PRNGKey(seed), ARRAYS)
    return jax.block_until_ready({f"block_{i}/kernel": jax.random.normal(key, (rows, columns), jnp.float32) for i, key in enumerate(keys)})


def seconds(function: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(megabytes: float, saves: int, folder: Path) -> dict[str, float]:
    """Times in seconds for one size."""
    checkpoints = Checkpoints(folder)
    blocked, complete, prints = [], [], []
    for step in range(saves + 1):
        tree = make_tree(megabytes, step)
        start = time.perf_counter()
        checkpoints.save(step, tree, {})
        blocked.append(time.perf_counter() - start)
        checkpoints.wait()
        complete.append(time.perf_counter() - start)
        prints.append(seconds(lambda tree=tree: [fingerprint(array) for array in tree.values()]))
    restore = seconds(lambda: checkpoints.restore(tree))
    checkpoints.close()
    return {
        "first": blocked[0],
        "blocks": statistics.median(blocked[1:]),
        "fingerprint": statistics.median(prints),
        "complete": statistics.median(complete[1:]),
        "restore": restore,
    }


def main() -> None:
    """Measure every size and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", default="1,10,100")
    parser.add_argument("--saves", type=int, default=5)
    arguments = parser.parse_args()
    for megabytes in map(float, arguments.megabytes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            times = measure(megabytes, arguments.saves, Path(folder))
        shown = "  ".join(f"{name} {1e3 * value:7.1f} ms" for name, value in times.items())
        print(f"{megabytes:7.1f} MB  {shown}  blocks per MB {1e3 * times['blocks'] / megabytes:.2f} ms")


if __name__ == "__main__":
    main()
