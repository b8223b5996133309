"""The rule of equal budgets: every arm gets the same number of trials, the same seeds, and as many examples in each; all are tested on the same examples.

A comparison in which one side was tuned harder or trained longer says nothing about the method (He et al. 2018, arXiv 1811.08883, on training from scratch).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ftjax.ablation.grouping import Group
from ftjax.ablation.spec import Ablation, all_arms
from ftjax.errors import ConfigError


def check_equal(ablation: Ablation, groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """The budget of every arm: `{"trials", "seeds", "examples"}` (examples of one training, those seen twice counted twice).

    An arm that says why (`Arm.extra_budget`) may train on another number of examples, and never has more trials.

    Raises:
      ConfigError: arms with other budgets, or tested on other examples.
    """
    arms: dict[str, dict[str, Any]] = {}
    tested: dict[str, str] = {}
    for group in groups:
        for one in group.members:
            found = arms.setdefault(one.member.arm, {"trials": set(), "seeds": set(), "examples": set()})
            found["trials"].add(one.member.trial)
            found["seeds"].add(one.member.seed)
            found["examples"].add(group.plan.steps * group.plan.batch_size)
            tested[one.member.arm] = _digest(group)
    _same(tested, "is tested on other examples; splits must not depend on what is compared")
    counted = {name: {"trials": len(b["trials"]), "seeds": len(b["seeds"]), "examples": max(b["examples"])} for name, b in arms.items()}
    _same({name: (b["trials"], b["seeds"]) for name, b in counted.items()}, "has another number of trials and seeds")
    excused = {arm.name for arm in all_arms(ablation) if arm.extra_budget} if ablation.budget == "equal" else set(counted)
    bound = {name: b["examples"] for name, b in counted.items() if name not in excused}
    _same(bound, "trains on another number of examples; set train.duration in steps, say why with Arm(extra_budget=...), or budget='free'")
    return counted


def _same(values: Mapping[str, Any], what: str) -> None:
    """Refuse arms that differ."""
    names = list(values)
    for name in names[1:]:
        if values[name] != values[names[0]]:
            raise ConfigError(f"arm {name!r} ({_shown(values[name])}) {what}: {names[0]!r} has {_shown(values[names[0]])}")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _digest(group: Group) -> str:
    """Of the test split: names and labels of its rows, in order."""
    split = group.plan.dataset.splits["test"]
    digest = hashlib.blake2b("\0".join(split.ids).encode("utf-8", "surrogatepass"), digest_size=6)
    digest.update(repr(getattr(split.labels, "tolist", list)()).encode())
    return f"test rows {digest.hexdigest()}"
