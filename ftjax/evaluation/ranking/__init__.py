"""Ranking all items for a user: places and best items on the device, metrics of lists, and what a recommender has to beat."""

from ftjax.evaluation.ranking.device import Ranked, ranked, ranked_among
from ftjax.evaluation.ranking.metrics import main_k, metrics_of
from ftjax.evaluation.ranking.records import RecommendationRecords, of_histories

__all__ = ["Ranked", "RecommendationRecords", "main_k", "metrics_of", "of_histories", "ranked", "ranked_among"]
