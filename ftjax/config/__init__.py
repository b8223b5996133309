"""The whole schema of a run: frozen dataclasses, one per room, about a hundred and eighty knobs.

A field whose default is None is left open: `recipes.py` fills it from the method, the modality and the data, and says why.
Reading, overriding and writing configurations is `configuration.py`; this package only says what there is.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from ftjax.config.data import IMAGE_SOURCES, INTERACTION_SOURCES, TEXT_SOURCES, AugmentConfig, DataConfig, TextConfig
from ftjax.config.law import AfterConfig, AnchorConfig, CoefficientConfig, OptimizerConfig
from ftjax.config.model import ADAPTERS, APART, AdapterConfig, AdapterKind, ModelConfig
from ftjax.config.recommendation import RecommendationConfig
from ftjax.config.run import EvaluationConfig, ForgettingConfig, MeshConfig, ReportConfig, TaskConfig, TrainConfig
from ftjax.config.units import Duration, Rules, Value

Method = Literal[
    "full",
    "probe",
    "lp_ft",
    "layer_decay",
    "discriminative",
    "gradual",
    "bitfit",
    "norms",
    "attention",
    "partial",
    "auto_rgn",
    "l2_sp",
    "ball",
    "spd",
    "mixout",
    "lora",
    "dora",
    "pissa",
    "ia3",
    "ssf",
    "oft",
    "adaptformer",
    "houlsby",
    "prompt",
    "vpt",
    "scratch",
]
"""The usual tables of coefficients and anchors; `recipes.py` says what each stands for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One run. `ftjax.finetune(config)` and `--config` take the same value."""

    method: Method = "full"
    seed: int = 0
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    recommendation: RecommendationConfig = dataclasses.field(default_factory=RecommendationConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    adapter: AdapterConfig = dataclasses.field(default_factory=AdapterConfig)
    coefficient: CoefficientConfig = dataclasses.field(default_factory=CoefficientConfig)
    anchor: AnchorConfig = dataclasses.field(default_factory=AnchorConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    task: TaskConfig = dataclasses.field(default_factory=TaskConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    after: AfterConfig = dataclasses.field(default_factory=AfterConfig)
    forgetting: ForgettingConfig = dataclasses.field(default_factory=ForgettingConfig)
    report: ReportConfig = dataclasses.field(default_factory=ReportConfig)
