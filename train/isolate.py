"""Attention that keeps rows of one laid-out sequence apart: torch's varlen kernel on CUDA, SDPA elsewhere."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface


def isolated_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int = 0,
    *,
    kernel: bool = True,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row of one laid-out sequence; query, key, value are (1, heads, T, size).

    `kernel`: whether a CUDA device takes torch's varlen kernel; scaled dot products serve everywhere else.
    """
    assert cu_seq_lens_q is not None, "isolated attention needs cu_seq_lens_q: batches come from lay()"
    way = by_kernel if kernel and query.is_cuda else by_sdpa
    return way(query, key, value, cu_seq_lens_q, max_length_q, scaling), None


def by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu: torch.Tensor, longest: int, scale: float | None
) -> torch.Tensor:
    """Return (1, T, heads, size) by torch's varlen kernel, which takes (T, heads, size) in one half type.

    Under autocast the rotation leaves query and key in fp32; value tells which half type is meant.
    """
    half = torch.float16 if value.dtype == torch.float16 else torch.bfloat16
    q, k, v = (x[0].transpose(0, 1).to(half).contiguous() for x in (query, key, value))
    out: Any = varlen_attn(
        q, k, v, cu, cu, longest, longest, scale=scale, window_size=(-1, 0), enable_gqa=k.shape[1] != q.shape[1]
    )
    return out[None].to(value.dtype)


def by_sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, cu: torch.Tensor, longest: int, scale: float | None
) -> torch.Tensor:
    """Return (1, T, heads, size) by scaled dot products on any device and in any type, row by row or padded."""
    grouped = query.shape[1] != key.shape[1]
    lengths = cu.diff()
    n, total = len(lengths), query.shape[2]
    if n * longest <= 2 * total:  # rows of like length: one padded call is faster than many small ones
        step = torch.arange(longest, device=cu.device)[None]
        inside = step < lengths[:, None]
        place = (cu[:-1, None] + step).where(inside, 0).flatten()

        def spread(x: torch.Tensor) -> torch.Tensor:
            return x[0].index_select(1, place).view(x.shape[1], n, longest, x.shape[3]).transpose(0, 1)

        out = F.scaled_dot_product_attention(
            spread(query), spread(key), spread(value), is_causal=True, scale=scale, enable_gqa=grouped
        )
        back = inside.flatten().nonzero()[:, 0]
        out = out.transpose(1, 2).reshape(n * longest, -1).index_select(0, back)
        return out.view(1, total, query.shape[1], query.shape[3])
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=True, scale=scale, enable_gqa=grouped
        )
        for a, b in pairwise(cu.tolist())
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous()


_WAYS: dict[str, Any] = {
    "curation_isolated": isolated_attention,
    "curation_isolated_sdpa": partial(isolated_attention, kernel=False),
}
for _name, _way in _WAYS.items():
    AttentionInterface.register(_name, _way)
    AttentionMaskInterface.register(_name, lambda *args, **kwargs: None)

#: Architectures whose attention is plain causal softmax; the others take torch's block-diagonal mask from position_ids.
PLAIN = {"llama", "qwen2", "qwen3", "smollm3", "olmo2", "granite", "phi3", "stablelm", "helium"}


def ampere() -> bool:
    """Return whether the CUDA device has bf16 products and the varlen kernel: compute capability 8.0 or above."""
    return torch.cuda.get_device_capability() >= (8, 0)


def isolate(model: Any) -> None:
    """Make attention keep rows of one sequence apart: our function where the architecture allows, else a mask."""
    config = model.config.get_text_config()
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    plain = config.model_type in PLAIN and not windowed
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if not plain:
        base.set_attn_implementation("sdpa")
        return
    base.set_attn_implementation("curation_isolated_sdpa" if torch.cuda.is_available() and not ampere() else "curation_isolated")


def unisolate(model: Any) -> None:
    """Give the model ordinary attention back, as `generate` sends plain batches."""
    model.set_attn_implementation("sdpa")
