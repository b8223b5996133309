"""Layer decay by learning rate, every combination a cell of one compiled program.

python -m ftjax.main ablate --ablation configs/ablations/layer_decay_by_learning_rate.py --config configs/quickstart.py --workdir runs/decay
"""

from ftjax.ablation import Ablation, Axis, Times

DECAYS = (0.5, 0.65, 0.8, 1.0)
RATES = (0.3, 1.0, 3.0, 10.0)


def get_ablation() -> Ablation:
    tune = (Axis("optimizer.learning_rate", tuple(map(Times, RATES))),)
    return Ablation(compare=(Axis("coefficient.layer_decay", DECAYS),), tune=tune, seeds=tuple(range(5)), reference="layer_decay=1")
