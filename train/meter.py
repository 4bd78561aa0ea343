"""What a run measures of itself while it trains: tokens, the loss between two log lines, every visit of every row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from curation.errors import CurationError

from . import sensor, world
from .compile import Tokens
from .loss import row_means


class Meter:
    """What is measured between two logged steps, and what each visit of a row showed."""

    def __init__(self) -> None:
        self.tokens = 0  # of rows, since the start of the run
        self.supervised = 0
        self.pending: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []
        self.visits: list[np.ndarray] = []  # VISIT arrays, in the order of training
        self.loss_sum, self.loss_count = 0.0, 0

    def note(self, batch: dict[str, Any], losses: torch.Tensor, owner: torch.Tensor, hit: torch.Tensor) -> None:
        """Keep what one micro batch showed; read later, because reading waits for the device."""
        self.pending.append((batch["members"], losses.detach(), owner, hit))
        self.tokens += int((batch["owner"] < len(batch["members"])).sum()) if not losses.is_cuda else batch["owner"].numel()

    def read(self, tokens: Tokens) -> None:
        """Take in what is pending; raise a CurationError naming the rows when a loss is not a number."""
        for members, losses, owner, hit in self.pending:
            rows = members.cpu().numpy()
            if not bool(torch.isfinite(losses).all()):
                bad = sorted({int(i) for i in owner[~torch.isfinite(losses)].tolist() if i < len(rows)})
                named = [int(tokens.row[rows[i]]) for i in bad] or [int(tokens.row[i]) for i in rows]
                raise CurationError(
                    f"the loss is not a number; rows of that batch: {', '.join(map(str, named[:32]))}",
                    "look at them with: curation show; or take a smaller --lr. The last checkpoint is untouched.",
                )
            visit = np.empty(len(rows), sensor.VISIT)
            visit["at"] = rows
            visit["loss"] = row_means(losses, owner, len(rows)).cpu().numpy()
            visit["hit"] = row_means(hit, owner, len(rows)).cpu().numpy()
            self.visits.append(visit)
            real = owner < len(rows)
            self.loss_sum += float(losses[real].sum())
            self.loss_count += int(real.sum())
            self.supervised += int(real.sum())
        self.pending.clear()

    def drain(self) -> float:
        """Return the mean token loss since the last call, over all processes."""
        loss_sum, count = world.total(self.loss_sum, self.loss_count)
        self.loss_sum, self.loss_count = 0.0, 0
        return loss_sum / max(1.0, count)

    def gather(self) -> None:
        """Bring what every process has seen to the first one; a call that all processes make."""
        mine = (np.concatenate([np.empty(0, sensor.VISIT), *self.visits]), self.tokens, self.supervised)
        parts = world.collect((*mine, self.loss_sum, self.loss_count))
        if world.first():
            self.visits = [np.concatenate([part[0] for part in parts])]
            self.tokens, self.supervised = sum(part[1] for part in parts), sum(part[2] for part in parts)
            self.loss_sum, self.loss_count = sum(part[3] for part in parts), sum(part[4] for part in parts)
        else:
            self.visits, self.tokens, self.supervised, self.loss_sum, self.loss_count = [], 0, 0, 0.0, 0

    def seen(self) -> np.ndarray:
        """Return every visit gathered so far as one array of VISIT."""
        self.visits = [np.concatenate([np.empty(0, sensor.VISIT), *self.visits])]
        return self.visits[0]

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as arrays."""
        numbers = np.array([self.tokens, self.supervised, self.loss_count], dtype=np.int64)
        return {"visits": self.seen(), "numbers": numbers, "loss_sum": np.array(self.loss_sum)}

    def restore(self, path: Path) -> None:
        """Take back the state that a checkpoint holds."""
        with np.load(path) as saved:
            self.visits = [saved["visits"]]
            self.tokens, self.supervised, self.loss_count = (int(x) for x in saved["numbers"])
            self.loss_sum = float(saved["loss_sum"])
