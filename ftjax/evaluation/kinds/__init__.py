"""The measures of every task, one module each: its records, its metrics, and how its predictions are shown."""

from __future__ import annotations

from ftjax.evaluation.kinds.answers import AnswerMeasures, AnswerRecords
from ftjax.evaluation.kinds.classification import ClassificationMeasures
from ftjax.evaluation.kinds.embeddings import EmbeddingMeasures, EmbeddingRecords
from ftjax.evaluation.kinds.language import PreferenceMeasures, PreferenceRecords, WritingMeasures, WritingRecords
from ftjax.evaluation.kinds.multi_label import MultiLabelMeasures, MultiLabelRecords
from ftjax.evaluation.kinds.recommendation import RecommendationMeasures
from ftjax.evaluation.kinds.regression import RegressionMeasures, RegressionRecords
from ftjax.evaluation.kinds.tokens import TokenMeasures, TokenRecords
from ftjax.evaluation.measures import Measures
from ftjax.evaluation.records import check_top_k
from ftjax.tasks import Classification, LanguageModeling, MultiLabel, Preference, QuestionAnswering, Recommendation, Regression, Task, TokenClassification

__all__ = [
    "AnswerMeasures",
    "AnswerRecords",
    "ClassificationMeasures",
    "EmbeddingMeasures",
    "EmbeddingRecords",
    "MultiLabelMeasures",
    "MultiLabelRecords",
    "PreferenceMeasures",
    "PreferenceRecords",
    "RecommendationMeasures",
    "RegressionMeasures",
    "RegressionRecords",
    "TokenMeasures",
    "TokenRecords",
    "WritingMeasures",
    "WritingRecords",
    "measures_of",
]


def measures_of(task: Task, top_k: int = 5) -> Measures:
    """The measures of a task.

    Args:
      task: what is predicted.
      top_k: the k of classification's top-k accuracy.

    Raises:
      ConfigError: `top_k` is below 1.
    """
    check_top_k(top_k)
    if isinstance(task, Classification):
        return ClassificationMeasures(task.classes, top_k)
    if isinstance(task, MultiLabel):
        return MultiLabelMeasures(task.classes)
    if isinstance(task, Regression):
        return RegressionMeasures(task)
    if isinstance(task, TokenClassification):
        return TokenMeasures(task.classes)
    if isinstance(task, QuestionAnswering):
        return AnswerMeasures(task.max_answer_length, task.unanswerable)
    if isinstance(task, LanguageModeling):
        return WritingMeasures()
    if isinstance(task, Preference):
        return PreferenceMeasures(task)
    if isinstance(task, Recommendation):
        return RecommendationMeasures(len(task.classes), task.k, task.cold_below, task.sampled_negatives, task.item_chunk, task.several)
    return EmbeddingMeasures()
