"""Low-rank adapters of rank 16 on the queries and values of a vision transformer, for any folder of photos.

    python -m ftjax.main --config configs/lora_vision.py --config.data.path=photos --config.model.pretrained=vit_tiny.safetensors --workdir runs/photos_lora

With an argument the frozen matrices are held in 8 bits: `configs/lora_vision.py:int8`.
"""

from typing import Literal

from ftjax import AdapterConfig, Config, DataConfig


def get_config(base: Literal["float32", "int8"] = "float32") -> Config:
    return Config(
        method="lora",
        data=DataConfig(source="image_folder"),
        adapter=AdapterConfig(targets=("attention.query", "attention.value"), rank=16, alpha=16.0, base=base),
    )
