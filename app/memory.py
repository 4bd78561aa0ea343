"""Memory that is only mapped from the folder's files is given back once a whole column was read; the files stay cached."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_DONTNEED = 4       # Linux: drop the pages of a mapping; of a file mapped to be read they come back at the next access


def mapped(folder: Path) -> list[tuple[int, int]]:
    """Return (address, bytes) of every read-only mapping of a file below `folder` in this process; [] off Linux."""
    table = Path("/proc/self/maps")
    if not table.exists():
        return []
    root = f"{folder.resolve()}/"
    found = []
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        if path and path[0].startswith(root) and "w" not in rights:
            low, high = (int(x, 16) for x in span.split("-"))
            found.append((low, high - low))
    return found


def let_go(folder: Path) -> None:
    """Give the pages of the folder's mapped files back to the system.

    A search over all texts leaves half a gigabyte of them counted as this process's at a million rows. Only mappings of
    files that are read, never written, are touched, so nothing can be lost; what is needed again is mapped again.
    """
    if not sys.platform.startswith("linux"):
        return
    advise = ctypes.CDLL(None).madvise
    for address, size in mapped(folder):
        advise(ctypes.c_void_p(address), ctypes.c_size_t(size), _DONTNEED)
