"""Full fine-tuning with the coefficient over time and depth: all at once, the head first, from the head down, layer by layer slower; rates tuned for each.

    python -m ftjax.main ablate --ablation configs/ablations/coefficient_schedules.py \\
        --config configs/quickstart.py --config.train.duration='300 steps' --workdir runs/schedules

The duration must be given: methods' recipes differ in it, and budgets are equal.
"""

from ftjax.ablation import Ablation, Axis, Times

METHODS = ("full", "lp_ft", "gradual", "layer_decay", "discriminative")
RATES = (0.1, 0.3, 1.0, 3.0)


def get_ablation() -> Ablation:
    tune = (Axis("optimizer.learning_rate", tuple(map(Times, RATES))),)
    return Ablation(compare=(Axis("method", METHODS),), tune=tune, seeds=tuple(range(5)), reference="method=full")
