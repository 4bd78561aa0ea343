"""The loss: token by token at labelled positions only, and the mean of each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from . import compile as compiler
from .base import Prepared
from .compile import IGNORE, Tokens
from .plan import lay


def token_losses(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (loss of each labelled token, its owner, whether it is the likeliest token): logits exist there only."""
    labels, owner = batch["labels"][0], batch["owner"]
    at = (labels[1:] != IGNORE).nonzero()[:, 0]  # position t says token t + 1
    names = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    logits = model(**{name: batch[name] for name in names}, logits_to_keep=at, use_cache=False).logits[0]
    if logits.shape[0] != at.shape[0]:  # an architecture that ignores logits_to_keep
        logits = logits[at]
    wanted = labels[at + 1]
    hit = logits.detach().argmax(-1) == wanted
    return F.cross_entropy(logits.float(), wanted, reduction="none"), owner[at + 1], hit


def row_means(values: torch.Tensor, owner: torch.Tensor, n: int) -> torch.Tensor:
    """Return the mean over the tokens of each of the first `n` owners, (n,) float32."""
    sums = torch.zeros(n + 1, device=values.device).index_add_(0, owner, values.float())
    counts = torch.zeros(n + 1, device=values.device).index_add_(0, owner, torch.ones_like(values, dtype=torch.float32))
    return (sums / counts)[:n]


@torch.no_grad()
def losses_of(model: Any, tokens: Tokens, *, capacity: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Return (mean loss of each row, its labelled tokens) under the model as it is, in row order."""
    model.eval()
    device = next(model.parameters()).device
    means = np.full(len(tokens), np.nan, dtype=np.float32)
    counts = np.zeros(len(tokens), dtype=np.int64)
    longest = int(tokens.lengths.max()) if len(tokens) else 0
    for pack in compiler.best_fit(tokens.lengths, max(capacity, longest)):
        batch = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in lay(tokens, np.array(pack)).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            losses, owner, _ = token_losses(model, batch)
        means[pack] = row_means(losses, owner, len(pack)).cpu().numpy()
        counts[pack] = torch.bincount(owner, minlength=len(pack)).cpu().numpy()
    return means, counts


def held_out(model: Any, prepared: Prepared) -> dict[str, Any]:
    """Return the mean token loss on the validation rows, whole and by family."""
    if not len(prepared.held):
        return {"loss": None, "rows": 0, "families": {}}
    means, counts = losses_of(model, prepared.held)
    families = np.array(prepared.families)
    by_family = {
        str(name): round(float(np.average(means[families == name], weights=counts[families == name])), 4)
        for name in sorted(set(prepared.families))
    }
    return {"loss": round(float(np.average(means, weights=counts)), 4), "rows": len(means), "families": by_family}
