"""The classics of fine-tuning as tables of the law's `c(path, step)`, a few lines each.

Every constructor returns a `CoefficientConfig`; combine two with `dataclasses.replace(tables.bitfit(), layer_decay=0.65)`. What a constructor does not
name stays open for the method's recipe. The head always trains, since it is new in most runs. Nothing here needs JAX, so a configuration file stays fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal

from ftjax.config import CoefficientConfig, Duration, Rules, Value
from ftjax.durations import add
from ftjax.errors import ConfigError

EVERYTHING: Rules = ((".*", 1.0),)
"""The table of full fine-tuning, and what an open `coefficient.rules` means."""

ADAPTED = r".*/(a|b|a_bias|b_bias|magnitude|gain|rotation|tokens)"
"""The arrays of adapters that train, in all their kinds."""

_HEAD = ("group:head", 1.0)
_REST_STILL = (".*", 0.0)


def probe() -> CoefficientConfig:
    """Linear probe: c = 1 on the head, 0 elsewhere, so the body is still by structure (MAE, He et al. 2022, probes at 10 to 100 times the rate)."""
    return _only()


def lp_ft(border: Duration = "33%", ramp: Duration = "5%", probe: float = 30.0) -> CoefficientConfig:
    """Linear probe, then everything: c = `probe` on the head and 0 elsewhere until `border`; then 1 on the head and a straight line to 1 that takes `ramp`.

    Kumar et al. 2022 (arXiv 2202.10054) train the probe to convergence and then everything at a small rate; a third of the run is our pilot's share.
    A probe converges at 10 to 100 times the rate of fine-tuning (MAE). The ramp is ours: Adam's moments of the body start at the border.
    """
    head = (("0%", probe), (border, probe), (border, 1.0))
    # The head's coefficient is said here in full: a recipe's factor for new heads would multiply the probe's rate once more.
    return CoefficientConfig(rules=(("group:head", head), (".*", ((border, 0.0), (add(border, ramp, "lp_ft"), 1.0)))), head_factor=1.0)


def bitfit() -> CoefficientConfig:
    """Biases and the head: c = 1 there, 0 elsewhere; a norm's bias is one (Ben Zaken et al. 2022, arXiv 2106.10199, at rates of 1e-4 to 1e-3)."""
    return _only((r"(.*/)?bias", 1.0))


def norms_only() -> CoefficientConfig:
    """Scales and biases of all norms, and the head: c = 1 there, 0 elsewhere (Frankle et al. 2021, arXiv 2003.00152, for batch norm)."""
    return _only((r"(.*/)?[^/]*norm\d*/(scale|bias)", 1.0))


def attention_only() -> CoefficientConfig:
    """Attention and the head: c = 1 there, 0 elsewhere (Touvron et al. 2022, arXiv 2203.09795). A model without attention is refused."""
    return _only((r"(.*/)?attention/.*", 1.0))


def surgical(*groups: str) -> CoefficientConfig:
    """Some groups and the head: c = 1 there, 0 elsewhere: `surgical("block_0")`, `surgical("stem", "block_[01]")`.

    Lee et al. 2023 (arXiv 2210.11466): the first block where the input has shifted, the last where the labels have.

    Args:
      *groups: regular expressions for whole groups of the model.

    Raises:
      ConfigError: no group but the head; that is a probe.
    """
    chosen = [group for group in groups if group != "head"]
    if not chosen:
        raise ConfigError("surgical() needs a group besides the head, such as 'block_0'; the head alone is probe()")
    return _only((f"group:{'|'.join(chosen)}", 1.0))


def partial(*frozen: str) -> CoefficientConfig:
    """All but some groups: c = 0 on `frozen`, 1 elsewhere: `partial("stem", "block_[0-5]")`. Each name is a regular expression for a whole group.

    Raises:
      ConfigError: nothing to freeze.
    """
    if not frozen:
        raise ConfigError("partial() needs a group to freeze, such as 'stem'")
    return CoefficientConfig(rules=((f"group:{'|'.join(frozen)}", 0.0), (".*", 1.0)))


def freeze_embeddings() -> CoefficientConfig:
    """c = 0 on the stem, where images enter, and 1 elsewhere: with it SGD does as well as AdamW on a ViT (Kumar et al. 2022, arXiv 2211.09359)."""
    return partial("stem")


def layer_decay(decay: float = 0.75, convention: Literal["beit", "electra"] = "beit") -> CoefficientConfig:
    """c is multiplied by `decay ** depth`, the distance from the head; the model family knows the depth.

    "beit" (also MAE, which uses 0.65 for ViT-B and 0.75 for ViT-L) gives the top block `decay`, "electra" (0.8) gives it `decay ** 2`.
    """
    return CoefficientConfig(layer_decay=decay, layer_decay_convention=convention)


def discriminative(factor: float = 2.6) -> CoefficientConfig:
    """Each group moves `factor` times slower than the one above: layer decay of 1 / factor (ULMFiT, Howard and Ruder 2018, arXiv 1801.06146)."""
    return layer_decay(1 / factor)


def gradual_unfreeze(every: Duration = "1 epochs") -> CoefficientConfig:
    """c of a group is 0 until `every` after the group above it began, then 1 (ULMFiT: one layer an epoch, from the head down)."""
    return CoefficientConfig(unfreeze_every=every)


def head_factor(factor: float) -> CoefficientConfig:
    """c of the head is multiplied by `factor`; 10 to 100 is usual for a new head on a pretrained body."""
    return CoefficientConfig(head_factor=factor)


def adapters(head: bool = True, whole: tuple[str, ...] = ()) -> CoefficientConfig:
    """What adapters train of their leaves, and a new head: c = 1 there, 0 elsewhere, so the weights under them are still by structure.

    Args:
      head: whether the head trains too; one that was pretrained for the task need not.
      whole: paths of further parameters that train, as an adapter file that a run begins from may have them.
    """
    rules = ((ADAPTED, 1.0), *(((("|".join(map(re.escape, whole))), 1.0),) if whole else ()))
    return _only(*rules) if head else CoefficientConfig(rules=(*rules, _REST_STILL))


def ssf() -> CoefficientConfig:
    """As `adapters`, with every bias and the norms' scales: they are SSF's shifts, and its gains and shifts after norms (Lian et al. 2022)."""
    return _only((ADAPTED, 1.0), (r"(.*/)?bias", 1.0), (r"(.*/)?[^/]*norm\d*/scale", 1.0))


def lora_plus(ratio: float = 16.0) -> CoefficientConfig:
    """Low-rank leaves and the head, B faster than A: c = `ratio` on paths that end in `/b` or `lora_b`, 1 on `/a` or `lora_a`, 0 on the rest of the body.

    Hayou et al. 2024 (arXiv 2402.12354): B starts at 0, and efficient learning wants its rate well above A's; 16 is theirs.
    """
    return CoefficientConfig(rules=((r".*(/b|lora_b)", float(ratio)), (r".*(/a|lora_a)", 1.0), _HEAD, _REST_STILL))


def auto_rgn(every: Duration = "1 epochs") -> CoefficientConfig:
    """c is multiplied by each parameter's relative gradient norm |g| / |theta| over the largest, measured again every `every`.

    Lee et al. 2023 (arXiv 2210.11466): close to the best surgical choice without knowing where the shift is; theirs is measured each epoch.
    """
    return CoefficientConfig(auto="rgn", auto_every=every)


def sampled(schedule: Callable[[int], Any], steps: int, tolerance: float = 1e-3) -> Value:
    """Any schedule of the step (optax's, say) as the points of a rule: `(("0 steps", v), ...)`.

    At every step from 0 to `steps` the points' straight lines are within `tolerance` times the schedule's largest value. The schedule's own kinks and
    jumps are what becomes a point first, so one that consists of straight lines is met exactly, up to kinks smaller than the tolerance.

    Args:
      schedule: called with each step from 0 to `steps`.
      steps: of the run; after it the last value holds.
      tolerance: largest error, relative; 0 keeps every step that is not on a line.
    """
    values = [float(schedule(step)) for step in range(steps + 1)]
    allowed = tolerance * max(map(abs, values))
    kept, open_spans = {0, steps}, [(0, steps)]
    while open_spans:
        start, stop = open_spans.pop()
        worst = max(range(start, stop + 1), key=lambda step: _error(values, start, stop, step))
        if _error(values, start, stop, worst) > allowed:
            kept.add(worst)
            open_spans += [(start, worst), (worst, stop)]
    return tuple((f"{step} steps", values[step]) for step in sorted(kept))


def _error(values: list[float], start: int, stop: int, step: int) -> float:
    """How far a value is from the straight line between two others."""
    share = (step - start) / max(stop - start, 1)
    return abs(values[step] - (values[start] + share * (values[stop] - values[start])))


def _only(*rules: tuple[str, Value]) -> CoefficientConfig:
    """The head and what the rules name; the rest is still."""
    table: Rules = (_HEAD, *rules, _REST_STILL)
    return CoefficientConfig(rules=table)
