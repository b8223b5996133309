"""Rules: the first match wins, and a rule or path that would silently be left out is an error with a way out."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjax.coefficients.rules import resolve_rules
from ftjax.errors import ConfigError

PATHS = ("stem/patch/kernel", "stem/patch/bias", "encoder/block_0/mlp/up/kernel", "encoder/block_0/mlp/up/bias", "head/kernel", "head/bias")


def refused(rules: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        resolve_rules(rules, PATHS, "coefficient.rules")


def test_the_first_matching_rule_wins() -> None:
    resolved = resolve_rules((("head/.*", 1.0), (".*/bias", 0.5), (".*", 0)), PATHS, "coefficient.rules")
    assert resolved == {
        "stem/patch/kernel": (2, 0),
        "stem/patch/bias": (1, 0.5),
        "encoder/block_0/mlp/up/kernel": (2, 0),
        "encoder/block_0/mlp/up/bias": (1, 0.5),
        "head/kernel": (0, 1.0),
        "head/bias": (0, 1.0),
    }


def test_a_pattern_is_for_the_whole_path() -> None:
    with pytest.raises(ConfigError, match="rule 1 'head' matches no parameter"):
        resolve_rules((("head", 1.0), (".*", 0)), PATHS, "coefficient.rules")


def test_a_rule_may_name_groups_whole() -> None:
    groups = {path: path.split("/")[1] if path.startswith("encoder") else path.split("/")[0] for path in PATHS}
    resolved = resolve_rules((("group:stem|block_0", 0), (".*", 1.0)), PATHS, "coefficient.rules", groups.__getitem__)
    assert [path for path, (rule, _) in resolved.items() if rule == 0] == [*PATHS[:4]]
    message = r"^coefficient.rules: rule 1 'group:block_O' matches no parameter; did you mean 'group:block_0'\? allowed: 'group:block_0', 'group:head', "
    with pytest.raises(ConfigError, match=message):
        resolve_rules((("group:block_O", 0), (".*", 1.0)), PATHS, "coefficient.rules", groups.__getitem__)


parts = st.sampled_from(["a", "b", "c", "kernel", "bias"])
some_paths = st.lists(st.lists(parts, min_size=1, max_size=3).map("/".join), min_size=1, max_size=12, unique=True)


@settings(deadline=None)
@given(some_paths, st.permutations(["a", "b", "c", "kernel", "bias"]))
def test_resolution_equals_trying_rules_one_by_one(paths: list[str], order: list[str]) -> None:
    rules, left = [], set(paths)
    for name in order:
        pattern = f"(.*/)?{name}(/.*)?"
        if {path for path in left if re.fullmatch(pattern, path)}:
            rules.append((pattern, float(len(rules))))
            left -= {path for path in left if re.fullmatch(pattern, path)}
    resolved = resolve_rules(tuple(rules), paths, "rules")
    assert list(resolved) == paths
    for path, (index, value) in resolved.items():
        assert value == float(index) == next(i for i, (pattern, _) in enumerate(rules) if re.fullmatch(pattern, path))


def test_a_rule_that_matches_nothing_names_the_nearest_patterns() -> None:
    refused(
        (("hed/.*", 1.0), (".*", 0)),
        "coefficient.rules: rule 1 'hed/.*' matches no parameter; did you mean 'head/.*' or 'encoder/.*' or 'stem/.*'? "
        "allowed: '.*/bias', '.*/kernel', 'encoder/.*', 'encoder/block_0/.*', 'encoder/block_0/mlp/.*', 'encoder/block_0/mlp/up/.*', ... (15 in all)",
    )


def test_a_shadowed_rule_names_who_took_its_place() -> None:
    refused(
        ((".*/kernel", 1.0), (".*/bias", 0.5), ("head/.*", 2.0), (".*", 0)),
        "coefficient.rules: rule 3 'head/.*' never applies: rule 1 '.*/kernel', rule 2 '.*/bias' before it takes all it matches; move it up or delete it",
    )


def test_paths_that_no_rule_covers_are_listed() -> None:
    refused(
        (("head/.*", 1.0), ("stem/patch/kernel", 0)),
        "coefficient.rules: no rule covers stem/patch/bias, encoder/block_0/mlp/up/kernel, encoder/block_0/mlp/up/bias; "
        "end with a rule for the rest, such as ('.*', 1.0)",
    )
    with pytest.raises(ConfigError, match=r"no rule covers p0, .*, p7 and 12 more; end"):
        resolve_rules((), [f"p{i}" for i in range(20)], "coefficient.rules")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "has value -0.1; it must be finite and 0 or more (0 freezes)"),
        (float("nan"), "has value nan; it must be finite and 0 or more (0 freezes)"),
        (float("inf"), "has value inf; it must be finite and 0 or more (0 freezes)"),
        ((("0%", 1.0), ("50%", -1.0)), "has value -1.0; it must be finite and 0 or more (0 freezes)"),
        ((("0%", 0.0), ("50%", 0.0)), "has a schedule that is never above 0; write the number 0 to freeze"),
        (True, "has value True; a value is a number or a schedule (('10%', 1.0), ...)"),
        ("1.0", "has value '1.0'; a value is a number or a schedule (('10%', 1.0), ...)"),
        ((("0%", "x"),), "has value 'x'; a value is a number or a schedule (('10%', 1.0), ...)"),
        (("10%", 1.0), "has value '10%'; a value is a number or a schedule (('10%', 1.0), ...)"),
    ],
)
def test_a_value_that_no_parameter_can_have_is_refused(value: object, message: str) -> None:
    refused(((".*", value),), f"coefficient.rules: rule 1 '.*' {message}")


def test_a_broken_regular_expression_is_explained() -> None:
    refused((("head/(", 1.0),), "coefficient.rules: rule 1 'head/(' is not a regular expression: missing ), unterminated subpattern at position 5")
