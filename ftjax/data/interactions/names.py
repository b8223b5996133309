"""What people call the columns of a log of interactions, in the order in which a name is believed; spelling with or without `_`, `-` and capitals is one."""

from __future__ import annotations

import re

USERS = ("user", "userid", "username", "uid", "visitorid", "customerid", "customer", "reviewerid", "memberid", "clientid", "sessionid", "session")
ITEMS = (
    *("item", "itemid", "iid", "movieid", "movie", "productid", "product", "parentasin", "asin", "sku", "articleid", "newsid", "contentid"),
    *("trackid", "songid", "artistid", "bookid", "isbn", "businessid", "gmapid", "gameid", "videoid", "recipeid"),
)
TIMES = ("timestamp", "time", "ts", "unixreviewtime", "unixtime", "eventtime", "datetime", "date", "createdat", "reviewdate", "tdat")
RATINGS = ("rating", "ratings", "stars", "overall", "score", "rate", "reviewscore", "bookrating")
TEXTS = ("title", "name", "itemname", "itemtitle", "productname", "producttitle", "movietitle", "headline", "text", "description")

ROLES = {"user": USERS, "item": ITEMS, "time": TIMES, "rating": RATINGS}
_OTHER = frozenset(("tag", "tags", "genres", "genre", "category", "event", "price", "review", "summary", "reviewtext", "helpful", "behavior", "action"))


def plain(name: str) -> str:
    """A name without what differs from one file to the next: capitals, `_`, and the type that RecBole's files put behind a colon.

    >>> plain("user_id:token"), plain("movieId")
    ('userid', 'movieid')
    """
    return re.sub(r"[^0-9a-z]", "", name.strip().strip('"').split(":")[0].lower())


def is_known(name: str) -> bool:
    """Whether a cell reads like the name of a column of a log, or of a table of items."""
    found = plain(name)
    return found in _OTHER or found in TEXTS or any(found in names for names in ROLES.values())
