"""What a person sees: the terminal while a run goes on, and report.html and the model card after it.

This room reads a run directory and nothing else. The page's plots are SVG written here: they follow the reader's light or dark theme, keep their text as text,
and spare a short run matplotlib's import and font cache.
"""

from ftjax.reporting.ablation import render_ablation
from ftjax.reporting.card import card, write_card
from ftjax.reporting.comparison import compare
from ftjax.reporting.html import render
from ftjax.reporting.metrics_log import MetricsWriter, read_metrics
from ftjax.reporting.terminal import Progress

__all__ = ["MetricsWriter", "Progress", "card", "compare", "read_metrics", "render", "render_ablation", "write_card"]
