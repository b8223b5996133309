"""ftjax: fine-tune pretrained models in JAX.

>>> import ftjax
>>> run = ftjax.finetune(ftjax.Config(...), workdir="runs/x")      # doctest: +SKIP
>>> plan, state = ftjax.prepare(ftjax.Config(...))                 # doctest: +SKIP
>>> state, metrics = plan.step(state, plan.batch(0))               # doctest: +SKIP
>>> ftjax.load("runs/x").predict("photos/")                        # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ftjax.config import (
    AdapterConfig,
    AdapterKind,
    AfterConfig,
    AnchorConfig,
    AugmentConfig,
    CoefficientConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    ForgettingConfig,
    MeshConfig,
    Method,
    ModelConfig,
    OptimizerConfig,
    RecommendationConfig,
    ReportConfig,
    TaskConfig,
    TextConfig,
    TrainConfig,
)
from ftjax.errors import FtjaxError

if TYPE_CHECKING:
    from ftjax import tables
    from ftjax.commands.artefact import load
    from ftjax.commands.train import finetune
    from ftjax.training.prepare import prepare_config as prepare

__version__ = "0.1.0"

# JAX takes seconds to import; `import ftjax` and a config file should not.
_LAZY = {"finetune": ("ftjax.commands.train", "finetune"), "prepare": ("ftjax.training.prepare", "prepare_config"), "load": ("ftjax.commands.artefact", "load")}

__all__ = [
    "AdapterConfig",
    "AdapterKind",
    "AfterConfig",
    "AnchorConfig",
    "AugmentConfig",
    "CoefficientConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "ForgettingConfig",
    "FtjaxError",
    "MeshConfig",
    "Method",
    "ModelConfig",
    "OptimizerConfig",
    "RecommendationConfig",
    "ReportConfig",
    "TaskConfig",
    "TextConfig",
    "TrainConfig",
    "finetune",
    "load",
    "prepare",
    "tables",
]


def __getattr__(name: str) -> Any:
    if name == "tables":
        return importlib.import_module("ftjax.tables")
    if name not in _LAZY:
        raise AttributeError(f"module 'ftjax' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(importlib.import_module(module), attribute)
