"""What adding rows to a checked set costs, beside checking the set from the start.

    python benchmarks/incremental.py [--rows 100000] [--share 0.01] [--source ROWS.jsonl] [--workers 2] [--checks a,b]
        [--shape template] [--turns 5]

Rows are those of corpus.py. A set of `rows` is imported and checked; then `share` as many new rows are appended and
the whole is checked again. The second result is held against a check of the grown set in a fresh folder. The second
check is timed in the process that did the first, and once more on a copy of the folder as `curation check` in a process
of its own, which also starts Python and loads what was compiled. CPU seconds are of all processes.

The second check is timed `turns` times, each on the folder as the import left it (files are linked, and never written in place);
the median counts, and all are told: a virtual machine may have given the memory of files back to its host by then, or be slow
for a minute. The first turn often reads files from the disk again, the later ones find them in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from processes import cpu_seconds

from curation import engine, formats
from curation.store import Store


def checked(store: Store, checks: list[str] | None, workers: int) -> dict[str, Any]:
    """Check a folder; return seconds in all and of each unit that ran."""
    starts: list[tuple[float, str]] = []

    def progress(name: str, done: int, total: int) -> None:
        if not starts or starts[-1][1] != name:
            starts.append((time.perf_counter(), name))

    began, cpu = time.perf_counter(), cpu_seconds()
    done = engine.check(store, engine.spec_of(store), checks=checks, progress=progress, workers=workers)
    ended = time.perf_counter()
    ends = [t for t, _ in starts[1:]] + [ended]
    units = {name: round(e - b, 3) for (b, name), e in zip(starts, ends, strict=True)}
    return {"seconds": ended - began, "cpu": cpu_seconds() - cpu, "units": units, "flags": done.flags}


def linked(folder: Path, to: Path) -> Store:
    """Return a folder with the same files; what a check writes there takes their place there only."""
    shutil.copytree(folder, to, copy_function=os.link)
    os.sync()
    return Store(to)


def verb(folder: Path, checks: list[str] | None, workers: int) -> float:
    """Return the seconds of `curation check` on a folder in a process of its own."""
    named = ["--checks", ",".join(checks)] if checks else []
    began = time.perf_counter()
    command = [sys.executable, "-m", "curation.cli", "check", str(folder), "--workers", str(workers), *named]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def same(a: Store, b: Store) -> bool:
    """Whether two folders hold equal flags and signals."""
    one, two = a.signals(), b.signals()
    assert one is not None and two is not None
    return a.flags().to_pylist() == b.flags().to_pylist() and one.to_pylist() == two.to_pylist()


def corpus(path: Path, rows: int, source: Path | None, shape: str | None) -> None:
    """Write `rows` rows of the benchmark corpus as JSON lines."""
    script = Path(__file__).parent / "corpus.py"
    given = [*(["--source", str(source)] if source else []), *(["--shape", shape] if shape else [])]
    subprocess.run([sys.executable, str(script), str(path), "--rows", str(rows), *given], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    ap = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    ap.add_argument("--rows", type=int, default=100_000)
    ap.add_argument("--share", type=float, default=0.01)
    ap.add_argument("--source", type=Path)
    ap.add_argument("--workers", type=int, default=2)
    ap.add_argument("--checks", type=lambda x: x.split(","))
    ap.add_argument("--shape", help="one of the shapes of corpus.py")
    ap.add_argument("--turns", type=int, default=5, help="how often the check of the added rows is timed")
    ap.add_argument("--no-fresh", action="store_true", help="do not hold the result against a fresh folder")
    ap.add_argument("--out", type=Path)
    a = ap.parse_args()
    added = max(1, round(a.rows * a.share))
    with tempfile.TemporaryDirectory() as temp:
        every, first, more = (Path(temp) / f"{n}.jsonl" for n in ("every", "first", "more"))
        corpus(every, a.rows + added, a.source, a.shape)
        with every.open("rb") as lines, first.open("wb") as one, more.open("wb") as two:
            for k, line in enumerate(lines):
                (one if k < a.rows else two).write(line)
        store = Store.create(Path(temp) / "set")
        began = time.perf_counter()
        store.import_rows(formats.read(first), source="first")
        imported = time.perf_counter() - began
        full = checked(store, a.checks, a.workers)
        began = time.perf_counter()
        store.import_rows(formats.read(more), source="more", append=True)
        appended = time.perf_counter() - began
        turns = []
        for k in range(a.turns):
            grown = linked(store.path, Path(temp) / f"turn{k}")
            turns.append(checked(grown, a.checks, a.workers))
        again = sorted(turns, key=lambda t: t["seconds"])[len(turns) // 2]
        alone = verb(linked(store.path, Path(temp) / "verb").path, a.checks, a.workers)
        equal = None
        if not a.no_fresh:
            fresh = Store.create(Path(temp) / "fresh")
            fresh.import_rows(formats.read(every), source="every")
            checked(fresh, a.checks, a.workers)
            equal = same(grown, fresh)
    result = {
        "rows": a.rows, "added": added, "shape": a.shape or "natural",
        "import_seconds": round(imported, 2), "append_seconds": round(appended, 2),
        "check_seconds": round(full["seconds"], 2), "recheck_seconds": round(again["seconds"], 3),
        "check_cpu": round(full["cpu"], 2), "recheck_cpu": round(again["cpu"], 3), "recheck_verb_seconds": round(alone, 2),
        "recheck_turns": [[round(t["seconds"], 2), round(t["cpu"], 2)] for t in turns],
        "ratio_check": round(again["seconds"] / full["seconds"], 4), "ratio_cpu": round(again["cpu"] / full["cpu"], 4),
        "ratio_import_and_check": round((again["seconds"] + appended) / (full["seconds"] + imported), 4),
        "equal_to_a_fresh_run": equal, "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "units": {u: [s, again["units"].get(u, 0.0)] for u, s in full["units"].items()},
    }
    if a.out:
        a.out.write_text(json.dumps(result, indent=1) + "\n")
    times = ", ".join(f"{t['seconds']:.2f}" for t in turns)
    print(f"{a.rows:,} rows: import {imported:.1f} s, check {full['seconds']:.1f} s; {added:,} more: import "
          f"{appended:.1f} s, check {again['seconds']:.2f} s = {again['seconds'] / full['seconds']:.1%} "
          f"(CPU {full['cpu']:.1f} s, {again['cpu']:.2f} s = {again['cpu'] / full['cpu']:.1%}), median of {times}; "
          f"as a verb {alone:.2f} s; equal: {equal}")
    for unit, (one, two) in sorted(result["units"].items(), key=lambda u: -u[1][1]):
        print(f"{unit:26} {one:8.2f} s {two:8.3f} s  {two / max(one, 1e-9):7.1%}")


if __name__ == "__main__":
    main()
