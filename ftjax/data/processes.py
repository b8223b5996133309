"""Calls in processes of their own: what holds Python's lock, or may crash, does so elsewhere.

A worker is a fresh Python at the other end of a socket. It gets a function and its arguments and answers with the result; when the socket closes it ends, so
it never outlives the program. multiprocessing would run the caller's script again in each worker, and forking does not go with JAX's threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from ftjax.config import DataConfig

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_SERVE = "import sys; sys.path[:] = sys.argv[2:]; from ftjax.data.processes import serve; serve(int(sys.argv[1]))"


class WorkerDied(Exception):
    """A worker was killed, or crashed, before it answered; the message says which and how."""


class Processes:
    """At most `count` workers, each started when it is first needed; one that died is replaced by the next call.

    They end with this object, and with the program at the latest.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # the last one that was used first: no more start than are needed
        self._started: list[_Worker] = []
        for _ in range(count):
            self._idle.put(None)
        weakref.finalize(self, _end, self._started)

    def call(self, function: Callable[Arguments, Result], *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """`function(*arguments, **named)`, as soon as a worker is free; from any number of threads.

        Args:
          function: of a module, so that the worker can import it.
          arguments: what pickle can carry.
          named: the same.

        Raises:
          WorkerDied: it was killed before it answered.
          Exception: whatever the function raised.
        """
        worker = self._idle.get()
        try:
            worker = worker or self._start()
            result, error = worker.ask((function, arguments, named))
        except BaseException:
            _end([worker] if worker else [])  # an answer may be on its way that is nobody's
            worker = None
            raise
        finally:
            self._idle.put(worker)
        if error is not None:
            raise error
        return result

    def _start(self) -> _Worker:
        self._started.append(_Worker())
        return self._started[-1]


class _Worker:
    """One process and our end of its socket."""

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        command = [sys.executable, "-c", _SERVE, str(theirs.fileno()), *sys.path]
        # Importing ftjax imports JAX; a worker computes nothing with it and leaves accelerators alone.
        self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env={**os.environ, "JAX_PLATFORMS": "cpu"})
        theirs.close()

    def ask(self, question: object) -> tuple:
        """The answer to one call.

        Raises:
          WorkerDied: there will be none.
        """
        content = pickle.dumps(question)
        try:
            self.connection.send_bytes(content)  # `send` leaves a buffer in its traceback that breaks CPython 3.12.1 when nobody is there
            return pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError) as error:
            code = self.process.wait()
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            raise WorkerDied(f"worker process {self.process.pid} {how}") from error


def _end(workers: list[_Worker]) -> None:
    """A worker has no state that could be lost."""
    for worker in workers:
        worker.process.kill()
        worker.process.wait()
        worker.connection.close()


def serve(descriptor: int) -> None:
    """The life of a worker: answer until the socket closes. Signals for the whole group (Ctrl-C, the end of a batch job) are for the program to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            function, arguments, named = pickle.loads(connection.recv_bytes())
            try:
                answer = function(*arguments, **named), None
            except Exception as error:
                answer = None, error
            connection.send_bytes(pickle.dumps(answer))


def processes_of(config: DataConfig) -> Processes | None:
    """The workers that `data.worker_kind` asks for; None: threads decode."""
    return Processes(max(1, config.workers)) if config.worker_kind == "processes" else None
