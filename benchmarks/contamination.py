"""Measures contamination.*, dup.leak and dup.semantic: copies, rewordings, planted leaks, ordinary rows, time.

    python benchmarks/contamination.py DATA_FOLDER [--vectors FOLDER] [--out benchmarks/results/contamination.json]

DATA_FOLDER holds contamination_pairs, benchmark_refs, alpaca_original and dup_pairs_labelled (JSONL); the last two may be
missing. With --vectors the embedding tier is measured too, against the references of GSM8K, HumanEval and self-instruct
(about three minutes of one core; vectors are kept in FOLDER). No text of the data is written to the result. Intervals: 95 %
bootstrap over pairs (1,000 draws, seed 0).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from rows import make_rows  # noqa: E402

from curation.checks import contamination, leaks, semantic  # noqa: E402
from curation.past import NoPast  # noqa: E402
from curation.references import references_of  # noqa: E402
from curation.spec import Spec  # noqa: E402
from curation.vectors import Vectors  # noqa: E402

THRESHOLDS = (0.15, 0.2, 0.23, 0.25, 0.28, 0.3, 0.32, 0.35, 0.4)


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    with (folder / name).open(encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def measures(hit: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    both = float((hit & truth).sum())
    return {"precision": both / max(1, hit.sum()), "recall": both / max(1, truth.sum()),
            "f1": 2 * both / max(1, hit.sum() + truth.sum())}


def with_interval(hit: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return precision, recall and F1, each [value, low, high]."""
    rng = np.random.default_rng(0)
    draws = [measures(hit[k], truth[k]) for k in (rng.integers(0, len(hit), len(hit)) for _ in range(1000))]
    return {name: [round(x, 4) for x in (value, *np.percentile([d[name] for d in draws], [2.5, 97.5]))]
            for name, value in measures(hit, truth).items()}


def flagged(check: Callable[..., pa.Table], rows: pa.Table, refs: pa.Table, **options: Any) -> np.ndarray:
    out = np.zeros(rows.num_rows, np.bool_)
    out[check(rows, refs, NoPast(rows.num_rows), **options)["row"].to_numpy()] = True
    return out


def worded(rows: pa.Table, refs: pa.Table, past: NoPast, **options: Any) -> pa.Table:
    """contamination.semantic without embeddings."""
    return contamination.semantic(rows, refs, Vectors(), past, **options)


def scores(prompts: list[str], refs: pa.Table, threshold: float, vectors: Vectors | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return for each prompt (score of its flag, 0 without one; reference named)."""
    rows = make_rows({"instruction": p} for p in prompts)
    flags = contamination.semantic(rows, refs, vectors or Vectors(), NoPast(rows.num_rows), threshold=threshold,
                                   embed=vectors is not None)
    score, which = np.zeros(len(prompts)), np.full(len(prompts), -1)
    at = flags["row"].to_numpy()
    score[at] = flags["score"].to_numpy()
    which[at] = [int(m.partition("reference ")[2].split(" ")[0]) for m in flags["message"].to_pylist()]
    return score, which


def reworded(pairs: list[dict[str, Any]], refs: pa.Table, vectors: Vectors | None = None) -> dict[str, Any]:
    """Reworded GSM8K questions against other ones of the same kind; all references at hand."""
    gsm = [p for p in pairs if p["benchmark"] == "GSM8K"]
    truth = np.array([p["contaminated"] for p in gsm])
    prompts = [p["candidate"] for p in gsm]
    hits = {t: scores(prompts, refs, t, vectors) for t in THRESHOLDS}
    source = [p["reference"] for p in gsm]
    named = hits[0.3][1]
    right = [refs["text"][int(named[k])].as_py() == source[k] for k in np.flatnonzero(truth & (named >= 0))]
    score = hits[THRESHOLDS[0]][0]
    out = {"n": len(gsm), "reworded": int(truth.sum()), "default threshold": 0.3,
           "at default": with_interval(hits[0.3][0] > 0, truth), "right reference": round(float(np.mean(right)), 4),
           "by threshold": {str(t): {k: round(v, 4) for k, v in measures(s > 0, truth).items()} for t, (s, _) in hits.items()},
           "lowest threshold with precision .95": round(semantic.calibrate(score, truth, 0.95), 4),
           "chosen by 5-fold cross-validation": cross_validated(score, truth)}
    if vectors is not None:
        return out
    rows = make_rows({"instruction": p} for p in prompts)
    out["contamination.ngram on the same rows"] = with_interval(flagged(contamination.ngram, rows, refs), truth)
    return out


def cross_validated(score: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Return the measures when each fifth is judged at the threshold that is best on the other four."""
    fold = np.random.default_rng(0).permutation(len(score)) % 5
    hit = np.zeros(len(score), np.bool_)
    for k in range(5):
        here = fold != k
        best = max(np.unique(score[here]), key=lambda t: measures(score[here] >= t, truth[here])["f1"])
        hit[~here] = score[~here] >= best
    return with_interval(hit, truth)


def code(pairs: list[dict[str, Any]], refs: pa.Table, vectors: Vectors | None = None) -> dict[str, Any]:
    """HumanEval solutions rewritten or translated, against the solutions and all other references.

    The source counts as named when the nearest reference is the solution, or the benchmark's own text of that problem.
    """
    mine = [p for p in pairs if p["benchmark"] == "HumanEval"]
    own = list(dict.fromkeys(p["reference"] for p in mine))
    every = pa.concat_tables([pa.table({"source": ["HumanEval"] * len(own), "text": own}, schema=refs.schema), refs])
    problems = [t.strip() for t, s in zip(refs["text"].to_pylist(), refs["source"].to_pylist()) if s == "HumanEval"]

    def problem(text: str) -> str:
        return next((p for p in problems if text.strip().startswith(p)), text)

    out = {}
    for kind in sorted({p["kind"] for p in mine}):
        some = [p for p in mine if p["kind"] == kind]
        score, which = scores([p["candidate"] for p in some], every, 0.01, vectors)
        right = np.array([k >= 0 and problem(every["text"][int(k)].as_py()) == problem(p["reference"])
                          for k, p in zip(which, some)])
        out[kind] = {"n": len(some), "flagged at default": round(float((score >= 0.3).mean()), 4),
                     "nearest is the source": round(float(right.mean()), 4)}
    return out


def copied(refs: pa.Table, seed: int = 0) -> dict[str, list[str]]:
    """Return 1,000 references copied with slips, and with a text before and after, by kind."""
    rng = random.Random(seed)
    texts = [t for t in refs["text"].to_pylist() if len(t.split()) >= 12]
    some = rng.sample(texts, 1000)

    def one_word(text: str) -> str:
        words = text.split()
        words[rng.randrange(len(words))] = "something"
        return " ".join(words)

    made = {"whole": some, "case and punctuation": [t.upper().replace(",", " ;") for t in some],
            "one word replaced": [one_word(t) for t in some],
            "first two thirds": [" ".join(t.split()[: 2 * len(t.split()) // 3 + 1]) for t in some],
            "inside another text": [f"Here is what came up at work today, and I wonder: {t} Thank you very much." for t in some]}
    return made


def copies(refs: pa.Table, others: pa.Table) -> dict[str, Any]:
    """Recall of contamination.ngram on copies, and its precision on all of them among `others`.

    Every flag on the others counts as wrong, info or not: the two of them that are copies indeed are too.
    """
    made = copied(refs)
    hits = [flagged(contamination.ngram, make_rows({"instruction": p, "response": "Well."} for p in x), refs)
            for x in made.values()]
    wrong = flagged(contamination.ngram, others, refs)
    hit, truth = np.concatenate([*hits, wrong]), np.repeat([True, False], [sum(map(len, hits)), len(wrong)])
    return {"copies found by contamination.ngram": {name: round(float(x.mean()), 4) for name, x in zip(made, hits)},
            "copies among other rows": {"copies": int(truth.sum()), "others": len(wrong), "flagged": int(hit.sum()),
                                        "flagged of the others": int(wrong.sum()), **with_interval(hit, truth)}}


def timed(check: Callable[..., pa.Table], rows: pa.Table, refs: pa.Table) -> dict[str, Any]:
    """Return medians over 5 runs of the check, seconds."""
    wall, cpu = [], []
    for _ in range(5):
        t, c = time.perf_counter(), time.process_time()
        flags = check(rows, refs, NoPast(rows.num_rows))
        wall.append(time.perf_counter() - t)
        cpu.append(time.process_time() - c)
    return {"rows": rows.num_rows, "references": refs.num_rows, "flagged": flags.num_rows,
            "of these info": sum(x == "info" for x in flags["severity"].to_pylist()),
            "share flagged": round(flags.num_rows / rows.num_rows, 5), "wall s": round(float(np.median(wall)), 2),
            "cpu s": round(float(np.median(cpu)), 2)}


def leaked(data: list[dict[str, Any]], seed: int = 0) -> dict[str, Any]:
    """Recall of dup.leak on 1,500 held-out prompts put among the training rows, and what else it flags."""
    rng = random.Random(seed)
    plain = [{k: r[k] for k in ("instruction", "input", "output")} for r in data if 40 <= len(r["instruction"]) <= 400]
    rng.shuffle(plain)
    held, train = plain[:1500], plain[1500:]
    kinds = ("case and space", "polite words before", "one letter doubled")

    def put(row: dict[str, Any], kind: str) -> dict[str, Any]:
        text = row["instruction"]
        k = next(i for i in range(len(text) // 2, len(text)) if text[i].isalpha())
        text = {kinds[0]: text.upper().replace(" ", "  "), kinds[1]: f"Please, {text}",
                kinds[2]: text[:k] + text[k:k + 1] + text[k:]}[kind]
        return {**row, "instruction": text, "split": "train"}

    planted = [put(row, kinds[k % 3]) for k, row in enumerate(held)]
    rows = make_rows([*planted, *({**r, "split": "train"} for r in train), *({**r, "split": "validation"} for r in held)])
    start = time.process_time()
    hit = np.zeros(rows.num_rows, np.bool_)
    hit[leaks.leak(rows, NoPast(rows.num_rows))["row"].to_numpy()] = True
    return {"rows": rows.num_rows, "planted": len(planted), "cpu s": round(time.process_time() - start, 2),
            "recall": {name: round(float(hit[: len(planted)][k::3].mean()), 4) for k, name in enumerate(kinds)},
            "other training rows flagged": int(hit[len(planted):].sum())}


def labelled(folder: Path) -> dict[str, Any]:
    """AUC of dup.semantic's score on labelled pairs: duplicate against the rest."""
    from sklearn.metrics import roc_auc_score

    pairs = read(folder, "dup_pairs_labelled.jsonl")
    rows = make_rows(x for p in pairs for x in (p["a"], p["b"]))
    texts = semantic.views(rows)
    space = semantic.joined([Vectors().of([""] * len(x), x) for x in texts])
    left = np.arange(0, 2 * len(pairs), 2)
    score = semantic.likeness(space, semantic.numbers_of(texts[1]), left, left + 1)
    same = np.array([p["label"] == "dup" for p in pairs])
    either = np.array([p["label"] in ("dup", "near") for p in pairs])
    rng = np.random.default_rng(0)
    draws = [k for k in (rng.integers(0, len(same), len(same)) for _ in range(1000)) if 0 < same[k].sum() < len(same)]
    auc = [roc_auc_score(same, score), *np.percentile([roc_auc_score(same[k], score[k]) for k in draws], [2.5, 97.5])]
    hit = score >= 0.85
    return {"n": len(pairs), "duplicates": int(same.sum()), "auc": [round(float(x), 4) for x in auc],
            "auc duplicate or near": round(float(roc_auc_score(either, score)), 4), "default threshold": 0.85,
            "flagged": int(hit.sum()), "of these duplicate": int((hit & same).sum()),
            "of these duplicate or near": int((hit & either).sum())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "contamination.json")
    parser.add_argument("--vectors", type=Path, help="measure embeddings too, and keep them in this folder")
    args = parser.parse_args()
    refs = references_of(str(args.data / "benchmark_refs.jsonl"), Spec())
    pairs = read(args.data, "contamination_pairs.jsonl")
    result: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__,
                    "pyarrow": pa.__version__},
        "reworded": reworded(pairs, refs), "code": code(pairs, refs)}
    asked = [{"instruction": p["candidate"]} for p in pairs if p["benchmark"] == "GSM8K" and not p["contaminated"]]
    data = read(args.data, "alpaca_original.jsonl") if (args.data / "alpaca_original.jsonl").exists() else []
    result |= copies(refs, make_rows([*asked, *data]))
    if args.vectors:
        few = refs.filter(pc.not_equal(refs["source"], "MMLU-test"))
        vectors = Vectors(args.vectors)
        result["with embeddings"] = {"references": few.num_rows, "reworded": reworded(pairs, few, vectors),
                                     "code": code(pairs, few, vectors)}
    if data:
        rows = make_rows(data)
        result["ordinary rows"] = {"contamination.ngram": timed(contamination.ngram, rows, refs),
                                   "contamination.semantic": timed(worded, rows, refs)}
        result["dup.leak"] = leaked(data)
    if (args.data / "dup_pairs_labelled.jsonl").exists():
        result["dup.semantic"] = labelled(args.data)
    result["peak memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
