"""What a batch holds is a function of (seed, index): nothing is drawn, so nothing has to be remembered to resume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import compile as compiler
from . import tiny
from .compile import IGNORE, Tokens

if TYPE_CHECKING:
    from .settings import Settings


class Plan(torch.utils.data.Dataset):
    """Every micro batch of a run, by its index, for one of the processes that share each step.

    A step holds `accumulation` packs whatever the number of processes. Where these cannot share whole packs, or a pack
    did not fit into memory, every pack is divided into `parts` by its rows: the step is the same, in smaller pieces.
    """

    def __init__(
        self, tokens: Tokens, tokenizer: Any, settings: Settings, *, seed: int, parts: int = 1, rank: int = 0, world: int = 1
    ) -> None:
        self.tokens, self.tokenizer, self.seed = tokens, tokenizer, seed
        self.steps: int = settings["steps"][0]
        self.batch: int = settings["batch"][0]
        self.capacity: int = settings["capacity"][0]
        self.packs: int = settings["accumulation"][0]
        self.practice: bool = settings["copy_practice"][0]
        self.rank, self.world = rank, world
        self.parts = math.lcm(self.packs * parts, world) // self.packs
        self.accumulation = self.packs * self.parts // world  # micro batches a step of this process
        self.labels = np.add.reduceat(tokens.labels != IGNORE, tokens.offsets[:-1]) if len(tokens) else np.empty(0, int)
        self._epochs: dict[int, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return self.steps * self.accumulation

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the packs of one epoch, or its rows in order, one array each."""
        if epoch not in self._epochs:
            random = np.random.default_rng([self.seed, epoch])
            order = random.permutation(len(self.tokens))
            if self.capacity:
                packs = compiler.best_fit(self.tokens.lengths[order], self.capacity)
                made = [order[pack] for pack in packs]
                made = [made[i] for i in random.permutation(len(made))]
            else:
                made = [order]
            self._epochs = {k: v for k, v in self._epochs.items() if k >= epoch - 1} | {epoch: made}
        return self._epochs[epoch]

    def pack(self, index: int) -> np.ndarray:
        """Return the positions of the rows in pack `index`, counted over the whole run."""
        if self.capacity:
            # Every epoch has equally many packs: best fit depends on the lengths alone.
            n = len(self._epoch(0)) if not self._epochs else len(next(iter(self._epochs.values())))
            return self._epoch(index // n)[index % n]
        n = len(self.tokens)
        at = np.arange(index * self.batch, (index + 1) * self.batch)
        return np.array([self._epoch(int(p) // n)[0][p % n] for p in at], dtype=np.int64)

    def members(self, index: int) -> np.ndarray:
        """Return the positions of the rows in micro batch `index` of this process; it may be empty."""
        step, mine = divmod(index, self.accumulation)
        pack, part = divmod(step * self.packs * self.parts + mine * self.world + self.rank, self.parts)
        rows = self.pack(pack)
        if self.parts == 1:
            return rows
        longest_first = rows[np.argsort(-self.tokens.lengths[rows], kind="stable")]
        return longest_first[part :: self.parts]

    def labels_of(self, step: int) -> int:
        """Return how many trained tokens all processes together see at `step`, copy practice left out."""
        return sum(int(self.labels[self.pack(step * self.packs + k)].sum()) for k in range(self.packs))

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = self.members(index)
        practice = None
        if self.practice and index % 2 and index < len(self) // 2:
            practice = tiny.copy_practice(self.tokenizer, seed=self.seed, step=index, rows=self.batch)
        if not len(rows):  # another process has the rows of this pack: go along, train nothing
            batch = lay(self.tokens, self.pack(0)[:1])
            nothing = {"labels": torch.full_like(batch["labels"], IGNORE), "at": batch["at"][:0], "members": batch["members"][:0]}
            return {**batch, **nothing}
        return lay(self.tokens, rows, practice=practice)


def lay(tokens: Tokens, rows: np.ndarray, *, practice: tuple[np.ndarray, np.ndarray] | None = None) -> dict[str, Any]:
    """Return rows laid end to end as one sequence of length T, with what attention needs to keep them apart.

    input_ids, labels, position_ids (1, T) int64; cu_seq_lens int32; `at` (n,) the positions before a label, found here
    because a GPU would be waited for; `owner` (T,) the place of each token's row in `rows`, len(rows) for practice.
    """
    spans = [slice(int(tokens.offsets[i]), int(tokens.offsets[i + 1])) for i in rows]
    ids, labels = [tokens.ids[span] for span in spans], [tokens.labels[span] for span in spans]
    if practice is not None:
        ids, labels = [*ids, *practice[0]], [*labels, *practice[1]]
    lengths = np.array([len(x) for x in ids])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    total = int(ends[-1])
    cu = torch.from_numpy(ends.astype(np.int32))
    position = np.arange(total) - np.repeat(ends[:-1], lengths)
    joined = np.concatenate(labels).astype(np.int64)
    batch: dict[str, Any] = {
        "input_ids": torch.from_numpy(np.concatenate(ids).astype(np.int64))[None],
        "labels": torch.from_numpy(joined)[None],
        "at": torch.from_numpy(np.flatnonzero(joined[1:] != IGNORE)),
        "position_ids": torch.from_numpy(position)[None],
        "cu_seq_lens_q": cu,
        "cu_seq_lens_k": cu,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "owner": torch.from_numpy(np.repeat(np.minimum(np.arange(len(ids)), len(rows)), lengths)),
        "members": torch.from_numpy(np.asarray(rows, dtype=np.int64)),
    }
    return batch
