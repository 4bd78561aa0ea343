"""Attention inside rows as a GPU takes it, and blocks compiled once for all lengths: what of it a CPU can prove."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
import torch.nn.attention.varlen as varlen
import transformers
from curation.train import base as bases
from curation.train import isolate, loss, plan, runs, sft
from curation.train import settings as setting
from curation.train.compile import Tokens
from curation.train.runs import Recipe
from transformers import AttentionInterface

from .training import echo_base, echoes, write_set


@torch.library.custom_op("curation_test::rows", mutates_args={})
def rows_op(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu: torch.Tensor, longest: int, scale: float) -> torch.Tensor:
    """Stand for the kernel on a CPU: (T, heads, size) in bf16, opaque to the compiler as the kernel is."""
    return isolate.by_sdpa(*(x.float().transpose(0, 1)[None] for x in (q, k, v)), cu, longest, scale)[0].to(q.dtype)


@rows_op.register_fake
def _(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu: torch.Tensor, longest: int, scale: float) -> torch.Tensor:
    return torch.empty_like(q)


@torch.library.custom_op("curation_test::slopes", mutates_args={})
def slopes_op(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu: torch.Tensor, scale: float
) -> list[torch.Tensor]:
    """Return the gradients of q, k and v, row by row, by the formulas of softmax."""
    out = [torch.zeros_like(x) for x in (q, k, v)]
    groups = q.shape[1] // k.shape[1]
    for a, b in zip(cu.tolist(), cu[1:].tolist(), strict=False):
        o, x, y, z = (t[a:b].float().transpose(0, 1) for t in (grad, q, k, v))
        y, z = y.repeat_interleave(groups, 0), z.repeat_interleave(groups, 0)
        hidden = torch.ones(b - a, b - a, dtype=torch.bool).triu(1)
        p = (x @ y.mT * scale).masked_fill(hidden, -torch.inf).softmax(-1)
        d = o @ z.mT
        s = p * (d - (d * p).sum(-1, keepdim=True)) * scale
        for into, slope in zip(out, (s @ y, s.mT @ x, p.mT @ o), strict=True):
            folded = slope.view(into.shape[1], -1, *slope.shape[1:]).sum(1)
            into[a:b] = folded.transpose(0, 1).to(into.dtype)
    return out


@slopes_op.register_fake
def _(
    grad: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu: torch.Tensor, scale: float
) -> list[torch.Tensor]:
    return [torch.empty_like(x) for x in (q, k, v)]


def _backward(ctx: Any, grad: torch.Tensor) -> Any:
    return (*slopes_op(grad.contiguous(), *ctx.saved_tensors, ctx.scale), None, None, None)


def _context(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.scale = inputs[5]


rows_op.register_autograd(_backward, setup_context=_context)


def stand_in(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_q: torch.Tensor, cu_k: torch.Tensor, max_q: int, max_k: int, *,
    scale: float | None, window_size: tuple[int, int], enable_gqa: bool,
) -> torch.Tensor:  # fmt: skip
    """Take what torch's varlen_attn takes, demand what its documentation demands."""
    assert q.dtype == k.dtype == v.dtype == torch.bfloat16 and q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
    assert window_size == (-1, 0) and enable_gqa == (q.shape[1] != k.shape[1]) and cu_q.dtype == torch.int32
    assert cu_q is cu_k and max_q == max_k and scale is not None
    return rows_op(q, k, v, cu_q, max_q, scale)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let attention on this CPU go the way it goes on CUDA."""

    def as_on_cuda(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: Any = None, **rest: Any) -> Any:
        return isolate.by_kernel(q, k, v, rest["cu_seq_lens_q"], rest["max_length_q"], scaling), None

    monkeypatch.setattr(isolate, "varlen_attn", stand_in)
    AttentionInterface.register("curation_isolated", as_on_cuda)
    yield
    AttentionInterface.register("curation_isolated", isolate.isolated_attention)


def model_of(layers: int) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).train()


def batch_of(lengths: list[int], seed: int = 0) -> dict[str, Any]:
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(seed).integers(0, 100, offsets[-1]).astype(np.int32)
    return plan.lay(Tokens(ids, ids.copy(), offsets, np.arange(len(lengths)), [""] * len(lengths)), np.arange(len(lengths)))


@pytest.mark.parametrize("lengths", [[7, 8, 6], [3, 40, 5, 12]], ids=["padded", "one by one"])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=["every head", "grouped"])
def test_the_way_of_the_kernel_and_of_sdpa_agree(kernel: None, lengths: list[int], heads: tuple[int, int]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, n, sum(lengths), 16) for n in (heads[0], heads[1], heads[1]))
    cu = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    by_rows = isolate.by_sdpa(q, k, v, cu, max(lengths), 0.25)
    by_kernel = isolate.by_kernel(q, k, v, cu, max(lengths), 0.25)
    assert by_rows.shape == by_kernel.shape == (1, sum(lengths), heads[0], 16)
    assert by_kernel.dtype == v.dtype and torch.allclose(by_rows, by_kernel, atol=2e-2), "bf16 on the way"
    alone = [
        torch.nn.functional.scaled_dot_product_attention(
            q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], is_causal=True, scale=0.25, enable_gqa=True
        )
        for a, b in zip(cu.tolist(), cu[1:].tolist(), strict=False)
    ]
    assert torch.allclose(by_rows, torch.cat(alone, 2).transpose(1, 2), atol=1e-5)


def test_the_real_kernel_takes_what_it_is_given() -> None:
    """Names, shapes and types only: torch's own operator, on tensors that hold nothing."""
    whole, half = torch.float32, torch.bfloat16
    q, k, v = (torch.empty(1, n, 30, 64, device="meta", dtype=kind) for n, kind in ((4, whole), (2, whole), (2, half)))
    cu = torch.empty(4, device="meta", dtype=torch.int32)
    out = isolate.by_kernel(q, k, v, cu, 12, 0.1)
    assert out.shape == (1, 30, 4, 64) and out.dtype == torch.bfloat16
    assert isolate.varlen_attn is varlen.varlen_attn


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_both_ways_give_the_same_losses_and_gradients() -> None:
    batch = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch_of([50, 200, 7, 120]).items()}
    seen = []
    for name in ("curation_isolated", "curation_isolated_sdpa"):
        model = model_of(2).cuda()
        model.set_attn_implementation(name)
        with torch.autocast("cuda", torch.bfloat16):
            losses, _, _ = loss.token_losses(model, batch)
        losses.mean().backward()
        seen.append((losses.detach(), model.get_decoder().layers[0].self_attn.q_proj.weight.grad))
    assert torch.allclose(seen[0][0], seen[1][0], atol=2e-2)
    assert torch.nn.functional.cosine_similarity(seen[0][1].flatten(), seen[1][1].flatten(), dim=0) > 0.999


@pytest.mark.parametrize("thrifty", [False, True], ids=["", "checkpointing"])
def test_blocks_are_compiled_once_for_all_layers_and_lengths(kernel: None, thrifty: bool) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter: Any = CompileCounterWithBackend("aot_eager")
    plain, compiled = model_of(10), model_of(10)
    for model in (plain, compiled):
        isolate.isolate(model)
    names = [name for name, _ in compiled.named_parameters()]
    sft.compile_blocks(compiled, backend=counter)
    assert [name for name, _ in compiled.named_parameters()] == names
    if thrifty:
        compiled.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    chance = np.random.default_rng(1)
    for step in range(6):
        batch = batch_of(chance.integers(5, 40, size=chance.integers(2, 9)).tolist(), seed=step)
        both = []
        for model in (plain, compiled):
            with torch.autocast("cpu", torch.bfloat16):
                losses, _, _ = loss.token_losses(model, batch)
            losses.sum().backward()
            both.append(losses.detach())
        assert torch.allclose(*both, atol=0.05)
    assert counter.frame_count <= 2, "one graph for the first length, one for all others; none for another layer"
    for (name, a), (_, b) in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        assert torch.nn.functional.cosine_similarity(a.grad.flatten(), b.grad.flatten(), dim=0) > 0.99, name


@pytest.fixture(scope="module")
def set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), echoes(40), echoes(4, start=100))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, set_dir: Path) -> Path:
    return echo_base(tmp_path_factory.mktemp("base"), set_dir)


def test_blocks_that_cannot_be_compiled_are_trained_as_they_are(
    set_dir: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise ValueError("no compiler on this machine")

    whole, resolve, said = sft.compile_blocks, sft.resolve, []
    monkeypatch.setattr(sft, "resolve", lambda *a, **k: resolve(*a, **k) | {"compile": (True, "asked for")})
    monkeypatch.setattr(sft, "compile_blocks", lambda model: whole(model, backend=broken))
    torch._dynamo.reset()
    run_dir = tmp_path / "run"
    runs.create(run_dir, Recipe(set=str(set_dir), base=str(base), steps=4, batch=8, lr=1e-3, log_every=1))
    card = sft.train_runs([run_dir], say=said.append)[0]
    (told,) = [event for event in said if event["event"] == "uncompiled"]
    assert "no compiler on this machine" in told["why"]
    assert card["state"] == "done" and card["compiled"] is False and len(runs.read_metrics(run_dir)) == 4


def test_a_pack_shrinks_before_everything_is_computed_twice(
    set_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = bases.prepare(Recipe(set=str(set_dir), base=str(base)))

    def planned(free: float, **shape: Any) -> tuple[int, bool]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, 80e9))
        recipe = Recipe(set=str(set_dir), base=str(base), batch=5000, lora=shape["trainable"] < shape["parameters"])
        chosen = setting.resolve(recipe, prepared, **shape)
        return chosen["capacity"][0], chosen["gradient_checkpointing"][0]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(setting.compiler, "even", lambda lengths, capacity: capacity)
    small: dict[str, Any] = {"parameters": 5 * 10**8, "trainable": 5 * 10**8, "hidden": 896, "layers": 24, "inner": 4864}
    whole: dict[str, Any] = {"parameters": 154 * 10**7, "trainable": 154 * 10**7, "hidden": 1536, "layers": 28, "inner": 8960}
    adapter: dict[str, Any] = {"parameters": 8 * 10**9, "trainable": 4 * 10**7, "hidden": 4096, "layers": 32, "inner": 14336}
    assert planned(79e9, **small) == (16384, False)
    assert planned(79e9, **whole) == (8192, False)
    assert planned(79e9, **adapter) == (4096, False)
    assert planned(40e9, **adapter) == (4096, True)


def test_blocks_are_compiled_where_the_run_is_long_enough(set_dir: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = bases.prepare(Recipe(set=str(set_dir), base=str(base)))

    def chosen(**asked: Any) -> tuple[bool, str]:
        recipe = Recipe(set=str(set_dir), base=str(base), **asked)
        return setting.resolve(recipe, prepared, parameters=10**9, trainable=10**9, hidden=2048, layers=24)["compile"]

    assert chosen(steps=10, compile=True) == (False, "pays on CUDA only")
    for name, value in (
        ("is_available", True), ("get_device_name", "NVIDIA H100 80GB HBM3"), ("mem_get_info", (80e9, 80e9)),
        ("get_device_capability", (9, 0)),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    assert chosen(steps=10)[0] is False and "about 0 minutes" in chosen(steps=10)[1]
    assert chosen(steps=10**6)[0] is True
    assert chosen(steps=10, compile=True) == (True, "asked for") and chosen(steps=10**6, compile=False)[0] is False
    assert chosen(steps=10**6, lora=True, qlora=True)[0] is False
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    old = setting.resolve(Recipe(set="", base=""), prepared, parameters=10**6, trainable=10**6, hidden=64, layers=2)
    assert old["precision"][0] == "fp32"
