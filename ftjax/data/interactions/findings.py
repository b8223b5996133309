"""The inspection of a log without a model, for `ftjax data report`: read, cleaned and split as a run would do it, with what was left out and why."""

from __future__ import annotations

from ftjax.config import DataConfig, RecommendationConfig, TextConfig
from ftjax.data.findings import Findings
from ftjax.data.interactions.collect import collect_interactions


def inspect_interactions(data: DataConfig, text: TextConfig, config: RecommendationConfig, seed: int) -> Findings:
    """What `collect_interactions` reports; it raises what that raises."""
    report = collect_interactions(data, text, config, seed).report
    nothing = {"source": data.source, "kind": "interactions", "near_duplicates": {"policy": "off"}, "advice": [], "samples": {}}
    return Findings({**report, **nothing}, lambda name: {})
