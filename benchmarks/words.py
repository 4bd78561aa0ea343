"""Builds the table of word vectors shipped with the package, and how responses usually follow prompts in it.

    python benchmarks/words.py DATA_FOLDER [--out curation/coefficients/words.npz]

The table comes from the sentence encoder all-MiniLM-L6-v2 (Apache-2.0): each piece of its vocabulary is embedded alone; the
vectors are cut to their first components, weighted by the logarithm of the piece's rank in the vocabulary (which lies by
falling frequency) and rounded to bytes. The map from prompts to responses is a ridge regression on answered prompts of
rasbt_1100, selfinstruct_seeds, dna_responses, ifeval_constraints (Apache-2.0), chatgpt_refusals, coconot (MIT) and
xstest_completions (CC BY 4.0); no row of Dolly is in it, on which response.mismatch is measured. With one thread
(OMP_NUM_THREADS=1) and the versions of constraints.txt it writes the same bytes again; it holds no text of the data.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from heads import read, write

from curation.distilled import distil
from curation.heads import FOLDER
from curation.meaning import RIDGE, Words, regression, unit
from curation.vectors import encoder

DIM = 128  # with 64 twice as many sound answers are taken for swapped ones
_PIECE = re.compile(r"(?:##)?[a-z0-9\u00df-\u024f]{1,24}")  # Latin letters and digits; the rest is no English word


def pairs(folder: Path) -> list[tuple[str, str]]:
    """Return answered prompts."""
    plain = [(f"{r['instruction']} {r.get('input') or ''}", r["output"]) for name in ("rasbt_1100", "selfinstruct_seeds")
             for r in read(folder, name + ".jsonl")]
    complied = [(r["prompt"], r["response"]) for r in read(folder, "chatgpt_refusals.jsonl") if r["tone"] == "complied"]
    chosen = [(r["prompt"], r["comply_response"]) for r in read(folder, "coconot.jsonl") if r.get("comply_response")]
    safe = [(r["prompt"], r["completion"]) for r in read(folder, "xstest_completions.jsonl") if r["final_label"][0] == "1"]
    followed = [(r["question"], r["response"]) for r in read(folder, "dna_responses.jsonl") if r["action"] in (2, 5)]
    orders = [(r["prompt"], r["response"]) for r in read(folder, "ifeval_constraints.jsonl") if r.get("response")]
    return plain + complied + chosen + safe + followed + orders


def usual(table: Words, given: list[tuple[str, str]]) -> np.ndarray:
    """Return the (dim, dim) map from centred prompts to centred responses."""
    a, b = (table.of([pair[k] for pair in given]) for k in (0, 1))
    a, b = unit(a - a.mean(axis=0)), unit(b - b.mean(axis=0))
    own, cross = a.T @ a, a.T @ b
    return regression(own, cross, np.trace(cross) / np.trace(own) * np.eye(len(own)), RIDGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "words.npz")
    parser.add_argument("--dim", type=int, default=DIM)
    args = parser.parse_args()
    model = encoder().load()
    vocabulary = model.tokenizer.get_vocab()
    x = distil(model)[:, : args.dim]
    kept = sorted((i, piece) for piece, i in vocabulary.items() if _PIECE.fullmatch(piece))
    weight = x[[i for i, _ in kept]]
    scale = (np.abs(weight).max(axis=1) / 127).astype(np.float16)
    small = np.round(weight / scale[:, None].astype(np.float64)).clip(-127, 127).astype(np.int8)
    table = Words([piece for _, piece in kept], small.astype(np.float32) * scale.astype(np.float32)[:, None])
    text = "\n".join(piece for _, piece in kept).encode("utf-8")
    given = pairs(args.data)
    arrays = {"pieces": np.frombuffer(text, np.uint8), "weight": small, "scale": scale,
              "map": usual(table, given).astype(np.float16)}
    write(args.out, arrays)
    print(f"{args.out.name}: {len(kept):,} pieces of {args.dim} numbers, a map of {len(given):,} pairs, "
          f"{args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
