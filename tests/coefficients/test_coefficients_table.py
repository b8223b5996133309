"""The table: published depth rules, honest display, and refusal of what could not learn."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ftjax.coefficients import coefficient, depths
from ftjax.errors import ConfigError


def mae_layer_id(name: str, num_layers: int) -> int:
    """The rule of facebookresearch/mae `util/lr_decay.py`, in its names."""
    if name in ("cls_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    return int(name.split(".")[1]) + 1 if name.startswith("blocks") else num_layers


@pytest.mark.parametrize("blocks", [1, 6, 12])
def test_layer_decay_scales_groups_as_mae_does(blocks: int) -> None:
    num_layers = blocks + 1
    scales = [0.65 ** (num_layers - layer) for layer in range(num_layers + 1)]
    theirs = {"stem": "patch_embed.proj.weight", "norm": "norm.weight", "head": "head.weight"} | {
        f"block_{i}": f"blocks.{i}.attn.qkv.weight" for i in range(blocks)
    }
    groups = ("stem", *(f"block_{i}" for i in range(blocks)), "norm", "head")
    ours = {group: 0.65**depth for group, depth in depths(groups).items()}
    assert ours == pytest.approx({group: scales[mae_layer_id(name, num_layers)] for group, name in theirs.items()})


def test_groups_after_the_blocks_are_not_decayed_whatever_their_name() -> None:
    assert depths(("stem", "block_0", "top", "head")) == {"stem": 2, "block_0": 1, "top": 0, "head": 0}
    assert depths(("stem", "head")) == {"stem": 1, "head": 0}


def test_the_coefficient_is_the_product_of_rule_multiplier_depth_and_head(law) -> None:
    table = law(rules=(("head/.*", 2.0), (".*", 3.0)), layer_decay=0.5, head_factor=10.0).table
    rows = {row.path: row for row in table.rows}
    hyper = {"coefficient": (7.0, 11.0), "layer_decay": 0.5, "head_factor": 10.0}
    step = jnp.array(0)
    assert coefficient(rows["head/kernel"], step, hyper) == 2 * 7 * 10
    assert coefficient(rows["norm/scale"], step, hyper) == 3 * 11
    assert coefficient(rows["encoder/block_1/mlp/up/bias"], step, hyper) == 3 * 11 * 0.5
    assert coefficient(rows["stem/position"], step, hyper) == 3 * 11 * 0.125


def test_only_the_number_0_is_still(law) -> None:
    table = law(rules=(("head/.*", 1.0), ("stem/.*", (("0%", 0.0), ("50%", 1.0))), (".*", 0.0))).table
    assert table.live_paths == {"head/kernel", "head/bias", "stem/patch/kernel", "stem/position"}


def test_matrices_decay_and_vectors_and_tokens_do_not(law) -> None:
    decays = {row.path: row.decay for row in law().table.rows}
    assert {path for path, decay in decays.items() if decay} == {
        "stem/patch/kernel",
        "encoder/block_0/mlp/up/kernel",
        "encoder/block_1/mlp/up/kernel",
        "head/kernel",
    }
    ruled = law(decay_rules=(("head/.*", 0.0), (".*", 0.5))).table
    assert {row.path: row.decay for row in ruled.rows}["norm/scale"] == 0.5
    with pytest.raises(ConfigError, match=r"^coefficient.decay_rules: rule 1 'nothing' matches no parameter"):
        _ = law(decay_rules=(("nothing", 0.0), (".*", 1.0))).table


def test_the_head_is_never_pulled_because_it_was_never_pretrained(law) -> None:
    assert {row.group for row in law().table.rows if row.anchor == 0} == {"head"}


def test_a_table_in_which_nothing_can_learn_is_refused(law) -> None:
    message = "coefficient.rules: all-frozen: every parameter has coefficient 0, so nothing can learn; give one rule a value above 0"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        _ = law(rules=((".*", 0),)).table


def test_an_empty_table_of_rules_is_not_the_default_one(law) -> None:
    with pytest.raises(ConfigError, match=r"^coefficient.rules: no rule covers encoder/block_0/mlp/up/bias, "):
        _ = law(rules=()).table


def test_the_json_is_strict_and_says_what_happens_when(law) -> None:
    table = law(rules=(("head/.*", 1.0), ("stem/.*", (("0%", 0.0), ("100%", 0.8))), (".*", 0)), layer_decay=0.5, head_factor=10.0).table
    content = json.loads(json.dumps(table.to_json(), allow_nan=False))
    rows = {row["path"]: row for row in content["rows"]}
    assert rows["stem/patch/kernel"] == {
        "path": "stem/patch/kernel",
        "shape": [2, 3],
        "group": "stem",
        "live": True,
        "coefficient": {"0%": 0.0, "50%": 0.05, "100%": 0.1},
        "weight_decay": 0.1,
        "anchor": 1.0,
        "new": False,
        "parameters": 6,
        "why": "rule 2 'stem/.*'; decay: matrix, yes; anchor: rule 1 '.*'",
    }
    assert rows["head/bias"]["coefficient"] == {"0%": 10.0, "50%": 10.0, "100%": 10.0}
    assert not rows["norm/scale"]["live"]
    assert content["groups"] == ["stem", "block_0", "block_1", "norm", "head"]
    assert content["parameters"] == {"total": 53, "live": 26}


def test_the_printed_table_groups_what_moves_alike(law) -> None:
    table = law(rules=(("head/.*", 1.0), (".*/bias", 0.5), ("stem/.*", (("0%", 0.0), ("100%", 0.8))), (".*", 0)), head_factor=10.0).table
    assert table.lines() == [
        "group    coefficient      parameters  arrays",
        "stem     0 -> 0.4 -> 0.8          18       2  live",
        "block_0  0.5                       3       1  live",
        "block_0  0                         9       1  still",
        "block_1  0.5                       3       1  live",
        "block_1  0                         9       1  still",
        "norm     0                         3       1  still",
        "head     10                        8       2  live",
        "53 parameters, 32 live (60.4%), 12 of them with weight decay 0.1",
    ]


def test_the_printed_table_says_what_holds_the_anchored_parameters(law) -> None:
    anchored = law(anchor={"pull": 0.01, "ball": 0.5}).table
    number = sum(row.parameters for row in anchored.rows if row.live and row.anchor)
    assert anchored.lines()[-1] == f"{number:,} of them anchored by pull 0.01, ball 0.5"
    assert "anchored" not in law().table.lines()[-1]


def test_a_table_is_hashable_and_equal_to_itself_made_again(law) -> None:
    assert hash(law().table) == hash(law().table)
    assert law().table == law().table


def test_python_may_give_optax_schedules_and_element_masks_by_pattern(law) -> None:
    the = law(name="sgd", momentum=0.0, weight_decay=0.0, clip_norm=float("inf"))
    mask = np.array([[1.0, 0.0, 1.0]])
    given = {"group:head": optax.linear_schedule(1.0, 0.0, 10), "stem/patch/kernel": mask}
    link, ones = the.link(the.table_with(given)), jax.tree.map(jnp.ones_like, the.params)
    updates, _ = link.update(ones, link.init(the.params), the.params, step=jnp.array(5), hyper=the.hyper)
    np.testing.assert_allclose(updates["stem"]["patch"]["kernel"], -0.01 * np.broadcast_to(mask, (2, 3)), rtol=1e-6)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.005, rtol=1e-6)
    np.testing.assert_allclose(updates["norm"]["scale"], -0.01, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"^coefficients: 'steem/.*' matches no parameter; did you mean 'stem/\.\*'"):
        the.table_with({"steem/.*": mask})
