"""Does a choice of N rows cover more held-out tasks than N random rows, or the N longest? And does it train better?

    python benchmarks/selection.py DATA            # DATA: folder with the JSONL files of the test beds below
    python benchmarks/selection.py DATA --train    # the tiny trainer on the sample data, see --steps and --seeds
    python benchmarks/selection.py DATA --large 1000000

Writes results/selection.json. Test beds:

- `t0`: 1,536 of the T0 rows to choose from, the other fifth held out. A held-out template (a way to ask for a task) is
  covered when a chosen row is of that template. `t0-skewed`: the same, but beyond the first 40 templates the r-th keeps only
  40/r of its rows, as in sets that grew without a plan.
- `dolly`: four fifths to choose from, one fifth held out.
- `alpaca-seeds`: a draw of alpaca rows to choose from, the 175 hand-written Self-Instruct seed tasks and the Dolly rows held out.

Of held-out rows: the mean cosine to the nearest chosen row and the share with one at .6 or more, by MiniLM embeddings of
the prompts. The choice is made with them too (and with how rows ask), so nearness favours it; the templates do not.
The weight of how rows ask was set on `t0` with the other beds in view.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from curation import engine, export, formats, gate, mapping
from curation.facility import Reach, choose, neighbours_for
from curation.neighbours import nearest
from curation.selection import can_be_chosen, select, task_space
from curation.store import Entry, Store
from curation.vectors import Vectors

HERE = Path(__file__).parent
ALPACA = 6000       # rows drawn: embedding all 34,694 takes many minutes on a CPU
TEMP = Path(tempfile.gettempdir()) / "curation-selection"
RANDOM = 20         # random choices; the interval is over them


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.open(encoding="utf-8")]


def mark(text: str) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def prompt(row: dict[str, Any]) -> str:
    return f"{row['instruction']}\n{row['input']}" if row.get("input") else row["instruction"]


def embedded(rows: list[dict[str, Any]], cache: Path) -> np.ndarray:
    texts = [prompt(r) for r in rows]
    return np.asarray(Vectors(cache).of([f"{mark(t):016x}" for t in texts], texts))


def beds(data: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Return {name: pool rows and vectors, held-out vectors, and task labels where there are some}."""
    out: dict[str, dict[str, Any]] = {}
    t0 = read(data / "t0_task_families.jsonl")
    space = embedded(t0, cache)
    task = np.array([r["template"] for r in t0])
    held = np.array([mark(f"held{r['id']}{r['instruction']}") % 5 == 0 for r in t0])
    out["t0"] = bed(t0, space, held, task)
    order = {name: k for k, name in enumerate(sorted(set(task), key=mark))}
    rare = np.array([mark(f"rare{r['instruction']}") / 2**64 < 40 / (1 + order[r["template"]]) for r in t0])
    keep = np.flatnonzero(held | rare)
    out["t0-skewed"] = bed([t0[i] for i in keep], space[keep], held[keep], task[keep])
    dolly = read(data / "dolly_3k.jsonl")
    far = embedded(dolly, cache)
    out["dolly"] = bed(dolly, far, np.array([mark(f"held{prompt(r)}") % 5 == 0 for r in dolly]), None)
    alpaca = sorted(read(data / "alpaca_original.jsonl"), key=lambda r: mark(prompt(r)))[:ALPACA]
    seeds = embedded(read(data / "selfinstruct_seeds.jsonl"), cache)
    out["alpaca-seeds"] = {"rows": alpaca, "space": embedded(alpaca, cache), "held": seeds, "task": None, "held_task": None}
    out["alpaca-dolly"] = {**out["alpaca-seeds"], "held": far}
    return out


def bed(rows: list[dict[str, Any]], space: np.ndarray, held: np.ndarray, task: np.ndarray | None) -> dict[str, Any]:
    return {
        "rows": [r for r, h in zip(rows, held) if not h],
        "space": np.ascontiguousarray(space[~held]),
        "held": np.ascontiguousarray(space[held]),
        "task": None if task is None else task[~held],
        "held_task": None if task is None else task[held],
    }


def score(b: dict[str, Any], chosen: np.ndarray) -> dict[str, float]:
    near = nearest(b["space"][chosen], 1, b["held"])[1].ravel()
    out = {"mean_cosine": float(near.mean()), "near_60": float((near >= 0.6).mean())}
    if b["task"] is not None:
        have = set(b["task"][chosen])
        wanted = sorted(set(b["held_task"]) & set(b["task"]))
        out["tasks"] = sum(t in have for t in wanted) / len(wanted)
    return out


def spread(scores: list[dict[str, float]]) -> dict[str, Any]:
    """Return mean and the 2.5 and 97.5 percentiles of each number."""
    return {
        k: {"mean": float(np.mean([s[k] for s in scores])),
            "interval": [float(x) for x in np.quantile([s[k] for s in scores], (0.025, 0.975))]}
        for k in scores[0]
    }


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    low, high = value["interval"]
    return f"{value['mean']:.3f} [{low:.3f}, {high:.3f}]"


def table(rows: list[dict[str, Any]]) -> pa.Table:
    values = {"instruction": "instruction", "input": "input", "response": "output"}
    columns = {name: [r.get(key) or "" for r in rows] for name, key in values.items()}
    return pa.table({**columns, "uid": [f"{mark(prompt(r)):016x}" for r in rows]})


def length(row: dict[str, Any]) -> int:
    return len(row.get("output") or "")


def held_out(data: Path, cache: Path) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, b in beds(data, cache).items():
        n = len(b["rows"])
        for share in (0.1, 0.2):
            size = round(share * n)
            rng = np.random.default_rng(0)
            picked = choose(Reach(task_space(table(b["rows"]), b["space"]), neighbours_for(n, size)), size)
            longest = np.argsort([-length(r) for r in b["rows"]], kind="stable")[:size]
            arms = {
                "select": score(b, picked.rows),
                "longest": score(b, longest),
                "random": spread([score(b, rng.permutation(n)[:size]) for _ in range(RANDOM)]),
            }
            out[f"{name} {size} of {n}"] = arms
            print(f"{name} {size} of {n}")
            for arm, numbers in arms.items():
                print(f"  {arm:8}", "  ".join(f"{k} {shown(v)}" for k, v in numbers.items()))
    return out


def large(n: int, size: int) -> dict[str, Any]:
    """Time and memory of a choice among `n` made-up unit vectors of 384 numbers in 2,000 crowds of unlike size."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(2000, 384)).astype(np.float32)
    of = np.minimum((2000 * rng.random(n) ** 2).astype(int), 1999)
    space = np.empty((n, 384), np.float32)
    for start in range(0, n, 65536):
        part = slice(start, min(start + 65536, n))
        space[part] = centres[of[part]] + 0.8 * rng.normal(size=(len(of[part]), 384)).astype(np.float32)
        space[part] /= np.linalg.norm(space[part], axis=1, keepdims=True)
    steps: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        wall, cpu = time.monotonic(), time.process_time()
        value = call()
        steps[name] = time.monotonic() - wall
        steps[f"{name}_cpu"] = time.process_time() - cpu
        print(f"{name}: {steps[name]:.0f} s ({steps[f'{name}_cpu']:.0f} CPU s)")
        return value

    reach = timed("neighbours", lambda: Reach(space, neighbours_for(n, size)))
    picked = timed("choose", lambda: choose(reach, size))
    anchors = np.sort(rng.permutation(n)[:mapping.ANCHORS])
    timed("placed_on_the_map", lambda: mapping.place(space, space[anchors], rng.normal(size=(len(anchors), 2))))
    other = reach.objective(rng.permutation(n)[:size])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rows": n, "size": size, "neighbours": reach.k, "seconds": steps, "objective": picked.objective, "random": other,
            "of_the_best_at_least": picked.objective / picked.bound, "crowds": len(set(of[picked.rows].tolist())),
            "peak_gb": round(peak, 2), "vectors_gb": round(space.nbytes / 2**30, 2)}


# ---- does it train better?


def family(row: dict[str, Any]) -> str:
    return row.get("family") or ""


def arms(folder: Path, size: int, draws: int, skewed: bool) -> dict[str, Path]:
    """Make a vetted folder of the sample data, and from it one exported set an arm; return {arm: set}.

    Every arm chooses from the same rows: those that neither policy nor an open error keeps out. `skewed`: of the k-th
    family, in an order drawn by hash, only .71**k of the rows are there, so that the last has a twelfth of the first.
    """
    store = Store.create(folder)
    with as_file(files("curation.sample_data")) as data:
        for name in ("spec.yaml", "battery.jsonl"):
            (folder / name).write_bytes((data / name).read_bytes())
        rows = read(data / "pairs.jsonl")
    if skewed:
        order = {name: k for k, name in enumerate(sorted({family(r) for r in rows}, key=mark))}
        rows = [r for r in rows if mark(f"{prompt(r)}\x1f{r['output']}") / 2**64 < 0.71 ** order[family(r)]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    reading = formats.read(str(folder / "pairs.jsonl"))
    store.import_rows(reading, source="pairs.jsonl", detected=reading.detected)
    spec = engine.spec_of(store)
    engine.check(store, spec)
    gate.apply_policy(store, spec)
    uids = np.array(store.rows(columns=["uid"])["uid"].to_pylist(), object)
    free = np.flatnonzero(can_be_chosen(store, spec))
    length = np.array([len(x or "") for x in store.rows(columns=["response"])["response"].to_pylist()])
    rng = np.random.default_rng(0)
    chosen = {"select": select(store, spec, size).table["uid"].to_pylist()}
    chosen["longest"] = uids[free[np.argsort(-length[free], kind="stable")[:size]]].tolist()
    for k in range(draws):
        chosen[f"random-{k}"] = uids[rng.permutation(free)[:size]].tolist()
    out = {}
    for arm, held in chosen.items():
        keep = set(held)
        gone = [Entry(u, "reject", arm) for u in uids.tolist() if u not in keep]
        action = store.verdicts.append(gone, actor="benchmark", kind="selection", note=arm)
        out[arm] = folder / f"set-{arm}"
        done = export.export(store, spec, out=out[arm], override="benchmark", hf=False)
        store.verdicts.undo(action, actor="benchmark")
        print(arm, done["counts"], flush=True)
    return out


def train(size: int, steps: int, seeds: int, skewed: bool) -> dict[str, Any]:
    """Train the tiny model on each arm, `seeds` times, and ask the battery; of the random arm each seed has a draw of its own."""
    scores: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temp:
        for name, place in arms(Path(temp) / "set", size, seeds, skewed).items():
            arm, _, draw = name.partition("-")
            for seed in [int(draw)] if draw else range(seeds):
                run = Path(temp) / f"{arm}-{seed}"
                verb("train", str(place), "--seed", str(seed), "--steps", str(steps), "--out", str(run), "--row-losses", "off")
                verb("eval", str(run))
                found = json.loads((run / "battery.json").read_text())
                passed = {name: float(b["rate"]) for name, b in found["behaviours"].items()}
                scores.setdefault(arm, []).append({"overall": float(found["overall"]["rate"]), **passed})
                print(arm, seed, {k: round(v, 3) for k, v in scores[arm][-1].items()}, flush=True)
    return {"size": size, "steps": steps, "seeds": seeds, "arms": {a: {"runs": s, **spread(s)} for a, s in scores.items()}}


def verb(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "curation.cli", *args], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=TEMP, help="where embeddings stay")
    parser.add_argument("--large", type=int, metavar="ROWS", help="time a choice among this many vectors")
    parser.add_argument("--size", type=int, help="rows chosen: 400 with --train, 100,000 with --large")
    parser.add_argument("--train", action="store_true", help="the tiny trainer on the sample data")
    parser.add_argument("--skewed", action="store_true", help="with --train: families of unlike size")
    parser.add_argument("--steps", type=int, default=300, help="of a run, with --train")
    parser.add_argument("--seeds", type=int, default=4, help="runs an arm, with --train")
    args = parser.parse_args()
    if args.large:
        name, found = "large", large(args.large, args.size or 100_000)
        print(json.dumps(found, indent=1))
    elif args.train:
        name, found = "train_skewed" if args.skewed else "train", train(args.size or 400, args.steps, args.seeds, args.skewed)
        for arm, numbers in found["arms"].items():
            print(f"{arm:8}", "  ".join(f"{k} {shown(v)}" for k, v in numbers.items() if k != "runs"))
    else:
        name, found = "held_out", held_out(args.data, args.cache)
    path = HERE / "results" / "selection.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**result, name: found}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
