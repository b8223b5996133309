"""Groups as jobs: a script for a SLURM array whose tasks each train one group, and a last job that judges. No scheduler of our own.

Every task runs `ftjax ablate ... --only-group N` on the same folder, so a task that was killed (a time limit, a lost node) is simply submitted again: it
goes on from its checkpoint. The same command without `--only-group` finds everything trained and writes the results.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ftjax.errors import ConfigError


def sbatch(command: Sequence[str], groups: int, *, name: str, options: Sequence[str] = ()) -> str:
    """The array's script.

    Args:
      command: the `ftjax ablate` command without `--launcher`, word by word.
      groups: tasks of the array.
      name: of the job.
      options: further `#SBATCH` options, such as `--gres=gpu:1`.

    Raises:
      ConfigError: an option that is none.
    """
    for option in options:
        if not option.startswith("--") or "\n" in option:
            raise ConfigError(f"--sbatch {option!r} is no option of sbatch; write --sbatch=--gres=gpu:1")
    line = shlex.join([*command, "--only-group"]) + ' "$SLURM_ARRAY_TASK_ID"'
    head = [f"--job-name={name}", f"--array=0-{groups - 1}", "--requeue", "--signal=B:TERM@120", "--open-mode=append", *options]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {option}" for option in head),
        "# Each task trains one group; submitted again, it goes on from its checkpoint. When all are done:",
        f"#   {shlex.join(command)}",
        "set -euo pipefail",
        "# SLURM's warning before the time limit reaches the shell; the training saves its state when it is told.",
        "trap 'kill -TERM \"$child\"' TERM",
        f"{line} &",
        "child=$!",
        'wait "$child" || { status=$?; wait "$child" 2>/dev/null || true; exit "$status"; }',
    ]
    return "\n".join(lines) + "\n"
