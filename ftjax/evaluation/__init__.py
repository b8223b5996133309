"""Evaluation: records of examples on the device, metrics with intervals on the host, baselines, predictions and the verdict.

The flow is `Evaluator.run -> records of the task's kind -> Measures.compute_all | intervals | difference | rows | errors`; everything after `run` is a pure
function of the records and of what the split shows. `measures_of(task, top_k)` gives a task's measures.
"""

from ftjax.evaluation.baselines import ProbeResult, linear_probe, majority
from ftjax.evaluation.evaluator import Evaluator
from ftjax.evaluation.intervals import Interval, intervals, paired_difference
from ftjax.evaluation.kinds import measures_of
from ftjax.evaluation.measures import Baseline, Measures
from ftjax.evaluation.metric import Metric
from ftjax.evaluation.metrics import (
    NAMES,
    Accuracy,
    BalancedAccuracy,
    ExpectedCalibrationError,
    LogLoss,
    MacroAUROC,
    MacroF1,
    MatthewsCorrelation,
    TopKAccuracy,
    all_metrics,
    compute_all,
    metric_named,
)
from ftjax.evaluation.prediction import check_output, prediction_rows, write_predictions
from ftjax.evaluation.records import Records, records
from ftjax.evaluation.select import least_certain, worst, worst_errors
from ftjax.evaluation.table import RecordTable, read_records, write_records
from ftjax.evaluation.tables import ClassRow, confusion_matrix, per_class
from ftjax.evaluation.verdict import verdict
