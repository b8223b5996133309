"""Low-rank adapters on a text encoder: one label for every text of your own table, a few hundred kilobytes trained.

    python -m ftjax.main --config configs/lora_text.py --config.data.path=reviews.csv --workdir runs/reviews_lora

The argument after a colon names another shape: `configs/lora_text.py:dora` (also pissa, ia3, ssf, oft, adaptformer, houlsby, prompt,
vpt). Which weights: `--config.adapter.targets=attention`.
"""

from ftjax import AdapterKind, Config, DataConfig, ModelConfig


def get_config(method: AdapterKind = "lora") -> Config:
    return Config(
        method=method,
        data=DataConfig(source="table"),
        model=ModelConfig(pretrained="hf://sentence-transformers/all-MiniLM-L6-v2"),
    )
