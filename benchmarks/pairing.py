"""Learns how responses usually follow prompts, and what tells that they do not: what response.mismatch starts from.

    python benchmarks/pairing.py DATA_FOLDER [--out curation/coefficients/pairing.npz]

The map from prompts to responses is a ridge regression on the vectors of the table distilled from all-MiniLM-L6-v2
(curation/distilled.py, made on each machine). Answered prompts: rasbt_1100, selfinstruct_seeds, dna_responses,
ifeval_constraints (Apache-2.0), chatgpt_refusals, coconot (MIT) and xstest_completions (CC BY 4.0); no row of Dolly is in it.

The evidence is a logistic regression on rows with their own responses and with responses of other rows of the same set,
SWAPS times each, half as if the response's own prompt were not in the set. It is learnt from the same files but rasbt_1100
(short answers) and from the rows of dolly_3k (CC BY-SA 3.0) whose prompts are not in injected_flaws; a set is looked at with a
map that did not see it. Words that stand in USUAL of the rows of a set or more, in the median set, tell nothing.

With one thread (OMP_NUM_THREADS=1) and the versions of constraints.txt it writes the same bytes again; it holds neither texts
of the data nor weights of the model: 2 x 256 x 256 numbers, the weights of eleven features, and a list of common words.
"""

from __future__ import annotations

import argparse
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from heads import read, write
from sklearn.linear_model import LogisticRegression

from curation.heads import FOLDER
from curation.meaning import FITS, READ, RIDGE, Company, Pairing, looks, regression, unit
from curation.vectors import Encodes, Vectors
from curation.verifiers import content_words

Pair = tuple[str, str]
SWAPS = 3  # responses of other rows that each prompt is given
OTHERS, POOL = 500, 2000  # rows held against, as in curation.checks.answers
WORDS = 5  # content words of a response that is looked at
USUAL = 0.02  # share of rows from which on a word tells nothing: four of ten thousand pairs have one in common by chance
TAME = 0.3  # inverse weight of the penalty; from 0.1 to 1 the precision on Dolly falls and the recall rises


def pairs(folder: Path) -> dict[str, list[Pair]]:
    """Return answered prompts by the file they are of."""
    out = {name: [(f"{r['instruction']} {r.get('input') or ''}", r["output"]) for r in read(folder, name + ".jsonl")]
           for name in ("rasbt_1100", "selfinstruct_seeds")}
    refusals, orders = read(folder, "chatgpt_refusals.jsonl"), read(folder, "ifeval_constraints.jsonl")
    safe, followed = read(folder, "xstest_completions.jsonl"), read(folder, "dna_responses.jsonl")
    return out | {
        "chatgpt_refusals": [(r["prompt"], r["response"]) for r in refusals if r["tone"] == "complied"],
        "coconot": [(r["prompt"], r["comply_response"]) for r in read(folder, "coconot.jsonl") if r.get("comply_response")],
        "xstest_completions": [(r["prompt"], r["completion"]) for r in safe if r["final_label"][0] == "1"],
        "dna_responses": [(r["question"], r["response"]) for r in followed if r["action"] in (2, 5)],
        "ifeval_constraints": [(r["prompt"], r["response"]) for r in orders if r.get("response")],
    }


def dolly(folder: Path, planted: bool = False) -> list[Pair]:
    """Return the rows of Dolly whose prompts are not in the planted set; or, `planted`, those whose are."""
    taken = {r["instruction"].strip() for r in read(folder, "injected_flaws.jsonl")}
    return [(f"{r['instruction']} {r.get('input') or ''}".strip(), r["output"]) for r in read(folder, "dolly_3k.jsonl")
            if (r["instruction"].strip() in taken) == planted]


def usual(table: Encodes, given: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
    """Return the (dim, dim) map from centred prompts to centred responses, and second moments of the latter, of trace 1."""
    a, b = (table.encode([pair[k] for pair in given]).astype(np.float64) for k in (0, 1))
    a, b = unit(a - a.mean(axis=0)), unit(b - b.mean(axis=0))
    own, cross = a.T @ a, a.T @ b
    return regression(own, cross, np.trace(cross) / np.trace(own) * np.eye(len(own)), RIDGE), b.T @ b / len(b)


def first(given: list[Pair]) -> list[Pair]:
    """Return the first answer to each prompt."""
    return list(dict((p, (p, r)) for p, r in reversed(given)).values())[::-1]


def common(sets: list[list[Pair]]) -> list[str]:
    """Return the content words that stand in USUAL of a set's rows, in the median set."""
    shares: dict[str, list[float]] = {}
    for given in sets:
        held = Counter(w for p, r in given for w in content_words(p[:READ]) | content_words(r[:READ]))
        for word, n in held.items():
            shares.setdefault(word, []).append(n / len(given))
    return sorted(w for w, s in shares.items() if np.median(s + [0.0] * (len(sets) - len(s))) > USUAL)


def swapped(table: Encodes, given: list[Pair], towards: tuple[np.ndarray, np.ndarray], plain: set[str], seed: int = 0
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ((n, 11) features, whether swapped, weights, whether looked at) of rows with own and other rows' responses."""
    prompts, responses = [p for p, _ in given], [r for _, r in given]
    fold = np.array([zlib.crc32(p.encode()) % Pairing.FOLDS for p in prompts])
    asked, said = table.encode(prompts), table.encode(responses)
    pairing = Pairing.learnt(asked, said, fold, towards)
    long = np.array([i for i, r in enumerate(responses) if len(content_words(r[:READ])) >= WORDS])
    expected, meant = pairing.of(asked, said, fold)
    company = Company(expected[long[:OTHERS]], meant[long[:OTHERS]], expected[:POOL])
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(SWAPS + 1):
        other = long[rng.permutation(len(long))] if k else long
        keep = np.ones(len(long), bool) if k == 0 else other != long
        at, other = long[keep], other[keep]
        words = [content_words(prompts[i][:READ]) for i in at]
        seen = np.array([bool(w) and not (w & content_words(responses[j][:READ])) - plain for w, j in zip(words, other)])
        ex, me = pairing.of(asked[at], said[other], fold[at])
        look = looks([prompts[i] for i in at], [responses[j] for j in other], plain=plain)
        strange = company.strange(ex, me)
        seen &= strange >= FITS
        for without in (False,) if k == 0 else (False, True):
            leads = company.leads(ex, me, np.where(other < POOL, other, -1) if without else None)
            features = np.hstack([np.log(strange)[:, None], leads, look])
            parts.append((features, np.full(len(at), k > 0), np.full(len(at), 0.5 / SWAPS if k else 1.0), seen))
    x, y, w, seen = (np.concatenate(p) for p in zip(*parts))
    return x, y, w, seen


def evidence(table: Encodes, sets: dict[str, list[Pair]], plain: list[str]) -> dict[str, np.ndarray]:
    """Return the weights of `curation.meaning.evidence`: log odds where as many rows are swapped as not."""
    made = []
    for name, given in sets.items():
        towards = usual(table, [p for other, some in sets.items() if other not in (name, "dolly_3k") for p in some])
        if name != "rasbt_1100":
            made.append(swapped(table, first(given), towards, set(plain)))
    x, y, w, seen = (np.concatenate(p) for p in zip(*made))
    middle, spread = x[seen].mean(axis=0), x[seen].std(axis=0)
    fitted = LogisticRegression(C=TAME, max_iter=2000).fit((x[seen] - middle) / spread, y[seen], sample_weight=w[seen])
    outside = np.log(w[~seen & y].sum() / w[~seen & ~y].sum())
    return {"middle": middle, "spread": spread, "weight": fitted.coef_[0], "level": np.array([fitted.intercept_[0], outside])}


def learnt(table: Encodes, sets: dict[str, list[Pair]]) -> dict[str, np.ndarray]:
    """Return all that the package carries of `sets`; those of Dolly are not in the map."""
    plain = common([first(given) for given in sets.values()])
    linear, moments = usual(table, [p for name, given in sets.items() if name != "dolly_3k" for p in given])
    return {"map": linear.astype(np.float16), "moments": moments.astype(np.float16), "words": np.array(plain),
            **evidence(table, sets, plain)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER / "pairing.npz")
    args = parser.parse_args()
    vectors = Vectors()
    table = vectors.table()
    if table is None:
        raise SystemExit(f"no table of token vectors: {vectors.why}")
    sets = pairs(args.data) | {"dolly_3k": dolly(args.data)}
    arrays = learnt(table, sets)
    write(args.out, arrays)
    print(f"{args.out.name}: {sum(map(len, sets.values())):,} pairs, {len(arrays['words'])} common words, "
          f"weights {arrays['weight'].round(2).tolist()}, {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
