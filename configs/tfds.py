"""A tensorflow-datasets data set that has been prepared as array_record; TensorFlow is not needed to read it.

python -m ftjax.main --config configs/tfds.py:eurosat --config.data.path=DATA_DIR --config.model.pretrained=vit_tiny.safetensors --workdir runs/eurosat
"""

from ftjax import Config, DataConfig


def get_config(name: str = "mnist") -> Config:
    return Config(data=DataConfig(source="tfds", name=name))
