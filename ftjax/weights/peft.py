"""PEFT adapters as a neutral value: arrays by our own paths, which neither knows a file's names nor the leaf types of a run.

`read_peft` and `write_peft` go between a folder of the library peft and an `AdapterFile`; binding one to a model is `ftjax.commands.peft`'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ftjax.weights.peft_config import Kind


@dataclasses.dataclass(frozen=True)
class AdapterFile:
    """What an adapter adds to a base model.

    Attributes:
      kind: "lora", "dora" or "ia3".
      tensors: float32 by path, beside the weight that it adapts: `encoder/block_0/attention/query/kernel/a` [in r], `/b` [r out], for DoRA
        `/magnitude` [out], for IA3 `/gain` [out] or [in]. Of a patch kernel a is [h w in r].
      scales: what a b is multiplied with, by the path of the weight: lora_alpha / r, or lora_alpha / sqrt(r).
      saved: leaves that were trained whole (heads, biases, modules_to_save), absolute values by path.
      sides: for IA3 whether a gain is on the outputs (and the bias) of a weight, or on its inputs.
      settings: keys of adapter_config.json that matter, as they stand there.
      left_out: keys of the files that have no place here, each with the reason.
      sources: the key of the file that each array of `tensors` and `saved` came from, by its path; empty where there is no file.
    """

    kind: Kind
    tensors: Mapping[str, np.ndarray]
    scales: Mapping[str, float] = dataclasses.field(default_factory=dict)
    saved: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    sides: Mapping[str, Literal["output", "input"]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    left_out: tuple[tuple[str, str], ...] = ()
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def adapted(self) -> tuple[str, ...]:
        """Paths of the weights that have an adapter."""
        return tuple(dict.fromkeys(path.rpartition("/")[0] for path in self.tensors))
