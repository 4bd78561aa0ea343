"""Attention that keeps rows of one laid-out sequence apart: torch's varlen kernel on CUDA, SDPA elsewhere."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
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
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each row of one laid-out sequence; query, key, value are (1, heads, T, size)."""
    assert cu_seq_lens_q is not None, "isolated attention needs cu_seq_lens_q: batches come from lay()"
    groups = query.shape[1] // key.shape[1]
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        # Under autocast the rotation leaves q and k in fp32; the kernel wants all three in one half type.
        half = torch.float16 if value.dtype == torch.float16 else torch.bfloat16
        q, k, v = (x[0].transpose(0, 1).to(half).contiguous() for x in (query, key, value))
        longest = max_length_q
        out: Any = varlen_attn(q, k, v, cu_seq_lens_q, cu_seq_lens_q, longest, longest, scale=scaling, window_size=(-1, 0))
        return out[None].to(value.dtype), None
    lengths = cu_seq_lens_q.diff()
    n, total = len(lengths), query.shape[2]
    if n * max_length_q <= 2 * total:  # rows of like length: one padded call is faster than many small ones
        inside = torch.arange(max_length_q)[None] < lengths[:, None]
        place = (cu_seq_lens_q[:-1, None] + torch.arange(max_length_q)[None]).where(inside, 0).flatten()

        def spread(x: torch.Tensor) -> torch.Tensor:
            return x[0].index_select(1, place).view(x.shape[1], n, max_length_q, x.shape[3]).transpose(0, 1)

        out = F.scaled_dot_product_attention(
            spread(query), spread(key), spread(value), is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
        back = inside.flatten().nonzero()[:, 0]
        out = out.transpose(1, 2).reshape(n * max_length_q, -1).index_select(0, back)
        return out.view(1, total, query.shape[1], query.shape[3]), None
    cu = cu_seq_lens_q.tolist()
    parts = [
        F.scaled_dot_product_attention(
            query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], is_causal=True, scale=scaling, enable_gqa=groups > 1
        )
        for a, b in pairwise(cu)
    ]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register("curation_isolated", isolated_attention)
AttentionMaskInterface.register("curation_isolated", lambda *args, **kwargs: None)

#: Architectures whose attention is plain causal softmax; the others take torch's block-diagonal mask from position_ids.
PLAIN = {"llama", "qwen2", "qwen3", "smollm3", "olmo2", "granite", "phi3", "stablelm", "helium"}


def isolate(model: Any) -> None:
    """Make attention keep rows of one sequence apart: our function where the architecture allows, else a mask."""
    config = model.config.get_text_config()
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    plain = config.model_type in PLAIN and not windowed
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    base.set_attn_implementation("curation_isolated" if plain else "sdpa")


def unisolate(model: Any) -> None:
    """Give the model ordinary attention back, as `generate` sends plain batches."""
    model.set_attn_implementation("sdpa")
