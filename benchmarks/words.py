"""Builds the table of word vectors shipped with the package from the sentence encoder all-MiniLM-L6-v2.

    python benchmarks/words.py [--out curation/coefficients/words.npz]

Each piece of the model's vocabulary is embedded alone; the vectors are cut to their first components, weighted by the
logarithm of the piece's rank in the vocabulary (which lies by falling frequency) and rounded to bytes. The model is
licensed under Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2). With one thread (OMP_NUM_THREADS=1) and the versions
of constraints.txt it writes the same bytes again.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np
from heads import write

from curation.distilled import distil
from curation.heads import FOLDER
from curation.vectors import encoder

DIM = 128  # with 64 twice as many sound answers are taken for swapped ones
_PIECE = re.compile(r"(?:##)?[a-z0-9\u00df-\u024f]{1,24}")  # Latin letters and digits; the rest is no English word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    text = "\n".join(piece for _, piece in kept).encode("utf-8")
    write(args.out, {"pieces": np.frombuffer(text, np.uint8), "weight": small, "scale": scale})
    print(f"{args.out.name}: {len(kept):,} pieces of {args.dim} numbers, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
