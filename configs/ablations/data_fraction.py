"""The metric against the amount of data, with a power law through it: six shares of the training rows, as many steps on each.

python -m ftjax.main ablate --ablation configs/ablations/data_fraction.py \\
  --config configs/quickstart.py --config.data.labels_per_class=none \\
  --config.train.duration='300 steps' --config.train.batch_size=32 --workdir runs/fraction

Duration and batch size must be given: the recipe chooses both by the amount of data, and budgets are equal.
"""

from ftjax.ablation import Ablation, Axis


def get_ablation() -> Ablation:
    return Ablation(compare=(Axis("data.fraction", (0.03, 0.06, 0.12, 0.25, 0.5, 1.0)),), seeds=tuple(range(5)))
