"""Tasks: what is predicted and what it costs. A task is a small frozen dataclass; the one trainer asks it for a loss and forks nothing.

Every task has `classes`, `output` (what the model gives: "sequence", "tokens", "embedding", "language": then the loss is given `Features`, or "items": then
it is given `ItemFeatures`), `outputs` (the width of its head, or the number of items; 0: no head), `views` (how often the step shows an example to the model)
and `loss(outputs, batch, hyper) -> (loss_sum, weight_sum, {name: (sum, weight)})`.
"""

from ftjax.tasks.chunked import Features, Scores, predicted, token_scores
from ftjax.tasks.classification import Classification, Loss, check_labels
from ftjax.tasks.items import Candidates, ItemFeatures
from ftjax.tasks.language_modeling import LanguageModeling
from ftjax.tasks.making import LANGUAGE, TASKS, Task, check_task, make_task, negatives_of, restore_task, task_settings
from ftjax.tasks.multi_label import MultiLabel
from ftjax.tasks.preference import Preference, reward_margin
from ftjax.tasks.question_answering import QuestionAnswering
from ftjax.tasks.recommendation import Recommendation
from ftjax.tasks.regression import Regression
from ftjax.tasks.sentence_embedding import SentenceEmbedding
from ftjax.tasks.token_classification import NO_LABEL, TokenClassification

__all__ = [
    "LANGUAGE",
    "NO_LABEL",
    "TASKS",
    "Candidates",
    "Classification",
    "Features",
    "ItemFeatures",
    "LanguageModeling",
    "Loss",
    "MultiLabel",
    "Preference",
    "QuestionAnswering",
    "Recommendation",
    "Regression",
    "Scores",
    "SentenceEmbedding",
    "Task",
    "TokenClassification",
    "check_labels",
    "check_task",
    "make_task",
    "negatives_of",
    "predicted",
    "restore_task",
    "reward_margin",
    "task_settings",
    "token_scores",
]
