"""The processor time of a program and of all that it starts."""

from __future__ import annotations

import contextlib

import psutil


def cpu_seconds(of: psutil.Process | None = None) -> float:
    """Return the processor time of a process (None = this one), of those that run below it and of those they waited for.

    Workers of a check are waited for by the server that forks them, so they are not among the children of their program.
    """
    first = of or psutil.Process()
    total = 0.0
    for process in [first, *first.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            t = process.cpu_times()
            total += t.user + t.system + t.children_user + t.children_system
    return total
