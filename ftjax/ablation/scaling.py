"""Data-scaling curves: error against the number of training examples with a fitted power law, and what twice the data would buy.

    error(n) = a n^-b + c          (Hestness et al. 2017, arXiv 1712.00409; c: what no amount of such data removes)

Three numbers from a handful of points: the interval is from refits to resampled seeds, and a fit that the points do not support is not told.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

from ftjax.evaluation import Metric

KEYS = ("data.fraction", "data.labels_per_class", "data.max_per_class")
"""Axes whose values say how much there is to learn from."""

LEAST = 4
"""Amounts of data that a curve needs: one more than the law has parameters."""


@dataclasses.dataclass(frozen=True)
class Law:
    """A fitted curve."""

    a: float
    b: float
    c: float

    def __call__(self, examples: float | np.ndarray) -> Any:
        """The error expected at so many examples."""
        return self.a * np.asarray(examples, float) ** -self.b + self.c


def fit(examples: Sequence[float], errors: Sequence[float]) -> Law | None:
    """Least squares with a >= 0, 0 <= b <= 2, c >= 0; None where it does not converge.

    >>> law = fit([100, 200, 400, 800], [0.1 + 2 * n**-0.5 for n in (100, 200, 400, 800)])
    >>> round(law.b, 3), round(law.c, 3)
    (0.5, 0.1)
    """
    amounts, values = np.asarray(examples, float), np.asarray(errors, float)
    scale = float(np.min(amounts))

    def model(n: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return a * (n / scale) ** -b + c

    start = (max(float(values[0] - values[-1]), 1e-3), 0.5, max(float(values.min()) / 2, 0.0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optimize.OptimizeWarning)
            found = optimize.curve_fit(model, amounts, values, p0=start, bounds=([0, 0, 0], [np.inf, 2, np.inf]), maxfev=5000)
    except RuntimeError:
        return None
    a, b, c = found[0]
    return Law(float(a) * scale ** float(b), float(b), float(c))


def curve(points: Sequence[tuple[float, Sequence[float]]], *, resamples: int = 500, seed: int = 0) -> dict[str, Any] | None:
    """A law through (examples, an error for each seed), and what twice the largest amount would change, with a percentile bootstrap over seeds.

    Returns:
      None: fewer than `LEAST` amounts, or no fit.
    """
    points = sorted(points, key=lambda point: point[0])
    if len(points) < LEAST:
        return None
    amounts = [amount for amount, _ in points]
    law = fit(amounts, [float(np.mean(errors)) for _, errors in points])
    if law is None:
        return None
    generator = np.random.default_rng(seed)
    gains = []
    for _ in range(resamples):
        drawn = [float(np.mean(generator.choice(errors, len(errors)))) for _, errors in points]
        again = fit(amounts, drawn)
        if again is not None:
            gains.append(float(again(amounts[-1]) - again(2 * amounts[-1])))
    low, high = np.percentile(gains, [2.5, 97.5]) if gains else (np.nan, np.nan)
    gain = float(law(amounts[-1]) - law(2 * amounts[-1]))
    twice = {"value": gain, "low": min(gain, float(low)), "high": max(gain, float(high))} if gains else None
    return {"a": law.a, "b": law.b, "c": law.c, "twice": twice, "fits": len(gains)}


def curves(best: Mapping[str, Mapping[str, Any]], metric: Metric) -> list[dict[str, Any]]:
    """A curve for every family of arms that differ in the amount of data alone; of a metric that is best at 1 the error is 1 minus it."""
    families: dict[str, list[tuple[float, list[float], float]]] = {}
    for name, cell in best.items():
        key = next((key for key in KEYS if key in cell["settings"]), None)
        if key is None or cell["settings"][key] is None:
            continue
        family = re.sub(rf"(, )?{key.rpartition('.')[2]}=[^,]*", "", name).strip(", ") or "all"
        errors = [1 - value if metric.higher_is_better else value for value in cell["values"]]
        families.setdefault(family, []).append((cell["train_examples"], errors, cell["test"]["value"]))
    made = []
    for family, found in families.items():
        points = [{"examples": amount, "value": value, "errors": errors} for amount, errors, value in sorted(found)]
        made.append({"family": family, "points": points, "law": curve([(amount, errors) for amount, errors, _ in found])})
    return made
