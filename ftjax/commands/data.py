"""`ftjax data`: look at a data set (`report`) or write it, split and cleaned, as one thing to ship (`convert`), without a model."""

from __future__ import annotations

import argparse
import importlib

from ftjax.errors import ConfigError, did_you_mean

VERBS = {
    "report": "inspect a data set: counts, sizes, copies, leakage, unreadable files; a table here, and a page",
    "convert": "write a data set as ArrayRecord, split and cleaned as a run sees it",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`data VERB ...`; what follows belongs to the verb."""
    parser.add_argument("verb", metavar="VERB", help="; ".join(f"{name}: {text}" for name, text in VERBS.items()))
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="see `ftjax data VERB --help`")
    parser.set_defaults(parser_class=type(parser), formatter_class=parser.formatter_class)


def run(arguments: argparse.Namespace, flags: dict[str, str]) -> int:
    """Hand over to the verb's own module.

    Raises:
      ConfigError: no such verb.
    """
    if arguments.verb not in VERBS:
        raise ConfigError(f"unknown verb `data {arguments.verb}`; {did_you_mean(arguments.verb, VERBS)}")
    module = importlib.import_module(f"ftjax.commands.data_{arguments.verb}")
    parser = arguments.parser_class(prog=f"ftjax data {arguments.verb}", description=VERBS[arguments.verb], formatter_class=arguments.formatter_class)
    module.add_arguments(parser)
    return module.run(parser.parse_args(arguments.rest), flags)
