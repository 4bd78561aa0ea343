"""Pairs of close vectors among many: seconds, memory and recall of the search behind dup.semantic.

    python benchmarks/cosine.py [--rows 1000000] [--dim 384] [--threshold 0.85] [--threads 2]

Vectors lie about 2,000 topics (two rows of a topic have a cosine of about .5) and lean to one side, as sentence embeddings
do. 20,000 planted pairs have a cosine between the threshold and 1, one quarter of them within .01 of the threshold. The search is
held against the planted pairs, and on 2,000 drawn rows against the product with all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

PLANTED = 20_000


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("--rows", type=int, default=1_000_000)
    ap.add_argument("--dim", type=int, default=384)
    ap.add_argument("--threshold", type=float, default=0.85)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--sift", type=int, help="dimensions looked at first (default: the library's; 256: all of them)")
    ap.add_argument("--out", type=Path)
    a = ap.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(a.threads)
    import numpy as np

    from curation import cosine

    cosine.SIFT = a.sift or cosine.SIFT
    rng = np.random.default_rng(0)
    topics = rng.normal(size=(2000, a.dim)).astype(np.float32) + 0.5 * rng.normal(size=a.dim).astype(np.float32)
    vectors = np.empty((a.rows, a.dim), np.float32)
    for k in range(0, a.rows, 50_000):
        n = min(50_000, a.rows - k)
        vectors[k : k + n] = topics[rng.integers(0, 2000, n)] + rng.normal(size=(n, a.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    picked = rng.permutation(a.rows)[: 2 * min(PLANTED, a.rows // 10)]
    one, two = picked[::2], picked[1::2]
    wanted = a.threshold + np.where(np.arange(len(one)) % 4, 1 - a.threshold, 0.01) * rng.random(len(one))
    z = rng.normal(size=(len(one), a.dim)).astype(np.float32)
    z -= (z * vectors[one]).sum(axis=1, keepdims=True) * vectors[one]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    vectors[two] = wanted[:, None] * vectors[one] + np.sqrt(1 - wanted[:, None] ** 2) * z
    began = time.perf_counter()
    points = cosine.projected(lambda at: vectors[at], np.arange(a.rows), a.dim)
    tables = cosine.divisions(a.rows, a.threshold)
    cells = cosine.cells_of(points, tables)
    divided = time.perf_counter()
    pairs = cosine.candidates(points, cells, np.ones(a.rows, bool), a.threshold)
    score = np.concatenate([
        np.einsum("ij,ij->i", vectors[pairs.left[k : k + 50_000]], vectors[pairs.right[k : k + 50_000]])
        for k in range(0, len(pairs.left) + 1, 50_000)])
    held = score >= a.threshold
    seconds = time.perf_counter() - began
    got = set((pairs.left[held] * a.rows + pairs.right[held]).tolist())
    planted = np.minimum(one, two) * a.rows + np.maximum(one, two)
    hit = np.array([int(x) in got for x in planted.tolist()])
    edge = np.arange(len(one)) % 4 == 0
    drawn = np.sort(rng.choice(a.rows, 2000, replace=False))
    true = 0
    missed = 0
    for k in range(0, a.rows, 50_000):
        r, c = np.nonzero(vectors[drawn] @ vectors[k : k + 50_000].T >= a.threshold)
        for i, j in zip(drawn[r].tolist(), (c + k).tolist(), strict=True):
            if i != j:
                true += 1
                missed += (min(i, j) * a.rows + max(i, j)) not in got
    result = {
        "rows": a.rows, "dim": a.dim, "threshold": a.threshold, "threads": a.threads, "divisions": tables,
        "largest_cell": int(np.bincount(cells[:, 0]).max()) if tables else a.rows,
        "seconds": round(seconds, 1), "of_which_dividing": round(divided - began, 1), "candidates": len(held),
        "pairs": int(held.sum()), "recall_planted": round(float(hit.mean()), 4),
        "recall_within_.01_of_the_threshold": round(float(hit[edge].mean()), 4),
        "pairs_of_2000_drawn_rows": true, "of_which_missed": missed,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "vectors_mb": vectors.nbytes >> 20,
    }
    print(json.dumps(result, indent=1))
    if a.out:
        a.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
