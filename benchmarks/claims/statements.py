"""The claims: what a paper says, as a sum of measured accuracies that should exceed a number fixed before measuring.

Every claim makes up to two statements about the same difference, paired by seed: with each arm's learning rate chosen on validation ("tuned"), and
averaged over the learning rates ("averaged"). Promises are about half of what a pilot on another model measured (averaged), and half a point (tuned).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
from scipy import stats

from benchmarks.claims import verdicts
from benchmarks.claims.experiments import SHIFT, SPAN
from benchmarks.claims.verdicts import Effect, Verdict

Measured = Mapping[str, Mapping[str, list[list[float]]]]
"""`{"experiment/arm": {measurement: [rate][seed]}}`."""
Kind = Literal["gain", "nothing", "order"]
Term = tuple[float, str, str]
"""`(weight, "experiment/arm", measurement)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and how it could fail."""

    name: str
    paper: str
    says: str
    terms: tuple[Term, ...] = ()
    """The value of a seed is the weighted sum of these accuracies, in points."""
    at_least: float = 2.0
    """What the averaged statement promises; for "nothing" the bound on both sides, for "order" the rank correlation."""
    tuned: float | None = 0.5
    """What the tuned statement promises; None: it is not made."""
    over: tuple[float, ...] = SPAN
    """Learning rates of the averaged statement."""
    t: float = 4.0
    """Standard errors that make it sure."""
    kind: Kind = "gain"
    control: Verdict | None = None
    """For a negative control: the verdict that the machinery must give."""


@dataclasses.dataclass(frozen=True)
class Statement:
    """What came out for one reading of a claim."""

    reading: Literal["tuned", "averaged"]
    effect: Effect
    at_least: float
    verdict: Verdict


def minus(one: str, other: str, measurement: str) -> tuple[Term, ...]:
    """`one` - `other`."""
    return (1.0, one, measurement), (-1.0, other, measurement)


def needs(claim: Claim) -> tuple[str, ...]:
    """The `experiment/arm` units that a claim is about."""
    return _ORDERED if claim.kind == "order" else tuple(dict.fromkeys(unit for _, unit, _ in claim.terms))


def judge(claim: Claim, measured: Measured, rates: tuple[float, ...]) -> tuple[Statement, ...]:
    """The statements of a claim.

    Args:
      claim: what to judge.
      measured: at least the units that the claim needs.
      rates: the learning rates of the measurements' first axis.
    """
    if claim.kind == "order":
        found = verdicts.effect([-value for value in rank_correlations(measured)])
        return (Statement("averaged", found, claim.at_least, verdicts.gain(found, claim.at_least, claim.t)),)
    statements = []
    for reading, promise in (("tuned", claim.tuned), ("averaged", claim.at_least)):
        if promise is None or (reading == "averaged" and not set(claim.over) & set(rates)):
            continue
        pick = tuned if reading == "tuned" else (lambda unit, name: averaged(unit, name, rates, claim.over))
        values = sum(weight * np.asarray(pick(measured[unit], measurement)) for weight, unit, measurement in claim.terms)
        found = verdicts.effect(list(np.asarray(values)))
        decide = verdicts.nothing if claim.kind == "nothing" else verdicts.gain
        statements.append(Statement(reading, found, promise, decide(found, promise, claim.t)))
    return tuple(statements)


def tuned(unit: Mapping[str, list[list[float]]], measurement: str) -> np.ndarray:
    """Each seed's accuracy at the learning rate that its own validation set liked best (the lowest of equals), `[seeds]`."""
    return np.take_along_axis(np.asarray(unit[measurement]), chosen(unit, measurement)[None], axis=0)[0]


def chosen(unit: Mapping[str, list[list[float]]], measurement: str = "id") -> np.ndarray:
    """Index of the learning rate that validation picks for each seed; on WiSE-FT's curve, validation at the same share of the displacement."""
    _, at, alpha = measurement.partition("@")
    return np.argmax(np.asarray(unit[f"validation{at}{alpha}"]), axis=0)


def averaged(unit: Mapping[str, list[list[float]]], measurement: str, rates: tuple[float, ...], over: tuple[float, ...]) -> np.ndarray:
    """Each seed's accuracy averaged over some learning rates, `[seeds]`."""
    rows = [unit[measurement][rates.index(rate)] for rate in over if rate in rates]
    return np.mean(rows, axis=0)


def summary(unit: Mapping[str, list[list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Mean and standard error over seeds at every learning rate of every measurement, and how many seeds' validation chose each rate."""
    found = {}
    for name, values in unit.items():
        effects = [verdicts.effect(row) for row in values]
        found[name] = {"mean": [round(one.mean, 3) for one in effects], "se": [round(one.se, 3) for one in effects]}
    return found | {"chosen": {"seeds": np.bincount(chosen(unit), minlength=len(unit["id"])).tolist()}}


def rank_correlations(measured: Measured) -> list[float]:
    """Spearman's correlation between travel and accuracy under shift over all arms and learning rates, for every seed."""
    travel, ood = (np.concatenate([np.asarray(measured[unit][name]) for unit in _ORDERED]) for name in ("travel", "ood"))
    return [float(stats.spearmanr(travel[:, seed], ood[:, seed]).statistic) for seed in range(travel.shape[1])]


_ORDERED = tuple(f"shift/{arm.name}" for arm in SHIFT.arms if arm.name != "other_order")

_METHODS = (
    ("lp_ft", "Kumar et al. 2022, arXiv 2202.10054", "Probing first, then fine-tuning (LP-FT)"),
    ("layer_decay", "ELECTRA (Clark et al. 2020), BEiT (Bao et al. 2022), MAE (He et al. 2022)", "Layer-wise decay of the learning rate"),
    ("l2_sp", "Li et al. 2018, arXiv 1802.01483", "A pull towards the pretrained weights (L2-SP)"),
    ("ball", "MARS-SP (Gouk et al. 2021), TPGM (Tian et al. 2023)", "A ball around the pretrained weights"),
    ("spd", "Tian et al. 2024, arXiv 2411.01713", "Selective projection decay (SPD)"),
)
_SHIFTS = (("id", "in distribution", 0.5), ("ood", "under made shifts", 2.0), ("natural", "under a natural shift (back on MNIST)", 2.0))

_AGAINST_FULL = tuple(
    Claim(
        name=f"{arm}_{measurement}",
        paper=paper,
        says=f"{says} beats plain fine-tuning {where}",
        terms=minus(f"shift/{arm}", "shift/full", measurement),
        at_least=promise,
    )
    for arm, paper, says in _METHODS
    for measurement, where, promise in _SHIFTS
)

_FEW = tuple(
    Claim(
        name=f"few_{arm}",
        paper=paper,
        says=f"{says} beats plain fine-tuning in distribution with 20 labels",
        terms=minus(f"labels_20/{arm}", "labels_20/full", "id"),
        at_least=0.5,
    )
    for arm, paper, says in (*_METHODS[:3], ("probe", "Kumar et al. 2022, arXiv 2202.10054", "A linear probe"))
)


def _gap(labels: int) -> tuple[Term, ...]:
    return minus(f"labels_{labels}/full", f"labels_{labels}/scratch", "id")


def _shrinks(few: int, more: int) -> tuple[Term, ...]:
    return (*_gap(few), *((-weight, unit, measurement) for weight, unit, measurement in _gap(more)))


_HE = "He et al. 2018, arXiv 1811.08883"
_LEE = "Lee et al. 2023, arXiv 2210.11466"
_WISE = "Wortsman et al. 2022, arXiv 2109.01903"

CLAIMS: tuple[Claim, ...] = (
    *_AGAINST_FULL,
    Claim(
        name="probe_ood",
        paper="Kumar et al. 2022, arXiv 2202.10054",
        says="A linear probe beats plain fine-tuning under made shifts",
        terms=minus("shift/probe", "shift/full", "ood"),
    ),
    Claim(
        name="probe_id",
        paper="Kumar et al. 2022, arXiv 2202.10054",
        says="and loses to it in distribution",
        terms=minus("shift/full", "shift/probe", "id"),
        at_least=0.5,
    ),
    Claim(
        name="anchor_not_zero",
        paper="Li et al. 2018, arXiv 1802.01483",
        says="The pretrained weights are a better place to decay to than zero, under made shifts",
        terms=minus("shift/l2_sp", "shift/decay", "ood"),
    ),
    Claim(
        name="travel_orders",
        paper="the distance reading of the fine-tuning coefficient",
        says="The further the weights travel, the lower the accuracy under made shifts (rank correlation over arms and rates, sign turned)",
        at_least=0.6,
        kind="order",
    ),
    *_FEW,
    Claim(
        name="tenfold",
        paper="Howard and Ruder 2018, arXiv 1801.06146",
        says="Fine-tuning on 60 labels matches training from scratch on 600",
        terms=((1.0, "labels_60/full", "id"), (-1.0, "labels_600/scratch", "id")),
        at_least=0.0,
        tuned=0.0,
    ),
    Claim(name="scratch_20", paper=_HE, says="Fine-tuning beats training from scratch with 20 labels", terms=_gap(20), at_least=10.0, tuned=10.0),
    Claim(name="scratch_shrinks_60", paper=_HE, says="its edge is smaller with 60 labels than with 20", terms=_shrinks(20, 60)),
    Claim(name="scratch_shrinks_200", paper=_HE, says="smaller with 200 than with 60", terms=_shrinks(60, 200)),
    Claim(name="scratch_shrinks_600", paper=_HE, says="smaller with 600 than with 200", terms=_shrinks(200, 600), at_least=0.5),
    Claim(name="scratch_gone", paper=_HE, says="and within a point with 600", terms=_gap(600), at_least=1.0, tuned=1.0, kind="nothing"),
    Claim(
        name="surgical_pixels",
        paper=_LEE,
        says="Input shift (pixels scrambled within patches): the first blocks beat the last layer",
        terms=minus("pixels/first", "pixels/last", "id"),
    ),
    Claim(
        name="surgical_pixels_full",
        paper=_LEE,
        says="Input shift (pixels scrambled within patches): the first blocks beat all",
        terms=minus("pixels/first", "pixels/full", "id"),
        at_least=0.5,
    ),
    Claim(name="surgical_noise", paper=_LEE, says="Input shift (noise): the first blocks beat the last layer", terms=minus("noise/first", "noise/last", "id")),
    Claim(
        name="surgical_noise_full",
        paper=_LEE,
        says="Input shift (noise): the first blocks beat all",
        terms=minus("noise/first", "noise/full", "id"),
        at_least=0.5,
    ),
    Claim(
        name="surgical_writers",
        paper=_LEE,
        says="Natural shift (other writers and scanner): the first blocks beat the last layer",
        terms=minus("writers/first", "writers/last", "id"),
    ),
    Claim(
        name="surgical_writers_full",
        paper=_LEE,
        says="Natural shift (other writers and scanner): the first blocks beat all",
        terms=minus("writers/first", "writers/full", "id"),
        at_least=0.5,
    ),
    Claim(
        name="surgical_renamed",
        paper=_LEE,
        says="Output shift (classes renamed): the last layer beats all",
        terms=minus("renamed/last", "renamed/full", "id"),
        at_least=5.0,
        tuned=2.0,
    ),
    Claim(
        name="surgical_renamed_first",
        paper=_LEE,
        says="Output shift (classes renamed): the last layer beats the first blocks",
        terms=minus("renamed/last", "renamed/first", "id"),
        at_least=5.0,
        tuned=2.0,
    ),
    Claim(
        name="wise_kept",
        paper=_WISE,
        says="Half of the displacement keeps more of what pretraining knew than all of it",
        terms=((1.0, "wise/full", "kept@0.5"), (-1.0, "wise/full", "kept")),
    ),
    Claim(
        name="wise_id",
        paper=_WISE,
        says="and costs nothing on the task itself",
        terms=((1.0, "wise/full", "id@0.5"), (-1.0, "wise/full", "id")),
        at_least=0.0,
        tuned=0.0,
    ),
    Claim(
        name="wise_chosen_kept",
        paper=_WISE,
        says="A share of the displacement (a quarter, half, three quarters) chosen on validation keeps more of what pretraining knew than all of it",
        terms=((1.0, "wise/full", "kept@best"), (-1.0, "wise/full", "kept")),
    ),
    Claim(
        name="wise_chosen_id",
        paper=_WISE,
        says="and costs nothing on the task itself",
        terms=((1.0, "wise/full", "id@best"), (-1.0, "wise/full", "id")),
        at_least=0.0,
        tuned=0.0,
    ),
    Claim(
        name="wise_hot_kept",
        paper=_WISE,
        says="Of a hot run (rate 0.01), half of the displacement keeps more of what pretraining knew",
        terms=((1.0, "wise/full", "kept@0.5"), (-1.0, "wise/full", "kept")),
        at_least=5.0,
        tuned=None,
        over=(1e-2,),
    ),
    Claim(
        name="wise_hot_id",
        paper=_WISE,
        says="and is better on the task itself",
        terms=((1.0, "wise/full", "id@0.5"), (-1.0, "wise/full", "id")),
        at_least=1.0,
        tuned=None,
        over=(1e-2,),
    ),
    Claim(
        name="control_same",
        paper="control",
        says="The same arm with another order of the data is no different (ood)",
        terms=minus("shift/other_order", "shift/full", "ood"),
        at_least=0.0,
        tuned=0.0,
        control="inconclusive",
    ),
    Claim(
        name="control_same_id",
        paper="control",
        says="The same arm with another order of the data is no different (id)",
        terms=minus("shift/other_order", "shift/full", "id"),
        at_least=0.0,
        tuned=0.0,
        control="inconclusive",
    ),
    Claim(
        name="control_decay",
        paper="control",
        says="Weight decay towards zero changes nothing under made shifts (within 0.5)",
        terms=minus("shift/decay", "shift/full", "ood"),
        at_least=0.5,
        tuned=None,
        kind="nothing",
        control="holds",
    ),
)
