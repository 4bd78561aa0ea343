"""Processes that do the work of a check: forked, in moments, from one process that has imported all they need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import context, resource_tracker
from types import ModuleType
from typing import Any

from .errors import CurationError

#: what the server of workers imports; it stays as long as this program, and the workers of later checks are forked at once
READY = "curation.ready"
_starting = threading.Lock()
_served = threading.Event()


@contextmanager
def _no_program() -> Iterator[None]:
    """Let a process that is started meanwhile not import the program it is started from.

    What workers run stands in this package. A script without the guard `if __name__ == "__main__"` would else run again in
    every worker, and the check with it.
    """
    with _starting:
        main = sys.modules["__main__"]
        stand_in = ModuleType("__main__")  # of no file: there is nothing to import
        stand_in.__dict__.update({k: v for k, v in vars(main).items() if k not in ("__file__", "__spec__")})
        sys.modules["__main__"] = stand_in
        try:
            yield
        finally:
            if sys.modules["__main__"] is stand_in:  # else the program has put another one there
                sys.modules["__main__"] = main


if sys.platform == "linux":  # where it is safe to fork a process that does nothing else; Python itself does so from 3.14 on

    class _Process(context.ForkServerProcess):
        @staticmethod
        def _Popen(process_obj: Any) -> Any:
            with _no_program():
                return context.ForkServerProcess._Popen(process_obj)

    class _Context(context.ForkServerContext):
        Process = _Process

else:

    class _Process(context.SpawnProcess):
        @staticmethod
        def _Popen(process_obj: Any) -> Any:
            with _no_program():
                return context.SpawnProcess._Popen(process_obj)

    class _Context(context.SpawnContext):
        Process = _Process


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Give a list that is no longer empty once there was an interrupt: one that falls into a callback from C is lost there.

    Such a one is not reported as an exception that nobody handles: whoever has the list does.
    """
    seen: list[int] = []
    report = sys.unraisablehook

    def unless_seen(lost: Any) -> None:
        if not (seen and isinstance(lost.exc_value, KeyboardInterrupt)):
            report(lost)

    def note(number: int, _: object) -> None:
        seen.append(number)
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen  # the program hears them in its own way
        return
    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = unless_seen
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = report


def served() -> bool:
    """Whether workers start in moments: their server is there, from an earlier team of this program."""
    return _served.is_set()


class Team:
    """A number of worker processes, which start behind the caller's back and do tasks in the order given.

    Each begins with `initializer(*initargs)`, in the environment that the program has now.
    """

    def __init__(self, size: int, initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
        # Each hand takes a task to a worker and waits there; one more waits a worker.
        self._hands = ThreadPoolExecutor(2 * size, initializer=_hold_interrupts)
        self._pool = self._hands.submit(_started, size, (dict(os.environ), initializer, initargs))

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Have fn(*args) done by a worker. The future can be cancelled until the task is on its way."""
        return self._hands.submit(lambda: self._pool.result().submit(fn, *args).result())

    @property
    def started(self) -> bool:
        """Whether the first worker is there; the others are forked as tasks come."""
        return self._pool.done()

    @property
    def pids(self) -> list[int]:
        """The process numbers of the workers that have begun, once the first has."""
        return list(self._pool.result()._processes or {})

    def end(self) -> None:
        """End the workers, which are idle: to put its modules away would take each a third of a second."""
        pool = self._pool.result()
        processes = list((pool._processes or {}).values())
        self._hands.shutdown()
        pool.shutdown(wait=False)
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()

    def leave(self) -> None:
        """Take back what no worker has begun; the workers end when they have done what they are at."""
        self._hands.shutdown(wait=False, cancel_futures=True)
        self._pool.add_done_callback(_dismiss)


def _dismiss(pool: Future[ProcessPoolExecutor]) -> None:
    """Shut a pool down, if it came to be."""
    if not pool.cancelled() and pool.exception() is None:
        pool.result().shutdown(wait=False, cancel_futures=True)


def _hold_interrupts() -> None:
    """Hold interrupts back in this thread: what it starts would print a traceback where it is interrupted too soon.

    The tracker of multiprocessing would let them through again where it starts itself.
    """
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _started(size: int, given: tuple[Any, ...]) -> ProcessPoolExecutor:
    """Return a pool of which a worker is there."""
    kind = _Context()
    if isinstance(kind, context.ForkServerContext):
        kind.set_forkserver_preload([READY])
    pool = ProcessPoolExecutor(size, mp_context=kind, initializer=_begin, initargs=given)
    try:
        pool.submit(os.getpid).result()
    except (OSError, EOFError, BrokenProcessPool) as e:
        raise CurationError(f"a worker process could not be started: {type(e).__name__}: {e}", "--workers 1 does without") from e
    if isinstance(kind, context.ForkServerContext):
        _served.set()
    return pool


def _begin(environment: dict[str, str], initializer: Callable[..., None], initargs: tuple[Any, ...]) -> None:
    """Begin a worker in an environment, which the server may have left behind."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are the program's
    threading.Thread(target=_end_with_program, daemon=True).start()
    os.environ.clear()
    os.environ.update(environment)
    initializer(*initargs)


def _end_with_program() -> None:
    """End this worker when the program has gone, however it went: a killed one cannot tell its workers."""
    program = multiprocessing.parent_process()
    if program is not None:
        program.join()
        os._exit(1)
