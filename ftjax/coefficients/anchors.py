"""Who is anchored: how strongly theta0 holds each parameter, from the rules of `anchor`.

In the law this is the strength behind `pull` and the retraction R. What has no pretrained value (a new head) has no theta0 to go back to: it is
excluded by construction, and a rule that names nothing else is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from ftjax.coefficients.rules import is_zero, resolve_rules
from ftjax.config import AnchorConfig, Value
from ftjax.errors import ConfigError

FORCES = ("pull", "ball", "select", "mixout")
"""The keys of `anchor` that hold a parameter near theta0."""


def forces(anchor: AnchorConfig) -> tuple[str, ...]:
    """Those that are on. A strength of 0 is on: a population may vary it."""
    return tuple(name for name in FORCES if getattr(anchor, name) is not None)


def resolve_anchors(
    anchor: AnchorConfig, shapes: Mapping[str, tuple[int, ...]], group_of: Callable[[str], str], new: Collection[str]
) -> dict[str, tuple[Value, str]]:
    """Strength of the anchor and its reason, by path; the number 0 leaves a parameter free.

    Without rules pretrained matrices and filters are held and vectors are free, as in L2-SP (Li et al. 2018, arXiv 1802.01483).

    Args:
      anchor: the forces and their rules.
      shapes: shape of every parameter by path.
      group_of: group of a path.
      new: paths without a pretrained value.

    Raises:
      ConfigError: rules that do not fit the paths, rules without a force, a force where nothing has a pretrained value, or a rule for new parameters only.
    """
    active = forces(anchor)
    if active and not set(shapes) - set(new):
        raise ConfigError(f"anchor.{active[0]} holds parameters near their pretrained values, and this run has none: every parameter is new")
    if anchor.rules is None:
        return {path: _usual(path, shape, path in new) for path, shape in shapes.items()}
    if not active:
        raise ConfigError(f"anchor.rules is set and nothing reads it; set one of {', '.join(f'anchor.{name}' for name in FORCES)}")
    resolved = resolve_rules(anchor.rules, shapes, "anchor.rules", group_of)
    _refuse_new_only(anchor, resolved, new)
    return {
        path: (0.0, "new, nothing to hold it") if path in new else (value, f"rule {index + 1} {anchor.rules[index][0]!r}")
        for path, (index, value) in resolved.items()
    }


def _usual(path: str, shape: tuple[int, ...], new: bool) -> tuple[float, str]:
    """What is held when nobody says."""
    if new:
        return 0.0, "new, nothing to hold it"
    return (1.0, "matrix, yes") if len(shape) >= 2 else (0.0, "vector, no")


def _refuse_new_only(anchor: AnchorConfig, resolved: Mapping[str, tuple[int, Value]], new: Collection[str]) -> None:
    """A rule that would hold new parameters and no other does nothing; it says so."""
    for index, (pattern, value) in enumerate(anchor.rules or ()):
        paths = [path for path, (rule, _) in resolved.items() if rule == index]
        if not is_zero(value) and all(path in new for path in paths):
            raise ConfigError(
                f"anchor.rules: rule {index + 1} {pattern!r} holds {', '.join(paths[:4])}, which have no pretrained value; "
                "give them 0, or weight decay through coefficient.decay_rules"
            )
