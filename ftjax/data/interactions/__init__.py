"""Logs of users and items: readers of the public forms, cleaning, splits without a look into the future, and rows of histories."""

from ftjax.data.interactions.catalogue import Catalogue
from ftjax.data.interactions.collect import collect_interactions
from ftjax.data.interactions.histories import Histories, histories_split
from ftjax.data.interactions.predict import as_histories, histories_to_predict, read_histories, told_unknown
from ftjax.data.interactions.preprocessing import InteractionPreprocessing, log_shares_of

__all__ = [
    "Catalogue",
    "Histories",
    "InteractionPreprocessing",
    "as_histories",
    "collect_interactions",
    "histories_split",
    "histories_to_predict",
    "log_shares_of",
    "read_histories",
    "told_unknown",
]
