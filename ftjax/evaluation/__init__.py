"""Evaluation: records of examples on the device, metrics with intervals on the host, baselines, predictions and the verdict.

The flow is `Evaluator.run -> Records -> compute_all | intervals | per_class | worst_errors`; everything after `run` is a pure function of the records.
"""

from ftjax.evaluation.baselines import ProbeResult, linear_probe, majority
from ftjax.evaluation.evaluator import Evaluator
from ftjax.evaluation.intervals import Interval, intervals, paired_difference
from ftjax.evaluation.measures import ClassificationMeasures, Measures, measures_of
from ftjax.evaluation.metrics import (
    NAMES,
    Accuracy,
    BalancedAccuracy,
    ExpectedCalibrationError,
    LogLoss,
    MacroF1,
    Metric,
    TopKAccuracy,
    all_metrics,
    compute_all,
    metric_named,
)
from ftjax.evaluation.prediction import check_output, prediction_rows, write_predictions
from ftjax.evaluation.records import Records, read_records, records, write_records
from ftjax.evaluation.select import least_certain, worst_errors
from ftjax.evaluation.tables import ClassRow, confusion_matrix, per_class
from ftjax.evaluation.verdict import verdict
