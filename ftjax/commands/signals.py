"""Being asked to stop: SIGTERM and Ctrl-C end the run with status "interrupted".

While training, the step under way is finished and the state saved; at any other time there is nothing to lose, so the run ends at once.
A second Ctrl-C while training does not wait for the save.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(BaseException):
    """The run was asked to stop. Not an Exception: nothing that handles errors may swallow it."""


class Stop:
    """Whether the run was asked to stop, and whether it may first save."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._saving = False

    @contextlib.contextmanager
    def deferred(self) -> Iterator[threading.Event]:
        """While the block runs, a signal only sets the event; the block looks at it and saves.

        Raises:
          Interrupted: the signal came before.
        """
        self.check()
        self._saving = True
        try:
            yield self.event
        finally:
            self._saving = False

    def check(self) -> None:
        """Raise Interrupted if the run was asked to stop."""
        if self.event.is_set():
            raise Interrupted

    def ask(self, number: int, frame: FrameType | None = None) -> None:
        """The signal handler."""
        again = self.event.is_set()
        self.event.set()
        if not self._saving:
            raise Interrupted
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.stderr.write("ftjax: asked to stop; saving the state\n")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Signals set the `Stop` that this gives, while the block runs. Outside the main thread (a notebook's worker) signals are left alone."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
