"""The law: how far each iteration and the whole run may move the pretrained parameters, in which direction, and what is done afterwards."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ftjax.config.units import Duration, Rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoefficientConfig:
    """How far each iteration may move each parameter (the law, `docs/architecture.md`)."""

    rules: Rules | None = None
    """The table `(path pattern, coefficient)`; 0 freezes by structure; None: the method's table."""
    layer_decay: float | None = None
    """Multiply the coefficient of a group by `layer_decay ** (distance from the head)`; None: 1."""
    layer_decay_convention: Literal["beit", "electra"] = "beit"
    """The distance: "beit" (also MAE) gives the top block 1, "electra" gives it 2; both give the head 0."""
    unfreeze_every: Duration | None = None
    """Gradual unfreezing: a group starts to train this long after the one above it; None: all at once."""
    auto: Literal["none", "rgn"] = "none"
    """Measured coefficients: "rgn" multiplies each parameter's by its relative gradient norm, divided by the largest (Lee et al. 2023)."""
    auto_every: Duration = "1 epochs"
    """How often they are measured again."""
    phases: Literal["structure", "arithmetic"] = "structure"
    """A parameter that rests for a phase: left out of that phase's program (one compilation per phase), or multiplied by 0 (one in all)."""
    head_factor: float | None = None
    """Multiply the head's coefficient by this; None: the method's."""
    decay_rules: Rules | None = None
    """Which parameters decay: multipliers of `optimizer.weight_decay`; None: matrices and filters yes, vectors no."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnchorConfig:
    """How far the whole run may move each parameter from its pretrained value theta0; x = theta - theta0. None: that force is off."""

    rules: Rules | None = None
    """How strongly each parameter is anchored: multiplies `pull` and `select`, divides `ball`; 0 leaves it free. None: pretrained matrices and filters."""
    pull: float | None = None
    """L2-SP: adds pull * x to the velocity. 1 / (learning rate * pull) is its memory in steps."""
    ball: float | None = None
    """Largest norm of x (MARS-SP, TPGM); in units of `ball_unit`."""
    ball_norm: Literal["l2", "mars"] = "l2"
    """Norm of a whole parameter ("l2"), or the largest sum of absolute values that enters one output ("mars")."""
    ball_unit: Literal["relative", "absolute"] = "relative"
    """"relative": times the same norm of theta0."""
    select: float | None = None
    """SPD: where the descent points home, shorten x by this times its relative growth (Tian et al. 2024)."""
    mixout: float | None = None
    """Train with this share of the elements of x set to zero at random, the rest scaled up (Lee et al. 2020)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """The direction and the learning rate."""

    name: Literal["adamw", "sgd", "lion", "muon", "adafactor"] = "adamw"
    learning_rate: float | None = None
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant", "slanted"] = "cosine"
    """From the peak to zero at the last step (constant: stays; slanted: ULMFiT's triangle, down to a 32nd)."""
    warmup: Duration = "10%"
    weight_decay: float | None = None
    clip_norm: float | None = 1.0
    """Global norm of the live gradients above which they are scaled down; None: never."""
    beta1: float = 0.9
    """Of the first moment; in a schedule-free run the weight of the average at the point of the gradient."""
    beta2: float = 0.999
    """Of the second moment; adafactor's decay grows up to it."""
    epsilon: float = 1e-8
    momentum: float = 0.9
    """sgd and muon (whose authors take 0.95)."""
    schedule_free: bool = False
    """Average instead of decay (Defazio et al. 2024): evaluate the running average; wants schedule="constant"."""
    sam: float | None = None
    """Sharpness-aware: the gradient is taken this far uphill, at twice the cost (Foret et al. 2021); None: off."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AfterConfig:
    """What is done with the weights after training. Whatever is asked for competes with the best checkpoint on the validation split."""

    candidates: tuple[Literal["ema", "swa", "wise_ft", "lines", "uniform_soup", "greedy_soup"], ...] = ()
    """Weights made from the trained ones; the best on validation are tested and exported. None asked for: the best checkpoint."""
    ema_decay: float = 0.999
    """Of the exponential average; starts lower and warms up to this, min(decay, (1 + t) / (10 + t)), t counting from the first step of the run."""
    swa_from: Duration = "75%"
    """When the uniform average begins."""
    soup: int = 5
    """Best checkpoints that are kept for a soup."""
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    """Shares of the displacement at which the curve "accuracy against distance" is measured; `wise_ft` and `lines` choose among them."""
