"""After training: the retraction of the law applied once, to finished weights, and averages of weights.

    theta' = theta0 + s(path) * (theta - theta0)        WiSE-FT: one s for all; LiNeS: s grows with depth
    theta' = mean of weights                            over the last steps (EMA, SWA) or over kept ones (soups)

Pure functions of trees, whose `None` holes stay holes; every number may be traced, so a `vmap` over it is a whole curve.
Everything is computed in float32 at least and handed back in the leaf's own type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ftjax import trees
from ftjax.coefficients.links import widened
from ftjax.coefficients.table import depths
from ftjax.config import AfterConfig
from ftjax.errors import ConfigError, FtjaxError
from ftjax.trees import Tree

Scalar = Float[Array, ""] | float

NEEDS_PRETRAINED = ("wise_ft", "lines")
"""Candidates that mean nothing without pretrained weights to go back to."""


def wise_ft(theta0: Tree, theta: Tree, alpha: Scalar, anchored: frozenset[str]) -> Tree:
    """theta0 + alpha * (theta - theta0): the straight line from the pretrained weights to the trained ones (Wortsman et al., CVPR 2022, arXiv 2109.01903).

    Bit for bit theta0 at alpha 0 and theta at alpha 1.

    Args:
      theta0: pretrained weights.
      theta: trained weights, with the same holes.
      alpha: share of the displacement that stays.
      anchored: paths that have a pretrained value; any other leaf (a new head) keeps its trained value whatever alpha is.

    Raises:
      FtjaxError: an anchored leaf does not hold floating point numbers.
    """
    return _rescale(theta0, theta, lambda _: alpha, anchored)


def lines(theta0: Tree, theta: Tree, scale: Scalar, depth_of: Callable[[str], float], anchored: frozenset[str]) -> Tree:
    """theta0 + s_l * (theta - theta0) with s_l = a + (1 - a) * (l - 1) / (L - 1): shallow layers go home, the last block stays (LiNeS: Wang et al., ICLR 2025,
    arXiv 2410.17146).

    Args:
      theta0: pretrained weights.
      theta: trained weights, with the same holes.
      scale: a, the share of the displacement that the first block keeps; the last keeps all of it, exactly.
      depth_of: (l - 1) / (L - 1) of a path, from 0 to 1; see `depth_shares`.
      anchored: as in `wise_ft`.

    Raises:
      FtjaxError: as `wise_ft`.
    """
    return _rescale(theta0, theta, lambda path: 1 - (1 - scale) * (1 - depth_of(path)), anchored)


def depth_shares(groups: Sequence[str]) -> dict[str, float]:
    """(l - 1) / (L - 1) for each group of a model, in depth order: what lies before the first block counts as it, what comes after the last one likewise.

    A model with a single block has no first one but a last one.

    >>> depth_shares(("stem", "block_0", "block_1", "block_2", "norm", "head"))
    {'stem': 0.0, 'block_0': 0.0, 'block_1': 0.5, 'block_2': 1.0, 'norm': 1.0, 'head': 1.0}
    """
    exponents = depths(groups)
    blocks = sum(group.startswith("block_") for group in groups)
    behind = {group: min(max(exponent - 1, 0), max(blocks - 1, 0)) for group, exponent in exponents.items()}
    return {group: 1 - steps / max(blocks - 1, 1) for group, steps in behind.items()}


def distance(theta0: Tree, theta: Tree, anchored: frozenset[str]) -> Float[Array, ""]:
    """|theta - theta0| / |theta0| over all anchored leaves together; the numerator itself where theta0 is zero."""
    start, now = trees.flatten(theta0), trees.flatten(theta)
    pairs = [(widened(start[path]), widened(now[path])) for path in now if path in anchored]
    moved = jnp.sqrt(sum((jnp.sum(jnp.square(b - a)) for a, b in pairs), start=jnp.zeros(())))
    whole = jnp.sqrt(sum((jnp.sum(jnp.square(a)) for a, _ in pairs), start=jnp.zeros(())))
    return moved / jnp.where(whole > 0, whole, 1.0)


def ema_decay(step: Int[Array, ""] | int, decay: Scalar) -> Float[Array, ""]:
    """min(decay, (1 + t) / (10 + t)): an average that has seen little forgets fast.

    >>> [round(float(ema_decay(t, 0.999)), 3) for t in (0, 90, 100_000)]
    [0.1, 0.91, 0.999]
    """
    return jnp.minimum(decay, (1.0 + jnp.asarray(step)) / (10.0 + jnp.asarray(step)))


def start_average(live: Tree) -> Tree:
    """What `update_ema` and `update_swa` begin with: a copy of the weights, in float32 at least.

    Raises:
      FtjaxError: a leaf does not hold floating point numbers.
    """
    return trees.map_with_path(lambda path, leaf: jnp.array(widened(_floating(path, leaf)), copy=True), live)


def update_ema(average: Tree, live: Tree, step: Int[Array, ""] | int, decay: Scalar) -> Tree:
    """e <- d * e + (1 - d) * theta with d = `ema_decay(step, decay)`.

    Args:
      average: e, of `start_average` or an earlier update.
      live: theta after the update of this step, with the same holes.
      step: t, the number of updates before this one: 0 for the first, as `state.step` inside a step.
      decay: the largest d.
    """
    weight = 1 - ema_decay(step, decay)
    return jax.tree.map(lambda mean, leaf: mean + weight.astype(mean.dtype) * (leaf.astype(mean.dtype) - mean), average, live)


def update_swa(average: Tree, live: Tree, step: Int[Array, ""] | int, start: Int[Array, ""] | int) -> Tree:
    """The uniform mean of the weights after every step >= `start` (stochastic weight averaging: Izmailov et al., UAI 2018, arXiv 1803.05407).

    Before and at `start` it is exactly the current weights; arguments as in `update_ema`.
    """
    counted = jnp.asarray(step) - start

    def update(mean: Array, leaf: Array) -> Array:
        now = leaf.astype(mean.dtype)
        return jnp.where(counted <= 0, now, mean + (now - mean) / (jnp.maximum(counted, 0) + 1).astype(mean.dtype))

    return jax.tree.map(update, average, live)


def uniform_soup(ingredients: Iterable[Tree]) -> Tree:
    """The mean of some trees (model soups: Wortsman et al., ICML 2022, arXiv 2203.05482); of equal trees, or a single one, exactly that tree.

    Raises:
      FtjaxError: nothing to average, or a leaf that does not hold floating point numbers.
    """
    mean, count, like = None, 0, None
    for count, tree in enumerate(ingredients, start=1):
        mean, like = (start_average(tree), tree) if mean is None else (_stirred(mean, tree, count), like)
    if not count:
        raise FtjaxError("a soup needs at least one tree of weights")
    return _in_type_of(like, mean)


def greedy_soup(ingredients: Sequence[Tree], scores: Sequence[float], score_of: Callable[[Tree], float]) -> tuple[Tree, tuple[int, ...]]:
    """Add one tree after the other, the best first, and keep each whose soup scores no worse than the soup before (Wortsman et al. 2022, recipe 1).

    Args:
      ingredients: trees of weights.
      scores: of each on the validation split, higher is better; ties: the earlier one first.
      score_of: score of a soup on the same split; called once for each tree but the best.

    Returns:
      The soup, and the positions of its members, in the order in which they were added.

    Raises:
      FtjaxError: as `uniform_soup`, or not one score for each tree.
    """
    if len(scores) != len(ingredients) or not ingredients:
        raise FtjaxError(f"a soup needs one score for each tree of weights, and at least one: {len(ingredients)} trees, {len(scores)} scores")
    first, *others = sorted(range(len(scores)), key=lambda index: -scores[index])
    mean, members, best = start_average(ingredients[first]), [first], scores[first]
    for index in others:
        tried = _stirred(mean, ingredients[index], len(members) + 1)
        score = score_of(_in_type_of(ingredients[first], tried))
        if score >= best:
            mean, best = tried, score
            members.append(index)
    return _in_type_of(ingredients[first], mean), tuple(members)


def split_members(population: Tree) -> list[Tree]:
    """The trees of a population: one for each index of the leading axis that all leaves share.

    >>> split_members({"w": jnp.array([[1, 2], [3, 4]])})[1]["w"].tolist()
    [3, 4]
    """
    sizes = {leaf.shape[0] for leaf in jax.tree.leaves(population)}
    if len(sizes) != 1:
        raise FtjaxError(f"the leaves of a population share their first axis, here it has the lengths {sorted(sizes)}")
    return [jax.tree.map(lambda leaf, index=index: leaf[index], population) for index in range(sizes.pop())]


def check_after(config: AfterConfig, *, pretrained: bool, apart: str | None = None) -> None:
    """Refuse what cannot be done after training, before it begins.

    Args:
      config: what is asked for.
      pretrained: whether there are pretrained weights.
      apart: the method, where it moves none of them but adds units or inputs; None: it moves some.

    Raises:
      ConfigError: a number outside its range, or a candidate that needs pretrained weights where there are none.
    """
    if not config.alphas or not all(math.isfinite(alpha) and alpha >= 0 for alpha in config.alphas):
        raise ConfigError(f"after.alphas is {config.alphas!r}; it must be one or more finite numbers, 0 or more")
    if config.soup < 2:
        raise ConfigError(f"after.soup is {config.soup!r}; a soup has 2 ingredients or more")
    if all(alpha == 1 for alpha in config.alphas) and {"wise_ft", "lines"} & set(config.candidates):
        raise ConfigError(f"after.alphas is {config.alphas!r}, and at 1 wise_ft and lines are the best checkpoint itself; give other shares too")
    homeless = [name for name in config.candidates if name in NEEDS_PRETRAINED]
    if homeless and apart is not None:
        raise ConfigError(
            f"after.candidates asks for {homeless[0]!r}, which goes back towards pretrained weights, and method={apart!r} moves none; leave it out"
        )
    if homeless and not pretrained:
        raise ConfigError(f"after.candidates asks for {homeless[0]!r}, which goes back towards pretrained weights, and method='scratch' has none; leave it out")


def _rescale(theta0: Tree, theta: Tree, scale_of: Callable[[str], Scalar], anchored: frozenset[str]) -> Tree:
    """theta0 + s(path) * (theta - theta0) on the anchored leaves; exact where s is 0 or 1."""

    def leaf(path: str, start: Array, now: Array) -> Array:
        if path not in anchored:
            return now
        home, there = widened(_floating(path, start)), widened(_floating(path, now))
        scale = jnp.asarray(scale_of(path), there.dtype)
        between = (home + scale * (there - home)).astype(now.dtype)
        return jnp.where(scale == 0, start.astype(now.dtype), jnp.where(scale == 1, now, between))

    return trees.map_with_path(leaf, theta0, theta)


def _stirred(mean: Tree, tree: Tree, count: int) -> Tree:
    """The mean of `count` trees from the mean of all but the last one and the last one."""
    return trees.map_with_path(lambda path, old, new: old + (_floating(path, new).astype(old.dtype) - old) / count, mean, tree)


def _in_type_of(like: Tree, tree: Tree) -> Tree:
    return jax.tree.map(lambda reference, leaf: leaf.astype(reference.dtype), like, tree)


def _floating(path: str, leaf: Any) -> Any:
    """The leaf, or a refusal: a mean of whole numbers, or a share of one, is not a whole number."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        raise FtjaxError(f"{path} holds {leaf.dtype}; only floating point weights can be averaged or scaled")
    return leaf
