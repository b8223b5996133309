"""From paired differences to one of three words.

A claim of a gain "holds" when the mean is at least what it promised and at least `t` standard errors above 0, is "refuted" when the opposite is true by
`t` standard errors, or when even `t` standard errors above the mean would not reach the promise; anything else is "inconclusive".
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Verdict = Literal["holds", "refuted", "inconclusive"]


@dataclasses.dataclass(frozen=True)
class Effect:
    """A mean over seeds and how sure it is."""

    mean: float
    se: float
    """Standard error of the mean."""
    n: int
    """Seeds."""
    positive: int
    """Seeds whose own value is above 0."""

    @property
    def t(self) -> float:
        """mean / se; infinite where all seeds agree exactly on something else than 0."""
        if self.se > 0:
            return self.mean / self.se
        return math.copysign(math.inf, self.mean) if self.mean else 0.0


def effect(values: Sequence[float]) -> Effect:
    """Mean and standard error (n - 1) of one value per seed.

    Raises:
      ValueError: fewer than two seeds, from which no error can be estimated.
    """
    x = np.asarray(values, float)
    if x.ndim != 1 or x.size < 2:
        raise ValueError(f"an effect needs one value of each of at least 2 seeds; got shape {x.shape}")
    return Effect(float(x.mean()), float(x.std(ddof=1) / math.sqrt(x.size)), int(x.size), int((x > 0).sum()))


def gain(found: Effect, at_least: float, t: float) -> Verdict:
    """Whether a gain of at least `at_least` is there."""
    if found.mean >= at_least and found.t >= t:
        return "holds"
    if found.t <= -t or found.mean + t * found.se < at_least:
        return "refuted"
    return "inconclusive"


def nothing(found: Effect, within: float, t: float) -> Verdict:
    """Whether an effect is absent: inside +- `within` with `t` standard errors to spare on both sides."""
    if abs(found.mean) + t * found.se <= within:
        return "holds"
    if abs(found.mean) - t * found.se > within:
        return "refuted"
    return "inconclusive"
