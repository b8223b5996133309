"""Every method is a point of the law's traced hyperparameters, so all of them share one compiled program.

An arm says what differs from full fine-tuning, in the schema's own words; `hyper` turns that into `ftjax.coefficients.default_hyper`. Strengths were
fixed before anything was measured: layer decay's share for the stem and L2-SP's memory of 1 / (rate * pull) steps follow the pilot, the ball is 5 % of a
matrix's norm, SPD's strength is its paper's 1.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp

from ftjax.coefficients import Hyper, default_hyper
from ftjax.config import AnchorConfig, CoefficientConfig, Config, OptimizerConfig

EVERYWHERE = ((".*", 1.0),)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to fine-tune."""

    name: str
    coefficient: tuple[tuple[str, float], ...] = EVERYWHERE
    """`(pattern of a group, c)`; the first match wins."""
    layer_decay: float = 1.0
    head_factor: float = 1.0
    weight_decay: float = 0.0
    pull: float = 0.0
    ball: float = math.inf
    select: float = 0.0
    rest: float = 0.0
    """Share of the run during which all but the head has c = 0 (LP-FT)."""
    rate_factor: float = 1.0
    """Multiplies the learning rate of the grid."""
    start: Literal["pretrained", "scratch"] = "pretrained"
    order: int = 0
    """Which of the seed's two orders of the data."""


FULL = Arm(name="full")
OTHER_ORDER = Arm(name="other_order", order=1)
DECAY = Arm(name="decay", weight_decay=0.1)
TENTH = Arm(name="tenth", coefficient=(("head", 1.0), (".*", 0.1)))
TENTH_BY_RATE = Arm(name="tenth_by_rate", rate_factor=0.1, head_factor=10.0)
PROBE = Arm(name="probe", coefficient=(("head", 1.0), (".*", 0.0)))
LP_FT = Arm(name="lp_ft", rest=1 / 3)
LAYER_DECAY = Arm(name="layer_decay", layer_decay=0.3)
L2_SP = Arm(name="l2_sp", pull=10.0)
BALL = Arm(name="ball", ball=0.05)
SPD = Arm(name="spd", select=1.0)
FIRST = Arm(name="first", coefficient=(("stem|block_0", 1.0), (".*", 0.0)))
LAST = Arm(name="last", coefficient=(("norm|head", 1.0), (".*", 0.0)))
SCRATCH = Arm(name="scratch", start="scratch")


def law(groups: Sequence[str], arm: Arm = FULL, rate: float = 1e-3) -> Config:
    """The configuration behind every arm: one rule per group, and every force of the anchor present at whatever strength."""
    return Config(
        coefficient=CoefficientConfig(
            rules=tuple((f"group:{group}", 1.0) for group in groups), layer_decay=arm.layer_decay, head_factor=arm.head_factor, phases="arithmetic"
        ),
        anchor=AnchorConfig(pull=arm.pull, ball=arm.ball, select=arm.select),
        optimizer=OptimizerConfig(learning_rate=rate * arm.rate_factor, weight_decay=arm.weight_decay),
    )


def hyper(arm: Arm, rate: float, groups: Sequence[str]) -> Hyper:
    """The arm's point in the space of traced numbers, at one learning rate."""
    of_group = tuple(jnp.array(next(c for pattern, c in arm.coefficient if re.fullmatch(pattern, group)), float) for group in groups)
    return default_hyper(law(groups, arm, rate)) | {"coefficient": of_group}
