"""What a run starts from: the base with its tokenizer, and the set compiled for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from curation.errors import CurationError, needs

from . import compile as compiler
from . import tiny
from .compile import Tokens
from .isolate import ampere
from .runs import TINY, Recipe


def load_tokenizer(recipe: Recipe) -> Any:
    """Return the tokenizer of the base; that of `tiny` is trained on the training rows of the set."""
    if recipe.base == TINY:
        table = compiler.read_split(Path(recipe.set), "train")
        contents = pa.compute.struct_field(pa.compute.list_flatten(table.column("messages")), "content")
        return tiny.make_tokenizer(text for text in contents.to_pylist() if text)
    with _base_errors(recipe.base):
        return AutoTokenizer.from_pretrained(recipe.base)


def load_model(recipe: Recipe, tokenizer: Any, *, seed: int) -> Any:
    """Return the model to train: fp32 for full training and on CPU, bf16 under LoRA on a GPU."""
    if recipe.base == TINY:
        return tiny.make_model(tokenizer, seed=seed)
    dtype = torch.bfloat16 if recipe.lora and torch.cuda.is_available() and ampere() else torch.float32
    torch.manual_seed(seed)
    quantised = {"quantization_config": _four_bits(dtype)} if recipe.qlora else {}
    model: Any
    with _base_errors(recipe.base):
        model = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=dtype, **quantised)
    places = int(model.get_input_embeddings().num_embeddings)
    if len(tokenizer) > places:
        raise CurationError(
            f"{recipe.base}: the tokenizer has {len(tokenizer)} tokens, the model {places}",
            "model and tokenizer of this base do not belong together",
        )
    if recipe.lora:
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

        if recipe.qlora:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        model = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    return model


def _four_bits(dtype: torch.dtype) -> Any:
    """Return the settings of QLoRA (Dettmers et al. 2023): NF4 weights, quantised twice, products in `dtype`."""
    needs("bitsandbytes", "qlora")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )


def merged(recipe: Recipe, model: Any, adapter: Path) -> Any:
    """Return the base with the saved adapter added to its weights; four-bit weights are read again at full width first."""
    if not recipe.qlora:
        return model.merge_and_unload()
    from peft import PeftModel

    with _base_errors(recipe.base):
        whole = AutoModelForCausalLM.from_pretrained(recipe.base, dtype=model.dtype)
    return PeftModel.from_pretrained(whole, adapter).merge_and_unload()


@contextmanager
def _base_errors(base: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        offline = os.environ.get("HF_HUB_OFFLINE") == "1" and not Path(base).exists()
        told = "no such folder, and no hub can be reached from here" if offline else str(error).splitlines()[0]
        raise CurationError(
            f"base {base!r} cannot be loaded: {told}", "use --base tiny, or a folder with a saved model"
        ) from None


def context_of(recipe: Recipe) -> int:
    """Return how many tokens the base can see at once."""
    if recipe.base == TINY:
        return tiny.CONTEXT
    with _base_errors(recipe.base):
        config = AutoConfig.from_pretrained(recipe.base)
    return int(getattr(config, "max_position_embeddings", None) or 4096)


@dataclass(frozen=True)
class Prepared:
    """What runs with the same set, base and length share: the tokenizer and the compiled tokens."""

    tokenizer: Any
    train: Tokens
    held: Tokens
    left_out: list[compiler.LeftOut]
    report: dict[str, Any]
    families: list[str]  # of the held-out rows


def prepare(recipe: Recipe, *, progress: compiler.Progress | None = None) -> Prepared:
    """Compile the set of a recipe for its base."""
    tokenizer = load_tokenizer(recipe)
    context = context_of(recipe)
    max_length = recipe.max_length or min(context, 4096)
    if not 8 <= max_length <= context:
        raise CurationError(f"--max-length {max_length}: this base takes 8 to {context} tokens", f"--max-length {context}")
    train, held, left_out, report = compiler.compile_set(
        Path(recipe.set), tokenizer, max_length=max_length, truncate=recipe.truncate, progress=progress
    )
    return Prepared(tokenizer, train, held, left_out, report, families_of(Path(recipe.set), "validation", held))


def families_of(set_dir: Path, split: str, tokens: Tokens) -> list[str]:
    table = compiler.read_split(set_dir, split)
    if "family" not in table.column_names:
        return [""] * len(tokens)
    known = dict(zip(table.column("row").to_pylist(), table.column("family").to_pylist()))
    return [known.get(int(row)) or "" for row in tokens.row]


def _numbers(weight: torch.nn.Parameter) -> int:
    """Return how many numbers a weight holds; four-bit ones lie two in a byte."""
    packed = getattr(weight, "quant_state", None)
    return weight.numel() if packed is None else math.prod(packed.shape)


def size_of(model: Any) -> dict[str, int]:
    """Return the numbers that the settings depend on."""
    config = model.config.get_text_config()
    return {
        "parameters": sum(_numbers(p) for p in model.parameters()),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "hidden": int(config.hidden_size),
        "inner": int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size),
        "layers": int(config.num_hidden_layers),
    }
