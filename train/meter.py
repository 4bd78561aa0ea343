"""What a run measures of itself while it trains: tokens, the loss between two log lines, every visit of every row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from curation.errors import CurationError

from . import diverge, sensor, world
from .compile import Tokens
from .loss import row_means
from .plan import Plan

#: Most rows that a message names.
NAMED = 32
LOOK = "look at the rows with: curation show FOLDER --row N"
KEPT = "The last checkpoint is untouched."


@dataclass(frozen=True)
class Shown:
    """What one micro batch showed, still on its device."""

    step: int
    members: torch.Tensor
    losses: torch.Tensor
    owner: torch.Tensor
    hit: torch.Tensor


class Meter:
    """What is measured between two logged steps, and what each visit of a row showed."""

    def __init__(self) -> None:
        self.tokens = 0  # of rows, since the start of the run
        self.supervised = 0
        self.pending: list[Shown] = []
        self.norms: list[tuple[int, torch.Tensor]] = []  # (step, gradient norm before clipping)
        self.visits: list[np.ndarray] = []  # VISIT arrays, in the order of training
        self.loss_sum, self.loss_count = 0.0, 0
        self.steps: dict[int, list[float]] = {}  # step -> [loss sum, trained tokens] here since the last line
        self.history = np.empty((0, 3))  # (step, loss sum, trained tokens) over all processes, the newest diverge.HISTORY
        self.norm = 0.0  # largest gradient norm since the last line

    def note(self, step: int, batch: dict[str, Any], losses: torch.Tensor, owner: torch.Tensor, hit: torch.Tensor) -> None:
        """Keep what one micro batch showed; read later, because reading waits for the device."""
        self.pending.append(Shown(step, batch["members"], losses.detach(), owner, hit))
        self.tokens += int((batch["owner"] < len(batch["members"])).sum()) if not losses.is_cuda else batch["owner"].numel()

    def note_norm(self, step: int, norm: Any) -> None:
        """Keep the gradient norm of a step, before the optimizer uses it."""
        norm = torch.as_tensor(norm).detach()
        self.norms.append((step, norm.full_tensor() if isinstance(norm, DTensor) else norm))

    def read(self, plan: Plan) -> None:
        """Take in what is pending; raise a CurationError naming the rows when a loss or a gradient is not a number."""
        bad = min((step for step, norm in self.norms if not math.isfinite(float(norm))), default=None)
        for shown in self.pending:
            if bad is not None and shown.step > bad:
                break
            self._take(shown, plan.tokens)
        if bad is not None:
            raise CurationError(
                f"the gradient of step {bad + 1} is not a number though its loss is; {rows_of(plan, bad)}",
                f"{LOOK}; or take a smaller --lr. {KEPT}",
            )
        self.norm = max([self.norm, *(float(norm) for _, norm in self.norms)])
        self.pending.clear()
        self.norms.clear()

    def _take(self, shown: Shown, tokens: Tokens) -> None:
        rows, losses, owner = shown.members.cpu().numpy(), shown.losses, shown.owner
        finite = torch.isfinite(losses)
        if not bool(finite.all()):
            bad = sorted({int(i) for i in owner[~finite].tolist() if i < len(rows)})
            named = [int(tokens.row[rows[i]]) for i in bad] or [int(tokens.row[i]) for i in rows]
            raise CurationError(
                f"the loss of step {shown.step + 1} is not a number; rows of that batch: {_list(named)}",
                f"{LOOK}; or take a smaller --lr. {KEPT}",
            )
        visit = np.empty(len(rows), sensor.VISIT)
        visit["at"] = rows
        visit["loss"] = row_means(losses, owner, len(rows)).cpu().numpy()
        visit["hit"] = row_means(shown.hit, owner, len(rows)).cpu().numpy()
        self.visits.append(visit)
        real = owner < len(rows)
        loss_sum, count = float(losses[real].sum()), int(real.sum())
        self.loss_sum += loss_sum
        self.loss_count += count
        self.supervised += count
        of_step = self.steps.setdefault(shown.step, [0.0, 0.0])
        of_step[0] += loss_sum
        of_step[1] += count

    def drain(self) -> tuple[float, float]:
        """Return the mean token loss since the last call, over all processes, and the largest gradient norm."""
        loss_sum, count = world.total(self.loss_sum, self.loss_count)
        norm = self.norm
        self.loss_sum, self.loss_count, self.norm = 0.0, 0, 0.0
        return loss_sum / max(1.0, count), norm

    def judge(self, steps: range, plan: Plan, vocabulary: int) -> None:
        """Raise a CurationError naming rows when the loss has gone up for good; a call that all processes make.

        `steps`: those since the last call, the same for all processes.
        """
        sums = world.total(*(value for step in steps for value in self.steps.get(step, (0.0, 0.0))))
        fresh = np.column_stack([np.array(steps), np.array(sums).reshape(-1, 2)])
        self.history = np.concatenate([self.history, fresh])[-diverge.HISTORY :]
        self.steps.clear()
        found = diverge.diverged(self.history[:, 1], self.history[:, 2], vocabulary)
        if found is None:
            return
        place, now, best = found
        step = int(self.history[place, 0])
        raise CurationError(
            f"the loss has gone up for good: {now:.2f} a token over the last {diverge.SPAN} steps, {best:.2f} at its best; "
            f"it was first too high at step {step + 1}, behind an update from {rows_of(plan, max(0, step - 1))}",
            f"start again with a smaller --lr; if that does not help: {LOOK}. {KEPT}",
        )

    def gather(self) -> None:
        """Bring what every process has seen to the first one; a call that all processes make."""
        mine = (np.concatenate([np.empty(0, sensor.VISIT), *self.visits]), self.tokens, self.supervised)
        parts = world.collect((*mine, self.loss_sum, self.loss_count, self.steps))
        if world.first():
            self.visits = [np.concatenate([part[0] for part in parts])]
            self.tokens, self.supervised = sum(part[1] for part in parts), sum(part[2] for part in parts)
            self.loss_sum, self.loss_count = sum(part[3] for part in parts), sum(part[4] for part in parts)
            every = [(step, values) for part in parts for step, values in part[5].items()]
            self.steps = {step: [0.0, 0.0] for step, _ in every}
            for step, (loss_sum, count) in every:
                self.steps[step][0] += loss_sum
                self.steps[step][1] += count
        else:
            self.visits, self.tokens, self.supervised, self.loss_sum, self.loss_count, self.steps = [], 0, 0, 0.0, 0, {}

    def seen(self) -> np.ndarray:
        """Return every visit gathered so far as one array of VISIT."""
        self.visits = [np.concatenate([np.empty(0, sensor.VISIT), *self.visits])]
        return self.visits[0]

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as arrays."""
        numbers = np.array([self.tokens, self.supervised, self.loss_count], dtype=np.int64)
        steps = np.array([[step, *values] for step, values in sorted(self.steps.items())]).reshape(-1, 3)
        return {
            "visits": self.seen(),
            "numbers": numbers,
            "sums": np.array([self.loss_sum, self.norm]),
            "steps": steps,
            "history": self.history,
        }

    def restore(self, path: Path) -> None:
        """Take back the state that a checkpoint holds."""
        with np.load(path) as saved:
            self.visits = [saved["visits"]]
            self.tokens, self.supervised, self.loss_count = (int(x) for x in saved["numbers"])
            self.loss_sum, self.norm = (float(x) for x in saved["sums"])
            self.steps = {int(step): [float(a), float(b)] for step, a, b in saved["steps"]}
            self.history = saved["history"]


def rows_of(plan: Plan, step: int) -> str:
    """Return the row numbers that all processes together train at `step`, in words."""
    places = np.concatenate([plan.pack(step * plan.packs + k) for k in range(plan.packs)])
    return f"rows of that step: {_list(plan.tokens.row[places].tolist())}"


def _list(rows: list[int]) -> str:
    return ", ".join(map(str, rows[:NAMED])) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
