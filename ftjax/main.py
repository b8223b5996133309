"""The command line: `python -m ftjax.main [command] --config configs/x.py[:argument] --config.key=value --workdir DIR`.

Parses flags and hands over to a command. A mistake of the user's ends in one line on standard error and exit code 2; a run that failed ends with 1,
one that was interrupted with 130.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ftjax.errors import ConfigError, FtjaxError, TrainingFailed, did_you_mean

COMMANDS = {
    "train": "fine-tune, evaluate, export and report (the default)",
    "ablate": "many fine-tunings side by side: which setting is better, by how much and how surely",
    "check": "dry run: configuration, data, weights, coefficients, memory, FLOPs and time, without training",
    "data": "inspect a data set without a model, or convert it",
    "evaluate": "measure a finished run on one of its splits, or on other data",
    "export": "write a finished run's model as transformers loads it, or its adapters as peft does",
    "predict": "answer new pictures or texts with a finished run",
    "report": "write report.html again from a run directory, or compare several",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command, rest = _command(argv)
        flags, rest = split_overrides(rest)
        module = importlib.import_module(f"ftjax.commands.{command}")
        parser = _Parser(prog=f"ftjax {command}", description=COMMANDS[command], epilog=_commands_text(), formatter_class=_Formatter)
        module.add_arguments(parser)
        return module.run(parser.parse_args(rest), flags)
    except KeyboardInterrupt:
        sys.stderr.write("ftjax: interrupted\n")
        return 130
    except TrainingFailed as error:
        sys.stderr.write(f"ftjax: training failed: {error}\n")
        return 1
    except FtjaxError as error:
        sys.stderr.write(f"ftjax: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write(f"ftjax: {error.filename or 'a file'} cannot be written: {error.strerror}; make room, and the same command goes on\n")
        return 1


def split_overrides(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """`--config.key=value` and `--config.key value` apart from the rest; the last one of a key wins.

    Raises:
      ConfigError: an override has no value.
    """
    flags: dict[str, str] = {}
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if not word.startswith(("--config.", "-config.")):
            rest.append(word)
            continue
        key, equals, value = word.split("config.", 1)[1].partition("=")
        if not equals:
            following = next(words, None)
            if following is None or following.startswith("--"):
                raise ConfigError(f"--config.{key} has no value; write --config.{key}=VALUE")
            value = following
        flags.pop(key, None)
        flags[key] = value
    return flags, rest


def _command(argv: list[str]) -> tuple[str, list[str]]:
    if not argv or argv[0].startswith("-"):
        return "train", argv
    if argv[0] not in COMMANDS:
        raise ConfigError(f"unknown command {argv[0]!r}; {did_you_mean(argv[0], COMMANDS)}")
    return argv[0], argv[1:]


def _commands_text() -> str:
    return "commands:\n" + "\n".join(f"  {name:<10}{text}" for name, text in COMMANDS.items())


class _Parser(argparse.ArgumentParser):
    """Argparse whose errors are ours: one line, with the nearest valid flag."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        words = [word.split("=")[0] for word in self.given if word.startswith("--")]
        unknown = [word for word in words if word not in known]
        raise ConfigError(f"unknown flag {unknown[0]}; {did_you_mean(unknown[0], known)}" if unknown else f"{self.prog}: {message}; see {self.prog} --help")

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse does, remembering the words for `error`."""
        self.given = list(args)
        return super().parse_args(args, namespace)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults in the help, and the list of commands as it is written."""


if __name__ == "__main__":
    sys.exit(main())
