"""Builds the small heads shipped with the package from labelled files that are free for commercial use.

    python benchmarks/heads.py DATA_FOLDER [--out curation/coefficients]

Run with one thread (OMP_NUM_THREADS=1) and the versions of constraints.txt it writes the same bytes again. Files read, with
their licences: xstest_completions (CC BY 4.0), dna_responses (Apache-2.0), chatgpt_refusals, coconot (MIT),
harm_prompts (MIT, Apache-2.0), in3_vague_tasks, ifeval_constraints (Apache-2.0), dolly_3k (CC BY-SA 3.0), rasbt_1100 and
selfinstruct_seeds (Apache-2.0). The result holds weights of hashed features, no text.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from curation import edges, harm, heads, refusal

HERE = Path(__file__).resolve().parent
LEVELS = 31  # steps from 0 to the largest weight of a column
MIN_TEXTS = 2  # an n-gram seen in fewer texts is not used

XSTEST = {"1": "comply", "2": "refuse", "3": "partial"}
#: Do-Not-Answer's types of harm -> curation.harm.CATEGORIES
HARM_OF = {
    "Adult Content": "adult content",
    "Assisting illegal activities": "assisting crime",
    "Reducing the cost of disinformation campaigns": "disinformation campaigns",
    "Causing material harm by disseminating misinformation e.g. in medicine or law": "harmful misinformation",
    "Toxic language (hate speech)": "hate speech",
    "Disseminating false or misleading information": "false information",
    "Mental Health or Overreliance Crisis": "mental health crisis",
    "Compromise privacy by leaking or inferring private information (person/individual)": "personal privacy",
    "Risks from leaking or inferring sensitive information (organization/gov)": "sensitive organisation data",
    "Social stereotypes and unfair discrimination": "stereotypes and discrimination",
    "Treat Chatbot as a Human": "treated as human",
    "Nudging or advising users to perform unethical or unsafe actions": "unethical acts",
}
#: categories of the harm sets that mean the same as one of the twelve
ALSO = {
    "cybercrime_intrusion": "assisting crime", "illegal": "assisting crime", "chemical_biological": "assisting crime",
    "Non-violent crimes": "assisting crime", "Illegal goods and services": "assisting crime", "Violence": "assisting crime",
    "Malware/Hacking": "assisting crime", "Fraud/Deception": "assisting crime", "Physical harm": "assisting crime",
    "misinformation_disinformation": "disinformation campaigns", "Disinformation": "disinformation campaigns",
    "Disinformation and deception": "disinformation campaigns", "Sexual content": "adult content",
    "Sexual/Adult content": "adult content", "Hate, harassment and discrimination": "hate speech",
    "Harassment/Discrimination": "hate speech", "harassment_bullying": "hate speech", "Privacy": "personal privacy",
}
#: CoCoNot's subcategories -> curation.edges.KINDS
EDGE_OF = {
    "underspecified": "missing_context", "incomprehensible": "missing_context", "false presuppositions": "false_premise",
    "modality limitations": "out_of_scope", "input modality limitations": "out_of_scope",
    "output modality limitations": "out_of_scope", "style and length limitations": "out_of_scope",
    "temporal limitations": "out_of_scope", "universal unknowns": "out_of_scope",
}


@dataclass(frozen=True)
class Task:
    """What a head learns: texts, their named cues, labels, groups that must not be split, and how."""

    name: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]
    cues: tuple[tuple[str, ...], ...]
    labels: np.ndarray  # (n,) index into classes
    groups: np.ndarray  # (n,) str: what must stay on one side of a fold
    cue: float  # what a named cue is worth
    c: float  # inverse of the ridge
    tested: np.ndarray  # (n,) bool: the rows whose prediction is measured
    amount: np.ndarray | None = None  # (n,) float: how much of the second of two classes there is in a row, where it is known


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    with (folder / name).open(encoding="utf-8") as f:
        return [json.loads(line) for line in f if line.strip()]


def _task(
    name: str, classes: Sequence[str], rows: Sequence[tuple[str, str, str, bool]], *, kind: Any, chars: int, cue: float, c: float
) -> Task:
    """Return a task from rows of (text, label, group, tested)."""
    texts = [r[0] for r in rows]
    plain = tuple(heads.plain(t, chars) for t in texts)
    named = [tuple(kind(t)) for t in (plain if kind is harm.cues else texts)]
    return Task(name, tuple(classes), plain, tuple(named), np.array([list(classes).index(r[1]) for r in rows]),
                np.array([r[2] for r in rows]), cue, c, np.array([r[3] for r in rows]))


def responses(folder: Path) -> dict[str, Task]:
    """Return the tasks on responses; the group of `class` is the model, of the others the prompt."""
    def make(name: str, classes: Sequence[str], rows: list[tuple[str, str, str, bool]]) -> Task:
        return _task(name, classes, rows, kind=refusal.cues, chars=refusal.HEAD_CHARS, cue=0.15, c=4.0)

    x = [(r["completion"] or "", XSTEST[r["final_label"][0]], r["model"], True)
         for r in read(folder, "xstest_completions.jsonl")]
    d = [(r["response"] or "", refusal.ACTIONS[r["action"]], str(r["question_id"]), True)
         for r in read(folder, "dna_responses.jsonl")]
    c = [(r["response"], "rejects" if r["tone"] == "rejected" else "other", r["prompt"].strip().lower(), True)
         for r in read(folder, "chatgpt_refusals.jsonl")]
    return {"class": make("class", ("comply", "refuse", "partial"), x), "action": make("action", refusal.ACTIONS, d),
            "rejection": make("rejection", ("other", "rejects"), c)}


def prompts(folder: Path) -> dict[str, Task]:
    """Return the tasks on prompts."""
    xstest = {r["prompt_id"]: r for r in read(folder, "xstest_completions.jsonl")}.values()
    dna = {r["question_id"]: r for r in read(folder, "dna_responses.jsonl")}.values()
    sets, coconot = read(folder, "harm_prompts.jsonl"), read(folder, "coconot.jsonl")
    plain = [(r["instruction"], "plain") for f in ("dolly_3k", "rasbt_1100", "selfinstruct_seeds")
             for r in read(folder, f + ".jsonl")]
    answered = [(r["prompt"], "chatgpt") for r in read(folder, "chatgpt_refusals.jsonl") if r["tone"] == "complied"]
    vague = read(folder, "in3_vague_tasks.jsonl")
    safety = [r for r in coconot if r["category"] == "Requests with safety concerns"]
    harmful = [(r["prompt"], "sets") for r in sets] + [(r["question"], "dna") for r in dna] + [
        (r["prompt"], "coconot") for r in safety if r["expected"] == "noncompliance"]
    orders = [(r["prompt"], "ifeval") for r in read(folder, "ifeval_constraints.jsonl")]
    harmless = plain + answered + orders + [(r["task"], "in3") for r in vague] + [
        (r["prompt"], "coconot") for r in coconot if r["source"] == "coconot_contrast_eval" or r not in safety]
    rows = [(t, "harmful", g, False) for t, g in harmful] + [(t, "harmless", g, False) for t, g in harmless] + [
        (r["prompt"], "harmful" if r["prompt_label"] == "unsafe" else "harmless", "xstest " + r["focus"], True) for r in xstest]
    kinds = [(r["question"], HARM_OF[r["types_of_harm"]], str(r["question_id"]), True) for r in dna] + [
        (r["prompt"], ALSO[r["category"]], "sets", False) for r in sets if r["category"] in ALSO]
    edge = [(r["prompt"], EDGE_OF.get(r["subcategory"], "plain") if r["expected"] == "noncompliance" else "plain", r["id"], True)
            for r in coconot if r["category"] != "Requests with safety concerns"]
    edge += [(t, "plain", "plain", False) for t, _ in plain + answered]
    open_ = [(r["task"], "vague" if r["vague"] else "clear", " ".join(r["task"].lower().split()).rstrip("."), True)
             for r in vague]
    lacks = np.array([float(sum(d["importance"] for d in r["missing_details"] or ())) for r in vague])
    return {
        "harm": _task("harm", ("harmless", "harmful"), rows, kind=harm.cues, chars=harm.READ, cue=0.3, c=4.0),
        "category": _task("category", harm.CATEGORIES, kinds, kind=harm.cues, chars=harm.READ, cue=0.15, c=10.0),
        "vague": replace(_task("vague", ("clear", "vague"), open_, kind=edges.cues, chars=edges.READ, cue=0.3, c=1.0),
                         amount=lacks),
        "edge": _task("edge", ("plain", "missing_context", "false_premise", "out_of_scope"), edge, kind=edges.cues,
                      chars=edges.READ, cue=0.3, c=4.0),
    }


def idf_of(texts: Sequence[str]) -> np.ndarray:
    """Return log((1 + texts) / (1 + texts with the feature)) + 1, 0 below MIN_TEXTS, in the steps that are shipped."""
    x = heads.ngrams(texts)
    seen = np.bincount(x.indices, minlength=heads.SIZE)
    value = np.log((1 + len(texts)) / (1 + seen)) + 1
    value[seen < MIN_TEXTS] = 0.0
    scale = value.max() / 255
    return (np.round(value / scale) * scale).astype(np.float32)


def fit(task: Task, x: sparse.csr_matrix, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (weight (SIZE, columns), bias) of a logistic regression on the rows `at`, classes weighed evenly.

    Where the amount is known, a ridge regression learns that: it says more than the label. What it says of rows that it did
    not see (five folds) is then turned into the label's probability.
    """
    if task.amount is None:
        model = LogisticRegression(C=task.c, max_iter=300, class_weight="balanced")
        model.fit(x[at].astype(np.float64), task.labels[at])
        return model.coef_.T, model.intercept_
    fold, said = folds(task.groups[at], 5), np.zeros(len(at))
    for k in range(5):
        said[fold == k] = _ridge(task, x, at[fold != k]).predict(x[at[fold == k]])
    scale = LogisticRegression(C=1e6, class_weight="balanced").fit(said[:, None], task.labels[at])
    model = _ridge(task, x, at)
    return model.coef_[:, None] * scale.coef_[0, 0], model.intercept_ * scale.coef_[0] + scale.intercept_


def _ridge(task: Task, x: sparse.csr_matrix, at: np.ndarray) -> Ridge:
    assert task.amount is not None, f"task {task.name} has no amounts"
    return Ridge(alpha=1.0 / task.c, solver="sparse_cg").fit(x[at].astype(np.float64), task.amount[at])


def features(task: Task, idf: np.ndarray) -> sparse.csr_matrix:
    return (heads.ngrams(task.texts, idf=idf) + heads.cues(task.cues, task.cue)).tocsr()


def decide(x: sparse.csr_matrix, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return heads.probabilities(np.asarray(x @ weight) + bias)


def folds(groups: np.ndarray, n: int) -> np.ndarray:
    """Return the fold (0 to n - 1) of each row: groups by size, each to the smallest fold so far, as GroupKFold does."""
    names, inverse, count = np.unique(groups, return_inverse=True, return_counts=True)
    size, fold = np.zeros(n), np.zeros(len(names), int)
    for k in np.argsort(count, kind="stable")[::-1]:
        fold[k] = size.argmin()
        size[fold[k]] += count[k]
    return fold[inverse]


def held_out(task: Task, n: int) -> np.ndarray:
    """Return (rows, classes) probabilities of the tested rows, each by a head that saw no row of its group; NaN elsewhere."""
    out = np.full((len(task.texts), len(task.classes)), np.nan)
    fold = np.full(len(task.texts), -1)
    fold[task.tested] = folds(task.groups[task.tested], n)
    for k in range(n):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        x = features(task, idf_of([task.texts[i] for i in train]))
        out[test] = decide(x[test], *fit(task, x, train))
    return out


def pack(tasks: Mapping[str, Task]) -> dict[str, np.ndarray]:
    """Return the arrays of a bank (see curation.heads.load)."""
    idf = idf_of([t for task in tasks.values() for t in task.texts])
    scale = float(idf.max()) / 255
    out: dict[str, np.ndarray] = {"heads": np.array(list(tasks)), "idf": np.round(idf / scale).astype(np.uint8),
                                  "idf_scale": np.array(scale)}
    for name, task in tasks.items():
        x = features(task, (out["idf"].astype(np.float32) * np.float32(scale)))
        weight, bias = fit(task, x, np.arange(len(task.texts)))
        steps = np.abs(weight).max(axis=0) / LEVELS
        small = np.round(weight / steps).astype(np.int8)
        used = np.flatnonzero(np.abs(small).sum(axis=1) > 0)
        out |= {f"{name}.classes": np.array(task.classes), f"{name}.index": used.astype(np.int32), f"{name}.weight": small[used],
                f"{name}.scale": steps.astype(np.float32), f"{name}.bias": bias.astype(np.float32),
                f"{name}.cue": np.array(task.cue)}
    return out


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on the arrays only: no times, fixed order, always the same compression."""
    with zipfile.ZipFile(path, "w") as f:
        for name in sorted(arrays):
            data = BytesIO()
            np.lib.format.write_array(data, np.asarray(arrays[name], order="C"), allow_pickle=False)
            f.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), data.getvalue(), zipfile.ZIP_DEFLATED, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=HERE.parent / "curation" / "coefficients")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, tasks in (("responses", responses(args.folder)), ("prompts", prompts(args.folder))):
        write(args.out / f"{name}.npz", pack(tasks))
        print(f"{name}.npz: {(args.out / f'{name}.npz').stat().st_size:,} bytes, {', '.join(tasks)}")


if __name__ == "__main__":
    main()
