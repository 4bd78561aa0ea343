"""How many processes train together, and the few things they tell each other. One process: nothing is sent."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.distributed as dist


def size() -> int:
    """Return how many processes train this run together (set by torchrun)."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def first() -> bool:
    """Return whether this process writes files and talks."""
    return rank() == 0


def _joined() -> bool:
    return size() > 1 and dist.is_initialized()


def total(*values: float) -> list[float]:
    """Return the sum of each value over all processes; a call that all processes make."""
    if not _joined():
        return list(values)
    where = "cuda" if dist.get_backend() == "nccl" else "cpu"
    sums = torch.tensor(values, dtype=torch.float64, device=where)
    dist.all_reduce(sums)
    return [float(x) for x in sums.tolist()]


def collect(value: Any) -> list[Any]:
    """Return what every process gave, in order of rank, on the first one; elsewhere []."""
    if not _joined():
        return [value]
    parts: list[Any] = [None] * size()
    dist.gather_object(value, parts if first() else None)
    return parts if first() else []


def wait() -> None:
    """Return when every process has come here."""
    if _joined():
        dist.barrier()


def leave() -> None:
    """End the connection, so that no process waits for one that has gone."""
    if _joined():
        dist.destroy_process_group()
