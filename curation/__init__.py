"""Curate instruction data as the spec it is. The library face; each name is imported when first asked for."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import CHECKS
    from .diversity import clusters_of, families_of
    from .engine import check, run_table, spec_of
    from .errors import CurationError
    from .gate import apply_policy, evaluate
    from .mapping import lay_out
    from .selection import select
    from .spec import Spec, load
    from .store import Entry, Store

# numpy's and scipy's OpenBLAS read this when they are loaded. A thread of theirs that waits for work spins, for 2^26 cycles
# unless told otherwise, on a core that a worker of a check may want: .2 CPU seconds a process that only loads both.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "16")

_HOME = {
    "CHECKS": "checks",
    "check": "engine",
    "clusters_of": "diversity",
    "families_of": "diversity",
    "run_table": "engine",
    "select": "selection",
    "spec_of": "engine",
    "CurationError": "errors",
    "apply_policy": "gate",
    "evaluate": "gate",
    "Spec": "spec",
    "lay_out": "mapping",
    "load": "spec",
    "Entry": "store",
    "Store": "store",
}

__all__ = [
    "CHECKS",
    "CurationError",
    "Entry",
    "Spec",
    "Store",
    "apply_policy",
    "check",
    "clusters_of",
    "evaluate",
    "families_of",
    "lay_out",
    "load",
    "run_table",
    "select",
    "spec_of",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
