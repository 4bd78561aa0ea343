"""Measures families, clusters and embeddings on labelled data, and the speed of embedding and clustering.

    python benchmarks/diversity.py DATA_FOLDER [--only t0,dolly,static,embedding,clustering] [--out FILE]

DATA_FOLDER holds t0_task_families, dolly_3k, dup_pairs_labelled and alpaca_original as JSONL. No text of the data is
written to the result; parts that are not run keep what FILE holds of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests")]

from rows import make_rows  # noqa: E402
from sklearn.metrics import normalized_mutual_info_score as nmi  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from curation import manner  # noqa: E402
from curation.checks.families import family  # noqa: E402
from curation.checks.semantic import numbers_of  # noqa: E402
from curation.clustering import assign, cluster, rand_index  # noqa: E402
from curation.diversity import keys_of  # noqa: E402
from curation.spec import Family, Spec  # noqa: E402
from curation.text import uid_of  # noqa: E402
from curation.vectors import Vectors, encoder  # noqa: E402

#: What a person would write of Dolly's categories in a spec.
DOLLY = {
    "open_qa": "A question of fact answered from general knowledge",
    "general_qa": "A question that asks for an explanation or advice",
    "classification": "Sort the listed things into classes", "brainstorming": "Come up with a list of ideas",
    "information_extraction": "Extract facts from the passage given", "closed_qa": "Answer a question from the passage given",
    "summarization": "Summarize the passage given", "creative_writing": "Write a story, poem or letter",
}


def read(folder: Path, name: str, most: int = 10**9) -> list[dict[str, Any]]:
    with (folder / name).open(encoding="utf-8") as f:
        return [json.loads(line) for _, line in zip(range(most), f)]


def texts(data: list[dict[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    return [r["instruction"] for r in data], [r.get("input") or "" for r in data], [r["output"] for r in data]


def keys(data: list[dict[str, Any]]) -> np.ndarray:
    return keys_of([uid_of([("user", r["instruction"]), ("assistant", r["output"])]) for r in data])


def scores(x: np.ndarray, key: np.ndarray, truth: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return NMI of the clusters whose number is chosen, of their wide groups, and of cuts at the true numbers."""
    own = cluster(x, keys=key)
    kept = np.sort(np.argsort(key * np.uint64(0x9E3779B97F4A7C15))[len(x) // 100 :])
    less, again = cluster(x[kept], keys=key[kept]), cluster(x, keys=key, seed=1)
    out: dict[str, Any] = {
        "clusters": own.k, "groups": int(own.group.max()) + 1, "why": own.why,
        "rand_index": {"reseeded": rand_index(own.label, again.label),
                       "one_percent_less": rand_index(own.label[kept], less.label)},
        "chosen": {name: nmi(y, own.label) for name, y in truth.items()},
        "wide": {name: nmi(y, own.group[own.label]) for name, y in truth.items()},
        "true_number": {name: nmi(y, cluster(x, k=len(set(y.tolist())), groups=1, keys=key).label) for name, y in truth.items()},
    }
    return out


def coded(data: list[dict[str, Any]], *names: str) -> dict[str, np.ndarray]:
    return {name: np.unique([r[name] for r in data], return_inverse=True)[1] for name in names}


def t0(folder: Path) -> dict[str, Any]:
    """Clusters against template, dataset and task kind; also on thirds of the templates' rows, as in a set kept apart."""
    data = read(folder, "t0_task_families.jsonl")
    truth, key = coded(data, "template", "dataset", "task_kind"), keys(data)
    meanings = np.asarray(Vectors().of([""] * len(data), [manner.edge_text(r["instruction"]) for r in data], "full"))
    out = {"rows": len(data), "text_only": scores(manner.space(*texts(data), keys=key), key, truth),
           "with_meaning": scores(manner.space(*texts(data), meanings, keys=key), key, truth)}
    thirds = []
    for seed in range(5):
        at = np.sort(np.random.default_rng(seed).permutation(len(data))[: len(data) // 3])
        some = [data[i] for i in at]
        label = cluster(manner.space(*texts(some), keys=key[at]), keys=key[at]).label
        thirds.append({name: nmi(y[at], label) for name, y in truth.items()})
    out["text_only_on_a_third"] = {name: {"mean": float(np.mean([t[name] for t in thirds])),
                                          "least": float(min(t[name] for t in thirds))} for name in truth}
    return out


def dolly(folder: Path) -> dict[str, Any]:
    """Clusters against Dolly's categories, and families with 0, 300 and 1,000 given rows (three examples a family)."""
    data = read(folder, "dolly_3k.jsonl")
    key, truth = keys(data), coded(data, "category")
    meanings = np.asarray(Vectors().of([""] * len(data), [r["instruction"] for r in data], "full"))
    out: dict[str, Any] = {"rows": len(data), "text_only": scores(manner.space(*texts(data), keys=key), key, truth),
                           "with_meaning": scores(manner.space(*texts(data), meanings, keys=key), key, truth)}
    for given, draws in ((0, 5), (300, 10), (1000, 3)):
        out[f"family_given_{given}"] = assigned(data, "category", DOLLY, given, draws)
    out["t0_task_kind_family_given_0"] = assigned(read(folder, "t0_task_families.jsonl"), "task_kind", {}, 0, 5)
    return out


def assigned(data: list[dict[str, Any]], field: str, said: dict[str, str], given: int, draws: int) -> dict[str, Any]:
    """Return the share of the other rows whose family is right, with `given` random rows known, over random draws."""
    names = sorted({r[field] for r in data})
    right, sure = [], []
    for seed in range(draws):
        order = np.random.default_rng(seed).permutation(len(data))
        shown: dict[str, list[str]] = {name: [] for name in names}
        for i in order:
            if len(shown[data[i][field]]) < 3:
                shown[data[i][field]].append(data[i]["instruction"])
        spec = Spec(families=tuple(Family(id=n, description=said.get(n, ""), examples=tuple(shown[n])) for n in names))
        known = set(order[:given].tolist())
        rows = make_rows([{"instruction": r["instruction"], "input": r.get("input") or "", "response": r["output"],
                           **({"family": r[field]} if i in known else {})} for i, r in enumerate(data)])
        found = family(rows, spec)["family"].to_pylist()
        rest = [i for i in order[given:].tolist()]
        right.append(np.mean([found[i] == data[i][field] for i in rest]))
        sure.append(np.mean([found[i] != "" for i in rest]))
    return {"draws": draws, "accuracy": float(np.mean(right)), "sd": float(np.std(right)), "assigned": float(np.mean(sure))}


def static(folder: Path) -> dict[str, Any]:
    """The distilled table against the full model: speed, labelled duplicate pairs, nearest neighbours."""
    pairs = read(folder, "dup_pairs_labelled.jsonl")
    same = np.array([p["label"] == "dup" for p in pairs])
    sides = [[p[s] for p in pairs] for s in "ab"]
    prompts = [[r["instruction"] + ("\n" + r["input"] if r["input"] else "") for r in side] for side in sides]
    other = np.array([a != b for a, b in zip(*(numbers_of(p) for p in prompts))])
    asks = [r["instruction"] for r in read(folder, "dolly_3k.jsonl")]
    out: dict[str, Any] = {"pairs": len(pairs), "duplicates": int(same.sum())}
    spaces, draw = {}, np.random.default_rng(0)
    value: dict[str, np.ndarray] = {}
    for name in ("full", "static"):
        vectors = Vectors()
        views = []
        for one, two in (([r["instruction"] for r in sides[0]], [r["instruction"] for r in sides[1]]), (prompts[0], prompts[1]),
                         ([r["output"] for r in sides[0]], [r["output"] for r in sides[1]])):
            both = vectors.of([""] * 2 * len(pairs), [*one, *two], name)
            views.append(np.einsum("ij,ij->i", both[: len(pairs)], both[len(pairs):]))
        value[name] = np.mean(views, axis=0) - 0.1 * other     # as dup.semantic scores a pair
        spaces[name] = vectors.of([""] * len(asks), asks, name)
        out[name] = {"auc": roc_auc_score(same, value[name])}
    lost = [roc_auc_score(same[i], value["full"][i]) - roc_auc_score(same[i], value["static"][i])
            for i in (draw.integers(0, len(same), len(same)) for _ in range(1000)) if 0 < same[i].sum() < len(i)]
    out["auc_lost"] = {"mean": out["full"]["auc"] - out["static"]["auc"], "low": float(np.quantile(lost, 0.025)),
                       "high": float(np.quantile(lost, 0.975))}
    likes = {name: x @ x.T - 2 * np.eye(len(x)) for name, x in spaces.items()}
    first, order = likes["full"].argmax(axis=1), np.argsort(-likes["static"], axis=1)
    out["nearest_of_full_in_static_top"] = {
        str(k): float((order[:, :k] == first[:, None]).any(axis=1).mean()) for k in (1, 10, 50)}
    some = draw.integers(0, len(asks), (20_000, 2))
    out["correlation_of_cosines"] = float(np.corrcoef(*(like[some[:, 0], some[:, 1]] for like in likes.values()))[0, 1])
    rows = read(folder, "alpaca_original.jsonl")
    for name, long in (("instructions", [r["instruction"] for r in rows]),
                       ("whole rows", [f"{r['instruction']}\n{r['input']}\n{r['output']}" for r in rows])):
        vectors = Vectors()
        vectors.of([""] * 100, long[:100], "static")
        began, cpu = time.monotonic(), time.process_time()
        vectors.of([""] * len(long), long, "static")
        out[f"static rows a second, {name}"] = {"wall": len(long) / (time.monotonic() - began),
                                                "cpu": len(long) / (time.process_time() - cpu)}
    return out


def embedding(folder: Path) -> dict[str, Any]:
    """Rows per CPU second and core of the full model on short instructions, in batches of 32 and 128."""
    import torch

    torch.set_num_threads(1)
    asks = [r["instruction"] for r in read(folder, "alpaca_original.jsonl", 24_000)][::12]
    full = encoder()
    model = full.load()
    out: dict[str, Any] = {"rows": len(asks), "model": full.model, "device": str(model.device)}
    full.encode(asks[:64])
    for name, run in (("ours", lambda: full.encode(asks)), ("batches of 128", lambda: model.encode(asks, batch_size=128)),
                      ("ours again", lambda: full.encode(asks))):
        began = time.process_time()
        run()
        out[name] = {"rows per CPU second": len(asks) / (time.process_time() - began)}
    return out


def clustering(_: Path, n: int = 1_000_000, dim: int = 384, k: int = 400) -> dict[str, Any]:
    """1 M x 384 unit vectors around 400 centres, float32 on disk: seconds, peak memory, and whether the centres are found."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(k, dim)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as temp:
        path = Path(temp) / "x.npy"
        x = np.lib.format.open_memmap(path, "w+", np.float32, (n, dim))
        owner = rng.choice(k, n, p=(share := rng.pareto(2, k) + 0.2) / share.sum())
        for start in range(0, n, 50_000):
            at = slice(start, start + 50_000)
            block = centres[owner[at]] + rng.normal(size=(len(owner[at]), dim)).astype(np.float32) * 0.04
            x[at] = block / np.linalg.norm(block, axis=1, keepdims=True)
        x.flush()
        del x, block
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        vectors = np.load(path, mmap_mode="r")
        began, cpu = time.monotonic(), time.process_time()
        found = cluster(vectors)
        took, used = time.monotonic() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        assign(vectors, found.centres)
        return {
            "rows": n, "dim": dim, "threads": os.environ.get("OMP_NUM_THREADS", "all"), "seconds": took, "cpu_seconds": used,
            "assign_seconds": time.monotonic() - began, "peak_gb": peak / 2**20, "peak_gb_before": before / 2**20,
            "clusters": found.k, "why": found.why, "rand_index_to_truth": rand_index(found.label, owner), "true_clusters": k,
        }


def rounded(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    return round(float(x), 4) if isinstance(x, (float, np.floating)) else x


PARTS = {"t0": t0, "dolly": dolly, "static": static, "embedding": embedding, "clustering": clustering}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "diversity.json")
    asked = parser.parse_args()
    result = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    for name in asked.only.split(","):
        result[name] = rounded(PARTS[name](asked.data))
        print(name, json.dumps(result[name], indent=1), flush=True)
        asked.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
