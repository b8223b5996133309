"""Measures of regression: correlation, errors in the unit of the data, and the explained share of the variance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32
from scipy import sparse

from ftjax.errors import DataError
from ftjax.evaluation.linear import choose, ridge
from ftjax.evaluation.measures import Baseline, Measures
from ftjax.evaluation.metric import Mean, Metric, SumMetric, ratio
from ftjax.evaluation.rank_metrics import RankMetric, spearman
from ftjax.evaluation.table import RecordTable
from ftjax.tasks import Regression

if TYPE_CHECKING:
    from ftjax.data import Split

NO_PREDICTION = float(np.finfo(np.float32).max)
"""What stands for a prediction that is not finite: as wrong as can be, and still a number that JSON can hold."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RegressionRecords(RecordTable):
    """Target and prediction per example, both in the unit of the data."""

    label: Float32[np.ndarray, " n"]
    prediction: Float32[np.ndarray, " n"]

    kind: ClassVar[str] = "regression"

    @property
    def bad(self) -> np.ndarray:
        """Bool `[n]`: there is no finite prediction."""
        return self.prediction == np.float32(NO_PREDICTION)

    @property
    def losses(self) -> np.ndarray:
        """Float `[n]`: absolute errors."""
        return np.abs(self.prediction.astype(np.float64) - self.label)

    def check(self) -> None:
        """Refuse examples without a target."""
        unknown = np.flatnonzero((self.weight > 0) & ~np.isfinite(self.label))
        if len(unknown):
            raise DataError(f"{len(unknown)} examples cannot be measured: the target of example {self.id[unknown[0]]} is {self.label[unknown[0]]}")


@dataclasses.dataclass(frozen=True)
class Moments(SumMetric):
    """Metrics of the moments of targets y and predictions p, standardised by the training targets so that no digits cancel: 1, y, p, yy, pp, yp, (y - p)^2."""

    mean: float = 0.0
    deviation: float = 1.0

    def contributions(self, records: RegressionRecords) -> sparse.csr_array:
        """The seven."""
        y, p = ((side.astype(np.float64) - self.mean) / self.deviation for side in (records.label, records.prediction))
        return sparse.csr_array(np.stack([np.ones(len(y)), y, p, y * y, p * p, y * p, (y - p) ** 2], axis=1))


@dataclasses.dataclass(frozen=True)
class Pearson(Moments):
    """Linear correlation of targets and predictions; 0 where one side is constant."""

    name: ClassVar[str] = "pearson"
    higher_is_better: ClassVar[bool] = True

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Covariance over the product of deviations."""
        total, y, p, yy, pp, yp, _ = states.T
        spread_y, spread_p = total * yy - y * y, total * pp - p * p
        # A constant side keeps a spread of rounding errors.
        varies = (spread_y > 1e-12 * total * yy) & (spread_p > 1e-12 * total * pp)
        spread = np.where(varies, np.sqrt(np.maximum(spread_y, 0.0)) * np.sqrt(np.maximum(spread_p, 0.0)), 0.0)
        return np.clip(ratio(total * yp - y * p, spread, 0.0), -1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class RSquared(Moments):
    """Share of the targets' variance that is explained, `1 - sum (y - p)^2 / sum (y - mean y)^2`: below 0 where the mean is better.."""

    name: ClassVar[str] = "r2"
    higher_is_better: ClassVar[bool] = True

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """One minus unexplained over all."""
        total, y, _, yy, _, _, squares = states.T
        spread = yy - y * y / total
        return np.where(spread > 1e-12 * yy, 1 - ratio(squares, np.maximum(spread, 0.0), 0.0), np.where(squares == 0, 1.0, 0.0))


@dataclasses.dataclass(frozen=True)
class RootMeanSquare(Moments):
    """Root of the mean squared error, in the unit of the data."""

    name: ClassVar[str] = "rmse"
    higher_is_better: ClassVar[bool] = False

    def compute_many(self, states: np.ndarray) -> np.ndarray:
        """Back in the unit of the data."""
        return np.sqrt(states[:, 6] / states[:, 0]) * self.deviation


@dataclasses.dataclass(frozen=True)
class MeanAbsoluteError(Mean):
    """Mean absolute error, in the unit of the data."""

    name: ClassVar[str] = "mae"
    higher_is_better: ClassVar[bool] = False

    def per_example(self, records: RegressionRecords) -> np.ndarray:
        """Absolute errors."""
        return records.losses


@dataclasses.dataclass(frozen=True)
class Spearman(RankMetric):
    """Correlation of ranks; 0 where one side is constant."""

    name: ClassVar[str] = "spearman"
    higher_is_better: ClassVar[bool] = True

    def columns(self, records: RegressionRecords) -> np.ndarray:
        """Target and prediction."""
        return np.stack([records.label, records.prediction], axis=1).astype(np.float64)

    def compute_many(self, columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """By ranks within each resample."""
        return spearman(columns[:, 0], columns[:, 1], weights)


@dataclasses.dataclass(frozen=True)
class RegressionMeasures(Measures):
    """A number per example."""

    task: Regression

    table: ClassVar[type[RecordTable]] = RegressionRecords
    majority_name: ClassVar[str] = "the mean of the training targets"
    probes: ClassVar[bool] = True

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Pearson first."""
        scale = {"mean": self.task.mean, "deviation": self.task.deviation}
        return (Pearson(**scale), Spearman(), RootMeanSquare(**scale), MeanAbsoluteError(), RSquared(**scale))

    def records(self, outputs: Float[Array, "batch 1"], batch: Mapping[str, Array]) -> dict[str, Array]:
        """Target and prediction in the unit of the data."""
        prediction = self.task.unscale(outputs.astype(jnp.float32))
        return {
            "id": batch["id"].astype(jnp.int32),
            "weight": batch["weight"].astype(jnp.float32),
            "label": batch["label"].astype(jnp.float32),
            "prediction": jnp.where(jnp.isfinite(prediction), prediction, NO_PREDICTION),
        }

    def gather(self, parts: Any, split: Split) -> RegressionRecords:
        """Without the outputs: the prediction says all."""
        return super().gather([{name: values for name, values in part.items() if name != "logits"} for part in parts], split)

    def rows(self, records: RegressionRecords, split: Split, *, probabilities: bool = False) -> list[dict[str, Any]]:
        """`{"id", "prediction"}`; None where it is not finite."""
        return [{"id": split.ids[i], "prediction": None if bad else float(p)} for i, p, bad in zip(records.id, records.prediction, records.bad)]

    def describe(self, records: RegressionRecords, row: int, split: Split) -> dict[str, Any]:
        """Target and prediction."""
        index = int(records.id[row])
        prediction = None if records.bad[row] else float(records.prediction[row])
        return {"id": split.ids[index], "row": index, "label": float(records.label[row]), "prediction": prediction}

    def majority(self, train: Split, test: Split) -> Baseline:
        """Always the mean of the training targets."""
        return Baseline(self.of_outputs(np.zeros((len(test), 1), np.float32), test), "always the mean of the training targets")

    def probe(self, features: Mapping[str, np.ndarray], splits: Mapping[str, Split], seed: int = 0) -> Baseline:
        """Ridge regression on frozen features."""
        targets = (np.asarray(splits["train"].labels, np.float64) - self.task.mean) / self.task.deviation
        found = choose(ridge(features, targets), lambda outputs: self.metric(self.main)(self.of_outputs(outputs, splits["validation"])))
        why = f"ridge regression on the features of the model before training, l2 {found.l2:g} chosen on validation"
        return Baseline(self.of_outputs(found.test, splits["test"]), why)
