"""Events of each user in the order of time, and what is done where the log does not say which of two came first.

Events of one user at one moment come in an order drawn by a hash of their user, their item and the seed. The order of rows would do as well if it were known
to be that of time; but logs are sorted by item as often (MovieLens' are), and then the last event of a tie, which is what is tested, would be told by its id
(ties are many in public logs: Woolridge et al. 2021).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from ftjax.data.interactions.clean import tied
from ftjax.data.interactions.log import Log
from ftjax.data.order import rank


def in_order(log: Log, seed: int) -> tuple[Log, Bool[np.ndarray, " events"]]:
    """The log sorted by user and time, ties as drawn, and which of its events tie with the one before. No row order decides anything but copies."""
    order = np.lexsort((log.row, log.time, log.user))
    same = tied(log, order)
    if same.any():
        open_order = same | np.concatenate([same[1:], [False]])
        drawn = np.zeros(len(log), np.uint64)
        places = order[open_order]
        drawn[places] = _words(log, places, seed)
        order = np.lexsort((log.row, log.item, drawn, log.time, log.user))
    return log.take(order), same


def _words(log: Log, places: Int64[np.ndarray, " tied"], seed: int) -> UInt64[np.ndarray, " tied"]:
    """A word for each event from the hashes of its user's and its item's ids."""
    words = []
    for purpose, codes, names in (("tie of user", log.user[places], log.users), ("tie of item", log.item[places], log.items)):
        numbers, which = np.unique(codes, return_inverse=True)
        words.append(np.array([int.from_bytes(rank(purpose, seed, names[number])[0][:8], "big") for number in numbers], np.uint64)[which])
    mixed = words[0] ^ (words[1] * np.uint64(0x9E3779B97F4A7C15))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return mixed ^ (mixed >> np.uint64(27))
