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
from scipy.linalg.lapack import dpotrf, dpotri
from sklearn.linear_model import LogisticRegression

from curation import edges, harm, heads, refusal

HERE = Path(__file__).resolve().parent
LEVELS = 31  # steps from 0 to the largest weight of a column
MIN_TEXTS = 2  # an n-gram seen in fewer texts is not used
SECOND = 0.3  # what Do-Not-Answer's second reader (GPT-4) counts beside the person where they differ

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
    target: np.ndarray | None = None  # (n, columns): what a ridge regression learns in place of the label
    crossed: tuple[tuple[Sequence[str], Sequence[str]], ...] = ()  # phrases and the cues they are crossed with
    cross: float = 0.0  # the length of their block


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
    dna = read(folder, "dna_responses.jsonl")
    d = [(r["response"] or "", refusal.ACTIONS[r["action"]], str(r["question_id"]), True) for r in dna]
    c = [(r["response"], "rejects" if r["tone"] == "rejected" else "other", r["prompt"].strip().lower(), True)
         for r in read(folder, "chatgpt_refusals.jsonl")]
    action = make("action", refusal.ACTIONS, d)
    second = np.array([r["action"] if r["gpt4_judge_action"] is None else int(r["gpt4_judge_action"]) for r in dna])
    kinds = np.eye(len(refusal.ACTIONS))
    action = replace(action, c=1.0, cross=0.7, target=2 * ((1 - SECOND) * kinds[action.labels] + SECOND * kinds[second]) - 1,
                     crossed=tuple(refusal.opening(t, n) for (t, *_), n in zip(d, action.cues)))
    return {"class": make("class", ("comply", "refuse", "partial"), x), "action": action,
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
                         target=lacks[:, None]),
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
    """Return (weight (SIZE, columns), bias) of a regression on the rows `at`, classes weighed evenly.

    Logistic on the labels, or ridge on the target where there is one: it says more than the label. What the ridge says of
    rows that it did not see (five folds) then sets how decision values become probabilities of the labels.
    """
    labels = task.labels[at]
    if task.target is None:
        model = LogisticRegression(C=task.c, max_iter=300, class_weight="balanced")
        model.fit(x[at].astype(np.float64), labels)
        return model.coef_.T, model.intercept_
    weight, bias, unseen = _ridge(task, x[at].astype(np.float64), at)
    if unseen.shape[1] == 1:
        scale = LogisticRegression(C=1e6, class_weight="balanced").fit(unseen, labels)
        return weight * scale.coef_[0, 0], bias * scale.coef_[0] + scale.intercept_
    steps = np.arange(1.0, 20.5, 0.5)
    loss = [-np.log(heads.probabilities(unseen * k)[np.arange(len(at)), labels]).mean() for k in steps]
    return weight * steps[int(np.argmin(loss))], bias * steps[int(np.argmin(loss))]


def _ridge(task: Task, x: sparse.csr_matrix, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (weight, bias, what it says of each row of `at` without the fold of the row), all from one inverse."""
    assert task.target is not None, f"task {task.name} has no target"
    target, labels = task.target[at].astype(np.float64), task.labels[at]
    root = np.sqrt(len(at) / len(task.classes) / np.bincount(labels, minlength=len(task.classes)))[labels][:, None]
    inner = root * ((x @ x.T).toarray() + 1.0) * root.T
    inner[np.diag_indices(len(at))] += 1.0 / task.c
    inverse, failed = dpotri(dpotrf(inner, lower=1)[0], lower=1)
    assert not failed, f"task {task.name}: the products of its rows have no inverse ({failed})"
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    dual = inverse @ (root * target)
    unseen, fold = np.empty_like(target), folds(task.groups[at], 5)
    for k in range(5):
        i = np.flatnonzero(fold == k)
        unseen[i] = target[i] - np.linalg.solve(inverse[np.ix_(i, i)], dual[i]) / root[i]
    return np.asarray(x.T @ (root * dual)), (root * dual).sum(axis=0), unseen


def features(task: Task, idf: np.ndarray) -> sparse.csr_matrix:
    x = heads.ngrams(task.texts, idf=idf) + heads.cues(task.cues, task.cue)
    return (x + heads.crosses(task.crossed, task.cross) if task.cross else x).tocsr()


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
        out |= {f"{name}.classes": np.array(task.classes), f"{name}.index": np.diff(used, prepend=0).astype(np.int32),
                f"{name}.weight": small[used],
                f"{name}.scale": steps.astype(np.float32), f"{name}.bias": bias.astype(np.float32),
                f"{name}.cue": np.array(task.cue), f"{name}.cross": np.array(task.cross)}
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
