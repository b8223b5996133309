"""How much a result moves with its seed: any configuration, eight times.

python -m ftjax.main ablate --ablation configs/ablations/seeds.py --config configs/quickstart.py --workdir runs/seeds
"""

from ftjax.ablation import Ablation


def get_ablation(count: str = "8") -> Ablation:
    return Ablation(seeds=tuple(range(int(count))))
