"""Learns how responses usually follow prompts, the map that response.mismatch starts from.

    python benchmarks/pairing.py DATA_FOLDER [--out curation/coefficients/pairing.npz]

The map from prompts to responses is a ridge regression on the vectors of the table distilled from all-MiniLM-L6-v2
(curation/distilled.py, made on each machine). Answered prompts: rasbt_1100, selfinstruct_seeds, dna_responses,
ifeval_constraints (Apache-2.0), chatgpt_refusals, coconot (MIT) and xstest_completions (CC BY 4.0); no row of Dolly is in it,
on which response.mismatch is measured. With one thread (OMP_NUM_THREADS=1) and the versions of constraints.txt it writes the
same bytes again; it holds neither texts of the data nor weights of the model, 256 x 256 numbers in all.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from heads import read, write

from curation.heads import FOLDER
from curation.meaning import RIDGE, regression, unit
from curation.vectors import Encodes, Vectors


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


def usual(table: Encodes, given: list[tuple[str, str]]) -> np.ndarray:
    """Return the (dim, dim) map from centred prompts to centred responses."""
    a, b = (table.encode([pair[k] for pair in given]).astype(np.float64) for k in (0, 1))
    a, b = unit(a - a.mean(axis=0)), unit(b - b.mean(axis=0))
    own, cross = a.T @ a, a.T @ b
    return regression(own, cross, np.trace(cross) / np.trace(own) * np.eye(len(own)), RIDGE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "pairing.npz")
    args = parser.parse_args()
    vectors = Vectors()
    table = vectors.table()
    if table is None:
        raise SystemExit(f"no table of token vectors: {vectors.why}")
    given = pairs(args.data)
    write(args.out, {"map": usual(table, given).astype(np.float16)})
    print(f"{args.out.name}: {table.dim} x {table.dim} numbers from {len(given):,} pairs, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
