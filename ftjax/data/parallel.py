"""A function over many rows in daemon threads, that can be neither left hanging nor kept alive by one stalled file.

Files on a dead network mount block for ever inside the operating system. Threads of an executor would then block the end of the program too.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stalled(Exception):
    """Nothing was finished for `seconds`; `items` are being worked on."""

    def __init__(self, items: list[int], seconds: float) -> None:
        super().__init__(f"nothing finished for {seconds:g} s")
        self.items, self.seconds = items, seconds


def completed(function: Callable[[int], Result], items: Sequence[int], *, workers: int, patience: float) -> Iterator[tuple[int, Result]]:
    """Yield `(item, function(item))` for every item as they are finished, in no particular order.

    Closing the generator stops the threads after the item in hand.

    Raises:
      Stalled: no item was finished for `patience` seconds.
      Exception: whatever `function` raised, at that item.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    stop, in_hand = threading.Event(), dict[int, None]()
    for item in items:
        todo.put(item)
    for _ in range(max(1, min(workers, len(items)))):
        threading.Thread(target=_work, args=(function, todo, done, stop, in_hand), daemon=True).start()
    try:
        for _ in items:
            try:
                item, result, error = done.get(timeout=patience)
            except queue.Empty:
                raise Stalled(sorted(in_hand), patience) from None
            if error is not None:
                raise error
            yield item, result
    finally:
        stop.set()


def _work(
    function: Callable[[int], Any],
    todo: queue.SimpleQueue[int],
    done: queue.SimpleQueue[tuple[int, Any, BaseException | None]],
    stop: threading.Event,
    in_hand: dict[int, None],
) -> None:
    """One thread: take items until there are none or it is told to stop."""
    while not stop.is_set():
        try:
            item = todo.get_nowait()
        except queue.Empty:
            return
        in_hand[item] = None
        try:
            result, error = function(item), None
        except BaseException as raised:
            result, error = None, raised
        del in_hand[item]
        done.put((item, result, error))
