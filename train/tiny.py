"""The built-in base `tiny`: a tokenizer and a Llama of about one million parameters, made from the set itself.

Nothing is downloaded. The model is trained from scratch on the given pairs only: it shows what the data teaches, not
what a pretrained model would do with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

LABEL = "trained from scratch on your pairs only: it shows what your data teaches"
VOCABULARY = 1024
#: Spread of the first weights. In equal time (36 CPU s, one seed) held-out behaviours reached 0.60 at the usual 0.02,
#: 0.85 at 0.06 and 0.77 at 0.1.
SPREAD = 0.06
CONTEXT = 512  # tokens; a row of this size is about 250 words
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{%- for turn in messages -%}"
    "{{- '<|im_start|>' + turn['role'] + '\\n' -}}"
    "{%- if turn['role'] == 'assistant' -%}"
    "{%- generation -%}{{- turn['content'] + '<|im_end|>' -}}{%- endgeneration -%}"
    "{%- else -%}{{- turn['content'] + '<|im_end|>' -}}{%- endif -%}"
    "{{- '\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def make_tokenizer(texts: Iterable[str], *, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on `texts`, with the ChatML template and its generation markers.

    The same texts give the same tokenizer. Any string can be encoded, as all 256 bytes are in the alphabet.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, additional_special_tokens=[START], model_max_length=CONTEXT
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_model(tokenizer: Any, *, seed: int, width: int = 128, layers: int = 4) -> LlamaForCausalLM:
    """Return the untrained model; the same seed gives the same weights. 0.98 M parameters at the defaults."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            num_key_value_heads=width // 32,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            tie_word_embeddings=True,
            initializer_range=SPREAD,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
        )
    )


def copy_practice(tokenizer: Any, *, seed: int, step: int, rows: int, length: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Return (ids, labels) of rows of random tokens said twice, the second time trained. Shape (rows, 2 length + 2).

    A model from scratch must learn to carry values from the prompt into the answer; this content-free practice
    lifted exact bullet lists from 0 to 0.82 and exact JSON from 0 to 0.42 of held-out prompts in equal time.
    It depends on seed and step alone, so that a resumed run practises the same.
    """
    random = np.random.default_rng([seed, step, 1])
    first = len({PAD, START, END})
    half = random.integers(first, len(tokenizer), size=(rows, length), dtype=np.int32)
    mark = np.full((rows, 1), tokenizer.convert_tokens_to_ids(START), dtype=np.int32)
    ids = np.concatenate([half, mark, half, mark], axis=1)
    labels = ids.copy()
    labels[:, : length + 1] = -100
    return ids, labels
