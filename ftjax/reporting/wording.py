"""How numbers, shapes and metric names are written, on the terminal, in report.html and in the card alike.

Every function takes what a run directory may hold, also None and numbers that are not finite, and gives text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

SHARE = re.compile(r"(.*[/_])?(accuracy|precision|recall|f1|exact_match|(recall|precision|hr|coverage)_at_\d+(_sampled_\d+)?)")
"""A metric of such a name is a share of 1 and is written in percent."""

LOWER_IS_BETTER = ("loss", "ece", "error", "rmse", "mae", "mse")
TITLES = {
    "auroc": "AUROC",
    "ece": "Calibration error (ECE)",
    "entity_f1": "Entity F1",
    "f1": "F1",
    "log_loss": "Log loss",
    "macro_auroc": "Macro AUROC",
    "macro_f1": "Macro F1",
    "mae": "Mean absolute error",
    "matthews": "Matthews correlation",
    "mcc": "Matthews correlation",
    "micro_f1": "Micro F1",
    "mrr": "Mean reciprocal rank",
    "mse": "Mean squared error",
    "ndcg_at_10": "NDCG at 10",
    "pearson": "Pearson correlation",
    "r2": "R²",
    "rmse": "RMSE",
    "samples_f1": "Samples F1",
    "spearman": "Spearman correlation",
    "weighted_f1": "Weighted F1",
    "item_knn": "Item-kNN",
    "majority": "Majority class",
    "pretrained": "As pretrained",
    "probe": "Linear probe",
    "scratch": "From scratch",
}
TASKS = {
    "classification": "Classification",
    "multi_label": "Multi-label classification",
    "regression": "Regression",
    "token_classification": "Token classification",
    "question_answering": "Question answering",
    "sentence_embedding": "Sentence embedding",
    "language_modeling": "Language modelling",
    "preference": "Preference (DPO)",
    "recommendation": "Recommendation",
}
PROPER = ("AUROC", "MAP", "Matthews", "NDCG", "Pearson", "Spearman")
"""First words of titles that keep their capital inside a sentence."""

CONSTANTS = {
    "multi_label": "Label frequencies",
    "regression": "Training mean",
    "token_classification": "Majority tag",
    "question_answering": "Never answering",
    "recommendation": "Most popular",
}
"""The baseline "majority", which never looks at an example, by task."""

METHODS = {
    "full": "Full fine-tuning",
    "probe": "Linear probe",
    "lp_ft": "Linear probe, then fine-tuning (LP-FT)",
    "layer_decay": "Layer-wise decay",
    "discriminative": "Discriminative learning rates",
    "gradual": "Gradual unfreezing",
    "bitfit": "Biases only (BitFit)",
    "norms": "Norms only",
    "attention": "Attention only",
    "partial": "Partial fine-tuning",
    "auto_rgn": "Measured coefficients (Auto-RGN)",
    "l2_sp": "Pulled home (L2-SP)",
    "ball": "Kept in a ball (MARS-SP)",
    "spd": "Selective projection decay (SPD)",
    "mixout": "Mixout",
    "lora": "Low-rank adapters (LoRA)",
    "dora": "Low-rank adapters with magnitudes (DoRA)",
    "pissa": "Low-rank adapters from principal directions (PiSSA)",
    "ia3": "Gains on activations (IA3)",
    "ssf": "Gains and shifts (SSF)",
    "oft": "Block rotations (OFT)",
    "adaptformer": "Hidden units beside the MLPs (AdaptFormer)",
    "houlsby": "Bottlenecks behind each branch (Houlsby)",
    "prompt": "Prompt tokens",
    "vpt": "Prompt tokens in every block (VPT)",
    "scratch": "From scratch",
}
CANDIDATES = {
    "best_checkpoint": "Best checkpoint",
    "ema": "Exponential average (EMA)",
    "swa": "Uniform average of the last steps (SWA)",
    "uniform_soup": "Uniform soup",
    "greedy_soup": "Greedy soup",
}
PARAMETRISED = re.compile(r"(wise_ft|lines)\(([-+.e\d]+)\)")
"""Candidates with a share of the displacement in their name."""


RANKED = re.compile(r"(cold_)?(hr|ndcg|map|mrr|recall|coverage|novelty|popularity_ratio)(?:_at_(\d+))?(?:_sampled_(\d+))?")
"""Metrics of recommended lists: a slice, the metric, the length of the list, the size of the sample."""
RANKED_TITLES = {"hr": "Hit rate", "ndcg": "NDCG", "map": "MAP", "mrr": "Mean reciprocal rank", "novelty": "Novelty in bits"}


def title(name: str) -> str:
    """`"balanced_accuracy"` -> `"Balanced accuracy"`, `"cold_hr_at_10_sampled_99"` -> `"Hit rate at 10 of cold items, among 99 drawn ones"`."""
    ranked = RANKED.fullmatch(name)
    if ranked is None:
        return TITLES.get(name) or name.replace("_", " ").capitalize()
    cold, metric, length, sample = ranked.groups()
    told = RANKED_TITLES.get(metric) or metric.replace("_", " ").capitalize()
    at, of = f" at {length}" if length else "", " of cold items" if cold else ""
    return f"{told}{at}{of}{f', among {sample} drawn ones' if sample else ''}"


def is_share(name: str) -> bool:
    """Whether the metric is a share of 1, written in percent."""
    return SHARE.fullmatch(name) is not None


def lower_is_better(name: str) -> bool:
    """Whether less of this metric is better."""
    return name.endswith(LOWER_IS_BETTER)


def is_number(value: Any) -> bool:
    """An int or a float (nan and inf too), but no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_finite(value: Any) -> bool:
    """A number that can be drawn."""
    return is_number(value) and math.isfinite(value)


def number(value: Any, digits: int = 3) -> str:
    """`digits` significant digits: `0.00012` -> `"1.2e-04"`, `0.4123` -> `"0.412"`, None -> `"–"`; never a false 0."""
    if not is_number(value):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return str(float(value))
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{exponent}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def setting(value: Any) -> str:
    """A number someone chose, as short as it was written: `0.05`, `1e-5`; None: `"–"`."""
    return f"{value:.4g}".replace("e-0", "e-") if is_finite(value) else number(value)


def percent(value: Any, decimals: int = 1) -> str:
    """`0.9644` -> `"96.4%"`."""
    if not is_number(value):
        return "–"
    return f"{100 * value:.{decimals}f}%" if math.isfinite(value) else str(float(value))


def metric(name: str, value: Any, *, like: Any = None) -> str:
    """A metric's value in its own unit: percent for shares, otherwise three decimals; small ones of rankings, where thousandths matter, a decimal more.

    `like` is the value whose decimals it shares: the ends of an interval those of what lies between.
    """
    size = like if is_finite(like) else value
    fine = is_finite(size) and abs(size) < 0.1 and RANKED.fullmatch(name) is not None
    if is_share(name):
        return percent(value, 2 if fine else 1)
    return f"{value:.{4 if fine else 3}f}" if is_finite(value) else number(value)


def entry(value: Any) -> dict[str, float | None]:
    """`{"value", "low", "high"}` of a metric that may be a bare number or lack an interval."""
    if isinstance(value, Mapping):
        return {key: value.get(key) if is_number(value.get(key)) else None for key in ("value", "low", "high")}
    return {"value": value if is_number(value) else None, "low": None, "high": None}


def bounds(name: str, value: Any) -> str:
    """The interval in brackets: `"[94.8, 97.9]"`; empty where there is none."""
    found = entry(value)
    if not (is_finite(found["low"]) and is_finite(found["high"])):
        return ""
    low, high = (metric(name, found[key], like=found["value"]).removesuffix("%") for key in ("low", "high"))
    return f"[{low}, {high}]"


def with_interval(name: str, value: Any) -> str:
    """`"96.4% [94.8, 97.9]"`."""
    return f"{metric(name, entry(value)['value'])} {bounds(name, value)}".rstrip()


def count(value: Any) -> str:
    """`12345` -> `"12,345"`."""
    return f"{value:,.0f}" if is_finite(value) else number(value)


def compact(value: Any) -> str:
    """`5717416` -> `"5.72 M"`."""
    if not is_finite(value):
        return number(value)
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: Any) -> str:
    """`75.2` -> `"1 min 15 s"`, `0.42` -> `"0.42 s"`."""
    if not is_finite(seconds):
        return number(seconds)
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(seconds: Any) -> str:
    """`75.2` -> `"1:15"`, `7325` -> `"2:02:05"`; unknown: `"-:--"`."""
    if not is_finite(seconds):
        return "-:--"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def shape(value: Any) -> str:
    """`[192, 10]` -> `"192 × 10"`, `[]` -> `"scalar"`."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return "–"
    return " × ".join(str(size) for size in value) or "scalar"


def value(anything: Any) -> str:
    """A value of the configuration as a person writes it; lists and mappings as JSON."""
    if anything is None:
        return "none"
    if isinstance(anything, str):
        return anything
    if is_number(anything):
        return repr(anything)
    return json.dumps(anything, ensure_ascii=False)


def printable(text: object) -> str:
    """`text` with control characters (terminal escapes among them) made visible: `"\\x1b[2J"` -> `"\\\\x1b[2J"`."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in str(text))


def method(name: Any) -> str:
    """`"full"` -> `"Full fine-tuning"`."""
    return METHODS.get(str(name)) or title(str(name))


def baseline(name: Any, task: str) -> str:
    """`("majority", "regression")` -> `"Training mean"`: what a baseline is for a task."""
    return (CONSTANTS.get(task) if name == "majority" else None) or title(str(name))


def task(name: Any) -> str:
    """`"multi_label"` -> `"Multi-label classification"`."""
    return TASKS.get(str(name)) or title(str(name))


def candidate(name: Any) -> str:
    """`"wise_ft(0.5)"` -> `"WiSE-FT at 0.5"`, `"ema"` -> `"Exponential average (EMA)"`."""
    found = PARAMETRISED.fullmatch(str(name))
    if found:
        return f"{'WiSE-FT' if found[1] == 'wise_ft' else 'LiNeS'} at {found[2]}"
    return CANDIDATES.get(str(name)) or title(str(name))


def in_sentence(text: str) -> str:
    """A heading inside a sentence: `"Best checkpoint"` -> `"best checkpoint"`; `"WiSE-FT"`, `"F1"` and `"Pearson correlation"` stay."""
    first = text.partition(" ")[0]
    proper = first in PROPER or any(letter.isupper() for letter in first[1:]) or not any(letter.islower() for letter in first)
    return text if proper else text[:1].lower() + text[1:]
