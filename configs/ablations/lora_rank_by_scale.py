"""LoRA's rank by its scale alpha: a program for each rank, all scales inside it.

python -m ftjax.main ablate --ablation configs/ablations/lora_rank_by_scale.py \\
  --config configs/lora_vision.py --config.data.path=photos --config.model.pretrained=vit.safetensors --workdir runs/rank
"""

from ftjax.ablation import Ablation, Axis


def get_ablation() -> Ablation:
    compare = (Axis("adapter.rank", (2, 8, 32)),)
    return Ablation(compare=compare, tune=(Axis("adapter.alpha", (4.0, 16.0, 64.0)),), seeds=tuple(range(3)))
