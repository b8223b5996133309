"""How a log of interactions is read, cleaned and split, what is learnt from it, and what its ranking is measured by."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecommendationConfig:
    """Interactions of users with items; read where `data.source="interactions"`. Columns that are left open are guessed, and the guess is shown."""

    form: Literal["auto", "table", "pairs", "sequences"] = "auto"
    """Of the log: a table with a row for each event (MovieLens' `ratings.csv`, `u.data` and `ratings.dat` too), `pairs`, a line `user item` for each event in
    the order of time, or `sequences`, a line `user item item ...` for each user. auto: by what is in it."""
    user: str | None = None
    """Column with the user (its number, from 0, in a table without a header). Ids are texts: "007" is not "7"."""
    item: str | None = None
    """Column with the item."""
    time: str | None = None
    """Column with the time: seconds or milliseconds since 1970, or ISO dates. None: guessed; a table that has none is in the order of time already."""
    rating: str | None = None
    """Column with the rating; None: guessed. Read only for `min_rating`."""
    items_path: str | None = None
    """A table of items, such as MovieLens' `movies.csv`: its texts name items in reports and are what `two_tower` reads."""
    item_text: str | None = None
    """Column of `items_path` (or of the log itself) with the text of an item; several, separated by commas, are joined. None: guessed in `items_path`."""
    min_rating: float | None = None
    """Events with a lower rating are left out; None: every event counts, whatever its rating."""
    duplicates: Literal["drop", "first", "keep", "error"] = "drop"
    """An event that is there twice (user, item and time): kept once, or an error. "first" keeps the first event of each user and item; "keep" keeps all."""
    user_core: int = 1
    """Users with fewer events are left out, in turns with `item_core`, until nobody has fewer (k-core)."""
    item_core: int = 1
    """Items with fewer events are left out, in the same way."""
    max_users: int | None = None
    """Keep at most this many users, drawn by `seed`; None: all."""
    max_length: int = 50
    """Items of a history that a model sees: the newest ones."""
    long_histories: Literal["last", "windows"] = "last"
    """Training histories of more than `max_length` events: their newest part, or all of it in windows, one row each."""
    leave_out: Literal["last", "time"] = "last"
    """What is tested: each user's last event, and for validation the one before; or all that happened from a moment on."""
    validation_from: str | None = None
    """leave_out="time": the moment (ISO date, or as in the log) from which on events validate; None: so that `data.validation_fraction` of all events do."""
    test_from: str | None = None
    """leave_out="time": the same for test."""
    cold_below: int = 5
    """Items with fewer training events than this are cold; they make up a slice of the test targets of its own."""
    k: tuple[int, ...] = (1, 5, 10, 20)
    """Lengths of the lists that metrics look at, ascending."""
    sampled_negatives: int | None = None
    """Rank each target among so many other items, drawn once for each user, instead of all. This flatters, so the metrics' names say it; None: all items."""
    sampled_by: Literal["uniform", "popularity"] = "uniform"
    """With `sampled_negatives`: how they are drawn from the items that the user never has, targets included."""
    item_chunk: int = 4096
    """Items that are scored at once in evaluation and prediction: users of a batch x this many scores are held, whatever the number of items."""
    loss: Literal["cross_entropy", "sampled_softmax", "bce", "gbce", "bpr"] = "cross_entropy"
    """Softmax over all items, made tile by tile; over drawn items, corrected for how often they are drawn (Yi et al. 2019); each item against `negatives`
    others: binary cross-entropy (SASRec's own), gBCE, which undoes its overconfidence (Petrov and Macdonald 2023), or BPR (Rendle et al. 2009)."""
    negatives: int | None = None
    """Items that a target is told from: for each target (bce, gbce, bpr: 1), or shared by the batch (sampled_softmax: 1024). None: those."""
    negative_sampling: Literal["uniform", "popularity", "in_batch"] = "uniform"
    """How they are drawn, never from the row's own items. in_batch, of sampled_softmax: the last targets of the batch's other rows."""
    gbce_t: float = 0.75
    """gbce: how much of the overconfidence is undone, from 0 (bce) to 1."""
    mask_probability: float = 0.2
    """bert4rec: share of the items of a history that training hides."""
    mask_last: float = 0.0
    """bert4rec: share of the histories of which training hides the last item alone, as prediction does."""
    width: int | None = None
    """Numbers in an item's vector; None: 64, or the pretrained model's."""
    depth: int | None = None
    """Blocks of a transformer or layers of a recurrent network; None: the family's (2; gru4rec 1), or the pretrained model's."""
    heads: int | None = None
    """Of attention; None: the family's (sasrec and two_tower 1, bert4rec 2), or the pretrained model's."""
    text_encoder: str | None = None
    """A sentence encoder (a directory, `hf://owner/name`) that reads the items' texts once and stays as it is: what two_tower sees of an item, and how the
    vector of an item that pretrained weights do not know begins."""
    item_ids: bool = False
    """two_tower: every item has a learned vector of its own beside its text; items that nobody has touched cannot profit."""
    temperature: float = 0.07
    """two_tower: cosines are divided by this."""
