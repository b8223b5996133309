"""Rare classes in the loss: weights by frequency, the focal factor, and logits shifted by the log frequency.

All of it acts on the training loss alone; what is measured stays what it was. Frequencies are those at which training meets the classes, so what
`Split.sampling` draws, and never change in a run.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

WEIGHTED = ("balanced", "sqrt")


def class_weights(imbalance: str, counts: np.ndarray) -> tuple[float, ...]:
    """Weight of each class: proportional to `1 / n_c` ("balanced") or `1 / sqrt(n_c)` ("sqrt"), with mean 1 over the training examples.

    With mean 1 the learning rate means what it means without weights. "balanced" is scikit-learn's `N / (classes * n_c)` where every class has examples.

    Args:
      imbalance: "balanced" or "sqrt".
      counts: training examples of each class, `[classes]`; a class without any counts as one with a single example.

    Returns:
      One weight per class, with `sum_c n_c w_c / sum_c n_c = 1`.
    """
    counts = np.asarray(counts, np.float64)
    raw = np.where(counts > 0, counts, 1.0) ** {"balanced": -1.0, "sqrt": -0.5}[imbalance]
    return tuple((raw * counts.sum() / (counts * raw).sum()).tolist())


def log_prior(counts: np.ndarray) -> tuple[float, ...]:
    """`log(n_c / N)`, added to the logits inside the loss (Menon et al. 2021, arXiv 2007.07314, tau = 1); a class without examples counts as one with one."""
    counts = np.asarray(counts, np.float64)
    counts = np.where(counts > 0, counts, 1.0)
    return tuple(np.log(counts / counts.sum()).tolist())


def focal_factor(log_probability: Float[Array, "*any"], gamma: Float[Array, ""]) -> Float[Array, "*any"]:
    """`(1 - p)^gamma` of the label's probability p (Lin et al. 2017, arXiv 1708.02002); gamma is traced."""
    # Held away from 0, where a power below 1 has an infinite slope.
    wrong = jnp.maximum(-jnp.expm1(log_probability), jnp.finfo(log_probability.dtype).eps)
    return wrong ** jnp.asarray(gamma, log_probability.dtype)
