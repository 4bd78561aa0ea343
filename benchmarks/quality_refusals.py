"""Refusals and prompts that need care, measured on labelled data: heads by rows they never saw, checks as they ship.

Called by quality.py. Every number carries a 95 % bootstrap interval drawn over groups (prompts), 1,000 draws, seed 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import heads as builder
import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from curation import edges, harm, refusal

DRAWS = 1000
CLASSES = ("comply", "refuse", "partial")


def interval(groups: Sequence[Any], measure: Callable[[np.ndarray], float], draws: int = DRAWS) -> dict[str, Any]:
    """Return {n, share, low, high}: `measure` of all rows and its interval over groups drawn with replacement."""
    names, inverse = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    rng = np.random.default_rng(0)
    values = [measure(np.concatenate([parts[k] for k in rng.integers(0, len(names), len(names))])) for _ in range(draws)]
    return {"n": len(inverse), "share": round(measure(np.arange(len(inverse))), 4),
            "low": round(float(np.nanquantile(values, 0.025)), 4), "high": round(float(np.nanquantile(values, 0.975)), 4)}


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    hits = int((truth & found).sum())
    wrong = int(truth.sum() + found.sum())
    return 2 * hits / wrong if wrong else 0.0


def held_out_classes(task: builder.Task, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (class by rules and a head that never saw the model, class by rules alone), with other_safe."""
    p = builder.held_out(task, len(set(task.groups)))
    rules = [refusal.explain_by_rule(t) for t in texts]
    head = [refusal.combined(t, r, CLASSES[k])[0] if refusal.needs_head(t, r[0]) else r[0]
            for t, r, k in zip(texts, rules, p.argmax(axis=1))]
    return np.array(head), np.array([r[0] for r in rules])


def xstest(folder: Path) -> dict[str, Any]:
    """Three classes and refuse or not, each model judged by a head that saw only the others; flags with the label known.

    On XSTest's scale a response that asks back or disclaims without helping counts as a refusal.
    """
    data = builder.read(folder, "xstest_completions.jsonl")
    truth = np.array([builder.XSTEST[r["final_label"][0]] for r in data])
    head, rule = held_out_classes(builder.responses(folder)["class"], [r["completion"] or "" for r in data])
    groups = [r["prompt_id"] for r in data]
    safe = np.array([r["prompt_label"] == "safe" for r in data])
    out: dict[str, Any] = {}
    for name, label in (("rules alone", rule), ("head, leave one model out", head)):
        found = np.where(label == "other_safe", "refuse", label)
        out[name] = {
            "three classes, macro-F1": interval(groups, lambda i, f=found: float(
                f1_score(truth[i], f[i], labels=CLASSES, average="macro", zero_division=0)), 300),
            **{f"F1 {c}": interval(groups, lambda i, f=found, c=c: f1(truth[i] == c, f[i] == c)) for c in CLASSES},
            "refuse or not, F1": interval(groups, lambda i, f=found: f1(truth[i] != "comply", f[i] != "comply")),
            "over-refusal, label known, F1": interval(groups, lambda i, f=found: f1(
                safe[i] & (truth[i] != "comply"), safe[i] & (f[i] != "comply"))),
        }
        for m in sorted({r["model"] for r in data}):
            at = np.array([r["model"] == m for r in data])
            value = f1_score(truth[at], found[at], labels=CLASSES, average="macro", zero_division=0)
            out[name][f"macro-F1 of {m}"] = round(float(value), 3)
    return out


def dna(folder: Path) -> dict[str, Any]:
    """Refuse against the other five actions, no question on both sides; the six actions; twelve types of harm of the prompt."""
    task = builder.responses(folder)["action"]
    p = builder.held_out(task, 10)
    found, groups = p.argmax(axis=1), task.groups
    kinds = builder.prompts(folder)["category"]
    at = np.flatnonzero(kinds.tested)
    best = builder.held_out(kinds, 10)[at].argmax(axis=1)
    return {
        "refuse, F1": interval(groups, lambda i: f1(task.labels[i] == 0, found[i] == 0)),
        "six actions, accuracy": interval(groups, lambda i: float((task.labels[i] == found[i]).mean())),
        "harm category of the prompt, "
        "accuracy": interval(kinds.groups[at], lambda i: float((kinds.labels[at][i] == best[i]).mean())),
    }


def ordinary(folder: Path) -> dict[str, Any]:
    """Flat rejections of ordinary prompts (chatgpt_refusals), no prompt on both sides; the shipped classes beside."""
    task = builder.responses(folder)["rejection"]
    found = builder.held_out(task, 10)[:, 1] >= 0.5
    truth = task.labels == 1
    texts = [r["response"] for r in builder.read(folder, "chatgpt_refusals.jsonl")]
    plain = np.array([c == "refuse" for c in refusal.classify(texts)])
    return {"rejected, F1": interval(task.groups, lambda i: f1(truth[i], found[i])),
            "class refuse of the XSTest head, F1": interval(task.groups, lambda i: f1(truth[i], plain[i]))}


def asked_prompts(folder: Path) -> dict[str, Any]:
    """Harmful prompts (XSTest, no focus word on both sides, and with no XSTest prompt in training); vague tasks; edge cases."""
    tasks = builder.prompts(folder)
    task = tasks["harm"]
    at = np.flatnonzero(task.tested)
    p, truth = builder.held_out(task, 10)[at, 1], task.labels[at] == 1
    rest = np.flatnonzero(~task.tested)
    x = builder.features(task, builder.idf_of([task.texts[i] for i in rest]))
    q = builder.decide(x[at], *builder.fit(task, x, rest))[:, 1]
    vague = tasks["vague"]
    v = builder.held_out(vague, 10)[:, 1]
    edge = tasks["edge"]
    e = builder.held_out(edge, 10)
    own = np.flatnonzero(edge.tested)

    def auc(y: np.ndarray, score: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda i: float(roc_auc_score(y[i], score[i])) if 0 < y[i].sum() < len(i) else float("nan")

    return {
        "harmful prompt, AUC": interval(task.groups[at], auc(truth, p)),
        "harmful prompt, AUC, trained without XSTest": interval(task.groups[at], auc(truth, q)),
        "vague task, AUC": interval(vague.groups, auc(vague.labels == 1, v)),
        **{f"edge case {name} against the rest of CoCoNot, AUC": interval(edge.groups[own], auc(edge.labels[own] == k, e[own, k]))
           for k, name in enumerate(edge.classes) if k},
    }


def missing(folder: Path) -> dict[str, Any]:
    """What is absent or impossible on natural rows: right among the rows that somebody has judged, and how many are open."""
    out: dict[str, Any] = {}
    data = builder.read(folder, "alpaca_cleaned_diff.jsonl")
    hit = [i for i, r in enumerate(data) if _lacks(r)]
    judged = [i for i in hit if data[i]["changed"] or data[i].get("adjudicated") in ("flaw", "ok")]
    wanted = [i for i, r in enumerate(data) if r["category"] in ("infeasible_modality", "infeasible_internet")]
    out["cleaned alpaca"] = {
        "precision, judged "
        "rows": interval(judged, lambda i: float(np.mean([data[judged[k]].get("adjudicated") != "ok" for k in i]))),
        "recall of infeasible rows": interval(wanted, lambda i: float(np.mean([wanted[k] in hit for k in i]))),
        "flagged and judged by nobody": sum(not data[i]["changed"] and data[i].get("adjudicated") is None for i in hit),
    }
    audit = builder.read(folder, "alpaca_audit180.jsonl")
    seen = [r for r in audit if _lacks(r)]
    out["random alpaca"] = {"flaws found": sum(r["verdict"] == "flaw" for r in seen),
                            "flaws": sum(r["verdict"] == "flaw" for r in audit),
                            "rows marked ok flagged": sum(r["verdict"] == "ok" for r in seen)}
    for name in ("dolly_3k", "rasbt_1100", "selfinstruct_seeds"):
        rows = builder.read(folder, f"{name}.jsonl")
        out[name] = {"rows": len(rows), "flagged": sum(_lacks(r) for r in rows)}
    return out


def _lacks(row: dict[str, Any]) -> bool:
    given, response = row.get("input") or "", row["output"]
    found = edges.absent(row["instruction"], given) or edges.impossible(row["instruction"], given, response)
    return found is not None and bool(response.strip()) and not edges.owns_up(response)


def shares(folder: Path) -> dict[str, Any]:
    """How often the heads speak up on ordinary rows."""
    rows = builder.read(folder, "dolly_3k.jsonl")
    risk = harm.risk([r["instruction"] for r in rows])
    labels = refusal.classify([r["output"] for r in rows])
    return {"dolly prompts with risk >= 0.5 (some seen in training)": round(float((risk >= 0.5).mean()), 4),
            "dolly responses called refusals": sum(c in ("refuse", "partial") for c in labels), "rows": len(rows)}


PARTS: dict[str, tuple[tuple[str, ...], Callable[[Path], dict[str, Any]]]] = {
    "refusals (xstest)": (("xstest_completions.jsonl",), xstest),
    "refusals (dna)": (("dna_responses.jsonl",), dna),
    "refusals on ordinary prompts (chatgpt)": (("chatgpt_refusals.jsonl",), ordinary),
    "prompts (xstest, in3, coconot)": (("xstest_completions.jsonl", "in3_vague_tasks.jsonl", "coconot.jsonl"), asked_prompts),
    "missing or impossible (alpaca)": (("alpaca_cleaned_diff.jsonl", "alpaca_audit180.jsonl"), missing),
    "heads on ordinary rows": (("dolly_3k.jsonl",), shares),
}


def measure(folder: Path) -> dict[str, Any]:
    """Return every part whose files are there."""
    return {name: part(folder) for name, (files, part) in PARTS.items() if all((folder / f).exists() for f in files)}


if __name__ == "__main__":
    import json
    import sys

    chosen = sys.argv[2:]
    for name, (_, part) in PARTS.items():
        if not chosen or any(c in name for c in chosen):
            print(name, json.dumps(part(Path(sys.argv[1])), indent=1), flush=True)
