"""What hangs together: connected components of a graph, through scipy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int
from scipy import sparse
from scipy.sparse import csgraph


def components(count: int, left: Int[np.ndarray, " edges"], right: Int[np.ndarray, " edges"]) -> Int[np.ndarray, " count"]:
    """A number for each of `count` nodes, the same for those that the edges `left[k]` to `right[k]` join, directly or through others."""
    graph = sparse.coo_array((np.ones(len(left), bool), (left, right)), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1]
