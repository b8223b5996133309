"""Logs of users and items: readers of the public forms, cleaning, splits without a look into the future, and rows of histories."""

from ftjax.data.interactions.catalogue import Catalogue
from ftjax.data.interactions.collect import collect_interactions
from ftjax.data.interactions.histories import Histories, histories_split
from ftjax.data.interactions.preprocessing import InteractionPreprocessing, log_shares_of

__all__ = ["Catalogue", "Histories", "InteractionPreprocessing", "collect_interactions", "histories_split", "log_shares_of"]
