"""What every page must be: strictly nested, complete in itself, without anything that loads or runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input", "hr"}
LOADING = ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction", "background")


class Strict(HTMLParser):
    """Fails on a tag that is not closed in order; collects attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.text, self.scripts = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.scripts += tag == "script"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)


def parse(path):
    page = path.read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert not parser.open
    return page, parser


def words(parser):
    return " ".join(" ".join(parser.text).split())


def check(path):
    """A page that parses strictly and loads nothing; its text."""
    page, parser = parse(path)
    for tag, name, value in parser.attributes:
        assert not (name.startswith("on")), (tag, name)
        if name in LOADING:
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    assert parser.scripts == 1
    assert not re.search(r"url\(|@import|<link|<iframe|<object|<embed", page)
    assert not re.search(r"Traceback|Undefined|&lt;ftjax|nan%", page)
    return words(parser)
