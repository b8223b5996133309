"""Rows whose label is probably wrong: confident learning on the out-of-fold probabilities of a linear probe, pure on arrays.

A probe never judges a row it was fitted on. Whoever has a model computes the features; see `training/inspection.py`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from ftjax.data.order import rank
from ftjax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

FOLDS = 5
LEAST = FOLDS
"""Rows of a class from which on its labels are judged: a fold that lacks the class would call all of it wrong."""
PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Strengths of the probe's penalty per row, strongest first: tried until the log loss of held out rows rises."""
FILTER = "low_self_confidence"
"""How cleanlab chooses: as many rows as confident learning counts off the diagonal, those whose given label is least probable. Of cleanlab's ways it found
changed labels with the best precision on two of four real sets and was level on a third (benchmarks/results/data_findings.md)."""
_ITERATIONS = 200
_FLOOR = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Probabilities:
    """`values` float64 `[rows classes]`, each row by a probe that has not seen it, or any row of its group; `accuracy` and `penalty` are that probe's."""

    values: Float[np.ndarray, "rows classes"]
    penalty: float
    log_loss: float
    accuracy: float


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """What confident learning says of each row.

    `wrong`: the label is probably wrong. `score`: quality of the label, the probability of the given class; 1 for rows that are not judged.
    `suggested`: the most probable class. `noise[i, j]`: estimated rows of class j among those labelled i.
    """

    wrong: Bool[np.ndarray, " rows"]
    score: Float[np.ndarray, " rows"]
    suggested: Int[np.ndarray, " rows"]
    noise: Float[np.ndarray, "classes classes"]


def check_cleanlab(key: str) -> None:
    """Refuse a run that would need cleanlab where it is not installed.

    Raises:
      ConfigError: it is not; the message says how to get it.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise ConfigError(f"{key} needs the package cleanlab: pip install 'ftjax[clean]'")


def folds_of(ids: Sequence[str], labels: Int[np.ndarray, " rows"], groups: Int[np.ndarray, " rows"], seed: int) -> Int[np.ndarray, " rows"]:
    """The fold of each row, 0 to `FOLDS - 1`: a group whole, each class spread evenly, from ids and seed alone.

    Groups are ordered by the label of their first row, then by a hash of its id, and dealt out in turn.
    """
    first: dict[int, int] = {}
    for row in sorted(range(len(ids)), key=lambda row: ids[row]):
        first.setdefault(int(groups[row]), row)
    order = sorted(first, key=lambda group: (int(labels[first[group]]), rank("label_errors", seed, ids[first[group]])))
    fold = {group: position % FOLDS for position, group in enumerate(order)}
    return np.array([fold[int(group)] for group in groups], np.int64)


def out_of_fold(
    features: Float[np.ndarray, "rows width"],
    labels: Int[np.ndarray, " rows"],
    folds: Int[np.ndarray, " rows"],
    classes: int,
    penalties: Sequence[float] = PENALTIES,
) -> Probabilities:
    """Probabilities of a multinomial logistic regression on standardised features, each fold by a probe of the others.

    The penalty `l2/2 |W|^2`, `l2 = strength * rows`, is the strongest of `penalties` after which the log loss of the first fold does not fall any more.

    Raises:
      DataError: features are not finite.
    """
    check_finite(features)
    values, penalty = np.zeros((len(labels), classes)), penalties[0]
    for number, fold in enumerate(np.unique(folds)):
        rest, held = folds != fold, folds == fold
        probe = _Probe(features[rest], labels[rest])
        if number == 0:
            penalty, values[held] = _chosen(probe, features[held], labels[held], classes, penalties)
        else:
            values[held] = probe.fit(penalty).probabilities(features[held], classes)
    return Probabilities(values, penalty, _log_loss(values, labels), float((values.argmax(1) == labels).mean()))


def _chosen(probe: _Probe, held: np.ndarray, labels: np.ndarray, classes: int, penalties: Sequence[float]) -> tuple[float, np.ndarray]:
    """The penalty, and the probabilities of held out rows under it."""
    best = penalties[0], probe.fit(penalties[0]).probabilities(held, classes)
    for penalty in penalties[1:]:
        values = probe.fit(penalty).probabilities(held, classes)
        if _log_loss(values, labels) >= _log_loss(best[1], labels):
            break
        best = penalty, values
    return best


def _log_loss(values: np.ndarray, labels: np.ndarray) -> float:
    return float(-np.log(np.maximum(values[np.arange(len(labels)), labels], _FLOOR)).mean())


def of_others(
    features: Float[np.ndarray, "rows width"], labels: Int[np.ndarray, " rows"], other: Float[np.ndarray, "others width"], classes: int, penalty: float
) -> Float[np.ndarray, "others classes"]:
    """Probabilities of rows that are in no fold, by a probe of all rows that are.

    Raises:
      DataError: features are not finite.
    """
    check_finite(features)
    check_finite(other)
    return _Probe(features, labels).fit(penalty).probabilities(other, classes)


def judge(
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, "rows classes"],
    judgeable: Bool[np.ndarray, " classes"] | None = None,
    by: str = FILTER,
) -> Judged:
    """Confident learning (Northcutt et al. 2021, arXiv 1911.00068), by cleanlab.

    A row counts as of class j where its probability of j is at least the mean probability of j among the rows labelled j. Such rows by (given, counted) class,
    scaled to the rows of each class, estimate the joint of given and true labels; as many rows as are off its diagonal are called wrong.
    Rows of a class that is not `judgeable` are not judged; None: classes with `LEAST` rows are.
    """
    import cleanlab.count
    import cleanlab.filter
    import cleanlab.rank

    counts = np.bincount(labels, minlength=probabilities.shape[1])
    judgeable = counts >= LEAST if judgeable is None else judgeable
    judged = judgeable[labels]
    used, values = labels[judged], probabilities[judged]
    wrong, score = np.zeros(len(labels), bool), np.ones(len(labels))
    noise = np.diag(counts.astype(np.float64))
    if len(np.unique(used)) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes that have no row to judge, and those whose diagonal is small
            confident = np.asarray(cleanlab.count.compute_confident_joint(used, values))
            wrong[judged] = cleanlab.filter.find_label_issues(used, values, filter_by=by, confident_joint=confident, n_jobs=1)
            score[judged] = cleanlab.rank.get_label_quality_scores(used, values, method="self_confidence")
            estimated = cleanlab.count.estimate_joint(used, values, confident_joint=confident) * len(used)
        noise = np.where(judgeable[:, None], np.asarray(estimated, np.float64), noise)
    return Judged(wrong, score, probabilities.argmax(1), noise)


def judge_by(
    thresholds: Float[np.ndarray, " classes"],
    labels: Int[np.ndarray, " rows"],
    probabilities: Float[np.ndarray, "rows classes"],
    judgeable: Bool[np.ndarray, " classes"],
) -> Judged:
    """Confident learning with the thresholds of other rows: these rows are judged, and judge nothing.

    A row counts as of the most probable class j among those whose probability reaches `thresholds[j]`. As many rows as count as another class than their
    label's are called wrong, those with the least probable labels, but none whose label is the most probable class.

    Args:
      thresholds: of `thresholds_of`.
      labels: of the rows that are judged.
      probabilities: of each class, by a probe that saw none of them.
      judgeable: classes whose rows are judged.
    """
    judged, suggested = judgeable[labels], probabilities.argmax(1)
    score = np.where(judged, probabilities[np.arange(len(labels)), labels], 1.0)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    number = int((judged & (confident.max(1) >= 0) & (confident.argmax(1) != labels)).sum())
    wrong = np.zeros(len(labels), bool)
    wrong[np.argsort(score, kind="stable")[:number]] = True
    return Judged(wrong & judged & (suggested != labels), score, suggested, np.diag(np.bincount(labels, minlength=len(thresholds)).astype(np.float64)))


def thresholds_of(
    labels: Int[np.ndarray, " rows"], probabilities: Float[np.ndarray, "rows classes"], judgeable: Bool[np.ndarray, " classes"]
) -> Float[np.ndarray, " classes"]:
    """Mean probability of each class among the rows labelled so; infinite for a class that is not judged, as which no row counts."""
    means = [probabilities[labels == label, label].mean() if known else np.inf for label, known in enumerate(judgeable)]
    return np.array(means, np.float64)


def noise_rows(noise: Float[np.ndarray, "classes classes"], classes: Sequence[str], most: int = 10) -> list[dict[str, Any]]:
    """Which class is given for which, the most frequent first: `{"given", "truly", "rows", "share"}`, `share` of the rows with the given label."""
    off = np.where(np.eye(len(noise), dtype=bool), 0.0, noise)
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    pairs = [tuple(int(index) for index in np.unravel_index(place, off.shape)) for place in order]
    totals = np.maximum(noise.sum(1), 1.0)
    return [
        {"given": classes[given], "truly": classes[truly], "rows": round(float(off[given, truly]), 1), "share": float(off[given, truly] / totals[given])}
        for given, truly in pairs
        if off[given, truly] >= 0.5
    ]


class _Probe:
    """A logistic regression on features in units of their deviation; a weaker penalty starts from where the stronger one ended."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        # Imported here: the import takes a second, and most runs judge no labels.
        from sklearn.linear_model import LogisticRegression

        values = np.asarray(features, np.float64)
        self._mean, deviation = values.mean(0), values.std(0)
        self._deviation = np.where(deviation > 1e-12 * (1 + np.abs(self._mean)), deviation, 1.0)
        self._features, self._labels = self._standardised(values), labels
        self._model: LogisticRegression = LogisticRegression(solver="lbfgs", max_iter=_ITERATIONS, tol=1e-3, warm_start=True)

    def _standardised(self, features: np.ndarray) -> np.ndarray:
        # Single precision halves the time of a fit, and moves probabilities in the sixth digit.
        return ((features - self._mean) / self._deviation).astype(np.float32)

    def fit(self, penalty: float) -> _Probe:
        from sklearn.exceptions import ConvergenceWarning

        if len(np.unique(self._labels)) > 1:
            with warnings.catch_warnings():
                # The last iterate is a probe like any other, and held out rows judge it.
                warnings.simplefilter("ignore", ConvergenceWarning)
                self._model.set_params(C=1 / (penalty * len(self._labels))).fit(self._features, self._labels)
        return self

    def probabilities(self, features: np.ndarray, classes: int) -> np.ndarray:
        found = np.zeros((len(features), classes))
        present = np.unique(self._labels)
        if len(present) == 1:
            found[:, present] = 1.0
        else:
            found[:, present] = self._model.predict_proba(self._standardised(features))
        return found


def check_finite(features: np.ndarray) -> None:
    """Refuse features that say nothing.

    Raises:
      DataError: some are not finite.
    """
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise DataError(f"the pretrained body gives features that are not finite for {len(bad)} rows (the first is row {int(bad[0])})")
