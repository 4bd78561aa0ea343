"""The four duplicate checks on many rows: CPU seconds, flags, memory, what rows added behind cost, and growth with size.

    python benchmarks/dedup_checks.py [--rows 100000,400000] [--shapes natural,same,slot,template] [--source ROWS.jsonl]
                                      [--out NAME]

Rows come from `corpus.py`: "natural" (a quarter planted copies), or all alike ("same": one text; "slot": one word of the
instruction differs; "template": one word of the output differs). Every measurement is a process of its own: texts in
Arrow to flags, compilation aside. `first` is a run without a past, `again` the run after 1 % more rows were added behind
the other 99 %, with what a run on these kept. CPU seconds are user + system. Memory is the most that was resident above
what was before the checks (texts included there). Refusals are judged outside. Writes results/NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
CHECKS = ("exact", "near", "conflict", "boilerplate")


class Kept:
    """What a check keeps for its next run, in memory."""

    def __init__(self, n: int, before: Kept | None = None) -> None:
        self.arrays, self.old = {}, before.arrays if before else None
        known = int(self.old["rows"][0]) if self.old else 0
        self.earlier = np.where(np.arange(n) < known, np.arange(n), -1)

    def load(self) -> dict[str, np.ndarray] | None:
        return self.old

    def save(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = dict(arrays)


def rows_of(path: Path) -> pa.Table:
    """Return the columns that the checks read from a file of `corpus.py`."""
    t = pq.read_table(path, columns=["instruction", "input", "output"])
    n = t.num_rows
    turns = pa.array([[{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]], pa.list_(
        pa.struct([("role", pa.string()), ("content", pa.string())])))
    number = pa.array(np.arange(n))
    return pa.table({"row": number, "uid": number.cast(pa.string()), "messages": turns.take(pa.array(np.zeros(n, np.int64))),
                     "system": pa.repeat("", n), "instruction": t["instruction"].cast(pa.string()),
                     "input": t["input"].cast(pa.string()), "response": t["output"].cast(pa.string())})


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def measure(path: Path) -> dict[str, Any]:
    """Run the checks one after the other, without a past, and again with 1 % of the rows new."""
    from curation import sketch
    from curation.checks import duplicates

    rows = rows_of(path)
    refusal = pa.repeat("comply", rows.num_rows)
    old = rows.num_rows - max(1, rows.num_rows // 100)
    small = rows.slice(0, 64)
    sketch.warm()
    for name in CHECKS:
        run(duplicates, name, small, refusal.slice(0, 64), Kept(64))
    peak, done = [resident()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(max(peak[-1], resident()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    out: dict[str, Any] = {"rows": rows.num_rows, "checks": {}}
    try:
        for name in CHECKS:
            before = Kept(old)
            run(duplicates, name, rows.slice(0, old), refusal.slice(0, old), before)
            again, _, found = run(duplicates, name, rows, refusal, Kept(rows.num_rows, before))
            del before
            cpu, wall, flags = run(duplicates, name, rows, refusal, Kept(rows.num_rows))
            assert flags.equals(found), f"dup.{name}: a run on what is new gives other flags than a whole run"
            out["checks"][f"dup.{name}"] = {"cpu_s": cpu, "wall_s": wall, "again_cpu_s": again, "flags": flags.num_rows}
    finally:
        done.set()
        watcher.join()
    for key in ("cpu_s", "wall_s", "again_cpu_s"):
        out[key] = sum(c[key] for c in out["checks"].values())
    out["above_mb"] = (peak[-1] - peak[0]) / 2**20
    return out


def run(module: Any, name: str, rows: pa.Table, refusal: pa.Array, past: Kept) -> tuple[float, float, pa.Table]:
    """Return (CPU seconds, wall seconds, flags) of one check."""
    needs = {"refusal": refusal} if name in ("conflict", "boilerplate") else {}
    before, wall = time.process_time(), time.perf_counter()
    flags = getattr(module, name)(rows, past=past, **needs)
    return time.process_time() - before, time.perf_counter() - wall, flags


def report(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    lines = [f"The four dup.* checks; {about['cores']} cores, load before: {about['load']:.1f}. Growth: CPU against the line "
             "above of the same shape, for the rows against its rows.", "",
             "| rows | shape | CPU s | wall s | growth | 1 % new, CPU s | of the whole | above the start, MB | flags | "
             + " | ".join(f"dup.{c}" for c in CHECKS) + " |", "| ---: | --- |" + " ---: |" * (7 + len(CHECKS))]
    for i, r in enumerate(results):
        above = next((x for x in results[:i][::-1] if x["shape"] == r["shape"]), None)
        growth = f"{r['cpu_s'] / above['cpu_s']:.2f} x for {r['rows'] / above['rows']:.1f} x" if above else "-"
        lines.append(f"| {r['rows']:,} | {r['shape']} | {r['cpu_s']:.2f} | {r['wall_s']:.2f} | {growth} | "
                     f"{r['again_cpu_s']:.2f} | {100 * r['again_cpu_s'] / r['cpu_s']:.1f} % | {r['above_mb']:.0f} | "
                     f"{sum(c['flags'] for c in r['checks'].values()):,} | "
                     + " | ".join(f"{c['cpu_s']:.2f}" for c in r["checks"].values()) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000,400000")
    parser.add_argument("--shapes", default="natural,same,slot,template")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--out", default="dedup-checks")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        print(json.dumps(measure(a.one)))
        return
    sys.path.insert(0, str(HERE))
    import corpus

    about = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0],
             "source": a.source.name if a.source else "invented words"}
    source = corpus.read(a.source) if a.source else None
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for shape in a.shapes.split(","):
            for n in map(int, a.rows.split(",")):
                path = Path(folder) / "rows.parquet"
                corpus.write(corpus.corpus(n, source=source) if shape == "natural" else corpus.shaped(n, shape), path)
                command = [sys.executable, __file__, "--one", str(path)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                results.append({"shape": shape, **json.loads(done.stdout)})
                print(shape, f"{n:,} rows: {results[-1]['cpu_s']:.2f} CPU s", file=sys.stderr)
    out = HERE / "results"
    (out / f"{a.out}.json").write_text(json.dumps({"about": about, "results": results}, indent=1) + "\n")
    (out / f"{a.out}.md").write_text(report(results, about))
    print(report(results, about))


if __name__ == "__main__":
    main()
