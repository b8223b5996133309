"""Arrays in an `.npz` file: `images` [n h w] or [n h w 3], `labels` [n]; or `train_images`, `train_labels`, `test_images`, ...

python -m ftjax.main --config configs/npz.py --config.data.path=digits.npz --config.model.pretrained=builtin:digits --workdir runs/npz
"""

from ftjax import Config, DataConfig, Method


def get_config(method: Method = "full") -> Config:
    return Config(method=method, data=DataConfig(source="npz"))
