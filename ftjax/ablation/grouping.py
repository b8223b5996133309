"""Which members share a compiled program: those whose configurations differ in traced numbers and seeds alone.

Every member's configuration is filled by the recipe for itself (a pull, for instance, depends on the learning rate), and only then compared. What differs
otherwise (method, rank, model, duration) makes another group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ftjax import coefficients, config_usage, configuration, data, distribution, recipes
from ftjax.ablation.spec import RULE, Member, Times
from ftjax.coefficients.hyper import coefficient_rules
from ftjax.config import Config, MeshConfig
from ftjax.configuration import Resolved
from ftjax.errors import ConfigError, did_you_mean
from ftjax.training.plan import Plan
from ftjax.training.prepare import prepare
from ftjax.training.state import TrainState

TRACED = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.epsilon",
    "optimizer.momentum",
    "optimizer.sam",
    "anchor.pull",
    "anchor.ball",
    "anchor.select",
    "anchor.mixout",
    "coefficient.layer_decay",
    "coefficient.head_factor",
    "task.label_smoothing",
    "task.focal_gamma",
    "task.r_drop",
    "task.temperature",
    "task.z_loss",
    "after.ema_decay",
    "adapter.dropout",
    "adapter.alpha",
    "seed",
)
"""Keys whose values are arguments of the compiled step (`plan.hyper`) or part of the state before step 0 (the seed, LoRA's scale)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Filled:
    """A member with everything decided."""

    member: Member
    config: Config
    """Every open value filled; its seed is the member's."""
    hyper: coefficients.Hyper


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Members of one compiled program."""

    number: int
    plan: Plan
    state: TrainState
    """Before step 0, of the base seed."""
    members: tuple[Filled, ...]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:02d}"


Prepared = Callable[[Resolved], tuple[Plan, TrainState]]


def groups(base: Resolved, members: Sequence[Member], *, cache: Path | None = None, progress: data.Progress | None = None) -> list[Group]:
    """The members in groups, each with its plan. Data are read once for all groups that want the same.

    The splits and samples of the data are those of the base's seed for every member, so that all are tested on the same examples; a member's seed is that of
    its new parameters, of the order of its data and of what is random in training.

    Raises:
      FtjaxError: a member's configuration cannot be used.
    """
    found: list[Group] = []
    collected: dict[str, data.Dataset] = {}
    waiting = [(member, asked(base, member)) for member in members]
    while waiting:
        first = dataclasses.replace(waiting[0][1], config=configuration.replace(waiting[0][1].config, {"seed": base.config.seed}))
        plan, state = _prepared(first, collected, cache, progress)
        signature, together, apart = None, [], []
        for member, resolved in waiting:
            filled = _filled(plan, member, resolved)
            signature = signature or _signature(filled, plan)
            (together if _signature(filled, plan) == signature else apart).append((member, resolved, filled))
        found.append(Group(len(found), plan, state, tuple(filled for *_, filled in together)))
        waiting = [(member, resolved) for member, resolved, _ in apart]
    return found


def asked(base: Resolved, member: Member) -> Resolved:
    """The configuration that a member asks for, before the recipe fills it.

    Raises:
      ConfigError: a value that nothing would read, or a multiple of a value that is set.
    """
    settings = {key: value for key, value in member.settings.items() if not key.startswith(RULE) and not isinstance(value, Times)}
    for key, value in member.settings.items():
        if isinstance(value, Times) and dict(configuration.keys(base.config))[key] is not None:
            raise ConfigError(f"{key}={value} is a multiple of what the recipe fills in, and the configuration sets it; leave it open there")
    config = configuration.replace(base.config, settings | {"seed": member.seed})
    config_usage.check_used(config)
    given: dict[str, tuple[configuration.Origin, str]] = dict.fromkeys(settings, ("flag", f"the ablation's {member.arm}"))
    return Resolved(config, dict(base.origins) | given)


def _filled(plan: Plan, member: Member, resolved: Resolved) -> Filled:
    """A member's own values, filled by the recipe for its own settings."""
    config = recipes.fill(resolved, plan.facts).config
    multiples = {key: value for key, value in member.settings.items() if isinstance(value, Times)}
    if multiples:
        # Once more, because what depends on these (a pull on the learning rate) was filled for the recipe's own value.
        set_now = configuration.replace(resolved.config, {key: _multiplied(config, key, value) for key, value in multiples.items()})
        config = recipes.fill(Resolved(set_now, resolved.origins), plan.facts).config
    return Filled(member, config, _hyper(config, member))


def _multiplied(config: Config, key: str, value: Times) -> float:
    filled = dict(configuration.keys(config))[key]
    if not isinstance(filled, float):
        raise ConfigError(f"{key}={value} is a multiple of what the recipe fills in, which is {filled!r} for method {config.method!r}; write a number")
    return float(f"{filled * value.factor:.6g}")


def _hyper(config: Config, member: Member) -> coefficients.Hyper:
    """The member's arguments of the compiled step."""
    hyper = coefficients.default_hyper(config)
    patterns = [pattern for pattern, _ in coefficient_rules(config)]
    factors = list(hyper["coefficient"])
    for key, value in member.settings.items():
        if not key.startswith(RULE):
            continue
        pattern = key.removeprefix(RULE)
        if pattern not in patterns:
            raise ConfigError(f"{key}: no rule of the coefficient table has this pattern; {did_you_mean(pattern, patterns)}")
        if not value > 0:
            raise ConfigError(f"{key}={value}: a multiplier is above 0; freeze with a rule of value 0")
        factors[patterns.index(pattern)] = jnp.array(value, dtype=float)
    return hyper | {"coefficient": tuple(factors)}


def _signature(filled: Filled, plan: Plan) -> Any:
    """What decides the compiled program: everything but traced numbers, and which of these there are."""
    config = filled.config
    static = tuple((key, repr(value)) for key, value in configuration.keys(config) if key not in TRACED)
    # A number that is off is not in the program, and dropout at 0 is left out of it.
    return static, tuple(sorted(filled.hyper)), bool(config.adapter.dropout)


def _prepared(resolved: Resolved, collected: dict[str, data.Dataset], cache: Path | None, progress: data.Progress | None) -> tuple[Plan, TrainState]:
    """The plan of a group on one device: members are spread over devices, not their batches."""
    _refuse(resolved.config)
    single = configuration.replace(resolved.config, {f"mesh.{axis}": 1 for axis in ("data", "fsdp", "tensor")})
    mesh = distribution.make_mesh(MeshConfig(data=1, fsdp=1, tensor=1), jax.devices()[:1])
    key = _data_key(single)
    plan, state = prepare(Resolved(single, resolved.origins), dataset=collected.get(key), progress=progress, cache=cache, mesh=mesh)
    collected.setdefault(key, plan.dataset)
    return plan, state


def _data_key(config: Config) -> str:
    """What the collected data depend on; `prepare` samples and paces what it is given once more, so settings of these are in it too."""
    parts: Mapping[str, Any] = configuration.to_mapping(config)
    return repr([parts[name] for name in ("data", "text", "task", "train", "model")] + [config.seed])


def _refuse(config: Config) -> None:
    """What a population does not do.

    Raises:
      ConfigError: naming the key.
    """
    refused = {
        "train.cartography": config.train.cartography,
        "forgetting.path": config.forgetting.path,
        "after.candidates": config.after.candidates,
    }
    for key, value in refused.items():
        if value:
            raise ConfigError(f"{key}={value!r} is of single runs; ftjax ablate does not follow it, leave it off")
    if jax.process_count() > 1:
        raise ConfigError("ftjax ablate works in one process; independent groups run on several machines with --launcher")
