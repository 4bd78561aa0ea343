"""The loss: token by token at labelled positions only, and the mean of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.distributed.tensor import DTensor

from . import compile as compiler
from .base import Prepared
from .compile import Tokens
from .isolate import ampere
from .plan import lay

#: Most numbers of logits kept at once; above it the head runs in tiles and its gradient is taken on the way forward. A tile
#: adds to the whole gradient of the head, so on a GPU tiles are larger: with 152 k tokens 1,766 positions, 2.7 GB.
TILE, GPU_TILE = 1 << 26, 1 << 28
#: Architectures whose logits are the head's product and nothing else, so that tiles may take the head's place.
BARE = {"llama", "qwen2", "qwen3", "smollm3", "olmo2", "phi3", "stablelm"}


def token_losses(model: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (loss of each labelled token, its owner, whether it is the likeliest token): logits exist there only.

    With a large vocabulary the first tensor carries the gradient of its sum only: weigh the sum, not single tokens.
    """
    labels, owner, at = batch["labels"][0], batch["owner"], batch["at"]
    wanted = labels[at + 1]  # position t says token t + 1
    inner = getattr(model, "module", model)  # several processes wrap the model
    head = inner.get_output_embeddings()
    tiled = _tiled(inner, head, len(at))
    names = ("input_ids", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    with _without(head) if tiled else nullcontext():
        logits = model(**{name: batch[name] for name in names}, logits_to_keep=at, use_cache=False).logits[0]
    if tiled:
        losses, hit = TiledHead.apply(logits, head.weight, wanted, torch.is_grad_enabled())
        return losses, owner[at + 1], hit
    if logits.shape[0] != at.shape[0]:  # an architecture that ignores logits_to_keep
        logits = logits[at]
    hit = logits.detach().argmax(-1) == wanted
    return F.cross_entropy(logits.float(), wanted, reduction="none"), owner[at + 1], hit


def _tiled(model: Any, head: Any, n: int) -> bool:
    """Return whether the head shall run in tiles: many logits, a plain linear head, and nothing done to its output."""
    kind = getattr(getattr(model, "config", None), "model_type", "")
    plain = isinstance(head, torch.nn.Linear) and head.bias is None and isinstance(head.weight, torch.nn.Parameter)
    sharded = isinstance(head.weight, DTensor) if plain else False
    return plain and not sharded and kind in BARE and n * head.weight.shape[0] > _tile_of(head.weight)


def _tile_of(weight: torch.Tensor) -> int:
    return GPU_TILE if weight.is_cuda else TILE


@contextmanager
def _without(head: Any) -> Iterator[None]:
    """Let the model give what it would hand to its head."""
    head.forward = _same
    try:
        yield
    finally:
        del head.forward


def _same(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def _tile(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (loss, whether the wanted token is likeliest, slope of the loss by the logits in their type) of a tile."""
    x = logits.float()
    top = x.amax(-1, keepdim=True)
    said = x.gather(-1, wanted[:, None])
    power = (x - top).exp()
    total = power.sum(-1, keepdim=True)
    losses = (total.log() + top - said)[:, 0]
    slope = (power / total).scatter_add(-1, wanted[:, None], torch.full_like(said, -1.0))
    return losses, (said >= top)[:, 0], slope.to(logits.dtype)


_passes: dict[str, Callable[..., Any]] = {"tile": _tile}


def fuse(on: bool, **how: Any) -> None:
    """Let the passes over a tile of logits be compiled into few, or not."""
    _passes["tile"] = torch.compile(_tile, dynamic=True, **how) if on else _tile


class TiledHead(torch.autograd.Function):
    """Cross-entropy of a linear head, tile by tile, so that the whole logits never exist.

    As Liger and TRL do, each tile's gradient is computed with its loss, while its logits are there; backward scales it
    by the gradient of the sum. hidden (n, d), weight (V, d), wanted (n,) -> losses (n,) float32, hits (n,) bool.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, wanted: torch.Tensor, learning: bool) -> Any:
        half = torch.is_autocast_enabled(hidden.device.type)
        kind = torch.get_autocast_dtype(hidden.device.type) if half else weight.dtype
        w, h = weight.detach().to(kind), hidden.detach().to(kind)
        losses = torch.empty(len(h), dtype=torch.float32, device=h.device)
        hits = torch.empty(len(h), dtype=torch.bool, device=h.device)
        grad_h = torch.empty_like(hidden) if learning and hidden.requires_grad else None
        grad_w = torch.zeros_like(weight, dtype=torch.float32) if learning and weight.requires_grad else None
        rows = max(1, _tile_of(weight) // weight.shape[0])
        for k in range(0, len(h), rows):
            part = slice(k, k + rows)
            losses[part], hits[part], slope = _passes["tile"](h[part] @ w.T, wanted[part])
            if grad_h is not None:
                grad_h[part] = (slope @ w).to(grad_h.dtype)
            if grad_w is not None:
                grad_w += slope.T @ h[part]
        ctx.save_for_backward(grad_h, grad_w)
        ctx.kind = weight.dtype
        ctx.mark_non_differentiable(hits)
        return losses, hits

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, _: Any) -> Any:
        grad_h, grad_w = ctx.saved_tensors
        scale = grad[0] if len(grad) else grad.sum()
        return (
            grad_h * scale if grad_h is not None else None,
            (grad_w * scale).to(ctx.kind) if grad_w is not None else None,
            None,
            None,
        )


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
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" and ampere()):
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
