"""Any folder of photos: `class/x.jpg`, or `train|validation|test/class/x.jpg`.

    python -m ftjax.main --config configs/image_folder.py --config.data.path=photos --config.model.pretrained=vit_tiny.safetensors --workdir runs/photos

The argument after a colon names the method: `configs/image_folder.py:probe`.
"""

from ftjax import Config, DataConfig, Method


def get_config(method: Method = "full") -> Config:
    return Config(method=method, data=DataConfig(source="image_folder"))
